import pytest

from tracekeep.storage import role
from tracekeep.storage.role import Role


@pytest.fixture
def roles(tmp_path):
    """The writer of a data directory, another that knows of it, and the directory."""
    data = tmp_path / "data"
    writer, other = Role(data, dedicated=False), Role(data, dedicated=False)
    assert writer.take()
    assert not other.take()
    yield writer, other, data
    writer.leave()
    other.leave()


def test_the_writer_begins_a_new_directory(roles):
    """It knows the totals; another waits for it when the directory has gone."""
    writer, other, data = roles
    data.rename(data.with_name("moved"))
    assert not other.take()
    assert not (data / "writer.lock").exists()
    assert writer.keep()
    assert not other.take()
    writer.give_back()
    assert other.take()


def test_another_begins_it_when_the_writer_is_dead(roles):
    """There is nobody to wait for."""
    writer, other, data = roles
    data.rename(data.with_name("moved"))
    assert not other.take()
    writer.give_back()
    assert other.take()


def test_another_begins_it_when_the_writer_does_not(roles, monkeypatch):
    """A writer that is stopped, or hangs, has lost the role after some seconds."""
    writer, other, data = roles
    (data / "writer.lock").unlink()
    assert not other.take()
    monkeypatch.setattr(role, "_PATIENCE", 0.0)
    assert other.take()
    assert not writer.keep()


def test_the_claim_is_made_anew(tmp_path):
    """Where the directory of `tracekeep serve` has gone, threads inside apps keep leaving it the role."""
    data = tmp_path / "data"
    dedicated, embedded = Role(data, dedicated=True), Role(data, dedicated=False)
    assert dedicated.take()
    data.rename(tmp_path / "moved")
    assert dedicated.keep()
    assert not embedded.take()
    dedicated.give_back()
    assert not embedded.take()
    dedicated.leave()
    assert embedded.take()
    embedded.leave()
