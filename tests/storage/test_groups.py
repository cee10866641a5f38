import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tk_errors import Logger, stack
from tk_spans import ERROR, SERVER, Recorder, Script, counter, die, exception, only_journal
from tk_wait import eventually

from tracekeep.storage.errors import InvalidCursor, Unavailable
from tracekeep.storage.exceptions import ErrorRow
from tracekeep.storage.fingerprint import OVERFLOW
from tracekeep.storage.groups import HOUR, MAX_HOURS, MAX_SAMPLES, OPEN, RESOLVED, GroupChange, Groups
from tracekeep.storage.records import MUTE, REOPEN, RESOLVE, Command

NEW, REGRESSED = "tracekeep_error_groups_new", "tracekeep_error_groups_regressed"
TRACE = bytes.fromhex("cd" * 16)


def only(store, **wanted):
    assert store.flush(5)
    (group,) = store.error_groups(**wanted).items
    return group


def groups_of(store):
    """All groups; None while they can't be read."""
    try:
        return store.error_groups().items
    except Unavailable:
        return None


def row(group="a" * 16, time=0, *, service="shop", trace=b"", message="m", operational=False, release=""):
    return ErrorRow(
        1, time, service, "T", message, None, operational, trace, 1, "op", {}, release=release, group=group, culprit="c"
    )


class Memory:
    """Groups without a database: changes are taken as they are made."""

    def __init__(self, limit=10):
        self.groups = Groups(limit)
        self.new = self.regressed = 0

    def fold(self, *rows, now=1 << 62):
        change = GroupChange()
        self.groups.fold(change, rows, now)
        self.take(change)

    def run(self, name, time, group="a" * 16):
        change = GroupChange()
        result = self.groups.run(change, Command("id", name, time, {"group": group}))
        self.take(change)
        return result

    def take(self, change):
        self.groups.take(change)
        self.new += sum(change.new.values())
        self.regressed += sum(change.regressed.values())

    def __getitem__(self, id_):
        return self.groups.known[id_]


# --- what a group says -----------------------------------------------------------------------------------------------


def test_a_group_says_what_is_known_of_a_bug(store):
    """First and last seen, count, releases, services, hours, samples, culprit, the newest message."""
    begun = time.time_ns() - 2 * HOUR
    for number, (service, release) in enumerate([("shop", "1.0"), ("shop", "1.1"), ("stock", "1.1")]):
        trace_id = bytes([number + 1]) * 16
        Logger(store, service, release)(message=f"no item {number}", time_ns=begun + number * HOUR, trace_id=trace_id)
    group = only(store)
    assert (group.count, group.first_seen_ns, group.last_seen_ns) == (3, begun, begun + 2 * HOUR)
    assert (group.type, group.message, group.culprit) == ("ValueError", "no item 2", "shop.views in item")
    assert (group.services, group.state, group.version) == (["shop", "stock"], "open", 1)
    assert [(each.release, each.count) for each in group.releases] == [("1.1", 2), ("1.0", 1)]
    assert [each.trace_id for each in group.samples] == [(bytes([n]) * 16).hex() for n in (3, 2, 1)]
    assert [(each.start_ns, each.count) for each in group.hours] == [
        ((begun + n * HOUR) // HOUR * HOUR, 1) for n in range(3)
    ]
    assert store.error_group(group.id) == group
    assert {each.group for each in store.errors().items} == {group.id}
    assert counter(store, NEW, service="shop") == counter(store, NEW) == 1


def test_two_workers_make_one_group(opened):
    """Each error counts once, whichever process recorded it."""
    stores = [opened(), opened(writer="none")]
    for store in stores:
        logger = Logger(store)
        for number in range(50):
            logger(message=str(number))
        assert store.flush(5)
    assert only(stores[1]).count == 100
    assert counter(stores[1], NEW) == 1


def test_bounds():
    """Hours, samples, releases and services of a group have a limit; its count has none."""
    memory = Memory()
    for number in range(MAX_HOURS + 50):
        memory.fold(row(time=number * HOUR, trace=number.to_bytes(16, "big"), release=f"{number}", service=f"{number}"))
    group = memory["a" * 16]
    assert group.count == MAX_HOURS + 50
    assert (len(group.hours), min(group.hours)) == (MAX_HOURS, 50)
    assert [int(each[0], 16) for each in group.samples] == [0, *range(MAX_HOURS + 50 - MAX_SAMPLES, MAX_HOURS + 50)]
    assert len(group.releases) == len(group.services) == 20
    assert "217" in group.releases


def test_the_overflow_group_takes_the_exact_remainder(opened):
    """Past the limit; errors keep their own fingerprints, and groups that are known go on counting."""
    store = opened(error_group_limit=3)
    logger = Logger(store)
    for number in range(10):
        logger(stack=stack(function=f"f{number}"))
        assert number != 4 or store.flush(5)
    logger(stack=stack(function="f0"))
    assert store.flush(5)
    groups = store.error_groups().items
    assert {each.id: each.count for each in groups}[OVERFLOW] == 7
    assert sum(each.count for each in groups) == store.error_stats().total == 11
    assert len({each.group for each in store.errors().items}) == 10
    assert counter(store, NEW) == 3


# --- states ----------------------------------------------------------------------------------------------------------


def test_a_resolved_group_that_comes_back_is_a_regression(opened):
    """Open again, counted, and said with its time; over a restart too; resolving again begins anew."""
    store = opened()
    logger = Logger(store)
    logger()
    group = only(store)
    done = store.resolve_group(group.id, timeout=5)
    assert (done.applied, done.result) == (True, {"found": True, "state": "resolved"})
    assert only(store, state="resolved").state_changed_ns is not None
    assert store.error_groups(state="open").items == []
    store.close()
    die(store)
    store = opened()
    Logger(store)()
    back = only(store)
    assert (back.state, back.regressions, back.count) == ("open", 1, 2)
    assert back.regressed_ns == back.last_seen_ns
    assert counter(store, REGRESSED, service="shop") == 1
    assert store.resolve_group(group.id, timeout=5).result["state"] == "resolved"
    assert only(store).regressed_ns is None
    assert counter(store, NEW) == 1


def test_an_error_from_before_the_resolution_is_no_regression():
    """Times decide, not the order of arrival: it may have been journaled long before."""
    memory = Memory()
    memory.fold(row(time=10))
    memory.run(RESOLVE, 100)
    memory.fold(row(time=50))
    assert (memory["a" * 16].state, memory.regressed) == (RESOLVED, 0)
    memory.fold(row(time=101))
    assert (memory["a" * 16].state, memory.regressed) == (OPEN, 1)


def test_a_resolution_that_comes_after_a_newer_error_is_one_too():
    """An error between the request to resolve and the writer's getting to it must not be lost."""
    memory = Memory()
    memory.fold(row(time=200))
    assert memory.run(RESOLVE, 100) == {"found": True, "state": "open"}
    assert memory.regressed == 1


def test_a_muted_group_stays_muted(store):
    """It is counted on, whatever comes, until it is opened again."""
    logger = Logger(store)
    logger()
    group = only(store)
    assert store.mute_group(group.id, timeout=5).result["state"] == "muted"
    logger()
    assert (only(store).state, only(store).count) == ("muted", 2)
    assert store.reopen_group(group.id, timeout=5).result["state"] == "open"
    assert only(store).regressions == 0


@given(st.lists(st.sampled_from([RESOLVE, MUTE, REOPEN]), max_size=6))
def test_a_command_that_is_repeated_changes_nothing(commands):
    """Whatever came before it."""
    memory = Memory()
    memory.fold(row(time=5))
    for at, name in enumerate(commands, start=10):
        memory.run(name, at)
        before = memory["a" * 16].copy()
        memory.run(name, at + 1)
        assert memory["a" * 16] == before


def test_a_command_of_an_unknown_group(store):
    """It is applied, and says that there is none."""
    assert store.resolve_group("f" * 16, timeout=5).result == {"found": False}
    assert store.error_group("f" * 16) is None


def test_commands_without_a_writer(opened):
    """They are journaled, answered as not applied yet, and carried out in their order by the writer that comes."""
    waiting = opened(writer="none")
    logger = Logger(waiting)
    logger()
    id_ = waiting.errors().items[0].group
    assert not waiting.resolve_group(id_, timeout=0.05).applied
    logger()
    assert not waiting.mute_group(id_, timeout=0.05).applied
    store = opened()
    eventually(lambda: store.accounting().pending == 0, 5)
    group = only(store)
    assert (group.state, group.count, group.regressions) == ("muted", 2, 1)


# --- questions -------------------------------------------------------------------------------------------------------


def test_filters_sorts_and_pages(store):
    """By service, type, state and time; each order's pages give every group once; a cursor is of its order."""
    begun = time.time_ns() - 20 * HOUR
    for number in range(12):
        logger = Logger(store, "shop" if number % 2 else "stock")
        for again in range(12 - number):
            kind = "KeyError" if number % 3 else "OSError"
            logger(kind, stack=stack(kind, function=f"f{number}"), time_ns=begun + number * HOUR + again)
    assert store.flush(5)
    names = [each.culprit for each in store.error_groups().items]
    assert names == [f"shop.views in f{number}" for number in range(11, -1, -1)]
    assert [each.count for each in store.error_groups(sort="count").items] == list(range(12, 0, -1))
    for sort in ("last_seen", "first_seen", "count"):
        found, cursor = [], None
        while cursor or not found:
            page = store.error_groups(sort=sort, limit=5, cursor=cursor)
            found += page.items
            cursor = page.cursor
        assert len({each.id for each in found}) == len(found) == 12
    assert len(store.error_groups(service="shop").items) == 6
    assert len(store.error_groups(type="OSError").items) == 4
    within = store.error_groups(since_ns=begun + 3 * HOUR, until_ns=begun + 5 * HOUR).items
    assert [each.culprit[-2:] for each in within] == ["f4", "f3"]
    cursor = store.error_groups(limit=1).cursor
    for sort, bad in (("count", cursor), ("last_seen", "x"), ("last_seen", cursor + "A")):
        with pytest.raises(InvalidCursor):
            store.error_groups(sort=sort, cursor=bad)


def test_errors_by_group_state_and_kind(store):
    """The filters of errors that groups bring."""
    logger = Logger(store)
    for function in ("f", "f", "g"):
        logger(stack=stack(function=function))
    logger(stack=stack(function="h"), attributes={"tracekeep.operational": True})
    assert store.flush(5)
    ids = {each.culprit[-1]: each.id for each in store.error_groups().items}
    assert store.resolve_group(ids["g"], timeout=5).applied
    assert len(store.errors(group=ids["f"]).items) == 2
    assert [each.group for each in store.errors(state="resolved").items] == [ids["g"]]
    assert len(store.errors(state="open").items) == 3
    assert store.errors(state="muted").items == []
    assert [each.group for each in store.errors(operational=True).items] == [ids["h"]]
    assert len(store.errors(operational=False, limit=2).items) == 2


# --- what must not be lost -------------------------------------------------------------------------------------------

WORKER = """
import sys, time
from tk_errors import Logger, stack
from tracekeep.storage import open_store
store = open_store(sys.argv[1])
logger = Logger(store, release="1")
print("ready", flush=True)
number = 0
while True:
    logger(message=str(number), stack=stack(function=f"f{number % 5}"))
    number += 1
    if number % 50 == 0:
        print(number, flush=True)
        time.sleep(0.002)
"""


def test_groups_survive_kill_9(opened, tmp_path):
    """Killed while it records and writes, again and again: all groups together count every stored error once."""
    told = 0
    for _ in range(3):
        with Script(WORKER, tmp_path) as worker:
            assert worker.line() == "ready"
            until = time.monotonic() + 0.7
            while time.monotonic() < until:
                told += bool(worker.line())
            worker.kill()
    store = opened()
    eventually(lambda: store.status().writer_pid and store.accounting().pending == 0, 10)
    assert store.accounting().balanced
    groups = store.error_groups().items
    total = store.error_stats().total
    assert len(groups) == 5
    assert sum(each.count for each in groups) == total == counter(store, "exceptions") >= told * 50
    assert all(sum(hour.count for hour in each.hours) == each.count for each in groups)
    assert counter(store, NEW) == 5


def test_groups_are_counted_again_when_the_file_is_lost(opened, tmp_path):
    """From the errors that are retained: all but what was decided about them, and none of them is new."""
    store = opened()
    logger = Logger(store, release="3")
    for number in range(20):
        logger(message=str(number), stack=stack(function=f"f{number % 2}"), trace_id=(number + 1).to_bytes(16, "big"))
    assert store.flush(5)
    before = store.error_groups().items
    store.close()
    die(store)
    for path in tmp_path.glob("aggregates.db*"):
        path.unlink()
    store = opened()
    eventually(lambda: groups_of(store) == before, 5)
    assert counter(store, NEW) == 0


def test_groups_survive_the_deletion_of_the_file_while_it_is_in_use(store, tmp_path):
    """Memory has all of them, with their states."""
    logger = Logger(store)
    logger()
    group = only(store)
    assert store.mute_group(group.id, timeout=5).applied
    before = only(store)
    (tmp_path / "aggregates.db").unlink()
    eventually(lambda: groups_of(store) == [before], 5)


def test_groups_expire_with_the_rollups(opened):
    """Those that have not been met for so long; others stay."""
    store = opened()
    now = time.time_ns()
    Logger(store)(stack=stack(function="old"), time_ns=now - 500 * 24 * HOUR)
    Logger(store)(stack=stack(function="new"), time_ns=now)
    assert store.flush(5)
    store._writer._custody.databases.aggregates.prune(time.time())
    assert [each.culprit for each in store.error_groups().items] == ["shop.views in new"]


def test_clearing_errors_leaves_groups(store):
    """Their counts and states are what is known of the bugs, not the errors themselves."""
    Logger(store)()
    before = only(store)
    assert store.clear_errors(timeout=5).result == {"cleared": 1}
    assert store.errors().items == []
    assert only(store) == before


def test_span_events_make_groups_too(store, tmp_path):
    """With the release of the span's resource, and the journal of it accounted for."""
    record = Recorder(store)
    record("GET /x", kind=SERVER, trace_id=TRACE, status=ERROR, events=[exception()])
    group = only(store)
    assert (group.count, group.services, group.samples[0].trace_id) == (1, ["shop"], TRACE.hex())
    assert only_journal(tmp_path)
