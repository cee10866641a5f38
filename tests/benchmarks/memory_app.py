"""An app that records 100,000 spans and tells its memory: `python -m tests.benchmarks.memory_app bare|ours DIR`.

A module apart from `memory`, because the bare app must not import anything of ours.
"""

import json
import sys

import psutil
from opentelemetry import trace
from starlette.applications import Starlette

from .traffic import provider, record, traffic

_SPANS = 100_000
_PIECE = 1_000
_MIB = 1 << 20


def main() -> None:
    side, data_dir = sys.argv[1:]
    app = Starlette()
    trace.set_tracer_provider(provider())
    if side == "ours":
        from tracekeep.instrumentation import instrument

        instrument(app, data_dir=data_dir, writer="none")
    tracer = trace.get_tracer("tracekeep.benchmarks")
    for start in range(0, _SPANS, _PIECE):
        record(tracer, traffic(_PIECE, seed=start))
    memory = psutil.Process().memory_info()
    print(json.dumps({"rss": memory.rss / _MIB, "shared": memory.shared / _MIB}))


if __name__ == "__main__":
    main()
