import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracekeep.storage.dimensions import Dimensions, label_name
from tracekeep.storage.families import MAX_LABEL


@pytest.mark.parametrize(
    ("attribute", "label"),
    [
        ("http.route", "http_route"),
        ("service.version", "service_version"),
        ("service.name", "__service_name"),
        ("service", "__service"),
        ("span.kind", "__span_kind"),
        ("status_code", "__status_code"),
        ("7 wonders", "_7_wonders"),
        ("größe", "gr__e"),
    ],
)
def test_labels_of_attributes(attribute, label):
    """What a label can't have becomes an underscore; one that is taken gets Tempo's prefix."""
    assert label_name(attribute) == label


def test_the_resource_comes_first():
    """In the order of the setting; what neither has is left out."""
    dimensions = Dimensions(("b", "a", "none", "c"), {"a": "of the resource"})
    labels = dimensions.labels({"a": "of the span", "b": 2, "c": True})
    assert labels == (("b", "2"), ("a", "of the resource"), ("c", "true"))
    assert dimensions.keys == {"b", "none", "c"}


@given(value=st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.lists(st.text()))
def test_any_value(value):
    """A label has text that isn't empty, of bounded length; where there is none, it is missing."""
    for labels in (Dimensions(("x",), {}).labels({"x": value}), Dimensions(("x",), {"x": value}).labels({})):
        if isinstance(value, str | int) and value != "":
            ((_name, text),) = labels
            assert 0 < len(text) <= MAX_LABEL
        else:
            assert labels == ()
