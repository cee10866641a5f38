"""Regular expressions of RE2, read into nodes. What RE2 lacks, and what of it isn't supported, is refused by name."""

from __future__ import annotations

from dataclasses import dataclass

MOST_REPEATS = 1000
"""As RE2 has it."""
_DEEPEST = 50
_LAST = 0x10FFFF

Ranges = tuple[tuple[int, int], ...]
_DIGIT: Ranges = ((48, 57),)
_SPACE: Ranges = ((9, 10), (12, 13), (32, 32))
_WORD: Ranges = ((48, 57), (65, 90), (95, 95), (97, 122))
_CLASSES = {"d": _DIGIT, "s": _SPACE, "w": _WORD}
_NAMED: dict[str, Ranges] = {
    "alnum": ((48, 57), (65, 90), (97, 122)), "alpha": ((65, 90), (97, 122)), "ascii": ((0, 127),),
    "blank": ((9, 9), (32, 32)), "cntrl": ((0, 31), (127, 127)), "digit": _DIGIT, "graph": ((33, 126),),
    "lower": ((97, 122),), "print": ((32, 126),), "punct": ((33, 47), (58, 64), (91, 96), (123, 126)),
    "space": ((9, 13), (32, 32)), "upper": ((65, 90),), "word": _WORD, "xdigit": ((48, 57), (65, 70), (97, 102)),
}  # fmt: skip
_CONTROLS = {"a": 7, "f": 12, "t": 9, "n": 10, "r": 13, "v": 11}
_ODD = {"p": "Unicode classes", "P": "Unicode classes", "Q": "quoted parts", "E": "quoted parts", "C": "single bytes"}


class PatternError(ValueError):
    """A regular expression is malformed, or uses what isn't supported."""


@dataclass(frozen=True, slots=True)
class Characters:
    """One character in some ranges of code points."""

    ranges: Ranges
    any_case: bool = False

    def __contains__(self, character: str) -> bool:
        variants = {character, character.lower(), character.upper()} if self.any_case else (character,)
        points = [ord(each) for each in variants if len(each) == 1]
        return any(low <= point <= high for point in points for low, high in self.ranges)


@dataclass(frozen=True, slots=True)
class Place:
    """Nothing but a place: `^`, `$`, `b` or `B`."""

    name: str


@dataclass(frozen=True, slots=True)
class Sequence:
    """One after the other."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """So many times; `most` is None where there is no end."""

    part: Node
    least: int
    most: int | None


Node = Characters | Place | Sequence | Choice | Repeat
ANY = Characters(((0, _LAST),))


def read(text: str) -> Node:
    """The node of a whole expression; `.` is any character.

    Raises:
        PatternError: it is malformed, or not supported.
    """
    reader = _Reader(text)
    node = reader.choice(any_case=False, depth=0)
    if reader.at < len(text):
        raise PatternError("unexpected )")
    return node


def inverted(ranges: Ranges) -> Ranges:
    """All other code points."""
    found, begin = [], 0
    for low, high in sorted(ranges):
        if low > begin:
            found.append((begin, low - 1))
        begin = max(begin, high + 1)
    return (*found, (begin, _LAST)) if begin <= _LAST else tuple(found)


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def choice(self, *, any_case: bool, depth: int) -> Node:
        """Up to the end or a `)`. Flags such as `(?i)` hold for the rest of the group."""
        if depth > _DEEPEST:
            raise PatternError("nested too deeply")
        choices: list[Node] = []
        parts: list[Node] = []
        while self.at < len(self.text) and self.text[self.at] != ")":
            if self._take("|"):
                choices.append(_sequence(parts))
                parts = []
            elif self._peek(2) == "(?" and (flags := self._flags()) is not None:
                any_case = "i" in flags or any_case
            else:
                parts.append(self._repeated(self._atom(any_case=any_case, depth=depth)))
        choices.append(_sequence(parts))
        return choices[0] if len(choices) == 1 else Choice(tuple(choices))

    def _flags(self) -> str | None:
        """The flags of `(?flags)`; None where it is a group."""
        end = self.text.find(")", self.at)
        flags = self.text[self.at + 2 : end] if end > 0 else ""
        if not flags or not flags.isalpha():
            return None
        self.at = end + 1
        return _checked(flags)

    def _atom(self, *, any_case: bool, depth: int) -> Node:
        character = self.text[self.at]
        self.at += 1
        if character == "(":
            return self._group(any_case=any_case, depth=depth)
        if character == "[":
            return Characters(self._class(), any_case)
        if character in "*+?":
            raise PatternError(f"missing argument to {character}")
        if character == "\\":
            return self._escaped(any_case=any_case)
        if character in "^$":
            return Place(character)
        return ANY if character == "." else Characters(((ord(character),) * 2,), any_case)

    def _group(self, *, any_case: bool, depth: int) -> Node:
        if self._take("?"):
            if self._peek(1) in ("=", "!", ">") or self._peek(2) in ("<=", "<!"):
                raise PatternError("looking ahead or behind and atomic groups are not supported, as in RE2")
            if self._peek(2) == "P<" or self._peek(1) == "<":
                end = self.text.find(">", self.at)
                if end < 0:
                    raise PatternError("a group's name has no end")
                self.at = end + 1
            else:
                end = self.text.find(":", self.at)
                flags = self.text[self.at : end] if end >= 0 else "?"
                if flags and not flags.isalpha():
                    raise PatternError("a group of this kind is not supported")
                any_case = "i" in _checked(flags) or any_case
                self.at = end + 1
        node = self.choice(any_case=any_case, depth=depth + 1)
        if not self._take(")"):
            raise PatternError("missing )")
        return node

    def _escaped(self, *, any_case: bool) -> Node:
        character = self._next()
        if character in "bB":
            return Place(character)
        if character in "Az":
            return Place("^" if character == "A" else "$")
        return Characters(self._escape(character), any_case)

    def _escape(self, character: str) -> Ranges:
        """What an escape stands for, in a class or out of one."""
        if character.lower() in _CLASSES and character in "dDsSwW":
            ranges = _CLASSES[character.lower()]
            return ranges if character.islower() else inverted(ranges)
        if character in _ODD:
            raise PatternError(f"{_ODD[character]} (\\{character}) are not supported")
        if character in _CONTROLS:
            return ((_CONTROLS[character],) * 2,)
        if character == "x":
            return ((self._hexadecimal(),) * 2,)
        if character.isdigit() and character != "0":
            raise PatternError("references back are not supported, as in RE2")
        if character.isalnum() and character.isascii():
            raise PatternError(f"invalid escape \\{character}")
        return ((ord(character),) * 2,)

    def _hexadecimal(self) -> int:
        end = self.text.find("}", self.at) if self._take("{") else self.at + 2
        digits = self.text[self.at : end]
        self.at = end + (self._peek_at(end) == "}" and self.text[self.at - 1] == "{")
        try:
            point = int(digits, 16)
        except ValueError:
            raise PatternError("invalid hexadecimal escape") from None
        if point > _LAST:
            raise PatternError("invalid hexadecimal escape")
        return point

    def _class(self) -> Ranges:
        negated = self._take("^")
        ranges: list[tuple[int, int]] = []
        begin = True
        while begin or self._peek(1) != "]":
            begin = False
            if self._peek(2) == "[:":
                ranges += self._named_class()
                continue
            low = self._class_item()
            high = low
            if self._peek(1) == "-" and self._peek(2) != "-]":
                self.at += 1
                high = self._class_item()
                if len(low) != 1 or len(high) != 1 or low[0][0] > high[0][1] or low[0][0] != low[0][1]:
                    raise PatternError("invalid character class range")
                ranges.append((low[0][0], high[0][1]))
            else:
                ranges += low
        self.at += 1
        return inverted(tuple(ranges)) if negated else tuple(ranges)

    def _class_item(self) -> Ranges:
        character = self._next()
        return self._escape(self._next()) if character == "\\" else ((ord(character),) * 2,)

    def _named_class(self) -> Ranges:
        end = self.text.find(":]", self.at)
        name = self.text[self.at + 2 : end] if end > 0 else ""
        ranges = _NAMED.get(name.removeprefix("^"))
        if ranges is None:
            raise PatternError(f"unknown character class {name[:20]!r}")
        self.at = end + 2
        return inverted(ranges) if name.startswith("^") else ranges

    def _repeated(self, node: Node) -> Node:
        bounds = self._bounds()
        if bounds is None:
            return node
        self._take("?")  # how greedy it is does not matter to whether the whole matches
        if isinstance(node, Place):
            raise PatternError("a repeated place such as ^* is not supported")
        if self._bounds() is not None:
            raise PatternError("invalid nested repetition operator")
        return Repeat(node, *bounds)

    def _bounds(self) -> tuple[int, int | None] | None:
        for sign, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._take(sign):
                return bounds
        if self._peek(1) != "{":
            return None
        least, comma, most = self.text[self.at + 1 : max(self.at, self.text.find("}", self.at))].partition(",")
        if not _is_number(least) or (most and not _is_number(most)):
            return None  # not a repetition, as RE2 sees it
        self.at = self.text.find("}", self.at) + 1
        low, high = int(least), int(most) if most else None if comma else int(least)
        if low > MOST_REPEATS or (high is not None and (high > MOST_REPEATS or high < low)):
            raise PatternError("invalid repeat count")
        return low, high

    def _next(self) -> str:
        if self.at >= len(self.text):
            raise PatternError("unexpected end")
        self.at += 1
        return self.text[self.at - 1]

    def _peek(self, count: int) -> str:
        return self.text[self.at : self.at + count]

    def _peek_at(self, at: int) -> str:
        return self.text[at : at + 1]

    def _take(self, sign: str) -> bool:
        taken = self.text.startswith(sign, self.at)
        self.at += len(sign) if taken else 0
        return taken


def _sequence(parts: list[Node]) -> Node:
    return parts[0] if len(parts) == 1 else Sequence(tuple(parts))


def _checked(flags: str) -> str:
    """Flags that make no other difference than letter case."""
    if set(flags) - set("isU"):
        raise PatternError(f"the flags {flags} are not supported")
    return flags


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 4  # digits of the most repeats
