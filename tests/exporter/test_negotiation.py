import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracekeep.exporter.negotiation import Escaping, Exposition, Format, choose_coding, choose_exposition

PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROMETHEUS_3_NATIVE = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,"
    "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
CODINGS = ("zstd", "gzip")
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", Format.TEXT),
        ("*/*", Format.TEXT),
        (BROWSER, Format.TEXT),
        (PROMETHEUS_2, Format.OPENMETRICS),
        (PROMETHEUS_3, Format.OPENMETRICS),
        ("text/plain", Format.TEXT),
        ("text/*", Format.TEXT),
        ("text/plain; version=1.0.0", Format.TEXT_1),
        ("text/plain; version=1.0.0; q=0.4, text/plain; version=0.0.4; q=0.3", Format.TEXT_1),
        ("text/plain; version=0.0.4, text/plain; version=1.0.0", Format.TEXT),
        ("text/plain; version=1.0.0; q=0.5, application/openmetrics-text; version=1.0.0; q=0.4", Format.TEXT_1),
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
    assert choose_exposition(accept).format is expected


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
    assert choose_exposition(accept) == Exposition()


@given(st.text())
def test_any_accept_header_is_answered(header):
    """No header whatever raises."""
    assert choose_exposition(header).format in Format
    assert choose_coding(header, CODINGS) in {None, *CODINGS}


@given(st.text(alphabet=' ,;="\\/*.q01text', max_size=200))
def test_any_header_made_of_the_grammar_is_answered(header):
    """Nor does one made of the grammar's own characters."""
    assert choose_exposition(header).format in Format
    assert choose_coding(header, CODINGS) in {None, *CODINGS}


def test_hostile_headers_take_no_time():
    """Backslashes, quotation marks and commas in any number are read in linear time."""
    for text in ('"' + "\\" * 200_000, "," * 200_000, '"' * 200_001, ";" * 200_000, 'a;b="\\' * 50_000):
        assert choose_exposition(text) == Exposition()


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (PROMETHEUS_3, Escaping.ALLOW_UTF8),
        (PROMETHEUS_3.replace("allow-utf-8", "underscores"), Escaping.UNDERSCORES),
        (PROMETHEUS_2, Escaping.UNDERSCORES),
        (PROMETHEUS_3_NATIVE, Escaping.UNDERSCORES),
        ("text/plain; version=1.0.0; escaping=dots", Escaping.DOTS),
        ("text/plain; version=1.0.0; escaping=values", Escaping.VALUES),
        ("text/plain; version=0.0.4; escaping=values", Escaping.VALUES),
        ('application/openmetrics-text; version=1.0.0; escaping="dots"', Escaping.DOTS),
        ("text/plain; version=1.0.0; escaping=dots; q=0.2, text/plain; version=0.0.4", Escaping.UNDERSCORES),
        ("text/plain; version=1.0.0; escaping=nonsense", Escaping.UNDERSCORES),
        ("text/plain; version=1.0.0; escaping", Escaping.UNDERSCORES),
        ("*/*", Escaping.UNDERSCORES),
        ("", Escaping.UNDERSCORES),
    ],
)
def test_names_are_escaped_as_the_chosen_range_asks(accept, expected):
    """The parameter counts only on the range that won; what it can't be is taken for the default."""
    assert choose_exposition(accept).escaping is expected


@pytest.mark.parametrize(
    ("exposition", "expected"),
    [
        (Exposition(), "text/plain; version=0.0.4; charset=utf-8"),
        (
            Exposition(Format.TEXT, Escaping.VALUES),
            "text/plain; version=0.0.4; charset=utf-8; escaping=values",
        ),
        (
            Exposition(Format.TEXT_1),
            "text/plain; version=1.0.0; charset=utf-8; escaping=underscores",
        ),
        (
            Exposition(Format.OPENMETRICS, Escaping.ALLOW_UTF8),
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
        ),
    ],
)
def test_content_types_say_the_escaping(exposition, expected):
    """Formats of version 1.0.0 always name it; 0.0.4 only where it isn't the one that everybody expects."""
    assert exposition.content_type == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", None),
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("deflate, gzip;q=1.0, *;q=0.5", "gzip"),
        ("x-gzip", "gzip"),
        ("*", "gzip"),
        ("gzip;q=0", None),
        ("gzip;q=0, *", None),
        ("*;q=0", None),
        ("identity", None),
        ("br", None),
        ("zstd", "zstd"),
        ("gzip, zstd", "zstd"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip, zstd;q=0.9", "gzip"),
        ("zstd;q=0, gzip", "gzip"),
        ("gzip;q=0.5, identity", None),
        ("gzip;q=0.5, identity;q=0.1", "gzip"),
        ("identity;q=0", None),
        ("gzip;q=nonsense", None),
    ],
)
def test_the_most_liked_coding_wins(header, expected):
    """`q=0` is a refusal, `*` an invitation to gzip; zstd has to be asked for, then it is preferred."""
    assert choose_coding(header, CODINGS) == expected


def test_a_coding_that_is_not_there_is_not_chosen():
    """Without a library for zstd the client gets the next best."""
    assert choose_coding("zstd, gzip;q=0.1", ("gzip",)) == "gzip"
    assert choose_coding("zstd", ("gzip",)) is None
