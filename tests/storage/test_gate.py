"""The gate that a fork closes: whoever is inside comes out first, and nobody goes in until it is over."""

import threading
import time

from tk_wait import eventually

from tracekeep.storage.gate import Gate


def soon():
    return time.monotonic() + 10


def in_thread(act):
    """Run something in a thread: (the thread, what it has given so far)."""
    given = []
    thread = threading.Thread(target=lambda: given.append(act()))
    thread.start()
    return thread, given


def test_a_fork_waits_for_those_inside():
    """Until the last has come out."""
    gate, out = Gate(), threading.Event()

    def visit():
        with gate.entered():
            inside.set()
            return out.wait(10)

    inside = threading.Event()
    visitor, _ = in_thread(visit)
    assert inside.wait(10)
    forking, closed = in_thread(lambda: gate.close(soon()))
    eventually(lambda: gate.is_closed, 10)
    assert closed == []
    out.set()
    for thread in (visitor, forking):
        thread.join()
    assert closed == [True]


def test_nobody_goes_in_while_it_is_closed():
    """One who only tries is told so; another waits until all forks are over."""
    gate = Gate()
    assert gate.close(soon())
    assert gate.close(soon())
    assert not gate.try_enter()

    def visit():
        with gate.entered():
            return gate.is_closed

    visitor, given = in_thread(visit)
    gate.open()
    assert gate.is_closed
    assert not gate.try_enter()
    gate.open()
    visitor.join()
    assert given == [False]
    assert gate.try_enter()


def test_a_fork_waits_for_so_long_only():
    """Somebody who doesn't come out holds it up until the given time."""
    gate = Gate()
    visitor, _ = in_thread(gate.try_enter)
    visitor.join()
    assert not gate.close(time.monotonic() + 0.01)


def test_who_is_inside_may_go_in_again_and_may_fork():
    """Without waiting for itself."""
    gate = Gate()
    with gate.entered():
        assert gate.close(soon())
        with gate.entered():
            assert gate.is_closed
        gate.open()
    assert gate.close(soon())
