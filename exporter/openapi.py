"""The schema of the API: OpenAPI 3.1, made from the types that check parameters and encode answers.

Nothing is written twice: paths and methods are those of the table of routes, and what is said of a handler
(`described.py`) is what it reads its parameters by and encodes its answers from.
Source: https://spec.openapis.org/oas/v3.1.1.html; types by `msgspec.json.schema_components`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from inspect import getdoc
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from .described import Content, Description, contents_of, described, description_of, reason
from .params import Param

Schema = dict[str, Any]

_REFERENCE = "#/components/schemas/{name}"
_ABOUT = (
    "Durable observability: totals for Prometheus, and retained spans and errors. Times are RFC 3339 in UTC, "
    "durations `_ms`, ids lower-case hex. Faults are problem documents (RFC 9457). Every query has a deadline, "
    "past which it is answered 503 with what to narrow."
)
_ROUTE = re.compile(r"`[A-Z]+ \S+`: ")


@described(dict[str, Any], tag="operation")
async def openapi(request: Request) -> Response:
    """`GET /openapi.json`: this schema."""
    prefix = request.scope.get("root_path", "").rstrip("/")
    content = msgspec.json.encode(schema(request.app.routes, prefix))
    return Response(content, 200, {"Cache-Control": "no-store"}, "application/json")


def schema(routes: Sequence[BaseRoute], prefix: str = "") -> Schema:
    """The document.

    Args:
        routes: of the application; those without a description are left out.
        prefix: the path that the application is mounted under.
    """
    found = list(_described(routes))
    types = _Types([description for _, _, description in found])
    paths: dict[str, Schema] = {}
    for path, route, description in found:
        item = paths.setdefault(path, {})
        for method in sorted((route.methods or {"GET"}) - {"HEAD"}):
            item[method.lower()] = _operation(path, method, route, description, types)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "tracekeep",
            "version": version("tracekeep"),
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": prefix or "/"}],
        "paths": paths,
        "components": {"schemas": types.components},
    }


def _described(routes: Sequence[BaseRoute], before: str = "") -> Iterator[tuple[str, Route, Description]]:
    for route in routes:
        if isinstance(route, Mount):
            yield from _described(route.routes, before + route.path)
        elif isinstance(route, Route) and (description := description_of(route.endpoint)):
            yield re.sub(r":\w+\}", "}", before + route.path), route, description


class _Types:
    """The schemas of all types that some descriptions name; each Struct once, under its name."""

    def __init__(self, descriptions: Sequence[Description]) -> None:
        wanted = list(_types(descriptions))
        made, self.components = msgspec.json.schema_components(wanted, ref_template=_REFERENCE)
        self._made = {id(type_): one for type_, one in zip(wanted, made, strict=True)}
        self._kept = wanted  # their ids are keys

    def __getitem__(self, type_: Any) -> Schema:
        return self._made[id(type_)]


def _types(descriptions: Sequence[Description]) -> Iterator[Any]:
    for description in descriptions:
        yield from (param.type for param in (*description.params, *description.path))
        for contents in (*contents_of(description).values(), description.body):
            yield from (content.type for content in contents if content.type is not bytes)


def _operation(path: str, method: str, route: Route, description: Description, types: _Types) -> Schema:
    text = _ROUTE.sub("", getdoc(route.endpoint) or "", count=1)
    summary, _, rest = text.partition("\n\n")
    params = [_parameter(param, "path", types) for param in description.path]
    params += [_parameter(param, "query", types) for param in description.params]
    found: Schema = {
        "tags": [description.tag],
        "operationId": _name(path, method),
        "summary": " ".join(summary.split())[:1].upper() + " ".join(summary.split())[1:],
        "parameters": params,
        "responses": {
            str(status): _response(status, contents, types) for status, contents in contents_of(description).items()
        },
    }
    if rest:
        found["description"] = rest
    if description.body:
        found["requestBody"] = {"required": True, "content": _content(description.body, types)}
    return found


def _name(path: str, method: str) -> str:
    """A name for clients made from the schema, such as `get_monitoring_spans`."""
    words = re.sub(r"\W+", "_", f"{path}").strip("_")
    return f"{method.lower()}_{words}"


def _parameter(param: Param, place: str, types: _Types) -> Schema:
    value = dict(types[param.type])
    if param.default is not None:
        value["default"] = param.default
    about = " ".join(part for part in (param.about, f"{param.allowed[:1].upper()}{param.allowed[1:]}.") if part)
    found = {"name": param.name, "in": place, "required": place == "path", "description": about, "schema": value}
    return {**found, "style": "form", "explode": True} if param.many > 1 else found


def _response(status: int, contents: Sequence[Content], types: _Types) -> Schema:
    return {"description": reason(status), "content": _content(contents, types)}


def _content(contents: Sequence[Content], types: _Types) -> Schema:
    return {each.media: {} if each.type is bytes else {"schema": types[each.type]} for each in contents}
