"""What one commit changes in `aggregates.db`: computed once, applied as often as it takes."""

from __future__ import annotations

from dataclasses import dataclass, field

from .exemplars import Exemplars
from .families import FamilySpec, Labels
from .gauges import GaugeState, Reading, ReadingKey
from .graph import GraphChange
from .groups import GroupChange
from .reader import Position
from .rollups import RollupChange
from .series import Delta, SeriesState


class Metric:
    """A metric as it is defined, with its series in memory.

    Attributes:
        since: when it was defined as it is now, if it was otherwise before (ns); else 0.
        totals, gauges: its series; a metric has only the ones or the others.
        overflow: of gauges, the series of what is past the limit, by worker, or by "" where all workers are one.
        users: journals of live processes that have given it with this definition.
        is_committed: False while the database may still have series of another definition.
    """

    __slots__ = ("gauges", "is_committed", "overflow", "since", "spec", "totals", "users")

    def __init__(self, spec: FamilySpec, since: int = 0, *, is_committed: bool = True) -> None:
        self.spec = spec
        self.since = since
        self.is_committed = is_committed
        self.totals: dict[Labels, SeriesState] = {}
        self.gauges: dict[Labels, GaugeState] = {}
        self.overflow: dict[str, GaugeState] = {}
        self.users: set[str] = set()


@dataclass(slots=True)
class Change:
    """All that one commit changes."""

    commit: int
    time: int
    """When it was begun (ns)."""
    series: dict[SeriesState, Delta] = field(default_factory=dict)
    expired: list[SeriesState] = field(default_factory=list)
    exemplars: dict[SeriesState, Exemplars | None] = field(default_factory=dict)
    """Of series that have others now, though nothing was counted in them."""
    readings: dict[GaugeState, dict[ReadingKey, Reading | None]] = field(default_factory=dict)
    """Of gauges, those that have changed; None where one is gone."""
    metrics: dict[str, Metric] = field(default_factory=dict)
    """Defined with it, in place of what had the name before."""
    names: dict[str, str] = field(default_factory=dict)
    """Names that they take on a page, and the metric that each is of."""
    texts: dict[str, FamilySpec] = field(default_factory=dict)
    """Help and unit of metrics that are told otherwise now."""
    users: dict[str, set[str]] = field(default_factory=dict)
    """Journals, by metric, that have begun to give it."""
    withdrawn: list[str] = field(default_factory=list)
    """Journals of the dead, whose readings go."""
    rollups: RollupChange = field(default_factory=RollupChange)
    graph: GraphChange = field(default_factory=GraphChange)
    groups: GroupChange = field(default_factory=GroupChange)
    marks: dict[str, Position] = field(default_factory=dict)
    finished: list[str] = field(default_factory=list)
    accounting: dict[str, int] = field(default_factory=dict)
    counted: dict[str, bytes] = field(default_factory=dict)
    commands: list[tuple[str, int, str]] = field(default_factory=list)
    cleared: int | None = None

    def delta(self, state: SeriesState) -> Delta:
        """What it adds to a series."""
        delta = self.series.get(state)
        if delta is None:
            delta = self.series[state] = Delta()
        return delta

    def forget(self, name: str) -> None:
        """Take back what it does to a metric, whose definition is replaced."""
        self.series = {state: delta for state, delta in self.series.items() if state.spec.name != name}
        self.readings = {state: changes for state, changes in self.readings.items() if state.spec.name != name}
        self.texts.pop(name, None)
        self.users[name] = set()
