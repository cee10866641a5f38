import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient
from tk_asgi import answered, http_scope
from tk_failing import Failing, failing

from tracekeep.exporter import create_app
from tracekeep.exporter.app import ROUTES
from tracekeep.storage import InvalidCursor, QueryTimeout, SettingError, Unavailable

TRACE = "0af7651916cd43dd8448eb211c80319c"
HISTORY = [
    "/monitoring/errors",
    "/monitoring/performance",
    "/monitoring/spans",
    "/monitoring/performance/series",
    "/monitoring/performance/compare",
    f"/monitoring/traces/{TRACE}",
    "/monitoring/accounting",
]


def client_of(app, **options):
    return TestClient(app, raise_server_exceptions=False, **options)


def document(response, status):
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    found = response.json()
    assert found["type"] == "about:blank"
    assert found["status"] == status
    assert found["title"]
    assert found["detail"]
    return found


def test_a_wrong_parameter_is_a_problem_document():
    """It names the parameter, the value and what is allowed; the store isn't asked."""
    found = document(failing(AssertionError()).get("/monitoring/errors?limit=0"), 400)
    assert found == {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": "Parameter 'limit' must be a whole number from 1 to 1000, not '0'.",
        "parameter": "limit",
        "value": "0",
    }


def test_a_malformed_trace_id_is_a_400():
    """In a path as in a query."""
    found = document(failing(AssertionError()).get("/monitoring/traces/xyz"), 400)
    assert (found["parameter"], found["value"]) == ("trace_id", "xyz")


@pytest.mark.parametrize("path", HISTORY[:3])
def test_times_in_the_wrong_order_are_a_400(path):
    """Wherever there is a `since` and an `until`."""
    query = "?since=2026-11-23T12:00:00Z&until=2026-11-23T11:00:00Z"
    assert document(failing(AssertionError()).get(path + query), 400)["parameter"] in {"since", "until"}


def test_a_window_and_an_end_exclude_each_other():
    """Neither is guessed at."""
    response = failing(AssertionError()).get("/monitoring/performance?window=1h&until=2026-11-23T11:00:00Z")
    assert document(response, 400)["parameter"] == "window"


def test_a_window_in_the_future_is_a_400():
    """`since` alone must be before now."""
    response = failing(AssertionError()).get("/monitoring/performance?since=2200-01-01T00:00:00Z")
    assert document(response, 400)["parameter"] == "since"


@pytest.mark.parametrize("path", HISTORY)
def test_a_store_that_cannot_answer_is_a_503(path):
    """With its reason, and when to ask again."""
    response = failing(Unavailable("The disk is full.")).get(path)
    assert "The disk is full." in document(response, 503)["detail"]
    assert response.headers["retry-after"] == "5"


@pytest.mark.parametrize("path", HISTORY)
def test_a_query_at_its_deadline_is_a_503(path):
    """It says what to narrow."""
    found = document(failing(QueryTimeout("10 s have passed.")).get(path), 503)
    assert "10 s have passed." in found["detail"]
    assert "'since'" in found["detail"]


def test_a_foreign_cursor_is_a_400():
    """It names the parameter."""
    found = document(failing(InvalidCursor("Not base64.")).get("/monitoring/errors?cursor=zzz"), 400)
    assert (found["parameter"], found["value"]) == ("cursor", "zzz")


def test_without_totals_there_are_no_numbers():
    """503 in words: a counter that seems to go backwards is worse than a gap."""
    response = failing(Unavailable("The disk is full.")).get("/metrics")
    assert (response.status_code, response.headers["content-type"]) == (503, "text/plain; charset=utf-8")
    assert response.text == "The totals can't be read just now: The disk is full.\n"


@pytest.mark.parametrize("error", [Unavailable("No disk."), SettingError("data_dir", "", "the path of a directory")])
def test_without_a_store_the_process_lives_and_is_not_ready(error):
    """A restart would not help; traffic would not either."""
    client = failing(error)
    health = client.get("/health")
    assert (health.status_code, health.json()["status"]) == (200, "degraded")
    assert health.json()["degraded"] == [{"part": "store", "reason": str(error)}]
    assert str(error) in document(client.get("/ready"), 503)["detail"]


@pytest.mark.parametrize("path", ["/metrics", "/health", "/ready", *HISTORY])
def test_a_fault_of_ours_is_a_500_that_tells_nothing(path, caplog):
    """Its text is in the log, once; not in the answer."""
    client = failing(RuntimeError("secret"))
    for _ in range(3):
        response = client.get(path)
        document(response, 500)
        assert "secret" not in response.text
    assert [record.levelno for record in caplog.records if record.name == "tracekeep.exporter"] == [logging.ERROR]


def test_what_is_not_there_is_a_problem_too():
    """404 and 405 name the path and the methods."""
    client = failing(AssertionError())
    assert "/nothing" in document(client.get("/nothing"), 404)["detail"]
    response = client.get("/monitoring/errors/clear")
    assert "GET /monitoring/errors/clear" in document(response, 405)["detail"]
    assert response.headers["allow"] == "POST"
    document(client.post("/metrics"), 405)


@pytest.mark.parametrize("prefix", ["", "/observability", "/a/b"])
def test_own_requests_are_not_recorded_wherever_the_app_is_mounted(prefix):
    """Instrumentation around it finds `record` false in what it left in the scope."""
    notes = []

    def instrumented(app):
        async def outer(scope, receive, send):
            if scope["type"] == "http":
                scope["tracekeep"] = {}
                notes.append(scope["tracekeep"])
            await app(scope, receive, send)

        return outer

    app = create_app(Failing(Unavailable("")))
    client = client_of(instrumented(Starlette(routes=[Mount(prefix, app)]) if prefix else app))
    for path in ("/metrics", "/health", "/nothing", "/monitoring/errors?limit=x"):
        client.get(prefix + path)
    assert notes == [{"record": False}] * 4


def test_a_foreign_note_in_the_scope_is_left_alone():
    """Whatever else bears the name is not ours to change."""

    async def outer(scope, receive, send):
        await create_app(Failing(Unavailable("")))({**scope, "tracekeep": "x"}, receive, send)

    assert client_of(outer).get("/health").status_code == 200


paths = st.sampled_from(["/metrics", "/health", "/ready", *HISTORY])


@given(path=paths, query=st.binary(max_size=200))
def test_any_query_string_is_answered_below_500(path, query):
    """Whatever bytes come: an answer or a refusal, here 503 from a store that has none."""
    scope = http_scope(path, raw_path=path.encode(), query_string=query)
    sent = answered(create_app(Failing(Unavailable(""))), scope)
    assert sent[0]["status"] in {200, 400, 503}


def test_every_route_is_named_once():
    """The table of routes is the whole app."""
    assert len({route.path for route in ROUTES}) == len(ROUTES)
