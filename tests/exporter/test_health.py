from importlib.metadata import version

from starlette.testclient import TestClient
from tk_wait import eventually

from tracekeep.exporter import create_app
from tracekeep.exporter.params import parse_instant
from tracekeep.storage import open_store


def test_a_store_that_works_is_ok(client, store, record):
    """Alive, ready, and nothing degraded."""
    record()
    assert store.flush(10)
    assert client.get("/health").json() == {"status": "ok", "degraded": [], "version": version("tracekeep")}
    ready = client.get("/ready")
    assert ready.status_code == 200
    found = ready.json()
    assert (found["status"], found["degraded"]) == ("ready", [])
    assert found["writer"]["pid"] > 0
    assert found["writer"]["lag_seconds"] >= 0
    assert parse_instant(found["writer"]["last_commit"]) > 0


def test_a_store_without_a_writer_is_degraded_and_ready(tmp_path):
    """The journal takes everything meanwhile: no reason to restart, nor to send traffic elsewhere."""
    store = open_store(tmp_path / "unwritten", writer="none")
    try:
        client = TestClient(create_app(store))
        assert client.get("/health").json()["status"] == "ok"  # a writer may just be being elected
        eventually(lambda: client.get("/health").json()["status"] == "degraded", 5)
        health, ready = client.get("/health"), client.get("/ready")
    finally:
        store.close()
    assert (health.status_code, ready.status_code) == (200, 200)
    assert health.json()["status"] == ready.json()["status"] == "degraded"
    assert [each["part"] for each in ready.json()["degraded"]] == ["writer"]
    assert ready.json()["writer"]["pid"] is None


def test_neither_may_be_cached(client):
    """An old answer is a wrong one."""
    for path in ("/health", "/ready"):
        assert client.get(path).headers["cache-control"] == "no-store"
