"""Strategies: texts of queries over few names and values, and spans that have them."""

import math

from hypothesis import strategies as st

NAMES = ["GET /", "query", "send", ""]
SERVICES = ["shop", "pay", "stock", "mail"]
FIELDS = [
    ".a", "span.a", "span.b", ".http.request.method", 'span."odd key"', "resource.cluster", "resource.replicas",
    ".zones",
    "event.a", "event:name", "link.a", "name", "duration", "status", "kind", "statusMessage", "rootName",
    "rootServiceName", "traceDuration", "nestedSetLeft", "nestedSetRight", "nestedSetParent", "span:childCount",
    "parent.a", "parent.span.b", "parent.resource.cluster", "parent", "instrumentation:name", "event:timeSinceStart",
    "span:parentID",
]  # fmt: skip
NUMBERS = ["0", "1", "2", "-1", "1.5", "2.0", "3ms", "10ms", "1s", "1000000000"]
TEXTS = ['"x"', '"y"', '"GET"', '"GET /"', '"eu"', '"shop"', '""', '"a \\"b\\""', "`query`"]
KEYWORDS = ["error", "ok", "unset", "server", "client", "internal", "true", "false"]
PATTERNS = ['"x|y"', '"G.*"', '".*"', '"(GET|s.*)( /)?"', '""', '"[^x]+"', '"e.?"']
ORDER = ["=", "!=", "<", "<=", ">", ">="]
RELATIONS = [">", ">>", "<", "<<", "~", "!>", "!>>", "!<", "!<<", "!~", "&>", "&>>", "&<", "&<<", "&~", "&&", "||"]

fields = st.sampled_from(FIELDS)
comparisons = st.one_of(
    st.builds("{} {} {}".format, fields, st.sampled_from(ORDER), st.sampled_from(NUMBERS + TEXTS + KEYWORDS)),
    st.builds("{1} {2} {0}".format, fields, st.sampled_from(NUMBERS + TEXTS), st.sampled_from(ORDER)),
    st.builds("{} {} {}".format, fields, st.sampled_from(["=~", "!~"]), st.sampled_from(PATTERNS)),
    st.builds("{} {} nil".format, fields, st.sampled_from(["=", "!="])),
    st.builds("{} {} {}".format, fields, st.sampled_from(ORDER), fields),
    st.builds(
        "{} {} {} {} {}".format, fields, st.sampled_from("+-*/%^"), st.sampled_from(NUMBERS[:6]),
        st.sampled_from(ORDER), st.sampled_from(NUMBERS),
    ),
    st.sampled_from(["true", "false", ".a", "span.b", "nestedSetParent < 0", "duration > 1s", "status = error"]),
)  # fmt: skip
conditions = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        st.builds("{} && {}".format, inner, inner),
        st.builds("({}) || {}".format, inner, inner),
        st.builds("!({})".format, inner),
    ),
    max_leaves=4,
)
filters = st.one_of(st.just("{ }"), st.builds("{{ {} }}".format, conditions))
spansets = st.recursive(
    filters, lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from(RELATIONS), inner), max_leaves=3
)
stages = st.one_of(
    filters,
    st.builds("by({})".format, fields),
    st.just("coalesce()"),
    st.builds("select({})".format, fields),
    st.builds("count() {} {}".format, st.sampled_from(ORDER), st.integers(0, 4)),
    st.builds(
        "{}({}) {} {}".format, st.sampled_from(["avg", "min", "max", "sum"]),
        st.sampled_from(["duration", ".a", "span.b", "duration * 2", "traceDuration - duration"]),
        st.sampled_from(ORDER), st.sampled_from(NUMBERS),
    ),
)  # fmt: skip
searches = st.builds(" | ".join, st.builds(lambda first, rest: [first, *rest], spansets, st.lists(stages, max_size=2)))
groups = st.one_of(st.just(""), st.builds(" by({})".format, st.lists(fields, min_size=1, max_size=2).map(", ".join)))
measures = st.one_of(
    st.sampled_from(["rate()", "count_over_time()"]),
    st.builds(
        "{}_over_time({})".format, st.sampled_from(["min", "max", "sum", "avg", "histogram"]),
        st.sampled_from(["duration", ".a", "span.b", "span:childCount"]),
    ),
    st.builds("quantile_over_time({}, 0.5, 0.9)".format, st.sampled_from(["duration", ".a"])),
)  # fmt: skip
metrics = st.builds("{} | {}{}".format, searches, measures, groups)

values = st.one_of(
    st.sampled_from(["x", "y", "GET", "", 'a "b"', 0, 1, 2, -1, 1.5, 2.0, True, False, math.inf, 1 << 40]),
    st.lists(st.sampled_from(["x", "y", "GET"]), max_size=2),
    st.lists(st.integers(0, 2), max_size=2),
)
attributes = st.dictionaries(st.sampled_from(["a", "b", "http.request.method", "odd key"]), values, max_size=3)
kinds = st.sampled_from(["server", "client", "internal", "producer", "unspecified"])
statuses = st.sampled_from(["unset", "ok", "error"])


@st.composite
def traces(draw):
    """Spans of up to three traces, as `record` takes them; parents may be missing or go round in a circle."""
    spans = []
    for letter in "xyz"[: draw(st.integers(1, 3))]:
        count = draw(st.integers(1, 5))
        for number in range(1, count + 1):
            parent = draw(st.sampled_from([None, *range(1, number), *range(1, number), number, number + 1, 9]))
            more = {"kind": draw(kinds), "status": draw(statuses), "attributes": draw(attributes)}
            if draw(st.booleans()) and more["status"] == "error":
                more["message"] = draw(st.sampled_from(["x", "no such item"]))
            start, duration = draw(st.integers(0, 40)), draw(st.sampled_from([0, 1, 3, 10, 1200]))
            service, name = draw(st.sampled_from(SERVICES)), draw(st.sampled_from(NAMES))
            happened = draw(st.lists(st.tuples(st.integers(0, 5), attributes), max_size=2))
            linked = draw(st.lists(attributes, max_size=1))
            label = f"{letter}{number}"
            spans.append(
                (label, service, name, parent and f"{letter}{parent}", start, duration, more, happened, linked)
            )
    return spans


def fewest(spans, fails):
    """As few of the spans as something still fails with: each is left out in turn."""
    for span in spans:
        rest = [each for each in spans if each is not span]
        if fails(rest):
            spans = rest
    return spans
