"""The text of series: one `%` operation on a template that has a series' labels in it already.

A block is what stands under one TYPE line. Nearly every group is one block; the text formats put
`_created`, `_gcount` and `_gsum` into gauges of their own behind it, as prometheus_client does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from ..storage.compiled import compiled
from ..storage.views import Exemplar, Series
from .groups import DATED, Group, exposed_type
from .names import escape, escape_help, is_plain, quoted
from .negotiation import Exposition, Format

_NAMED = {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}
# OpenMetrics 1.0: combined length of an exemplar's label names and values.
_LONGEST_EXEMPLAR = 128
# From this many digits on Go writes an exponent.
_LONGEST_WHOLE = 6

_write_histograms = compiled(__package__, "write_histograms")
"""Writes the lines of plain histograms; None instead of those that have something odd."""

Numbers = tuple[float, ...]
Numbering = Callable[[Series], tuple[Numbers, Numbers]]
"""What gives the numbers of a series in the order of its lines: counts, nearly always whole; then others."""


@dataclass(frozen=True)
class Gaps:
    """The lines of a series without its label text: what stands before, between and after."""

    bare: bytes
    """The whole, for a series without labels."""
    around: tuple[bytes, ...]
    lines: tuple[tuple[bytes, bytes], ...]
    """What stands before and after the label text, for each line; then its number follows."""

    def fill(self, inner: bytes) -> bytes:
        """What takes the numbers, by `%`."""
        return inner.join(self.around) if inner else self.bare


@dataclass(frozen=True)
class Block:
    """How the samples under one TYPE line are written."""

    head: str
    lines: tuple[tuple[str, str], ...]
    """Name and further label text (`le="0.1"`) of each sample of a series."""
    counts: int
    """How many of the first are counts."""
    numbers: Numbering
    buckets: int | None = None
    """How many of these are buckets, without `+Inf`; None where there can't be any."""
    dated: bool = False
    """Whether the last is the start time, which a series may lack."""
    exemplars: int = 0
    """How many of the first samples can have one each."""
    quick: Callable[[Series], tuple[object, ...]] | None = None
    """What gives the numbers ready to be put in, where they are as usual; else nothing."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the samples, as on the page but without quotes."""
        return tuple(dict.fromkeys(name for name, _ in self.lines))

    def write(self, series: tuple[Series, ...], inners: tuple[bytes, ...]) -> list[bytes]:
        """The lines of each of some series.

        Args:
            series: whose values to write.
            inners: the label text of each, each `%` doubled.
        """
        if _write_histograms is not None and self.quick is not None:
            plain: list[bytes | None] = _write_histograms(self._gaps.lines, inners, series)
        else:
            plain = [None] * len(series)
        texts = [text or self._text(each, inner) for text, each, inner in zip(plain, series, inners, strict=True)]
        if self.exemplars:
            for place, each in enumerate(series):
                if each.exemplars and self._fits(each):
                    texts[place] = _with_exemplars(texts[place], each.exemplars, self.exemplars)
        return texts

    def _text(self, series: Series, inner: bytes) -> bytes:
        cells = self.quick(series) if self.quick is not None and self._fits(series) else ()
        return self._gaps.fill(inner) % cells if cells else self._slowly(series, inner)

    def _fits(self, series: Series) -> bool:
        """Whether it has its family's buckets."""
        return self.buckets is None or len(series.buckets) == self.buckets

    def _slowly(self, series: Series, inner: bytes) -> bytes:
        counts, others = self.numbers(series)
        if not self._fits(series) or (self.dated and series.start_ns <= 0):
            return self._irregular(series, inner, (*counts, *others))
        if type(sum(counts)) is int or (counts := _whole(counts)):
            return self._gaps.fill(inner) % (*counts, *[number(each) for each in others])
        return _filled(self.lines, inner, sum(self.numbers(series), ()))

    @cached_property
    def _gaps(self) -> Gaps:
        return _gaps(self.lines, self.counts)

    def _irregular(self, series: Series, inner: bytes, numbers: Numbers) -> bytes:
        """A series without a start time, or with buckets that aren't its family's: only what is certain."""
        lines = self.lines
        if not self._fits(series):
            numbers, lines = numbers[len(series.buckets) :], lines[self.buckets :]
        if self.dated and series.start_ns <= 0:
            numbers, lines = numbers[:-1], lines[:-1]
        return _filled(lines, inner, numbers)


def blocks(group: Group, exposition: Exposition, *, created: bool) -> list[Block]:
    """What a group consists of in a format."""
    openmetrics = exposition.format is Format.OPENMETRICS
    dated = created and group.type in DATED
    main = _SHAPES.get(group.type, _single)(group, openmetrics=openmetrics)
    if dated and openmetrics:
        main = _and_created(group, main)
    suffix = {"counter": "_total", "info": "_info"}.get(group.type, "") if not openmetrics else ""
    found = [replace(main, head=_head(group, suffix, exposed_type(group, exposition), openmetrics=openmetrics))]
    if not openmetrics:
        found += _extra_gauges(group, dated=dated)
    return found


def _single(group: Group, *, openmetrics: bool) -> Block:
    del openmetrics
    return Block("", ((group.name, ""),), 0, _value)


def _counter(group: Group, *, openmetrics: bool) -> Block:
    return Block("", ((f"{group.name}_total", ""),), 0, _value, exemplars=int(openmetrics))


def _info(group: Group, *, openmetrics: bool) -> Block:
    del openmetrics
    return Block("", ((f"{group.name}_info", ""),), 1, lambda _: ((1,), ()))


def _stateset(group: Group, *, openmetrics: bool) -> Block:
    """Also where several workers were added up: a state is one that any of them is in."""
    del openmetrics
    return Block("", ((group.name, ""),), 1, lambda series: ((1 if series.value else 0,), ()))


def _summary(group: Group, *, openmetrics: bool) -> Block:
    del openmetrics
    lines = ((f"{group.name}_count", ""), (f"{group.name}_sum", ""))
    return Block("", lines, 1, lambda series: ((series.value,), (series.sum,)))


def _histogram(group: Group, *, openmetrics: bool) -> Block:
    lines, count = _buckets(group), len(group.bounds)
    if openmetrics and group.bounds and group.bounds[0] < 0:  # its sum would be no counter, and the count goes with it
        return Block("", lines, count + 1, _bucket_counts, count, exemplars=count + 1)
    lines += ((f"{group.name}_count", ""), (f"{group.name}_sum", ""))
    return Block("", lines, count + 2, _bucket_counts_and_sum, count, False, (count + 1) * openmetrics, _quick)


def _gaugehistogram(group: Group, *, openmetrics: bool) -> Block:
    lines, count = _buckets(group), len(group.bounds)
    if not openmetrics:
        return Block("", lines, count + 1, _bucket_counts, count)
    lines += ((f"{group.name}_gcount", ""), (f"{group.name}_gsum", ""))
    return Block("", lines, count + 2, _bucket_counts_and_sum, count, exemplars=count + 1)


def _value(series: Series) -> tuple[Numbers, Numbers]:
    return (), (series.value,)


def _bucket_counts(series: Series) -> tuple[Numbers, Numbers]:
    return (*series.buckets, _count(series)), ()


def _bucket_counts_and_sum(series: Series) -> tuple[Numbers, Numbers]:
    count = _count(series)
    return (*series.buckets, count, count), (series.sum,)


def _quick(series: Series) -> tuple[object, ...]:
    """Of a histogram. A thousand of them are nearly all of a big page."""
    value, buckets = series.value, series.buckets
    count = int(value) if value % 1 == 0 else value
    if type(sum(buckets, count)) is int:
        return (*buckets, count, count, number(series.sum))
    return ()


def _count(series: Series) -> float:
    """An integer beside buckets that are integers: then nothing has to be converted."""
    value = series.value
    return int(value) if value % 1 == 0 else value


def _buckets(group: Group) -> tuple[tuple[str, str], ...]:
    return tuple((f"{group.name}_bucket", f'le="{edge(bound)}"') for bound in (*group.bounds, float("inf")))


_SHAPES: Mapping[str, Callable[..., Block]] = {
    "counter": _counter,
    "info": _info,
    "stateset": _stateset,
    "summary": _summary,
    "histogram": _histogram,
    "gaugehistogram": _gaugehistogram,
}


def _and_created(group: Group, block: Block) -> Block:
    def numbers(series: Series) -> tuple[Numbers, Numbers]:
        counts, others = block.numbers(series)
        return counts, (*others, series.start_ns / 1e9)

    lines = (*block.lines, (f"{group.name}_created", ""))
    return replace(block, lines=lines, numbers=numbers, dated=True, quick=None)


def _extra_gauges(group: Group, *, dated: bool) -> list[Block]:
    """What the text formats have no place for in the family itself."""
    found: dict[str, Numbering] = {}
    if dated:
        found["_created"] = lambda series: ((), (series.start_ns / 1e9,))
    if group.type == "gaugehistogram":
        found |= {"_gcount": _value, "_gsum": lambda series: ((), (series.sum,))}
    return [
        Block(
            _head(group, suffix, "gauge", openmetrics=False),
            ((f"{group.name}{suffix}", ""),),
            0,
            numbers,
            dated=suffix == "_created",
        )
        for suffix, numbers in found.items()
    ]


def _head(group: Group, suffix: str, type_: str, *, openmetrics: bool) -> str:
    """HELP, TYPE and, in OpenMetrics, UNIT, which has to be the end of the name."""
    name = quoted(f"{group.name}{suffix}")
    text = (escape if openmetrics else escape_help)(group.help)
    has_unit = openmetrics and is_plain(f"_{group.unit}") and type_ not in {"info", "stateset"}
    has_unit = has_unit and group.unit != "" and group.name.endswith(f"_{group.unit}")
    unit = f"# UNIT {name} {group.unit}\n" if has_unit else ""
    return f"# HELP {name} {text or name}\n# TYPE {name} {type_}\n{unit}"


def _gaps(lines: Sequence[tuple[str, str]], counts: int) -> Gaps:
    """With a place for a whole number in the first lines, for text in the others."""
    bare, around, pairs = "", [""], []
    for place, (name, more) in enumerate(lines):
        end = f" %{'d' if place < counts else 'b'}\n"
        plain, before = is_plain(name), quoted(name).replace("%", "%%")
        inside = ",".join(filter(None, ("" if plain else before, more)))
        outside = before if plain else ""
        bare += f"{outside}{{{inside}}}{end}" if inside else f"{outside}{end}"
        around[-1] += (opening := f"{outside}{{" if plain else f"{{{before},")
        around.append((closing := f",{more}}}" if more else "}") + end)
        pairs.append((_utf8(opening.replace("%%", "%")), _utf8(f"{closing} ")))
    return Gaps(_utf8(bare), tuple(map(_utf8, around)), tuple(pairs))


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _whole(counts: Numbers) -> Numbers:
    """Counts as integers; none where one of them isn't whole."""
    try:
        whole = tuple(map(int, counts))
    except (ValueError, OverflowError):  # not a number, or infinite
        return ()
    return whole if whole == counts else ()


def _filled(lines: Sequence[tuple[str, str]], inner: bytes, numbers: Numbers) -> bytes:
    return _gaps(lines, 0).fill(inner) % tuple([number(each) for each in numbers])


def _with_exemplars(text: bytes, exemplars: Mapping[int, Exemplar], most: int) -> bytes:
    lines = text.split(b"\n")
    for place, exemplar in exemplars.items():
        if 0 <= place < most:
            lines[place] += _exemplar(exemplar)
    return b"\n".join(lines)


def _exemplar(exemplar: Exemplar) -> bytes:
    labels = {"trace_id": exemplar.trace_id, "span_id": exemplar.span_id}
    if sum(len(name) + len(value) for name, value in labels.items()) > _LONGEST_EXEMPLAR:
        return b""
    inner = ",".join([f'{name}="{escape(value)}"' for name, value in labels.items() if value])
    seconds, rest = divmod(exemplar.time_ns, 10**9)
    time = f" {seconds}.{rest:09d}" if exemplar.time_ns > 0 else ""
    return f" # {{{inner}}} {number(exemplar.value).decode()}{time}".encode("utf-8", "replace")


def number(value: float) -> bytes:
    """A sample's value: the shortest text that reads back equal, whole numbers without a point."""
    text = repr(value)
    return _NAMED.get(text, text).removesuffix(".0").encode()


def edge(bound: float) -> str:
    """The value of `le`, as prometheus_client writes it: `1.0`, `2500.0`, `1e+06`."""
    text = repr(float(bound))
    whole, point, fraction = text.partition(".")
    if bound > 0 and point and len(whole) > _LONGEST_WHOLE:
        mantissa = f"{whole[0]}.{whole[1:]}{fraction}".rstrip("0").rstrip(".")
        return f"{mantissa}e+{len(whole) - 1:02d}"
    return _NAMED.get(text, text)
