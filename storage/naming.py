"""What the span metrics are called: as by Tempo's metrics generator, by the Collector's spanmetrics connector, or both.

What is kept is one; names are given when it is read. Series that have not changed stay the same objects, so that
whoever caches what they look like can go on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from dataclasses import replace as replace_spec

from msgspec.structs import replace

from .families import FAMILIES, SPAN_CALLS, SPAN_LATENCY
from .views import Exemplar, Family, Series

TEMPO, COLLECTOR, BOTH = "tempo", "collector", "both"
CHOICES = (TEMPO, COLLECTOR, BOTH)


@dataclass(frozen=True, slots=True)
class Form:
    """How a metric is called elsewhere; `scale` turns its values into `unit`."""

    name: str
    unit: str = ""
    scale: float = 1.0
    help: str = ""


COLLECTOR_FORMS = {
    SPAN_CALLS.name: Form("traces_span_metrics_calls", help=SPAN_CALLS.help),
    SPAN_LATENCY.name: Form(
        "traces_span_metrics_duration_milliseconds", "milliseconds", 1000.0, "Duration of spans in milliseconds."
    ),
}
"""By the names that are kept (opentelemetry-collector-contrib, connector/spanmetricsconnector, default settings)."""
OTHER_SPECS = tuple(
    replace_spec(FAMILIES[kept], name=form.name, unit=form.unit) for kept, form in COLLECTOR_FORMS.items()
)
"""What is exposed under another name, so that no application's metric takes it."""
_LABELS = {"service": "service_name"}


def renamed(family: Family) -> Family:
    """A span metric as the Collector calls it; any other one as it is."""
    return _Renaming(family.name).give(family) if family.name in COLLECTOR_FORMS else family


class Naming:
    """Names families by a setting, one of `CHOICES`."""

    def __init__(self, names: str) -> None:
        self._renamings = {} if names == TEMPO else {name: _Renaming(name) for name in COLLECTOR_FORMS}
        self._keep = names == BOTH

    def give(self, families: Iterable[Family]) -> list[Family]:
        """The families as they are to be exposed, in their order."""
        if not self._renamings:
            return list(families)
        named = []
        for family in families:
            renaming = self._renamings.get(family.name)
            if renaming is None or self._keep:
                named.append(family)
            if renaming is not None:
                named.append(renaming.give(family))
        return named


@dataclass(slots=True)
class _Renaming:
    """One metric under another name, and what it was made of last."""

    kept: str
    _family: tuple[Family, Family] | None = None
    _series: dict[int, tuple[Series, Series]] = field(default_factory=dict)
    """By the identity of the series that is kept, which stands beside it so that the identity stays its own."""

    def give(self, family: Family) -> Family:
        if self._family is not None and self._family[0] is family:
            return self._family[1]
        form = COLLECTOR_FORMS[self.kept]
        before, self._series = self._series, {}
        for series in family.series:
            known = before.get(id(series))
            self._series[id(series)] = known or (series, _as(form, series))
        bounds = tuple(_scaled(bound, form.scale) for bound in family.bounds)
        members = [other for _, other in self._series.values()]
        given = Family(form.name, family.type, form.help, form.unit, bounds, members)
        self._family = (family, given)
        return given


def _as(form: Form, series: Series) -> Series:
    labels = tuple((_LABELS.get(name, name), value) for name, value in series.labels)
    if form.scale == 1.0:
        return replace(series, labels=labels)
    exemplars = {bucket: _scaled_exemplar(each, form.scale) for bucket, each in series.exemplars.items()}
    return replace(series, labels=labels, sum=series.sum * form.scale, exemplars=exemplars)


def _scaled_exemplar(exemplar: Exemplar, scale: float) -> Exemplar:
    return replace(exemplar, value=_scaled(exemplar.value, scale))


def _scaled(value: float, scale: float) -> float:
    """Without the noise of binary fractions: 0.002 s is 2 ms."""
    return float(f"{value * scale:.12g}")
