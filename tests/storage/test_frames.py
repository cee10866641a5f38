import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracekeep.storage import frames

payloads = st.lists(st.binary(min_size=1, max_size=300), max_size=30)


def packed(contents):
    return [frames.pack(2, number, content) for number, content in enumerate(contents, 1)]


def recovered(data):
    """Everything that a reader gets out of `data`, looking on after damage."""
    found, at = [], 0
    while at is not None:
        more, consumed = frames.scan(data[at:], len(data))
        found += more
        at = frames.resynchronise(data, at + consumed)
    return found


@given(payloads)
def test_what_was_packed_is_scanned(contents):
    """Any payloads come back whole, in order, with their type and sequence, and the end is where they end."""
    data = b"".join(packed(contents))
    found, end = frames.scan(data, len(data))
    assert found == [(2, number, content) for number, content in enumerate(contents, 1)]
    assert end == len(data)


@given(payloads, st.integers(0, 3000))
def test_zeros_are_the_end(contents, zeros):
    """An allocated but unused rest of a segment decodes as nothing."""
    data = b"".join(packed(contents))
    assert frames.scan(data + bytes(zeros), 1000) == frames.scan(data, 1000)


@given(payloads, st.integers(0, 40))
def test_a_limit_is_kept(contents, limit):
    """At most `limit` frames, and the end tells where to go on."""
    data = b"".join(packed(contents))
    found, end = frames.scan(data, limit)
    rest, _ = frames.scan(data[end:], len(data))
    assert len(found) == min(limit, len(contents))
    assert [content for *_, content in found + rest] == contents


@given(st.binary(max_size=2000))
def test_any_bytes_are_scanned(data):
    """Noise holds no frames and raises nothing."""
    assert frames.scan(data, 1000) == ([], 0)
    assert frames.resynchronise(data, 0) is None
    assert frames.claimed_size(data) >= 0


@given(st.lists(st.binary(min_size=1, max_size=80), min_size=1, max_size=12), st.data())
def test_one_flipped_bit_costs_one_frame(contents, data):
    """Wherever it is: the frames before and after it are found."""
    whole = packed(contents)
    victim = data.draw(st.integers(0, len(whole) - 1))
    place = data.draw(st.integers(0, len(whole[victim]) - 1))
    broken = bytearray(whole[victim])
    broken[place] ^= 1 << data.draw(st.integers(0, 7))
    pieces = [*whole[:victim], bytes(broken), *whole[victim + 1 :]]
    expected = [(2, number, content) for number, content in enumerate(contents, 1) if number != victim + 1]
    assert recovered(b"".join(pieces)) == expected


@given(st.lists(st.binary(min_size=1, max_size=80), min_size=1, max_size=12), st.data())
def test_a_cut_costs_what_is_cut(contents, data):
    """All frames before the place where the bytes end are found."""
    whole = packed(contents)
    length = data.draw(st.integers(0, sum(map(len, whole))))
    ends = [sum(map(len, whole[: index + 1])) for index in range(len(whole))]
    found, _ = frames.scan(b"".join(whole)[:length], 1000)
    assert len(found) == sum(1 for end in ends if end <= length)


@pytest.mark.parametrize("length", [frames.MAX_PAYLOAD + 1, 1 << 31, (1 << 32) - 1])
def test_a_length_above_the_limit_is_damage(length):
    """It is never read by, though magic and size would allow it."""
    header = bytearray(frames.pack(2, 1, b"x"))
    header[8:12] = length.to_bytes(4, "little")
    data = bytes(header) + bytes(100)
    assert frames.claimed_size(data) == 0
    assert frames.scan(data, 10) == ([], 0)


def test_the_largest_payload_passes():
    """1 MiB is allowed, and claimed by its header."""
    frame = frames.pack(2, 7, b"x" * frames.MAX_PAYLOAD)
    assert frames.claimed_size(frame[: frames.HEADER]) == len(frame)
    assert frames.scan(frame, 1)[1] == len(frame)
