"""Options and fixtures that all tests share."""

import os
import shutil

import pytest

from tracekeep.storage.compiled import compiled


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="run the tests that take minutes, and more rounds of others")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--long"):
        return
    skip = pytest.mark.skip(reason="takes minutes: run with --long")
    for item in items:
        if "long" in item.keywords:
            item.add_marker(skip)


@pytest.fixture
def long(request):
    """Whether this is the long run."""
    return bool(request.config.getoption("--long"))


@pytest.fixture(scope="session")
def require():
    """Give the path of a real program; without it skip, but fail in CI, where it must be there."""

    def require(program: str) -> str:
        if path := shutil.which(program):
            return path
        reason = f"{program} is not installed here"
        if os.environ.get("CI"):
            pytest.fail(f"{reason}, and CI is to have it")
        pytest.skip(reason)

    return require


@pytest.fixture(scope="session")
def native():
    """Give what a compiled module has; where it was not built skip, but fail in CI, where it must be."""

    def find(package: str, name: str):
        if (found := compiled(package, name)) is not None:
            return found
        if os.environ.get("CI"):
            pytest.fail(f"{package}._native was not built, and CI is to have a C compiler")
        pytest.skip(f"{package}._native was not built here")

    return find
