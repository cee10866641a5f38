"""What `import tracekeep.instrumentation` costs: ms over importing the SDK that it builds on.

Fresh interpreters in turn, with compiled files in place and in the page cache, each measuring the CPU time of its
own import statements. Left out: the first import ever, which compiles, waiting for the disk and for other processes,
and what `instrument()` does.
`where Starlette is there already` is what an app pays that imports Starlette anyhow.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from statistics import median

from .results import Result, at_most
from .rounds import ROOT, alternate

SPANS = 0  # it records none
ROUNDS = 21
_SDK = "import opentelemetry.sdk.trace, opentelemetry.sdk.resources"
_STARLETTE = "import starlette.applications, starlette.routing, starlette.responses"
_OURS = "import tracekeep.instrumentation"
_TIMED = "import time; started = time.process_time(); {}; print((time.process_time() - started) * 1000)"


def run(_spans: int, rounds: int) -> Result:
    sides = {
        "sdk": _import(_SDK),
        "ours": _import(_OURS),
        "ours after starlette": _import(f"{_SDK}; {_STARLETTE}; {_OURS}"),
        "starlette": _import(f"{_SDK}; {_STARLETTE}"),
    }
    figures = alternate(sides, rounds)
    middle = {name: median(values) for name, values in figures.items()}
    ours = middle["ours"] - middle["sdk"]
    return Result(
        name="import",
        unit="ms added to importing the SDK",
        ours=ours,
        peers={},
        limit=60,
        goals=[at_most("at most 60 ms", ours, 60)],
        extra={
            "the SDK alone": middle["sdk"],
            "where Starlette is there already": middle["ours after starlette"] - middle["starlette"],
            "best round": min(figures["ours"]) - min(figures["sdk"]),
        },
    )


def _import(statements: str) -> Callable[[], float]:
    command = [sys.executable, "-c", _TIMED.format(statements)]
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def once() -> float:
        return float(subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True).stdout)

    once()  # an installer compiles what it installs; in a checkout the first import does
    return once
