"""From tokens to the model, as the parser reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lark import Token, Transformer, v_args

from . import literals
from .checks import INTRINSICS, SCOPED_INTRINSICS, Checks
from .errors import TraceQLError
from .model import (
    Aggregate,
    Attribute,
    Binary,
    Coalesce,
    Comparison,
    Expression,
    Field,
    Filter,
    GroupBy,
    Intrinsic,
    Junction,
    Literal,
    Metric,
    Pipeline,
    Query,
    Ranking,
    ScalarFilter,
    ScalarOperation,
    Select,
    SetOperation,
    Threshold,
    Unary,
    Value,
)

_SCOPES = ("resource", "span", "event", "link", "instrumentation")
_SECOND = 1e9


def _at(token: Token, read: Callable[[str], Any]) -> Any:
    try:
        return read(str(token))
    except ValueError as error:
        raise TraceQLError(str(error), token.line or 1, token.column or 1) from None


def _error(message: str, token: Token) -> TraceQLError:
    return TraceQLError(message, token.line or 1, token.column or 1)


class Builder(Transformer[Token, Query]):
    """Makes the model; each method is named after a rule of the grammar."""

    # --- the whole -------------------------------------------------------------------------------------------------

    def query(self, parts: list[Any]) -> Query:
        hints = {name: value for part in parts if isinstance(part, dict) for name, value in part.items()}
        metrics = [part for part in parts if isinstance(part, Metric | Comparison)]
        then = tuple(part for part in parts if isinstance(part, Ranking | Threshold))
        stages = [part for part in parts if not isinstance(part, dict | Metric | Comparison | Ranking | Threshold)]
        if metrics and isinstance(metrics[0], Comparison) and then:
            raise TraceQLError("compare() can't be followed by topk, bottomk or a threshold")
        return Query(_pipeline(stages), metrics[0] if metrics else None, then, hints)

    def hints(self, parts: list[Any]) -> dict[str, Value]:
        return dict(parts)

    @v_args(inline=True)
    def hint(self, name: Token, value: Literal) -> tuple[str, Value]:
        return str(name), value.value

    # --- spansets --------------------------------------------------------------------------------------------------

    def set_operation(self, parts: list[Any]) -> SetOperation:
        left, operator, right = parts
        Checks.structural(operator, left, right)
        return SetOperation(str(operator), left, right)

    def metric_arithmetic(self, parts: list[Any]) -> Any:
        raise _error("arithmetic between metrics is not supported", parts[1])

    def filter(self, parts: list[Any]) -> Filter:
        condition = parts[0] if parts else None
        if condition is not None:
            Checks.condition(condition)
        return Filter(condition)

    def wrapped(self, parts: list[Any]) -> Any:
        return parts[0] if len(parts) == 1 and isinstance(parts[0], Filter | SetOperation) else Pipeline(tuple(parts))

    def wrapped_metric(self, _parts: list[Any]) -> Any:
        raise TraceQLError("metrics in parentheses, and arithmetic between them, are not supported")

    def by(self, parts: list[Any]) -> GroupBy:
        Checks.references_span(parts[0], "by()")
        return GroupBy(parts[0])

    def coalesce(self, _parts: list[Any]) -> Coalesce:
        return Coalesce()

    def select(self, parts: list[Any]) -> Select:
        return Select(tuple(parts))

    # --- scalars ---------------------------------------------------------------------------------------------------

    def scalar_filter(self, parts: list[Any]) -> ScalarFilter:
        left, operator, right = parts
        Checks.scalar_filter(operator, left, right)
        return ScalarFilter(str(operator), left, right)

    def scalar_operation(self, parts: list[Any]) -> ScalarOperation:
        left, operator, right = parts
        return ScalarOperation(str(operator), left, right)

    def number(self, parts: list[Any]) -> Literal:
        return Literal(_at(parts[0], _READ[parts[0].type]))

    def negative_number(self, parts: list[Any]) -> Literal:
        value = _at(parts[1], _READ[parts[1].type])
        return Literal(type(value)(-value))

    def wrapped_scalar(self, _parts: list[Any]) -> Any:
        raise TraceQLError("a comparison of whole pipelines is not supported: write {…} | count() > 3")

    def aggregate(self, parts: list[Any]) -> Aggregate:
        function, expression = str(parts[0]), parts[1] if len(parts) > 1 else None
        if expression is not None:
            Checks.aggregate(parts[0], expression)
        return Aggregate(function, expression)

    # --- metrics ---------------------------------------------------------------------------------------------------

    def metric(self, parts: list[Any]) -> Metric:
        function, *rest = parts
        by: tuple[Field, ...] = next((part for part in rest if isinstance(part, tuple)), ())
        fields = [part for part in rest if isinstance(part, Attribute | Intrinsic)]
        quantiles = tuple(part for part in rest if isinstance(part, float))
        Checks.metric(function, fields, quantiles, by)
        return Metric(str(function), fields[0] if fields else None, quantiles, by)

    def quantile(self, parts: list[Any]) -> float:
        return float(_at(parts[0], _READ[parts[0].type]))

    def group(self, parts: list[Any]) -> tuple[Field, ...]:
        return tuple(parts)

    def compare(self, parts: list[Any]) -> Comparison:
        selection, *numbers = [part for part in parts if part is not None]
        values = [_at(number, literals.integer) for number in numbers]
        top = values[0] if values else 10
        if top < 1:
            raise _error("the number of values in compare() must be positive", numbers[0])
        since, until = values[1:] if len(values) > 1 else (0, 0)
        if len(values) > 1 and not 0 < since < until:
            raise _error("the times in compare() must be positive, the second after the first", numbers[1])
        return Comparison(selection, top, since, until)

    compared = filter  # the method above, named after its rule

    def ranking(self, parts: list[Any]) -> Ranking:
        limit = _at(parts[1], literals.integer)
        if limit < 1:
            raise _error(f"the number in {parts[0]}() must be positive", parts[1])
        return Ranking(limit, parts[0].type == "BOTTOMK")

    def threshold(self, parts: list[Any]) -> Threshold:
        operator, *minus, token = [part for part in parts if part is not None]
        value = _at(token, _READ[token.type])
        number = value / _SECOND if token.type == "DURATION" else float(value)
        return Threshold(str(operator), -number if minus else number)

    # --- expressions -----------------------------------------------------------------------------------------------

    def binary(self, parts: list[Any]) -> Expression:
        left, operator, right = parts
        if operator in ("&&", "||"):
            Checks.junction(operator, left, right)
            if isinstance(left, Junction) and left.operator == operator:
                return Junction(left.operator, (*left.operands, right))
            return Junction(str(operator), (left, right))
        for one, other in ((left, right), (right, left)):
            if isinstance(other, Literal) and other.value is None:
                return self._nil(operator, one)
        Checks.binary(operator, left, right)
        return Binary(str(operator), left, right)

    @staticmethod
    def _nil(operator: Token, operand: Expression) -> Expression:
        if operator not in ("=", "!="):
            raise _error(f"nil can only be compared with = and !=, not {operator}", operator)
        if isinstance(operand, Literal) and operand.value is None:
            return Literal(False)
        return Unary("missing" if operator == "=" else "exists", operand)

    def unary(self, parts: list[Any]) -> Expression:
        operator, operand = parts
        Checks.unary(operator, operand)
        if operator == "-" and isinstance(operand, Literal):
            return Literal(type(operand.value)(-operand.value))
        return Unary(str(operator), operand)

    def attribute(self, parts: list[Any]) -> Attribute:
        text = str(parts[0])
        of_parent = text.startswith("parent.")
        rest = text.removeprefix("parent") if of_parent else text
        for scope in _SCOPES:
            for prefix in (f"{scope}.", f".{scope}.") if of_parent else (f"{scope}.",):
                if rest.startswith(prefix):
                    return Attribute(scope, self._name(parts[0], rest[len(prefix) :]), of_parent)
        return Attribute("", self._name(parts[0], rest[1:]), of_parent)

    @staticmethod
    def _name(token: Token, text: str) -> str:
        name: str = _at(Token.new_borrow_pos("NAME", text, token), literals.attribute_name)
        if not name:
            raise _error("an attribute without a name", token)
        return name

    def scoped_intrinsic(self, parts: list[Any]) -> Intrinsic:
        name = SCOPED_INTRINSICS.get(str(parts[0]))
        if name is None:
            raise _error(f"unknown intrinsic {parts[0]}", parts[0])
        return Intrinsic(name)

    def intrinsic(self, parts: list[Any]) -> Intrinsic:
        name = str(parts[0])
        if name not in INTRINSICS:
            raise _error(f"unknown identifier {name}", parts[0])
        return Intrinsic(name)

    # --- literals --------------------------------------------------------------------------------------------------

    def _literal(self, parts: list[Any]) -> Literal:
        return Literal(_at(parts[0], _READ[parts[0].type]))

    string = raw_string = integer = float = duration = keyword = _literal


_READ: dict[str, Callable[[str], Any]] = {
    "STRING": literals.string,
    "RAW_STRING": lambda text: text[1:-1].replace("\r", ""),
    "INTEGER": literals.integer,
    "FLOAT": float,
    "DURATION": literals.duration,
    "KEYWORD": literals.KEYWORDS.__getitem__,
}


def _pipeline(stages: list[Any]) -> Pipeline:
    return stages[0] if len(stages) == 1 and isinstance(stages[0], Pipeline) else Pipeline(tuple(stages))
