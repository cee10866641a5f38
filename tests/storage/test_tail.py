import gc
import mmap
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracekeep.storage import frames
from tracekeep.storage.tail import Tail

SIZE = 4096


@pytest.fixture(scope="session")
def kinds(native):
    """Give both kinds of tail."""
    return Tail, native("tracekeep.storage", "Tail")


def opened(kind, limit=SIZE, size=SIZE):
    buffer = mmap.mmap(-1, size)
    tail = kind(threading.RLock())
    tail.use(buffer, 64)
    tail.limit = limit
    return tail, buffer


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 255), st.binary(max_size=900), st.integers(0, 2)),
        st.tuples(st.just("define"), st.integers(1, 2)),
        st.tuples(st.just("limit"), st.integers(-5, SIZE + 5)),
        st.tuples(st.just("busy"), st.booleans()),
        st.tuples(st.just("take")),
    ),
    max_size=40,
)


@given(operations=OPERATIONS)
def test_both_kinds_do_the_same(kinds, operations):
    """Whatever is asked of them: the same answers, the same bytes, the same state."""
    outcomes = []
    for kind in kinds:
        tail, buffer = opened(kind)
        answers = []
        for name, *arguments in operations:
            match name:
                case "append":
                    tail.limit = min(tail.limit, SIZE)  # the journal never sets it beyond the buffer
                    answers.append(tail.append(*arguments))
                case "define":
                    tail.defined.add(arguments[0])
                case "limit" | "busy":
                    setattr(tail, name, arguments[0])
                case "take":
                    answers.append(tail.take_sequence())
        outcomes.append((answers, bytes(buffer), tail.offset, tail.sequence, tail.busy, tail.defined))
    assert outcomes[0] == outcomes[1]


@given(
    payloads=st.lists(st.binary(min_size=1, max_size=300), max_size=12),
    junk=st.binary(max_size=60),
    cut=st.integers(0, 50),
)
def test_both_scans_find_the_same(native, payloads, junk, cut):
    """Whole frames, and where they end, whatever follows or is missing."""
    data = b"".join(frames.pack(2, number, payload) for number, payload in enumerate(payloads)) + junk
    data = data[: len(data) - cut]
    for limit in (0, 1, 5, 1000):
        assert native("tracekeep.storage", "scan")(data, limit) == frames.scan_in_python(data, limit)


@given(payload=st.binary(min_size=1, max_size=200), place=st.integers(0), bit=st.integers(0, 7))
def test_a_flipped_bit_is_found(native, payload, place, bit):
    """Wherever it is in the frame."""
    frame = bytearray(frames.pack(2, 7, payload))
    frame[place % len(frame)] ^= 1 << bit
    assert native("tracekeep.storage", "scan")(bytes(frame), 1) == ([], 0)


def test_a_limit_beyond_the_buffer_is_harmless(native):
    """Nothing is written past the end of the mapping, whatever its user says."""
    tail, _buffer = opened(native("tracekeep.storage", "Tail"), limit=1 << 40)
    while tail.append(2, b"x" * 100, 0):
        pass
    assert tail.offset <= SIZE
    tail.offset = -100
    assert not tail.append(2, b"x", 0)


def test_a_buffer_is_let_go(kinds):
    """A mapping that is no longer used can be closed: its segment is."""
    for kind in kinds:
        tail, buffer = opened(kind)
        tail.use(None, 0)
        assert not tail.append(2, b"x", 0)
        buffer.close()
        tail, buffer = opened(kind)
        del tail
        gc.collect()
        buffer.close()


def test_what_is_no_payload_is_refused(native):
    """Only bytes are copied."""
    tail, _buffer = opened(native("tracekeep.storage", "Tail"))
    assert not tail.append(2, bytearray(b"x"), 0)
    assert not tail.append(2, b"", 0)
    with pytest.raises(TypeError):
        tail.append("2", b"x", 0)
    with pytest.raises(TypeError):
        tail.append(2, b"x")
    assert tail.sequence == 0
