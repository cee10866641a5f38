"""`python -m tracekeep` and the command `tracekeep`."""

from __future__ import annotations

import sys
from typing import Any

_EXTRA = frozenset({"click", "httptools", "rich", "typer", "uvicorn"})


def main() -> None:
    """Run the command; without the extra `serve`, say how to get it."""
    try:
        from .exporter.cli import create_command  # noqa: PLC0415  # may be missing, which is what is told
    except ModuleNotFoundError as missing:
        if missing.name not in _EXTRA:
            raise
        sys.exit(_without_extra())
    create_command(_run_demo)(prog_name="tracekeep")


def _without_extra() -> int:
    sys.stderr.write("The command needs more packages: pip install 'tracekeep[serve]'\n")
    return 2


def _run_demo(**options: Any) -> None:
    from .exporter.demo.runner import run_demo  # noqa: PLC0415  # imports every room

    run_demo(**options)


if __name__ == "__main__":
    main()
