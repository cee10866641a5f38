import gzip
import subprocess

import pytest
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from tracekeep.exporter import create_app
from tracekeep.storage import open_store

OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
PLAIN = {"Accept-Encoding": "identity"}


def values(text):
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_what_was_recorded_before_the_scrape_is_on_the_page(client, record):
    """Own records are flushed first: calls, durations, errors, and the store's own counters."""
    for _ in range(3):
        record()
    record(error=ValueError("boom"))
    found = values(client.get("/metrics").text)
    calls = {key[1]: value for key, value in found.items() if key[0] == "traces_spanmetrics_calls_total"}
    assert sorted(calls.values()) == [1, 3]
    counted = {dict(labels)["status_code"]: value for labels, value in calls.items()}
    assert counted == {"STATUS_CODE_UNSET": 3, "STATUS_CODE_ERROR": 1}
    assert found["exceptions_total", (("exception_type", "ValueError"), ("service", "shop"))] == 1
    assert found["tracekeep_records_accepted_total", ()] == 4
    assert found["tracekeep_writer_up", ()] == 1
    assert found["tracekeep_degraded", (("part", "journal"),)] == 0


def test_both_formats_tell_the_same(client, record):
    """And name themselves in Content-Type."""
    record()
    text = client.get("/metrics")
    openmetrics = client.get("/metrics", headers=OPENMETRICS)
    assert text.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert openmetrics.headers["content-type"] == (
        "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"
    )
    assert openmetrics.headers["vary"] == "Accept, Accept-Encoding"
    families = openmetrics_parser.text_string_to_metric_families(openmetrics.text)
    names = {sample.name for family in families for sample in family.samples}
    assert names == {name for name, _ in values(text.text)}


def test_the_page_is_compressed_where_that_is_allowed(client):
    """And only there."""
    with client.stream("GET", "/metrics", headers={"Accept-Encoding": "gzip"}) as response:
        assert response.headers["content-encoding"] == "gzip"
        assert b"tracekeep_writer_up" in gzip.decompress(b"".join(response.iter_raw()))
    for refusal in ("identity", "gzip;q=0"):
        assert "content-encoding" not in client.get("/metrics", headers={"Accept-Encoding": refusal}).headers


@pytest.mark.parametrize(
    "accept", ["application/openmetrics-text; version=abc", ";;q=x", "application/json", "a/b;q=2"]
)
def test_an_odd_accept_header_is_answered_in_text(client, accept):
    """Never a 500, never a 406."""
    response = client.get("/metrics", headers={"Accept": accept})
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")


def test_parameters_of_other_exporters_are_ignored(client):
    """Scrape configurations carry them along."""
    assert client.get("/metrics?name[]=up&collect=all").status_code == 200


def test_promtool_takes_the_page(client, record, require):
    """A full page of a real store: exit code 0, no finding."""
    record()
    record(error=ValueError("boom"))
    record("SELECT", kind="client", attributes={"db.system.name": "sqlite"})
    command = [require("promtool"), "check", "metrics"]
    page = client.get("/metrics").text
    done = subprocess.run(command, input=page, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_store_opened_last_is_asked_where_none_is_given(tmp_path, record):
    """`app.mount("/observability", create_app())` needs no more."""
    record()
    with TestClient(create_app()) as client:
        assert values(client.get("/metrics").text)["tracekeep_records_accepted_total", ()] == 1
        other = open_store(tmp_path / "other")
        try:
            found = values(client.get("/metrics").text)
        finally:
            other.close()
    assert found.get(("tracekeep_records_accepted_total", ()), 0) == 0
