import pytest
from starlette.testclient import TestClient
from tk_errors import Logger, stack
from tk_wait import eventually

from tracekeep.exporter import create_app
from tracekeep.storage import Store, StoreSettings

GROUPS = "/monitoring/errors/groups"


@pytest.fixture
def log(store):
    return Logger(store, release="1.0")


def answer(client, path, status=200, **params):
    response = client.get(path, params=params)
    assert response.status_code == status, response.text
    return response.json()


def order(client, group, name, status=200):
    response = client.post(f"{GROUPS}/{group}/{name}")
    assert response.status_code == status, response.text
    return response.json()


def test_a_group_is_told_in_full(client, log):
    """Everything that is kept of it, in the wire's own forms."""
    time_ns = 1_795_000_000_123_456_789
    log(time_ns=time_ns, trace_id=b"\xab" * 16, span_id=0xCD)
    (error,) = answer(client, "/monitoring/errors")["errors"]
    at = "2026-11-18T11:06:40.123456789Z"
    told = {
        "id": error["group"],
        "type": "ValueError",
        "message": "no such item",
        "culprit": "shop.views in item",
        "services": ["shop"],
        "state": "open",
        "state_changed": None,
        "regressions": 0,
        "regressed": None,
        "operational": False,
        "severity": "critical",
        "count": 1,
        "first_seen": at,
        "last_seen": at,
        "newest_trace_id": "ab" * 16,
    }
    assert answer(client, GROUPS) == {"groups": [told], "next": None}
    assert answer(client, f"{GROUPS}/{error['group'].upper()}") == told | {
        "fingerprint_version": 1,
        "hours": [{"start": "2026-11-18T11:00:00.000000000Z", "count": 1}],
        "releases": [{"release": "1.0", "count": 1, "first_seen": at, "last_seen": at}],
        "samples": [{"trace_id": "ab" * 16, "span_id": "00000000000000cd", "time": at}],
    }
    assert (error["release"], error["trace_id"]) == ("1.0", "ab" * 16)


def test_an_error_without_a_span_has_no_ids(client, log):
    """They are null, not zeros."""
    log()
    (error,) = answer(client, "/monitoring/errors")["errors"]
    assert (error["trace_id"], error["span_id"], error["operation"]) == (None, None, "shop.views")
    assert answer(client, GROUPS)["groups"][0]["newest_trace_id"] is None


def test_resolved_and_back_again(client, log):
    """Each command is answered with the state; the next error is a regression, and counted on /metrics."""
    log()
    group = answer(client, GROUPS)["groups"][0]["id"]
    assert order(client, group, "resolve")["state"] == "resolved"
    assert order(client, group, "resolve")["state"] == "resolved"
    assert answer(client, GROUPS, state="open")["groups"] == []
    log()
    (back,) = answer(client, GROUPS, state="open")["groups"]
    assert (back["count"], back["regressions"], back["regressed"]) == (2, 1, back["last_seen"])
    assert order(client, group, "mute")["state"] == "muted"
    assert len(answer(client, "/monitoring/errors", state="muted")["errors"]) == 2
    done = order(client, group, "reopen")
    assert (done["group"], done["state"]) == (group, "open")
    page = client.get("/metrics").text
    assert 'tracekeep_error_groups_new_total{service="shop"} 1' in page
    assert 'tracekeep_error_groups_regressed_total{service="shop"} 1' in page
    assert 'exceptions_total{service="shop",exception_type="ValueError"} 2' in page


def test_a_command_without_a_writer(tmp_path, store, log):
    """It is accepted with 202, and its outcome is not known yet."""
    log()
    assert store.flush(5)
    group = store.error_groups().items[0].id
    store.close()
    waiting = Store(tmp_path / "data", StoreSettings(writer="none")).start()
    try:
        done = order(TestClient(create_app(waiting)), group, "resolve", 202)
        assert (done["group"], done["state"]) == (group, None)
    finally:
        waiting.close()


@pytest.mark.parametrize("name", ["", "resolve", "mute", "reopen"])
def test_unknown_and_malformed_groups(client, log, name):
    """404 for what isn't there, 400 for what is no id at all, naming it."""
    log()
    eventually(lambda: answer(client, GROUPS)["groups"], 5)
    ask = client.post if name else client.get
    unknown = ask(f"{GROUPS}/{'f' * 16}{'/' * bool(name)}{name}")
    assert unknown.status_code == 404
    assert "f" * 16 in unknown.json()["detail"]
    malformed = ask(f"{GROUPS}/xyz{'/' * bool(name)}{name}")
    assert malformed.status_code == 400
    assert (malformed.json()["parameter"], malformed.json()["value"]) == ("group_id", "xyz")
    wrong = (client.get if name else client.post)(f"{GROUPS}/{'f' * 16}{'/' * bool(name)}{name}")
    assert wrong.status_code == 405


def test_filters_sorts_and_pages(client, log):
    """Those of groups, and those of errors that groups bring."""
    for number in range(4):
        for _ in range(number + 1):
            log(stack=stack(function=f"f{number}"), attributes={"tracekeep.operational": number == 0})
    names = [each["culprit"][-2:] for each in answer(client, GROUPS, sort="count")["groups"]]
    assert names == ["f3", "f2", "f1", "f0"]
    page = answer(client, GROUPS, limit=3)
    assert [each["culprit"][-2:] for each in page["groups"]] == ["f3", "f2", "f1"]
    assert [each["culprit"][-2:] for each in answer(client, GROUPS, limit=3, cursor=page["next"])["groups"]] == ["f0"]
    assert answer(client, GROUPS, type="OSError")["groups"] == []
    assert len(answer(client, GROUPS, service="shop", type="ValueError")["groups"]) == 4
    first = page["groups"][0]
    assert len(answer(client, "/monitoring/errors", group=first["id"])["errors"]) == first["count"] == 4
    assert len(answer(client, "/monitoring/errors", operational="true")["errors"]) == 1
    assert len(answer(client, "/monitoring/errors", operational="false")["errors"]) == 9


@pytest.mark.parametrize(
    ("path", "params", "parameter"),
    [
        (GROUPS, {"sort": "name"}, "sort"),
        (GROUPS, {"state": "closed"}, "state"),
        (GROUPS, {"cursor": "!"}, "cursor"),
        (GROUPS, {"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, "until"),
        ("/monitoring/errors", {"group": "1"}, "group"),
        ("/monitoring/errors", {"operational": "yes"}, "operational"),
        ("/monitoring/errors", {"state": "x"}, "state"),
    ],
)
def test_mistakes_are_named(client, path, params, parameter):
    """400 with the parameter."""
    assert answer(client, path, 400, **params)["parameter"] == parameter
