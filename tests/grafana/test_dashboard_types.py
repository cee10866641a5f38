"""The dashboards against Grafana's own types: npm's `@grafana/schema` of the line that they are made for."""

import json
import subprocess

import pytest
from tk_grafana import boards

_PACKAGES = ("@grafana/schema@11.6.0", "typescript@5.9.3")
_PLAIN = """
import type { Dashboard } from '@grafana/schema';
// JSON has an enumeration's values, where TypeScript wants its names.
type Plain<T> = 0 extends 1 & T ? T : T extends string ? `${T}` : T extends (infer One)[] ? Plain<One>[]
    : T extends object ? { [Key in keyof T]: Plain<T[Key]> } : T;
export type PlainDashboard = Plain<Dashboard>;
"""
_OPTIONS = ["--strict", "--noEmit", "--skipLibCheck", "--target", "es2022", "--module", "nodenext"]


WRONG = ("number", "key", "text")


def _wrong():
    """Dashboards with a number, a key and a text that Grafana's types don't have."""
    board = next(iter(boards().values()))
    panel = next(each for each in board["panels"] if each["type"] == "stat")
    defaults = panel["fieldConfig"]["defaults"]
    relative = defaults | {"thresholds": defaults["thresholds"] | {"mode": "relative"}}
    changes = (
        {"graphTooltip": 7},
        {"tooltipp": 1},
        {"panels": [panel | {"fieldConfig": {"defaults": relative, "overrides": []}}]},
    )
    return {name: board | change for name, change in zip(WRONG, changes, strict=True)}


@pytest.fixture(scope="module")
def said(require, tmp_path_factory):
    """What TypeScript says of each dashboard, all in one run."""
    npm, folder = require("npm"), tmp_path_factory.mktemp("types")
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    (folder / "plain.ts").write_text(_PLAIN)
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent", *_PACKAGES]
    subprocess.run(command, cwd=folder, check=True, timeout=120, capture_output=True)
    found = boards() | _wrong()
    for name, board in found.items():
        text = "import type { PlainDashboard } from './plain.js';\nexport const it: PlainDashboard = "
        (folder / f"{name}.ts").write_text(text + json.dumps(board, indent=1) + ";\n")
    command = ["node", "node_modules/typescript/bin/tsc", *_OPTIONS, *(f"{name}.ts" for name in found)]
    done = subprocess.run(command, cwd=folder, check=False, timeout=120, capture_output=True, text=True)
    return {name: [line for line in done.stdout.splitlines() if line.startswith(f"{name}.ts(")] for name in found}


@pytest.mark.parametrize("name", boards())
def test_each_is_a_dashboard(said, name):
    """Each has Grafana's type `Dashboard`, with no key and no value that it doesn't know."""
    assert said[name] == []


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_one_is_found(said, name):
    """The check sees a number, a key and a text that Grafana's types don't have."""
    assert said[name]
