"""`/tempo/api/…search/tags` and `…/tag/{tag}/values`: what a query can name, for whoever types one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...storage import Store
from ...storage.tags import INTRINSICS as LISTED
from ...storage.views import TagFilter
from ..offload import QUERIES, ask
from ..problems import ParameterError
from . import params, plain
from .names import INTRINSICS, KEYWORDS, SCOPES, Tag, parse_tag

_LIMIT = 5000  # what Grafana asks for
_MOST = 50_000
_MOST_TEXT = 1 << 20
"""Characters of all values of an answer: an editor's list of suggestions, not an export."""


class Scope(msgspec.Struct, frozen=True):
    """The names of one scope."""

    name: str
    tags: Sequence[str]


class Value(msgspec.Struct, frozen=True):
    """A value as text; only the type `string` is quoted in a query."""

    type: str
    value: str


@plain.plainly
async def names_v2(request: Request) -> Response:
    """`GET /tempo/api/v2/search/tags`: names by scope."""
    return await _names(request, lambda scopes: {"scopes": [Scope(*each) for each in scopes.items()], "metrics": {}})


@plain.plainly
async def names(request: Request) -> Response:
    """`GET /tempo/api/search/tags`: names without their scopes."""
    return await _names(request, lambda scopes: {"tagNames": _merged(scopes), "metrics": {}})


@plain.plainly
async def values_v2(request: Request) -> Response:
    """`GET /tempo/api/v2/search/tag/{tag}/values`: values with their types."""
    return await _values(request, lambda values: {"tagValues": values, "metrics": {}})


@plain.plainly
async def values(request: Request) -> Response:
    """`GET /tempo/api/search/tag/{tag}/values`: values as text."""
    return await _values(request, lambda values: {"tagValues": sorted({each.value for each in values}), "metrics": {}})


# --- names ------------------------------------------------------------------------------------------------------------


async def _names(request: Request, document: Callable[[Mapping[str, Sequence[str]]], Any]) -> Response:
    scope = params.choice(request, "scope", ("none", *SCOPES, "intrinsic"), "none")
    wanted = _filter(request, scope=scope if scope in SCOPES else None)

    def question(store: Store) -> Response:
        if scope == "intrinsic":
            return plain.json(document({"intrinsic": INTRINSICS}))
        store.flush(plain.FLUSH_SECONDS)
        found = store.tag_names(wanted)
        extra = {"intrinsic": INTRINSICS} if scope == "none" else {}
        return plain.json(document({**found.scopes, **extra}), degraded=found.degraded)

    return await ask(request, QUERIES, question)


def _merged(scopes: Mapping[str, Sequence[str]]) -> list[str]:
    """All attributes; intrinsics only where they alone were asked for, as Tempo does."""
    several = len(scopes) > 1
    return sorted({name for scope, tags in scopes.items() for name in tags if not (several and scope == "intrinsic")})


def _filter(request: Request, **more: Any) -> TagFilter:
    limit = params.whole(request, "limit", low=0, high=999_999_999, default=_LIMIT) or _MOST
    window = params.window(request)
    times: dict[str, Any] = {"since_ns": window.since_ns, "until_ns": window.until_ns} if window else {}
    return TagFilter(limit=min(limit, _MOST), **times, **more)


# --- values -----------------------------------------------------------------------------------------------------------


async def _values(request: Request, document: Callable[[Sequence[Value]], Any]) -> Response:
    text = request.path_params["tag"]
    try:
        tag = parse_tag(text)
    except ValueError:
        raise ParameterError("tag", text, f"invalid tag name: {text[:100]!r}") from None
    wanted = _filter(request)

    def question(store: Store) -> Response:
        found, degraded = _find(store, tag, wanted)
        return plain.json(document(_bounded(found)), degraded=degraded)

    return await ask(request, QUERIES, question)


def _find(store: Store, tag: Tag, wanted: TagFilter) -> tuple[list[Value], bool]:
    if not tag.scopes and tag.name in KEYWORDS:
        return [Value("keyword", word) for word in KEYWORDS[tag.name]], False
    if not tag.scopes and tag.name not in LISTED:
        return [], False  # ids and durations: too many to choose from
    store.flush(plain.FLUSH_SECONDS)
    found: dict[Value, None] = {}
    degraded = False
    for scope in tag.scopes or (None,):
        page = store.tag_values(msgspec.structs.replace(wanted, scope=scope, name=tag.name))
        found |= dict.fromkeys(map(_value, page.items))
        degraded = degraded or page.degraded
    return list(found)[: wanted.limit], degraded


def _value(value: Any) -> Value:
    if isinstance(value, bool):
        return Value("bool", "true" if value else "false")
    if isinstance(value, str):
        return Value("string", value)
    return Value("int" if isinstance(value, int) else "float", str(value))


def _bounded(values: Sequence[Value]) -> list[Value]:
    kept, room = [], _MOST_TEXT
    for value in values:
        room -= len(value.value)
        if room < 0:
            break
        kept.append(value)
    return kept
