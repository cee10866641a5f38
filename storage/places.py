"""Where code is and what a message says, without what differs from deployment to deployment and time to time."""

from __future__ import annotations

import re

_VARIABLE = re.compile(
    r"""
      (?P<uuid> \b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b )
    | (?P<time> \b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?(?:[.,]\d{1,9})?(?:\ ?Z|\ ?[+-]\d\d:?\d\d)?)?
              | \b\d\d:\d\d:\d\d(?:[.,]\d{1,9})? )
    | (?P<url>  \b[a-zA-Z][a-zA-Z0-9+.-]{1,20}://[^\s'"<>)\]]+ )
    | (?P<email> (?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,5} )
    | (?P<text> (?<!\w)'[^'\n]{0,500}'(?!\w) | "[^"\n]{0,500}" | `[^`\n]{0,500}` | “[^”\n]{0,500}” | «[^»\n]{0,500}» )
    | (?P<path> (?<![\w/.])(?:[A-Za-z]:\\|~?\.{0,2}/)[^\s'"<>:;,()\[\]]+ )
    | (?P<hex>  \b0[xX][0-9a-fA-F]+\b
              | \b(?=[a-fA-F]{0,63}\d)(?=\d{0,63}[a-fA-F])[0-9a-fA-F]{8,64}\b )
    | (?P<ip>   \b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?::\d{1,5})?\b )
    | (?P<n>    [+-]?\d+(?:[.,]\d+){0,8}(?:[eE][+-]?\d+)? )
    """,
    re.VERBOSE,
)
_IN_NAME = re.compile(r"(?i:(?<![a-z\d])(?=[a-f]{0,64}\d)[0-9a-f]{6,64}(?![a-z\d]))|\d{4,}|^[\d._-]+$")
_DIGITS = re.compile(r"\d+")
MAX_MESSAGE = 1000
"""Characters of a message that are looked at."""


def general(message: str) -> str:
    """A message without its variable parts, each replaced by what it was, such as `<n>`, `<uuid>` or `<path>`."""
    return " ".join(_VARIABLE.sub(lambda match: f"<{match.lastgroup}>", message[:MAX_MESSAGE]).split())


def without_variables(name: str) -> str:
    """A part of a path without hashes and long numbers, which builds and releases put there; `v2` stays."""
    return _IN_NAME.sub("#", name) if any(map(str.isdigit, name)) else name


def without_digits(name: str) -> str:
    """A name that a compiler numbers."""
    return _DIGITS.sub("#", name)


def module_of(path: str) -> str:
    """What of a source file's path stays the same wherever it is deployed: its directory and its own name."""
    parts = [part for part in path.split("/") if part not in {"", ".", ".."}]
    if not parts:
        return path
    stem = parts[-1].split(".")[0] if not parts[-1].startswith(".") else parts[-1]
    return ".".join(without_variables(part) for part in (*parts[-2:-1], stem))
