from contextlib import suppress
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from tracekeep.exporter import errors, performance, traces
from tracekeep.exporter.params import parse_instant, read, read_trace_id, require_order
from tracekeep.exporter.problems import ParameterError
from tracekeep.exporter.responses import rfc3339

NOON = 1_795_435_200 * 10**9  # 2026-11-23T12:00:00Z
EPOCH = datetime.fromtimestamp(0, UTC)
TRACE = "0af7651916cd43dd8448eb211c80319c"


def request(query):
    text = query if isinstance(query, str) else urlencode(query)
    return Request({"type": "http", "method": "GET", "query_string": text.encode(), "headers": []})


def refused(query, params):
    with pytest.raises(ParameterError) as caught:
        read(request(query), params)
    return caught.value


def test_absent_parameters_leave_the_store_its_defaults():
    """Only what was asked for, and the limit, is handed on."""
    assert read(request(""), traces.SPANS) == {"limit": 50}


def test_every_filter_becomes_a_keyword_of_the_store():
    """Durations become nanoseconds, times too, ids lower case, attributes a mapping."""
    query = [
        ("limit", "1000"),
        ("cursor", "abc"),
        ("service", "shop"),
        ("name", "GET /items/{id}"),
        ("kind", "server"),
        ("status", "error"),
        ("min_duration_ms", "0.5"),
        ("max_duration_ms", "2000"),
        ("since", "2026-11-23T12:00:00Z"),
        ("until", "2026-11-23T13:00:00.000000001+01:00"),
        ("trace_id", TRACE.upper()),
        ("attribute", "http.route:/items/{id}"),
        ("attribute", "url.full:http://a:80/"),
    ]
    assert read(request(query), traces.SPANS) == {
        "limit": 1000,
        "cursor": "abc",
        "service": "shop",
        "name": "GET /items/{id}",
        "kind": "server",
        "status": "error",
        "min_duration_ns": 500_000,
        "max_duration_ns": 2_000_000_000,
        "since_ns": NOON,
        "until_ns": NOON + 1,
        "trace_id": TRACE,
        "attributes": {"http.route": "/items/{id}", "url.full": "http://a:80/"},
    }


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("limit", "0", "a whole number from 1 to 1000"),
        ("limit", "1001", "a whole number from 1 to 1000"),
        ("limit", "ten", "a whole number from 1 to 1000"),
        ("limit", "\u0665", "a whole number from 1 to 1000"),
        ("limit", "", "a whole number from 1 to 1000"),
        ("limit", "9" * 400, "a whole number from 1 to 1000"),
        ("service", "", "text of 1 to 4096 characters"),
        ("service", "x" * 4097, "text of 1 to 4096 characters"),
        ("service", "a\0b", "text of 1 to 4096 characters"),
        ("kind", "SERVER", "one of internal, server, client, producer, consumer"),
        ("status", "fine", "one of unset, ok, error"),
        ("min_duration_ms", "-1", "a number of milliseconds"),
        ("min_duration_ms", "nan", "a number of milliseconds"),
        ("max_duration_ms", "1e400", "a number of milliseconds"),
        ("max_duration_ms", "9999999999999", "a number of milliseconds"),
        ("since", "yesterday", "a time of RFC 3339"),
        ("since", "2026-11-23", "a time of RFC 3339"),
        ("since", "2026-11-23T12:00:00", "a time of RFC 3339"),
        ("since", "2026-02-30T12:00:00Z", "a time of RFC 3339"),
        ("since", "1969-12-31T23:59:59Z", "a time of RFC 3339"),
        ("until", "9999-12-31T23:59:59Z", "a time of RFC 3339"),
        ("until", "1795435200", "a time of RFC 3339"),
        ("trace_id", TRACE[:-1], "32 hexadecimal digits"),
        ("trace_id", TRACE[:-1] + "g", "32 hexadecimal digits"),
        ("attribute", "http.route", "a key and a value with a colon"),
        ("attribute", ":value", "a key and a value with a colon"),
    ],
)
def test_what_is_not_allowed_is_named(name, value, allowed):
    """The refusal names the parameter, repeats the value and says what is allowed."""
    error = refused({name: value}, traces.SPANS)
    assert (error.parameter, error.value) == (name, value[:200])
    assert f"Parameter '{name}' must be {allowed}" in str(error)
    assert len(str(error)) < 400


def test_an_unknown_parameter_is_answered_with_the_known_ones():
    """A misspelt filter must not silently match everything."""
    error = refused({"sevrice": "shop"}, errors.ERRORS)
    assert (error.parameter, error.value) == ("sevrice", "shop")
    assert "limit, cursor, service, type, group, state, operational, since, until" in str(error)


def test_a_single_parameter_may_stand_once():
    """Of two limits neither is taken."""
    error = refused("limit=5&limit=6", errors.ERRORS)
    assert (error.parameter, error.value) == ("limit", "6")
    assert "only once" in str(error)


def test_attributes_have_a_bound_and_a_key_each():
    """Sixteen pairs at most, and no key twice: one span has one value for it."""
    assert "at most 16 times" in str(refused([("attribute", f"k{i}:v") for i in range(17)], traces.SPANS))
    assert "each key once" in str(refused([("attribute", "k:v"), ("attribute", "k:w")], traces.SPANS))


def test_a_low_bound_above_the_high_one_is_refused():
    """`since` must be before `until`; durations may be equal."""
    asked = request({"since": "2026-11-23T12:00:00Z", "until": "2026-11-23T12:00:00Z"})
    with pytest.raises(ParameterError, match="'until' must be later than 'since'"):
        require_order(asked, read(asked, traces.SPANS), traces.SINCE, traces.UNTIL)
    asked = request({"min_duration_ms": "5", "max_duration_ms": "5"})
    values = read(asked, traces.SPANS)
    require_order(asked, values, traces.SHORTEST, traces.LONGEST, or_equal=True)
    with pytest.raises(ParameterError, match="must be later"):
        require_order(asked, values, traces.SHORTEST, traces.LONGEST)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("5m", 300), ("1h", 3600), ("7d", 604_800), ("2w", 1_209_600), ("3650d", 315_360_000)],
)
def test_windows_are_told_in_units(text, seconds):
    """A number and a unit."""
    assert read(request({"window": text}), performance.PERFORMANCE)["window_ns"] == seconds * 10**9


@pytest.mark.parametrize("text", ["0s", "1", "h", "1h30m", "-1h", "1.5h", "3651d", "999999999w", "1H"])
def test_windows_that_cannot_be_meant_are_refused(text):
    """Nothing, no unit, two units, signs, fractions and decades."""
    assert refused({"window": text}, performance.PERFORMANCE).parameter == "window"


@pytest.mark.parametrize(
    "text",
    ["2026-11-23T12:00:00Z", "2026-11-23t12:00:00z", "2026-11-23 12:00:00Z", "2026-11-23T17:30:00+05:30"],
)
def test_times_of_rfc_3339(text):
    """Any case, a space for the T, any offset; a `+` that was not percent-encoded arrives as a space."""
    assert parse_instant(text) == NOON
    assert read(request(f"since={text.replace(' ', '%20')}"), errors.ERRORS)["since_ns"] == NOON


@given(st.integers(0, 2**63 - 1))
def test_a_time_that_was_answered_can_be_asked_for(time_ns):
    """To the nanosecond."""
    assert parse_instant(rfc3339(time_ns)) == time_ns


@given(st.datetimes(datetime(1970, 1, 1), datetime(2261, 12, 31), timezones=st.just(UTC)))  # noqa: DTZ001  # hypothesis takes bounds without a zone
def test_times_agree_with_the_standard_library(moment):
    """Whatever `isoformat` writes is read as it was meant."""
    assert parse_instant(moment.isoformat()) == (moment - EPOCH) // timedelta(microseconds=1) * 1000


def test_a_trace_id_in_a_path_has_any_case():
    """Ids are kept in lower case."""
    assert read_trace_id(TRACE.upper()) == TRACE
    with pytest.raises(ParameterError, match="32 hexadecimal digits"):
        read_trace_id("nonsense")


names = st.sampled_from([param.name for param in traces.SPANS]) | st.text()


@given(st.lists(st.tuples(names, st.text())))
def test_any_query_is_read_or_refused(pairs):
    """No query raises anything else."""
    with suppress(ParameterError):
        read(request(pairs), traces.SPANS)
