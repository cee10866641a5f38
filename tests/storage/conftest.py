"""Stores and journals in a fresh directory, closed at the end of the test."""

import pytest
from tk_spans import die

from tracekeep.storage import Store, StoreSettings
from tracekeep.storage.journal import Journal


@pytest.fixture
def opened(tmp_path):
    """Give a started store of `tmp_path`, each time a new one as in another process."""
    stores = []

    def open_(directory=None, **settings):
        stores.append(Store(directory or tmp_path, StoreSettings(**settings)).start())
        return stores[-1]

    yield open_
    for store in stores:
        store.close(1.0)
        die(store)


@pytest.fixture
def store(opened):
    """Give one store, with default settings."""
    return opened()


@pytest.fixture
def worker(opened):
    """Give stores that are never the writer, each as in a process of its own."""
    return lambda: opened(writer="none")


@pytest.fixture
def new_journal(tmp_path):
    """Give a journal in `tmp_path`; by default of small segments and without any reserve."""
    journals = []

    def make(**settings):
        settings = {"segment_bytes": 1 << 16, "reserve_bytes": 0} | settings
        journals.append(Journal(tmp_path / "journal", StoreSettings(**settings)))
        return journals[-1]

    yield make
    for journal in journals:
        die(journal)
