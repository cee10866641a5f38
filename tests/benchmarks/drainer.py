"""A writer in a process of its own: `python -m tests.benchmarks.drainer DIR SETTINGS`; see `support.Drainer`."""

import importlib
import json
import sys

from tracekeep.storage import open_store


def main() -> None:
    data_dir, settings = sys.argv[1], json.loads(sys.argv[2])
    importlib.import_module("tracekeep.storage.writer")  # the store itself would when it is opened
    print("ready", flush=True)
    if sys.stdin.readline():
        store = open_store(data_dir, **{"dedicated": True, **settings})
        sys.stdin.read()
        store.close(30)


if __name__ == "__main__":
    main()
