"""Schemathesis asks for what the schema allows, and for what it doesn't: no 5xx, no answer outside of the schema."""

import time

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tk_spans import CLIENT, ERROR, SERVER, Recorder, exception
from tk_wait import eventually

from tracekeep.exporter import create_app
from tracekeep.exporter.app import ROUTES
from tracekeep.exporter.openapi import schema
from tracekeep.storage import Store, StoreSettings

TRACE = "0af7651916cd43dd8448eb211c80319c"
CHECKED = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    """Give the schema of an application whose store has spans of all kinds, errors, and a whole trace."""
    store = Store(tmp_path_factory.mktemp("asked"), StoreSettings()).start()
    eventually(lambda: store.status().writer_pid, 10)
    now = time.time_ns()
    for release in ("1.0", "2.0"):
        record = Recorder(store, "shop", **{"service.version": release})
        for minute in range(5):
            end = now - minute * 60 * 10**9
            record("GET /a", start=end - 5 * 10**6, duration=5 * 10**6, attributes={"http.route": "/a", "odd": b"\x00"})
            record("SELECT", kind=CLIENT, start=end, duration=2 * 10**9, attributes={"n": float("nan"), "l": [1, None]})
            record("GET /b", start=end, duration=1, status=ERROR, message="no", events=[exception(f"E{release}")])
    record("root", trace_id=bytes.fromhex(TRACE), span_id=1, kind=SERVER, start=now, duration=100)
    record("child", trace_id=bytes.fromhex(TRACE), span_id=2, parent_id=1, kind=CLIENT, start=now + 10, duration=50)
    record("lost", trace_id=bytes.fromhex(TRACE), span_id=3, parent_id=9, start=now + 500, duration=50)
    assert store.flush(5)
    found = schemathesis.openapi.from_asgi("/openapi.json", create_app(store))

    @found.hook
    def map_path_parameters(_context, parameters):
        """Every other trace is one that is there."""
        if parameters and "trace_id" in parameters and sum(str(parameters["trace_id"]).encode()) % 2:
            return {**parameters, "trace_id": TRACE}
        return parameters

    yield found
    store.close()


OPERATIONS = [(path, method) for path, item in schema(ROUTES)["paths"].items() for method in item]


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize(("path", "method"), OPERATIONS, ids=str)
def test_every_answer_is_in_the_schema(api, path, method, mode, long):
    """Status, type and content, for parameters that the schema allows and for others."""
    operation = api[path][method.upper()]
    if mode is GenerationMode.NEGATIVE and not operation.definition.raw["parameters"]:
        pytest.skip("there is nothing to give it")

    @settings(
        max_examples=200 if long else 8,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case):
        case.call_and_validate(checks=CHECKED)

    ask()
