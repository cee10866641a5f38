"""What can be told of types before anything is looked at: a query that could only ever be wrong is refused."""

from __future__ import annotations

from typing import Any

from lark import Token

from . import patterns
from .errors import TraceQLError
from .model import (
    Aggregate,
    Attribute,
    Binary,
    Coalesce,
    Duration,
    Expression,
    Filter,
    GroupBy,
    Intrinsic,
    Junction,
    Kind,
    Literal,
    Pipeline,
    Scalar,
    ScalarOperation,
    SetOperation,
    Status,
    Unary,
)
from .syntax import PatternError

INTRINSICS = {
    "duration": "duration",
    "name": "string",
    "status": "status",
    "statusMessage": "string",
    "kind": "kind",
    "rootName": "string",
    "rootServiceName": "string",
    "traceDuration": "duration",
    "nestedSetLeft": "number",
    "nestedSetRight": "number",
    "nestedSetParent": "number",
    "childCount": "number",
    "parent": "string",
}
"""Those that are written without a scope, and what their values are."""

SCOPED_INTRINSICS = {
    "span:duration": "duration",
    "span:name": "name",
    "span:status": "status",
    "span:statusMessage": "statusMessage",
    "span:kind": "kind",
    "span:id": "span:id",
    "span:parentID": "span:parentID",
    "span:childCount": "childCount",
    "trace:id": "trace:id",
    "trace:duration": "traceDuration",
    "trace:rootName": "rootName",
    "trace:rootService": "rootServiceName",
    "event:name": "event:name",
    "event:timeSinceStart": "event:timeSinceStart",
    "link:spanID": "link:spanID",
    "link:traceID": "link:traceID",
    "instrumentation:name": "instrumentation:name",
    "instrumentation:version": "instrumentation:version",
}
"""Those that are written with a scope, and their canonical names."""

_TYPES = INTRINSICS | {
    name: "string" for name in SCOPED_INTRINSICS.values() if ":" in name
} | {"event:timeSinceStart": "duration"}  # fmt: skip
_OF_LITERALS = {
    bool: "boolean", int: "number", float: "number", Duration: "duration", str: "string", Status: "status",
    Kind: "kind", type(None): "nil",
}  # fmt: skip
_NUMERIC = frozenset({"number", "duration", "any"})
_ARITHMETIC = frozenset("+-*/%^")
_ORDER = frozenset({"<", "<=", ">", ">="})
_MOST_GROUPS = 5
_LONGEST_SHOWN = 200
_MOST_SIGNS = 50


def type_of(expression: Expression) -> str:
    """`boolean`, `number`, `duration`, `string`, `status`, `kind`, `nil`, or `any` where only the spans can tell."""
    while isinstance(expression, Unary) and expression.operator == "-":
        expression = expression.operand
    if isinstance(expression, Literal):
        return _OF_LITERALS[type(expression.value)]
    if isinstance(expression, Intrinsic):
        return _TYPES[expression.name]
    if isinstance(expression, Attribute):
        return "any"
    if isinstance(expression, Binary):
        return "number" if expression.operator in _ARITHMETIC else "boolean"
    return "boolean"


def references_span(expression: Expression) -> bool:
    """Whether it depends on a span at all."""
    if isinstance(expression, Binary):
        return references_span(expression.left) or references_span(expression.right)
    if isinstance(expression, Junction):
        return any(map(references_span, expression.operands))
    if isinstance(expression, Unary):
        return references_span(expression.operand)
    return not isinstance(expression, Literal)


def _refuse(token: Any, message: str) -> TraceQLError:
    return TraceQLError(message, getattr(token, "line", None) or 1, getattr(token, "column", None) or 1)


class _Shown:
    """An operation as text, made only when it is told."""

    def __init__(self, left: Expression, operator: str, right: Expression) -> None:
        self._parts = left, operator, right

    def __str__(self) -> str:
        try:
            text = " ".join(map(str, self._parts))
        except RecursionError:
            return "(…)"
        return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


class Checks:
    """One check for each rule; each raises a TraceQLError."""

    @staticmethod
    def condition(expression: Expression) -> None:
        """A filter needs a boolean."""
        if type_of(expression) not in ("boolean", "any"):
            raise TraceQLError(f"the condition of a filter must be true or false: {{ {expression} }}")

    @staticmethod
    def junction(operator: Token, left: Expression, right: Expression) -> None:
        """`&&` and `||` need booleans."""
        for operand in (left, right):
            if type_of(operand) not in ("boolean", "any"):
                raise _refuse(operator, f"illegal operation for the given types: {_Shown(left, operator, right)}")

    @staticmethod
    def unary(operator: Token, operand: Expression) -> None:
        """`!` needs a boolean, `-` a number."""
        inner, signs = operand, 1
        while isinstance(inner, Unary) and signs < _MOST_SIGNS:
            inner, signs = inner.operand, signs + 1
        if signs == _MOST_SIGNS:
            raise _refuse(operator, f"more than {_MOST_SIGNS} signs in a row")
        kind = type_of(operand)
        if kind not in (("boolean", "any") if operator == "!" else _NUMERIC):
            raise _refuse(operator, f"illegal operation for the given type: {operator}{operand}")

    @staticmethod
    def binary(operator: Token, left: Expression, right: Expression) -> None:
        """Both sides must be comparable, and the operator one for their type."""
        kinds = {type_of(left), type_of(right)} - {"any"}
        shown = _Shown(left, operator, right)
        if len(kinds) > 1 and not kinds <= _NUMERIC:
            raise _refuse(operator, f"binary operations must operate on the same type: {shown}")
        if operator in ("=~", "!~"):
            if not isinstance(right, Literal) or type(right.value) is not str:
                raise _refuse(operator, f"a regular expression must be a string: {shown}")
            try:
                patterns.compile_pattern(right.value)
            except PatternError as error:
                raise _refuse(operator, f"invalid regular expression {right.value!r}: {error}") from None
        wrong = operator in _ARITHMETIC and not kinds <= _NUMERIC
        wrong |= operator in _ORDER and bool(kinds & {"boolean", "status", "kind"})
        if wrong or (operator in ("=~", "!~") and not kinds <= {"string"}):
            raise _refuse(operator, f"illegal operation for the given types: {shown}")

    @staticmethod
    def references_span(expression: Expression, where: str) -> None:
        """Grouping by a constant is a mistake."""
        if not references_span(expression):
            raise TraceQLError(f"the expression in {where} must refer to the span: {expression}")

    @staticmethod
    def aggregate(function: Token, expression: Expression) -> None:
        """An aggregate needs numbers."""
        if type_of(expression) not in _NUMERIC or not references_span(expression):
            raise _refuse(function, f"the expression in {function}() must be a number of the span: {expression}")

    @staticmethod
    def scalar_filter(operator: Token, left: Scalar, right: Scalar) -> None:
        """A comparison of two constants says nothing about a spanset."""
        if not (_has_aggregate(left) or _has_aggregate(right)):
            raise _refuse(operator, "a scalar filter needs an aggregate such as count()")

    @staticmethod
    def structural(operator: Token, left: Any, right: Any) -> None:
        """A trace that by() has split into several spansets has no one set to relate."""
        if operator not in ("&&", "||") and (_is_split(left) or _is_split(right)):
            raise _refuse(operator, f"{operator} between spansets that by() has split is not supported; use coalesce()")

    @staticmethod
    def metric(function: Token, fields: list[Any], quantiles: tuple[float, ...], by: tuple[Any, ...]) -> None:
        """A value must be a number; groups are few; quantiles lie between 0 and 1."""
        if fields and type_of(fields[0]) not in _NUMERIC:
            raise _refuse(function, f"the field of {function}() must be a number: {fields[0]}")
        if len(by) > _MOST_GROUPS:
            raise _refuse(function, f"by() takes at most {_MOST_GROUPS} fields")
        if any(not 0 <= quantile <= 1 for quantile in quantiles):
            raise _refuse(function, "a quantile must lie between 0 and 1")


def _has_aggregate(scalar: Scalar) -> bool:
    if isinstance(scalar, ScalarOperation):
        return _has_aggregate(scalar.left) or _has_aggregate(scalar.right)
    return isinstance(scalar, Aggregate)


def _is_split(spanset: Any) -> bool:
    """Whether a spanset expression can give more than one spanset for one."""
    if isinstance(spanset, Filter | SetOperation):
        return False
    split = False
    for stage in spanset.stages if isinstance(spanset, Pipeline) else ():
        if isinstance(stage, GroupBy) or (isinstance(stage, Pipeline) and _is_split(stage)):
            split = True
        elif isinstance(stage, Coalesce):
            split = False
    return split
