"""How values compare and combine.

What is missing compares with nothing, not even as unequal. Numbers and durations are of one kind; otherwise
types must be the same. Of a list, one element is enough; for `!=` and `!~` all must do.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from .literals import format_duration
from .model import Duration, Kind, Several, Status, Value

Test = Callable[[Any, Any], bool]

NUMERIC: Any = frozenset({int, float, Duration})
_NEGATED = frozenset({"!=", "!~"})
_EQUALITY: dict[str, Test] = {"=": operator.eq, "!=": operator.ne}
_ORDERED: dict[str, Test] = _EQUALITY | {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_ONLY_EQUALITY = frozenset({bool, Status, Kind})
_SCALARS = NUMERIC | _ONLY_EQUALITY | {str}
_LARGEST = 1 << 63
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


def is_number(value: Any) -> bool:
    """Whether it is one, or a duration."""
    return value.__class__ in NUMERIC


def from_stored(value: Any) -> Value:
    """A value as storage has it in JSON. Maps and bytes are kept as something that compares with nothing."""
    if value.__class__ is list:
        return [from_stored(item) for item in value]
    if value.__class__ is dict and "$float" in value and len(value) == 1:
        return float(value["$float"])
    return value


def to_plain(value: Value) -> Value:
    """A value as results give it."""
    kind = type(value)
    if kind is Duration:
        return format_duration(value)
    if kind is Status or kind is Kind:
        return str.__str__(value)
    if kind is Several:
        return to_plain(value[0]) if value else None
    return value


def comparison(name: str) -> Test:
    """What compares two values with one of `= != < <= > >=`."""
    ordered = _ORDERED[name]
    equality = _EQUALITY.get(name)
    mirrored = None
    everything = name in _NEGATED

    def compare(left: Any, right: Any) -> bool:
        kind, other = left.__class__, right.__class__
        if kind in NUMERIC and other in NUMERIC:
            return bool(ordered(left, right))
        if kind is other:
            if kind is str:
                return bool(ordered(left, right))
            if kind in _ONLY_EQUALITY:
                return equality is not None and bool(equality(left, right))
        if kind is Several:
            return any(compare(item, right) for item in left)
        if other is Several:
            return any(compare(left, item) for item in right)
        if kind is list and other in _SCALARS:
            return (all if everything else any)(compare(item, right) for item in left)
        if other is list and kind in _SCALARS:
            nonlocal mirrored
            mirrored = mirrored or comparison(_MIRRORED.get(name, name))
            return mirrored(right, left)
        return False

    return compare


def matching(fullmatch: Callable[[str], bool], *, negated: bool) -> Callable[[Any], bool]:
    """What tests a value against a regular expression."""

    def test(value: Any) -> bool:
        kind = value.__class__
        if kind is str:
            return fullmatch(value) is not negated
        if kind is Several:
            return any(map(test, value))
        if kind is list:
            return (all if negated else any)(map(test, value))
        return False

    return test


def arithmetic(name: str) -> Callable[[Any, Any], Value]:
    """What combines two numbers with one of `+ - * / % ^`; None where one isn't a number.

    Two whole numbers give a whole one, anything else a float; durations count as nanoseconds.
    """
    whole, real = _WHOLE[name], _REAL[name]

    def combine(left: Any, right: Any) -> Value:
        left, right = first(left), first(right)
        if not (is_number(left) and is_number(right)):
            return None
        try:
            if left.__class__ is int and right.__class__ is int:
                value = whole(left, right)
                return value if value is None or -_LARGEST <= value < _LARGEST else float(value)
            return real(float(left), float(right))
        except (OverflowError, ValueError):
            return None

    return combine


def first(value: Value) -> Value:
    """The first of several."""
    return (value[0] if value else None) if value.__class__ is Several else value


def _divide(left: int, right: int) -> int | None:
    """Towards zero, as Go does."""
    if right == 0:
        return None
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def _remainder(left: int, right: int) -> int | None:
    quotient = _divide(left, right)
    return None if quotient is None else left - right * quotient


def _power(left: int, right: int) -> int | float:
    """Of whole numbers while it stays small."""
    if right < 0 or right * max(1, abs(left).bit_length()) > 128:  # bits: past it a float anyway
        return math.pow(left, right)
    return int(left**right)


def _quotient(left: float, right: float) -> float:
    if right:
        return left / right
    return math.nan if left == 0 or math.isnan(left) else math.copysign(math.inf, left) * math.copysign(1, right)


_WHOLE: dict[str, Callable[[int, int], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": _divide, "%": _remainder, "^": _power,
}  # fmt: skip
_REAL: dict[str, Callable[[float, float], float]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": _quotient,
    "%": lambda left, right: math.fmod(left, right) if right else math.nan, "^": math.pow,
}  # fmt: skip
