"""How sides are compared: in turn, in this process or in children. Imports nothing of ours."""

import gc
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).parents[2]
T = TypeVar("T")
Figures = dict[str, list[float]]


def alternate(sides: dict[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Measure all sides in every round, each time beginning with another one, so that a slow moment hits them alike."""
    figures: dict[str, list[T]] = {name: [] for name in sides}
    names = list(sides)
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            gc.collect()
            figures[name].append(sides[name]())
    return figures


def added(side: list[float], base: list[float]) -> list[float]:
    """What a side takes more than the base, round by round."""
    return [value - bare for value, bare in zip(side, base, strict=True)]


def in_child(module: str, *arguments: object) -> dict:
    """What `python -m tests.benchmarks.MODULE ARGUMENTS` prints on its last line, as JSON."""
    command = [sys.executable, "-m", f"tests.benchmarks.{module}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])
