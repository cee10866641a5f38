import pytest
from tk_tempo import Grafana, Refused, plain_attributes
from tk_tempo_spans import Shop, served

SECOND, MINUTE = 10**9, 60
START = 1_795_435_200  # a whole hour


@pytest.fixture
def shop(store):
    return Shop(store, now_ns=START * SECOND)


def by_label(found):
    return {tuple(plain_attributes(each.labels).items()): each for each in found.series}


def order_in_minutes(shop):
    """An order each in the five minutes before the hour, a second after the minute began; the first fails."""
    return [shop.order(ago=60 * minute - 1, fails=minute == 5) for minute in range(5, 0, -1)]


def test_a_panel_has_a_value_for_each_step(grafana, shop):
    """At multiples of the step, from start to end; without groups the series has the function's name."""
    order_in_minutes(shop)
    found = grafana.range('{ name = "GET /cart" } | count_over_time()', start=START - 300, end=START, step="1m")
    (series,) = found.series
    assert plain_attributes(series.labels) == {"__name__": "count_over_time"}
    assert [(sample.timestampMs // 1000 - START, sample.value) for sample in series.samples if sample.value] == [
        (-240, 1), (-180, 1), (-120, 1), (-60, 1), (0, 1),
    ]  # fmt: skip
    assert found.status == 0


def test_series_are_named_as_they_are_grouped(grafana, shop):
    """By what the query says, in full; quantiles and buckets with their own labels."""
    order_in_minutes(shop)
    times = {"start": START - 300, "end": START, "step": "300"}
    groups = by_label(grafana.range("{} | rate() by (resource.service.name, status)", **times))
    assert (("resource.service.name", "stock"), ("status", "error")) in groups
    assert all(len(key) == 2 for key in groups)
    quantiles = grafana.range("{} | quantile_over_time(duration, 0.5, 0.9)", **times)
    assert {plain_attributes(each.labels)["p"] for each in quantiles.series} == {0.5, 0.9}
    buckets = grafana.range("{} | histogram_over_time(duration)", **times)
    bounds = {plain_attributes(each.labels)["__bucket"] for each in buckets.series}
    assert 0.033554432 in bounds, "20 ms are below 2**25 ns"
    compared = grafana.range("{} | compare({ status = error }, 10)", **times)
    assert {plain_attributes(each.labels)["__meta_type"] for each in compared.series} <= {
        "baseline", "selection", "baseline_total", "selection_total",
    }  # fmt: skip


def test_exemplars_lead_to_their_traces(grafana, shop):
    """By the label that Grafana follows, with a value and a time; none where none are wanted."""
    orders = order_in_minutes(shop)
    query, times = (
        '{ name = "GET /cart" } | avg_over_time(duration)',
        {"start": START - 300, "end": START, "step": "1m"},
    )
    (series,) = grafana.range(query, **times).series
    found = {plain_attributes(each.labels)["trace:id"] for each in series.exemplars}
    assert found
    assert found <= set(orders)
    assert all(each.value > 0 and each.timestampMs > 0 for each in series.exemplars)
    (series,) = grafana.range(query, **times, exemplars=0).series
    assert not series.exemplars


def test_a_single_value_is_of_the_whole_time(grafana, shop):
    """For panels of one number, and alert rules."""
    order_in_minutes(shop)
    found = grafana.instant('{ name = "GET /cart" } | count_over_time()', start=START - 300, end=START)
    assert [(plain_attributes(each.labels), each.value) for each in found.series] == [
        ({"__name__": "count_over_time"}, 5)
    ]
    failed = grafana.instant(
        "{ status = error } | count_over_time() by (name)", start=START - 300, end=START, step="60s"
    )
    assert {plain_attributes(each.labels)["name"]: each.value for each in failed.series} == {
        "GET /cart": 1,
        "SELECT": 1,
    }
    nothing = grafana.instant('{ name = "none" } | avg_over_time(duration)', start=START - 300, end=START)
    assert not nothing.series, "the average of nothing is not zero: an alert rule is to see no data"


def test_times_and_steps_are_read_in_every_form(grafana, shop):
    """Seconds, fractions, nanoseconds, RFC 3339; Go's durations or seconds; older Grafana's name for the query."""
    order_in_minutes(shop)
    query = '{ name = "GET /cart" } | count_over_time()'
    expected = grafana.range(query, start=START - 300, end=START, step="60s")
    for start in (f"{START - 300}.0", (START - 300) * SECOND, "2026-11-23T11:55:00Z"):
        for step in ("1m", "60", "60.0", "0h1m0s", "60000ms"):
            assert grafana.range(query, start=start, end=START, step=step) == expected
    assert len(expected.series) == 1
    old = grafana.get("/api/metrics/query_range", query=query, start=START - 300, end=START, step="60s").json
    assert len(old["series"]) == 1


def test_a_step_is_chosen_where_none_is_given(grafana, shop):
    """Some 240 of them, each of a round length."""
    order_in_minutes(shop)
    for length, step in (
        (100, 1),
        (300, 1),
        (3600, 15),
        (6 * 3600, 60),
        (86_400, 300),
        (30 * 86_400, 3 * 3600),
    ):
        found = grafana.range("{} | rate()", start=START - length, end=START)
        stamps = [sample.timestampMs // 1000 for sample in found.series[0].samples]
        assert stamps == list(range(stamps[0], START + 1, step)), (length, stamps[:3])


def test_without_times_it_is_the_last_hour(store):
    """Or what `since` says."""
    shop = Shop(store)
    shop.order(ago=100)
    shop.order(ago=2 * 3600)
    with served(store) as port:
        grafana = Grafana(port)
        query = '{ name = "GET /cart" } | count_over_time()'
        assert grafana.instant(query).series[0].value == 1
        assert grafana.instant(query, since="3h").series[0].value == 2


def test_more_series_than_asked_for_are_left_out_and_said_so(grafana, shop):
    """The answer is marked as a part, in words."""
    order_in_minutes(shop)
    for found in (
        grafana.range("{} | rate() by (name)", start=START - 300, end=START, maxSeries=2),
        grafana.instant("{} | rate() by (name)", start=START - 300, end=START, maxSeries=2),
    ):
        assert len(found.series) == 2
        assert found.status == 1
        assert "first 2 series" in found.message


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"q": ""}, "invalid q: "),
        ({"q": "{} | rate("}, "invalid TraceQL query: parse error at line 1, col "),
        ({"q": "{}"}, "invalid TraceQL query: "),
        ({"step": "0"}, "invalid step: must be a duration such as 30s or a number of seconds, not '0'"),
        ({"step": "-5s"}, "invalid step: "),
        ({"step": "1x"}, "invalid step: "),
        ({"step": "1ms"}, "invalid step: the time has more than 11000 steps"),
        ({"exemplars": "all"}, "invalid exemplars: "),
        ({"maxSeries": "-1"}, "invalid maxSeries: "),
        ({"end": ""}, "invalid end: start is given without it"),
        ({"start": "now"}, "invalid start: "),
        ({"since": "1 hour"}, "invalid since: "),
    ],
)
def test_a_mistake_is_a_400_that_names_it(empty, params, text):
    """In plain text, as an alert rule shows it."""
    given = {"q": "{} | rate()", "start": START - 300, "end": START} | params
    with pytest.raises(Refused) as refused:
        empty.range(given.pop("q"), **given)
    assert refused.value.status == 400
    assert refused.value.text.startswith(text), refused.value.text
