"""Expressions: from the model to functions of a span and its trace."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...storage.tracing import StoredSpan
from . import patterns
from .fields import Getter, getter, needs_trace
from .model import Attribute, Binary, Duration, Expression, Field, Intrinsic, Junction, Literal, Unary, Value
from .values import NUMERIC, arithmetic, comparison, first, matching

_ARITHMETIC = frozenset("+-*/%^")


def compile_expression(expression: Expression) -> Getter:
    """What gives an expression's value for a span; None where there is none."""
    if isinstance(expression, Literal):
        value = expression.value
        return lambda _span, _trace: value
    if isinstance(expression, Attribute | Intrinsic):
        return getter(expression)
    if isinstance(expression, Junction):
        return _junction(expression)
    if isinstance(expression, Unary):
        return _unary(expression)
    return _binary(expression)


def fields_of(expression: Expression) -> Iterator[Field]:
    """The fields that an expression refers to, in the order of writing."""
    if isinstance(expression, Attribute | Intrinsic):
        yield expression
    elif isinstance(expression, Binary):
        yield from fields_of(expression.left)
        yield from fields_of(expression.right)
    elif isinstance(expression, Junction):
        for operand in expression.operands:
            yield from fields_of(operand)
    elif isinstance(expression, Unary):
        yield from fields_of(expression.operand)


def is_of_the_span(expression: Expression | None) -> bool:
    """Whether a span alone is enough to tell."""
    if isinstance(expression, Junction):
        return all(map(is_of_the_span, expression.operands))
    if expression is None or (isinstance(expression, Binary) and is_root_test(expression)):
        return True
    return not any(map(needs_trace, fields_of(expression)))


def is_root_test(expression: Binary) -> bool:
    """Whether it says no more than that a span is a root, such as `nestedSetParent < 0`: no other's is negative."""
    field, operator, literal = expression.left, expression.operator, expression.right
    if operator not in ("<", "<=", "=") or str(field) != "nestedSetParent" or not isinstance(literal, Literal):
        return False
    if literal.value.__class__ not in NUMERIC:
        return False
    holds = comparison(operator)
    return holds(-1, literal.value) and not holds(0, literal.value)


def _junction(expression: Junction) -> Getter:
    operands = [compile_expression(operand) for operand in expression.operands]
    if expression.operator == "&&":

        def both(span: StoredSpan, trace: Any) -> bool:
            return all(operand(span, trace) is True for operand in operands)

        return both

    def either(span: StoredSpan, trace: Any) -> bool:
        return any(operand(span, trace) is True for operand in operands)

    return either


def _unary(expression: Unary) -> Getter:
    operand, operator = compile_expression(expression.operand), expression.operator
    if operator == "exists":
        return lambda span, trace: operand(span, trace) is not None
    if operator == "missing":
        return lambda span, trace: operand(span, trace) is None
    return _not(operand) if operator == "!" else _minus(operand)


def _not(operand: Getter) -> Getter:
    def negate(span: StoredSpan, trace: Any) -> Value:
        value = first(operand(span, trace))
        return not value if value.__class__ is bool else None

    return negate


def _minus(operand: Getter) -> Getter:
    def negate(span: StoredSpan, trace: Any) -> Value:
        value = first(operand(span, trace))
        if value.__class__ is Duration:
            return Duration(-value)
        return -value if value.__class__ in NUMERIC else None

    return negate


def _binary(expression: Binary) -> Getter:
    if is_root_test(expression):
        return lambda span, _trace: span.parent_id is None
    left, name = compile_expression(expression.left), expression.operator
    if name in ("=~", "!~") and isinstance(expression.right, Literal):
        test = matching(patterns.compile_pattern(expression.right.value).fullmatch, negated=name == "!~")
        return lambda span, trace: test(left(span, trace))
    combine = arithmetic(name) if name in _ARITHMETIC else comparison(name)
    if isinstance(expression.right, Literal):
        value = expression.right.value
        return lambda span, trace: combine(left(span, trace), value)
    right = compile_expression(expression.right)
    return lambda span, trace: combine(left(span, trace), right(span, trace))
