"""What a benchmark finds, and how it is told. Imports nothing of ours."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, slots=True)
class Goal:
    """A promise in numbers; `bound` is the worst value that still meets it."""

    goal: str
    value: float
    bound: float
    met: bool


def at_most(goal: str, value: float, bound: float) -> Goal:
    return Goal(goal, rounded(value), bound, value <= bound)


def at_least(goal: str, value: float, bound: float) -> Goal:
    return Goal(goal, rounded(value), bound, value >= bound)


@dataclass(frozen=True, slots=True)
class Result:
    """One benchmark's figures.

    Attributes:
        ours: the figure, in `unit`.
        peers: the same figure of what it is compared with.
        limit: what the goals allow `ours` to be in this run, in `unit`.
        extra: figures that no goal is about; each name says its unit where it isn't `unit`.
    """

    name: str
    unit: str
    ours: float
    peers: dict[str, float]
    limit: float
    goals: list[Goal]
    extra: dict[str, float] = field(default_factory=dict)

    @property
    def met(self) -> bool:
        return all(goal.met for goal in self.goals)

    def to_json(self) -> dict:
        figures = {
            key: {name: rounded(value) for name, value in getattr(self, key).items()} for key in ("peers", "extra")
        }
        return {**asdict(self), "ours": rounded(self.ours), "limit": rounded(self.limit), **figures}

    @classmethod
    def from_json(cls, found: dict) -> "Result":
        return cls(**{**found, "goals": [Goal(**goal) for goal in found["goals"]]})


def rounded(value: float) -> float:
    """To three digits that count; from 100 on to whole numbers."""
    return round(value) if abs(value) >= 100 else float(f"{value:.3g}")


def shown(value: float) -> str:
    return f"{rounded(value):,}"


def as_table(result: Result) -> str:
    """For a terminal."""
    sides = [
        ("ours", result.ours),
        *result.peers.items(),
        *((f"({name})", value) for name, value in result.extra.items()),
    ]
    width = max(len(name) for name, _ in sides)
    lines = [f"{result.name}, {result.unit}"]
    lines += [f"  {name:<{width}}  {shown(value):>10}" for name, value in sides]
    lines += [f"  {_verdict(goal)}" for goal in result.goals]
    return "\n".join(lines)


def _verdict(goal: Goal) -> str:
    return f"{'met' if goal.met else 'NOT MET'}: {goal.goal}: {shown(goal.value)} (bound {shown(goal.bound)})"


def as_markdown(results: Iterable[Result], machine: str) -> str:
    """For the README."""
    lines = [f"Measured on {machine}.", "", "| benchmark | ours | others | goal |", "|---|---|---|---|"]
    for result in results:
        peers = "<br>".join(f"{name}: {shown(value)}" for name, value in result.peers.items())
        goals = "<br>".join(
            f"{goal.goal}: {shown(goal.value)}{'' if goal.met else ' **(not met)**'}" for goal in result.goals
        )
        lines.append(f"| `{result.name}`, {result.unit} | {shown(result.ours)} | {peers} | {goals} |")
    return "\n".join(lines)
