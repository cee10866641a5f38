"""A real store with the world of `tk_traces` in it, and what a search of it gives."""

import pytest
from tk_naive import Naive
from tk_spans import die, everything
from tk_traces import record, sets_of, world

from tracekeep.exporter.traceql import parse
from tracekeep.storage import Store, StoreSettings


@pytest.fixture(scope="session")
def worlds(tmp_path_factory):
    """Give the store; nothing may be added to it."""
    store = Store(tmp_path_factory.mktemp("world"), StoreSettings()).start()
    record(store, world())
    yield store
    store.close(1.0)
    die(store)


@pytest.fixture(scope="session")
def naive(worlds):
    """Give the naive evaluator of the same spans."""
    return Naive(everything(worlds))


@pytest.fixture(scope="session")
def found(worlds):
    """Give what a search of a text finds, as the naive evaluator tells it."""
    return lambda text, since=0, until=1 << 62: sets_of(worlds, parse(text), since, until)
