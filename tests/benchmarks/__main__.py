"""`python -m tests.benchmarks NAME`: run one benchmark, or `all`, each in a process of its own."""

import argparse
import importlib
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

from .results import Result, as_markdown, as_table
from .rounds import ROOT

BENCHMARKS = {
    "span_cost": "span_cost",
    "span_cost_busy": "span_cost_busy",
    "request_overhead": "request_overhead",
    "drain": "drain",
    "growth": "growth",
    "disk": "disk",
    "scrape": "scrape",
    "memory": "memory",
    "query": "query",
    "import": "import_time",
}
"""Module by name. Each has SPANS, ROUNDS and `run(spans, rounds)`."""

_MARKED = re.compile(r"(<!-- benchmarks -->\n).*(<!-- /benchmarks -->)", re.DOTALL)


def main() -> int:
    options = _parse()
    _clean_environment()
    results = _run_all(options) if options.name == "all" else [_run(options)]
    if options.readme:
        _write_readme(options.readme, as_markdown(results, _machine()))
    if options.json:
        found = [result.to_json() for result in results]
        print(json.dumps(found if options.name == "all" else found[0]))
    return 1 if options.check and not all(result.met for result in results) else 0


def _clean_environment() -> None:
    """Take out what would give one of the sides other settings."""
    for name in [name for name in os.environ if name.startswith(("OTEL_", "TRACEKEEP_", "LOGFIRE_"))]:
        del os.environ[name]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("name", choices=[*BENCHMARKS, "all"])
    parser.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a goal isn't met")
    parser.add_argument("--spans", type=int, help="how many, where it isn't the default of the benchmark")
    parser.add_argument("--rounds", type=int, help="how many, where it isn't the default of the benchmark")
    parser.add_argument(
        "--readme", nargs="?", const=ROOT / "README.md", type=Path, help="write the table into it, between its markers"
    )
    options = parser.parse_args()
    if options.readme and options.name != "all":
        parser.error("--readme goes with `all`")
    if options.readme and not _MARKED.search(options.readme.read_text(encoding="utf-8")):
        parser.error(f"{options.readme} lacks the markers <!-- benchmarks --> and <!-- /benchmarks -->")
    return options


def _run(options: argparse.Namespace) -> Result:
    module = importlib.import_module(f".{BENCHMARKS[options.name]}", __package__)
    result = module.run(options.spans or module.SPANS, options.rounds or module.ROUNDS)
    if not options.json:
        print(as_table(result), flush=True)
    return result


def _run_all(options: argparse.Namespace) -> list[Result]:
    given = [f"--{name}={value}" for name in ("spans", "rounds") if (value := getattr(options, name))]
    results = []
    for name in BENCHMARKS:
        command = [sys.executable, "-m", "tests.benchmarks", name, "--json", *given]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        results.append(Result.from_json(json.loads(done.stdout.splitlines()[-1])))
        print(as_table(results[-1]), flush=True)
    return results


def _machine() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    version = ".".join(platform.python_version_tuple()[:2])
    return f"{cores} cores, Python {version}, {platform.system()} {platform.machine()}"


def _write_readme(path: Path, table: str) -> None:
    text = path.read_text(encoding="utf-8")
    path.write_text(_MARKED.sub(lambda match: f"{match[1]}{table}\n{match[2]}", text), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
