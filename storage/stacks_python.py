"""Stack traces as Python's `traceback` writes them: chains, exception groups, syntax errors, repeated lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from .places import module_of, without_variables
from .stacks import MAX_FRAMES, Frame, Raised

_HEADER = "Traceback (most recent call last):"
_FRAME = re.compile(r'  File "([^"]*)", line \d+(?:, in (.*))?$')
_TYPE = re.compile(r"([A-Za-z_][\w.]*(?:<locals>\.[\w.]+)*)(?::(?: .*)?)?$")
_BAR = re.compile(r" *[|+] ")
_RULE = re.compile(r" *\+(?:-\+)?-{4,}")
_MEMBER_RULE = re.compile(r" *\+(?:-\+)?-+ (?:\d+|\.\.\.) -+$")
_INLINED = frozenset({"<listcomp>", "<dictcomp>", "<setcomp>"})
"""Frames of their own up to Python 3.11 only."""

_LIBRARIES = ("/site-packages/", "/dist-packages/")
_LIBRARY_DIRECTORY = re.compile(r".*/(?:lib|lib64)/(?:python|pypy)\d(?:\.\d+)?t?/(.*)")
_WINDOWS_LIBRARY = re.compile(r".*/(?:Python\d+|python)/Lib/(.*)", re.IGNORECASE)
_ZIP_LIBRARY = re.compile(r".*/python\d+\.zip/(.*)")
_GENERATED = re.compile(r"<(?!stdin>|console>|ipython|input>|module>|cell |template>|unknown>)")
_COMPILED = (".pyx", ".pxd", ".pxi", ".c", ".cpp", ".so", ".pyd")


def is_python(lines: list[str]) -> bool:
    """Whether the text is one of Python's."""
    return any(line.endswith(_HEADER) or _FRAME.match(_unbarred(line)) for line in lines)


def parse(lines: list[str]) -> list[Raised]:
    """The exceptions in the order of the text, which is that of their raising; members of groups are marked."""
    found: list[Raised] = []
    frames: list[Frame] = []
    in_trace, wants_source = True, False
    for line, is_member, begins in _unwrapped(lines):
        if begins or line.endswith(_HEADER):
            frames, in_trace = [], True
        elif not in_trace:
            continue
        elif match := _FRAME.match(line):
            wants_source = len(frames) < MAX_FRAMES
            if wants_source:
                frames.append(_frame(match[1], match[2] or ""))
        elif line.startswith("    "):
            if wants_source and frames:
                frames[-1] = replace(frames[-1], source=" ".join(line.split()))
                wants_source = False
        elif match := _TYPE.match(line):
            found.append(Raised(match[1], _kept(frames), is_member))
            frames, in_trace = [], False
        elif line and not line.startswith("  "):  # as "[Previous line repeated …]" does
            in_trace = bool(frames)
    if frames:  # cut before the type
        found.append(Raised("", _kept(frames)))
    return found


def _unwrapped(lines: list[str]) -> Iterator[tuple[str, bool, bool]]:
    """Lines without the bars of exception groups: (line, inside a group's member, begins a member)."""
    member = False
    for line in lines:
        if _RULE.match(line):
            if _MEMBER_RULE.match(line):
                member = True
                yield "", True, True
            elif len(line) - len(line.lstrip()) <= 4:  # the end of the outermost group
                member = False
            continue
        yield _unbarred(line), member, False


def _unbarred(line: str) -> str:
    match = _BAR.match(line)
    return line[match.end() :] if match else line


def _frame(path: str, function: str) -> Frame:
    module, in_app = _place(path.replace("\\", "/"))
    return Frame(module, function, "", in_app)


def _place(path: str) -> tuple[str, bool]:
    """The module of a file, and whether it is the app's own."""
    for marker in _LIBRARIES:
        _, found, rest = path.rpartition(marker)
        if found:
            return _dotted(rest), False
    for pattern in (_ZIP_LIBRARY, _LIBRARY_DIRECTORY, _WINDOWS_LIBRARY):
        if match := pattern.match(path):
            return _dotted(match[1]), False
    if path.startswith("<"):
        return without_variables(path), not _GENERATED.match(path)
    return module_of(path), not path.endswith(_COMPILED)


def _dotted(path: str) -> str:
    return path.rpartition(".")[0].replace("/", ".") or path


def _kept(frames: list[Frame]) -> list[Frame]:
    return [frame for frame in frames if frame.function not in _INLINED]
