"""A table of queries: the engine over a real store, the naive evaluator and a person find the same spans."""

import pytest
from tk_queries import cases
from tk_traces import BASE, MS, labels

from tracekeep.exporter.traceql import parse

CASES = list(cases())


def test_the_table_is_long_enough():
    """At least 150 queries, none twice."""
    assert len({query for query, _ in CASES}) == len(CASES) >= 150


@pytest.mark.parametrize(("query", "expected"), CASES, ids=[query for query, _ in CASES])
def test_the_same_spans_are_found(query, expected, found, naive):
    """Those that the table says, and the same spansets as by the naive evaluator."""
    sets = found(query)
    assert " ".join(dict.fromkeys(labels((trace, spans) for trace, spans, _ in sets).split())) == expected
    assert sets == naive.search(parse(query))


@pytest.mark.parametrize("query", [query for query, _ in CASES[::3]])
@pytest.mark.parametrize(("since", "until"), [(0, 1020), (1015, 3002), (3002, 8015), (9999, 10_000)])
def test_the_same_in_a_window(query, since, until, found, naive):
    """Filters see the spans that began in it; what is true of a trace stays."""
    since, until = BASE + since * MS, BASE + until * MS
    assert found(query, since, until) == naive.search(parse(query), since, until)
