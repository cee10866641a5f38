"""Metrics of TraceQL by the most direct reading: for each step all spans that began in it, looked at one by one."""

import math
from collections import Counter, defaultdict

from tk_naive import NIL, NUMBERS, TRUE, attribute, evaluate, intrinsic, key, one, typed

from tracekeep.exporter.traceql import model
from tracekeep.exporter.traceql.literals import format_duration


def told(found):
    """A list of series as the naive computation gives them."""
    return {frozen(each.labels): {sample.time_ns: sample.value for sample in each.samples} for each in found}


def frozen(value):
    return tuple(map(frozen, value)) if isinstance(value, list | tuple) else value


def assert_same(one, other):
    one, other = ({repr(labels): points for labels, points in each.items()} for each in (one, other))
    assert one.keys() == other.keys()
    for labels, points in one.items():
        assert points.keys() == other[labels].keys(), labels
        for end, value in points.items():
            assert math.isclose(value, other[labels][end], rel_tol=1e-9), (labels, end)


def series(naive, query, ends, step, seconds):
    """{labels: {end of step: value}} of a query, for the steps that end at some times; without those of no value."""
    since, until = ends[0] - step + 1, ends[-1] + 1
    found = [
        (span, naive.families[trace_id]) for trace_id, members, _ in naive.sets(query, since, until) for span in members
    ]
    if isinstance(query.metric, model.Comparison):
        lines = compared(query.metric, found, ends, step)
    else:
        lines = measured(query.metric, found, ends, step, seconds)
    for stage in query.then:
        lines = ranked(stage, lines, ends) if isinstance(stage, model.Ranking) else limited(stage, lines)
        lines = {labels: points for labels, points in lines.items() if points}
    return lines


def measured(metric, found, ends, step, seconds):
    groups = defaultdict(list)
    for span, family in found:
        values = [(str(field), one(look_up(field, span, family))) for field in metric.by]
        labels = tuple((name, shown(value)) for name, value in values if value != NIL)
        if metric.by and not labels:
            labels = ((str(metric.by[0]), "nil"),)
        groups[tuple(key(value) for _name, value in values)].append((labels, span, family))
    if not metric.by and not groups:
        groups[()] = []
    lines = {}
    for members in groups.values():
        labels = members[0][0] if members else ()
        by_step = {end: [(s, f) for _, s, f in members if end - step < s.start_ns <= end] for end in ends}
        for further, points in points_of(metric, by_step, seconds).items():
            lines[labels + further or (("__name__", metric.function),)] = points
    return lines


def points_of(metric, by_step, seconds):
    """{further labels: {end: value}} of one group."""
    name = metric.function
    if name in ("rate", "count_over_time"):
        return {(): {end: len(spans) / (seconds if name == "rate" else 1) for end, spans in by_step.items()}}
    values = {
        end: [one(look_up(metric.field, span, family)) for span, family in spans] for end, spans in by_step.items()
    }
    if name in ("histogram_over_time", "quantile_over_time"):
        buckets = {
            end: Counter(bucket for value in each if (bucket := bucket_of(value)) is not None)
            for end, each in values.items()
        }
        bounds = sorted({bound for counts in buckets.values() for bound in counts})
        if name == "histogram_over_time":
            return {(("__bucket", bound),): {end: float(buckets[end][bound]) for end in by_step} for bound in bounds}
        return {
            (("p", quantile),): {end: quantile_of(quantile, buckets[end]) for end in by_step}
            for quantile in (metric.quantiles if bounds else ())
        }
    numbers = {
        end: [number for value in each if (number := number_of(value)) is not None] for end, each in values.items()
    }
    reduce = {"min": min, "max": max, "sum": sum, "avg": lambda each: sum(each) / len(each)}
    return {(): {end: reduce[name[:3]](each) for end, each in numbers.items() if each}}


def look_up(field, span, family):
    return (attribute if isinstance(field, model.Attribute) else lambda f, *rest: intrinsic(f.name, *rest))(
        field, span, family
    )


def number_of(value):
    kind, plain = value
    if kind not in NUMBERS or math.isnan(plain):
        return None
    return plain / 1e9 if kind == "duration" else float(plain)


def bucket_of(value):
    kind, plain = value
    if kind not in NUMBERS or not 0 < plain < math.inf:
        return None
    bound = 1.0
    while bound < plain:
        bound *= 2
    while bound / 2 >= plain:
        bound /= 2
    return bound / 1e9 if kind == "duration" else bound


def quantile_of(quantile, counts):
    """All spans lined up by bucket; the wanted one is between the bounds, by its place among those of its bucket."""
    line = [bound for bound in sorted(counts) for _ in range(counts[bound])]
    if not line:
        return 0.0
    rank = max(1, math.ceil(quantile * len(line)))
    upper = line[rank - 1]
    smaller = [bound for bound in line if bound < upper]
    lower = smaller[-1] if smaller else upper / 2
    share = (rank - len(smaller)) / counts[upper]
    return 2 ** (math.log2(lower) + (math.log2(upper) - math.log2(lower)) * share)


def shown(value):
    kind, plain = value
    if kind == "duration":
        return format_duration(plain)
    return tuple(shown(each) for each in plain) if kind == "list" else plain


def ranked(stage, lines, ends):
    kept = {labels: {} for labels in lines}
    for end in ends:
        present = [(points[end], str(labels), labels) for labels, points in lines.items() if end in points]
        present.sort(key=lambda each: (each[0] if stage.smallest else -each[0], each[1]))
        for value, _text, labels in present[: stage.limit]:
            kept[labels][end] = value
    return kept


def limited(stage, lines):
    holds = {
        "=": lambda a, b: a == b, "!=": lambda a, b: a != b, "<": lambda a, b: a < b, "<=": lambda a, b: a <= b,
        ">": lambda a, b: a > b, ">=": lambda a, b: a >= b,
    }[stage.operator]  # fmt: skip
    return {
        labels: {end: value for end, value in points.items() if holds(value, stage.value)}
        for labels, points in lines.items()
    }


def compared(comparison, found, ends, step):
    counts = {
        "baseline": defaultdict(lambda: defaultdict(Counter)),
        "selection": defaultdict(lambda: defaultdict(Counter)),
    }
    for span, family in found:
        condition = comparison.selection.condition
        inside = condition is None or evaluate(condition, span, family) == TRUE
        if comparison.until_ns and not comparison.since_ns <= span.start_ns < comparison.until_ns:
            inside = False
        end = next(end for end in ends if end - step < span.start_ns <= end)
        for name, value in attributes_of(span):
            counts["selection" if inside else "baseline"][name][key(value)][end] += 1
    lines, crowded = {}, set()
    for side, attributes in counts.items():
        for name, values in attributes.items():
            order = sorted(values.items(), key=lambda item: (-item[1].total(), repr(plain_of(item[0]))))
            for value, by_end in order[: comparison.top]:
                lines[("__meta_type", side), (name, plain_of(value))] = {end: float(by_end[end]) for end in ends}
            total = sum(values.values(), Counter())
            lines[("__meta_type", f"{side}_total"), (name, "nil")] = {end: float(total[end]) for end in ends}
            if len(values) > comparison.top:
                crowded.add(name)
    return lines | {(("__meta_error", "__too_many_values__"), (name, "nil")): {} for name in crowded}


def plain_of(group):
    kind, plain = group
    if kind == "list":
        return tuple(plain_of(each) for each in plain)
    return float(plain) if kind == "float" else plain


def attributes_of(span):
    yield from (("name", typed(span.name)), ("status", ("status", span.status)), ("kind", ("kind", span.kind)))
    if span.status_message is not None:
        yield "statusMessage", typed(span.status_message)
    for scope, holders in (
        ("resource", [span.resource]),
        ("span", [span.attributes]),
        ("instrumentation", [span.scope.get("attributes") or {}]),
        ("event", [event["attributes"] for event in span.events]),
        ("link", [link["attributes"] for link in span.links]),
    ):
        for holder in holders:
            for name, value in holder.items():
                if typed(value)[0] not in ("nil", "other"):
                    yield f"{scope}.{name}", typed(value)
