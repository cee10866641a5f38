"""The exposition of committed totals: a pure function from values to bytes.

Text 0.0.4:      https://prometheus.io/docs/instrumenting/exposition_formats/
OpenMetrics 1.0: https://prometheus.io/docs/specs/om/open_metrics_spec/

A series is one `%` operation on a template of its family, so that a scrape costs about as
much as copying its text. `le` values are written alike in both formats: a scraper that
changes format must not begin new series.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain

from ..storage.views import Family, Series, Status, Totals
from .negotiation import Format

Labels = tuple[tuple[str, str], ...]

# What `Degradation.part` can be; each has its series also while it works.
PARTS = ("journal", "aggregates", "history", "writer")
# Label text is kept for as many series as five full families have (series limit 2,000): about 2 MB.
_CACHED_SERIES = 10_000
_NAMED = {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}


def render(totals: Totals, gauges: Sequence[Family], fmt: Format) -> bytes:
    """The page: families by name, series in the order given.

    What UTF-8 cannot hold (lone surrogates) becomes `?`.
    """
    families = sorted(chain(totals.families, gauges), key=lambda family: family.name)
    parts = [part for family in families for part in _family(family, fmt)]
    if fmt is Format.OPENMETRICS:
        parts.append("# EOF\n")
    return "".join(parts).encode("utf-8", "replace")


def status_families(status: Status) -> list[Family]:
    """The store's own state as gauges."""
    degraded = dict.fromkeys(PARTS, 0.0) | {each.part: 1.0 for each in status.degraded}
    return [
        _gauge("tracekeep_degraded", "Whether a part of the store is degraded (1).", degraded, "part"),
        _gauge(
            "tracekeep_writer_up",
            "Whether any process holds the writer's role.",
            status.writer_pid is not None,
        ),
        _gauge(
            "tracekeep_writer_lag_seconds",
            "Age of the oldest record that is journaled and not yet stored.",
            status.lag_seconds,
        ),
        _gauge(
            "tracekeep_last_commit_timestamp_seconds",
            "When the writer last committed, in seconds since the Unix epoch; 0 when it never did.",
            status.last_commit_ns / 1e9,
        ),
        _gauge("tracekeep_journal_bytes", "Size of all journals on disk.", status.journal_bytes),
        _gauge("tracekeep_history_bytes", "Size of the retained history on disk.", status.history_bytes),
        _gauge("tracekeep_history_partitions", "Number of retained partitions.", status.partitions),
    ]


def _gauge(name: str, text: str, value: float | dict[str, float], label: str = "") -> Family:
    values: dict[str, float] = value if isinstance(value, dict) else {"": value}
    series = [Series(((label, key),) if label else (), float(number)) for key, number in values.items()]
    unit = next((unit for unit in ("seconds", "bytes") if name.endswith(unit)), "")
    return Family(name, "gauge", text, unit, (), series)


def _family(family: Family, fmt: Format) -> Iterator[str]:
    yield _head(family, fmt)
    if family.type == "histogram":
        yield from _histogram(family)
        return
    name = _sample_name(family)
    for series in family.series:
        yield f"{name}{_labels(series.labels)[1]} {_number(series.value)}\n"


def _head(family: Family, fmt: Format) -> str:
    """HELP, TYPE and, in OpenMetrics, UNIT. There a counter's family lacks the `_total` of its samples."""
    if fmt is Format.TEXT:
        name, text, unit = _sample_name(family), _escape_help(family.help), ""
    else:
        name, text, unit = family.name, _escape(family.help), _unit(family)
    return f"# HELP {name} {text or name}\n# TYPE {name} {family.type}\n{unit}"


def _unit(family: Family) -> str:
    """The unit's line where the name ends with the unit, as OpenMetrics demands."""
    named = bool(family.unit) and family.name.endswith(f"_{family.unit}")
    return f"# UNIT {family.name} {family.unit}\n" if named else ""


def _sample_name(family: Family) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name


def _histogram(family: Family) -> Iterator[str]:
    template = _histogram_template(family.name, family.bounds)
    for series in family.series:
        inner, braced = _labels(series.labels)
        count = int(series.value)
        cells: list[object] = [inner] * (2 * len(series.buckets))
        cells[1::2] = series.buckets
        cells += (inner, count, braced, count, braced, _number(series.sum))
        yield template % tuple(cells)


def _histogram_template(name: str, bounds: tuple[float, ...]) -> str:
    """All lines of one series: label text and cumulative count for each bucket, then count and sum."""
    edges = [*map(_go_float, bounds), "+Inf"]
    buckets = [f'{name}_bucket{{%sle="{edge}"}} %d\n' for edge in edges]
    return "".join([*buckets, f"{name}_count%s %d\n", f"{name}_sum%s %s\n"])


@lru_cache(maxsize=_CACHED_SERIES)
def _labels(labels: Labels) -> tuple[str, str]:
    """Label text as it stands before a further label, and as it stands alone."""
    inner = ",".join([f'{name}="{_escape(value)}"' for name, value in labels])
    return (f"{inner},", f"{{{inner}}}") if inner else ("", "")


def _escape(text: str) -> str:
    """For label values in both formats, and for HELP in OpenMetrics."""
    return _escape_help(text).replace('"', '\\"')


def _escape_help(text: str) -> str:
    """For HELP in text 0.0.4, where a quotation mark stands for itself."""
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _number(value: float) -> str:
    """A sample's value: whole numbers without a point."""
    return _go_float(value).removesuffix(".0")


def _go_float(value: float) -> str:
    """The shortest text that reads back equal, with the names that Go gives to what isn't a number."""
    text = repr(float(value))
    return _NAMED.get(text, text)
