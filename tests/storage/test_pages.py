import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracekeep.storage.pages import SharedPage, read_page

SIZE = 64


@pytest.fixture
def path(tmp_path):
    return tmp_path / "page"


def test_the_last_word_is_read(path):
    """Whatever was published before; and nothing before anything was."""
    page = SharedPage(path, SIZE)
    assert read_page(path) is None
    for content in (b"one", b"", b"three"):
        assert page.publish(content)
        assert read_page(path) == content
    page.close()


def test_what_does_not_fit_is_refused(path):
    """The word before it stays."""
    page = SharedPage(path, SIZE)
    page.publish(b"fits")
    assert not page.publish(b"x" * SIZE)
    assert read_page(path) == b"fits"
    page.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(place=st.integers(0, 2 * SIZE - 1), bit=st.integers(0, 7))
def test_a_torn_slot_leaves_the_one_before(path, place, bit):
    """With any bit flipped, one of the last two words is read, whole."""
    path.unlink(missing_ok=True)
    page = SharedPage(path, SIZE)
    page.publish(b"before")
    page.publish(b"after")
    page.close()
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)
    assert read_page(path) in {b"before", b"after"}


@given(st.binary(max_size=300))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_file_is_read(path, content):
    """Noise is nothing, and a publisher begins anew on it."""
    path.write_bytes(content)
    assert read_page(path) is None
    page = SharedPage(path, SIZE)
    page.publish(b"new")
    page.close()
    assert read_page(path) == b"new"


def test_a_new_publisher_goes_on(path):
    """Its first word replaces the last of the one before."""
    for content in (b"a", b"b", b"c", b"d"):
        page = SharedPage(path, SIZE)
        page.publish(content)
        page.close()
        assert read_page(path) == content
