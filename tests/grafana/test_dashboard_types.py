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


@pytest.fixture(scope="module")
def checker(require, tmp_path_factory):
    """Type-check dashboards: gives what TypeScript complains of."""
    npm, folder = require("npm"), tmp_path_factory.mktemp("types")
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent", *_PACKAGES]
    (folder / "plain.ts").write_text(_PLAIN)
    subprocess.run(command, cwd=folder, check=True, timeout=120, capture_output=True)

    def check(found):
        for name, board in found.items():
            text = "import type { PlainDashboard } from './plain.js';\nexport const it: PlainDashboard = "
            (folder / f"{name}.ts").write_text(text + json.dumps(board, indent=1) + ";\n")
        command = ["node", "node_modules/typescript/bin/tsc", *_OPTIONS, *(f"{name}.ts" for name in found)]
        done = subprocess.run(command, cwd=folder, check=False, timeout=120, capture_output=True, text=True)
        return done.stdout

    return check


def test_they_are_dashboards(checker):
    """Every one has Grafana's type `Dashboard`."""
    assert checker(boards()) == ""


def test_a_wrong_one_is_found(checker):
    """The check sees a value that Grafana doesn't know and a key that it doesn't have."""
    board = next(iter(boards().values()))
    panel = next(each for each in board["panels"] if each["type"] == "stat")
    defaults = panel["fieldConfig"]["defaults"]
    steps = defaults | {"thresholds": defaults["thresholds"] | {"mode": "relative"}}
    wrong = {
        "number": board | {"graphTooltip": 7},
        "key": board | {"tooltipp": 1},
        "text": board | {"panels": [panel | {"fieldConfig": {"defaults": steps, "overrides": []}}]},
    }
    said = checker(wrong)
    assert [name for name in wrong if f"{name}.ts" not in said] == []
