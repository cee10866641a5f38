"""Application metrics as they are kept: totals over all workers, gauges over those that live."""

from tk_app_metrics import family, find, point, say, values
from tk_spans import counter


def test_a_record_is_kept(store):
    """A counter, a histogram, a summary and a gauge of a process are among the totals as it described them."""
    say(
        store,
        family("jobs", points=[({"queue": "a"}, 3), ({"queue": "b"}, 1.5)], help_="Jobs done."),
        family("size_bytes", "histogram", [point(buckets=[1, 2, 0], sum_=7.5)], bounds=[1, 10], unit="bytes"),
        family("wait_seconds", "summary", [point(4, sum_=0.5)]),
        family("open", "gauge", [point(-2.5, pool="x")]),
    )
    say(store, family("jobs", points=[({"queue": "a"}, 4)]), family("open", "gauge", [point(7, pool="x")]))
    assert store.flush(5)
    assert values(store, "jobs") == {"queue=a": 7, "queue=b": 1.5}
    assert values(store, "open") == {"pool=x": 7}
    histogram = find(store, "size_bytes")
    assert (histogram.type, histogram.unit, histogram.bounds) == ("histogram", "bytes", (1, 10))
    (series,) = histogram.series
    assert (series.value, series.sum, series.buckets) == (3, 7.5, (1, 3))
    (summary,) = find(store, "wait_seconds").series
    assert (summary.value, summary.sum) == (4, 0.5)
    account = store.accounting()
    assert (account.accepted, account.stored, account.balanced) == (2, 2, True)
    assert counter(store, "tracekeep_metrics_rejected") == 0
