"""Stack traces as text, of any language: which exceptions, in which order, and through which code each went.

Read line by line with anchored patterns and partitions of bounded lines, so that the time is linear in the text
whatever it says. What can't be read gives no frames, never an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MAX_TEXT = 64 * 1024
"""Characters of a stack trace that are looked at."""
MAX_LINE = 1000
"""Characters of a line that are looked at."""
MAX_FRAMES = 2000
"""Frames of a stack trace that are looked at."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One call. `module` is what stays the same wherever the code is deployed; `source` is empty where unknown."""

    module: str
    function: str
    source: str
    in_app: bool
    """False for what came with the language or from a package."""


@dataclass(slots=True)
class Raised:
    """One exception with its frames, outermost first."""

    type: str
    frames: list[Frame] = field(default_factory=list)
    is_member: bool = False
    """Whether it is one of an exception group's: those have no order."""
    detail: str = ""
    """What tells apart exceptions of a type that says nothing (a Go panic's text)."""


def lines_of(text: str) -> list[str]:
    """The lines that are looked at: not the last one of a text that was cut, which may end anywhere."""
    was_cut = len(text) > MAX_TEXT or text.endswith("…")
    lines = [line[:MAX_LINE].rstrip() for line in text[:MAX_TEXT].splitlines()]
    return lines[:-1] if was_cut and len(lines) > 1 else lines
