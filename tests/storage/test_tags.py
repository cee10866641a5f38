import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tk_spans import ERROR, Recorder, everything, exception
from tk_wait import eventually

from tracekeep.storage import QueryTimeout, tags
from tracekeep.storage.jsonable import jsonable, restored
from tracekeep.storage.partitions import History, partition_files
from tracekeep.storage.records import Link
from tracekeep.storage.views import TagFilter

BASE = 1_700_000_000 * 10**9
HOUR = 3600 * 10**9
ATTRIBUTES = (
    {"http.route": "/a", "http.response.status_code": 200},
    {"http.route": "/b", "http.response.status_code": 404, "own": "x"},
    {"own": True, "count": 3},
    {"own": 1, "count": 3.5, "nothing": None, "empty": ""},
    {"own": 1.0, "list": ["a", 1, "a", True], "nested": [["b"]], "map": {"a": "b"}, "bytes": b"x", "nan": float("nan")},
    {'"\\': "odd", "ü[0].x": "z", "long": "x" * 1025, "fits": "x" * 1024, "big": 1 << 62, "negative": -(1 << 63)},
)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A store of four partitions, one for each hour."""
    from tracekeep.storage import Store, StoreSettings

    chance = random.Random(7)
    store = Store(tmp_path_factory.mktemp("filled"), StoreSettings()).start()
    recorders = [Recorder(store, service) for service in ("shop", "stock", "jobs")]
    with pytest.MonkeyPatch.context() as patch:
        for hour in range(4):
            for _ in range(100):
                start = BASE + hour * HOUR + chance.randrange(HOUR // 2)
                fails = chance.random() < 0.2
                chance.choice(recorders[: 1 + min(hour, 2)])(
                    chance.choice(("GET /a", "GET /b", f"task {hour}")),
                    parent_id=chance.choice((0, 7)),
                    start=start,
                    status=ERROR if fails else 0,
                    message=f"failed {hour}" if fails else None,
                    attributes=chance.choice(ATTRIBUTES) | {f"hour {hour}": hour},
                    events=[exception(f"Error{hour}", time_ns=start, depth=hour)] if chance.random() < 0.3 else [],
                    links=[Link(bytes(15) + b"\1", 1, {"kind": hour})] if chance.random() < 0.1 else [],
                )
            patch.setattr(History, "is_full", lambda *_, hour=hour: hour < 3)
            assert store.flush(5)
            eventually(lambda hour=hour: len(partition_files(store.data_dir / "history")) == min(hour + 2, 4), 5)
    yield store
    store.close()


def literals(values):
    """What a query could name, apart by type."""
    found = set()
    for value in values:
        if isinstance(value, list):
            found |= literals(each for each in value if not isinstance(each, list))
        elif isinstance(value, str | bool | int | float) and 0 < len(str(value)) <= 1024 and str(value) != "nan":
            found.add((type(value), value))
    return found


def typed(page):
    assert len(page.items) == len({(type(value), value) for value in page.items})
    return {(type(value), value) for value in page.items}


WINDOWS = [(0, (1 << 63) - 1), (BASE, BASE + HOUR), (BASE + HOUR, BASE + 3 * HOUR), (BASE + 9 * HOUR, BASE + 10 * HOUR)]


@pytest.mark.parametrize(("since", "until"), WINDOWS)
def test_names_are_those_of_the_spans_in_the_time(filled, since, until):
    """As looking at every span finds them; partitions and hours are the same here."""
    spans = everything(filled, since_ns=since, until_ns=until)
    found = filled.tag_names(TagFilter(since_ns=since, until_ns=until))
    assert {scope: set(names) for scope, names in found.scopes.items()} == tags.names_of(spans)
    assert not found.degraded
    assert all(list(names) == sorted(names) for names in found.scopes.values())


@pytest.mark.parametrize(("since", "until"), WINDOWS)
def test_values_are_those_of_the_spans_in_the_time(filled, since, until):
    """Of every attribute and intrinsic, as looking at every span finds them."""
    spans = everything(filled, since_ns=since, until_ns=until)
    asked = [(scope, name) for scope, names in tags.names_of(spans).items() for name in names]
    asked += [(None, name) for name in tags.INTRINSICS if name != "rootName"]
    for scope, name in [*asked, ("span", "no such")]:
        wanted = TagFilter(scope, name, since, until)
        expected = literals(tags.values_of(spans, wanted))
        assert typed(filled.tag_values(wanted)) == expected, (scope, name)


def test_a_time_within_a_partition_is_kept_to(filled):
    """For operations and for attributes of spans' own; services are looked up, not taken from the partition."""
    since, until = BASE + 2 * HOUR, BASE + 2 * HOUR + HOUR // 20
    spans = everything(filled, since_ns=since, until_ns=until)
    assert 0 < len(spans) < 30
    for scope, name in ((None, "name"), ("resource", "service.name"), ("span", "own"), ("event", "depth")):
        wanted = TagFilter(scope, name, since, until)
        assert typed(filled.tag_values(wanted)) == literals(tags.values_of(spans, wanted)), name


def test_there_are_no_more_than_asked_for(filled):
    """Of values, and of names in each scope."""
    assert len(filled.tag_values(TagFilter(None, "name", limit=2)).items) == 2
    assert {len(names) for names in filled.tag_names(TagFilter(limit=1)).scopes.values()} <= {0, 1}


def test_spans_are_looked_at_up_to_a_bound(filled, monkeypatch):
    """The newest ones of the time asked for, over all partitions."""
    monkeypatch.setattr(tags, "SAMPLE", 150)
    names = filled.tag_names(TagFilter()).scopes["span"]
    assert {"hour 3", "hour 2"} <= set(names)
    assert not {"hour 1", "hour 0"} & set(names)
    monkeypatch.setattr(tags, "_UNORDERED", 0)
    names = filled.tag_names(TagFilter(until_ns=BASE + 2 * HOUR)).scopes["span"]
    assert {"hour 1", "hour 0"} <= set(names)


def test_a_partition_that_cannot_be_read_is_passed_over(opened):
    """The answer says so."""
    store = opened()
    Recorder(store)("GET /a")
    assert store.flush(5)
    (store.data_dir / "history" / "20200101T000000Z.db").write_bytes(b"no database " * 1000)
    found = store.tag_values(TagFilter(None, "name"))
    assert (list(found.items), found.degraded) == (["GET /a"], True)


def test_the_deadline_holds(opened):
    """However much there is to look through."""
    store = opened(query_timeout=0.01)
    recorder = Recorder(store)
    for number in range(20_000):
        recorder(attributes={f"key {number}": "x" * 100, "list": list(range(20))})
    eventually(lambda: store.flush(5), 30)
    started = time.monotonic()
    with pytest.raises(QueryTimeout):
        store.tag_names(TagFilter())
    assert time.monotonic() - started < 1


scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary())
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)


@given(values)
def test_any_value_comes_back_as_it_was(value):
    """From what JSON made of it: bytes and odd floats too."""
    assert repr(restored(jsonable(value))) == repr(value)


@pytest.mark.parametrize("value", [{"$bytes": "zz"}, {"$float": "x"}, {"$bytes": 1}, {"$other": "00"}])
def test_somebodys_own_mapping_is_left_alone(value):
    """Where it looks like ours and isn't."""
    assert restored(value) == value
