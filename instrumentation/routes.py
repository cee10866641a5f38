"""Which route answered a request: the full path template behind an ASGI scope, as `http.route` wants it.

Starlette leaves the innermost route in the scope, and the mounts' concrete prefix in `root_path`; FastAPI has
the prefix of an included router elsewhere. Templates are shown as the frameworks show them (`path_format`): a
parameter in braces, without its convertor. The routers are only looked at: no framework is imported for this.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_REST = "/{path}"  # how a mount's template ends, in Starlette and in FastAPI
_CACHE_LIMIT = 1024  # a mount with a parameter makes one entry for each value: bounded, then begun anew
_DEPTH_LIMIT = 32  # nesting of mounts or of wrapped applications beyond which something is a cycle

_Scope = Mapping[str, Any]
_templates: dict[tuple[int, str], tuple[object, str | None]] = {}


def route_template(scope: _Scope) -> str | None:
    """Return the template of the route that a finished or answering request took.

    Args:
        scope: the request's ASGI scope, as the application has left it.

    Returns:
        Application root, mounts and route, such as `/api/{tenant}/items/{id}`; a mount of something that has
        no routes of its own ends in `/{path}`. None where no route matched (404, a redirect of slashes), or
        where the application isn't Starlette or FastAPI.
    """
    route = scope.get("route")
    if route is not None and "app_root_path" not in scope and "fastapi" not in scope:
        template: str | None = getattr(route, "path_format", None)
        root: str = scope.get("root_path", "")
        return root.rstrip("/") + template if root and template else template
    endpoint = scope.get("endpoint")
    if endpoint is None:
        return None
    return _cached(scope, endpoint)


def _cached(scope: _Scope, endpoint: object) -> str | None:
    """Look the template up by what was called and where it hangs: together one place in the routing."""
    context = _included(scope)
    owner = endpoint if context is None else context
    key = (id(owner), scope.get("root_path", ""))
    known = _templates.get(key)
    if known is not None and known[0] is owner:
        return known[1]
    if len(_templates) >= _CACHE_LIMIT:
        _templates.clear()
    template = _resolve(scope, endpoint, context)
    _templates[key] = (owner, template)  # the owner is kept, so that its id can't be another's
    return template


def _included(scope: _Scope) -> Any:
    """Return FastAPI's record of the route as included (with its router's prefix), if it is of this route."""
    extra = scope.get("fastapi")
    context = extra.get("effective_route_context") if isinstance(extra, dict) else None
    if context is None:
        return None
    ours = getattr(context, "original_route", None)
    shown = getattr(context, "starlette_route", None) or context
    same = ours is scope.get("route") or getattr(shown, "endpoint", None) is scope.get("endpoint")
    return context if same else None


def _resolve(scope: _Scope, endpoint: object, context: Any) -> str | None:
    root: str = scope.get("root_path", "")
    base: str = scope.get("app_root_path", root)
    path: str = scope.get("path", "")
    rest = path.removeprefix(root)
    routes = _routes_of(scope.get("router"))
    prefix, routes = _mounted(scope, routes, root[len(base) :], rest)
    leaf = _leaf(scope, endpoint, context, routes, rest)
    return None if prefix is None or leaf is None else base.rstrip("/") + prefix + leaf


def _leaf(scope: _Scope, endpoint: object, context: Any, routes: Iterable[Any], rest: str) -> str | None:
    """Return the last part of the template: of an included route, of the route, or found by its endpoint."""
    if context is not None:
        shown = getattr(context, "starlette_route", None) or context
        return _own_format(shown)
    route = scope.get("route")
    if route is not None and getattr(route, "endpoint", None) is endpoint:
        return _own_format(route)
    for candidate in _flat(routes, scope):
        if getattr(candidate, "endpoint", None) is endpoint and candidate.path_regex.match(rest):
            return _own_format(candidate)
    # The endpoint is the last mount's application: what was routed to, only if it has no routes itself.
    return None if _routes_of(endpoint) else _REST


def _own_format(route: Any) -> str | None:
    template: str | None = getattr(route, "path_format", None)
    if template is None or not _is_mount(route):
        return template
    return None if _routes_of(getattr(route, "app", None)) else _REST


def _mounted(
    scope: _Scope, routes: list[Any], concrete: str, rest: str, depth: int = 0
) -> tuple[str | None, list[Any]]:
    """Turn the mounts' concrete prefix into their templates, by the choice that the routers themselves made.

    The routers take the first mount that matches; one was taken at each level until the prefix is used up.
    """
    if not concrete:
        return "", routes
    for mount in _flat(routes, scope):
        match = mount.path_regex.match(concrete + rest) if _is_mount(mount) else None
        taken = len(concrete) + len(rest) - len(match["path"]) - 1 if match else 0
        if not match or taken > len(concrete) or depth > _DEPTH_LIMIT:
            continue
        inner = _routes_of(getattr(mount, "app", None))
        below, last = _mounted(scope, inner, concrete[taken:], rest, depth + 1)
        return (None if below is None else mount.path_format.removesuffix(_REST) + below), last
    return None, routes


def _is_mount(route: Any) -> bool:
    return hasattr(route, "routes") and str(getattr(route, "path_format", "")).endswith(_REST)


def _flat(routes: Iterable[Any], scope: _Scope) -> Iterator[Any]:
    """Yield the routes of one level in order, those of matching hosts and included routers in their place."""
    for route in routes:
        if hasattr(route, "effective_route_contexts"):
            for context in route.effective_route_contexts():
                yield getattr(context, "starlette_route", None) or context
        elif hasattr(route, "host_regex"):
            if route.matches(scope)[1]:
                yield from _flat(_routes_of(route.app), scope)
        elif hasattr(route, "path_regex"):
            yield route


def _routes_of(app: object) -> list[Any]:
    """Return the routes of an application or router, also where middleware is wrapped around it."""
    for _ in range(_DEPTH_LIMIT):
        routes = getattr(app, "routes", None)
        if isinstance(routes, list):
            return routes
        app = getattr(app, "app", None)
        if app is None:
            break
    return []
