"""Metrics queries: the same values as by a naive computation over the same spans."""

import pytest
from tk_naive_metrics import assert_same, series, told
from tk_traces import BASE, MS

from tracekeep.exporter.traceql import TraceQLError, parse, query_instant, query_range
from tracekeep.storage import QueryTimeout

SECOND = 1000 * MS
SINCE, UNTIL = BASE - 300 * MS, BASE + 9 * SECOND

QUERIES = """
{} | rate()
{} | count_over_time()
{ false } | rate()
{} | rate() by(resource.service.name)
{} | rate() by(name, status)
{} | rate() by(kind) | topk(2)
{} | count_over_time() by(resource.cluster) | bottomk(1)
{} | count_over_time() by(.n)
{} | count_over_time() by(span.nosuch)
{} | count_over_time() by(span.nosuch, kind)
{} | count_over_time() by(span.tags)
{} | count_over_time() by(event.attempt)
{} | count_over_time() by(duration)
{} | count_over_time() by(.flag)
{ nestedSetParent < 0 } | rate() by(resource.service.name) with(sample=true)
{ nestedSetParent < 0 && status = error } | rate()
{ status = error } | rate() by(status)
{ status != error && kind = server } | count_over_time() by(name)
{ resource.cluster = "eu" && duration > 10ms } | rate() by(resource.service.name)
{ duration >= 1s } | count_over_time() by(name)
{ name =~ "GET.*" } | count_over_time()
{ span.user != nil } | count_over_time() by(span.user)
{ rootName = "POST /order" } | rate() by(rootName)
{ kind = server } >> { kind = client } | rate() by(name)
{ kind = server } !>> { kind = client } | count_over_time() by(rootServiceName)
{} | by(resource.service.name) | count() > 2 | rate() by(resource.service.name)
{} | select(name) | rate()
{} | { kind = server } | rate()
{} | min_over_time(duration)
{} | max_over_time(duration) by(kind)
{} | sum_over_time(duration) by(resource.service.name)
{} | avg_over_time(duration) by(resource.service.name, kind)
{} | avg_over_time(span.n) by(name)
{} | max_over_time(.n)
{} | min_over_time(.nosuch)
{} | sum_over_time(.ratio)
{} | max_over_time(event:timeSinceStart)
{} | max_over_time(traceDuration) by(rootName)
{} | avg_over_time(span:childCount)
{} | quantile_over_time(duration, 0.5, 0.9, 1)
{} | quantile_over_time(duration, 0, .99) by(resource.service.name)
{ rootServiceName = "shop" } | quantile_over_time(duration, 0.5) by(name)
{} | quantile_over_time(.n, 0.5)
{} | quantile_over_time(.depth, 0.25, 0.75)
{} | quantile_over_time(.nosuch, 0.5)
{} | histogram_over_time(duration)
{} | histogram_over_time(duration) by(kind)
{ kind = client } || { kind = server } | histogram_over_time(duration)
{} | histogram_over_time(.ratio)
{} | histogram_over_time(.depth) by(.even)
{} | rate() > 3
{} | count_over_time() by(name) >= 2
{} | count_over_time() by(name) != 1 | topk(1)
{} | avg_over_time(duration) by(name) > 100ms
{} | max_over_time(.n) by(name) < 0
{} | compare({ status = error })
{} | compare({ kind = server }, 2)
{ resource.service.name = "shop" } | compare({ duration > 50ms }, 3)
{} | compare({})
{} | compare({ name =~ "GET.*" }, 1, 1790000000000000000, 1790000003000000000)
{ kind = server } >> {} | compare({ kind = client })
""".strip().splitlines()


@pytest.mark.parametrize("text", QUERIES)
@pytest.mark.parametrize("step", [700 * MS, 4 * SECOND])
def test_over_a_range(text, step, worlds, naive):
    """Every series, every sample, in steps that end at multiples of the step and begin one before the window."""
    query = parse(text)
    found = query_range(worlds, query, since_ns=SINCE, until_ns=UNTIL, step_ns=step, exemplars=50)
    assert not found.degraded
    first = SINCE // step * step
    ends = list(range(first, -(-UNTIL // step) * step + 1, step))
    assert_same(told(found), series(naive, query, ends, step, step / 1e9))


@pytest.mark.parametrize("text", QUERIES)
def test_at_an_instant(text, worlds, naive):
    """One sample for each series: of the whole window, both ends included."""
    query = parse(text)
    since, until = BASE, BASE + 7005 * MS
    found = query_instant(worlds, query, since_ns=since, until_ns=until)
    assert_same(told(found), series(naive, query, [until], until - since + 1, (until - since) / 1e9))


def test_values_that_a_person_knows(worlds):
    """So that both computations can't be wrong together."""

    def ask(text):
        found = query_instant(worlds, parse(text), since_ns=BASE, until_ns=BASE + 2 * SECOND - 1)
        return {each.labels: each.samples[0].value for each in found}

    assert ask("{} | count_over_time()") == {(("__name__", "count_over_time"),): 12}
    assert ask("{} | rate() by(resource.service.name)") == {
        (("resource.service.name", "shop"),): pytest.approx(2.5),
        (("resource.service.name", "stock"),): pytest.approx(1.5),
        (("resource.service.name", "pay"),): pytest.approx(1.0),
        (("resource.service.name", "nil"),): pytest.approx(1.0),
    }
    assert ask("{ kind = client } | max_over_time(duration)") == {(("__name__", "max_over_time"),): 1.4}
    assert ask("{ name = `SELECT` } | avg_over_time(duration)") == {(("__name__", "avg_over_time"),): 0.0175}
    assert ask("{ name = `SELECT` } | histogram_over_time(duration)") == {
        (("__bucket", 0.016777216),): 1,
        (("__bucket", 0.033554432),): 1,
    }
    assert ask("{ name = `SELECT` } | quantile_over_time(duration, .5)") == {(("p", 0.5),): 0.016777216}


@pytest.mark.parametrize(
    "text", ["{} | rate()", "{} | quantile_over_time(duration, .5, .9) by(kind)", "{} | avg_over_time(.n)",
             "{} | histogram_over_time(duration)", "{ kind = server } >> {} | rate()"]
)  # fmt: skip
def test_exemplars(text, worlds, naive):
    """Spans that count, at most as many as were asked for, none twice, each within its step and with a value."""
    found = query_range(worlds, parse(text), since_ns=SINCE, until_ns=UNTIL, step_ns=SECOND, exemplars=7)
    shown = [exemplar for each in found for exemplar in each.exemplars]
    known = {(span.trace_id, span.span_id): span for family in naive.families.values() for span in family.spans}
    assert 1 <= len(shown) <= 7
    assert len({(each.trace_id, each.span_id) for each in shown}) == len(shown)
    for exemplar in shown:
        assert known[exemplar.trace_id, exemplar.span_id].start_ns == exemplar.time_ns
        assert exemplar.value == exemplar.value != 0
    hinted = query_range(
        worlds, parse(f"{text} with(exemplars=false)"), since_ns=SINCE, until_ns=UNTIL, step_ns=SECOND, exemplars=7
    )
    assert not any(each.exemplars for each in hinted)


def test_too_many_series(worlds):
    """The first ones are given, and the message says what was left out."""
    found = query_instant(worlds, parse("{} | count_over_time() by(name)"), since_ns=BASE, until_ns=UNTIL, max_series=5)
    assert len(found) == 5
    assert "first 5 series" in found.message


@pytest.mark.parametrize(("since", "until", "step"), [(10, 10, 1), (10, 5, 1), (0, 10, 0), (0, 10**9, 1)])
def test_ranges_that_make_no_sense(since, until, step, worlds):
    """Are refused, and so is one with more points than anyone can look at."""
    with pytest.raises(TraceQLError):
        query_range(worlds, parse("{} | rate()"), since_ns=since, until_ns=until, step_ns=step)


def test_the_wrong_kind_of_query(worlds):
    """A search is none for metrics."""
    with pytest.raises(TraceQLError, match="not a metrics query"):
        query_instant(worlds, parse("{}"), since_ns=0, until_ns=1)


@pytest.mark.parametrize("text", ["{} | rate()", "{} | rate() by(.n)", "{} >> {} | rate()"])
def test_a_deadline(text, worlds):
    """Passed before anything was read: the question is told so."""
    with pytest.raises(QueryTimeout):
        query_range(worlds, parse(text), since_ns=SINCE, until_ns=UNTIL, step_ns=SECOND, deadline=-1.0)
