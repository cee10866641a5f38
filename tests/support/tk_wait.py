"""Waiting for something to become true: with a deadline, never by a guess of how long it takes."""

import time


def eventually(check, timeout, *, every=0.05):
    """Call `check` until it returns something true, and return that.

    A failed assertion or a connection refused counts as "not yet"; the last one is told when time is up.
    """
    deadline = time.monotonic() + timeout
    while True:
        last = None
        try:
            if result := check():
                return result
        except (AssertionError, OSError) as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {last or check}") from last
        time.sleep(every)
