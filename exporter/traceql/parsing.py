"""From text to a query."""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import TYPE_CHECKING

from .errors import TraceQLError
from .model import Query

if TYPE_CHECKING:
    from lark import Lark

LONGEST = 32_768
"""Characters of a query: what fits into a URL that any server takes."""
_DEEPEST = 64
"""Brackets in brackets, signs in a row: what follows walks them recursively."""
_SHOWN = 40

_building = threading.Lock()
_built: list[Lark] = []


def _parser() -> Lark:
    """The parser, built when it is first needed: that takes most of a second, and lark."""
    with _building:
        if not _built:
            from .building import Builder  # noqa: PLC0415  # lark, for those who have the extra
            from .grammar import make_parser  # noqa: PLC0415

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
    _check_depth(text)
    return _read(text if text.strip() else "{}")


def _read(text: str) -> Query:
    from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedToken  # noqa: PLC0415

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


def _check_depth(text: str) -> None:
    """Refuse what is nested deeper than recursion can follow."""
    depth = row = 0
    for character in text:
        depth += (character in "({") - (character in ")}")
        row = row + 1 if character in "!-^" else row if character.isspace() else 0
        if depth > _DEEPEST or row > _DEEPEST:
            raise TraceQLError(f"the query is nested more than {_DEEPEST} deep")
