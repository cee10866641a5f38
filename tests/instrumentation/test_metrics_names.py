"""Names of OpenTelemetry as names of Prometheus: the four strategies, and where the Python exporter agrees."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.prometheus import _mapping as exporter

from tracekeep.instrumentation.metrics import names
from tracekeep.instrumentation.metrics.names import Names
from tracekeep.instrumentation.settings import STRATEGIES

WITH, WITHOUT, UTF8, NONE = STRATEGIES


@pytest.mark.parametrize(
    ("name", "unit", "kind", "strategy", "wanted"),
    [
        ("http.server.duration", "s", "other", WITH, ("http_server_duration_seconds", "seconds")),
        ("http.server.duration", "s", "other", WITHOUT, ("http_server_duration", "")),
        ("http.server.duration", "s", "other", UTF8, ("http.server.duration_seconds", "seconds")),
        ("http.server.duration", "s", "other", NONE, ("http.server.duration", "")),
        ("requests", "{request}", "counter", WITH, ("requests", "")),
        ("requests.total", "1", "counter", WITH, ("requests", "")),
        ("requests.total", "1", "counter", WITHOUT, ("requests_total", "")),
        ("requests", "By", "counter", NONE, ("requests", "")),
        ("requests_total", "By", "counter", WITH, ("requests_bytes", "bytes")),
        ("disk_bytes", "By", "gauge", WITH, ("disk_bytes", "bytes")),
        ("cpu.use", "1", "gauge", WITH, ("cpu_use_ratio", "ratio")),
        ("cpu.use", "1", "other", WITH, ("cpu_use", "")),
        ("cpu.use", "%", "gauge", WITH, ("cpu_use_percent", "percent")),
        ("speed", "m/s", "gauge", WITH, ("speed_meters_per_second", "meters_per_second")),
        ("rate", "/s", "gauge", WITH, ("rate_per_second", "per_second")),
        ("rate", "{packet}/s", "gauge", WITH, ("rate_per_second", "per_second")),
        ("a..b--c", "", "gauge", WITH, ("a_b_c", "")),
        ("5xx", "", "gauge", WITH, ("_5xx", "")),
        ("naïve", "", "gauge", WITH, ("na_ve", "")),
        ("naïve", "", "gauge", NONE, ("naïve", "")),
    ],
)
def test_metrics(name, unit, kind, strategy, wanted):
    """Names and units; a counter's `_total` is put when it is exposed."""
    assert Names(strategy).metric(name, unit, kind) == wanted


def test_labels_that_become_the_same():
    """Their values are joined, in the order of the original keys, whatever the order they come in."""
    given = [("http_method", "c"), ("http.method", "b"), ("http-method", "a"), ("route", "/")]
    for order in (given, given[::-1]):
        assert dict(Names(WITH).labels(order)) == {"http_method": "a;b;c", "route": "/"}
    assert dict(Names(NONE).labels(given)) == dict(given)


def test_values_that_are_no_text():
    """As JSON, which the Python exporter does too."""
    found = dict(Names(WITH).labels([("a", True), ("b", 1.5), ("c", (1, "x")), ("d", None), ("e", "é"), ("f", {1j})]))
    assert found == {"a": "true", "b": "1.5", "c": '[1, "x"]', "d": "null", "e": "é", "f": '"{1j}"'}


@given(st.text(st.characters(codec="utf-8", exclude_characters="0123456789"), min_size=1))
def test_names_as_the_exporter_has_them(name):
    """But for leading digits, which it drops."""
    assert names.escape_metric(name) == exporter.sanitize_full_name(name)
    assert names.escape_label(name) == exporter.sanitize_attribute(name)


@pytest.mark.parametrize("unit", [*exporter._UNIT_MAPPINGS, "By/s", "s/{x}", "{a}", "weird unit", "A/h", "x/y/z", ""])
def test_units_as_the_exporter_has_them(unit):
    """All that it knows, and some that it doesn't."""
    assert names.map_unit(unit) == exporter.map_unit(unit)


@given(
    st.text(max_size=20), st.sampled_from(STRATEGIES), st.text(max_size=10), st.sampled_from(["counter", "gauge", ""])
)
def test_any_name(name, strategy, unit, kind):
    """Escaped names are of Prometheus's old alphabet."""
    found, suffix = Names(strategy).metric(name, unit, kind)
    if strategy.startswith("Underscore") and found:
        assert all(each.isascii() and (each.isalnum() or each in "_:") for each in found + suffix)
        assert not found[0].isdigit()
