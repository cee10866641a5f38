"""`tracekeep dashboards`: what it writes, for which settings, with and without what makes dashboards."""

import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from tk_fresh import clean_environ
from tk_grafana import FOLDER
from typer.testing import CliRunner

from tracekeep.exporter.cli import create_command

GRAFANA = FOLDER.parent
WITHOUT_SDK = (
    "import sys; sys.modules['grafana_foundation_sdk'] = None; sys.argv[0] = 'tracekeep'; "
    "from tracekeep.__main__ import main; main()"
)


@pytest.fixture
def tracekeep(monkeypatch):
    """Run the command in an environment without settings but these."""
    for name in [name for name in os.environ if name.startswith(("OTEL_", "TRACEKEEP_"))]:
        monkeypatch.delenv(name)

    def run(*arguments, **environment):
        return CliRunner().invoke(create_command(lambda **_: None), [*map(str, arguments)], env=environment)

    return run


def without_sdk(*arguments, **environment):
    """The same in a process that lacks what makes dashboards."""
    command = [sys.executable, "-c", WITHOUT_SDK, *map(str, arguments)]
    return subprocess.run(
        command,
        env=clean_environ() | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def files(folder):
    """All files under a folder, but code and pictures."""
    return {
        path.relative_to(folder): path.read_bytes()
        for path in Path(folder).rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc", ".svg"}
    }


def test_it_writes_all_that_is_shipped(tmp_path):
    """With the default settings: what the repository has, without anything that makes dashboards."""
    done = without_sdk("dashboards", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    written, shipped = files(tmp_path / "out"), files(GRAFANA)
    assert written.keys() == shipped.keys()
    assert {path.name for path, text in written.items() if text != shipped[path]} == {"compose.yaml", "Containerfile"}
    assert f"{len(files(GRAFANA))} files" in done.stdout


def test_what_is_written_needs_no_repository(tracekeep, tmp_path):
    """The demo's image is built from the released package: everything that is copied into it is in the folder."""
    assert tracekeep("dashboards", "--out", tmp_path).exit_code == 0
    build = yaml.safe_load((tmp_path / "compose.yaml").read_text())["services"]["demo"]["build"]
    assert build == {"context": ".", "dockerfile": "Containerfile"}
    image = (tmp_path / "Containerfile").read_text()
    assert f'"tracekeep[serve]=={version("tracekeep")}"' in image
    assert "COPY" not in image
    last = (GRAFANA / "Containerfile").read_text().splitlines()[-7:]
    assert image.splitlines()[-7:] == last, "but for that, it is the image of the repository"
    assert "grafana/" not in (tmp_path / "compose.yaml").read_text().partition("services:")[0]


def test_it_follows_the_settings(tracekeep, tmp_path, require):
    """Names and buckets of the environment are in dashboards, rules and data sources; Prometheus takes the rules."""
    (tmp_path / "dashboards").mkdir()
    (tmp_path / "dashboards" / "services.json").write_text("an old one")
    names = {"TRACEKEEP_HTTP_DURATION_BUCKETS": "0.1,0.6,2.4", "TRACEKEEP_SPAN_METRIC_NAMES": "collector"}
    done = tracekeep("dashboards", "--out", tmp_path, **names)
    assert done.exit_code == 0, done.stderr
    assert files(tmp_path).keys() == files(GRAFANA).keys()
    written = b"\n".join(content for path, content in files(tmp_path).items() if path.suffix != ".md").decode()
    assert set(re.findall(r'le=\\?"([\d.]+)\\?"', written)) == {"0.6", "2.4"}
    assert not re.search("traces_spanmetrics_(calls|latency)", written)
    assert "traces_span_metrics_calls_total" in written
    assert "value: service_name\n" in written
    rules = [str(path) for path in (tmp_path / "prometheus/rules").glob("*.yml")]
    subprocess.run([require("promtool"), "check", "rules", *rules], check=True, capture_output=True)
    units = str(tmp_path / "prometheus/tests/slo.yml")
    subprocess.run([require("promtool"), "test", "rules", units], check=True, capture_output=True)


def test_it_says_what_is_missing(tmp_path):
    """Other settings without what makes dashboards: one line that says what to install."""
    done = without_sdk("dashboards", "--out", tmp_path, TRACEKEEP_SLOW_MS="200")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "tracekeep[dashboards]" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("environment", "named"),
    [({"TRACEKEEP_SLOW_MS": "soon"}, "TRACEKEEP_SLOW_MS"), ({}, "--out")],
)
def test_a_mistake_is_said_in_one_line(tracekeep, tmp_path, environment, named):
    """A wrong setting, or a folder that can't be: exit code 2 and a line that names it."""
    (tmp_path / "file").touch()
    done = tracekeep("dashboards", "--out", tmp_path / "file" / "out", **environment)
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1
    assert named in done.stderr
