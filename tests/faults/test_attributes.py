"""Attribute values of any kind and size, through a real service: no exception, no invalid page."""

import pytest
import tk_app
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from tk_history import MONITORING, settled
from tk_http import get, get_json
from tk_metrics import METRICS, scrape, total
from tk_service import Service
from tk_wait import eventually

OPENMETRICS = {"accept": "application/openmetrics-text; version=1.0.0"}
SHORTENED = {"64MiB", "64MiB-message", "long-key", "long-list", "surrogate", "huge-int"}
LOST = {"many", "empty-key"}  # told on the span itself
MAX_ANSWER = 4 << 20


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attributes")
    with Service(folder / "data", folder) as service:
        yield service


def truncated(service):
    settled(service.port)
    return total(scrape(service.port), "tracekeep_values_truncated_total")


@pytest.mark.parametrize("case", tk_app.CASES)
def test_any_value_survives(service, case):
    """The client gets its answer, the span is kept and can be read, /metrics can be parsed."""
    before = truncated(service)
    answer = get(service.port, f"/attributes/{case}", timeout=30)
    assert (answer.status, answer.text) == (200, "survived")
    settled(service.port)
    trace = get(service.port, f"{MONITORING}/traces/{answer.headers['x-trace-id']}")
    assert trace.status == 200
    assert len(trace.body) < MAX_ANSWER
    assert trace.json["span_count"] == 2
    if case in LOST:
        assert all(span["dropped"]["attributes"] for span in trace.json["spans"])
    page = get(service.port, METRICS, headers=OPENMETRICS)
    assert list(parse_openmetrics(page.text))
    assert len(page.body) < MAX_ANSWER
    if case in SHORTENED:
        eventually(lambda: truncated(service) > before, 3)


def test_nothing_was_dropped(service):
    """After all of that the accounting balances, nothing was dropped and health is ok."""
    account = settled(service.port)
    assert account["balanced"], account
    assert not any(account["dropped"].values()), account
    assert service.health()["status"] == "ok"
    errors = get_json(service.port, f"{MONITORING}/errors?limit=1000")["errors"]
    assert all(len(error["message"]) < MAX_ANSWER for error in errors)


def test_the_values_can_be_found_again(service):
    """Values that fit are kept as they are, in the form that JSON has for them."""
    kept = {}
    for case in ("nul", "newline", "bytes", "nested", "huge-int", "nan"):
        answer = get(service.port, f"/attributes/{case}")
        spans = get_json(service.port, f"{MONITORING}/traces/{answer.headers['x-trace-id']}")["spans"]
        kept[case] = [span["attributes"].get("value") for span in spans]
    assert kept["nul"] == ["a\0b"] * 2
    assert kept["newline"][0].startswith('line\n"quoted"')
    assert [int(value, 0) for value in kept["huge-int"]] == [2**70] * 2
    assert kept["bytes"] == [{"$bytes": "ff00fe"}] * 2
    assert kept["nested"] == [{"a": {"b": [1, {"c": [None, "d"]}]}}] * 2
    assert kept["nan"] == [{"$float": "NaN"}] * 2
