"""Regular expressions: RE2's syntax, anchored at both ends, in time that grows with the text alone.

Python's `re` goes back and tries again, for ever if an expression is made for it. So it is given only those that
leave it next to no choice; any other runs as an automaton, which is some times slower.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from functools import lru_cache

from .automata import Automaton
from .syntax import ANY, Characters, Choice, Node, PatternError, Place, Repeat, Sequence, read

LONGEST = 4096
"""Characters of an expression."""
_MOST_WAYS = 64
_MOST_LITERALS = 200
_MOST_REMEMBERED = 4096
_LONGEST_REMEMBERED = 256
_PLACES = {"^": r"\A", "$": r"\Z", "b": r"(?a:\b)", "B": r"(?a:\B)"}


class Pattern:
    """An expression that has been read.

    Attributes:
        literals: all texts that it matches, where these are few.
        within: a text that is in every text that it matches; empty where there is none.
    """

    def __init__(self, text: str) -> None:
        if len(text) > LONGEST:
            raise PatternError(f"more than {LONGEST} characters")
        node = read(text)
        self.literals = _literals(node)
        self.within = max(_required(node), key=len)
        self._match = _matcher(node)
        self._known: dict[str, bool] = {}

    def fullmatch(self, text: str) -> bool:
        """Whether it matches all of a text. Values repeat, so short ones are remembered."""
        known = self._known.get(text)
        if known is None:
            known = self._match(text)
            if len(text) <= _LONGEST_REMEMBERED:
                if len(self._known) >= _MOST_REMEMBERED:
                    self._known.clear()
                self._known[text] = known
        return known


@lru_cache(256)
def compile_pattern(text: str) -> Pattern:
    """An expression, ready to match.

    Raises:
        PatternError: it is malformed, too large, or uses what isn't supported.
    """
    return Pattern(text)


def _matcher(node: Node) -> Callable[[str], bool]:
    if _is_harmless(node):
        match = re.compile(_written(node), re.DOTALL).fullmatch
        return lambda text: match(text) is not None
    return Automaton(node).fullmatch


def _is_harmless(node: Node) -> bool:
    """Whether going back costs at most one pass over the text for each character of the expression.

    So it is with one long repetition in each alternative, of single characters, and with few ways through what is
    around it. A last `.*` always matches and leads to no going back.
    """
    if isinstance(node, Choice):
        return all(map(_is_harmless, node.parts))
    parts = node.parts if isinstance(node, Sequence) else (node,)
    if parts and parts[-1] == Repeat(ANY, 0, None):
        parts = parts[:-1]
    repeats = [each for part in parts for each in _repeats(part)]
    long = sum(each.most is None or each.most > 1 for each in repeats)
    plain = all(isinstance(each.part, Characters) for each in repeats)
    return plain and long <= 1 and math.prod(map(_ways, parts)) <= _MOST_WAYS


def _ways(node: Node) -> int:
    """Through a node, long repetitions apart."""
    if isinstance(node, Choice):
        return sum(map(_ways, node.parts))
    if isinstance(node, Sequence):
        return math.prod(map(_ways, node.parts))
    return 2 if isinstance(node, Repeat) and node.most == 1 else 1


def _repeats(node: Node) -> Iterator[Repeat]:
    """The repetitions within, but those of an exact number of single characters."""
    if isinstance(node, Repeat):
        if node.least != node.most or not isinstance(node.part, Characters):
            yield node
        yield from _repeats(node.part)
    elif isinstance(node, Sequence | Choice):
        for part in node.parts:
            yield from _repeats(part)


def _written(node: Node) -> str:
    """As Python has it."""
    if isinstance(node, Characters):
        return _class(node)
    if isinstance(node, Place):
        return _PLACES[node.name]
    if isinstance(node, Sequence):
        return "".join(f"(?:{_written(part)})" if isinstance(part, Choice) else _written(part) for part in node.parts)
    if isinstance(node, Choice):
        return "|".join(map(_written, node.parts))
    return f"(?:{_written(node.part)}){{{node.least},{'' if node.most is None else node.most}}}"


def _class(node: Characters) -> str:
    if node == ANY:
        return "."
    if not node.ranges:
        return "(?!)"
    if len(node.ranges) == 1 and node.ranges[0][0] == node.ranges[0][1]:
        text = _point(node.ranges[0][0])
    else:
        text = "[" + "".join(f"{_point(low)}-{_point(high)}" for low, high in node.ranges) + "]"
    return f"(?i:{text})" if node.any_case else text


def _point(point: int) -> str:
    return rf"\U{point:08x}"


def _required(node: Node) -> list[str]:
    """Texts that are in every text that matches."""
    found = [""]
    for part in node.parts if isinstance(node, Sequence) else (node,):
        low, high = part.ranges[0] if isinstance(part, Characters) and len(part.ranges) == 1 else (0, 1)
        if isinstance(part, Characters) and low == high and not part.any_case:
            found[-1] += chr(low)
        else:
            found += [*(_required(part) if isinstance(part, Sequence) else ()), ""]
    return found


def _literals(node: Node) -> frozenset[str] | None:
    """All texts that match, where there are few; None where there are many."""
    if isinstance(node, Characters):
        low, high = node.ranges[0] if len(node.ranges) == 1 else (0, 1)
        return frozenset({chr(low)}) if low == high and not node.any_case else None
    if isinstance(node, Choice):
        found = [_literals(part) for part in node.parts]
        if any(each is None for each in found):
            return None
        texts = frozenset().union(*(each for each in found if each is not None))
        return texts if len(texts) <= _MOST_LITERALS else None
    if not isinstance(node, Sequence):
        return None
    texts = frozenset({""})
    for part in node.parts:
        more = _literals(part)
        if more is None or len(texts) * len(more) > _MOST_LITERALS:
            return None
        texts = frozenset(one + other for one in texts for other in more)
    return texts
