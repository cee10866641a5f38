"""Conditions on stored spans that SQL answers at least as widely as asked: what they let through is looked at again.

A condition is worked out for each partition, whose numbers of operations and attribute sets are its own. What depends
on those few rows alone is tested in Python, once for all spans that refer to them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from .shapes import SHARED_KEYS
from .tracing import StoredOperation

NEVER = "0"
ALWAYS = "1"
_HAS = "instr(attributes, ?) > 0"


class Dictionary(Protocol):
    """What a partition has numbered."""

    @property
    def operations(self) -> Mapping[int, StoredOperation]:
        """By number."""
        ...

    @property
    def sets(self) -> Mapping[int, Mapping[str, Any]]:
        """Shared attributes by number."""
        ...


@dataclass(slots=True)
class Where:
    """A condition in SQL, over the columns of `spans`."""

    sql: str = ALWAYS
    parameters: list[Any] = field(default_factory=list)
    operations: frozenset[int] | None = None
    """Those that it holds for at most; None where it says nothing of them."""
    index: str | None = None
    """A partial index that has all rows for which it holds."""


class Condition(Protocol):
    """What must hold for a span."""

    def where(self, dictionary: Dictionary, /) -> Where:
        """It in SQL, for one partition."""
        ...


@dataclass(frozen=True, slots=True)
class Anything:
    """Holds for every span."""

    def where(self, _dictionary: Dictionary, /) -> Where:
        """True."""
        return Where()


@dataclass(frozen=True, slots=True)
class OnOperation:
    """Holds by name, kind, service, resource or scope."""

    test: Callable[[StoredOperation], bool]

    def where(self, dictionary: Dictionary, /) -> Where:
        """The numbers for which the test holds."""
        found = frozenset(number for number, operation in dictionary.operations.items() if self.test(operation))
        if len(found) == len(dictionary.operations):
            return Where()
        return Where(_among("operation", found), operations=found)


@dataclass(frozen=True, slots=True)
class OnAttribute:
    """Holds by the value of one of the span's attributes.

    Args:
        key: of the attribute.
        test: of its value, which is not None.
        texts: one of these stands in the value's JSON where it may hold; without any, all values may pass.
        whole: whether the value is such a text or a list with it, and not just something that has it within.
    """

    key: str
    test: Callable[[Any], bool]
    texts: tuple[str, ...] = ()
    whole: bool = False

    def where(self, dictionary: Dictionary, /) -> Where:
        """The sets whose value passes, or a text among the span's own attributes."""
        key, test = self.key, self.test
        name = msgspec.json.encode(key).decode() + ":"
        if key in SHARED_KEYS:  # which spans have of their own only where a value is odd, or there are too many
            found = [number for number, shared in dictionary.sets.items() if key in shared and test(shared[key])]
            return Where(_join([_among("attribute_set", found), _HAS], " OR ", NEVER), [name])
        own = [self._has(name, text) for text in self.texts] or [Where(_HAS, [name])]
        return Where(_join([each.sql for each in own], " OR ", NEVER), [each for one in own for each in one.parameters])

    def _has(self, name: str, text: str) -> Where:
        """The rarer text first: most rows are told by it alone."""
        if not self.whole:
            return Where(f"({_HAS} AND {_HAS})", [text, name])
        return Where(f"({_HAS} AND ({_HAS} OR {_HAS}))", [text, name + text, name + "["])


@dataclass(frozen=True, slots=True)
class OnDetails:
    """Holds where a text stands in the JSON of events, links and status message."""

    text: str

    def where(self, _dictionary: Dictionary, /) -> Where:
        """A search in a column that most spans lack."""
        return Where("instr(details, ?) > 0", [self.text])


@dataclass(frozen=True, slots=True)
class OnColumn:
    """Holds by a column of integers.

    Args:
        column: `start`, `duration`, `status`, `span_id`, `parent_id` or `trace_id`.
        operator: of SQL.
        value: None for NULL (with `IS` and `IS NOT`).
        index: a partial index that has all such rows.
    """

    column: str
    operator: str
    value: float | bytes | None
    index: str | None = None

    def where(self, _dictionary: Dictionary, /) -> Where:
        """A comparison."""
        if self.index is not None:
            return Where(f"{self.column} {self.operator} {self.value!r}", index=self.index)
        return Where(f"{self.column} {self.operator} ?", [self.value])


@dataclass(frozen=True, slots=True)
class All:
    """Holds where each of some does."""

    parts: Sequence[Condition]

    def where(self, dictionary: Dictionary, /) -> Where:
        """Them with AND; the fewest operations, and any one's index."""
        parts = [part.where(dictionary) for part in self.parts]
        if any(part.sql == NEVER for part in parts):
            return Where(NEVER, operations=frozenset())
        known = [part.operations for part in parts if part.operations is not None]
        return Where(
            _join([part.sql for part in parts if part.sql != ALWAYS], " AND ", ALWAYS),
            [value for part in parts for value in part.parameters],
            frozenset.intersection(*known) if known else None,
            next((part.index for part in parts if part.index), None),
        )


@dataclass(frozen=True, slots=True)
class Either:
    """Holds where one of some does."""

    parts: Sequence[Condition]

    def where(self, dictionary: Dictionary, /) -> Where:
        """Them with OR."""
        parts = [part.where(dictionary) for part in self.parts]
        if any(part.sql == ALWAYS for part in parts):
            return Where()
        parts = [part for part in parts if part.sql != NEVER]
        known = [part.operations for part in parts if part.operations is not None]
        return Where(
            _join([part.sql for part in parts], " OR ", NEVER),
            [value for part in parts for value in part.parameters],
            frozenset().union(*known) if len(known) == len(parts) else None,
            parts[0].index if len(parts) == 1 else None,
        )


def _join(parts: list[str], word: str, otherwise: str) -> str:
    if len(parts) > 1:
        return "(" + word.join(parts) + ")"
    return parts[0] if parts else otherwise


def _among(column: str, numbers: Sequence[int] | frozenset[int]) -> str:
    return f"{column} IN ({','.join(map(str, sorted(numbers)))})" if numbers else NEVER
