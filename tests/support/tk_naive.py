"""TraceQL by the most direct reading of what it means, over span views: slow, and written apart from the engine.

A value is a pair of a type's name and a plain value. Spans of a trace are compared with each other one by one.
"""

import math
import re
from collections import defaultdict
from fractions import Fraction

from tracekeep.exporter.traceql import model

NIL = ("nil", None)
TRUE, FALSE = ("bool", True), ("bool", False)
NUMBERS = ("int", "float", "duration")


def typed(value):
    """A value as an attribute has it."""
    if value is None:
        return NIL
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, int):
        return ("int", value)
    if isinstance(value, float):
        return ("float", value)
    if isinstance(value, str):
        return ("string", value)
    if isinstance(value, (list, tuple)):
        return ("list", [typed(each) for each in value])
    if isinstance(value, dict) and set(value) == {"$float"}:
        return ("float", float(value["$float"]))
    return ("other", repr(value))


def literal(value):
    names = {model.Duration: "duration", model.Status: "status", model.Kind: "kind"}
    return (names[type(value)], value) if type(value) in names else typed(value)


def many(values):
    """One value for each event or link; nothing where there is none."""
    found = [each for each in values if each != NIL]
    return ("many", found) if found else NIL


class Family:
    """A trace's views, and who is whose relative."""

    def __init__(self, views):
        self.spans = sorted(views, key=lambda s: (s.start_ns, -s.duration_ns, signed(s.span_id)))
        self.numbers = {}
        self._counter = 0
        for span in self.spans:
            if span.parent_span_id is None:
                self._number(span, -1, set())

    def parent(self, span):
        for other in self.spans:
            if other.span_id == span.parent_span_id:
                return None if other is span else other
        return None

    def children(self, span):
        return [other for other in self.spans if other is not span and other.parent_span_id == span.span_id]

    def ancestors(self, span):
        found = []
        at = self.parent(span)
        while at is not None and at is not span and not any(at is each for each in found):
            found.append(at)
            at = self.parent(at)
        return found

    def root(self):
        return next((span for span in self.spans if span.parent_span_id is None), None)

    def duration(self):
        return max(s.start_ns + s.duration_ns for s in self.spans) - min(s.start_ns for s in self.spans)

    def _number(self, span, parent, met):
        met.add(id(span))
        self._counter += 1
        left = self._counter
        for child in self.spans:
            if id(child) not in met and self.parent(child) is span:
                self._number(child, left, met)
        self._counter += 1
        self.numbers[id(span)] = (left, self._counter, parent)


def signed(span_id):
    number = int(span_id, 16)
    return number - (1 << 64) if number >> 63 else number


# --- expressions ----------------------------------------------------------------------------------------------------


def evaluate(expression, span, family):
    """The value of an expression for a span."""
    if isinstance(expression, model.Literal):
        return literal(expression.value)
    if isinstance(expression, model.Attribute):
        return attribute(expression, span, family)
    if isinstance(expression, model.Intrinsic):
        return intrinsic(expression.name, span, family)
    if isinstance(expression, model.Junction):
        each = [evaluate(operand, span, family) == TRUE for operand in expression.operands]
        return ("bool", all(each) if expression.operator == "&&" else any(each))
    if isinstance(expression, model.Unary):
        return unary(expression.operator, evaluate(expression.operand, span, family))
    left, right = (evaluate(side, span, family) for side in (expression.left, expression.right))
    if expression.operator in "+-*/%^":
        return combine(expression.operator, left, right)
    return ("bool", holds(expression.operator, left, right))


def unary(operator, value):
    if operator == "exists":
        return ("bool", value != NIL)
    if operator == "missing":
        return ("bool", value == NIL)
    kind, plain = one(value)
    if operator == "!":
        return ("bool", not plain) if kind == "bool" else NIL
    return (kind, -plain) if kind in NUMBERS else NIL


def one(value):
    return value[1][0] if value[0] == "many" else value


def attribute(wanted, span, family):
    if wanted.of_parent:
        span = family.parent(span)
        if span is None:
            return NIL
    name = wanted.name
    places = {
        "span": lambda: typed(span.attributes.get(name)),
        "resource": lambda: typed(span.resource.get(name)),
        "event": lambda: many(typed(event["attributes"].get(name)) for event in span.events),
        "link": lambda: many(typed(link["attributes"].get(name)) for link in span.links),
        "instrumentation": lambda: typed((span.scope.get("attributes") or {}).get(name)),
    }
    if wanted.scope:
        return places[wanted.scope]()
    return next((found for place in places.values() if (found := place()) != NIL), NIL)


def intrinsic(name, span, family):
    root, numbers = family.root(), family.numbers.get(id(span), (0, 0, 0))
    return {
        "name": lambda: ("string", span.name),
        "duration": lambda: ("duration", span.duration_ns),
        "status": lambda: ("status", span.status),
        "statusMessage": lambda: ("string", span.status_message or ""),
        "kind": lambda: ("kind", span.kind),
        "parent": lambda: typed(span.parent_span_id),
        "span:id": lambda: ("string", span.span_id),
        "span:parentID": lambda: ("string", span.parent_span_id or ""),
        "trace:id": lambda: ("string", span.trace_id),
        "traceDuration": lambda: ("duration", family.duration()),
        "rootName": lambda: ("string", root.name if root else ""),
        "rootServiceName": lambda: ("string", root.service if root else ""),
        "childCount": lambda: ("int", len(family.children(span))),
        "nestedSetLeft": lambda: ("int", numbers[0]),
        "nestedSetRight": lambda: ("int", numbers[1]),
        "nestedSetParent": lambda: ("int", numbers[2]),
        "event:name": lambda: many(("string", event["name"]) for event in span.events),
        "event:timeSinceStart": lambda: many(("duration", event["time_ns"] - span.start_ns) for event in span.events),
        "link:traceID": lambda: many(("string", link["trace_id"]) for link in span.links),
        "link:spanID": lambda: many(("string", link["span_id"]) for link in span.links),
        "instrumentation:name": lambda: ("string", span.scope.get("name") or ""),
        "instrumentation:version": lambda: ("string", span.scope.get("version") or ""),
    }[name]()


def holds(operator, left, right):
    """Whether a comparison does; of several events' values one is enough, of a list's as well, but for negations."""
    for several, compare in (
        (left, lambda each: holds(operator, each, right)),
        (right, lambda each: holds(operator, left, each)),
    ):
        if several[0] == "many":
            return any(compare(each) for each in several[1])
    lists = [side for side in (left, right) if side[0] == "list"]
    if lists and len(lists) == 1:
        other = right if lists[0] is left else left
        if other[0] in ("nil", "other"):
            return False
        verdicts = [
            holds(operator, each, right) if lists[0] is left else holds(operator, left, each) for each in lists[0][1]
        ]
        return all(verdicts) if operator in ("!=", "!~") else any(verdicts)
    if lists or NIL in (left, right):
        return False
    kinds = {left[0], right[0]}
    numeric = kinds <= set(NUMBERS)
    if not numeric and (len(kinds) > 1 or "other" in kinds):
        return False
    one_side, other_side = left[1], right[1]
    if operator in ("=", "!="):
        return (one_side == other_side) == (operator == "=")
    if operator in ("=~", "!~"):
        return kinds == {"string"} and bool(re.fullmatch(other_side, one_side, re.DOTALL)) == (operator == "=~")
    if not numeric and kinds != {"string"}:
        return False
    return {
        "<": one_side < other_side, "<=": one_side <= other_side, ">": one_side > other_side,
        ">=": one_side >= other_side,
    }[operator]  # fmt: skip


def combine(operator, left, right):
    """Whole numbers stay whole, towards zero; anything else becomes a float; nothing comes of what isn't a number."""
    (kind, one_side), (other_kind, other_side) = one(left), one(right)
    if kind not in NUMBERS or other_kind not in NUMBERS:
        return NIL
    if kind == other_kind == "int":
        return whole(operator, one_side, other_side)
    one_side, other_side = float(one_side), float(other_side)
    try:
        if operator == "/":
            if other_side:
                return ("float", one_side / other_side)
            if one_side == 0 or math.isnan(one_side):
                return ("float", math.nan)
            return ("float", math.copysign(math.inf, one_side) * math.copysign(1, other_side))
        if operator == "%":
            return ("float", math.fmod(one_side, other_side) if other_side else math.nan)
        if operator == "^":
            return ("float", math.pow(one_side, other_side))
        return ("float", {"+": one_side + other_side, "-": one_side - other_side, "*": one_side * other_side}[operator])
    except (OverflowError, ValueError):
        return NIL


def whole(operator, left, right):
    if operator in "/%" and right == 0:
        return NIL
    try:
        value = {
            "+": lambda: left + right,
            "-": lambda: left - right,
            "*": lambda: left * right,
            "/": lambda: math.trunc(Fraction(left, right)),
            "%": lambda: left - right * math.trunc(Fraction(left, right)),
            "^": lambda: left**right if 0 <= right < 64 else math.pow(left, right),
        }[operator]()
    except (OverflowError, ValueError):
        return NIL
    return ("int", value) if isinstance(value, int) and -(1 << 63) <= value < 1 << 63 else ("float", float(value))


# --- spansets -------------------------------------------------------------------------------------------------------


def run(stage, sets, family):
    """A stage's spansets: each (spans, attributes)."""
    if isinstance(stage, model.Pipeline):
        for each in stage.stages:
            sets = run(each, sets, family)
        return sets
    if isinstance(stage, model.Filter):
        kept = [([s for s in spans if passes(stage.condition, s, family)], notes) for spans, notes in sets]
        return [(spans, notes) for spans, notes in kept if spans]
    if isinstance(stage, model.SetOperation):
        kept = [(operate(stage, (spans, notes), family), notes) for spans, notes in sets]
        return [(spans, notes) for spans, notes in kept if spans]
    if isinstance(stage, model.GroupBy):
        return [each for one_set in sets for each in grouped(stage, one_set, family)]
    if isinstance(stage, model.Coalesce):
        return [([span for spans, _notes in sets for span in spans], {})]
    if isinstance(stage, model.ScalarFilter):
        return [each for one_set in sets if (each := scalar_filtered(stage, one_set, family))]
    assert isinstance(stage, model.Select)
    return sets


def passes(condition, span, family):
    return condition is None or evaluate(condition, span, family) == TRUE


def operate(stage, one_set, family):
    left = [span for spans, _notes in run(stage.left, [one_set], family) for span in spans]
    right = [span for spans, _notes in run(stage.right, [one_set], family) for span in spans]
    if stage.operator == "&&":
        return distinct([*left, *right]) if left and right else []
    if stage.operator == "||":
        return distinct([*left, *right])
    relation = stage.operator.lstrip("!&")
    if stage.operator.startswith("!"):
        return [r for r in right if not any(related(relation, l, r, family) for l in left)]  # noqa: E741
    of_right = [r for r in right if any(related(relation, l, r, family) for l in left)]  # noqa: E741
    if not stage.operator.startswith("&"):
        return of_right
    return distinct([*of_right, *(l for l in left if any(related(relation, l, r, family) for r in right))])  # noqa: E741


def related(relation, left, right, family):
    if relation == ">":
        return family.parent(right) is left
    if relation == "<":
        return family.parent(left) is right
    if relation == ">>":
        return any(each is left for each in family.ancestors(right))
    if relation == "<<":
        return any(each is right for each in family.ancestors(left))
    return left is not right and left.parent_span_id is not None and left.parent_span_id == right.parent_span_id


def distinct(spans):
    return list({id(span): span for span in spans}.values())


def grouped(stage, one_set, family):
    spans, notes = one_set
    groups = defaultdict(list)
    for span in spans:
        groups[key(one(evaluate(stage.expression, span, family)))].append(span)
    return [(members, notes | {str(stage): group}) for group, members in groups.items()]


def key(value):
    kind, plain = value
    if kind == "list":
        return (kind, tuple(key(each) for each in plain))
    return (kind, repr(plain)) if kind == "float" else (kind, plain)


def scalar_filtered(stage, one_set, family):
    spans, notes = one_set
    left, right = (scalar(side, spans, family) for side in (stage.left, stage.right))
    if not holds(stage.operator, left, right):
        return None
    found = {str(each): key(scalar(each, spans, family)) for side in (stage.left, stage.right) for each in parts(side)}
    return spans, notes | found


def parts(side):
    if isinstance(side, model.ScalarOperation):
        return [*parts(side.left), *parts(side.right)]
    return [side] if isinstance(side, model.Aggregate) else []


def scalar(side, spans, family):
    if isinstance(side, model.Literal):
        return literal(side.value)
    if isinstance(side, model.ScalarOperation):
        return combine(side.operator, scalar(side.left, spans, family), scalar(side.right, spans, family))
    if side.function == "count":
        return ("int", len(spans))
    values = [one(evaluate(side.expression, span, family)) for span in spans]
    values = [value for value in values if value[0] in NUMBERS]
    if not values:
        return NIL
    if side.function in ("min", "max"):
        return (min if side.function == "min" else max)(values, key=lambda value: value[1])
    total = sum(plain for _kind, plain in values)
    if {kind for kind, _plain in values} == {"duration"}:
        return ("duration", total // len(values) if side.function == "avg" else total)
    return typed(total / len(values) if side.function == "avg" else total)


class Naive:
    """Evaluates queries over span views."""

    def __init__(self, views):
        traces = defaultdict(list)
        for view in views:
            traces[view.trace_id].append(view)
        self.families = {trace_id: Family(found) for trace_id, found in traces.items()}

    def sets(self, query, since, until):
        """(trace id, set of span ids, attributes of the set) of each spanset."""
        found = []
        for trace_id, family in self.families.items():
            spans = [span for span in family.spans if since <= span.start_ns < until]
            for members, notes in run(query.pipeline, [(spans, {})], family):
                if members:
                    found.append((trace_id, members, notes))
        return found

    def search(self, query, since=0, until=1 << 62):
        """Spansets as a sorted list of (trace id, span ids, names of attributes)."""
        return sorted(
            (trace_id, sorted(span.span_id for span in members), sorted(notes))
            for trace_id, members, notes in self.sets(query, since, until)
        )
