"""What a span takes on disk: bytes over all files of the data directory, 10 attributes.

The spans go through RetainingSpanProcessor in a process that ends cleanly; a writer stores them,
removes that journal and closes. Indexes, totals, rollups and the lock and state files are counted,
as the blocks that they occupy. The peer is the OTLP protobuf of the same spans in requests of 512,
uncompressed, which has no index. Path and client port differ with nearly every span; 40 clients share
the other values. `every client another` has a new address with every span, so that hardly any
attributes are shared: the worst that traffic can do.
"""

import json
import sys
import time
from pathlib import Path

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from tracekeep.instrumentation import RetainingSpanProcessor
from tracekeep.storage import open_store

from .results import Result, at_most
from .rounds import in_child
from .support import Drainer, scratch
from .traffic import provider, record_history, tracer_of, traffic

SPANS = 300_000
ROUNDS = 1  # a second one would find the same
_PIECE = 10_000
_SAMPLE = 20_480  # spans of which the OTLP size is taken
_REQUEST = 512
_CLIENTS = 40
_MANY_CLIENTS = 1 << 24
_WORST_SHARE = 5  # the worst case is told by a fifth of the spans
_FINISH_SECONDS = 60.0


def run(spans: int, _rounds: int) -> Result:
    ours, worst = _stored(spans, _CLIENTS), _stored(spans // _WORST_SHARE, _MANY_CLIENTS)
    return Result(
        name="disk",
        unit="bytes a span",
        ours=ours,
        peers={"OTLP protobuf": _otlp(_CLIENTS)},
        limit=200,
        goals=[at_most("at most 200 bytes a span", ours, 200)],
        extra={"every client another": worst, "OTLP protobuf, every client another": _otlp(_MANY_CLIENTS)},
    )


def _stored(spans: int, clients: int) -> float:
    with scratch() as data_dir:
        with Drainer(data_dir) as drainer:
            drainer.go()
            in_child("disk", data_dir, spans, clients)
            _wait_removed(data_dir / "journal")
        return sum(path.stat().st_blocks * 512 for path in data_dir.rglob("*")) / spans


def _wait_removed(journals: Path) -> None:
    """Until the writer has stored what the dead process left, and has removed its journal."""
    until = time.monotonic() + _FINISH_SECONDS
    while len([path for path in journals.iterdir() if path.name != "."]) > 1:  # the writer has one of its own
        if time.monotonic() > until:
            raise TimeoutError(f"{journals} still has the recorder's journal")
        time.sleep(0.05)


class _Kept(SpanExporter):
    """Keeps spans in a list."""

    def __init__(self) -> None:
        self.spans = []

    def export(self, spans):
        self.spans += spans
        return SpanExportResult.SUCCESS


def _otlp(clients: int) -> float:
    kept = _Kept()
    record_history(tracer_of(provider(SimpleSpanProcessor(kept))), traffic(_SAMPLE, clients=clients))
    pieces = [kept.spans[start : start + _REQUEST] for start in range(0, _SAMPLE, _REQUEST)]
    return sum(len(encode_spans(piece).SerializeToString()) for piece in pieces) / _SAMPLE


def main() -> None:
    """The recording process."""
    data_dir, spans, clients = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    store = open_store(data_dir, writer="none")
    tracer = tracer_of(provider(RetainingSpanProcessor(store)))
    for start in range(0, spans, _PIECE):
        record_history(tracer, traffic(min(_PIECE, spans - start), clients=clients, seed=start))
    store.flush(_FINISH_SECONDS)
    store.close()
    print(json.dumps({}))


if __name__ == "__main__":
    main()
