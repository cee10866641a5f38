"""The search of Grafana up to 10: tags as logfmt, and bounds for the trace's duration, as a TraceQL query.

A value is looked for in the attribute's text in any case; each tag may be on another span of the trace.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from starlette.requests import Request

from ..problems import ParameterError
from . import params

_PAIR = re.compile(r"""\s*([^\s="]+)=("(?:[^"\\]|\\.)*"|[^\s"=]*)(?=\s|$)""")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_SPECIAL = {"name": "name", "root.name": "rootName", "root.service.name": "rootServiceName"}
_STATUS = {"0": "unset", "1": "ok", "2": "error", "unset": "unset", "ok": "ok", "error": "error"}
_NUMBER = re.compile(r"-?\d{1,18}(?:\.\d{1,9})?", re.ASCII)


def read_query(request: Request) -> str:
    """The query that `tags`, `minDuration` and `maxDuration` stand for; empty without them.

    Raises:
        ParameterError: one of them is malformed.
    """
    tags = params.text(request, "tags")
    shortest, longest = params.duration(request, "minDuration"), params.duration(request, "maxDuration")
    if longest and shortest > longest:
        value = params.text(request, "maxDuration")
        raise ParameterError("maxDuration", value, "invalid maxDuration: must be at least minDuration")
    conditions = [_condition(key, value) for key, value in _pairs(tags)]
    conditions += [f"traceDuration >= {shortest}ns"] if shortest else []
    conditions += [f"traceDuration <= {longest}ns"] if longest else []
    return " && ".join(f"{{ {condition} }}" for condition in conditions)


def _pairs(tags: str) -> Iterator[tuple[str, str]]:
    at, seen = 0, set()
    while tags[at:].strip():
        match = _PAIR.match(tags, at)
        if match is None:
            raise ParameterError(
                "tags", tags, f"invalid tags: must be key=value pairs of logfmt, not {tags[at:][:100]!r}"
            )
        key, value = match.groups()
        if key in seen:
            raise ParameterError("tags", tags, f"invalid tags: {key[:100]!r} has been set twice")
        seen.add(key)
        yield key, _ESCAPE.sub(r"\1", value[1:-1]) if value.startswith('"') else value
        at = match.end()


def _condition(key: str, value: str) -> str:
    pattern = _quoted(f"(?i).*{re.escape(value)}.*")
    if key == "status.code" and value.lower() in _STATUS:
        return f"status = {_STATUS[value.lower()]}"
    if key in _SPECIAL:
        return f"{_SPECIAL[key]} =~ {pattern}"
    field = f".{_quoted(key)}"
    choices = [f"{field} =~ {pattern}"]
    if _NUMBER.fullmatch(value) or value in ("true", "false"):  # patterns are for text alone
        choices.append(f"{field} = {value}")
    return " || ".join(choices)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'
