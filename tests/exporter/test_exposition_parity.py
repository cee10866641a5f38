"""Our pages against prometheus_client's own pages of the same state, both read by its parsers."""

import itertools
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Metric, parser
from prometheus_client.exposition import generate_latest as text_page
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.samples import Exemplar as TheirExemplar
from prometheus_client.utils import floatToGoString

from tracekeep.exporter.exposition import render
from tracekeep.exporter.groups import SUFFIXES
from tracekeep.exporter.negotiation import Escaping, Exposition, Format
from tracekeep.storage.views import Exemplar, Family, Series

TYPES = [type_ for type_ in SUFFIXES if type_ != "barecounter"]
"""prometheus_client makes no counter without `_total`, and promtool would have one renamed."""

formats = pytest.mark.parametrize("fmt", Format, ids=lambda fmt: fmt.name)
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector:
    """What prometheus_client would have collected where the store has a family."""

    def __init__(self, families, *, created, exemplars):
        self.created, self.exemplars = created, exemplars
        self.found = [self.metric(family) for family in families]

    def collect(self):
        return self.found

    def metric(self, family):
        metric = Metric(family.name, family.help, family.type)
        for series in family.series:
            labels = dict(series.labels)
            for suffix, more, value, place in getattr(self, f"of_{family.type}", self.of_single)(family, series):
                exemplar = series.exemplars.get(place) if self.exemplars and place is not None else None
                metric.add_sample(family.name + suffix, labels | more, value, exemplar=exemplar and theirs(exemplar))
            if self.created and family.type in {"counter", "histogram", "summary"} and series.start_ns:
                metric.add_sample(f"{family.name}_created", labels, series.start_ns / 1e9)
        return metric

    def of_single(self, _, series):
        yield "", {}, series.value, None

    def of_counter(self, _, series):
        yield "_total", {}, series.value, 0

    def of_info(self, _, series):
        yield "_info", {}, series.value, None

    def of_summary(self, _, series):
        yield "_count", {}, series.value, None
        yield "_sum", {}, series.sum, None

    def of_histogram(self, family, series, count="_count", total="_sum"):
        bounds = [*map(floatToGoString, family.bounds), "+Inf"]
        for place, (bound, value) in enumerate(zip(bounds, (*series.buckets, series.value), strict=True)):
            yield "_bucket", {"le": bound}, value, place
        yield count, {}, series.value, None
        yield total, {}, series.sum, None

    def of_gaugehistogram(self, family, series):
        return self.of_histogram(family, series, "_gcount", "_gsum")


def theirs(exemplar):
    return TheirExemplar(
        {"trace_id": exemplar.trace_id, "span_id": exemplar.span_id}, exemplar.value, exemplar.time_ns / 1e9
    )


def their_page(families, exposition, *, created):
    registry = CollectorRegistry()
    registry.register(Collector(families, created=created, exemplars=exposition.format is Format.OPENMETRICS))
    write = openmetrics.generate_latest if exposition.format is Format.OPENMETRICS else text_page
    return write(registry, exposition.escaping.value)


def parsed(page, fmt):
    """Everything that a parser finds: types, help, and samples with their exemplars."""
    parse = openmetrics_parser if fmt is Format.OPENMETRICS else parser
    families = list(parse.text_string_to_metric_families(page.decode()))
    assert len({family.name for family in families}) == len(families)
    return {
        family.name: (
            family.type,
            family.documentation,
            sorted(
                (sample.name, sorted(sample.labels.items()), repr(float(sample.value) + 0.0), shown(sample.exemplar))
                for sample in family.samples
            ),
        )
        for family in families
    }


def shown(exemplar):
    return repr(exemplar and (sorted(exemplar.labels.items()), float(exemplar.value), float(exemplar.timestamp)))


def families_of(names, label_names, *, whole):
    counts = st.integers(0, 10**9).map(float)
    finite = st.floats(0, 1e12)
    exemplars = st.dictionaries(
        st.integers(0, 3),
        st.builds(
            Exemplar,
            st.just(TRACE),
            st.just(SPAN),
            finite,
            st.integers(1, 2**31).map(lambda seconds: seconds * 10**9),
        ),
        max_size=2,
    )
    label_values = st.text(min_size=1, max_size=8)

    def series(type_, bounds, number, draw):
        labels = (*[(name, draw(label_values)) for name in label_names], ("number", str(number)))
        steps = [draw(counts if whole or type_ != "gaugehistogram" else finite) for _ in range(len(bounds) + 1)]
        cumulative = tuple(itertools.accumulate(steps))
        value = {
            "histogram": cumulative[-1],
            "gaugehistogram": cumulative[-1],
            "summary": draw(counts),
            "info": 1.0,
            "stateset": float(draw(st.booleans())),
            "counter": draw(finite),
        }.get(type_)
        value = draw(st.floats()) if value is None else value
        start = draw(st.integers(0, 2**31)) * 10**9
        return Series(labels, value, draw(finite), cumulative[:-1] if bounds else (), start, draw(exemplars))

    @st.composite
    def family(draw, name):
        type_ = draw(st.sampled_from(TYPES))
        edges = st.sets(st.floats(0, 1e12), min_size=1, max_size=4)
        bounds = tuple(sorted(draw(edges))) if "histogram" in type_ else ()
        found = [series(type_, bounds, number, draw) for number in range(draw(st.integers(1, 3)))]
        if type_ == "stateset":
            found = [Series((*each.labels, (name, "on")), each.value, start_ns=each.start_ns) for each in found]
        return Family(name, type_, draw(st.text(min_size=1, max_size=20)), "", bounds, found)

    return st.lists(st.sampled_from(names), unique=True, min_size=1, max_size=4).flatmap(
        lambda chosen: st.tuples(*map(family, chosen))
    )


PLAIN = families_of(["a", "jobs", "heat:celsius", "b_2", "_c"], ("service", "Code_1"), whole=True)
FLOATS = families_of(["a", "jobs", "heat:celsius", "b_2", "_c"], ("service", "Code_1"), whole=False)
ODD = families_of(["a.b", "jobs done", "größe", '"x"', "1st", "x{y}"], ("http.route", "o'clock", "ü"), whole=True)


def same(families, exposition, *, created=False):
    if exposition.format is Format.OPENMETRICS:  # where prometheus_client writes a colon only above the samples
        families = [each for each in families if ":" not in each.name]
    ours = parsed(render(families, exposition, created=created), exposition.format)
    assert ours == parsed(their_page(families, exposition, created=created), exposition.format)


@formats
@settings(max_examples=30)
@given(families=PLAIN, created=st.booleans())
def test_all_types_read_as_prometheus_client_writes_them(fmt, families, created):
    """Types, help, names, labels, numbers, exemplars and start times."""
    same(families, Exposition(fmt), created=created)


@pytest.mark.parametrize("fmt", [Format.TEXT, Format.TEXT_1], ids=lambda fmt: fmt.name)
@settings(max_examples=30)
@given(families=FLOATS)
def test_buckets_need_not_be_whole(fmt, families):
    """Gauge histograms may count in fractions; the text formats have no objection."""
    same(families, Exposition(fmt))


@formats
@pytest.mark.parametrize("escaping", [Escaping.ALLOW_UTF8, Escaping.UNDERSCORES], ids=lambda each: each.value)
@settings(max_examples=30)
@given(families=ODD)
def test_odd_names_read_as_prometheus_client_writes_them(fmt, escaping, families):
    """Quoted, or with underscores."""
    if escaping is Escaping.UNDERSCORES:  # there a state's label can't be the metric's own, recorded, name
        families = [each for each in families if each.type != "stateset"]
    same(families, Exposition(fmt, escaping))


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize("created", [False, True])
def test_promtool_has_no_finding_for_any_type(created):
    """`promtool check metrics` reads every type and says nothing."""
    ascii_text = "".join(map(chr, range(128)))
    exemplars = {0: Exemplar(TRACE, SPAN, 0.5, 1)}
    families = []
    for number, type_ in enumerate(TYPES):
        labels = (("service", ascii_text),)
        bounds, buckets = ((0.1, 1.0, 2.5e6), (0, 1, 1)) if "histogram" in type_ else ((), ())
        series = Series(labels, 1.0, 0.5, buckets, 1_700_000_000_000_000_000, exemplars)
        families.append(Family(f"shop_wait{number}_seconds", type_, "What it is.", "", bounds, [series]))
    page = render(families, Exposition(), created=created)
    done = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, check=False, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
