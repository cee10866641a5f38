"""Queries that are still being written: what can be read of them narrows, the rest is dropped."""

from __future__ import annotations

from .errors import TraceQLError
from .model import Filter, Pipeline, Query
from .parsing import LONGEST, parse

EVERYTHING = Query(Pipeline((Filter(),)))
_PAIRS = {"(": ")", "{": "}"}


def narrow(text: str) -> Query:
    """A query that finds at least what the text will once it is whole; never raises.

    A text that is a search as it stands is taken as that. Of any other, the first `{…}`'s conditions that are
    joined by `&&` are kept where they can be read; where `||` joins some, none is.
    """
    try:
        query = parse(text)
    except (TraceQLError, RecursionError):
        return _rescue(text[:LONGEST])
    return Query(query.pipeline)


def _rescue(text: str) -> Query:
    begin = text.find("{")
    if begin < 0:
        return EVERYTHING
    kept: list[str] = []
    for condition in _conjuncts(text[begin + 1 :]):
        if condition is None:
            return EVERYTHING
        if _is_readable(condition):
            kept.append(condition)
    try:
        return parse("{ " + " && ".join(f"({each})" for each in kept) + " }") if kept else EVERYTHING
    except (TraceQLError, RecursionError):
        return EVERYTHING


def _is_readable(condition: str) -> bool:
    try:
        parse("{ " + condition + " }")
    except (TraceQLError, RecursionError):
        return False
    return bool(condition.strip())


def _conjuncts(text: str) -> list[str | None]:
    """The parts between `&&` up to the filter's end; None for each `||` between them."""
    parts: list[str | None] = []
    begin = at = depth = 0
    while at < len(text):
        character = text[at]
        if character in '"`':
            at = _after_string(text, at)
            continue
        if character in _PAIRS:
            depth += 1
        elif character in ")}":
            if depth == 0:
                break
            depth -= 1
        elif depth == 0 and text[at : at + 2] in ("&&", "||"):
            parts += [text[begin:at], None] if character == "|" else [text[begin:at]]
            begin = at = at + 2
            continue
        at += 1
    return [*parts, text[begin:at]]


def _after_string(text: str, at: int) -> int:
    quote = text[at]
    at += 1
    while at < len(text) and text[at] != quote:
        at += 2 if text[at] == "\\" and quote == '"' else 1
    return at + 1
