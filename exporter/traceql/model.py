"""The vocabulary: a query as data. Imports nothing of ours.

A value is None (nil), bool, int, float, str, a list of these, or one of the types below.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Value = Any


class Duration(int):
    """Nanoseconds."""

    __slots__ = ()


class Status(str):
    """`ok`, `error` or `unset`."""

    __slots__ = ()


class Kind(str):
    """`unspecified`, `internal`, `server`, `client`, `producer` or `consumer`."""

    __slots__ = ()


class Several(list[Value]):
    """One value for each event or link that has it; a comparison holds where it does for any."""

    __slots__ = ()


_PLAIN_NAME = re.compile(r'[^\s{}()=~!<>&|^,"]+')


@dataclass(frozen=True, slots=True)
class Literal:
    """A value as written."""

    value: Value

    def __str__(self) -> str:
        if type(self.value) is str:
            return '"' + self.value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        if isinstance(self.value, Duration):
            return f"{int(self.value)}ns"
        if self.value is None or isinstance(self.value, bool):
            return {None: "nil", True: "true", False: "false"}[self.value]
        return str(self.value)


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute of a span, of what recorded it, of its events, or of its parent."""

    scope: str
    """`span`, `resource`, `event`, `link`, `instrumentation`; empty: whichever has it, in this order, resource 2nd."""
    name: str
    of_parent: bool = False

    def __str__(self) -> str:
        name = self.name if _PLAIN_NAME.fullmatch(self.name) else '"' + self.name.replace('"', '\\"') + '"'
        return (
            f"{'parent.' if self.of_parent else ''}{self.scope}{'' if self.of_parent and not self.scope else '.'}{name}"
        )


@dataclass(frozen=True, slots=True)
class Intrinsic:
    """What every span has, by its canonical name (`span:duration` is `duration`)."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Binary:
    """`+ - * / % ^`, `= != < <= > >= =~ !~`."""

    operator: str
    left: Expression
    right: Expression

    def __str__(self) -> str:
        return f"({self.left} {self.operator} {self.right})"


@dataclass(frozen=True, slots=True)
class Junction:
    """All (`&&`) or any (`||`) of some conditions."""

    operator: str
    operands: tuple[Expression, ...]

    def __str__(self) -> str:
        return "(" + f" {self.operator} ".join(map(str, self.operands)) + ")"


@dataclass(frozen=True, slots=True)
class Unary:
    """`-`, `!`, `exists` (written `!= nil`) or `missing` (`= nil`)."""

    operator: str
    operand: Expression

    def __str__(self) -> str:
        after = {"exists": " != nil", "missing": " = nil"}.get(self.operator)
        return f"({self.operand}{after})" if after else f"{self.operator}{self.operand}"


Field = Attribute | Intrinsic
Expression = Literal | Attribute | Intrinsic | Binary | Junction | Unary

# --- spansets -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Filter:
    """`{…}`: the spans for which a condition holds; all of them where there is none."""

    condition: Expression | None = None


@dataclass(frozen=True, slots=True)
class SetOperation:
    """`&&`, `||`, or a structural operator between two spansets of a trace."""

    operator: str
    left: SpansetExpression
    right: SpansetExpression


@dataclass(frozen=True, slots=True)
class GroupBy:
    """`by(…)`: a spanset for each value."""

    expression: Expression

    def __str__(self) -> str:
        return f"by({self.expression})"


@dataclass(frozen=True, slots=True)
class Coalesce:
    """`coalesce()`: one spanset again."""


@dataclass(frozen=True, slots=True)
class Select:
    """`select(…)`: fields that are shown with each span."""

    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Aggregate:
    """`count()`, or `avg`, `min`, `max`, `sum` of an expression over a spanset's spans."""

    function: str
    expression: Expression | None = None

    def __str__(self) -> str:
        return f"{self.function}({'' if self.expression is None else self.expression})"


@dataclass(frozen=True, slots=True)
class ScalarOperation:
    """Arithmetic between numbers of a spanset."""

    operator: str
    left: Scalar
    right: Scalar


Scalar = Literal | Aggregate | ScalarOperation


@dataclass(frozen=True, slots=True)
class ScalarFilter:
    """Keeps the spansets for which a comparison holds."""

    operator: str
    left: Scalar
    right: Scalar


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Stages, each fed with what the one before gives."""

    stages: tuple[Stage, ...]


SpansetExpression = Filter | SetOperation | Pipeline
Stage = SpansetExpression | GroupBy | Coalesce | Select | ScalarFilter

# --- metrics ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Metric:
    """`rate`, `count_over_time`, `<min|max|avg|sum|quantile|histogram>_over_time`."""

    function: str
    field: Field | None = None
    quantiles: tuple[float, ...] = ()
    by: tuple[Field, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """`compare({…}, top, start, end)`: values of all attributes, in the selection and outside of it."""

    selection: Filter
    top: int = 10
    since_ns: int = 0
    until_ns: int = 0


@dataclass(frozen=True, slots=True)
class Ranking:
    """`topk(n)` and `bottomk(n)`: at each time the series with the largest or smallest values."""

    limit: int
    smallest: bool = False


@dataclass(frozen=True, slots=True)
class Threshold:
    """A comparison that drops the samples for which it doesn't hold."""

    operator: str
    value: float


SecondStage = Ranking | Threshold


@dataclass(frozen=True, slots=True)
class Query:
    """What `parse` gives."""

    pipeline: Pipeline
    metric: Metric | Comparison | None = None
    then: tuple[SecondStage, ...] = ()
    hints: Mapping[str, Value] = field(default_factory=dict)
