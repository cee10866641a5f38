"""Which families a page shows under which names.

Names that are different in the store can be the same once escaped, or one family's name can be another's sample
(`x_count`). A page has each only once, and which it is depends on nothing but the families:

- Families of one type (and the same buckets) that come to one name are merged; equal series are added up. Sums of
  counters only grow, whoever joins.
- Otherwise `target_info` comes first, then names that need no escaping, then counters before histograms before gauges
  and so on, then the order of the recorded names; a later one gets `_2`, `_3`, … at the end of its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..storage.views import Family
from .names import is_plain, label_name, metric_name
from .negotiation import Escaping, Exposition, Format

# By type: in which order names are given away, and what comes after the family's name in those of its samples.
SUFFIXES = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_count", "_sum"),
    "summary": ("_count", "_sum"),
    "gaugehistogram": ("_bucket", "_gcount", "_gsum"),
    "barecounter": ("",),
    "gauge": ("",),
    "info": ("_info",),
    "stateset": ("",),
    "unknown": ("",),
}
DATED = frozenset({"counter", "histogram", "summary"})
"""Types that can have `_created`."""
_RANKS = {type_: rank for rank, type_ in enumerate(SUFFIXES)}
_IN_TEXT = {
    "barecounter": "counter",
    "info": "gauge",
    "stateset": "gauge",
    "gaugehistogram": "histogram",
    "unknown": "untyped",
}
# These belong to the recorded name: they are escaped with it.
_SUFFIXED = {"counter": "_total", "info": "_info"}


@dataclass(frozen=True, slots=True)
class Group:
    """Families that are one on the page."""

    name: str
    """On the page, without quotes and without the suffixes of samples."""
    type: str
    help: str
    unit: str
    bounds: tuple[float, ...]
    members: tuple[int, ...]
    """Their numbers in what was given."""
    recorded: tuple[str, ...]
    """Their names in the store."""

    @property
    def is_target(self) -> bool:
        """Whether this is OpenMetrics' metadata of the whole target."""
        return self.type == "info" and self.name == "target"


def plan(families: Sequence[Family], exposition: Exposition, *, created: bool) -> list[Group]:
    """The groups, by name; metadata of the target first, as OpenMetrics wants it."""
    escaping = exposition.escaping
    order = sorted(range(len(families)), key=lambda number: _rank(families[number]))
    found: dict[tuple[str, str, tuple[float, ...]], list[int]] = {}
    for number in order:
        family = families[number]
        found.setdefault((_base(family, escaping), family_type(family), family.bounds), []).append(number)
    taken: set[str] = set()
    groups = []
    for (base, type_, bounds), members in found.items():
        name = _free(base, type_, taken, created=created)
        taken |= _claims(name, type_, created=created)
        first = families[members[0]]
        recorded = tuple(families[number].name for number in members)
        groups.append(Group(name, type_, first.help, first.unit, bounds, tuple(members), recorded))
    return sorted(groups, key=lambda group: (not group.is_target, group.name))


def family_type(family: Family) -> str:
    """The family's type; what nobody knows is `unknown`."""
    return family.type if family.type in SUFFIXES else "unknown"


def exposed_type(group: Group, exposition: Exposition) -> str:
    """As TYPE says it. The text formats know fewer types, and OpenMetrics demands what a name may make impossible."""
    if exposition.format is not Format.OPENMETRICS:
        return _IN_TEXT.get(group.type, group.type)
    if group.type == "stateset" and state_label(group, exposition.escaping) != group.name:
        return "gauge"
    return "unknown" if group.type == "barecounter" else group.type


def state_label(group: Group, escaping: Escaping) -> str:
    """The label that tells a stateset's state: called as the metric, as far as a label can be."""
    utf8 = escaping is Escaping.ALLOW_UTF8
    return label_name(group.name, Escaping.ALLOW_UTF8 if utf8 else Escaping.UNDERSCORES)


def _rank(family: Family) -> tuple[bool, bool, int, str]:
    is_target = family.name == "target" and family.type == "info"
    return not is_target, not is_plain(family.name), _RANKS[family_type(family)], family.name


def _base(family: Family, escaping: Escaping) -> str:
    type_ = family_type(family)
    suffix = _SUFFIXED.get(type_, "")
    found = metric_name(f"{family.name}{suffix}", escaping).removesuffix(suffix)
    if type_ == "barecounter" and found == "_total":
        return "_"  # parsers take the suffix off a counter, and nothing would be left
    return found or "_"


def _free(base: str, type_: str, taken: set[str], *, created: bool) -> str:
    name, number = base, 1
    while taken & _claims(name, type_, created=created):
        number += 1
        name = f"{base}_{number}"
    return name


def _claims(name: str, type_: str, *, created: bool) -> set[str]:
    suffixes = ("", *SUFFIXES[type_], *(("_created",) if created and type_ in DATED else ()))
    return {f"{name}{suffix}" for suffix in suffixes}
