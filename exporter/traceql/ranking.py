"""What follows a metrics function: `topk`, `bottomk`, comparisons. Values that aren't wanted become NaN."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable

from .aggregation import Points
from .model import Ranking, SecondStage, Threshold, Value

Labels = tuple[tuple[str, Value], ...]
Lines = dict[Labels, Points]

_HOLDS: dict[str, Callable[[float, float], bool]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def apply(stages: tuple[SecondStage, ...], lines: Lines) -> Lines:
    """All stages in turn; series of which nothing is left are dropped."""
    for stage in stages:
        lines = _rank(stage, lines) if isinstance(stage, Ranking) else _compare(stage, lines)
        lines = {labels: points for labels, points in lines.items() if not all(map(math.isnan, points))}
    return lines


def _compare(stage: Threshold, lines: Lines) -> Lines:
    holds, value = _HOLDS[stage.operator], stage.value
    return {
        labels: [point if holds(point, value) else math.nan for point in points] for labels, points in lines.items()
    }


def _rank(stage: Ranking, lines: Lines) -> Lines:
    """At each step the largest or smallest values; of equal ones, those of the labels that sort first."""
    sign = 1 if stage.smallest else -1
    kept = {labels: [math.nan] * len(points) for labels, points in lines.items()}
    order = sorted(lines, key=str)
    for place in range(max(map(len, lines.values()), default=0)):
        present = [labels for labels in order if not math.isnan(lines[labels][place])]
        present.sort(key=lambda labels: sign * lines[labels][place])
        for labels in present[: stage.limit]:
            kept[labels][place] = lines[labels][place]
    return kept
