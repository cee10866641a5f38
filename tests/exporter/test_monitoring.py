import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from tracekeep.exporter import create_app
from tracekeep.exporter.errors import ERRORS
from tracekeep.exporter.params import parse_instant
from tracekeep.exporter.performance import COMPARE, PERFORMANCE, SERIES
from tracekeep.exporter.responses import rfc3339
from tracekeep.exporter.traces import SPANS
from tracekeep.storage import open_store
from tracekeep.storage.fingerprint import fingerprint

TRACE = "0af7651916cd43dd8448eb211c80319c"
SINCE = 1_795_435_200 * 10**9  # 2026-11-23T12:00:00Z


def answer(client, path, expected=200, /, **params):
    response = client.get(path, params=params)
    assert response.status_code == expected, response.text
    return response.json()


def test_an_error_is_told_in_full(client, record):
    """Everything that is kept of it, in the wire's own forms."""
    end = time.time_ns() - 10**9
    trace_id = record(error=ValueError("boom"), end=end, span_id=0xAB)
    found = answer(client, "/monitoring/errors")
    (error,) = found["errors"]
    assert error.pop("id")
    assert error.pop("attributes").items() >= {
        ("http.route", "GET /items/{id}"),
        ("http.response.status_code", 500),
    }
    assert error == {
        "time": rfc3339(end - 1),
        "service": "shop",
        "release": None,
        "type": "ValueError",
        "message": "boom",
        "stacktrace": "at …",
        "group": fingerprint("ValueError", "boom", None).group,
        "operational": False,
        "severity": "critical",
        "trace_id": trace_id,
        "span_id": "00000000000000ab",
        "operation": "GET /items/{id}",
    }
    assert (found["next"], found["degraded"]) == (None, False)
    assert found["stats"] == {"total": 1, "last_hour": 1, "last_24_hours": 1, "operational": 0, "critical": 1}


def test_statistics_are_of_all_errors_whatever_the_filter(client, record):
    """By age and by severity; an error answered with a status below 500 is operational."""
    record(error=ValueError("new"))
    record(error=LookupError("expected"), status=404)
    record(error=ValueError("hours ago"), ago=7200)
    record(error=ValueError("days ago"), ago=200_000)
    found = answer(client, "/monitoring/errors", type="LookupError")
    assert [(error["type"], error["severity"]) for error in found["errors"]] == [("LookupError", "operational")]
    assert found["stats"] == {"total": 4, "last_hour": 2, "last_24_hours": 3, "operational": 1, "critical": 3}


def test_errors_are_filtered(client, record):
    """By service, by type, and by time: from `since` on, before `until`."""
    for service, second in (("shop", 0), ("shop", 1), ("desk", 2)):
        record(service=service, error=ValueError(str(second)), end=SINCE + second * 10**9 + 1)

    def messages(**params):
        return [error["message"] for error in answer(client, "/monitoring/errors", **params)["errors"]]

    assert messages() == ["2", "1", "0"]
    assert messages(service="shop") == ["1", "0"]
    assert messages(type="KeyError") == []
    assert messages(since="2026-11-23T12:00:01Z") == ["2", "1"]
    assert messages(since="2026-11-23T12:00:01Z", until="2026-11-23T12:00:02Z") == ["1"]


@pytest.mark.parametrize("path", ["/monitoring/errors", "/monitoring/spans"])
def test_pages_follow_each_other(client, record, path):
    """Newest first, each once, in as many pages as it takes."""
    for number in range(7):
        record(error=ValueError(str(number)))
    key = path.rpartition("/")[2]
    seen, cursor = [], None
    while True:
        page = answer(client, path, limit=3, **({"cursor": cursor} if cursor else {}))
        seen.append([item["trace_id"] for item in page[key]])
        cursor = page["next"]
        if cursor is None:
            break
    assert list(map(len, seen)) == [3, 3, 1]
    assert len({trace_id for page in seen for trace_id in page}) == 7


@pytest.mark.parametrize("path", ["/monitoring/errors", "/monitoring/spans"])
@pytest.mark.parametrize("cursor", ["zzz", "é", "MQ", "x" * 4096, "AAAA===="])
def test_a_cursor_of_nobody_is_refused(client, path, cursor):
    """The problem names `cursor`."""
    problem = answer(client, path, 400, cursor=cursor)
    assert (problem["parameter"], problem["value"]) == ("cursor", cursor[:200])


def test_clearing_hides_the_errors_recorded_until_then(client, record):
    """It says how many; what comes later is shown again."""
    record(error=ValueError("old"))
    record(error=ValueError("old"))
    response = client.post("/monitoring/errors/clear")
    assert response.status_code == 200
    assert response.json()["cleared"] == 2
    assert response.json()["id"]
    assert answer(client, "/monitoring/errors")["errors"] == []
    assert answer(client, "/monitoring/errors")["stats"]["total"] == 0
    record(error=ValueError("new"), ago=-0.5)
    assert [error["message"] for error in answer(client, "/monitoring/errors")["errors"]] == ["new"]


def test_performance_sums_up_operations(client, record):
    """Counts, durations in milliseconds, and rates over the window; the busiest first."""
    now = time.time_ns()
    for ms in (10, 20, 30, 1500):
        record(ms=ms, end=now - 10**9)
    record("POST /pay", error=ValueError("declined"), ms=40, end=now - 2 * 10**9)
    found = answer(client, "/monitoring/performance", window="10m")
    window = found["window"]
    assert parse_instant(window["until"]) - parse_instant(window["since"]) == 600 * 10**9
    busy, failed = found["operations"]
    assert busy == {
        "service": "shop",
        "name": "GET /items/{id}",
        "kind": "server",
        "release": None,
        "count": 4,
        "error_count": 0,
        "error_rate": 0.0,
        "avg_ms": pytest.approx(390),
        "min_ms": 10,
        "max_ms": 1500,
        "p50_ms": pytest.approx(20, rel=0.05),
        "p95_ms": pytest.approx(1500, rel=0.05),
        "p99_ms": pytest.approx(1500, rel=0.05),
        "slow_count": 1,
        "requests_per_minute": pytest.approx(0.4, rel=0.11),  # of up to eleven minutes that ten have a part in
        "last_request": rfc3339(now - 10**9),
    }
    assert (failed["name"], failed["error_count"], failed["error_rate"]) == ("POST /pay", 1, 1.0)
    assert [span["duration_ms"] for span in found["slow_requests"]] == [1500]


def test_what_counts_as_a_slow_request_can_be_asked_for(client, record):
    """Of requests only: a slow query inside one is no request."""
    record(ms=30)
    record("SELECT", kind="client", ms=30)
    found = answer(client, "/monitoring/performance", slow_ms=25)
    assert [span["name"] for span in found["slow_requests"]] == ["GET /items/{id}"]
    assert answer(client, "/monitoring/performance", slow_ms=35)["slow_requests"] == []


def test_performance_is_filtered(client, record):
    """By service, by kind, by a window that lies anywhere."""
    record(service="desk")
    record("SELECT", kind="client")
    record("long ago", end=SINCE)

    def names(**params):
        return {each["name"] for each in answer(client, "/monitoring/performance", **params)["operations"]}

    assert names() >= {"GET /items/{id}", "SELECT"}
    assert names(service="desk") == {"GET /items/{id}"}
    assert names(kind="client") == {"SELECT"}
    assert names(since="2026-11-23T11:55:00Z", until="2026-11-23T12:05:00Z") >= {"long ago"}
    assert names(since="2026-11-22T11:00:00Z", until="2026-11-22T12:00:00Z") == set()


def test_a_span_is_told_in_full(client, record):
    """Everything that is kept of it, in the wire's own forms."""
    end = time.time_ns()
    record(trace_id=TRACE, span_id=1, parent_id=2**63, end=end, ms=1.5, attributes={"n": 1, "f": 0.5, "ok": True})
    (span,) = answer(client, "/monitoring/spans")["spans"]
    assert span["scope"].pop("name") == "tests"
    del span["scope"]
    assert span == {
        "trace_id": TRACE,
        "span_id": "0000000000000001",
        "parent_span_id": "8000000000000000",
        "service": "shop",
        "name": "GET /items/{id}",
        "kind": "server",
        "start": rfc3339(end - 1_500_000),
        "end": rfc3339(end),
        "duration_ms": 1.5,
        "status": "unset",
        "status_message": None,
        "attributes": {
            "http.route": "GET /items/{id}",
            "http.response.status_code": 200,
            "n": 1,
            "f": 0.5,
            "ok": True,
        },
        "events": [],
        "links": [],
        "resource": {"service.name": "shop"},
        "trace_state": None,
        "parent_is_remote": False,
        "dropped": {},
    }


def test_spans_are_filtered(client, record):
    """By each of the filters, and by all together."""
    record("a", ms=5, attributes={"user": "x:y", "size": 7, "cached": True}, end=SINCE)
    record("b", "desk", "client", ms=50, error=ValueError("boom"), end=SINCE + 10**9)

    def names(**params):
        return [span["name"] for span in answer(client, "/monitoring/spans", **params)["spans"]]

    assert names() == ["b", "a"]
    assert names(service="desk") == names(name="b") == names(kind="client") == names(status="error") == ["b"]
    assert names(min_duration_ms=10) == ["b"]
    assert names(max_duration_ms=10) == ["a"]
    assert names(since="2026-11-23T12:00:00.5Z") == ["b"]
    assert names(until="2026-11-23T12:00:00.5Z") == ["a"]
    assert names(attribute="user:x:y") == names(attribute=["size:7", "cached:true"]) == ["a"]
    assert names(attribute="user:x") == []
    assert names(service="desk", kind="client", attribute="http.response.status_code:500") == ["b"]
    assert names(service="desk", kind="server") == []


@pytest.mark.parametrize(
    "key",
    ["'", "a.b", "$", "]", "[0]", "ключ", "a'; DROP TABLE spans; --", '"', 'a"b', "\\"],
)
def test_attribute_keys_of_any_kind_are_found(client, record, key):
    """A key is data, whatever characters it has."""
    record("odd", attributes={key: "value"})
    record("plain")
    found = answer(client, "/monitoring/spans", attribute=f"{key}:value")["spans"]
    assert [span["name"] for span in found] == ["odd"]


def test_a_trace_is_its_spans_by_start(client, record):
    """With how long it took altogether; the id may be in upper case."""
    now = time.time_ns()
    record("child", kind="client", trace_id=TRACE, span_id=2, parent_id=1, end=now - 10**6, ms=2)
    record("root", trace_id=TRACE, span_id=1, end=now, ms=5)
    record("other")
    found = answer(client, f"/monitoring/traces/{TRACE.upper()}")
    assert (found["trace_id"], found["span_count"], found["duration_ms"]) == (TRACE, 2, 5)
    assert [(span["name"], span["parent_span_id"]) for span in found["spans"]] == [
        ("root", None),
        ("child", "0000000000000001"),
    ]


def test_an_unknown_trace_is_a_404(client):
    """It names the trace."""
    assert TRACE in answer(client, f"/monitoring/traces/{TRACE}", 404)["detail"]


def test_accounting_says_where_every_record_is(client, record):
    """accepted = stored + pending + dropped."""
    for _ in range(5):
        record()
    found = answer(client, "/monitoring/accounting")
    assert found["accepted"] == 5
    assert found["balanced"] is True
    assert found["accepted"] == found["stored"] + found["pending"] + sum(found["dropped"].values())


def test_values_that_json_lacks_are_answered(client, record):
    """NaN, infinity and bytes are kept, and are no reason for a 500."""
    record(attributes={"nan": float("nan"), "inf": float("inf"), "bytes": b"\x00\xff", "nested": {"a": [1, None]}})
    (span,) = answer(client, "/monitoring/spans")["spans"]
    assert span["attributes"].keys() >= {"nan", "inf", "bytes", "nested"}


@pytest.mark.parametrize("path", ["/monitoring/errors", "/monitoring/performance", "/monitoring/spans"])
def test_head_is_answered_like_get(client, path):
    """With the same status and headers."""
    assert client.head(path).status_code == 200


names = st.sampled_from(sorted({param.name for param in (*ERRORS, *PERFORMANCE, *SERIES, *COMPARE, *SPANS)})) | st.text(
    max_size=5
)
texts = st.text(max_size=50) | st.sampled_from(
    [TRACE, "1", "50", "1h", "server", "2026-11-23T12:00:00Z", "k:v", 'a"b:c', "a[:b", "$:$", "\\:", "error"]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    path=st.sampled_from(
        ["errors", "performance", "performance/series", "performance/compare", "spans", "accounting", f"traces/{TRACE}"]
    ),
    query=st.lists(st.tuples(names, texts), max_size=4),
)
def test_any_query_of_a_real_store_is_answered_below_500(client, path, query):
    """Found, not found, or refused."""
    assert client.get(f"/monitoring/{path}", params=query).status_code in {200, 400, 404}


def test_an_empty_store_has_empty_answers(client):
    """Before the first record nothing is missing, and nothing fails."""
    assert answer(client, "/monitoring/errors")["errors"] == []
    assert answer(client, "/monitoring/spans") == {"spans": [], "next": None, "degraded": False}
    found = answer(client, "/monitoring/performance")
    assert (found["operations"], found["slow_requests"]) == ([], [])
    assert answer(client, "/monitoring/accounting")["balanced"] is True


def test_without_a_writer_clearing_is_accepted_for_later(tmp_path):
    """202: whoever writes next will apply it."""
    store = open_store(tmp_path / "unwritten", writer="none")
    try:
        response = TestClient(create_app(store)).post("/monitoring/errors/clear")
    finally:
        store.close()
    assert response.status_code == 202
    assert response.json()["cleared"] is None
