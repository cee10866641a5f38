import gc
import threading
import weakref

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tracekeep.exporter.exposition import Renderer, render
from tracekeep.exporter.negotiation import Exposition, Format
from tracekeep.storage.views import Exemplar, Family, Series

BOUNDS = (0.1, 1.0)


def series(number, value=1, **more):
    return Series((("number", str(number)),), value, value / 2, (0, value), **more)


def family(*members, name="wait_seconds"):
    return Family(name, "histogram", "How long.", "seconds", BOUNDS, list(members))


def page(renderer, *families):
    return b"".join(renderer.render(families))


class Counted(Renderer):
    """Counts how many series are written, not taken from the page before."""

    def written(self, monkeypatch, *families):
        from tracekeep.exporter import blocks

        written = []
        write = blocks.Block.write
        monkeypatch.setattr(
            blocks.Block, "write", lambda block, series, inners: written.extend(series) or write(block, series, inners)
        )
        page(self, *families)
        monkeypatch.undo()
        return len(written)


def test_only_what_has_changed_is_written(monkeypatch):
    """A series that is the same object, or equal, costs nothing."""
    renderer = Counted(Exposition())
    members = [series(number) for number in range(5)]
    assert renderer.written(monkeypatch, family(*members)) == 5
    assert renderer.written(monkeypatch, family(*members)) == 0
    assert renderer.written(monkeypatch, family(*[msgspec.structs.replace(each) for each in members])) == 0
    assert renderer.written(monkeypatch, family(*members[:4], series(4, 2))) == 1
    assert renderer.written(monkeypatch, family(*members[1:4], series(4, 2))) == 0
    assert renderer.written(monkeypatch, family(series(9), *members[1:4], series(4, 2))) == 1


def test_past_its_room_a_renderer_keeps_nothing(monkeypatch):
    """Memory is bounded; the page is right all the same."""
    members = [series(number) for number in range(100)]
    renderer = Counted(Exposition(), kept_bytes=10_000)
    assert renderer.written(monkeypatch, family(*members)) == 100
    assert 80 < renderer.written(monkeypatch, family(*members)) < 100
    assert page(renderer, family(*members)) == render([family(*members)], Exposition())


def test_what_has_gone_is_forgotten():
    """Neither series nor metrics that are not there any more are held."""
    renderer = Renderer(Exposition())
    page(renderer, family(series(1), series(2)), family(series(1), name="other_seconds"))
    page(renderer, family(series(1)))
    (writer,) = renderer._writers
    held = weakref.ref(writer)
    assert [entry.series.labels for entry in writer._entries.values()] == [(("number", "1"),)]
    page(renderer)
    del writer
    gc.collect()
    assert held() is None


numbers = st.integers(0, 3)
changes = st.lists(
    st.dictionaries(st.sampled_from(["a", "b.c", "b_c"]), st.dictionaries(numbers, st.tuples(numbers, numbers))),
    max_size=5,
)


@given(pages=changes, fmt=st.sampled_from(Format), room=st.sampled_from([0, 2_000, 1 << 20]), created=st.booleans())
def test_a_page_does_not_depend_on_those_before(pages, fmt, room, created):
    """Whatever came, went and changed: the page is the one that a fresh renderer writes."""
    kept: dict = {}
    renderer = Renderer(Exposition(fmt), created=created, kept_bytes=room)
    for state in pages:
        families = [
            family(
                *[
                    kept.setdefault((number, value, start), made(number, value, start))
                    for number, (value, start) in members.items()
                ],
                name=name,
            )
            for name, members in state.items()
        ]
        assert page(renderer, *families) == render(families, Exposition(fmt), created=created)


def made(number, value, start):
    exemplars = {0: Exemplar("ab" * 16, "cd" * 8, 0.05, 10**18)} if value == 3 else {}
    return series(number, value, start_ns=start * 10**9, exemplars=exemplars)


def test_threads_share_a_renderer():
    """Scrapes at the same time get whole pages."""
    states = [[family(*[series(number, turn) for number in range(50)])] for turn in range(4)]
    expected = {render(state, Exposition()) for state in states}
    renderer, found = Renderer(Exposition()), []

    def scrape():
        found.extend(page(renderer, *states[turn % 4]) for turn in range(40))

    threads = [threading.Thread(target=scrape) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 160
    assert set(found) == expected


def test_series_whose_buckets_do_not_fit_keep_what_is_certain():
    """Count and sum; which bucket is which nobody knows."""
    text = page(Renderer(Exposition()), family(Series((), 3, 1.5, (1,)))).decode()
    assert text.splitlines()[2:] == ['wait_seconds_bucket{le="+Inf"} 3', "wait_seconds_count 3", "wait_seconds_sum 1.5"]


def test_filters_take_samples_and_families():
    """As recorded or as exposed; a name that nobody has chooses nothing."""
    counter = Family("jobs.done", "counter", "", "", (), [Series((("x", "{ }"),), 1.0)])
    families = [family(series(1)), counter]

    def lines(*names):
        text = b"".join(Renderer(Exposition()).render(families, frozenset(names))).decode()
        return [line.partition(" ")[0].partition("{")[0] for line in text.splitlines() if not line.startswith("#")]

    wait = ["wait_seconds_bucket"] * 3 + ["wait_seconds_count", "wait_seconds_sum"]
    assert lines("wait_seconds") == wait
    assert lines("wait_seconds_sum") == ["wait_seconds_sum"]
    assert lines("wait_seconds_sum", "wait_seconds_count") == ["wait_seconds_count", "wait_seconds_sum"]
    assert lines("jobs.done") == lines("jobs_done") == lines("jobs_done_total") == lines("jobs.done_total")
    assert lines("jobs.done") == ["jobs_done_total"]
    assert lines("jobs_done_total", "wait_seconds") == ["jobs_done_total", *wait]
    assert lines("nobody", "wait_seconds_", "") == []
