import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics_parser

from tracekeep.exporter.exposition import render
from tracekeep.exporter.groups import SUFFIXES, plan
from tracekeep.exporter.negotiation import Escaping, Exposition, Format
from tracekeep.storage.views import Family, Series

expositions = pytest.mark.parametrize(
    "exposition",
    [Exposition(fmt, escaping) for fmt in Format for escaping in Escaping],
    ids=lambda each: f"{each.format.name}-{each.escaping.value}",
)


def family(name, type_="counter", *series, bounds=()):
    return Family(name, type_, "", "", bounds, series or [Series((), 1.0, 0.0, (0,) * len(bounds))])


def samples(page, exposition):
    parse = openmetrics_parser if exposition.format is Format.OPENMETRICS else parser
    families = list(parse.text_string_to_metric_families(page.decode()))
    assert len({each.name for each in families}) == len(families)
    found = [sample for each in families for sample in each.samples]
    values = {(each.name, tuple(sorted(each.labels.items()))): each.value for each in found}
    assert len(values) == len(found)
    return values


def names(families, *, created=False):
    return [group.name for group in plan(families, Exposition(), created=created)]


def test_one_type_under_one_name_is_added_up():
    """Counters that become one never go back, whoever joins; equal series are one."""
    families = [
        family("a.b", "counter", Series((("x", "1"),), 1.0), Series((("x", "2"),), 10.0)),
        family("a_b", "counter", Series((("x", "1"),), 2.0)),
    ]
    for order in (families, families[::-1]):
        assert samples(render(order, Exposition()), Exposition()) == {
            ("a_b_total", (("x", "1"),)): 3.0,
            ("a_b_total", (("x", "2"),)): 10.0,
        }
    utf8 = Exposition(Format.TEXT_1, Escaping.ALLOW_UTF8)
    assert len(samples(render(families, utf8), utf8)) == 3


def test_different_types_under_one_name_are_numbered():
    """The recorded name keeps it; then counters come before gauges."""
    assert names([family("a.b"), family("a_b", "gauge"), family("a/b", "gauge")]) == ["a_b", "a_b_2"]
    assert names([family("a.b", "gauge"), family("a/b")]) == ["a_b", "a_b_2"]
    assert plan([family("a.b", "gauge"), family("a/b")], Exposition(), created=False)[0].type == "counter"
    hours = [family("t", "histogram", bounds=(1.0,)), family("t", "histogram", bounds=(2.0,))]
    assert names(hours) == ["t", "t_2"]


def test_a_name_that_is_anothers_sample_is_numbered():
    """Else `t_count` would be there twice, with two types."""
    assert names([family("t_count", "gauge"), family("t", "histogram", bounds=(1.0,))]) == ["t", "t_count_2"]
    assert names([family("a_total", "gauge"), family("a")]) == ["a", "a_total_2"]
    assert names([family("a_created", "gauge"), family("a")]) == ["a", "a_created"]
    assert names([family("a_created", "gauge"), family("a")], created=True) == ["a", "a_created_2"]


@expositions
def test_a_counter_without_its_suffix(exposition):
    """Its sample is called as it is; OpenMetrics, where no counter may be, says that nobody knows what it is."""
    page = render([family("a"), family("orders", "barecounter")], exposition)
    type_ = "unknown" if exposition.format is Format.OPENMETRICS else "counter"
    assert f"# TYPE orders {type_}\norders 1\n" in page.decode().replace(" 1.0\n", " 1\n")
    assert len(samples(page, exposition)) == 2
    assert names([family("a"), family("a_total", "barecounter")]) == ["a", "a_total_2"]


def test_metadata_of_the_target_come_first_and_once():
    """OpenMetrics has one `target_info`; it says what is true of all processes."""
    one = Series((("service_name", "shop"), ("process_pid", "1")), 1.0)
    two = Series((("service_name", "shop"), ("process_pid", "2")), 1.0)
    families = [family("a"), family("target_info", "gauge"), family("target", "info", one, two)]
    page = render(families, Exposition(Format.OPENMETRICS)).decode()
    assert page.startswith('# HELP target target\n# TYPE target info\ntarget_info{service_name="shop"} 1\n')
    assert page.count("\ntarget_info{") == 1
    assert "target_info_2 1\n" in page


def test_a_series_that_becomes_another_is_added_to_it():
    """By a label's escaped name, by an empty value, by the order of its labels."""
    gauge = family(
        "a",
        "gauge",
        Series((("x.y", "1"), ("z", "2")), 1.0),
        Series((("z", "2"), ("x_y", "1")), 2.0),
        Series((("x/y", "1"), ("z", "2"), ("w", "")), 4.0),
    )
    assert samples(render([gauge], Exposition()), Exposition()) == {("a", (("x_y", "1"), ("z", "2"))): 7.0}


odd = st.text(alphabet='ab_.:/1é "\\\n', max_size=4)
odd_label = st.one_of(odd, st.sampled_from(["le", "__name__", "quantile", "__x", "key__x", "exported_le"]))
odd_labels = st.lists(st.tuples(odd_label, st.text("01", max_size=1)), max_size=3, unique_by=lambda pair: pair[0]).map(
    tuple
)


@st.composite
def odd_families(draw):
    suffixes = ("", "_total", "_count", "_sum", "_bucket", "_gsum", "_info")
    made = []
    for name in draw(st.lists(st.tuples(odd, st.sampled_from(suffixes)), max_size=5, unique=True)):
        type_ = draw(st.sampled_from([*SUFFIXES, "nonsense"]))
        bounds = draw(st.sampled_from([(), (1.0,), (-1.0, 2.0)])) if "histogram" in type_ else ()
        found = [
            Series(labels, 3.0, 1.0, tuple(range(draw(st.sampled_from([len(bounds), len(bounds), 3])))), 10**18)
            for labels in draw(st.lists(odd_labels, max_size=3, unique=True))
        ]
        made.append(Family("".join(name), type_, "", draw(st.sampled_from(["", "seconds", "a"])), bounds, found))
    return made


@expositions
@given(families=odd_families(), created=st.booleans())
def test_no_names_make_a_page_that_parsers_refuse(exposition, families, created):
    """Whatever metrics and labels are called: every family and every series is there once."""
    page = render(families, exposition, created=created)
    samples(page, exposition)
