"""Regular expressions as automata: a text is looked at once, whatever the expression."""

from __future__ import annotations

from .syntax import Characters, Choice, Node, PatternError, Place, Repeat, Sequence

MOST_STATES = 1000
"""Of one expression, its counted repetitions written out: what a step may cost in the worst case."""
_MOST_KNOWN = 20_000
"""Steps that are kept."""


class Automaton:
    """States of Thompson's construction, and the sets of them that texts lead to, worked out as they are met."""

    def __init__(self, node: Node) -> None:
        self._empty: list[list[tuple[int, str]]] = []
        """For each state those that are reached without a character, and where: everywhere, `^` or `$`."""
        self._next: list[tuple[Characters, int] | None] = []
        self._known: dict[tuple[frozenset[int], str], frozenset[int]] = {}
        self._ends: dict[frozenset[int], bool] = {}
        begin, self._accepting = self._state(), self._state()
        self._build(node, begin, self._accepting)
        self._begin = self._reached({begin}, "^")
        self._begin_of_nothing = self._reached({begin}, "^$")

    def fullmatch(self, text: str) -> bool:
        """Whether all of a text matches."""
        if not text:
            return self._accepting in self._begin_of_nothing
        known, states = self._known, self._begin
        for character in text:
            found = known.get((states, character))
            states = self._step(states, character) if found is None else found
            if not states:
                return False
        ends = self._ends.get(states)
        if ends is None:
            ends = self._ends[states] = self._accepting in self._reached(set(states), "$")
        return ends

    def _step(self, states: frozenset[int], character: str) -> frozenset[int]:
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
            self._ends.clear()
        moves = [self._next[state] for state in states]
        found = self._reached({move[1] for move in moves if move is not None and character in move[0]}, "")
        self._known[states, character] = found
        return found

    def _reached(self, states: set[int], places: str) -> frozenset[int]:
        """These states and those that they lead to without a character at a place."""
        rest = list(states)
        while rest:
            for state, place in self._empty[rest.pop()]:
                if state not in states and (not place or place in places):
                    states.add(state)
                    rest.append(state)
        return frozenset(states)

    # --- construction ----------------------------------------------------------------------------------------------

    def _state(self) -> int:
        if len(self._next) >= MOST_STATES:
            raise PatternError("too large")
        self._empty.append([])
        self._next.append(None)
        return len(self._next) - 1

    def _build(self, node: Node, begin: int, end: int) -> None:
        if isinstance(node, Characters):
            middle = self._state()
            self._empty[begin].append((middle, ""))
            self._next[middle] = (node, end)
        elif isinstance(node, Place):
            if node.name in "bB":
                raise PatternError("word boundaries are only supported in simpler expressions")
            self._empty[begin].append((end, node.name))
        elif isinstance(node, Choice):
            for part in node.parts:
                self._build(part, begin, end)
        elif isinstance(node, Sequence):
            for part in node.parts:
                after = self._state()
                self._build(part, begin, after)
                begin = after
            self._empty[begin].append((end, ""))
        else:
            self._repeat(node, begin, end)

    def _repeat(self, node: Repeat, begin: int, end: int) -> None:
        for _ in range(node.least):
            begin = self._then(node.part, begin)
        if node.most is None:
            around = self._state()
            self._empty[begin].append((around, ""))
            self._build(node.part, around, around)
            self._empty[around].append((end, ""))
            return
        for _ in range(node.most - node.least):
            self._empty[begin].append((end, ""))
            begin = self._then(node.part, begin)
        self._empty[begin].append((end, ""))

    def _then(self, part: Node, begin: int) -> int:
        after = self._state()
        self._build(part, begin, after)
        return after
