"""A store that can't answer, and the exporter over it."""

from starlette.testclient import TestClient

from tracekeep.exporter import create_app
from tracekeep.storage import StoreSettings


class Failing:
    """A store of which every method raises."""

    before_scrape = ()
    settings = StoreSettings()

    def __init__(self, error):
        self.error = error

    def __getattr__(self, name):
        def method(*_, **__):
            raise self.error

        return method


def failing(error):
    """A client of the exporter, which answers what it raises with 500."""
    return TestClient(create_app(Failing(error)), raise_server_exceptions=False)
