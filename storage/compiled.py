"""The parts in C, where the package was built with a compiler; each has the same in Python beside it."""

from __future__ import annotations

import importlib
import os
from typing import Any


def compiled(package: str, name: str) -> Any:
    """What `name` is in the C module of a package, or None where there is no such module.

    `TRACEKEEP_PURE_PYTHON=1` leaves it unused, to tell whether a fault is there.
    """
    if os.environ.get("TRACEKEEP_PURE_PYTHON", "") not in {"", "0"}:
        return None
    try:
        return getattr(importlib.import_module("._native", package), name)
    except ImportError:
        return None
