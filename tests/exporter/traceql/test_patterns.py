"""Regular expressions: RE2's meaning, and never more than a pass over the text."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracekeep.exporter.traceql.automata import Automaton
from tracekeep.exporter.traceql.patterns import Pattern, compile_pattern
from tracekeep.exporter.traceql.syntax import PatternError, read

ATOMS = st.sampled_from(["a", "b", "c", ".", "[ab]", "[^a]", "\\d", "\\w", "x1", "[a-c1]", "\\.", ""])
EXPRESSIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.builds("{}{}".format, inner, inner),
        st.builds("(?:{}|{})".format, inner, inner),
        st.builds("({}){}".format, inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{0,}", "*?"])),
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(EXPRESSIONS, st.lists(st.text("abcx1.\n", max_size=8), max_size=8))
def test_the_same_as_python_has_it(expression, texts):
    """Whichever way it is matched: by Python itself where that is harmless, else by an automaton."""
    expected = re.compile(expression, re.DOTALL)
    pattern, automaton = Pattern(expression), Automaton(read(expression))
    for text in texts:
        assert pattern.fullmatch(text) == automaton.fullmatch(text) == (expected.fullmatch(text) is not None)
        if pattern.fullmatch(text):
            assert pattern.within in text
            assert pattern.literals is None or text in pattern.literals


@pytest.mark.parametrize(
    ("expression", "yes", "no"),
    [
        ("", [""], ["x"]),
        ("a", ["a"], ["ab", "ba", "A", "a\n"]),
        ("(?i)get /.*", ["GET /x", "get /", "Get /\n"], ["get"]),
        ("(?i:A)b", ["ab", "Ab"], ["aB"]),
        ("a.c", ["abc", "a\nc", "aéc"], ["ac"]),
        ("^a$|b", ["a", "b"], ["ab"]),
        ("\\Aa\\z", ["a"], ["a\n"]),
        ("a$b|a^b", [], ["ab"]),
        ("\\d+", ["1", "42"], ["٣", ""]),
        ("\\w+", ["aZ_9"], ["é", "-"]),
        ("\\s", [" ", "\t"], ["\u00a0", "\v"]),
        ("[[:alpha:]_]+", ["ab_"], ["a1"]),
        ("[[:^digit:]]", ["x"], ["1"]),
        ("[]a]", ["]", "a"], ["b"]),
        ("[a\\-z]", ["a", "-", "z"], ["b"]),
        ("[a-]", ["a", "-"], ["b"]),
        ("[^\\d]", ["x"], ["1"]),
        ("\\x41\\x{1F600}\\t", ["A😀\t"], ["A"]),
        ("a{2}", ["aa"], ["a", "aaa"]),
        ("a{,2}", ["a{,2}"], ["aa"]),
        ("a{2,}b", ["aab", "aaaab"], ["ab"]),
        ("(?P<n>a)(?<m>b)", ["ab"], ["a"]),
        ("\\bfoo\\b.*", ["foo bar"], ["food"]),
        ("a|b|", ["a", "b", ""], ["c"]),
        ("http\\.status/[0-9]{3}", ["http.status/200"], ["http_status/200"]),
    ],
)
def test_as_re2_has_it(expression, yes, no):
    """Anchored, `.` for every character, classes of ASCII."""
    pattern = compile_pattern(expression)
    assert [text for text in yes if not pattern.fullmatch(text)] == []
    assert [text for text in no if pattern.fullmatch(text)] == []


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("(?=a)", "ahead"),
        ("(?!a)", "ahead"),
        ("(?<=a)b", "behind"),
        ("(?>a)", "atomic"),
        ("(a)\\1", "references back"),
        ("a**", "nested repetition"),
        ("a{2}{3}", "nested repetition"),
        ("[z-a]", "range"),
        ("(", "missing )"),
        ("a)", "unexpected )"),
        ("[a", "unexpected end"),
        ("\\pL", "Unicode classes"),
        ("\\Qa\\E", "quoted"),
        ("(?m)^a", "flags m"),
        ("[[:foo:]]", "foo"),
        ("a{1001}", "repeat count"),
        ("a{3,2}", "repeat count"),
        ("*a", "missing argument"),
        ("\\", "unexpected end"),
        ("\\y", "escape"),
        ("\\xzz", "hexadecimal"),
        ("(?P<a", "no end"),
        ("^*", "place"),
        ("(?:(?:a{1000}){1000})", "too large"),
        ("(" * 60 + ")" * 60, "deeply"),
        ("a" * 5000, "characters"),
        ("(\\ba+)+", "boundaries"),
    ],
)
def test_what_is_refused(expression, words):
    """By name."""
    with pytest.raises(PatternError, match=re.escape(words)):
        Pattern(expression)


@pytest.mark.parametrize(
    "expression",
    [
        "(a+)+b",
        "(a|aa)*b",
        "(a|aa){30}b",
        "(a*)*b",
        "(.*a){10}x",
        ".*a.*a.*a.*b",
        "(a|a)(a|a)(a|a)(a|a)(a|a)(a|a)(a|a)x",
        "a?a?a?a?a?a?a?a?a?a?a?aaaaaaaaaaax",
        "([a-c]+[a-b]*)*d",
        "a*a*a*a*b",
        "(?i)(a+)+b",
        "[ab]*a[ab]{12}c",
    ],
)
def test_no_expression_takes_for_ever(expression):
    """Those that make a backtracking matcher go over the text again and again: 20,000 characters in a second."""
    begun = time.process_time()
    assert not Pattern(expression).fullmatch("a" * 20_000)
    assert time.process_time() - begun < 2
