import fcntl
import os

from tk_spans import Script

from tracekeep.storage.locks import FileLock, is_held

HOLD = """
import sys
from pathlib import Path
from tracekeep.storage.locks import FileLock
lock = FileLock.acquire(Path(sys.argv[1]))
print("held" if lock else "refused", flush=True)
sys.stdin.read()
"""


def test_one_holds_it(tmp_path):
    """A second attempt gets nothing until the first lets go."""
    path = tmp_path / "lock"
    assert not is_held(path)
    first = FileLock.acquire(path)
    assert is_held(path)
    assert FileLock.acquire(path) is None
    first.release()
    assert not is_held(path)
    FileLock.acquire(path).release()


def test_the_kernel_lets_go_for_the_dead(tmp_path):
    """A lock dies with its process, however that dies."""
    path = tmp_path / "lock"
    with Script(HOLD, path) as holder:
        assert holder.line() == "held"
        assert is_held(path)
        holder.kill()
        assert not is_held(path)


def test_a_replaced_file_is_not_held(tmp_path):
    """Who holds a lock on a file that is gone holds nothing."""
    path = tmp_path / "lock"
    lock = FileLock.acquire(path)
    assert lock.holds(path)
    path.unlink()
    assert not lock.holds(path)
    path.touch()
    assert not lock.holds(path)
    lock.release()


def test_those_who_only_look_hold_nothing(tmp_path):
    """Where one is just looking, another doesn't take it for the holder."""
    path = tmp_path / "lock"
    with path.open("w") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        assert not is_held(path)


def test_a_forked_child_lets_go_of_its_copy_only(tmp_path):
    """`release` in the child leaves the parent's lock alone."""
    path = tmp_path / "lock"
    lock = FileLock.acquire(path)
    child = os.fork()
    if child == 0:
        lock.release()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert is_held(path)
    lock.release()
