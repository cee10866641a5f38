"""What an ASGI scope says of a request, in the terms of the HTTP semantic conventions.

Odd values (no client, no host, bytes that are no text) are left out, never an error.
"""

import re
from collections.abc import Iterable, MutableMapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_plus

Scope = MutableMapping[str, Any]
Attributes = dict[str, str | int]

_SENSITIVE = frozenset(
    (
        "AWSAccessKeyId",
        "Signature",
        "sig",
        "X-Goog-Signature",
        "X-Amz-Signature",
        "X-Amz-Credential",
        "X-Amz-Security-Token",
    )
)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_FORWARDED_HOST = re.compile(r'(?:^|[;,])\s*host="?([^";,\s]+)', re.IGNORECASE)
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.%\w]+\]|[^\s:/?#@\[\]]+)(?::(\d{1,5}))?")
_CACHED_LENGTH = 300  # bytes: a DNS name has at most 253; what is longer would only fill the cache
_PORT_LIMIT = 65535
_PAIR = 2
_ADDRESS = {"client": "client.address", "server": "server.address"}
_PORT = {"client": "client.port", "server": "server.port"}
_OTHER = "_OTHER"


def header_dict(scope: Scope) -> dict[bytes, bytes]:
    """Headers by lower-case name; of one that is given twice, the last."""
    try:
        return dict(scope["headers"])
    except (KeyError, TypeError, ValueError):
        return {}


def describe(scope: Scope, headers: dict[bytes, bytes], methods: frozenset[str]) -> tuple[str, Attributes]:
    """Return the span's first name, and what is known when it starts. Odd values are left out."""
    host = headers.get(b"host", b"")
    if b"forwarded" in headers or b"x-forwarded-host" in headers:
        host = _forwarded_host(headers) or host
    try:
        fixed = _fixed if len(host) <= _CACHED_LENGTH else _fixed.__wrapped__
        verb, known = fixed(scope.get("method"), scope.get("scheme", "http"), scope.get("http_version"), host, methods)
    except TypeError:  # not even hashable
        verb, known = "HTTP", {"http.request.method": _OTHER}
    attributes = known.copy()
    path = scope.get("path")
    if path.__class__ is str:
        attributes["url.path"] = path if path.isascii() else _encodable(path)
    query = scope.get("query_string")
    if query and query.__class__ is bytes:
        attributes["url.query"] = _redacted(query.decode("utf-8", "replace"))
    agent = headers.get(b"user-agent")
    if agent.__class__ is bytes:
        attributes["user_agent.original"] = agent.decode("latin-1")
    _add_peer(attributes, "client", scope.get("client"))
    if "server.address" not in known:
        _add_peer(attributes, "server", scope.get("server"))
    return verb, attributes


@lru_cache(maxsize=512)
def _fixed(
    method: object, scheme: object, version: object, host: bytes, methods: frozenset[str]
) -> tuple[str, Attributes]:
    """Return the first name and the attributes that are the same for many requests. Don't change them."""
    known = method if isinstance(method, str) and method in methods else _OTHER
    attributes: Attributes = {"http.request.method": known}
    if isinstance(method, str) and known != method:
        attributes["http.request.method_original"] = _encodable(method)
    if isinstance(scheme, str):
        attributes["url.scheme"] = scheme
    if isinstance(version, str):
        attributes["network.protocol.version"] = version
    if (match := _AUTHORITY.fullmatch(host.decode("latin-1"))) and int(match[2] or 0) <= _PORT_LIMIT:
        attributes["server.address"] = match[1].strip("[]")
        port = int(match[2]) if match[2] else _DEFAULT_PORTS.get(str(scheme))
        if port is not None:
            attributes["server.port"] = port
    return "HTTP" if known is _OTHER else known, attributes


def _add_peer(attributes: Attributes, side: str, peer: object) -> None:
    if (peer.__class__ is tuple or peer.__class__ is list) and len(peer) == _PAIR:
        address, port = peer
        if address.__class__ is str:
            attributes[_ADDRESS[side]] = address
            if port.__class__ is int:
                attributes[_PORT[side]] = port


def _forwarded_host(headers: dict[bytes, bytes]) -> bytes:
    """Return the host that the client asked the first proxy for."""
    match = _FORWARDED_HOST.search(headers.get(b"forwarded", b"").decode("latin-1"))
    if match:
        return match[1].encode("latin-1")
    return headers.get(b"x-forwarded-host", b"").partition(b",")[0].strip()


def _redacted(query: str) -> str:
    """Replace the values of keys that carry credentials, as the conventions list them."""
    if not ("ig" in query or "A" in query or "%" in query):
        return query  # every one of those keys has one of these in it, or is escaped
    parts = query.split("&")
    for index, part in enumerate(parts):
        key, equals, _value = part.partition("=")
        if equals and unquote_plus(key) in _SENSITIVE:
            parts[index] = f"{key}=REDACTED"
    return "&".join(parts)


def declared_length(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    """Bytes that `content-length` announces, or None."""
    for name, value in headers:
        if name == b"content-length" or name.lower() == b"content-length":
            return int(value)
    return None


def _encodable(text: str) -> str:
    """Replace lone surrogates, which no encoder downstream would take."""
    return text.encode("utf-8", "replace").decode()
