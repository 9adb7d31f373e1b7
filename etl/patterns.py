r"""Regular expressions of specs: the part of RE2 that means the same in Java, checked when one is read.

A pattern may have:

- characters that stand for themselves, `\` before punctuation, `\t \n \r \f \a`, `\xHH` and `\x{H…}` by code point;
- classes such as `[a-z0-9_]` and `[^,;]`, whose opposite holds line ends too;
- groups `(…)`, groups that capture nothing `(?:…)`, alternatives `|`, of which the first that leads to a match counts;
- `* + ? {n} {n,} {n,m}` up to 1000, greedy, or lazy with `?` behind, behind what cannot match nothing;
- `^` or `\A` for the beginning of the text, `\z` for its end;
- `.` for any one character, line ends too, if the pattern begins with `(?s)`.

RE2 has no lookaround and no backreferences, so no pattern takes exponential time. What engines read in different ways
is refused, with a way to write it: `$` (in Java also before a line end at the end), `.` without `(?s)`, `\d \s \w \b`,
`(?i)` (which letters are one is told by Unicode in RE2, by ASCII in Java), `\p{…}` (changes with Unicode's versions),
classes in classes.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Annotated, NamedTuple, NoReturn

import numpy as np
import pyarrow as pa
from pydantic import AfterValidator, StringConstraints
from pydantic_core import PydanticCustomError

from etl.types import ArrowArray, kernels

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["PATTERN_RULES", "NonEmptyPattern", "Parsed", "Pattern", "matches", "parsed"]

PATTERN_RULES = (
    r"RE2, and in it what Java reads alike: explicit classes for `\d \s \w`, `\z` for `$`, `[^\n]` for `.`, or `(?s)` "
    r"first; no other flags, no `\b`, `\p`, lookaround or backreferences"
)
"""What a pattern may have, for the description of a parameter."""

_MOST_REPEATS = 1000
"""The most that RE2 allows."""

_DEEPEST = 50
_LAST_CODE_POINT = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)
_ASCII = 0x80

_QUANTIFIER = re.compile(r"[*+?]|\{([0-9]{1,4})(,([0-9]{0,4}))?\}")
_CODE_POINT = re.compile(r"x(?:([0-9a-fA-F]{2})|\{([0-9a-fA-F]{1,6})\})")
_CONTROLS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "a": "\a"}
_PUNCTUATION = frozenset(" !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")

_DIFFER = "which engines read in different ways; "
_CLASS_HINT = f"{_DIFFER}write an explicit class such as [0-9]"
_ESCAPE_HINTS = {
    **dict.fromkeys("dDsSwWhHvVRN", _CLASS_HINT),
    **dict.fromkeys("bBG", f"{_DIFFER}match the characters beside it too, as in (?:\\A|[^a-z])"),
    **dict.fromkeys("pP", "which changes with Unicode's versions; write ranges such as [a-z\\x{DF}-\\x{FF}]"),
    **dict.fromkeys(
        "123456789", "which RE2 lacks: it has no backreferences, so that no pattern takes exponential time"
    ),
    "Z": f"{_DIFFER}write \\z for the end of the text",
    "u": "which RE2 lacks; write \\x{…} with the code point",
    "Q": f"{_DIFFER}write \\ before each sign",
    "E": f"{_DIFFER}write \\ before each sign",
}


class Parsed(NamedTuple):
    """What a pattern is made of."""

    openings: tuple[int, ...]
    """Where each capturing group opens, in the order of their numbers, which begin at 1."""
    can_be_empty: bool
    """Whether it can match the empty text, where engines differ on what a replacement or a split does."""
    run: frozenset[int] | None
    """The bytes of UTF-8 that it matches as long a run of as there is; None where it is no such class with `+`."""


@functools.lru_cache(maxsize=256)
def parsed(pattern: str) -> Parsed:
    """Parse a whole pattern.

    Raises:
        ValueError: it is no RE2, or engines read it in different ways; with the place and the way to write it.
    """
    parser = _Parser(pattern)
    can_be_empty = parser.alternatives(0)
    if parser.at < len(pattern):
        parser.fail("a parenthesis that nothing opens")
    try:
        kernels.match_substring_regex(pa.array([""]), pattern)
    except pa.ArrowInvalid as error:
        message = f"is no RE2 pattern: {str(error).removeprefix('Invalid regular expression: ')}"
        raise ValueError(message) from error
    return Parsed(tuple(parser.openings), can_be_empty, parser.run)


class _Parser:
    """Recursive descent over one pattern; each rule tells whether what it read can match nothing."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.openings: list[int] = []
        self.run: frozenset[int] | None = None
        self._any_character = pattern.startswith("(?s)")
        self.at = len("(?s)") if self._any_character else 0

    def fail(self, what: str) -> NoReturn:
        """Refuse what was just read.

        Raises:
            ValueError: always.
        """
        message = f"has {what} (character {min(self.at, len(self.pattern))})"
        raise ValueError(message)

    def alternatives(self, depth: int) -> bool:
        """Alternatives up to the group's end, or the pattern's."""
        if depth > _DEEPEST:
            self.fail("too many groups in groups")
        can_be_empty = self._branch(depth)
        while self._next("|"):
            can_be_empty |= self._branch(depth)
        return can_be_empty

    def _next(self, sign: str) -> bool:
        """Step over a sign where it comes next."""
        is_next = self.pattern.startswith(sign, self.at)
        self.at += len(sign) * is_next
        return is_next

    def _read(self) -> str:
        """The next character; empty at the end."""
        sign = self.pattern[self.at : self.at + 1]
        self.at += len(sign)
        return sign

    def _branch(self, depth: int) -> bool:
        can_be_empty = True
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            empty = self._atom(depth)
            quantifier = _QUANTIFIER.match(self.pattern, self.at)
            if quantifier is not None:
                self._quantifier(quantifier, can_be_empty=empty)
                empty = quantifier[0] in {"*", "?"} or (quantifier[1] is not None and int(quantifier[1]) == 0)
            can_be_empty &= empty
        return can_be_empty

    def _quantifier(self, quantifier: re.Match[str], *, can_be_empty: bool) -> None:
        self.at = quantifier.end()
        if can_be_empty:
            self.fail("a quantifier behind what can match nothing, where engines differ; take it away inside")
        if any(int(number) > _MOST_REPEATS for number in (quantifier[1], quantifier[3]) if number):
            self.fail(f"more than {_MOST_REPEATS} repeats")
        if not self._next("?") and self._next("+"):
            self.fail("a possessive quantifier, which RE2 lacks; write it without the second +")
        if _QUANTIFIER.match(self.pattern, self.at):
            self.at += 1
            self.fail("a quantifier behind a quantifier; put a group around the first")

    def _atom(self, depth: int) -> bool:
        """One group, class, escape, anchor or character."""
        start, sign = self.at, self._read()
        if sign == "(":
            return self._group(depth)
        if sign == "[":
            self._class(start)
        elif sign == "\\":
            return self._escape()
        elif sign == "." and not self._any_character:
            self.fail(f". which is not the same in all engines; write [^\\n], or (?s) first for {_ANY}")
        elif sign == "$":
            self.fail(f"$ {_DIFFER}write \\z for the end of the text")
        elif sign in "*+?{":
            self.fail(f"{sign} behind nothing that it could repeat; write \\{sign} for the sign")
        return sign == "^"

    def _group(self, depth: int) -> bool:
        if not self._next("?:"):
            if self._next("?"):
                self._other_group()
            self.openings.append(self.at - 1)
        can_be_empty = self.alternatives(depth + 1)
        if not self._next(")"):
            self.fail("a group without an end")
        return can_be_empty

    def _other_group(self) -> NoReturn:
        """Refuse a group that neither captures nor groups alone, with a way to do without it."""
        for sign, what in _OTHER_GROUPS.items():
            if self._next(sign):
                self.fail(f"(?{sign}, {what}")
        self.fail(f"(?{self._read()}, {_FLAGS}")

    def _escape(self) -> bool:
        if self.pattern[self.at : self.at + 1] in {"A", "z"}:
            self.at += 1
            return True
        self._escaped()
        return False

    def _escaped(self) -> int:
        """The code point of an escape of one character, in a class and outside of one."""
        code = _CODE_POINT.match(self.pattern, self.at)
        if code is not None:
            self.at = code.end()
            point = int(code[1] or code[2], 16)
            if point > _LAST_CODE_POINT or point in _SURROGATES:
                self.fail("the code point of no character")
            return point
        sign = self._read()
        if sign in _CONTROLS:
            return ord(_CONTROLS[sign])
        if sign not in _PUNCTUATION:
            hint = _ESCAPE_HINTS.get(sign, "which RE2 lacks or reads in another way; write \\x{…} with the code point")
            self.fail(f"\\{sign}, {hint}")
        return ord(sign)

    def _class(self, start: int) -> None:
        is_opposite = self._next("^")
        ranges: list[tuple[int, int]] = []
        first = self.at
        while not self._next("]"):
            low = self._class_sign(is_edge=self.at == first or self.pattern.startswith("-]", self.at))
            is_range = self.pattern.startswith("-", self.at) and not self.pattern.startswith("-]", self.at)
            self.at += is_range
            high = self._class_sign(is_edge=False) if is_range else low
            if high < low:
                self.fail("a range that ends before it begins")
            ranges.append((low, high))
        if not ranges:
            self.fail("an empty class; write \\] for the sign")
        if start == 0 and self.pattern[self.at :] == "+":
            self.run = _bytes_of(ranges, is_opposite=is_opposite)

    def _class_sign(self, *, is_edge: bool) -> int:
        """The code point of one character of a class; only at its edge, and in no range, may it be a bare `-`."""
        if self.pattern.startswith("&&", self.at):
            self.fail(f"&& in a class, {_DIFFER}write \\&")
        sign = self._read()
        if sign == "\\":
            return self._escaped()
        if not sign:
            self.fail("a class without an end")
        if sign == "[" or (sign == "-" and (not is_edge or self.pattern.startswith("-", self.at))):
            self.fail(f"{sign} in a class, {_DIFFER}write \\{sign} for the sign")
        return ord(sign)


_ANY = "any character, line ends too"
_LOOKAROUND = (
    "a lookaround, which RE2 lacks, so that no pattern takes exponential time; write one pattern for what must match "
    "and one for what must not, and join the conditions: "
    "all: [{regex_full_match: [column, first]}, {not: {regex_full_match: [column, second]}}]"
)
_NAMED = "a group with a name; groups go by number here, write ( alone"
_OTHER_GROUPS = {
    "=": _LOOKAROUND,
    "!": _LOOKAROUND,
    "<=": _LOOKAROUND,
    "<!": _LOOKAROUND,
    "<": _NAMED,
    "P<": _NAMED,
    ">": "an atomic group, which RE2 lacks, and which never tries again; write (?: for it",
    "#": "a comment; say it in `doc`",
}
_FLAGS = f"a flag, {_DIFFER}for both cases write [Kk], or lower the text before; only (?s) may stand first"


def _bytes_of(ranges: list[tuple[int, int]], *, is_opposite: bool) -> frozenset[int] | None:
    """The bytes of a class that holds all characters beyond ASCII, or none; None for another."""
    ascii_ones = {point for low, high in ranges for point in range(low, min(high + 1, _ASCII))}
    beyond = {(max(low, _ASCII), high) for low, high in ranges if high >= _ASCII}
    if beyond - {(_ASCII, _LAST_CODE_POINT)}:
        return None
    members = ascii_ones | (set(range(_ASCII, 256)) if beyond else set())
    return frozenset(set(range(256)) - members if is_opposite else members)


def _checked(pattern: str) -> str:
    try:
        parsed(pattern)
    except ValueError as error:
        raise _refusal(str(error)) from error
    return pattern


def _never_empty(pattern: str) -> str:
    if parsed(pattern).can_be_empty:
        message = (
            "can match the empty text, where engines differ on what is replaced or split; "
            "write + for *, and make what is optional part of something that is not"
        )
        raise _refusal(message)
    return pattern


def _refusal(message: str) -> PydanticCustomError:
    """A fault of a document with a code of its own."""
    return PydanticCustomError("E-REGEX", "{message}", {"message": message})


Pattern = Annotated[str, StringConstraints(min_length=1, max_length=1000), AfterValidator(_checked)]
"""A pattern in a document."""

NonEmptyPattern = Annotated[Pattern, AfterValidator(_never_empty)]
"""A pattern in a document that matches at least one character wherever it matches."""


def matches(column: ArrowArray, pattern: str) -> npt.NDArray[np.bool_]:
    """Whether the whole of each text matches; false for null. shape (rows,)."""
    found = kernels.match_substring_regex(column, rf"\A(?:{pattern})\z")
    return np.asarray(found.fill_null(False).to_numpy(zero_copy_only=False))  # noqa: FBT003  pyarrow's own
