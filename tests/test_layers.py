"""Reads the imports of every file and fails on an arrow that ARCHITECTURE.md forbids."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("instrumentation", "storage", "exporter")
DEMO = Path("exporter/demo")

OPENTELEMETRY, STARLETTE, PROMETHEUS = "opentelemetry", "starlette", "prometheus_client"
SQL = frozenset({"sqlite3", "_sqlite3", "sqlalchemy"})
SERVE = frozenset({"typer", "click", "rich", "uvicorn", "httptools"})
BENCH_AND_TEST = frozenset({"pytest", "hypothesis", "fastapi", "psutil", "logfire", "httpx", "httpx2", "tests"})

FORBIDDEN = {
    "storage": {"instrumentation", "exporter", OPENTELEMETRY, STARLETTE, PROMETHEUS} | SERVE | BENCH_AND_TEST,
    "instrumentation": {"exporter"} | SQL | SERVE | BENCH_AND_TEST,
    "exporter": {"instrumentation"} | SQL | BENCH_AND_TEST,
    "exporter/demo": BENCH_AND_TEST,
    "": BENCH_AND_TEST | SQL,
}


def room_of(path):
    """`exporter/demo/` and the root's own files may import every room."""
    relative = path.relative_to(ROOT)
    if relative.is_relative_to(DEMO):
        return "exporter/demo"
    return relative.parts[0] if len(relative.parts) > 1 else ""


def product_files():
    files = [*ROOT.glob("*.py"), *(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))]
    return sorted(path.relative_to(ROOT) for path in files)


def imported(path, source):
    """The rooms and packages that a file imports, wherever in it: (first name, line) each."""
    package = ["tracekeep", *path.parent.parts]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = [*base, *(node.module.split(".") if node.module else [])]
            names = [[*module, alias.name] for alias in node.names]
        else:
            continue
        for name in names:
            yield (name[1] if name[0] == "tracekeep" and len(name) > 1 else name[0]), node.lineno


def arrows(path, source, room):
    return [f"{path}:{line} imports {name}" for name, line in imported(path, source) if name in FORBIDDEN[room]]


@pytest.mark.parametrize("path", product_files(), ids=str)
def test_no_forbidden_arrow(path):
    """A room imports only what it may."""
    assert arrows(path, (ROOT / path).read_text(), room_of(ROOT / path)) == []


@pytest.mark.parametrize("path", product_files(), ids=str)
def test_rooms_name_each_other_relatively(path):
    """The checkout may have any name: a room is never imported as a top-level package, nor by way of `tracekeep`."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        else:
            continue
        assert not {name.split(".")[0] for name in names} & {*ROOMS, "tracekeep", "grafana"}, f"line {node.lineno}"


def test_the_root_package_is_a_docstring():
    """pytest imports it a second time under the checkout's name: it must do nothing."""
    tree = ast.parse((ROOT / "__init__.py").read_text())
    assert ast.get_docstring(tree)
    assert len(tree.body) == 1


def test_each_room_has_a_narrow_door():
    """Explicit imports, and a sorted `__all__` of exactly what they bring."""
    for room in ROOMS:
        tree = ast.parse((ROOT / room / "__init__.py").read_text())
        later = [each for node in tree.body if isinstance(node, ast.If) for each in node.body]  # for the type checker
        imports = [node for node in (*tree.body, *later) if isinstance(node, ast.ImportFrom)]
        brought = {alias.asname or alias.name for node in imports for alias in node.names}
        (names,) = [ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign)]
        assert names == sorted(names), room
        assert set(names) == brought - {"annotations", "TYPE_CHECKING"}, room


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("storage/x.py", "from ..exporter import create_app"),
        ("storage/x.py", "from .. import instrumentation"),
        ("storage/x.py", "def f():\n    import opentelemetry.sdk.trace"),
        ("storage/x.py", "from tracekeep.exporter.app import ROUTES"),
        ("storage/x.py", "if TYPE_CHECKING:\n    from starlette.requests import Request"),
        ("instrumentation/x.py", "from ..exporter.app import create_app"),
        ("instrumentation/x.py", "import sqlite3"),
        ("instrumentation/x.py", "from sqlalchemy import select"),
        ("exporter/x.py", "from ..instrumentation import instrument"),
        ("exporter/pages/x.py", "from ...instrumentation import instrument"),
        ("exporter/x.py", "import tracekeep.instrumentation.asgi"),
    ],
)
def test_a_forbidden_arrow_is_found(path, source):
    """In each form that an import can have."""
    path = Path(path)
    assert arrows(path, source, path.parts[0]), f"{source!r} in {path} was not noticed"


def test_an_allowed_arrow_is_not():
    """The demo may import every room; names that only look alike don't count."""
    assert not arrows(Path("exporter/demo/x.py"), "from ...instrumentation import instrument", "exporter/demo")
    assert not arrows(Path("exporter/x.py"), "from ..storage import Store\nfrom . import instrumentation_x", "exporter")
