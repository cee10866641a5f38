import time

import pytest
from tk_tempo import Refused

from tracekeep.exporter.tempo.names import INTRINSICS, Tag, parse_tag


def test_names_are_of_the_spans_that_are_kept(grafana, shop):
    """By scope, with the intrinsics; older Grafana gets them in one list."""
    shop.order(fails=True)
    shop.odd()
    tags = grafana.tags()
    assert set(tags) == {"resource", "span", "event", "link", "instrumentation", "intrinsic"}
    assert {"service.name", "service.version", "host.cores", "cloud.region"} <= set(tags["resource"])
    assert {"http.route", "http.response.status_code", "db.system.name", "item", "rows"} <= set(tags["span"])
    assert 'key "quoted" \\ /:%' in tags["span"]
    assert {"exception.type", "exception.message", "exception.stacktrace", "queue", "depth"} <= set(tags["event"])
    assert {"link.reason", "on"} == set(tags["link"])
    assert tags["instrumentation"] == ["lib.kind"]
    assert tags["intrinsic"] == list(INTRINSICS)
    assert grafana.tags_v1() == sorted({name for scope in tags if scope != "intrinsic" for name in tags[scope]})
    assert grafana.tags(scope="resource") == {"resource": tags["resource"]}
    assert grafana.tags(scope="intrinsic") == {"intrinsic": list(INTRINSICS)}
    assert grafana.tags_v1(scope="intrinsic") == list(INTRINSICS)


def test_values_have_the_types_that_the_builder_quotes_by(grafana, shop):
    """Only strings are quoted in a query; words of the language are keywords; ids and durations aren't listed."""
    shop.order(fails=True)
    shop.odd()
    values = grafana.values
    assert values("resource.service.name") == [("string", name) for name in ("jobs", "odd", "stock", "web")]
    assert (
        values("name")
        == values("span:name")
        == [("string", name) for name in ("GET /cart", "GET /stock", "GET stock", "SELECT", "odd", "send mail")]
    )
    assert (
        values("rootName")
        == values("trace:rootName")
        == [("string", name) for name in ("GET /cart", "odd", "send mail")]
    )
    assert (
        values("rootServiceName")
        == values("trace:rootService")
        == [("string", name) for name in ("jobs", "odd", "web")]
    )
    assert values("status") == values("span:status") == [("keyword", word) for word in ("error", "ok", "unset")]
    assert ("keyword", "server") in values("kind")
    assert values("statusMessage") == [("string", "no tea")]
    assert values("event:name") == [("string", name) for name in ("exception", "odd", "queued")]
    assert values("instrumentation:version") == [("string", "0.9")]
    assert values("duration") == values("traceDuration") == values("trace:id") == []
    assert values("span.rows") == [("int", "3")]
    assert values("span.http.response.status_code") == [("int", "500")]
    assert values("span.cached") == [("bool", "false")]
    assert values("span.ratio") == [("float", "0.25")]
    assert values("resource.host.cores") == [("int", "8")]
    assert values("event.exception.type") == [("string", "LookupError")]
    assert values("event.depth") == [("int", "4")]
    assert values("link.link.reason") == [("string", "ordered")]
    assert values("instrumentation.lib.kind") == [("string", "test")]
    assert values(".service.name") == values("resource.service.name")
    assert values(".item") == [("string", "tea")]
    assert values("span.nothing") == []


def test_odd_names_and_values_are_found(grafana, shop):
    """Whatever stands in the path; each element of a list; nothing of what has no literal."""
    shop.odd()
    assert grafana.values('span."key \\"quoted\\" \\\\ /:%"') == [("string", "odd key")]
    assert grafana.values("span.texts") == [("string", "a"), ("string", "b")]
    assert grafana.values("span.bools") == [("bool", "false"), ("bool", "true")]
    assert grafana.values("span.int64 min") == [("int", str(-(2**63)))]
    assert grafana.values("span.whole float") == [("float", "2.0")]
    assert grafana.values("span.unicode") == [("string", "Grüße ☕ 你好\u2028")]
    for name in ("nan", "inf", "bytes", "none", "map", "empty"):
        assert grafana.values(f"span.{name}") == [], name
    for odd in ("a/values", "/", "%2F", "a//b/values/values", "ü", "..", "a b", "a%0Ab"):
        assert grafana.values(f"span.{odd}") == []


def test_older_grafana_gets_bare_values(grafana, shop):
    """Of an attribute wherever it is, by a name without scope."""
    shop.order()
    assert grafana.values_v1("service.name") == ["jobs", "stock", "web"]
    assert grafana.values_v1("http.response.status_code") == ["200"]
    assert grafana.values_v1("status") == ["error", "ok", "unset"]


def test_only_what_lies_in_the_time_is_listed(grafana, shop):
    """Services and names to the span; `start` and `end` come together."""
    now = time.time_ns() // 10**9
    shop.order(ago=3600)
    shop.odd(ago=10)
    assert grafana.values("resource.service.name", start=now - 60, end=now + 60) == [("string", "odd")]
    assert grafana.values("name", start=now - 4000, end=now - 3000) != []
    assert grafana.values("span.item", start=now - 4000, end=now - 3000) == [("string", "tea")]
    assert grafana.values("span.item", start=now - 60, end=now + 60) == []
    assert "item" not in grafana.tags(start=now - 60, end=now + 60)["span"]
    assert grafana.values("name", start=now - 9000, end=now - 8000) == []


def test_there_are_no_more_than_asked_for(grafana, shop):
    """Of names for each scope; 0 is as many as are given at all."""
    for number in range(5):
        shop.order(item=f"item {number}")
    assert len(grafana.values("span.item", limit=2)) == 2
    assert len(grafana.values("span.item", limit=0)) == 5
    found = {each["name"]: each["tags"] for each in grafana.get("/api/v2/search/tags", limit=2).json["scopes"]}
    assert {len(found["span"]), len(found["resource"])} == {2}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/api/v2/search/tags?limit=x", "limit"),
        ("/api/v2/search/tags?limit=-1", "limit"),
        ("/api/v2/search/tags?scope=all", "scope"),
        ("/api/v2/search/tags?start=5", "end"),
        ("/api/search/tags?start=yesterday&end=5", "start"),
        ("/api/v2/search/tag/name/values?end=5&start=6", "end"),
        ("/api/v2/search/tag/name/values?end=123456789012&start=6", "end"),
        ("/api/v2/search/tag/span.%22x/values", "tag name"),
        ("/api/v2/search/tag/span./values", "tag name"),
        ("/api/search/tag/./values", "tag name"),
    ],
)
def test_a_mistake_is_a_400_that_names_it(empty, path, name):
    """In plain text, as Grafana shows it."""
    with pytest.raises(Refused, match=f"^400: invalid {name}: "):
        empty.get(path)


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("resource.service.name", Tag(("resource",), "service.name")),
        ("span.a.b", Tag(("span",), "a.b")),
        (".span.a", Tag(("span", "resource"), "span.a")),
        ('resource."a \\"b\\""', Tag(("resource",), 'a "b"')),
        ('span.foo."bar baz"', Tag(("span",), "foo.bar baz")),
        ("name", Tag((), "name")),
        ("span:kind", Tag((), "kind")),
        ("span.name", Tag(("span",), "name")),
    ],
)
def test_tags_are_read_as_traceql_writes_them(text, tag):
    """Scope, name and quotes."""
    assert parse_tag(text) == tag
