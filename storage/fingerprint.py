"""Which errors are the same bug: a fingerprint of the code that an error went through, not of where and when.

Version 1: the chain of exception types, and of each the frames in the application's own code by module, function and
source line; each frame once, so that recursion counts for nothing. Where no frame is the application's own, all
count. Without any frame it is the type and the message without its variable parts. An explicit fingerprint wins.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b

from . import stacks_other, stacks_python
from .places import general
from .stacks import Frame, Raised, lines_of

VERSION = 1
OVERFLOW = "0" * 16
"""The group of those that are past the limit."""
_CACHED = 2048
_MAX_CULPRIT = 200
_LOOK = 400  # lines in which the language must show
_EDGE = 250
"""Frames from either end that count: what a cut left out in the middle must not matter."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What an error is grouped by."""

    group: str
    """16 hex digits."""
    culprit: str
    """Module and function that it came from; empty where there is no stack trace."""
    type: str = ""
    """Of the outermost exception, as the stack trace says it; empty where it doesn't."""


def parse(text: str) -> list[Raised]:
    """The exceptions in a stack trace, the innermost cause first; none where it can't be read."""
    lines = lines_of(text)
    if stacks_python.is_python(lines):
        return stacks_python.parse(lines)
    for line in lines[:_LOOK]:
        if stacks_other.is_go(line):
            return stacks_other.parse_go(lines)
        if stacks_other.is_java(line):
            return stacks_other.parse_java(lines)
        if stacks_other.is_v8(line) or stacks_other.is_gecko(line):
            return stacks_other.parse_javascript(lines)
        if stacks_other.is_dotnet(line):
            return stacks_other.parse_dotnet(lines)
    return []


def fingerprint(type_: str, message: str, stacktrace: str | None, explicit: str | None = None) -> Fingerprint:
    """The fingerprint of an error.

    Args:
        type_: of the exception.
        message: of the exception.
        stacktrace: as its language writes it.
        explicit: what the application wants it grouped by, whatever else it is.
    """
    chain = parse(stacktrace) if stacktrace else []
    outermost = next((raised.type for raised in reversed(chain) if not raised.is_member), "")
    if explicit:
        return Fingerprint(_hash(["explicit", explicit]), _culprit(chain), outermost)
    if not any(raised.frames for raised in chain):
        return Fingerprint(_hash(["message", type_, general(message)]), "")
    if len(chain) == 1 and not chain[0].type:
        chain[0].type = type_
    only_own = any(frame.in_app for raised in chain for frame in raised.frames)
    parts = [_identity(raised, only_own=only_own) for raised in chain if not raised.is_member]
    members = sorted({_identity(raised, only_own=only_own) for raised in chain if raised.is_member})
    return Fingerprint(_hash(["stack", *parts, *members]), _culprit(chain), outermost)


def _identity(raised: Raised, *, only_own: bool) -> str:
    frames = dict.fromkeys(
        (frame.module, frame.function, frame.source) for frame in raised.frames if frame.in_app or not only_own
    )
    parts = [part for frame in _ends(list(frames)) for part in frame]
    return "\0".join(["member" if raised.is_member else "", raised.type, raised.detail, *parts])


def _ends(frames: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    return frames if len(frames) <= 2 * _EDGE else [*frames[:_EDGE], *frames[-_EDGE:]]


def _culprit(chain: list[Raised]) -> str:
    """Where the outermost exception came from, in the application's own code where it went through any."""
    outermost_first = [raised for member in (False, True) for raised in reversed(chain) if raised.is_member is member]
    for own in (True, False):
        for raised in outermost_first:
            frame = next((each for each in reversed(raised.frames) if each.in_app or not own), None)
            if frame is not None:
                return _name(frame)[:_MAX_CULPRIT]
    return ""


def _name(frame: Frame) -> str:
    return f"{frame.module} in {frame.function}" if frame.function else frame.module


def _hash(parts: Iterable[str]) -> str:
    digest = blake2b(f"{VERSION}".encode(), digest_size=8)
    for part in parts:
        digest.update(b"\x1e" + part.encode(errors="surrogatepass"))
    found = digest.hexdigest()
    return found if found != OVERFLOW else "f" * 16


class Fingerprints:
    """Remembers the fingerprints of late, by a hash of what they are of: an application fails alike again and again."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Fingerprint] = OrderedDict()

    def of(self, type_: str, message: str, stacktrace: str | None, explicit: str | None = None) -> Fingerprint:
        """See `fingerprint`. Never raises."""
        digest = blake2b(digest_size=16)
        for part in (type_, explicit or "", stacktrace or message):
            digest.update(part.encode(errors="surrogatepass") + b"\0")
        key = digest.digest()
        found = self._known.get(key)
        if found is None:
            try:
                found = fingerprint(type_, message, stacktrace, explicit)
            except Exception:  # a text that it can't cope with must not hold up the writer
                found = Fingerprint(_hash(["message", type_, general(message)]), "")
            self._known[key] = found
            if len(self._known) > _CACHED:
                self._known.popitem(last=False)
        return found
