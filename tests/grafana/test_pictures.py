"""The pictures: what is committed can be shown, and a chart shows what it is given and nothing else."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tracekeep.grafana.pictures.chart import HEIGHT, WIDTH, Frame, Line, heatmap, line_chart, stacked_chart
from tracekeep.grafana.pictures.drawn import PICTURES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
MAX_BYTES = 40_000
NUMBER = r"-?\d+(?:\.\d+)?"
COMMAND = re.compile(rf"[MLl]{NUMBER} ?{NUMBER}|[HVhv]{NUMBER}|[Zz]")


def frame(**more):
    return Frame("Title", "a < b", 0.0, 600.0, 5.0, **more)


def drawn(svg):
    """The paths of a picture that aren't its grid."""
    paths = [each for each in ET.fromstring(svg).iter() if each.tag.endswith("path")]
    return [each for each in paths if each.get("class") is None]


def is_legal(path):
    """Whether a browser draws all of it: it stops at the first thing that it can't read."""
    return not COMMAND.sub("", path.get("d"))


def numbers(path):
    return [float(each) for each in re.findall(r"-?\d+(?:\.\d+)?", path.get("d"))]


@pytest.mark.parametrize("name", PICTURES)
def test_picture_is_there(name):
    """Each is well-formed, small, and shown in the README."""
    path = ROOT / f"grafana/pictures/{name}.svg"
    assert path.stat().st_size < MAX_BYTES
    paths = drawn(path.read_text())
    assert paths
    assert all(map(is_legal, paths))
    assert f"grafana/pictures/{name}.svg" in README


def test_no_picture_is_left_over():
    """Nothing is committed that the command doesn't draw."""
    assert {path.stem for path in (ROOT / "grafana/pictures").glob("*.svg")} == PICTURES.keys()


def test_gaps_stay_gaps():
    """Where there was no answer for a while, no line is drawn across."""
    points = [(at * 5.0, 1.0) for at in range(100) if not 40 < at < 60]
    assert len(drawn(line_chart(frame(), [Line("a", points)]))) == 2
    assert len(drawn(line_chart(frame(), [Line("a", [(at * 5.0, 1.0) for at in range(100)])]))) == 1


def test_lines_stay_inside():
    """The largest value is on the card, 0 is at its bottom, and a limit above all values has room."""
    svg = line_chart(frame(limits=[(500.0, "limit")]), [Line("a", [(0.0, 0.0), (5.0, 37.0)])])
    limit, line = drawn(svg)
    low, high = numbers(line)[1], numbers(line)[3]
    assert 0 < numbers(limit)[1] < high < low < HEIGHT
    assert 0 <= min(numbers(line)) <= max(numbers(line)) <= WIDTH


def test_areas_lie_on_each_other():
    """The second begins where the first ends."""
    lines = [Line("a", [(0.0, 2.0), (5.0, 2.0)]), Line("b", [(0.0, 1.0), (5.0, 1.0)])]
    first, second = (numbers(path) for path in drawn(stacked_chart(frame(), lines)))
    assert first[1] == first[3] == second[5] == second[7]
    assert second[1] < first[1]


def test_heat_is_drawn_where_it_is():
    """A cell without requests has no color; many have another one than few."""
    cells = [[(0.0, 100.0), (5.0, 100.0), (10.0, 0.0)], [(0.0, 1.0), (5.0, 1.0), (10.0, 0.0), (15.0, 1.0)]]
    paths = drawn(heatmap(frame(), ["1 s", "2 s"], cells, []))
    assert all(map(is_legal, paths))
    assert [path.get("d").count("M") for path in paths] == [1, 2]
    assert len({path.get("fill") for path in paths}) == 2


def test_text_is_escaped():
    """What stands in a query or a label is text."""
    svg = line_chart(frame(marks=[(60.0, "<now>")]), [Line("<b>&", [(0.0, 1.0), (5.0, 2.0)])])
    texts = [each.text for each in ET.fromstring(svg).iter() if each.tag.endswith("text")]
    assert {"a < b", "<now>", "<b>&"} <= set(texts)
