"""The parser: any text gives a query or an error that names what is wrong and where."""

import threading
import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tk_any_query import metrics, searches

from tracekeep.exporter.traceql import Query, TraceQLError, parse
from tracekeep.exporter.traceql.model import (
    Attribute,
    Binary,
    Duration,
    Filter,
    Intrinsic,
    Junction,
    Literal,
    Metric,
    Pipeline,
    Ranking,
    SetOperation,
    Status,
    Threshold,
    Unary,
)

A, B, C = (Attribute("", name) for name in "abc")


def condition(text):
    """The condition of a query that is one filter."""
    (stage,) = parse(f"{{ {text} }}").pipeline.stages
    return stage.condition


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (".a || .b && .c", Junction("&&", (Junction("||", (A, B)), C))),
        (".a || .b || .c", Junction("||", (A, B, C))),
        (".a || (.b && .c)", Junction("||", (A, Junction("&&", (B, C))))),
        (".a = .b && .c", Junction("&&", (Binary("=", A, B), C))),
        ("!.a = .b", Binary("=", Unary("!", A), B)),
        ("!.a && .b", Junction("&&", (Unary("!", A), B))),
        ("-.a ^ .b > .c", Binary(">", Unary("-", Binary("^", A, B)), C)),
        (".a - .b - .c > 1", Binary(">", Binary("-", Binary("-", A, B), C), Literal(1))),
        (".a ^ .b ^ .c > 1", Binary(">", Binary("^", A, Binary("^", B, C)), Literal(1))),
        (".a + .b * .c > 1", Binary(">", Binary("+", A, Binary("*", B, C)), Literal(1))),
        (".a = nil", Unary("missing", A)),
        ("nil != .a", Unary("exists", A)),
        ("nil = nil", Literal(False)),
        ("duration > 1h30m", Binary(">", Intrinsic("duration"), Literal(Duration(5400 * 10**9)))),
        ("span:status = error", Binary("=", Intrinsic("status"), Literal(Status("error")))),
        ("parent.span.a = -1", Binary("=", Attribute("span", "a", of_parent=True), Literal(-1))),
        ('resource."a b".c = `\\d`', Binary("=", Attribute("resource", "a b.c"), Literal("\\d"))),
        (".a.b-c/d:e@f = .5", Binary("=", Attribute("", "a.b-c/d:e@f"), Literal(0.5))),
        ('instrumentation:version = "1"', Binary("=", Intrinsic("instrumentation:version"), Literal("1"))),
    ],
)
def test_operators_bind_as_tempo_has_it(text, expected):
    """`&&` and `||` alike, from the left; `!` and `-` closer than comparisons; powers from the right."""
    assert condition(text) == expected


def test_structure_binds_closer_than_sets():
    """And from the left."""
    one, two, three = (Filter(Binary("=", A, Literal(number))) for number in (1, 2, 3))
    query = parse("{.a=1} >> {.a=2} && {.a=3} !~ {.a=1}")
    assert query.pipeline == Pipeline(
        (SetOperation("&&", SetOperation(">>", one, two), SetOperation("!~", three, one)),)
    )


def test_metrics():
    """A function, its groups, what follows it, and hints."""
    query = parse('{} | quantile_over_time(duration, .5, 1) by(name, .a) | topk(3) > 10ms with(sample=true, x="y")')
    assert query.metric == Metric("quantile_over_time", Intrinsic("duration"), (0.5, 1.0), (Intrinsic("name"), A))
    assert query.then == (Ranking(3), Threshold(">", 0.01))
    assert query.hints == {"sample": True, "x": "y"}


@pytest.mark.parametrize("text", ["", "  ", "{}", "{ }", "{ true }"])
def test_empty_means_everything(text):
    """As in Tempo's search."""
    assert parse(text).pipeline.stages[0] in (Filter(), Filter(Literal(True)))


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("{", (1, 2), "unexpected end"),
        ("{ .a = }", (1, 8), "unexpected '}'"),
        ("{ .a = 1 ", (1, 10), "unexpected end"),
        ("{\n  .a =\n}", (3, 1), "unexpected '}'"),
        ("{ foo = 1 }", (1, 3), "unknown identifier foo"),
        ("{ span:foo = 1 }", (1, 3), "unknown intrinsic span:foo"),
        ("{} | foo()", (1, 6), "'foo'"),
        ("{ name = 1 }", (1, 8), "same type: name = 1"),
        ('{ kind = "server" }', (1, 8), "same type"),
        ("{ status > ok }", (1, 10), "illegal operation"),
        ("{ .a && 3 }", (1, 6), "illegal operation"),
        ("{ -name = 1 }", (1, 3), "illegal operation"),
        ("{ !duration }", (1, 3), "illegal operation"),
        ("{ name + 1 = 2 }", (1, 8), "same type"),
        ("{ 3 }", (1, 1), "true or false"),
        ("{ nil }", (1, 1), "true or false"),
        ("{ .a > nil }", (1, 6), "nil can only be compared"),
        ("{ .a =~ .b }", (1, 6), "must be a string"),
        ('{ .a =~ "(" }', (1, 6), "invalid regular expression '('"),
        ('{ .a =~ "(?=x)" }', (1, 6), "looking ahead"),
        ('{ .a = "\\q" }', (1, 8), "not an escape"),
        ("{ .a = 99999999999999999999 }", (1, 8), "64-bit"),
        ("{ duration > 999999999999h }", (1, 14), "too long"),
        ("{ span. = 1 }", (1, 7), "'.'"),
        ("{ .a = 'x' }", (1, 8), "'x"),
        ("{} | by(3)", (1, 1), "must refer to the span"),
        ("{} | 1 > 2", (1, 8), "needs an aggregate"),
        ("{} | avg(name) > 2", (1, 6), "must be a number"),
        ("{} | rate() by()", (1, 16), "')'"),
        ("{} | rate() by(.a,.b,.c,.d,.e,.f)", (1, 6), "at most 5"),
        ("{} | quantile_over_time(duration, 2)", (1, 6), "between 0 and 1"),
        ("{} | avg_over_time(name)", (1, 6), "must be a number"),
        ("{} | rate() | topk(0)", (1, 20), "positive"),
        ("{} | compare({}, 0)", (1, 18), "positive"),
        ("{} | compare({}, 1, 5, 5)", (1, 21), "the second after the first"),
        ("{} | compare({}) | topk(3)", (1, 1), "compare()"),
        ("({} | by(name)) > {}", (1, 17), "coalesce()"),
        ("({} | count()) > 3", (1, 1), "whole pipelines"),
        ("({} | rate()) / ({} | rate())", (1, 1), "arithmetic between"),
        ("{} + {}", (1, 4), "arithmetic between metrics"),
        ("{} | rate() | rate()", (1, 15), "'rate'"),
        ("\x00", (1, 1), "unexpected"),
    ],
)
def test_errors_name_what_and_where(text, place, words):
    """Syntax, types that can't go together, and what isn't supported."""
    with pytest.raises(TraceQLError) as caught:
        parse(text)
    assert words in str(caught.value)
    assert (caught.value.line, caught.value.column) == place
    assert str(caught.value).startswith(f"parse error at line {place[0]}, col {place[1]}: ")


@pytest.mark.parametrize(
    "text",
    ["(" * 5000, "{" + "(" * 9000, "{" + "!" * 16_000 + "true}",
     "{" + "- " * 8000 + ".a = 1}", "{" + ".a=" * 5000 + "1}",
     "{ 1" + "+1" * 8000 + " = .a }", "{}" + "&&{}" * 4000, "{}" + ">{}" * 5000, "{ .a" + "^2" * 8000 + "=1}",
     "count()" + "+1" * 8000 + ">1", "{.a}" + "|{.a}" * 3000, '{ .a = "' + "(" * 16_000 + '" }', "{" + ".a||" * 4000,
     "x" * 40_000, "{ .a && .b || " * 1000 + ".c" + "}"],
    ids=lambda text: f"{text[:12]} {len(text)}",
)  # fmt: skip
def test_large_texts(text):
    """Are read or refused within a second or two; never a crash."""
    begun = time.process_time()
    with suppress(TraceQLError):
        assert isinstance(parse(text), Query)
    assert time.process_time() - begun < 4


def test_a_long_row_of_conditions_is_fine():
    """As Grafana's builder makes it of many values."""
    assert len(condition(" || ".join(f".a = {number}" for number in range(1000))).operands) == 1000


PIECES = st.sampled_from(
    [
        "{",
        "}",
        "(",
        ")",
        "&&",
        "||",
        "=",
        "!=",
        "=~",
        "!~",
        ">",
        ">>",
        "<",
        "<<",
        "~",
        "!>",
        "&>>",
        "|",
        ",",
        "+",
        "-",
        "*",
        "/",
        "%",
        "^",
        "!",
        ".",
        ".a",
        "span.",
        "resource.x",
        "parent.",
        "event:name",
        "trace:id\n",
        "",
        "",
        "",
        "nil",
        "true",
        "error",
        "server",
        "1",
        "-1",
        "1.5",
        "10ms",
        '"x"',
        "`y`",
        '"',
        "`",
        "\\",
        "name",
        "duration",
        "by(",
        "count()",
        "avg(",
        "rate()",
        "topk(1)",
        "with(",
        "select(\n",
        "",
        "",
        "",
        "compare(",
        "quantile_over_time(",
        "coalesce()",
        "'x'",
        "#",
        "\n",
        "é",
        "9e9",
        "0x1",
        "1_0",
        "1ms5",
        "_",
        ":",
        ";",
    ]
)


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.text(max_size=60), st.lists(PIECES, max_size=14).map(" ".join), st.lists(PIECES, max_size=14).map("".join)
    )
)
def test_any_text(text):
    """Is a query, or an error with a place within the text."""
    place = place_of_error(text)
    lines = text.split("\n")
    assert place is None or 1 <= place[0] <= len(lines)
    assert place is None or 1 <= place[1] <= len(lines[place[0] - 1]) + 1


def place_of_error(text):
    try:
        assert isinstance(parse(text), Query)
    except TraceQLError as error:
        return error.line, error.column
    return None


@settings(max_examples=100, deadline=None)
@given(st.one_of(searches, metrics), st.data())
def test_any_broken_query(text, data):
    """A query with a part cut out, too."""
    begin, end = sorted((data.draw(st.integers(0, len(text))), data.draw(st.integers(0, len(text)))))
    for each in (text, text[:begin] + text[end:]):
        with suppress(TraceQLError):
            assert isinstance(parse(each), Query)


def test_threads_share_the_parser():
    """Each gets its own query."""
    texts = [f"{{ .a = {number} }}" for number in range(50)]
    found = {}

    def read():
        for text in texts:
            found.setdefault(text, []).append(parse.__wrapped__(text))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(len(queries) == 4 and all(query == queries[0] for query in queries) for queries in found.values())
    assert len({repr(queries[0]) for queries in found.values()}) == 50
