import asyncio
import json
import threading
import time
import urllib.parse

import pytest
from google.protobuf.json_format import ParseError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData
from tk_asgi import answered, http_scope
from tk_failing import failing
from tk_http import Response
from tk_tempo import Grafana, Refused, checked_trace, strict
from tk_tempo_spans import Shop, served

from tracekeep.exporter import create_app
from tracekeep.exporter.tempo import params
from tracekeep.storage import QueryTimeout, SettingError, Unavailable, open_store

TRACE = "0af7651916cd43dd8448eb211c80319c"
ASKING = [
    f"/api/traces/{TRACE}",
    f"/api/v2/traces/{TRACE}",
    "/api/search",
    "/api/search?tags=a%3Db",
    "/api/search/tags",
    "/api/v2/search/tags",
    "/api/v2/search/tags?q=%7B%20.a%20%3D%201%20%7D",
    "/api/search/tag/.a/values",
    "/api/v2/search/tag/resource.a/values",
    "/api/v2/search/tag/resource.a/values?q=%7B%20.a%20%3D%201%20%7D",
    "/api/metrics/query_range?q=%7B%7D%7Crate()",
    "/api/metrics/query?q=%7B%7D%7Crate()",
]


@pytest.mark.parametrize("path", ASKING)
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Unavailable("The disk is full."), "The disk is full."),
        (QueryTimeout("10 s have passed."), "10 s have passed."),
        (SettingError("data_dir", "", "a path"), "Setting 'data_dir' is ''"),
    ],
)
def test_a_store_that_cannot_answer_is_a_503_in_words(path, error, words):
    """In plain text, which Grafana shows, and when to ask again."""
    response = failing(error).get(f"/tempo{path}")
    assert (response.status_code, response.headers["content-type"]) == (503, "text/plain; charset=utf-8")
    assert words in response.text
    assert response.headers["retry-after"] == "5"


@pytest.mark.parametrize("mount", ["", "/a", "/a/b c"])
def test_it_answers_wherever_it_is_mounted(filled, mount):
    """Every route; none needs to know its prefix."""
    with served(filled, mount) as port:
        grafana = Grafana(port, f"{urllib.parse.quote(mount)}/tempo")
        for path in [*ASKING[1:], "/api/echo", "/ready", "/api/status/buildinfo"]:
            assert grafana.get(path).status == 200, path
        with pytest.raises(Refused, match=rf"^404: trace {TRACE} not found"):
            grafana.get(ASKING[0])


def test_a_query_past_its_deadline_is_stopped(tmp_path):
    """A real one over real spans: 503, and it says what to narrow; suggestions give what was found until then."""
    store = open_store(tmp_path / "data", query_timeout=0.02)
    tracer = Shop(store).tracer("web")
    for number in range(3000):
        tracer.start_span("GET /cart", attributes={"number": f"{number:05d}"}).end()
    assert store.flush(20)
    with served(store) as port:
        grafana = Grafana(port)
        slow = '{ span.number =~ ".*(a|b|[0-9]+x)" } >> { span.number != "" } | select(span.number)'
        for ask in (grafana.search, lambda q: grafana.range(f"{q.split(' |')[0]} | rate() by (span.number)")):
            with pytest.raises(Refused) as refused:
                ask(slow)
            assert refused.value.status == 503
            assert "ask for a shorter window" in refused.value.text
        grafana.values("span.number", q=slow)
    store.close()


def test_questions_leave_the_event_loop_alone(store):
    """While one is answered, health answers too."""
    entered, gate = threading.Event(), threading.Event()

    class Slow:
        def __getattr__(self, name):
            return getattr(store, name)

        def trace(self, _):
            entered.set()
            gate.wait(10)
            return store.trace(TRACE)

    with served(Slow()) as port:
        grafana = Grafana(port)
        asking = threading.Thread(target=grafana.trace, args=(TRACE,))
        asking.start()
        assert entered.wait(10)
        assert grafana.test().text == "echo\n"
        gate.set()
        asking.join(10)


# --- whatever comes ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A store with some of everything."""
    store = open_store(tmp_path_factory.mktemp("tempo") / "data")
    shop = Shop(store)
    for number in range(3):
        shop.order(fails=number == 1)
    shop.odd()
    shop.flush()
    yield store
    store.close()


@pytest.fixture(scope="module")
def runner():
    """An event loop, with the threads that it has."""
    with asyncio.Runner() as runner:
        yield runner


def ask(runner, app, path, query, accept):
    """One request, as an ASGI server hands it over: (status, content type, body)."""
    scope = http_scope(path, raw_path=path.encode(), query_string=query, headers=[(b"accept", accept)])
    sent = answered(app, scope, runner.run)
    kinds = dict(sent[0]["headers"])
    body = b"".join(each.get("body", b"") for each in sent[1:])
    return sent[0]["status"], kinds.get(b"content-type", b"").decode(), body


NAMES = ["q", "query", "tags", "start", "end", "since", "step", "limit", "spss", "minDuration", "maxDuration", "scope",
         "exemplars", "maxSeries", "other"]  # fmt: skip
NOW = int(time.time())
TEXTS = ["", "0", "1", "1e9", "NaN", "99999999999999999999", str(NOW), str(NOW - 60), str(NOW * 10**9), "1s", "5m",
         "1.5h", "none", "span", "2026-11-23T12:00:00Z", "{}", '{ .item = "tea" }', "{ status = error } | rate()",
         "{} | quantile_over_time(duration, 0.9) by (name)", "{} | by(.odd) | count() > 1 | select(.nan, event.bytes)",
         "{ name = ", "a=b", 'a="', "item=tea rows=3", "\0", "é", "%"]  # fmt: skip
TAGS = ["name", "status", ".item", "span.odd", 'span."x', "event.bytes"]
FIXED = ["/api/search", "/api/search/tags", "/api/v2/search/tags", "/api/metrics/query_range", "/api/metrics/query",
         "/api/echo", "/ready", "/api/status/buildinfo"]  # fmt: skip
pieces = st.one_of(st.sampled_from(TEXTS), st.text(max_size=20), st.integers().map(str))
tags = st.one_of(st.sampled_from(TAGS), st.text(max_size=10))
traces = st.one_of(st.just(TRACE), st.text(max_size=34))
fixed = st.sampled_from(FIXED)
paths = st.one_of(
    fixed,
    tags.map("/api/v2/search/tag/{}/values".format),
    tags.map("/api/search/tag/{}/values".format),
    traces.map("/api/v2/traces/{}".format),
    traces.map("/api/traces/{}".format),
)
pairs = st.lists(st.tuples(st.sampled_from(NAMES), pieces), max_size=5)
requests = st.one_of(
    st.tuples(paths, pairs.map(lambda each: urllib.parse.urlencode(each).encode())),
    st.tuples(paths, st.binary(max_size=100)),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=requests, accept=st.sampled_from([b"application/protobuf", b"application/json", b"*/*", b"\xff"]))
def test_nothing_gives_a_5xx(runner, filled, asked, accept):
    """An answer, or a refusal in plain text that names what is wrong; never HTML."""
    path, query = asked
    status, kind, body = ask(runner, create_app(filled), f"/tempo{path}", query, accept)
    assert status in {200, 307, 400, 404}, body
    if status == 400:
        assert kind == "text/plain; charset=utf-8"
        assert body.startswith(b"invalid ")
    assert b"<html" not in body.lower()


# --- parameters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("0", 0), ("100ms", 10**8), ("1.5s", 15 * 10**8), ("1h30m", 5400 * 10**9), ("1h1m1s1ms1us1ns", 3661001001001),
        ("5µs", 5000), ("5μs", 5000), (".5s", 5 * 10**8), ("1.s", 10**9), ("9223372036854775807ns", 2**63 - 1),
    ],
)  # fmt: skip
def test_durations_are_read_as_go_writes_them(text, ns):
    """Exactly, to the nanosecond."""
    assert params.parse_duration(text) == ns


@pytest.mark.parametrize(
    "text", ["", "1", "s", "1d", "-1s", "+1s", "1 s", "1s ", "1e3s", "\u0663s", "9223372036854775808ns", ".s"]
)
def test_what_is_no_duration_is_refused(text):
    """Whatever Go refuses, and what is negative or too long to count."""
    with pytest.raises(ValueError):
        params.parse_duration(text)


@given(st.integers(0, 2**63 - 1))
def test_a_duration_of_nanoseconds_is_exact(ns):
    """However long."""
    hours, rest = divmod(ns, 3600 * 10**9)
    assert params.parse_duration(f"{hours}h{rest}ns") == ns


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("0", 0), ("1795435200", 1795435200 * 10**9), ("1795435200.5", 1795435200 * 10**9 + 5 * 10**8),
        ("1795435200000000001", 1795435200 * 10**9 + 1), ("2026-11-23T12:00:00Z", 1795435200 * 10**9),
        ("2026-11-23T13:00:00+01:00", 1795435200 * 10**9),
    ],
)  # fmt: skip
def test_times_are_read(text, ns):
    """Seconds up to ten digits, nanoseconds from sixteen on, RFC 3339."""
    assert params.parse_time(text) == ns


@pytest.mark.parametrize("text", ["now", "1795435200000", "-1", "1e9", "9223372036854775808", "2026-11-23", "\u0661"])
def test_what_is_no_time_is_refused(text):
    """Milliseconds too: taken for nanoseconds they would be in 1970."""
    with pytest.raises(ValueError):
        params.parse_time(text)


# --- the client itself ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "document"),
    [
        ("SearchResponse", {"traces": [], "metrics": {"additionalMetrics": {}}}),
        ("SearchResponse", {"traces": [{"traceID": "1", "rootSpanName": "x"}]}),
        ("SearchResponse", {"traces": [{"traceID": 1}]}),
        ("SearchResponse", {"traces": [{"startTimeUnixNano": 1}]}),
        ("SearchResponse", {"traces": [{"durationMs": "1"}]}),
        ("SearchResponse", {"traces": [{"durationMs": -1}]}),
        ("SearchResponse", {"traces": [{"serviceStats": {"shop": {"spanCount": "1"}}}]}),
        ("SearchResponse", {"traces": [{"spanSets": [{"attributes": [{"key": "a", "value": {"intValue": 1}}]}]}]}),
        ("SearchResponse", {"traces": [{"spanSets": [{"attributes": [{"key": "a", "value": "x"}]}]}]}),
        ("QueryInstantResponse", {"series": [{"labels": [], "value": 1, "samples": []}]}),
        ("QueryInstantResponse", {"series": [{"value": "1"}]}),
        ("QueryInstantResponse", {"series": [], "status": 1}),
        ("QueryRangeResponse", {"series": [{"samples": [{"timestampMs": 1}]}]}),
    ],
)
def test_the_client_is_as_strict_as_grafana(name, document):
    """Unknown keys, and numbers where texts belong or the other way round, are not let through."""
    response = Response(200, {"content-type": "application/json"}, json.dumps(document).encode())
    with pytest.raises((AssertionError, ParseError)):
        strict(response, name)


@pytest.mark.parametrize("missing", ["resource", "attributes", "scope", "status"])
def test_the_client_finds_what_grafana_would_stumble_over(missing):
    """Parts of a trace that the plugin reads without looking."""
    trace = TracesData()
    resource = trace.resource_spans.add()
    scope = resource.scope_spans.add()
    span = scope.spans.add(trace_id=bytes(16), span_id=bytes(8))
    if missing != "resource":
        resource.resource.SetInParent()
    if missing not in {"resource", "attributes"}:
        resource.resource.attributes.add(key="a")
    if missing != "scope":
        scope.scope.SetInParent()
    if missing != "status":
        span.status.SetInParent()
    with pytest.raises(AssertionError):
        checked_trace(trace.SerializeToString())
