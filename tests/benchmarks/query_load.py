"""A process that journals spans at a rate, so that another one's writer has something to do.

    python -m tests.benchmarks.query_load DATA_DIR SPANS_A_SECOND

It says `ready`, begins at a line of its input, and ends with it.
"""

import sys
import threading
import time

from tracekeep.storage import open_store

from .support import Refill
from .traffic import traffic

_TICKS = 20  # a second


def main() -> None:
    store = open_store(sys.argv[1], writer="none")
    refill, portion = Refill(store, traffic(5_000)), int(sys.argv[2]) // _TICKS
    print("ready", flush=True)
    sys.stdin.readline()
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    due = time.monotonic()
    while not ended.is_set():
        refill(portion)
        due += 1 / _TICKS
        ended.wait(max(0.0, due - time.monotonic()))
    store.close()


if __name__ == "__main__":
    main()
