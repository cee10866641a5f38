import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracekeep.exporter.negotiation import Format, accepts_gzip, choose_format

PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROMETHEUS_3_NATIVE = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,"
    "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", Format.TEXT),
        ("*/*", Format.TEXT),
        (BROWSER, Format.TEXT),
        (PROMETHEUS_3, Format.OPENMETRICS),
        (PROMETHEUS_3_NATIVE, Format.OPENMETRICS),
        ("application/openmetrics-text", Format.OPENMETRICS),
        ("APPLICATION/OpenMetrics-Text; Version=1.0.0", Format.OPENMETRICS),
        ('application/openmetrics-text; version="1.0.0"', Format.OPENMETRICS),
        ("application/openmetrics-text; version=1.0.0; q=0.3, text/plain; q=0.7", Format.TEXT),
        ("text/plain; q=0.3, application/openmetrics-text; q=0.7", Format.OPENMETRICS),
        ("application/openmetrics-text, */*", Format.OPENMETRICS),
        ("application/*", Format.OPENMETRICS),
        ("application/*, text/plain", Format.TEXT),
        ("text/plain, application/openmetrics-text", Format.TEXT),
        ("application/openmetrics-text, text/plain", Format.OPENMETRICS),
    ],
)
def test_the_most_liked_format_wins(accept, expected):
    """Weight decides, then how specific a range is, then which is named first."""
    assert choose_format(accept) is expected


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text; version=2.0.0",
        "application/openmetrics-text; version=999.0",
        "application/openmetrics-text; version=abc",
        "application/openmetrics-text; q=0",
        "application/openmetrics-text; q=7",
        "application/openmetrics-text; q=nonsense",
        "application/json",
        "text/plain; q=0",
        ";;;,,,q=1",
        '"',
        "application/openmetrics-text; q=0, */*",
    ],
)
def test_what_is_not_offered_or_not_understood_gets_text(accept):
    """A version that we don't speak, a refusal and nonsense all get text 0.0.4."""
    assert choose_format(accept) is Format.TEXT


@given(st.text())
def test_any_accept_header_is_answered(header):
    """No header whatever raises."""
    assert choose_format(header) in Format
    assert accepts_gzip(header) in {True, False}


@given(st.text(alphabet=' ,;="\\/*.q01text', max_size=200))
def test_any_header_made_of_the_grammar_is_answered(header):
    """Nor does one made of the grammar's own characters."""
    assert choose_format(header) in Format
    assert accepts_gzip(header) in {True, False}


def test_hostile_headers_take_no_time():
    """Backslashes, quotation marks and commas in any number are read in linear time."""
    for text in ('"' + "\\" * 200_000, "," * 200_000, '"' * 200_001, ";" * 200_000, 'a;b="\\' * 50_000):
        assert choose_format(text) is Format.TEXT


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", False),
        ("gzip", True),
        ("GZIP", True),
        ("deflate, gzip;q=1.0, *;q=0.5", True),
        ("x-gzip", True),
        ("*", True),
        ("gzip;q=0", False),
        ("gzip;q=0, *", False),
        ("*;q=0", False),
        ("identity", False),
        ("br", False),
    ],
)
def test_gzip_is_used_only_where_it_is_allowed(header, expected):
    """`gzip;q=0` is a refusal, `*` an invitation."""
    assert accepts_gzip(header) is expected
