import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.exposition import escape_label_name, escape_metric_name

from tracekeep.exporter.names import exposed_labels, label_name, metric_name, quoted
from tracekeep.exporter.negotiation import Escaping

ESCAPING = (Escaping.UNDERSCORES, Escaping.DOTS, Escaping.VALUES)
escapings = pytest.mark.parametrize("escaping", ESCAPING, ids=lambda each: each.value)


@pytest.mark.parametrize(
    ("name", "underscores", "dots", "values"),
    [
        ("http_requests", "http_requests", "http__requests", "http_requests"),
        ("http.requests", "http_requests", "http_dot_requests", "U__http_2e_requests"),
        ("a.b_c", "a_b_c", "a_dot_b__c", "U__a_2e_b__c"),
        ("a:b", "a:b", "a:b", "a:b"),
        ("1st", "_st", "__st", "U___31_st"),
        ("größe", "gr__e", "gr____e", "U__gr_f6__df_e"),
        ("a b", "a_b", "a__b", "U__a_20_b"),
        ("a\n", "a_", "a__", "U__a_a_"),
        ("\ud800", "_", "__", "U___FFFD_"),
        ("", "_", "_", "_"),
    ],
)
def test_each_scheme_to_the_letter(name, underscores, dots, values):
    """As the specification of the schemes has it."""
    assert [metric_name(name, escaping) for escaping in ESCAPING] == [underscores, dots, values]
    assert metric_name(name, Escaping.ALLOW_UTF8) == (name or "_")


UNLIKE_PROMETHEUS_CLIENT = re.compile(r"\n\Z")  # it takes a name that ends with a line feed for a legal one


@escapings
@given(name=st.text(min_size=1).filter(lambda name: not UNLIKE_PROMETHEUS_CLIENT.search(name)))
def test_metrics_are_escaped_as_prometheus_client_does(escaping, name):
    """Any name; the result needs no quotes."""
    escaped = metric_name(name, escaping)
    assert escaped == escape_metric_name(name, escaping.value)
    assert re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*", escaped)


@escapings
@given(name=st.text())
def test_labels_are_legal_and_never_reserved(escaping, name):
    """Any name; as prometheus_client does, but for what Prometheus reserves."""
    escaped = label_name(name, escaping)
    assert re.fullmatch(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*", escaped)
    if name and not escaped.startswith("key__") and not UNLIKE_PROMETHEUS_CLIENT.search(name):
        assert escaped == escape_label_name(name, escaping.value)


@pytest.mark.parametrize(("name", "expected"), [("__name__", "key__name__"), ("__x", "key__x"), ("_x", "_x")])
def test_reserved_labels_get_another_name(name, expected):
    """Prometheus would take `__name__` for the metric's."""
    assert label_name(name, Escaping.UNDERSCORES) == label_name(name, Escaping.ALLOW_UTF8) == expected


def test_colliding_labels_are_joined_in_the_order_of_their_names():
    """OpenTelemetry's rule, whatever order they were recorded in."""
    labels = (("a_b", "2"), ("c", "x"), ("a.b", "1"), ("a/b", "3"))
    assert exposed_labels(labels, Escaping.UNDERSCORES, {}) == (("a_b", "1;3;2"), ("c", "x"))
    assert exposed_labels(labels, Escaping.ALLOW_UTF8, {}) == labels


def test_labels_that_a_metric_needs_itself_are_renamed():
    """Also where only the escaped name is one of them; with another of the new name they are joined."""
    renamed = {"le": "exported_le"}
    assert exposed_labels((("le", "1"),), Escaping.ALLOW_UTF8, renamed) == (("exported_le", "1"),)
    assert exposed_labels((("exported_le", "2"), ("le", "1")), Escaping.DOTS, renamed) == (
        ("exported__le", "2"),
        ("exported_le", "1"),
    )
    assert exposed_labels((("exported_le", "2"), ("le", "1")), Escaping.UNDERSCORES, renamed) == (
        ("exported_le", "2;1"),
    )


def test_quotes_stand_only_where_they_are_needed():
    """A colon is for metrics only."""
    assert quoted("a:b") == "a:b"
    assert quoted("a:b", label=True) == '"a:b"'
    assert quoted('a"b\\c\nd') == '"a\\"b\\\\c\\nd"'
