"""Labels without bound: what an application puts into names and labels must not grow anything without bound."""

import json
import subprocess
import sys

import pytest

LIMIT = 500
_PROCESS = """
import json, sys, time
import msgspec, psutil
from tracekeep.storage import open_store
from tracekeep.storage.records import FrameType, MetricFamily, MetricPoint, MetricsRecord, Origin, SpanRecord

data_dir, count, limit = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
store = open_store(data_dir, series_limit=limit, journal_max_bytes=1 << 30)
origin = store.journal.define(msgspec.msgpack.encode(Origin({"service.name": "shop"})))
encode = msgspec.msgpack.Encoder().encode

def spans(start, stop):
    for n in range(start, stop):
        attributes = {"http.request.method": "GET", "http.route": f"/users/{n}", "http.response.status_code": 200}
        now = time.time_ns()
        ids = n.to_bytes(16, "big"), n, 0, 1
        span = SpanRecord(*ids, origin, f"GET /users/{n}", 2, now - 1000, now, 0, None, attributes, None)
        store.journal.append(FrameType.SPAN, encode(span), origin)

def metrics(start, stop):
    points = [MetricPoint([("user", str(n))], 2) for n in range(start, stop)]
    family = MetricFamily("logins", "counter", "Logins.", "", "sum", [], points)
    store.journal.append(FrameType.METRICS, encode(MetricsRecord(time.time_ns(), [family])))

def fill(start, stop, piece=5000):
    for at in range(start, stop, piece):
        spans(at, min(stop, at + piece))
        metrics(at, min(stop, at + piece))
        while not store.flush(5):
            pass

fill(1, count // 10 + 1)
store.totals()
before = psutil.Process().memory_info().rss
fill(count // 10 + 1, count + 1)
families = {family.name: family for family in store.totals().families}
print(json.dumps({
    "grown": psutil.Process().memory_info().rss - before,
    "series": {name: len(family.series) for name, family in families.items()},
    "sums": {name: sum(series.value for series in family.series) for name, family in families.items()},
    "overflow": {
        name: sum(series.value for series in family.series if ("otel_metric_overflow", "true") in series.labels)
        for name, family in families.items()
    },
    "counted": {dict(series.labels)["metric"]: series.value for series in families["tracekeep_series_overflow"].series},
    "balanced": store.accounting().balanced,
}))
store.close()
"""


@pytest.mark.parametrize("count", [30_000, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_distinct_labels_without_bound(tmp_path, count):
    """Series stay within the limit, overflow takes the exact remainder, and memory doesn't grow with the labels."""
    done = subprocess.run(
        [sys.executable, "-c", _PROCESS, str(tmp_path / "data"), str(count), str(LIMIT)],
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["balanced"]
    for name, each in (
        ("traces_spanmetrics_calls", 1),
        ("traces_spanmetrics_latency", 1),
        ("http_server_request_duration_seconds", 1),
        ("logins", 2),
    ):
        assert found["series"][name] == LIMIT + 1, name
        assert found["sums"][name] == count * each, name
        assert found["overflow"][name] == (count - LIMIT) * each, name
    assert found["counted"]["traces_spanmetrics_calls"] == count - LIMIT
    assert found["grown"] < 100 << 20
