"""From text to a query."""

from __future__ import annotations

import threading
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .errors import TraceQLError
from .model import Query

if TYPE_CHECKING:
    from lark import Lark

LONGEST = 16_384
"""Characters of a query: what fits into a URL that any server takes."""
_DEEPEST = 150
"""Levels of the model, which is walked recursively: Python allows a thousand calls in calls."""
_SHOWN = 40

_building = threading.Lock()
_built: list[Lark] = []


def _parser() -> Lark:
    """The parser, built when it is first needed: that takes most of a second, and lark."""
    with _building:
        if not _built:
            from .building import Builder  # noqa: PLC0415  # lark, for those who have the extra
            from .grammar import make_parser  # noqa: PLC0415  # the same

            _built.append(make_parser(Builder()))
        return _built[0]


@lru_cache(256)
def parse(text: str) -> Query:
    """The query that a text stands for; an empty one finds everything.

    Raises:
        TraceQLError: it is none, or asks for something that isn't supported.
        ModuleNotFoundError: lark is missing (`pip install 'tracekeep[serve]'`).
    """
    if len(text) > LONGEST:
        raise TraceQLError(f"the query has more than {LONGEST} characters")
    try:
        query = _read(text if text.strip() else "{}")
    except RecursionError:
        query = None
    if query is None or _is_deep(query):
        raise TraceQLError(f"the query is nested more than {_DEEPEST} deep")
    return query


def _read(text: str) -> Query:
    from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedToken  # noqa: PLC0415  # the same

    try:
        query: Query = _parser().parse(text)  # type: ignore[assignment]  # the transformer's result, not a tree
    except UnexpectedCharacters as error:
        raise TraceQLError(f"unexpected {_word(text, error.pos_in_stream)}", error.line, error.column) from None
    except UnexpectedToken as error:
        if error.token.type == "$END":
            raise _at_end(text) from None
        raise TraceQLError(f"unexpected {str(error.token)[:_SHOWN]!r}", error.line, error.column) from None
    except UnexpectedEOF:
        raise _at_end(text) from None
    return query


def _at_end(text: str) -> TraceQLError:
    lines = text.split("\n")
    return TraceQLError("unexpected end of the query", len(lines), len(lines[-1]) + 1)


def _word(text: str, place: int | None) -> str:
    rest = text[place or 0 :]
    end = next((at for at, character in enumerate(rest) if at and not character.isalnum()), len(rest))
    return repr(rest[: min(end, _SHOWN)])


def _is_deep(query: Query) -> bool:
    """Whether something in it is nested deeper than recursion should follow."""
    rest: list[tuple[Any, int]] = [(query, 0)]
    while rest:
        node, depth = rest.pop()
        if depth > _DEEPEST:
            return True
        if isinstance(node, tuple):
            rest += [(each, depth) for each in node]
        elif is_dataclass(node):
            rest += [(getattr(node, each.name), depth + 1) for each in fields(node)]
    return False
