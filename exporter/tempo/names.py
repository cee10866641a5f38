"""How TraceQL names what a span has: scoped attributes and intrinsics."""

from __future__ import annotations

from typing import NamedTuple

SCOPES = ("resource", "span", "event", "link", "instrumentation")

INTRINSICS = (
    "duration", "event:name", "event:timeSinceStart", "instrumentation:name", "instrumentation:version", "kind",
    "link:spanID", "link:traceID", "name", "rootName", "rootServiceName", "span:duration", "span:id", "span:kind",
    "span:name", "span:parentID", "span:status", "span:statusMessage", "status", "statusMessage", "trace:duration",
    "trace:id", "trace:rootName", "trace:rootService", "traceDuration",
)  # fmt: skip
"""As Tempo lists them."""

ALIASES = {
    "span:name": "name",
    "span:kind": "kind",
    "span:status": "status",
    "span:statusMessage": "statusMessage",
    "trace:rootName": "rootName",
    "trace:rootService": "rootServiceName",
}

KEYWORDS = {
    "status": ("error", "ok", "unset"),
    "kind": ("client", "consumer", "internal", "producer", "server", "unspecified"),
}
"""Intrinsics whose values are words of the language, not strings."""


class Tag(NamedTuple):
    """An attribute or, without scopes, an intrinsic by its shortest name."""

    scopes: tuple[str, ...]
    name: str


def parse_tag(text: str) -> Tag:
    """What a tag's text names.

    `resource.x`, `span."odd key"`, `.x` and plain `x` (of the span or its resource), or an intrinsic.

    Raises:
        ValueError: it names nothing.
    """
    text = text.strip()
    if text in INTRINSICS:
        return Tag((), ALIASES.get(text, text))
    scope, dot, name = text.partition(".")
    if dot and scope in SCOPES:
        return Tag((scope,), _unquoted(name))
    return Tag(("span", "resource"), _unquoted(text.removeprefix(".")))


def _unquoted(name: str) -> str:
    """The key without the quotes around it or a part of it, and their escapes."""
    found, quoted, at = [], False, 0
    while at < len(name):
        letter = name[at]
        if quoted and letter == "\\" and at + 1 < len(name):
            at += 1
            found.append(name[at])
        elif letter == '"':
            quoted = not quoted
        else:
            found.append(letter)
        at += 1
    if quoted or not found:
        raise ValueError(name)
    return "".join(found)
