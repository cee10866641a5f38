# Two commands do everything on a machine with Python 3.11+ and make: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help run test test-long check format dashboards bench clean

help: ## Show this help
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.serve ## Start the demo shop with tracekeep embedded, under its own load
	@exec $(BIN)/tracekeep demo $(ARGS)

test: $(VENV)/.dev ## Run the tests, three at a time, as most of them wait (ARGS="-k name" to choose)
	@$(BIN)/python -m pytest -n 3 --dist worksteal $(ARGS)

test-long: ## Run the tests with their long variants
	@$(MAKE) test ARGS="--long $(ARGS)"

check: $(VENV)/.dev ## Lint, check the format and the types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(VENV)/.dev ## Format and mend what the linter can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

dashboards: $(VENV)/.dev ## Make the committed dashboards anew
	@$(BIN)/python -c 'from tracekeep.grafana.make.all import make_committed; make_committed()'

bench: $(VENV)/.bench ## Run all benchmarks and write the table in the README
	@$(BIN)/python -m tests.benchmarks all --readme $(ARGS)

clean: ## Remove the virtual environment, caches and the demo's data
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis tracekeep-data tracekeep-demo-data

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "tracekeep needs Python 3.11 or later: make PYTHON=python3.12 run"; exit 1; }
	@echo "Setting up $(VENV) (once, about half a minute) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade "pip>=25.1"
	@touch $@

$(VENV)/.serve: pyproject.toml $(wildcard */_native*.[ch]) | $(VENV)/.python
	@$(PIP) install --editable ".[serve]"
	@touch $@

$(VENV)/.dev: pyproject.toml $(wildcard */_native*.[ch]) | $(VENV)/.serve
	@$(PIP) install --editable ".[serve]" --group dev
	@touch $@

$(VENV)/.bench: pyproject.toml | $(VENV)/.dev
	@$(PIP) install --group bench
	@touch $@
