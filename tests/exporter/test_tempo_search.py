import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tk_tempo import Refused, plain_attributes

from tracekeep.exporter.tempo import legacy


def ids(found):
    return [trace.traceID for trace in found.traces]


def test_a_found_trace_is_told_in_the_keys_that_grafana_knows(grafana, shop):
    """Its root, times, services and spans; what the query names stands with each span."""
    trace_id = shop.order(fails=True)
    shop.order()
    found = grafana.search('{ span.item = "tea" && status = error } | select(span.rows, span.cached, span.ratio)')
    (trace,) = found.traces
    start = shop.now - 10 * 10**9
    assert (trace.traceID, trace.rootServiceName, trace.rootTraceName) == (trace_id, "web", "GET /cart")
    assert (trace.startTimeUnixNano, trace.durationMs) == (start, 20)
    assert {name: (each.spanCount, each.errorCount) for name, each in trace.serviceStats.items()} == {
        "web": (2, 1), "stock": (2, 1),
    }  # fmt: skip
    (spans,) = trace.spanSets
    (span,) = spans.spans
    assert (span.name, span.startTimeUnixNano, span.durationNanos) == ("SELECT", start + 3 * 10**6, 2 * 10**6)
    assert plain_attributes(span.attributes) == {
        "item": "tea", "status": "error", "rows": 3, "cached": False, "ratio": 0.25,
    }  # fmt: skip
    assert found.metrics.inspectedTraces >= 1
    assert set(grafana.get("/api/search").json["metrics"]) <= {"inspectedTraces"}, "older decoders know no more"


def test_an_absent_query_finds_everything(grafana, shop):
    """As an empty one does, and `{}`; the newest first, as many as asked for."""
    for number in range(4):
        shop.order(ago=100 - number)
    everything = ids(grafana.search("{}"))
    assert len(everything) == 8
    assert ids(grafana.search()) == ids(grafana.search("")) == everything
    assert ids(grafana.search("{}", limit=2)) == everything[:2]
    starts = [trace.startTimeUnixNano for trace in grafana.search("{}").traces]
    assert starts == sorted(starts, reverse=True)


def test_sets_hold_as_many_spans_as_asked_for(grafana, shop):
    """Three unless told otherwise, all of them for 0; `matched` counts them all."""
    trace_id = shop.order()
    for params, count in (({}, 3), ({"spss": 1}, 1), ({"spss": 0}, 4), ({"spss": 100}, 4)):
        (trace,) = [each for each in grafana.search("{}", **params).traces if each.traceID == trace_id]
        assert (len(trace.spanSets[0].spans), trace.spanSets[0].matched) == (count, 4)


def test_a_set_has_what_was_computed_of_it(grafana, shop):
    """Counts and groups are the set's own attributes."""
    shop.order()
    found = grafana.search('{ resource.service.name = "web" } | count() > 1')
    assert plain_attributes(found.traces[0].spanSets[0].attributes) == {"count()": 2}


def test_every_value_of_a_column_has_one_type(grafana, shop):
    """A table has no column for texts and numbers: such values are texts."""
    tracer = shop.tracer("mixed")
    for value in (1, "one", 2.5, True, [1, 2]):
        tracer.start_span("mixed", attributes={"value": value, "number": 1 if value == 1 else 2.5}).end()
    found = grafana.search("{ span.value != nil } | select(span.number)", spss=0)
    attributes = [
        plain_attributes(span.attributes)
        for trace in found.traces for each in trace.spanSets for span in each.spans
    ]  # fmt: skip
    assert sorted(each["value"] for each in attributes) == sorted(["1", "one", "2.5", "true", "[1,2]"])
    assert {type(each["number"]) for each in attributes} == {int, float}


def test_odd_values_can_be_shown(grafana, shop):
    """Whatever a span has, the answer is one that the decoder takes."""
    shop.odd()
    names = ("int64 max", "nan", "inf", "bytes", "map", "none", "texts", "nul", "unicode", "empty", "zero")
    selected = ", ".join(f'span."{name}"' for name in names)
    (trace,) = grafana.search(f'{{ name = "odd" }} | select({selected})').traces
    found = plain_attributes(trace.spanSets[0].spans[0].attributes)
    assert found["int64 max"] == 2**63 - 1
    assert found["bytes"] == b"\xff\x00\xfe"
    assert found["map"] == {"a": {"b": [1, "x", None, 2.5]}, "c": b"\x01"}


def test_a_time_is_kept_to(grafana, shop):
    """Spans that began in it; in seconds, nanoseconds or RFC 3339."""
    old, new = shop.order(ago=1000), shop.order(ago=10)
    now = shop.now // 10**9
    query = '{ name = "SELECT" }'
    assert ids(grafana.search(query, start=now - 2000, end=now - 500)) == [old]
    assert ids(grafana.search(query, start=now - 500, end=now + 1)) == [new]
    assert ids(grafana.search(query, start=(now - 500) * 10**9, end=(now + 1) * 10**9)) == [new]
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - 500))
    assert ids(grafana.search(query, start=stamp, end=now + 1)) == [new]


def test_older_grafana_searches_by_tags_and_durations(grafana, shop):
    """In any case, anywhere in the text, on any span of the trace; the trace's own duration."""
    tea, rum = shop.order(fails=True, item="Green Tea"), shop.order(item="rum")
    search = grafana.search
    assert ids(search(tags="item=tea")) == [tea]
    assert ids(search(tags='item="green t" service.name=WEB')) == [tea]
    assert ids(search(tags="http.response.status_code=200")) == [rum]
    assert ids(search(tags="status.code=error")) == [tea]
    assert ids(search(tags="item=.*")) == []
    assert set(ids(search(tags="name=cart root.service.name=web"))) == {tea, rum}
    assert set(ids(search(minDuration="10ms", maxDuration="0.5s"))) == {tea, rum}
    assert ids(search(tags="item=rum cached=false rows=3", minDuration="10ms")) == [rum]
    assert ids(search(tags="item=rum", minDuration="1m")) == []


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"q": "{ name = }"}, "invalid TraceQL query: parse error at line 1, col 10: "),
        ({"q": "{}\n&& {"}, "invalid TraceQL query: parse error at line 2, col "),
        ({"q": "{} | rate()"}, "invalid TraceQL query: "),
        ({"limit": "0"}, "invalid limit: must be a whole number from 1 to 10000, not '0'"),
        ({"limit": "many"}, "invalid limit: "),
        ({"limit": "300000"}, "invalid limit: "),
        ({"spss": "-1"}, "invalid spss: "),
        ({"start": "5"}, "invalid end: start is given without it"),
        ({"end": "5"}, "invalid start: end is given without it"),
        ({"start": "6", "end": "5"}, "invalid end: must be later than start, not '5'"),
        ({"start": "5", "end": "1e3"}, "invalid end: "),
        ({"minDuration": "5"}, "invalid minDuration: must be a duration such as 100ms"),
        ({"minDuration": "2s", "maxDuration": "1s"}, "invalid maxDuration: must be at least minDuration"),
        ({"tags": "a"}, "invalid tags: "),
        ({"tags": "a=1 a=2"}, "invalid tags: 'a' has been set twice"),
        ({"tags": 'a="'}, "invalid tags: "),
        ({"tags": "a=1", "q": "{}"}, "invalid tags: can't be given together with q"),
    ],
)
def test_a_mistake_is_a_400_that_names_it(empty, params, text):
    """In plain text, with the place in the query."""
    with pytest.raises(Refused) as refused:
        empty.search(**params)
    assert refused.value.status == 400
    assert refused.value.text.startswith(text), refused.value.text


def test_unknown_and_empty_parameters_are_ignored(grafana, shop):
    """The next version of Grafana may send anything; the first of several counts."""
    shop.order()
    assert len(grafana.search("{}", foo="bar", start="", end="", limit="", spss="").traces) == 2
    assert len(grafana.get("/api/search?limit=1&limit=x").json["traces"]) == 1


def test_a_query_narrows_the_tags(grafana, shop):
    """Even when it isn't finished: what can't be read of it is dropped."""
    shop.order(item="tea")
    shop.order(item="rum", fails=True)
    shop.odd()
    failed = '{ status = error && span.item = "rum" }'
    assert grafana.values("span.item", q="{ status = error && span.item =  }") == [("string", "rum")]
    assert grafana.values(".item", q=failed) == [("string", "rum")]
    assert grafana.values("resource.service.name", q="{ span.item =~ `t.*` && .x = }") == [("string", "stock")]
    assert grafana.values("rootName", q=failed) == [("string", "GET /cart")]
    assert grafana.values("event.exception.message", q=failed) == [("string", "no rum")]
    assert len(grafana.values("name", q="{ ")) == 6
    assert grafana.values("name", q='{ resource.service.name = "none" }') == []
    tags = grafana.tags(q='{ resource.service.name = "odd" && }')
    assert "texts" in tags["span"]
    assert "item" not in tags["span"]
    assert tags["link"] == ["on"]


pair = st.tuples(
    st.text(st.characters(exclude_categories=["Cs", "Z", "Cc"], exclude_characters='="'), min_size=1, max_size=10),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
)


@given(st.lists(pair, max_size=3, unique_by=lambda each: each[0]))
def test_any_tags_make_a_query(pairs):
    """Whatever keys and values are, what they become can be parsed."""
    from starlette.requests import Request

    from tracekeep.exporter import traceql

    tags = " ".join(f'{key}="{value}"' for key, value in escaped(pairs))
    scope = {
        "type": "http",
        "query_string": __import__("urllib.parse", fromlist=["x"]).urlencode({"tags": tags}).encode(),
    }
    traceql.parse(legacy.read_query(Request(scope)))


def escaped(pairs):
    return [(key, value.replace("\\", "\\\\").replace('"', '\\"')) for key, value in pairs]


def test_a_trace_whose_root_is_elsewhere_says_so(grafana, shop):
    """In Tempo's own words, which Grafana knows."""
    from tk_spans import Recorder

    Recorder(shop.store, "web")("child", parent_id=5)
    (trace,) = grafana.search('{ name = "child" }').traces
    assert (trace.rootServiceName, trace.rootTraceName) == ("<root span not yet received>", "")
