"""Time cut into steps; each is told by when it ends."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import TraceQLError

MOST_STEPS = 11_000
"""Points of a series, as Prometheus allows."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """Steps that follow each other: number `n` holds the times in (first + (n - 1) * step, first + n * step].

    Attributes:
        first: when the first step ends.
        step: ns.
        count: of steps.
        covered: how long a step is for a rate; ns.
    """

    first: int
    step: int
    count: int
    covered: int

    @property
    def since_ns(self) -> int:
        """The first time that is in a step."""
        return self.first - self.step + 1

    @property
    def until_ns(self) -> int:
        """The first time after all steps."""
        return self.first + (self.count - 1) * self.step + 1

    def place(self, time_ns: int) -> int:
        """The number of the step that a time between the two is in."""
        return (time_ns - self.first + self.step - 1) // self.step

    def end_of(self, place: int) -> int:
        """When a step ends."""
        return self.first + place * self.step


def over_range(since_ns: int, until_ns: int, step_ns: int) -> Timeline:
    """Steps that end at multiples of the step: from the last one up to `since_ns` to the first one from `until_ns` on.

    Raises:
        TraceQLError: they are too many, or there is none.
    """
    if step_ns <= 0 or until_ns <= since_ns:
        raise TraceQLError("a range needs a positive step, and an end after its start")
    first = since_ns // step_ns * step_ns
    count = -(-until_ns // step_ns) - first // step_ns + 1
    if count > MOST_STEPS:
        raise TraceQLError(f"the range has {count} steps: more than {MOST_STEPS}; ask for a longer step")
    return Timeline(first, step_ns, count, step_ns)


def over_instant(since_ns: int, until_ns: int) -> Timeline:
    """One step that has both times."""
    if until_ns <= since_ns:
        raise TraceQLError("the end must be after the start")
    return Timeline(until_ns, until_ns - since_ns + 1, 1, until_ns - since_ns)
