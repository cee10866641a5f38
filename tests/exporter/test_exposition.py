import itertools
import math
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics_parser

from tracekeep.exporter.exposition import render
from tracekeep.exporter.gauges import status_families
from tracekeep.exporter.negotiation import Exposition, Format
from tracekeep.storage.views import Degradation, Family, Series, Status

PARSERS = {
    Format.TEXT: parser.text_string_to_metric_families,
    Format.TEXT_1: parser.text_string_to_metric_families,
    Format.OPENMETRICS: openmetrics_parser.text_string_to_metric_families,
}
formats = pytest.mark.parametrize("fmt", Format, ids=lambda fmt: fmt.name)
STATUS = Status(
    [Degradation("history", "disk full")], 4711, 0.25, 1_763_900_000_123_456_789, 8192, 123_456, 3, 1 << 28, 1 << 30
)


def counter(*series, name="jobs", text="Jobs that ended."):
    return Family(name, "counter", text, "", (), series)


def histogram(*series, bounds=(0.1, 1.0, 10.0), name="job_duration_seconds"):
    return Family(name, "histogram", "How long jobs took.", "seconds", bounds, series)


def gauge(*series, name="heat_celsius", unit="celsius"):
    return Family(name, "gauge", "How hot it is.", unit, (), series)


def page(*families, fmt=Format.TEXT, gauges=()):
    return render([*families, *gauges], Exposition(fmt)).decode()


def samples(text, fmt):
    found = [sample for family in PARSERS[fmt](text) for sample in family.samples]
    assert len({(sample.name, *sorted(sample.labels.items())) for sample in found}) == len(found)
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in found}


def same(one, other):
    return one == other or (math.isnan(one) and math.isnan(other))


def test_the_text_format_to_the_letter():
    """HELP and TYPE name a counter as its samples are named; buckets, `+Inf`, count and sum follow."""
    text = page(
        histogram(Series((("job", "a"),), 5, 2.5, (1, 2, 4))),
        counter(Series((("job", "b"),), 7.0), Series((), 0.5)),
    )
    assert text == (
        "# HELP job_duration_seconds How long jobs took.\n"
        "# TYPE job_duration_seconds histogram\n"
        'job_duration_seconds_bucket{job="a",le="0.1"} 1\n'
        'job_duration_seconds_bucket{job="a",le="1.0"} 2\n'
        'job_duration_seconds_bucket{job="a",le="10.0"} 4\n'
        'job_duration_seconds_bucket{job="a",le="+Inf"} 5\n'
        'job_duration_seconds_count{job="a"} 5\n'
        'job_duration_seconds_sum{job="a"} 2.5\n'
        "# HELP jobs_total Jobs that ended.\n"
        "# TYPE jobs_total counter\n"
        'jobs_total{job="b"} 7\n'
        "jobs_total 0.5\n"
    )


def test_openmetrics_to_the_letter():
    """HELP, TYPE and UNIT name the family, samples have their suffix, and the page says that it is whole."""
    text = page(
        counter(Series((), 7.0)),
        histogram(Series((), 1, 0.5, (0, 1, 1))),
        fmt=Format.OPENMETRICS,
        gauges=[gauge(Series((), -1.5))],
    )
    assert text == (
        "# HELP heat_celsius How hot it is.\n"
        "# TYPE heat_celsius gauge\n"
        "# UNIT heat_celsius celsius\n"
        "heat_celsius -1.5\n"
        "# HELP job_duration_seconds How long jobs took.\n"
        "# TYPE job_duration_seconds histogram\n"
        "# UNIT job_duration_seconds seconds\n"
        'job_duration_seconds_bucket{le="0.1"} 0\n'
        'job_duration_seconds_bucket{le="1.0"} 1\n'
        'job_duration_seconds_bucket{le="10.0"} 1\n'
        'job_duration_seconds_bucket{le="+Inf"} 1\n'
        "job_duration_seconds_count 1\n"
        "job_duration_seconds_sum 0.5\n"
        "# HELP jobs Jobs that ended.\n"
        "# TYPE jobs counter\n"
        "jobs_total 7\n"
        "# EOF\n"
    )


def test_a_unit_that_the_name_lacks_is_not_told():
    """OpenMetrics forbids UNIT where the name doesn't end with it, as with Grafana's `…_latency`."""
    family = histogram(Series((), 0, 0.0, (0, 0, 0)), name="traces_spanmetrics_latency")
    text = page(family, fmt=Format.OPENMETRICS)
    assert "# UNIT" not in text
    assert list(openmetrics_parser.text_string_to_metric_families(text))


def test_help_is_escaped_as_each_format_wants():
    """Quotation marks are escaped in OpenMetrics only; line breaks and backslashes in both."""
    family = counter(Series((), 1), text='a "b" \\ c\nd')
    assert '# HELP jobs_total a "b" \\\\ c\\nd\n' in page(family)
    assert '# HELP jobs a \\"b\\" \\\\ c\\nd\n' in page(family, fmt=Format.OPENMETRICS)


@formats
def test_nothing_to_tell_is_a_page_too(fmt):
    """A fresh store yields an empty page that both parsers take, never an error."""
    assert samples(page(fmt=fmt), fmt) == {}


values = st.floats() | st.integers(-(2**70), 2**70).map(float)
labels = st.lists(st.text(min_size=1), max_size=4).map(
    lambda texts: tuple(zip(("service", "span_name", "code", "kind"), texts, strict=False))
)
unencodable = st.characters(min_codepoint=0xD800, max_codepoint=0xDFFF, categories=["Cs"])


@formats
@given(found=st.dictionaries(labels, values, max_size=5))
def test_any_gauge_reads_back_equal(fmt, found):
    """Any text in labels, any float as value: the parsers read back what went in."""
    text = page(fmt=fmt, gauges=[gauge(*(Series(label, value) for label, value in found.items()))])
    expected = {("heat_celsius", tuple(sorted(label))): value for label, value in found.items()}
    got = samples(text, fmt)
    assert got.keys() == expected.keys()
    assert all(same(got[key], expected[key]) for key in expected)


@formats
@given(found=st.dictionaries(labels, st.floats(0, allow_nan=False), max_size=5))
def test_any_counter_reads_back_equal(fmt, found):
    """Any text in labels, any value that a counter can have."""
    got = samples(page(counter(*(Series(label, value) for label, value in found.items())), fmt=fmt), fmt)
    assert got == {("jobs_total", tuple(sorted(label))): value for label, value in found.items()}


@formats
@given(
    labels=labels,
    bounds=st.sets(st.floats(allow_nan=False, allow_infinity=False, min_value=0), min_size=1, max_size=8),
    counts=st.lists(st.integers(0, 10**12), min_size=9, max_size=9),
    total=st.floats(0, allow_nan=False),
)
def test_any_histogram_reads_back_equal(fmt, labels, bounds, counts, total):
    """Any bounds, counts and sum; the `+Inf` bucket is the count."""
    edges = tuple(sorted(bounds))
    cumulative = tuple(itertools.accumulate(counts[: len(edges) + 1]))
    series = Series(labels, float(cumulative[-1]), total, cumulative[:-1])
    text = page(histogram(series, bounds=edges), fmt=fmt)
    found = [sample for family in PARSERS[fmt](text) for sample in family.samples]
    buckets = [(float(sample.labels["le"]), sample.value) for sample in found if "le" in sample.labels]
    assert buckets == list(zip((*edges, math.inf), cumulative, strict=True))
    rest = {sample.name.rpartition("_")[2]: sample.value for sample in found if "le" not in sample.labels}
    assert rest == {"count": cumulative[-1], "sum": total}
    assert all(dict(labels).items() <= sample.labels.items() for sample in found)


@formats
@given(text=st.text(min_size=1))
def test_any_help_text_leaves_the_page_readable(fmt, text):
    """Any HELP text: the sample after it is still read."""
    assert samples(page(counter(Series((), 1), text=text), fmt=fmt), fmt) == {("jobs_total", ()): 1}


@formats
@given(text=st.text(alphabet=st.characters() | unencodable, max_size=20))
def test_what_utf8_cannot_hold_does_not_spoil_the_page(fmt, text):
    """Lone surrogates become question marks."""
    got = samples(page(counter(Series((("service", text),), 1)), fmt=fmt), fmt)
    assert list(got.values()) == [1]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.0, "0"),
        (-0.0, "-0"),
        (1e15, "1000000000000000"),
        (2.0**60, "1.152921504606847e+18"),
        (0.1, "0.1"),
        (1e-7, "1e-07"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (math.nan, "NaN"),
    ],
)
def test_values_are_written_as_go_writes_them(value, written):
    """Whole numbers have no point, and what isn't a number has Go's name."""
    assert page(gauges=[gauge(Series((), value))]).splitlines()[-1] == f"heat_celsius {written}"


def test_the_stores_own_state():
    """Each part has its series also while it works; times are seconds, sizes bytes."""
    got = samples(page(gauges=status_families(STATUS)), Format.TEXT)
    assert {key[1][0][1]: value for key, value in got.items() if key[0] == "tracekeep_degraded"} == {
        "journal": 0,
        "aggregates": 0,
        "history": 1,
        "writer": 0,
    }
    assert {name: value for (name, labels), value in got.items() if not labels} == {
        "tracekeep_history_bytes": 123_456,
        "tracekeep_history_limit_bytes": 1 << 30,
        "tracekeep_history_partitions": 3,
        "tracekeep_journal_bytes": 8192,
        "tracekeep_journal_limit_bytes": 1 << 28,
        "tracekeep_last_commit_timestamp_seconds": pytest.approx(1_763_900_000.123457),
        "tracekeep_writer_lag_seconds": 0.25,
        "tracekeep_writer_up": 1,
    }


@formats
def test_families_are_sorted_and_told_once(fmt):
    """Families come by name, whatever order the store has them in."""
    text = page(
        counter(Series((), 1)),
        histogram(Series((), 0, 0, (0, 0, 0))),
        fmt=fmt,
        gauges=status_families(STATUS),
    )
    names = [line.split(" ")[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert names == sorted(set(names))


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_nothing_to_complain_of():
    """`promtool check metrics`, which reads the text format, ends with 0 and has no finding."""
    ascii_text = "".join(map(chr, range(128)))
    text = page(
        counter(Series((("service", ascii_text),), 3.0), name="traces_spanmetrics_calls"),
        histogram(Series((("service", "a"),), 3.0, 1.5, (1, 2, 3)), name="traces_spanmetrics_latency"),
        histogram(Series((("service", "a"),), 3.0, 1.5, (1, 2, 3)), name="http_server_request_duration_seconds"),
        counter(Series((("reason", "full"),), 0.0), name="tracekeep_records_dropped"),
        gauges=status_families(STATUS),
    )
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False, timeout=30
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
