import gzip
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient
from tk_client import Client
from tk_http import get
from tk_service import Service

from tracekeep.exporter import create_app
from tracekeep.exporter.compression import CODINGS, compressed
from tracekeep.storage import SettingError, open_store

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


def test_zstd_is_used_where_it_is_asked_for(client):
    """With Python's own module or the package; it reads back as the page without."""
    assert "zstd" in CODINGS
    with client.stream("GET", "/metrics", headers={"Accept-Encoding": "gzip, zstd"}) as response:
        assert response.headers["content-encoding"] == "zstd"
        body = b"".join(response.iter_raw())
    assert len(body) == int(response.headers["content-length"])
    assert b"tracekeep_writer_up 1\n" in unzstd(body)


def unzstd(body):
    try:
        from compression import zstd
    except ImportError:
        import zstandard

        return zstandard.ZstdDecompressor().decompressobj().decompress(body)
    return zstd.decompress(body)


@given(chunks=st.lists(st.binary(max_size=300)))
def test_compressed_chunks_read_back(chunks):
    """However the page is cut, and where it is empty."""
    assert gzip.decompress(b"".join(compressed(chunks, "gzip"))) == b"".join(chunks)
    assert unzstd(b"".join(compressed(chunks, "zstd"))) == b"".join(chunks)
    assert compressed(chunks, None) == chunks


def test_name_chooses_families_and_samples(client, record):
    """Repeated, as prometheus_client has it; nothing is chosen by a name that nobody has."""
    record()
    found = values(client.get("/metrics?name[]=tracekeep_writer_up&name[]=traces_spanmetrics_latency_sum").text)
    assert {name for name, _ in found} == {"tracekeep_writer_up", "traces_spanmetrics_latency_sum"}
    found = values(client.get("/metrics", params={"name[]": "traces_spanmetrics_latency"}).text)
    assert {name.rpartition("_")[2] for name, _ in found} == {"bucket", "count", "sum"}
    assert client.get("/metrics?name[]=nobody").text == ""
    assert client.get("/metrics?name[]=nobody", headers=OPENMETRICS).text == "# EOF\n"


@pytest.mark.parametrize("query", ["name=up", "names[]=up", "Name[]=up", "name[0]=up"])
def test_a_mistyped_name_is_a_mistake(client, query):
    """It would give the whole page where a part was meant."""
    response = client.get(f"/metrics?{query}")
    assert (response.status_code, response.headers["content-type"]) == (400, "application/problem+json")
    assert response.json()["parameter"] == query.partition("=")[0]
    assert "'name[]'" in response.json()["detail"]


@pytest.mark.parametrize("value", ["", "x" * 5000, "a\0b"])
def test_a_name_that_cannot_be_is_a_mistake(client, value):
    """With the parameter."""
    response = client.get("/metrics", params={"name[]": value})
    assert (response.status_code, response.json()["parameter"]) == (400, "name[]")


def test_parameters_of_other_exporters_are_ignored(client):
    """A scrape configuration sends its parameters to all its targets."""
    assert client.get("/metrics?collect[]=cpu&format=prometheus&name[]=up").status_code == 200


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (
            "text/plain;version=1.0.0;escaping=allow-utf-8",
            "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
        ),
        ("text/plain;version=1.0.0;escaping=dots", "text/plain; version=1.0.0; charset=utf-8; escaping=dots"),
        ("text/plain;version=0.0.4", "text/plain; version=0.0.4; charset=utf-8"),
    ],
)
def test_the_escaping_is_applied_and_told(client, record, accept, expected):
    """In Content-Type, and in names."""
    record()
    response = client.get("/metrics", headers={"Accept": accept})
    assert response.headers["content-type"] == expected
    name = "traces__spanmetrics__calls__total{" if "dots" in accept else "traces_spanmetrics_calls_total{"
    assert name in response.text


def test_start_times_are_told_where_they_are_wanted(store, record, monkeypatch):
    """By keyword or variable, in both formats; otherwise not."""
    record()
    plain = TestClient(create_app(store))
    assert "_created" not in plain.get("/metrics").text + plain.get("/metrics", headers=OPENMETRICS).text
    keyword = TestClient(create_app(store, created_samples=True))
    monkeypatch.setenv("TRACEKEEP_CREATED_SAMPLES", "yes")
    variable = TestClient(create_app(store))
    for client in (keyword, variable):
        text = values(client.get("/metrics").text)
        started = [value for (name, _), value in text.items() if name == "traces_spanmetrics_calls_created"]
        assert started == [pytest.approx(time.time(), abs=60)]
        page = client.get("/metrics", headers=OPENMETRICS).text
        (calls,) = [
            family
            for family in openmetrics_parser.text_string_to_metric_families(page)
            if family.name == "traces_spanmetrics_calls"
        ]
        assert [sample.value for sample in calls.samples if sample.name.endswith("_created")] == started
    assert "_created" not in TestClient(create_app(store, created_samples=False)).get("/metrics").text


def test_a_wrong_variable_is_an_error_at_start(monkeypatch):
    """It names it."""
    monkeypatch.setenv("TRACEKEEP_CREATED_SAMPLES", "perhaps")
    with pytest.raises(SettingError, match="TRACEKEEP_CREATED_SAMPLES"):
        create_app()


def test_who_has_something_to_journal_is_asked_before_the_page(store, client, record):
    """What it records then is on the page; a fault of its own harms nobody."""
    store.before_scrape += [lambda: 1 / 0, record]
    found = values(client.get("/metrics").text)
    assert found["tracekeep_records_accepted_total", ()] == 1


def test_pages_of_stores_are_kept_apart(tmp_path, store, record):
    """Each store has text of its own, and takes it along when it goes."""
    record()
    other = open_store(tmp_path / "other")
    try:
        one, two = TestClient(create_app(store)), TestClient(create_app(other))
        for _ in range(2):
            assert "traces_spanmetrics_calls_total{" in one.get("/metrics").text
            assert "traces_spanmetrics_calls_total{" not in two.get("/metrics").text
    finally:
        other.close()


@pytest.mark.parametrize("fmt", ["text/plain", "application/openmetrics-text"])
def test_twenty_scrapes_at_once_under_load(tmp_path, fmt):
    """Both workers, while requests are counted: every page is whole and clean, and no counter falls."""
    parse = text_string_to_metric_families if fmt == "text/plain" else openmetrics_parser.text_string_to_metric_families
    with Service(tmp_path / "data", tmp_path, workers=2) as service, Client(service.port, rate=100, threads=4):

        def scrape(number):
            seen, port = {}, service.ports[number % 2]
            for _ in range(5):
                response = get(port, "/observability/metrics", headers={"Accept": fmt}, timeout=30)
                assert (response.status, response.headers["content-type"].startswith(fmt)) == (200, True)
                families = list(parse(response.text))
                assert len({family.name for family in families}) == len(families)
                counted = [
                    ((sample.name, tuple(sorted(sample.labels.items()))), sample.value)
                    for family in families
                    if family.type in {"counter", "histogram"}
                    for sample in family.samples
                ]
                now = dict(counted)
                assert len(now) == len(counted)
                assert [key for key, value in seen.items() if now.get(key, -1) < value] == []
                seen = now
            return seen

        with ThreadPoolExecutor(20) as pool:
            pages = list(pool.map(scrape, range(20)))
    assert all(any(name == "traces_spanmetrics_calls_total" for name, _ in page) for page in pages)


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
