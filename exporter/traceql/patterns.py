"""Regular expressions."""

from __future__ import annotations

import re
from functools import lru_cache


class PatternError(ValueError):
    """A regular expression is malformed, or uses what isn't supported."""


@lru_cache(256)
def compile_pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text, re.DOTALL)
    except re.error as error:
        raise PatternError(str(error)) from None
