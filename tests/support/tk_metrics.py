"""Reads `/metrics` with prometheus_client's parser, and watches that no counter ever falls."""

import threading

from prometheus_client.parser import text_string_to_metric_families
from tk_http import get

METRICS = "/observability/metrics"


class NotServedError(AssertionError):
    """The page was refused: no numbers at all, which is allowed, unlike smaller ones."""


def scrape(port, timeout=5.0):
    """All samples of counters and histograms: {(name, labels): value}."""
    response = get(port, METRICS, timeout=timeout)
    if response.status != 200:
        raise NotServedError(f"{METRICS}: {response.status} {response.body[:300]!r}")
    return counters(response.text)


def counters(text):
    """All but those of one worker, such as its CPU time: they go with it."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        if family.type in {"counter", "histogram"}
        for sample in family.samples
        if not sample.name.endswith("_created") and "worker" not in sample.labels
    }


def total(samples, name, **labels):
    """Sum of the samples of one name that carry these labels."""
    wanted = set(labels.items())
    return sum(value for (found, having), value in samples.items() if found == name and wanted <= set(having))


def server_spans(samples):
    return total(samples, "traces_spanmetrics_calls_total", span_kind="SPAN_KIND_SERVER")


class Watch:
    """Scrapes all ports in turn, one after the other, and notes each counter that fell or vanished."""

    def __init__(self, ports, *, every=0.05, timeout=2.0):
        self.ports, self.every, self.timeout = ports, every, timeout
        self.scrapes = dict.fromkeys(ports, 0)
        self.falls: list[str] = []
        self.refused: list[str] = []
        self._seen: dict = {}
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def check(self):
        """Fail if anything fell, or if the watcher itself could not go on."""
        if self._failure is not None:
            raise self._failure
        assert not self.falls, f"{len(self.falls)} counters fell, first: {self.falls[:5]}"

    def see(self, samples, where):
        """Compare with all that was seen before."""
        for key, before in self._seen.items():
            now = samples.get(key)
            if now is None or now < before:
                self.falls.append(f"{where}: {key} from {before} to {now}")
        self._seen.update(samples)

    def _run(self):
        try:
            while not self._stop.is_set():
                for port in self.ports:
                    self._visit(port)
                    self._stop.wait(self.every)
        except BaseException as failure:
            self._failure = failure

    def _visit(self, port):
        try:
            samples = scrape(port, self.timeout)
        except NotServedError as refused:
            self.refused.append(str(refused))
        except OSError:
            pass  # this worker has just been killed
        else:
            self.scrapes[port] += 1
            self.see(samples, port)
