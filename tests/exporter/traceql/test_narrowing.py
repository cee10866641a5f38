"""Queries that are still being written narrow as far as they can be read."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tk_any_query import metrics, searches

from tracekeep.exporter.traceql import Query, narrow, parse
from tracekeep.exporter.traceql.narrowing import EVERYTHING


@pytest.mark.parametrize(
    ("text", "same_as"),
    [
        ("", "{}"),
        ("{", "{}"),
        ("{ resource.service.name = }", "{}"),
        ('{ resource.service.name = "a" && name = }', '{ resource.service.name = "a" }'),
        ('{ name = && resource.service.name = "a" }', '{ resource.service.name = "a" }'),
        ('{ .a = "&& } ||" && name =', '{ .a = "&& } ||" }'),
        ('{ .a = "open', "{}"),
        ('{ .a = 1 && .b = "open', "{ .a = 1 }"),
        ("{ (.a = 1 || .b = 2) && .c = }", "{ (.a = 1 || .b = 2) }"),
        ("{ .a = 1 || .b = }", "{}"),
        ("{ .a = 1 && foo = 2 && .c }", "{ .a = 1 && .c }"),
        ("{ .a = 1 } | by(", "{ .a = 1 }"),
        ("{ .a = 1 } >> { .b = }", "{ .a = 1 }"),
        ("{ .a = 1 } | rate()", "{ .a = 1 }"),
        ("no query at all", "{}"),
        ('{ .a =~ "(" && .b = 1 }', "{ .b = 1 }"),
        ("{ && }", "{}"),
    ],
)
def test_what_can_be_read_is_kept(text, same_as):
    """Conditions that are joined by `&&`; with an `||` that can't be read, none."""
    assert narrow(text).pipeline == parse(same_as).pipeline


def test_a_whole_query_is_taken_as_it_is():
    """Whatever is in it."""
    text = '{ .a = 1 || .b = 2 } >> { name =~ "x.*" } | count() > 2'
    assert narrow(text) == parse(text)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(max_size=40), searches, metrics), st.integers(0, 200))
def test_any_text_narrows(text, cut):
    """Never raises, and what has no filter at all finds everything."""
    text = text[:cut]
    query = narrow(text)
    assert isinstance(query, Query)
    assert query.metric is None
    if "{" not in text and "count" not in text and "by" not in text and "select" not in text:
        assert query.pipeline.stages in (EVERYTHING.pipeline.stages, query.pipeline.stages)
