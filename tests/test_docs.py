"""Docs that can't rot: what exists is named in the README, what is linked exists, and its Python runs."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tracekeep.exporter.app import ROUTES
from tracekeep.exporter.cli import create_command
from tracekeep.exporter.described import description_of
from tracekeep.exporter.gauges import status_families
from tracekeep.instrumentation.settings import InstrumentSettings
from tracekeep.storage import Status, StoreSettings, schema
from tracekeep.storage.batch import Counted
from tracekeep.storage.families import FAMILIES
from tracekeep.storage.journal import JournalState
from tracekeep.storage.records import Command, Event, Extra, FrameType, Link, LogRecord, Origin, SpanRecord
from tracekeep.storage.state import WriterState

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
FORMAT = (ROOT / "storage/FORMAT.md").read_text()
STRUCTS = (Origin, SpanRecord, LogRecord, Extra, Event, Link, Command, JournalState, WriterState, Counted)
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "storage/FORMAT.md", "grafana/README.md")
QUOTED = set(re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", README, flags=re.DOTALL)))
SNIPPETS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
SETTINGS = [field.name for each in (StoreSettings, InstrumentSettings) for field in dataclasses.fields(each)]
GAUGES = [family.name for family in status_families(Status([], None, 0.0, 0, 0, 0, 0))]
METRICS = [f"{spec.name}_total" if spec.type == "counter" else spec.name for spec in FAMILIES.values()]


@pytest.mark.parametrize("name", [*SETTINGS, "data_dir"])
def test_settings_are_named(name):
    """Every setting stands in the README, as it is written in code."""
    assert any(re.search(rf"\b{name}\b", each) for each in QUOTED), f"the setting `{name}` isn't in README.md"


@pytest.mark.parametrize("name", METRICS + GAUGES)
def test_metrics_are_named(name):
    """Every metric stands in the README, as it is exposed."""
    assert name in QUOTED, f"the metric `{name}` isn't in README.md"


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_routes_are_named(route):
    """Every route stands in the README, with its method."""
    for method in route.methods - {"HEAD"}:
        assert f"{method} {route.path}" in QUOTED, f"`{method} {route.path}` isn't in README.md"


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_parameters_are_named(route):
    """So does every query parameter, beside its route."""
    (method,) = route.methods - {"HEAD"}
    (row,) = [line for line in README.splitlines() if line.startswith("| ") and f"`{method} {route.path}`" in line]
    parameters = [each.name for each in description_of(route.endpoint).params]
    missing = [name for name in parameters if not re.search(rf"`{re.escape(name)}[`=]", row)]
    assert not missing, f"parameters of {route.path} that README.md doesn't name: {missing}"


def test_commands_are_named():
    """Every command of `tracekeep`."""
    for command in create_command(lambda **_: None).registered_commands:
        name = command.name
        assert f"tracekeep {name}" in README, f"`tracekeep {name}` isn't in README.md"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    """Every relative link, and every path of ours in backticks, is there."""
    text = (ROOT / document).read_text()
    folder = (ROOT / document).parent
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (folder / target).exists(), f"{document} links to {target}"
    for path in re.findall(r"`((?:tests|storage|exporter|instrumentation|grafana)/[\w./-]*)`", text):
        assert (ROOT / path).exists(), f"{document} names {path}"


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_snippets_run(number, tmp_path):
    """Each Python snippet of the README runs by itself, without a warning."""
    command = [sys.executable, "-W", "error", "-c", SNIPPETS[number]]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, f"{SNIPPETS[number]}\n{result.stderr}"


@pytest.mark.parametrize("table", [*schema.aggregates.sorted_tables, *schema.history.sorted_tables], ids=str)
def test_tables_are_drawn(table):
    """FORMAT.md has every table with all its columns."""
    rows = [line for line in FORMAT.splitlines() if line.startswith(f"| {table.name} |")]
    assert rows, f"the table {table.name} isn't in FORMAT.md"
    for column in table.columns:
        assert any(re.search(rf"\b{column.name}\b", row) for row in rows), (
            f"{table.name}.{column.name} isn't in FORMAT.md"
        )


@pytest.mark.parametrize("struct", [*STRUCTS], ids=lambda struct: struct.__name__)
def test_records_are_drawn(struct):
    """FORMAT.md has every field of what journals and pages hold."""
    for name in struct.__struct_fields__:
        assert re.search(rf"\b{name}\b", FORMAT), f"{struct.__name__}.{name} isn't in FORMAT.md"


def test_frame_types_are_drawn():
    """So has it every type of frame, with its number."""
    for each in FrameType:
        assert f"| {each.value} | {each.name} |" in FORMAT


def test_there_are_snippets():
    """The README shows how it is used."""
    assert len(SNIPPETS) >= 3
