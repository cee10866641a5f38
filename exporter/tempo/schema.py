"""What the routes of the Tempo interface take and give, for the schema of the API.

Their parameters are read by `params.py`, as Tempo reads them: unknown ones are ignored, of several the first counts.
The documents are those of tempopb in protobuf's JSON mapping, which leaves out what is empty: told as objects.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from ..described import Content, described
from ..params import Param
from . import metrics, search, status, tags, traces
from .plain import PROTOBUF

_TAG = "Tempo"
_FAULTS = (400, 501, 503)
_Time = Annotated[
    str, Meta(description="Unix seconds, Unix nanoseconds or a time of RFC 3339.", examples=["1795435200"])
]
_Duration = Annotated[str, Meta(description="As Go writes it.", examples=["100ms", "1m30s"])]


def _param(name: str, type_: Any, about: str) -> Param:
    return Param(name, str, "text", type=type_, about=about)


_WINDOW = (
    _param("start", _Time, "Where the time range begins; with `end`, or neither."),
    _param("end", _Time, "Where it ends."),
)
_QUERY = _param("q", str, "TraceQL.")
_LIMIT = _param("limit", Annotated[int, Meta(ge=0)], "The most that are given; a default where it is 0.")
_ID = (
    _param("trace_id", Annotated[str, Meta(pattern="^[0-9a-fA-F]{1,32}$")], "Of the trace; short ones are filled up."),
)
_KEY = (_param("tag", str, "An attribute with its scope, or an intrinsic."),)
_SEARCH = (
    _QUERY,
    _param("tags", str, "As logfmt, in place of `q`."),
    _param("minDuration", _Duration, "With `tags`: of the trace."),
    _param("maxDuration", _Duration, "With `tags`: of the trace."),
    _LIMIT,
    _param("spss", Annotated[int, Meta(ge=0)], "Spans of each set that are given."),
    *_WINDOW,
)
_STEPS = (_QUERY, _param("step", str, "A duration or a number of seconds."), *_WINDOW)
_JSON = Content("application/json", dict[str, Any])
_TEXT = Content("text/plain", str)
_MESSAGE = Content(PROTOBUF, bytes)

for _handler, _answer, _path, _params in (
    (status.ready, [_TEXT], (), ()),
    (status.echo, [_TEXT], (), ()),
    (status.build_info, [_JSON], (), ()),
    (traces.trace, [_JSON, _MESSAGE], _ID, _WINDOW),
    (traces.trace_v2, [_JSON, _MESSAGE], _ID, _WINDOW),
    (search.search, [_JSON], (), _SEARCH),
    (metrics.query_range, [_JSON], (), _STEPS),
    (metrics.query, [_JSON], (), _STEPS),
    (tags.names, [_JSON], (), (*_WINDOW, _LIMIT)),
    (tags.names_v2, [_JSON], (), (*_WINDOW, _LIMIT, _param("scope", str, "The only one."), _QUERY)),
    (tags.values, [_JSON], _KEY, (*_WINDOW, _LIMIT)),
    (tags.values_v2, [_JSON], _KEY, (*_WINDOW, _LIMIT, _QUERY)),
):
    _missing = (404,) if _handler in {traces.trace, tags.values, tags.values_v2} else ()
    described(_answer, params=_params, path=_path, plain=(*_FAULTS, *_missing), tag=_TAG)(_handler)
