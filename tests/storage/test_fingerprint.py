"""The corpus is `stacks.txt`: stack traces as services write them, with the grouping that a person would give."""

import asyncio
import contextlib
import linecache
import sys
import time
import traceback
from collections import defaultdict
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracekeep.storage.fingerprint import Fingerprints, fingerprint, parse
from tracekeep.storage.places import general
from tracekeep.storage.stacks import MAX_TEXT


def read_corpus():
    """(group, type, message, stack trace) of each."""
    for part in (Path(__file__).parent / "stacks.txt").read_text().split("\n=== ")[1:]:
        head, _, text = part.partition("\n")
        group, type_, *message = head.split(" | ")
        yield group, type_, "".join(message), text.strip("\n")


CORPUS = list(read_corpus())


def group_of(type_, message, text):
    return fingerprint(type_, message, text or None).group


def test_the_corpus_is_grouped_as_a_person_would():
    """The same fingerprint for all stack traces of a group, and different ones for different groups."""
    assert len(CORPUS) >= 60
    found = defaultdict(set)
    for group, *error in CORPUS:
        found[group].add(group_of(*error))
    assert {group: len(ids) for group, ids in found.items() if len(ids) > 1} == {}, "groups that were split"
    alike = [(one, other) for one, other in combinations(found, 2) if found[one] & found[other]]
    assert alike == [], "groups that were put together"


@pytest.mark.parametrize("language", ["py", "java", "js", "go", "net"])
def test_frames_are_found(language):
    """No stack trace of the corpus is taken for text."""
    for group, _type, _message, text in CORPUS:
        if group.startswith(language):
            assert any(raised.frames for raised in parse(text)), group


CULPRITS = {
    "py plain": "shop.views in basket",
    "py cause": "shop.payment in charge",
    "py group": "shop.fan in fetch_all",
    "py async": "shop.client in price",
    "py c frames": "shop.report in margins",
    "py library only": "ssl in do_handshake",
    "java caused by": "com.shop.order.OrderService in load",
    "js node": "src.users in getUser",
    "js browser": "js.basket in renderBasket",
    "go nil": "main in (*Server).handle",
    "go recorded": "github.com/acme/shop/internal/pay in Charge",
    "net inner": "Shop.Orders.OrderService in LoadAsync",
    "message, numbers": "",
}


@pytest.mark.parametrize("group", CULPRITS)
def test_culprit(group):
    """Module and function that the outermost exception came from, in the application's own code."""
    found = {
        fingerprint(type_, message, text or None).culprit for name, type_, message, text in CORPUS if name == group
    }
    assert found == {CULPRITS[group]}


def test_chains():
    """Types in the order of their raising; members of exception groups are told apart from causes."""
    by_group = {group: parse(text) for group, _, _, text in reversed(CORPUS)}
    types = [raised.type for raised in by_group["py cause"]]
    assert types == ["requests.exceptions.ConnectionError", "shop.errors.PaymentFailed"]
    nested = by_group["py nested group"]
    assert [(raised.type, raised.is_member) for raised in nested] == [
        ("ExceptionGroup", False),
        ("ExceptionGroup", True),
        ("OSError", True),
        ("ValueError", True),
    ]
    java = by_group["java caused by"]
    assert [raised.type for raised in java] == ["org.postgresql.util.PSQLException", "java.lang.IllegalStateException"]
    assert [raised.type for raised in by_group["js cause"]] == ["FetchError", "Error"]
    net = ["System.Net.Http.HttpRequestException", "System.InvalidOperationException"]
    assert [raised.type for raised in by_group["net inner"]] == net


# --- what this very interpreter writes ------------------------------------------------------------------------------


def raised_by(code, name="raiser", path="/app/shop/live.py", *, above=0):
    """What this interpreter writes of an exception out of a file at some path, with lines put above the code."""
    source = "\n" * above + code
    linecache.cache[path] = (len(source), None, source.splitlines(keepends=True), path)
    scope = {}
    exec(compile(source, path, "exec"), scope)
    try:
        result = scope[name]()
        if asyncio.iscoroutine(result):
            asyncio.run(result)
    except Exception as error:
        return "".join(traceback.format_exception(error))
    raise AssertionError("nothing was raised")


LIVE = {
    "plain": "def raiser():\n    return {}['a']\n",
    "chain": "def raiser():\n  try:\n    {}['a']\n  except KeyError as e:\n    raise ValueError(1) from e\n",
    "context": "def raiser():\n    try:\n        {}['a']\n    except KeyError:\n        [][3]\n",
    "group": "def raiser():\n    raise ExceptionGroup('some', [ValueError(1), ExceptionGroup('x', [OSError(2)])])\n",
    "recursion": "def raiser():\n    return raiser()\n",
    "async": "import asyncio\nasync def raiser():\n    async with asyncio.TaskGroup() as g:\n"
    "        g.create_task(fail())\nasync def fail():\n    raise LookupError\n",
    "generator": "def raiser():\n    return list(items())\ndef items():\n    yield 1\n    yield 1 / 0\n",
    "comprehension": "def raiser():\n    return [int(x) for x in 'ab']\n",
    "syntax": "def raiser():\n    compile('a = = 1', '/app/shop/other.py', 'exec')\n",
    "c": "def raiser():\n    return sorted([1, 'a'])\n",
    "lambda": "def raiser():\n    return (lambda: {}.x)()\n",
}


@pytest.mark.parametrize("case", LIVE)
def test_moved_lines_change_nothing(case):
    """What this interpreter writes of an exception gives the same fingerprint when the code is moved down."""
    before, after = (raised_by(LIVE[case], above=above) for above in (0, 500))
    assert before != after
    assert fingerprint("x", "", before) == fingerprint("x", "", after)
    assert fingerprint("x", "", before).culprit.startswith("shop.live in ") or case == "syntax"


def test_live_bugs_are_told_apart():
    """Each of these is a group of its own."""
    assert len({fingerprint("x", "", raised_by(code)).group for code in LIVE.values()}) == len(LIVE)


def test_how_deep_a_recursion_went_is_no_matter():
    """The recursion limit only cuts it off."""
    limit = sys.getrecursionlimit()
    try:
        groups = set()
        for depth in (limit, limit + 51, limit + 102):
            sys.setrecursionlimit(depth)
            groups.add(fingerprint("RecursionError", "", raised_by(LIVE["recursion"])).group)
    finally:
        sys.setrecursionlimit(limit)
    assert len(groups) == 1


# --- what decides ----------------------------------------------------------------------------------------------------


def test_messages_count_only_without_a_stack():
    """With frames another message is the same error; without, another one, but for its variable parts."""
    text = CORPUS[0][3]
    assert fingerprint("KeyError", "a", text) == fingerprint("KeyError", "b", text)
    assert group_of("KeyError", "a", None) != group_of("KeyError", "b", None)
    assert group_of("KeyError", "a 1", "Traceback …") == group_of("KeyError", "a 2", "no stack trace")


def test_an_explicit_fingerprint_wins():
    """Whatever else the error is; an empty one is none."""
    text = CORPUS[0][3]
    assert fingerprint("A", "1", text, "mine").group == fingerprint("B", "2", None, "mine").group
    assert fingerprint("A", "1", text, "mine").group != fingerprint("A", "1", text, "other").group
    assert fingerprint("A", "1", text, "") == fingerprint("A", "1", text)
    assert fingerprint("A", "1", text, "mine").culprit == "shop.views in basket"


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        ("timed out after 3.5 seconds", "timed out after <n> seconds"),
        ("user 'bob' has no \"cart\"", "user <text> has no <text>"),
        ("can't find x, don't know y", "can't find x, don't know y"),
        ("<Foo object at 0x7f11>", "<Foo object at <hex>>"),
        ("commit 9fceb02d0ae598e95dc970b74767f19372d61af8", "commit <hex>"),
        ("deadbeefdeadbeef is a word", "deadbeefdeadbeef is a word"),
        ("at 2026-11-23 10:11:12,345 by x@y.example", "at <time> by <email>"),
        ("GET https://a.example/b?c=1 failed", "GET <url> failed"),
        ("cannot open /var/log/app.log: denied", "cannot open <path>: denied"),
        ("C:\\Users\\me\\x.txt is missing", "<path> is missing"),
        ("and/or", "and/or"),
    ],
)
def test_variable_parts_of_messages(message, kept):
    """They are replaced by what they are; the rest stays."""
    assert general(message) == kept


# --- any text --------------------------------------------------------------------------------------------------------

_PIECES = st.sampled_from(
    [
        "Traceback (most recent call last):",
        '  File "/a/b.py", line 1, in f', "    x()", "ValueError: x", "  | ", "  +-",
        "\tat a.b.C.d(E.java:1)", "Caused by: x", "   at A.B() in c:line 1", "    at f (/a.js:1:2)", "f@http://a:1:2",
        "goroutine 1 [running]:", "\t/a.go:1 +0x1", "main.f(0x1)", "panic: x", " ---> A: b", "  +-+--- 1 ---",
        "…", "\x00",
    ]
)  # fmt: skip


@given(st.text(), st.text(), st.lists(st.one_of(_PIECES, st.text(max_size=20))).map("\n".join))
def test_any_text_has_a_fingerprint(type_, message, text):
    """Always 16 hex digits, always the same for the same error, with no exception."""
    found = fingerprint(type_, message, text)
    assert len(bytes.fromhex(found.group)) == 8
    assert found == fingerprint(type_, message, text) == Fingerprints().of(type_, message, text)


HOSTILE = {
    "at": "at " * (1 << 20),
    "parentheses": "    at " + "(" * (1 << 20),
    "colons": "    at f (" + ":1" * (1 << 20) + ")\n",
    "frames": 'Traceback (most recent call last):\n  File "/a.py", line 1, in f\n' * 50_000,
    "long lines": ('  File "' + "a/" * 5000 + '.py", line 1, in f\n') * 1000,
    "java": "\tat a.b(C.java:1)\n" * 100_000,
    "headers": "Caused by: " * 100_000,
    "quotes": "'" * (1 << 20),
    "open quotes": "“" * (1 << 20),
    "digits": "1" * (1 << 20),
    "hex": "a1" * (1 << 19),
    "mail": "a@" * (1 << 19),
    "dots": "a." * (1 << 19),
    "bars": "  | " * (1 << 18),
    "go": "\t/a.go:1\n" * 100_000,
    "gecko": "@" * (1 << 20) + ":1:1",
    "generics": "goroutine 1:\n" + "[" * 900 + "(\n\t/a.go:1\n",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_text_does_not_hold_up_the_writer(case):
    """A text of a megabyte takes no longer than 0.2 s of CPU time, as a stack trace and as a message."""
    text = HOSTILE[case]
    for error in ((text[:100], text, None), ("E", "", text), (text, text, text[:MAX_TEXT])):
        begun = time.thread_time()
        fingerprint(*error)
        assert time.thread_time() - begun < 0.2


def test_what_was_cut_is_grouped_by_what_is_there():
    """A recording limit that cuts the stack trace in the middle of a line does not split a group by where it did."""
    text = 'Traceback (most recent call last):\n  File "/app/shop/a.py", line 1, in f\n    g()\n' + " " * 4 + "~" * 50
    assert fingerprint("E", "", text[:-3] + "…") == fingerprint("E", "", text[:-9] + "…")


def test_fingerprints_are_remembered():
    """The second time the same error costs a look-up; the memory is bounded."""
    known = Fingerprints()
    text = CORPUS[0][3]
    first = known.of("KeyError", "", text)
    assert known.of("KeyError", "", text) is first
    for number in range(5000):
        known.of("E", f"{number}", None)
    assert len(known._known) <= 2048
    with contextlib.suppress(KeyError):
        assert known.of("KeyError", "", text) == first
