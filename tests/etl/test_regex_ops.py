from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from etl.ops import FAMILIES
from etl.patterns import Pattern, matches, parsed
from etl.types import ColumnType
from tests.etl.nasty import TEXTS, applied, arrow, frame_of, plain, step_of

ALLOWED = [
    *(
        "[0-9]+",
        "[^a-z0-9]+",
        "a|ab",
        "ab|a",
        "(a|b)(c)?",
        "a+?",
        "(a+)(b*)",
        "^a",
        r"\Aa",
        r"a\z",
        r"^[ \t]+|[ \t]+\z",
    ),
    *("(?s)a.b", "(?s)^.", "(?s).+", r"[^\n]+", r"\x61", r"\x{1F600}", "😀", "é", r"[\x{4E00}-\x{9FFF}]+", r"[a\-z]+"),
    *(
        r"[\]\[]",
        "[a^]",
        "[-a]",
        "[a-]",
        "[^-]",
        "]",
        "}",
        "a{2}",
        "a{1,2}",
        "a{2,}",
        "a{1,2}?",
        "(?:ab|a)(bc)?",
        r"\.",
    ),
    *(r"\$1", r"\\", r"[\\]", r"\\1", r"\t", r"\n", r"[\n\r]", r"\f", r"\a", r"\r\n", "(b)|(c)", "(a(b)?)+"),
    *("((a)(b)?)", "[^x]", r"\ ", r"\_", r"\#", "#", " ", "a b", "[&]", "[a&b]", "a{0,1}b", "()a", "(a|)b"),
    *(r"[\x00-\x1f]", r"\x7f", r"\x{10FFFF}", r"[^\x{0}-\x{FFFF}]", "e\u0301", "[\u0300-\u036f]", "(a|b|c)+", "-"),
    *("(?:a|b)*c", "[a-c]{1,1000}", "%_", "\u2028", "[\u2028\x85]", r"a\-b|c", '"', "((((a))))", "x{0}a", "(?:ab)+?c"),
]
"""Patterns that mean the same everywhere; none of them matches the empty text."""

EMPTY = ["a*", "(?:)", "^", r"\z", "a?", "(a|)", "(?s).*", "x{0}", "[0-9]*", "|a", r"^\z", "()", "(?:a*)(b*)"]
"""As `ALLOWED`, but for the empty text, which each of them matches."""

CODE_POINT = re.compile(r"\\x\{([0-9A-Fa-f]+)\}")


def to_python(pattern):
    r"""Write a pattern for Python's re, which has `\Z` for `\z`, and no code points in braces."""
    pattern = CODE_POINT.sub(lambda code: re.escape(chr(int(code[1], 16))), pattern)
    return re.compile(re.sub(r"(?<!\\)((?:\\\\)*)\\z", r"\1\\Z", pattern))


SIGNS = st.text(alphabet="ab c1x-.\\$\n\r\x85\u2028é😀\u0301[]", max_size=12)
TEXT_LISTS = st.lists(st.one_of(st.none(), SIGNS, st.sampled_from(TEXTS)), max_size=6)


def each(texts, function):
    """Return what a function makes of each text, None for None."""
    return [None if text is None else function(text) for text in texts]


def of_texts(texts, op, **params):
    """Return what an op makes of a column of texts, as Python values."""
    return plain(applied(frame_of(x=("string", texts)), op, "x", params=params)[0])


@pytest.mark.parametrize("pattern", ALLOWED)
def test_every_match_is_replaced_as_python_does(pattern):
    """Each match from left to right becomes the replacement with its groups in it, and nothing else changes."""
    python = to_python(pattern)
    groups = "".join(f"<\\{number}>" for number in range(1, min(python.groups, 9) + 1))
    for replacement in ("", "$1-\\\\", f"[\\0{groups}]"):
        by_hand = replacement.replace("\\0", "\\g<0>")
        found = of_texts(TEXTS, "regex_replace", pattern=pattern, replacement=replacement)
        assert found == each(TEXTS, lambda text, by_hand=by_hand: python.sub(by_hand, text))


@settings(max_examples=50, deadline=None)
@given(TEXT_LISTS, st.sampled_from(ALLOWED), st.integers(0, 6))
def test_a_batch_may_be_cut_anywhere(texts, pattern, cut):
    """Random texts are replaced and extracted as by Python, and the same whichever batch a row is in."""
    python = to_python(pattern)
    for op, params, by_hand in (
        ("regex_replace", {"replacement": "<\\0>"}, lambda text: python.sub(r"<\g<0>>", text)),
        ("regex_extract", {}, lambda text: found[0] if (found := python.search(text)) else None),
    ):
        whole = of_texts(texts, op, pattern=pattern, **params)
        assert whole == each(texts, by_hand)
        parts = [of_texts(part, op, pattern=pattern, **params) for part in (texts[:cut], texts[cut:])]
        assert parts[0] + parts[1] == whole


@pytest.mark.parametrize("pattern", [*ALLOWED, *EMPTY])
def test_the_first_match_is_extracted_as_python_does(pattern):
    """The leftmost match's group is extracted; no match is missing, and a group without a part in it is empty."""
    python = to_python(pattern)
    for group in range(python.groups + 1):
        found = of_texts(TEXTS, "regex_extract", pattern=pattern, group=group)
        first = each(TEXTS, python.search)
        assert found == [None if match is None else match[group] or "" for match in first]


@pytest.mark.parametrize("pattern", [*ALLOWED, *EMPTY])
def test_whole_texts_match_as_in_python(pattern):
    """A text matches as a whole or not, its last line end included, and a missing one does not."""
    texts = [*TEXTS, "a\n", "ab\n", "1\n", "a\r\n", "a\x85"]
    python = to_python(pattern)
    wanted = [text is not None and python.fullmatch(text) is not None for text in texts]
    assert matches(arrow(texts, "string"), pattern).tolist() == wanted


@pytest.mark.parametrize(("patterns", "can_be_empty"), [(ALLOWED, False), (EMPTY, True)])
def test_a_pattern_is_known_to_match_the_empty_text(patterns, can_be_empty):
    """Whether a pattern can match nothing, and how many groups it has, is as Python finds out."""
    for pattern in patterns:
        assert parsed(pattern).can_be_empty == (to_python(pattern).search("") is not None) == can_be_empty, pattern
        assert len(parsed(pattern).openings) == to_python(pattern).groups, pattern
        assert all(pattern[opening] == "(" for opening in parsed(pattern).openings)


REFUSED = [
    *((pattern, r"write \\z for the end") for pattern in ("a$", "(a$|b)", r"a\Z", "$")),
    *((pattern, r"write \[\^\\n\], or \(\?s\) first") for pattern in (".", "a.*", "[.].")),
    *((rf"\{sign}", "which engines read in different ways; write an explicit class") for sign in "dDsSwWhHvVRN"),
    *((rf"a\{sign}", r"match the characters beside it too") for sign in "bBG"),
    (r"[\d_]", "write an explicit class"),
    *((pattern, "write ranges such as") for pattern in (r"\p{L}", r"\pL", r"[^\P{Lu}]")),
    *((pattern, r"for both cases write \[Kk\]") for pattern in ("(?i)k", "(?m)^a", "a(?s).", "(?-s:a)")),
    *((pattern, "lookaround, .* join the conditions") for pattern in ("(?=a)", "(?!a)", "(?<=a)b", "(?<!a)b")),
    *((pattern, "groups go by number") for pattern in ("(?<n>a)", "(?P<n>a)")),
    ("(?>a)", "an atomic group"),
    *((pattern, "no backreferences") for pattern in (r"(a)\1", r"(a)(b)\2")),
    *((pattern, "can match nothing") for pattern in ("(a*)*", "(?:a?)+", "^*", "(|a){2}", r"(?:\z)?", "(a|b*)*")),
    *((pattern, "quantifier behind a quantifier") for pattern in ("a**", "a{2}{3}", "a+{2}", "a??*")),
    *((pattern, "possessive") for pattern in ("a*+", "a++", "a{2}+")),
    *((pattern, "behind nothing that it could repeat") for pattern in ("*a", "a|+", "(?:{2})", "a{", "{,3}", "(?s)*")),
    *((pattern, "more than 1000 repeats") for pattern in ("a{1001}", "a{1,1001}", "a{9999,}")),
    *(
        (pattern, "in a class, which engines read")
        for pattern in ("[a[b]]", "[[:alpha:]]", "[a&&b]", "[a-c-e]", "[--a]")
    ),
    ("[+--]", "in a class, which engines read"),
    *((pattern, "an empty class") for pattern in ("[]", "[^]", "[]a]")),
    *((pattern, "a class without an end") for pattern in ("[", "[^a", "[a-", "[^")),
    *((pattern, "a range that ends before it begins") for pattern in ("[b-a]", r"[\x{100}-a]")),
    *((pattern, "the code point of no character") for pattern in (r"\x{110000}", r"\x{D800}", r"[\x{DFFF}]")),
    *(
        (pattern, "write . with the code point|reads in another way")
        for pattern in (r"\e", r"\cA", r"\0", r"\x4", r"\xg1")
    ),
    *((pattern, "which RE2 lacks; write .x") for pattern in (r"\u00e9", r"[\u00e9]")),
    *((pattern, "before each sign") for pattern in (r"\Qa.b\E",)),
    *((pattern, "reads in another way") for pattern in ("\\é", r"[\A]", r"\z\y", "a\\")),
    *((pattern, "a group without an end") for pattern in ("(a", "((a)", "(?:")),
    *((pattern, "a parenthesis that nothing opens") for pattern in ("a)", ")", "(a))")),
    ("(" * 60 + ")" * 60, "too many groups"),
    ("a{3,2}", "is no RE2 pattern: "),
    ("(?:(?:a{900}){900}){9}", "is no RE2 pattern: "),
    ("", "at least 1 character"),
    ("a" * 1001, "at most 1000 characters"),
]


@pytest.mark.parametrize(("pattern", "reason"), REFUSED)
def test_what_engines_read_in_different_ways_is_refused(pattern, reason):
    """A pattern that RE2 lacks, or that Java reads in another way, is refused with what to write instead."""
    with pytest.raises(ValidationError, match=reason):
        TypeAdapter(Pattern).validate_python(pattern)


def test_a_refusal_tells_the_place():
    """The message names the character after which the pattern went wrong."""
    with pytest.raises(ValueError, match=r"has \\d, .* \(character 5\)"):
        parsed(r"[a]\d+")


@pytest.mark.parametrize("pattern", EMPTY)
@pytest.mark.parametrize(
    ("op", "key", "more"),
    [("regex_replace", "pattern", {"replacement": ""}), ("tokenize", "split", {}), ("tokenize", "match", {})],
)
def test_nothing_is_not_replaced_nor_split(op, key, more, pattern):
    """Where engines differ, at matches of nothing, a pattern is refused."""
    with pytest.raises(ValidationError, match="can match the empty text"):
        step_of(op, ["x"], params={key: pattern, **more})


@pytest.mark.parametrize(
    ("replacement", "reason"),
    [
        (r"\2", "pattern has 1 groups"),
        (r"a\n", r"has \\n; a backslash"),
        ("a\\", r"has \\; a backs"),
        (r"\g<0>", r"has \\g"),
    ],
)
def test_a_replacement_names_groups_that_are_there(replacement, reason):
    """A group that the pattern lacks, and any other escape, is refused."""
    with pytest.raises(ValidationError, match=reason):
        step_of("regex_replace", ["x"], params={"pattern": "(a)", "replacement": replacement})


def test_an_extracted_group_is_there():
    """A group that the pattern lacks is refused."""
    with pytest.raises(ValidationError, match="group is 3, and the pattern has 2 groups"):
        step_of("regex_extract", ["x"], params={"pattern": "(a)(?:b)(c)", "group": 3})


def test_a_pattern_of_exponential_time_takes_none():
    """A pattern that backtracking engines need ages for is matched at once."""
    texts = ["x" * 20_000, "x" * 20_000 + "y"]
    assert of_texts(texts, "regex_extract", pattern="(x+x+)+y", group=0) == [None, texts[1]]


@pytest.mark.parametrize("op", FAMILIES["regexes"])
@pytest.mark.parametrize("kind", ["int64", "date", "list<string>"])
def test_patterns_match_texts(op, kind):
    """Numbers, dates and lists are no texts until they are cast."""
    params = {"pattern": "a", **({"replacement": "b"} if op == "regex_replace" else {})}
    step = step_of(op, ["x"], params=params)
    with pytest.raises(ValueError, match=r"takes string, found .*; cast it first"):
        step.infer((ColumnType.parse(kind),))
    assert step.infer((ColumnType("string"),)) == (ColumnType("string"),)
