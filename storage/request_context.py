"""What is told of the request that an error happened in: how it was called and answered, without credentials."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, quote

REDACTED = "REDACTED"
_WANTED = (
    "http.request.method",
    "http.route",
    "url.path",
    "url.query",
    "http.response.status_code",
    "error.type",
)
_SECRET = re.compile(
    r"pass|pwd|secret|token|api[-_.]?key|auth|credential|session|signature|^sig$|^key$|jwt", re.IGNORECASE
)
_PARAMETER = re.compile(r"\{([^{}:]+)(?::([^{}]*))?\}|<(?:([^<>:]+):)?([^<>]+)>")
_USER_INFO = re.compile(r"(?<=://)[^/@\s?#]*@")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_MAX_PARAMETERS = 50


def context_of(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The context of a request by its span's attributes, as the HTTP semantic conventions name them.

    Beside those: `url.full`, `url.path_parameters` and `url.query_parameters`, where they can be told.
    """
    context = {key: attributes[key] for key in _WANTED if key in attributes}
    query, path = _text(attributes, "url.query"), _text(attributes, "url.path")
    if query:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=None)[:_MAX_PARAMETERS]
        shown = {key: REDACTED if _SECRET.search(key) else value for key, value in pairs}
        if any(_SECRET.search(key) for key, _ in pairs):
            query = "&".join(f"{quote(key)}={quote(shown[key])}" for key, _ in pairs)
            context["url.query"] = query
        context["url.query_parameters"] = shown
    if found := path_parameters(_text(attributes, "http.route"), path):
        context["url.path_parameters"] = found
    if full := _full(attributes, path, query):
        context["url.full"] = full
    return context


def _text(attributes: Mapping[str, Any], key: str) -> str:
    value = attributes.get(key)
    return value if isinstance(value, str) else ""


def _full(attributes: Mapping[str, Any], path: str, query: str) -> str:
    """The URL that was asked for; as it is given, or put together."""
    if given := _text(attributes, "url.full"):
        base, mark, _ = given.partition("?")
        return _USER_INFO.sub(f"{REDACTED}@", base) + (mark + query if query else "")
    scheme, host = _text(attributes, "url.scheme"), _text(attributes, "server.address")
    port = attributes.get("server.port")
    if not (scheme and host and path):
        return ""
    host = f"[{host}]" if ":" in host else host
    shown_port = f":{port}" if isinstance(port, int) and port != _DEFAULT_PORTS.get(scheme) else ""
    return f"{scheme}://{host}{shown_port}{path}" + (f"?{query}" if query else "")


def path_parameters(route: str, path: str) -> dict[str, str]:
    """What the parameters of a route's template stand for in a path, segment by segment.

    Both `{name}` and `{name:path}` (Starlette, FastAPI) and `<type:name>` (Flask, Django) are understood; a template
    that isn't of the path gives nothing.
    """
    if not ("{" in route or "<" in route):
        return {}
    found: dict[str, str] = {}
    segments, values = route.split("/"), path.split("/")
    for place, segment in enumerate(segments[: _MAX_PARAMETERS * 2]):
        match = _PARAMETER.search(segment)
        if place >= len(values):
            return {}
        value = values[place]
        if match is None:
            if segment != value:
                return {}
            continue
        name, kind = (match[1], match[2]) if match[1] else (match[4], match[3])
        before, after = segment[: match.start()], segment[match.end() :]
        if kind == "path":
            rest = len(segments) - place - 1
            value = "/".join(values[place : len(values) - rest])
            found[name] = value.removeprefix(before).removesuffix(after)
            return found
        found[name] = value.removeprefix(before).removesuffix(after)
    return found if len(segments) == len(values) else {}
