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
from . import narrowed, params, plain
from .names import INTRINSICS, KEYWORDS, SCOPES, Tag, parse_tag
from .told import JSON, told

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


@told(JSON, "scope", "limit", "start", "end", "q")
@plain.plainly
async def names_v2(request: Request) -> Response:
    """`GET /tempo/api/v2/search/tags`: names by scope."""
    return await _names(request, lambda scopes: {"scopes": [Scope(*each) for each in scopes.items()], "metrics": {}})


@told(JSON, "scope", "limit", "start", "end", "q")
@plain.plainly
async def names(request: Request) -> Response:
    """`GET /tempo/api/search/tags`: names without their scopes."""
    return await _names(request, lambda scopes: {"tagNames": _merged(scopes), "metrics": {}})


@told(JSON, "limit", "start", "end", "q", path="tag")
@plain.plainly
async def values_v2(request: Request) -> Response:
    """`GET /tempo/api/v2/search/tag/{tag}/values`: values with their types."""
    return await _values(request, lambda values: {"tagValues": values, "metrics": {}})


@told(JSON, "limit", "start", "end", "q", path="tag")
@plain.plainly
async def values(request: Request) -> Response:
    """`GET /tempo/api/search/tag/{tag}/values`: values as text."""
    return await _values(request, lambda values: {"tagValues": sorted({each.value for each in values}), "metrics": {}})


# --- names ------------------------------------------------------------------------------------------------------------


async def _names(request: Request, document: Callable[[Mapping[str, Sequence[str]]], Any]) -> Response:
    scope = params.choice(request, "scope", ("none", *SCOPES, "intrinsic"), "none")
    wanted, text = _filter(request, scope=scope if scope in SCOPES else None), request.query_params.get("q", "")

    def question(store: Store) -> Response:
        if scope == "intrinsic":
            return plain.json(document({"intrinsic": INTRINSICS}))
        found, degraded = _find_names(store, text, wanted)
        extra = {"intrinsic": INTRINSICS} if scope == "none" else {}
        return plain.json(document({**found, **extra}), degraded=degraded)

    return await ask(request, QUERIES, question)


def _find_names(store: Store, text: str, wanted: TagFilter) -> tuple[Mapping[str, Sequence[str]], bool]:
    store.flush(plain.FLUSH_SECONDS)
    if (query := narrowed.read(text)) is not None:
        return narrowed.names(store, query, wanted)
    found = store.tag_names(wanted)
    return found.scopes, found.degraded


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
    tag, wanted, text = _read_tag(request), _filter(request), request.query_params.get("q", "")

    def question(store: Store) -> Response:
        found, degraded = _find(store, tag, text, wanted)
        return plain.json(document(_bounded(found)), degraded=degraded)

    return await ask(request, QUERIES, question)


def _read_tag(request: Request) -> Tag:
    text = request.path_params["tag"]
    try:
        return parse_tag(text)
    except ValueError:
        raise ParameterError("tag", text, f"invalid tag name: {text[:100]!r}") from None


def _find(store: Store, tag: Tag, text: str, wanted: TagFilter) -> tuple[list[Value], bool]:
    if not tag.scopes and tag.name in KEYWORDS:
        return [Value("keyword", word) for word in KEYWORDS[tag.name]], False
    if not tag.scopes and tag.name not in LISTED:
        return [], False  # ids and durations: too many to choose from
    store.flush(plain.FLUSH_SECONDS)
    if (query := narrowed.read(text)) is not None:
        found, degraded = narrowed.values(store, query, tag, wanted)
        return list(map(_value, found.sorted())), degraded
    scopes = tag.scopes or (None,)
    filters = [msgspec.structs.replace(wanted, scope=scope, name=tag.name) for scope in scopes]
    pages = [store.tag_values(each) for each in filters]
    values = dict.fromkeys(_value(value) for page in pages for value in page.items)
    return list(values)[: wanted.limit], any(page.degraded for page in pages)


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
