"""How sure a quantile is: intervals by order statistics, which assume nothing of the distribution.

Of n independent values the number below the q-quantile is binomial (n, q). So the l-th smallest is above the quantile
with probability P(B < l), and the u-th smallest below it with P(B >= u): the interval between them has the quantile
with at least the confidence asked for, whatever the values' distribution (it may have ties).
Source: Hahn and Meeker, Statistical Intervals (1991), section 5.2; David and Nagaraja, Order Statistics (2003), 7.1.

The ranks are looked up in sketches, and the interval is widened to the borders of their buckets, so that a sketch's
own error is in it. What it can't know: requests that slow each other down are not independent.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, exp, floor, lgamma, log, log1p, sqrt
from statistics import NormalDist

from . import sketch
from .views import Interval

_EXACT = 1600.0
"""Variance up to which the binomial is summed; above it the normal's ranks are right to within `_MARGIN`."""
_MARGIN = 2
_REACH = 12.0
"""Standard deviations from the mean outside of which nothing is left to sum."""


def interval(counts: Mapping[int, int], q: float, confidence: float, low: float, high: float) -> Interval:
    """Where the q-quantile lies that a sketch's values were drawn from, with a confidence from 0 to 1.

    Args:
        counts: the sketch.
        q: which quantile, above 0 and below 1.
        confidence: the least probability that the interval has it.
        low: the smallest value, known exactly.
        high: the largest one.
    """
    total = sum(counts.values())
    first, last = ranks(total, q, confidence)
    edges = sketch.edges(counts, [rank for rank in (first, last) if 1 <= rank <= total])
    bottom = max(low, edges[first][0]) if first >= 1 else None
    top = min(high, edges[last][1]) if last <= total else None
    return Interval(bottom, top)


def difference(baseline: Interval, current: Interval) -> Interval:
    """Where the difference of two quantiles lies, current less baseline.

    Where both intervals are of independent samples and each has the confidence c, this one has at least c * c.
    """
    low = None if current.low_ns is None or baseline.high_ns is None else current.low_ns - baseline.high_ns
    high = None if current.high_ns is None or baseline.low_ns is None else current.high_ns - baseline.low_ns
    return Interval(low, high)


def ranks(total: int, q: float, confidence: float) -> tuple[int, int]:
    """Ranks, from 1, of the values that bound the q-quantile; 0 and `total + 1` where none does."""
    tail = (1 - confidence) / 2
    variance = total * q * (1 - q)
    if variance > _EXACT:
        reach = NormalDist().inv_cdf(1 - tail) * sqrt(variance)
        return max(0, floor(total * q - reach) - _MARGIN), min(total + 1, ceil(total * q + reach) + 1 + _MARGIN)
    return _exact_ranks(total, q, tail)


def _exact_ranks(total: int, q: float, tail: float) -> tuple[int, int]:
    """The largest l with P(B < l) <= tail, and the smallest u with P(B >= u) <= tail."""
    reach = _REACH * (sqrt(total * q * (1 - q)) + 1)
    begin, end = max(0, floor(total * q - reach)), min(total, ceil(total * q + reach))
    chances = [exp(_log_chance(total, q, number)) for number in range(begin, end + 1)]
    low, below = begin, 0.0
    for chance in chances:
        below += chance
        if below > tail:
            break
        low += 1
    high, above = end + 1, 0.0
    for chance in reversed(chances):
        above += chance
        if above > tail:
            break
        high -= 1
    return low, high


def _log_chance(total: int, q: float, number: int) -> float:
    """The logarithm of the probability that a binomial variable has a value."""
    ways = lgamma(total + 1) - lgamma(number + 1) - lgamma(total - number + 1)
    return ways + number * log(q) + (total - number) * log1p(-q)
