"""From conditions of a query to conditions that storage can answer, at least as wide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from ...storage.conditions import All, Anything, Condition, Either, OnAttribute, OnColumn, OnDetails, OnOperation
from ...storage.layout import SLOW_INDEX_NS
from ...storage.records import StatusCode
from ...storage.tracing import StoredOperation, StoredSpan, stored_id
from .expressions import compile_expression, is_of_the_span, is_root_test
from .fields import Getter
from .model import (
    Attribute,
    Binary,
    Expression,
    Field,
    Filter,
    Intrinsic,
    Junction,
    Literal,
    Pipeline,
    SetOperation,
    Unary,
)
from .patterns import compile_pattern
from .values import is_number

_NOTHING = Either(())
_NO_OPERATION = StoredOperation("", "internal", "", {}, {})
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "!=": "!="}
_EXACT = 10**15
"""Whole numbers up to this are written alike as integers and as floats, but for what follows."""
_OF_OPERATION = frozenset({"name", "kind", "instrumentation:name", "instrumentation:version"})
_OF_COLUMNS = frozenset({"duration", "status"})
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Candidates:
    """Which spans make their traces worth a look."""

    condition: Condition
    test: Callable[[StoredSpan], bool] | None
    """What the spans are then tested with, where a span alone can tell."""


def candidates(pipeline: Pipeline) -> Candidates:
    """What at least one span of every trace that a pipeline finds must fulfil."""
    leaves = _leaves(pipeline)
    if leaves is None:
        return Candidates(Anything(), None)
    conditions = [leaf.condition for leaf in leaves]
    condition = _either([widen(each) for each in conditions])
    if not all(map(is_of_the_span, conditions)):
        return Candidates(condition, None)
    tests = [compile_expression(each) for each in conditions if each is not None]
    if len(tests) < len(conditions):
        return Candidates(condition, None)
    return Candidates(condition, lambda span: any(test(span, None) is True for test in tests))


def _leaves(spanset: Any) -> list[Filter] | None:
    """Filters one of which must match a span; None where none need to."""
    if isinstance(spanset, Filter):
        return [spanset]
    if isinstance(spanset, Pipeline):
        return _leaves(spanset.stages[0]) if spanset.stages else None
    if not isinstance(spanset, SetOperation):
        return None
    left, right = _leaves(spanset.left), _leaves(spanset.right)
    if spanset.operator == "||":
        return None if left is None or right is None else left + right
    if spanset.operator.startswith("!"):
        return right
    if left is None or right is None:
        return left or right
    return min(right, left, key=lambda leaves: max(_width(widen(leaf.condition)) for leaf in leaves))


def _width(condition: Condition) -> int:
    """A guess at how much a condition lets through."""
    if isinstance(condition, All):
        return min(map(_width, condition.parts))
    if isinstance(condition, Either):
        return max(map(_width, condition.parts), default=0)
    return 2 if isinstance(condition, Anything) else 1


def widen(expression: Expression | None) -> Condition:
    """What storage can ask in place of an expression: holds for all spans for which that does."""
    if expression is None:
        return Anything()
    if isinstance(expression, Literal):
        return Anything() if expression.value is True else _NOTHING
    if isinstance(expression, Junction):
        parts = [widen(operand) for operand in expression.operands]
        return _all(parts) if expression.operator == "&&" else _either(parts)
    if isinstance(expression, Attribute):
        return _of_attribute(expression, expression, _Written(("true",), whole=True))
    if isinstance(expression, Unary):
        return _exists(expression) if expression.operator == "exists" else Anything()
    if isinstance(expression, Binary):
        return _comparison(expression)
    return Anything()


def is_exact(expression: Expression | None) -> bool:
    """Whether what storage can ask in place of an expression holds for no other spans."""
    if isinstance(expression, Junction):
        return all(map(is_exact, expression.operands))
    if isinstance(expression, Unary):
        return expression.operator == "exists" and is_of_operation(expression.operand)
    if isinstance(expression, Binary):
        field, other = expression.left, expression.right
        if isinstance(field, Literal) and expression.operator in _MIRRORED:
            field, other = other, field
        if not isinstance(other, Literal):
            return False
        if is_root_test(expression) or is_of_operation(field):
            return True
        return isinstance(field, Intrinsic) and field.name in _OF_COLUMNS
    return expression is None or isinstance(expression, Literal)


def is_of_operation(field: Expression) -> bool:
    """Whether a field is the same for all spans of one operation."""
    if isinstance(field, Attribute):
        return field.scope in ("resource", "instrumentation") and not field.of_parent
    return isinstance(field, Intrinsic) and field.name in _OF_OPERATION


def _all(parts: list[Condition]) -> Condition:
    parts = [part for part in parts if not isinstance(part, Anything)]
    return All(parts) if len(parts) > 1 else parts[0] if parts else Anything()


def _either(parts: list[Condition]) -> Condition:
    if any(isinstance(part, Anything) for part in parts):
        return Anything()
    return parts[0] if len(parts) == 1 else Either(parts)


def _exists(expression: Unary) -> Condition:
    if isinstance(expression.operand, Attribute):
        return _of_attribute(expression.operand, expression, _Written())
    return Anything()


def _comparison(expression: Binary) -> Condition:
    if is_root_test(expression):
        return OnColumn("parent_id", "IS", None)
    field, operator, literal = expression.left, expression.operator, expression.right
    if isinstance(field, Literal) and operator in _MIRRORED:
        field, operator, literal = literal, _MIRRORED[operator], field
    if not isinstance(literal, Literal):
        return Anything()
    if isinstance(field, Attribute):
        return _of_attribute(field, expression, _written(operator, literal.value))
    if isinstance(field, Intrinsic):
        return _of_intrinsic(field, operator, literal.value, expression)
    return Anything()


# --- attributes ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Written:
    """Texts one of which stands in the JSON of a value that passes; none where that can't be told."""

    texts: tuple[str, ...] = ()
    whole: bool = False


def _written(operator: str, value: Any) -> _Written:
    if operator == "=~":
        pattern = compile_pattern(value)
        if pattern.literals is not None:
            return _Written(tuple(_json(text) for text in sorted(pattern.literals)), whole=True)
        return _Written((_json(pattern.within)[1:-1],) if pattern.within else ())
    if operator != "=" or value.__class__ not in (str, bool, int) or (value.__class__ is int and abs(value) >= _EXACT):
        return _Written()
    return _Written((_json(value),), whole=True)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _of_attribute(field: Attribute, expression: Expression, written: _Written) -> Condition:
    if field.of_parent:
        return Anything()
    test = compile_expression(expression)
    own = OnAttribute(field.name, _on_value(test, field.name), written.texts, written.whole)
    details = OnDetails(msgspec.json.encode(field.name).decode() + ":")
    if field.scope == "span":
        return own
    if field.scope in ("event", "link"):
        return details
    if field.scope in ("resource", "instrumentation"):
        return OnOperation(_on_operation(test))
    return Either((own, OnOperation(_on_operation(test)), details))


def _on_value(test: Getter, key: str) -> Callable[[Any], bool]:
    return lambda value: test(StoredSpan(b"", 0, None, _NO_OPERATION, {key: value}, 0, 0, 0, None, None), None) is True


def _on_operation(test: Getter) -> Callable[[StoredOperation], bool]:
    return lambda operation: test(StoredSpan(b"", 0, None, operation, {}, 0, 0, 0, None, None), None) is True


# --- intrinsics ---------------------------------------------------------------------------------------------------


def _of_intrinsic(field: Field, operator: str, value: Any, expression: Expression) -> Condition:
    name = str(field)
    if name in _OF_OPERATION:
        return OnOperation(_on_operation(compile_expression(expression)))
    if name == "duration" and operator in _MIRRORED and is_number(value):
        asked = OnColumn("duration", operator, value)
        if operator in (">", ">=") and value >= SLOW_INDEX_NS:  # in the words that the partial index knows, too
            return All((OnColumn("duration", ">=", SLOW_INDEX_NS, "spans_slow"), asked))
        return asked
    if name == "status" and operator in ("=", "!="):
        code = int(StatusCode[str.__str__(value).upper()])
        return OnColumn("status", operator, code, "spans_error" if operator == "=" and value == "error" else None)
    if operator != "=" or value.__class__ is not str:
        return OnDetails('"events":') if name.startswith("event:") else Anything()
    return _of_text(name, value)


def _of_text(name: str, value: str) -> Condition:
    """Intrinsics that equal a text."""
    if name in ("event:name", "link:traceID", "link:spanID") or (name == "statusMessage" and value):
        return OnDetails(msgspec.json.encode(value).decode())
    is_id = set(value) <= _HEX
    if name in ("span:id", "span:parentID", "parent") and is_id and len(value) == 16:  # digits
        return OnColumn("span_id" if name == "span:id" else "parent_id", "=", stored_id(value))
    if name == "span:parentID" and not value:
        return OnColumn("parent_id", "IS", None)
    if name == "trace:id":
        return OnColumn("trace_id", "=", bytes.fromhex(value)) if is_id and len(value) == 32 else _NOTHING
    return Anything()
