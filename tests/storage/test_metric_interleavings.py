"""Any interleaving of workers, deaths, writers, crashes, lost files and reads keeps what metrics promise."""

import itertools
import shutil
import tempfile
import time
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tk_app_metrics import family, label_text, point, say
from tk_spans import die

from tracekeep.storage import StoreSettings
from tracekeep.storage.aggregates import Aggregates
from tracekeep.storage.gauges import worker_label
from tracekeep.storage.journal import Journal
from tracekeep.storage.partitions import History
from tracekeep.storage.reading import Readers
from tracekeep.storage.totals import TotalsReader
from tracekeep.storage.writer import Writer

LIMIT = 3
LABELS = st.sampled_from("abcde")
BOUNDS = [1, 2, 5]
POLICIES = {
    "sum": lambda said: sum(value for _, value in said),
    "max": lambda said: max(value for _, value in said),
    "min": lambda said: min(value for _, value in said),
    "mostrecent": lambda said: max(said)[1],
}
OVERFLOW_TEXT = "otel_metric_overflow=true"


class Crash(Exception):  # noqa: N818  # not an error: the death of a writer
    pass


class Worker:
    def __init__(self, root, settings_):
        self.journal = Journal(root / "journal", settings_)
        self.journal.start()
        self.gauges = {}
        self.own = 0

    @property
    def label(self):
        return worker_label(self.journal.name)


class Interleaving(RuleBasedStateMachine):
    """Workers say things to real journals; a writer without a thread moves them, one step at a time."""

    @initialize()
    def begin(self):
        self.directory = Path(tempfile.mkdtemp(prefix="tracekeep-test-"))
        self.settings = StoreSettings(segment_bytes=1 << 16, reserve_bytes=0, series_limit=LIMIT)
        self.clock = itertools.count(time.time_ns())
        self.workers, self.dead = [], []
        self.jobs, self.sizes, self.sizes_sum = {}, [0] * (len(BOUNDS) + 1), 0
        self.seen, self.starts = {}, {}
        self.records = 0
        self.writer = None
        self.reader = TotalsReader(self.directory / "aggregates.db", Readers(10))
        self.start_worker()
        self.take_over()

    def teardown(self):
        if not hasattr(self, "directory"):
            return
        try:
            self.settle()
            self.never_goes_back()
        finally:
            self.leave()
            self.reader._readers.close()
            for worker in self.workers + self.dead:
                die(worker.journal)
            shutil.rmtree(self.directory)

    # --- workers ------------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.workers) < 4)
    @rule()
    def start_worker(self):
        self.workers.append(Worker(self.directory, self.settings))

    def _say(self, worker, *families, gone=()):
        say(worker.journal, *families, gone=gone, time_ns=next(self.clock))
        self.records += 1

    def _any(self, data):
        return self.workers[data.draw(st.integers(0, len(self.workers) - 1), "worker")]

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), label=LABELS, amount=st.integers(0, 1 << 40))
    def increment(self, data, label, amount):
        self._say(self._any(data), family("jobs", points=[point(amount, a=label)]))
        self.jobs[label] = self.jobs.get(label, 0) + amount

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), counts=st.tuples(*[st.integers(0, 9)] * (len(BOUNDS) + 1)), total=st.integers(0, 100))
    def observe(self, data, counts, total):
        self._say(
            self._any(data), family("sizes", "histogram", [point(buckets=list(counts), sum_=total)], bounds=BOUNDS)
        )
        self.sizes = [have + more for have, more in zip(self.sizes, counts, strict=True)]
        self.sizes_sum += total

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), label=LABELS, value=st.integers(-1000, 1000))
    def set_gauges(self, data, label, value):
        worker = self._any(data)
        said = [family(f"gauge_{policy}", "gauge", [point(value, a=label)], policy=policy) for policy in POLICIES]
        self._say(worker, *said)
        worker.gauges[label] = (next(self.clock), value)

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), label=LABELS)
    def drop_gauges(self, data, label):
        worker = self._any(data)
        self._say(worker, gone=[(f"gauge_{policy}", [("a", label)]) for policy in POLICIES])
        worker.gauges.pop(label, None)

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), amount=st.integers(1, 9))
    def increment_own(self, data, amount):
        worker = self._any(data)
        self._say(worker, family("own", points=[point(amount)], policy="worker"))
        worker.own += amount

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), is_read=st.booleans())
    def kill(self, data, is_read):
        if is_read:
            self._step()
        worker = self._any(data)
        self.workers.remove(worker)
        self.dead.append(worker)
        die(worker.journal)

    # --- the writer ---------------------------------------------------------------------------------------------------

    def leave(self):
        if self.writer is not None:
            self.writer._custody.close()
            self.writer._role.give_back()
            self.writer = None

    def take_over(self):
        """The writer dies, and another one goes on."""
        self.leave()
        self.writer = Writer(self.directory, self.settings, lambda: "")
        assert self.writer._role.take()
        self.writer._wake.set()
        assert self.writer._until(self.writer._open)
        assert self.writer._until(self.writer._upkeep.withdraw_dead)

    @rule()
    def write(self):
        self._step()

    def _step(self):
        self.writer._custody.gather.discover()
        assert self.writer._until(self.writer._upkeep.withdraw_dead)
        self.writer._wake.set()
        return self.writer._turn()

    def keep_up(self):
        self.writer._until(self.writer._keep_up)

    @rule(what=st.sampled_from(("keep_up", "take_over", "lose_aggregates", "crash")), data=st.data())
    def disturb(self, what, data):
        if what == "crash":
            owner = data.draw(st.sampled_from([History, Aggregates]), "owner")
            self.crash(owner, data.draw(st.sampled_from(["before", "after"]), "when"))
        else:
            getattr(self, what)()

    def crash(self, owner, when):
        """The writer dies around one of the two commits of a batch."""
        apply = owner.apply

        def dying(base, *args):
            if when == "after":
                apply(base, *args)
            raise Crash

        owner.apply = dying
        try:
            self._step()
        except Crash:
            pass
        finally:
            owner.apply = apply
        self.take_over()

    def lose_aggregates(self):
        """The file is deleted under the writer, which has all in memory."""
        for path in self.directory.glob("aggregates.db*"):
            path.unlink()
        self.keep_up()

    # --- what is promised ---------------------------------------------------------------------------------------------

    @invariant()
    def never_goes_back(self):
        """Of every total that was ever shown: not its value, nor a bucket, nor its start time."""
        if getattr(self, "writer", None) is None:
            return
        for each in self.reader.read(time.monotonic() + 10).families:
            for series in each.series if each.type != "gauge" and each.name != "own" else ():
                key = (each.name, series.labels)
                numbers = (series.value, *series.buckets)
                before = self.seen.get(key, numbers)
                assert all(new >= old for new, old in zip(numbers, before, strict=True)), (key, before, numbers)
                assert self.starts.setdefault(key, series.start_ns) == series.start_ns
                self.seen[key] = numbers

    @rule()
    def settle(self):
        """When all is read: totals are exact, and gauges are their policy over the live workers."""
        while self._step():
            pass
        self.keep_up()
        while self._step():
            pass
        shown = {each.name: each.series for each in self.reader.read(time.monotonic() + 10).families}
        self._check_jobs({label_text(each): each.value for each in shown.get("jobs", ())})
        if any(self.sizes):
            (sizes,) = shown["sizes"]
            assert (sizes.value, sizes.sum) == (sum(self.sizes), self.sizes_sum)
            assert list(sizes.buckets) == list(itertools.accumulate(self.sizes[:-1]))
        assert {label_text(each): each.value for each in shown.get("own", ())} == self._expected_own()
        for policy, combine in POLICIES.items():
            said = [reading for worker in self.workers for reading in worker.gauges.values()]
            self._check_gauge(shown.get(f"gauge_{policy}", ()), policy, combine, said)
        (stored,) = shown["tracekeep_records_stored"]
        assert stored.value == self.records

    def _check_jobs(self, shown):
        own = {text: value for text, value in shown.items() if text != OVERFLOW_TEXT}
        assert len(own) == min(LIMIT, len(self.jobs))
        assert own == {f"a={label}": value for label, value in self.jobs.items() if f"a={label}" in own}
        assert sum(shown.values()) == sum(self.jobs.values())

    def _expected_own(self):
        """The limit is of all workers' series together; past it each has its own overflow series."""
        shown = {each.name: each.series for each in self.reader.read(time.monotonic() + 10).families}
        overflowing = {dict(each.labels)["worker"] for each in shown.get("own", ()) if len(each.labels) > 1}
        assert len([each for each in shown.get("own", ()) if len(each.labels) == 1]) <= LIMIT
        prefix = {worker.label: f"{OVERFLOW_TEXT}," if worker.label in overflowing else "" for worker in self.workers}
        return {f"{prefix[each.label]}worker={each.label}": each.own for each in self.workers if each.own}

    def _check_gauge(self, series, policy, combine, said):
        assert bool(series) == bool(said)
        assert len(series) <= LIMIT + 1
        if not said:
            return
        values = [each.value for each in series]
        if policy == "mostrecent":
            assert combine(said) in values
        else:
            assert combine([(0, value) for value in values]) == combine(said)
        if not any(label_text(each) == OVERFLOW_TEXT for each in series):
            for each in series:
                label = dict(each.labels)["a"]
                own = [worker.gauges[label] for worker in self.workers if label in worker.gauges]
                assert each.value == combine(own)


Interleaving.TestCase.settings = settings(
    max_examples=25,
    phases=[Phase.generate],
    database=None,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestInterleavings = Interleaving.TestCase
