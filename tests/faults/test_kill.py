"""Workers die at any moment: no acknowledged span is lost or kept twice, and no counter ever falls."""

import random
import time

import pytest
from tk_client import Client
from tk_history import check_files, check_kept
from tk_metrics import Watch, scrape, server_spans, total
from tk_service import Service
from tk_wait import eventually

WORKERS = 4
ROUNDS = 20
LONG_ROUNDS = 300
VICTIMS = ("writer", "one", "all", "one", "writer")
IMPATIENT = 4  # every so many rounds the next kill comes while workers are still starting


def test_kill_at_random_moments(tmp_path, long):
    """Four workers under load, killed one by one and together: what was acknowledged is kept, once."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    moments = random.Random(seed)
    with Service(tmp_path / "data", tmp_path, workers=WORKERS) as service:
        with Watch(service.ports) as watch, Client(service.port, rate=160) as client:
            for number in range(LONG_ROUNDS if long else ROUNDS):
                victims = _victims(service, VICTIMS[number % len(VICTIMS)], moments)
                time.sleep(moments.uniform(0.05, 0.6))  # a random moment, nothing is waited for
                service.kill(*victims)
                for victim in victims:
                    service.start(victim)
                if number % IMPATIENT:
                    service.wait_ready()
            service.wait_ready()
            scrapes = dict(watch.scrapes)
            eventually(lambda: all(watch.scrapes[port] > scrapes[port] for port in service.ports), 10)
        watch.check()
        received = client.ids()
        assert len(received) > 20 * ROUNDS, f"hardly any load: {len(received)}, {client.unanswered[-5:]}"
        stored = check_kept(service.port, received)
        assert stored.total() >= len(received)
        watch.see(scrape(service.port), "the last scrape")
        watch.check()
        service.stop()
    check_files(tmp_path / "data")


def test_the_next_worker_writes_within_a_second(tmp_path):
    """When the writer's holder is killed, another takes the role and catches up within a second."""
    with Service(tmp_path / "data", tmp_path, workers=2) as service, Client(service.port, rate=50) as client:
        for _ in range(3):
            holder = eventually(lambda: _writer(service), 5)[0]
            service.kill(holder)
            died = time.monotonic()
            other = 1 - holder
            eventually(lambda other=other: _writer(service) == [other], 3)
            before = len(client.received)
            eventually(lambda before=before: len(client.received) > before, 3)
            counted = len(client.received)
            port = service.ports[other]
            eventually(lambda port=port, counted=counted: server_spans(scrape(port)) >= counted, 3)
            assert time.monotonic() - died < 2.5, "a second to notice, and what the test itself takes"
            service.start(holder)
            service.wait_ready()


@pytest.mark.parametrize("times", [5])
def test_kill_while_starting(tmp_path, times):
    """All workers killed again and again while they adopt the journals of the dead: nothing is lost."""
    with Service(tmp_path / "data", tmp_path, workers=3) as service:
        with Client(service.port, rate=100) as client:
            eventually(lambda: len(client.received) >= 100, 10)
        service.kill_all()
        moments = random.Random(times)
        for _ in range(times):
            service.start_all()
            time.sleep(moments.uniform(0.5, 1.6))  # a random moment around the adoption
            service.kill_all()
        service.start_all()
        service.wait_ready()
        check_kept(service.port, client.ids())


def test_totals_and_errors_outlive_all(tmp_path):
    """After kill -9 of everything and a new start, the totals of every family are what they were."""
    with Service(tmp_path / "data", tmp_path, workers=2) as service:
        with Client(service.port, rate=200) as client:
            eventually(lambda: len(client.received) >= 150, 10)
        service.kill_all()
        failures = sum(received.status == 500 for received in client.received)
        with Watch(service.ports) as watch:
            service.start_all()
            service.wait_ready()
            check_kept(service.port, client.ids())
            eventually(lambda: all(watch.scrapes.values()), 10)
        watch.check()
        samples = scrape(service.port)
        assert server_spans(samples) == len(client.received)
        assert total(samples, "http_server_request_duration_seconds_count") == len(client.received)
        assert total(samples, "exceptions_total") == failures
        assert total(samples, "traces_spanmetrics_latency_count", span_kind="SPAN_KIND_SERVER") == len(client.received)


def _writer(service):
    """The index of the writer, in a list, so that the first is true too; empty while there is none."""
    index = service.writer()
    return [] if index is None else [index]


def _victims(service, kind, moments):
    if kind == "all":
        return list(range(WORKERS))
    if kind == "writer" and (found := _writer(service)):
        return found
    return [moments.randrange(WORKERS)]
