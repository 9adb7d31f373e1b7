r"""Java's regular expressions as RE2 patterns that match the same texts, or the reason why there is none.

Read are literals, `.`, classes without nesting, `\d \s \w` and their opposites, groups, alternatives, quantifiers
(greedy and lazy) and anchors. A construct that RE2 lacks, or reads in another way, is refused: lookaround, back
references, possessive quantifiers, flags, `\b`, Unicode properties. Java documents them at java.util.regex.Pattern.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["LINE_END", "WHITE_SPACE", "Translated", "replacement", "translated"]

LINE_END = r"[\n\r\x{85}\x{2028}\x{2029}]"
"""What `.` of Java does not match, and what its `$` may stand before when it is the last of a text."""

WHITE_SPACE = r"[ \t\n\x0B\f\r]"
r"""`\s` of Java."""

_SETS = {"d": "0-9", "s": r" \t\n\x0B\f\r", "w": "a-zA-Z_0-9"}
_OPPOSITES = {
    "D": r"\x{0}-\x{2F}\x{3A}-\x{10FFFF}",
    "S": r"\x{0}-\x{8}\x{E}-\x{1F}\x{21}-\x{10FFFF}",
    "W": r"\x{0}-\x{2F}\x{3A}-\x{40}\x{5B}-\x{5E}\x{60}\x{7B}-\x{10FFFF}",
}
_IN_CLASSES = _SETS | _OPPOSITES
_CONTROLS = {"t": r"\t", "n": r"\n", "r": r"\r", "f": r"\f", "a": r"\x07", "e": r"\x1B"}
_PLAIN = {".": f"[^{LINE_END[1:]}", "$": r"\z", "]": r"\]", "}": r"\}"}
_QUANTIFIER = re.compile(r"[*+?]|\{[0-9]{1,4}(?:,[0-9]{0,4})?\}")
_MOST_REPEATS = 1000
"""The most that RE2 allows."""


class Translated(NamedTuple):
    """A pattern for RE2."""

    pattern: str
    """Matches what the original does."""
    can_be_empty: bool
    """Whether it can match the empty text, where engines differ on what a replacement does."""
    has_end: bool
    """Whether it has `$`, which in Java also stands before a line end that ends the text."""
    groups: int
    """How many groups it captures."""


def translated(pattern: str) -> Translated:
    """Translate a whole pattern.

    Raises:
        ValueError: the reason why there is no pattern of RE2 that certainly matches the same.
    """
    parser = _Parser(pattern)
    text, can_be_empty = parser.alternatives(0)
    if parser.at < len(pattern):
        parser.fail("a parenthesis that nothing opens")
    return Translated(text, can_be_empty, parser.has_end, parser.groups)


def replacement(text: str, groups: int) -> str:
    r"""Translate a replacement: `$1` becomes `\1`, and what Java escapes is itself.

    Raises:
        ValueError: it names a group that is not there, or groups by name.
    """
    parts: list[str] = []
    at = 0
    while at < len(text):
        sign = text[at]
        if sign == "\\":
            parts.append(_literal(text[at + 1 : at + 2] or _fail("a backslash at its end")))
            at += 2
        elif sign == "$":
            digit = text[at + 1 : at + 2]
            if digit not in "0123456789" or not digit or int(digit) > groups:
                _fail("a $ that is not before the number of a group")
            more = text[at + 2 : at + 3]
            if more and more in "0123456789" and int(digit + more) <= groups:
                _fail("a group of two digits")
            parts.append(f"\\{digit}")
            at += 2
        else:
            parts.append(sign)
            at += 1
    return "".join(parts)


def _literal(sign: str) -> str:
    return "\\\\" if sign == "\\" else sign


def _fail(what: str) -> str:
    message = f"has {what}"
    raise ValueError(message)


class _Parser:
    """Recursive descent over one pattern."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.groups = 0
        self.has_end = False

    def fail(self, what: str) -> str:
        message = f"has {what} at character {self.at + 1}"
        raise ValueError(message)

    def alternatives(self, depth: int) -> tuple[str, bool]:
        """Alternatives up to the group's end; the text, and whether it can match nothing."""
        if depth > 50:  # noqa: PLR2004  no pattern that people wrote comes near
            self.fail("too many groups in groups")
        branches = [self._branch(depth)]
        while self.pattern.startswith("|", self.at):
            self.at += 1
            branches.append(self._branch(depth))
        return "|".join(text for text, _ in branches), any(empty for _, empty in branches)

    def _branch(self, depth: int) -> tuple[str, bool]:
        parts: list[str] = []
        can_be_empty = True
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            text, empty = self._atom(depth)
            quantifier = _QUANTIFIER.match(self.pattern, self.at)
            if quantifier is not None:
                text, empty = self._repeated(text, quantifier[0], can_be_empty=empty)
            parts.append(text)
            can_be_empty &= empty
        return "".join(parts), can_be_empty

    def _repeated(self, text: str, quantifier: str, *, can_be_empty: bool) -> tuple[str, bool]:
        self.at += len(quantifier)
        if can_be_empty:
            self.fail("a quantifier behind what can match nothing")
        if any(int(number) > _MOST_REPEATS for number in re.findall("[0-9]+", quantifier)):
            self.fail(f"more than {_MOST_REPEATS} repeats")
        if self.pattern.startswith("?", self.at):
            self.at += 1
            quantifier = f"{quantifier}?"
        elif self.pattern.startswith("+", self.at):
            self.fail("a possessive quantifier")
        if _QUANTIFIER.match(self.pattern, self.at):
            self.fail("a quantifier behind a quantifier")
        least = re.findall("[0-9]+", quantifier)
        return f"{text}{quantifier}", quantifier[0] in "*?" or (quantifier[0] == "{" and int(least[0]) == 0)

    def _atom(self, depth: int) -> tuple[str, bool]:
        """One group, class, escape, anchor or literal; the text, and whether it can match nothing."""
        sign = self.pattern[self.at]
        if sign == "(":
            return self._group(depth)
        if sign == "[":
            return self._class(), False
        if sign == "\\":
            return self._escape(), False
        self.at += 1
        if sign in "*+?{":
            self.fail("a quantifier behind nothing")
        self.has_end |= sign == "$"
        return _PLAIN.get(sign, sign), sign in "^$"

    def _group(self, depth: int) -> tuple[str, bool]:
        opening = "(?:" if self.pattern.startswith("(?:", self.at) else "("
        if opening == "(" and self.pattern.startswith("(?", self.at):
            self.fail("a group of a kind that RE2 lacks or reads otherwise (lookaround, flags, names)")
        self.groups += opening == "("
        self.at += len(opening)
        text, empty = self.alternatives(depth + 1)
        if not self.pattern.startswith(")", self.at):
            self.fail("a group without an end")
        self.at += 1
        return f"{opening}{text})", empty

    def _escape(self) -> str:
        sign = self.pattern[self.at + 1 : self.at + 2]
        self.at += 2
        if sign.lower() in _SETS and sign:
            return f"[{'^' if sign.isupper() else ''}{_SETS[sign.lower()]}]"
        return self._escaped(sign)

    def _escaped(self, sign: str) -> str:
        """What an escape of one character means, in a class and outside of one."""
        if sign in _CONTROLS:
            return _CONTROLS[sign]
        if sign in {"x", "u"}:
            digits = 2 if sign == "x" else 4
            code = self.pattern[self.at : self.at + digits]
            if not re.fullmatch(f"[0-9a-fA-F]{{{digits}}}", code) or 0xD800 <= int(code, 16) <= 0xDFFF:  # noqa: PLR2004  surrogates
                self.fail("a code of a character that is none")
            self.at += digits
            return rf"\x{{{int(code, 16):X}}}"
        if not sign or sign.isalnum() or not sign.isascii():
            self.fail(f"\\{sign}, which RE2 lacks or reads otherwise")
        return f"\\{sign}"

    def _class(self) -> str:
        negation = "^" if self.pattern.startswith("^", self.at + 1) else ""
        self.at += 1 + len(negation)
        parts: list[str] = []
        while not self.pattern.startswith("]", self.at):
            parts.append(self._class_part())
        if not parts:
            self.fail("an empty class")
        self.at += 1
        return f"[{negation}{''.join(parts)}]"

    def _class_part(self) -> str:
        """A set, or a character or a range of them."""
        if self.pattern[self.at : self.at + 1] == "\\" and self.pattern[self.at + 1 : self.at + 2] in set(_IN_CLASSES):
            self.at += 2
            return _IN_CLASSES[self.pattern[self.at - 1]]
        low = self._class_sign()
        if not self.pattern.startswith("-", self.at) or self.pattern.startswith("-]", self.at):
            return low
        self.at += 1
        return f"{low}-{self._class_sign()}"

    def _class_sign(self) -> str:
        sign = self.pattern[self.at : self.at + 1]
        if sign == "\\":
            self.at += 2
            return self._escaped(self.pattern[self.at - 1 : self.at])
        if not sign or sign == "[" or self.pattern.startswith("&&", self.at):
            self.fail("a class without an end, or with classes in it")
        self.at += 1
        return f"\\{sign}" if sign in "^-]&" else sign
