"""Conditions on stored spans that SQL answers at least as widely as asked: what they let through is looked at again.

A condition is worked out for each partition, whose numbers of operations and attribute sets are its own. What depends
on those few rows alone is tested in Python, once for all spans that refer to them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from .shapes import SHARED_KEYS
from .tracing import StoredOperation

NEVER = "0"
ALWAYS = "1"


class Dictionary(Protocol):
    """What a partition has numbered."""

    @property
    def operations(self) -> Mapping[int, StoredOperation]: ...

    @property
    def sets(self) -> Mapping[int, Mapping[str, Any]]: ...


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

    def where(self, dictionary: Dictionary) -> Where:
        """It in SQL, for one partition."""
        ...


@dataclass(frozen=True, slots=True)
class Anything:
    """Holds for every span."""

    def where(self, dictionary: Dictionary) -> Where:  # noqa: ARG002
        """True."""
        return Where()


@dataclass(frozen=True, slots=True)
class OnOperation:
    """Holds by name, kind, service, resource or scope."""

    test: Callable[[StoredOperation], bool]

    def where(self, dictionary: Dictionary) -> Where:
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
        texts: one of these stands in the JSON of the attributes where it may hold.
    """

    key: str
    test: Callable[[Any], bool]
    texts: tuple[str, ...]

    def where(self, dictionary: Dictionary) -> Where:
        """The sets whose value passes, or a text among the span's own attributes."""
        key, test = self.key, self.test
        sql = ["instr(attributes, ?) > 0" for _ in self.texts]
        if key in SHARED_KEYS:
            found = [number for number, shared in dictionary.sets.items() if key in shared and test(shared[key])]
            sql.insert(0, _among("attribute_set", found))
        return Where(_join(sql, " OR ", NEVER), list(self.texts))


@dataclass(frozen=True, slots=True)
class OnDetails:
    """Holds where a text stands in the JSON of events, links and status message."""

    text: str

    def where(self, dictionary: Dictionary) -> Where:  # noqa: ARG002
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

    def where(self, dictionary: Dictionary) -> Where:  # noqa: ARG002
        """A comparison."""
        if self.index is not None:
            return Where(f"{self.column} {self.operator} {self.value}", index=self.index)
        return Where(f"{self.column} {self.operator} ?", [self.value])


@dataclass(frozen=True, slots=True)
class All:
    """Holds where each of some does."""

    parts: Sequence[Condition]

    def where(self, dictionary: Dictionary) -> Where:
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

    def where(self, dictionary: Dictionary) -> Where:
        """Them with OR; an index only where all have the same."""
        parts = [part.where(dictionary) for part in self.parts]
        if any(part.sql == ALWAYS for part in parts):
            return Where()
        parts = [part for part in parts if part.sql != NEVER]
        known = [part.operations for part in parts if part.operations is not None]
        indexes = {part.index for part in parts}
        return Where(
            _join([part.sql for part in parts], " OR ", NEVER),
            [value for part in parts for value in part.parameters],
            frozenset().union(*known) if len(known) == len(parts) else None,
            indexes.pop() if len(indexes) == 1 else None,
        )


def _join(parts: list[str], word: str, otherwise: str) -> str:
    if len(parts) > 1:
        return "(" + word.join(parts) + ")"
    return parts[0] if parts else otherwise


def _among(column: str, numbers: Sequence[int] | frozenset[int]) -> str:
    return f"{column} IN ({','.join(map(str, sorted(numbers)))})" if numbers else NEVER
