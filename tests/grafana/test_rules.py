"""The rules that are shipped: promtool accepts them, every alert is tested both ways and has its runbook."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tracekeep.storage.batch import ALL_REASONS
from tracekeep.storage.families import HTTP_DURATION

GRAFANA = Path(__file__).parents[2] / "grafana"
PROMETHEUS = GRAFANA / "prometheus"
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
UNIT_TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
RUNBOOKS = (GRAFANA / "README.md").read_text()
SEVERITIES = {"page", "ticket", "info"}


def load(path):
    return yaml.safe_load(path.read_text())


def rules():
    return [rule for path in RULES for group in load(path)["groups"] for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}


def promtool(require, *arguments, folder=PROMETHEUS):
    command = [require("promtool"), *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_promtool_checks_the_rules(require):
    """All rule files are valid, and no two rules are the same."""
    checked = promtool(require, "check", "rules", *RULES)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(rules())} rules found" in checked.stdout or len(RULES) > 1
    assert "duplicate" not in checked.stdout + checked.stderr


def test_promtool_checks_the_configuration(require):
    """The configuration is valid, and finds the rules where it looks for them."""
    checked = promtool(require, "check", "config", "prometheus.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(RULES)} rule files found" in checked.stdout


@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.stem)
def test_promtool_tests_the_rules(require, path):
    """What the unit tests say of the alerts is so."""
    tested = promtool(require, "test", "rules", path)
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_is_tested(name):
    """Each fires in some unit test, with its texts."""
    cases = [case for path in UNIT_TESTS for test in load(path)["tests"] for case in test.get("alert_rule_test", ())]
    assert any(case["alertname"] == name and case["exp_alerts"] for case in cases)


@pytest.mark.long
@pytest.mark.parametrize("expression", ["vector(1) < 0", "vector(1)"], ids=["never", "always"])
@pytest.mark.parametrize("name", ALERTS)
def test_unit_tests_notice(require, tmp_path, name, expression):
    """An alert that never fires, and one that always does, fail the unit tests."""
    (tmp_path / "rules").mkdir()
    (tmp_path / "tests").mkdir()
    for path in RULES:
        groups = load(path)
        for group in groups["groups"]:
            for rule in group["rules"]:
                if rule.get("alert") == name:
                    rule["expr"] = expression
        (tmp_path / "rules" / path.name).write_text(yaml.safe_dump(groups))
    for path in UNIT_TESTS:
        (tmp_path / "tests" / path.name).write_text(path.read_text())
    paths = [path for path in UNIT_TESTS if path.stem.startswith("slo") is not name.startswith("Tracekeep")]
    outcomes = [promtool(require, "test", "rules", f"tests/{path.name}", folder=tmp_path) for path in paths]
    assert any(each.returncode for each in outcomes)


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_has_a_runbook(name):
    """Each leads to a section of its own that says what it means, what to look at and what to do."""
    annotations = ALERTS[name]["annotations"]
    assert annotations["runbook"] == f"grafana/README.md#{name.lower()}"
    section = re.search(rf"^### {name}\n(.*?)(?=^#|\Z)", RUNBOOKS, re.DOTALL | re.MULTILINE)
    assert section, f"grafana/README.md has no section `### {name}`"
    for part in ("**Means**", "**Look at**", "**Do**"):
        assert part in section[1], f"the section of {name} doesn't say {part}"


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_has_a_severity(name):
    """One of three, so that each can be routed."""
    assert ALERTS[name]["labels"]["severity"] in SEVERITIES


def test_no_runbook_is_left_over():
    """Each runbook is that of an alert."""
    runbooks = RUNBOOKS.partition("## Runbooks\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^### (\w+)$", runbooks, re.MULTILINE)) == set(ALERTS)


def test_every_reason_for_drops_is_explained():
    """The runbook of drops has a row for each reason that there is."""
    section = RUNBOOKS.partition("### TracekeepRecordsDropped\n")[2].partition("\n### ")[0]
    explained = {
        name
        for row in section.splitlines()
        if row.startswith("| `")
        for name in re.findall(r"`(\w+)`", row.split("|")[1])
    }
    assert explained == set(ALL_REASONS)


def test_slow_is_the_bound_of_a_bucket():
    """What the latency objective counts by is a bucket that there is by default; and one only."""
    expressions = " ".join(rule["expr"] for rule in rules())
    bounds = set(re.findall(r'le="([^"]+)"', expressions))
    assert len(bounds) == 1
    assert {float(each) for each in bounds} <= set(HTTP_DURATION.bounds)
