import time

from tk_spans import CLIENT, SERVER, Recorder

from tracekeep.storage import rollups


def test_operations_are_bounded(opened, monkeypatch):
    """Past the limit spans with new names share one operation of their service and kind; none is lost."""
    monkeypatch.setattr(rollups, "MAX_OPERATIONS", 3)
    store = opened()
    record = Recorder(store)
    for number in range(10):
        record(f"GET /users/{number}", kind=SERVER)
        record(f"SELECT {number}", kind=CLIENT)
        assert store.flush(5)
    minute = 60_000_000_000
    now = time.time_ns()
    found = store.performance(since_ns=now - 10 * minute, until_ns=now + minute)
    counts = {(each.name, each.kind): each.count for each in found.groups}
    assert sum(counts.values()) == 20
    assert counts["(other)", "client"] + counts["(other)", "server"] == 17
    record("GET /users/0", kind=SERVER)
    assert store.flush(5)
    found = store.performance(since_ns=now - 10 * minute, until_ns=now + minute)
    assert {(each.name, each.kind): each.count for each in found.groups}["GET /users/0", "server"] == 2
