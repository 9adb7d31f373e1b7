"""Values of DataVec's JSON, each with its place, read strictly."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from etl.format.positions import escape
from etl.format.problems import nearest
from etl.importing.refusals import refuse

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["Node"]

_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""Numbers that Jackson, which writes DataVec's JSON, writes as text."""

_SHOWN = 60
"""Characters of a value in a message."""


class Node(NamedTuple):
    """One value of the document."""

    value: Any
    """As JSON has it."""
    pointer: str
    """JSON pointer (RFC 6901)."""

    def place(self, key: str | int) -> str:
        """Pointer of a member or element, there or not."""
        return f"{self.pointer}/{escape(str(key))}"

    def has(self, key: str) -> bool:
        """Whether there is such a member, and it is not null."""
        return self.mapping().get(key) is not None

    def mapping(self) -> dict[str, Any]:
        """The value as a mapping."""
        if not isinstance(self.value, dict):
            refuse(self.pointer, f"should be a mapping, found {_shown(self.value)}.")
        return self.value

    def member(self, key: str) -> Node:
        """A member that must be there."""
        if not self.has(key):
            refuse(self.place(key), f'key "{key}" is required.')
        return Node(self.value[key], self.place(key))

    def members(self) -> dict[str, Node]:
        """All members."""
        return {key: Node(value, self.place(key)) for key, value in self.mapping().items()}

    def elements(self, key: str) -> list[Node]:
        """The elements of a member that is a list."""
        node = self.member(key)
        if not isinstance(node.value, list):
            refuse(node.pointer, f"should be a list, found {_shown(node.value)}.")
        return [Node(value, node.place(index)) for index, value in enumerate(node.value)]

    def text(self, key: str) -> str:
        """A member that is text."""
        return self.member(key).as_text()

    def texts(self, key: str) -> list[str]:
        """A member that is a list of texts."""
        return [node.as_text() for node in self.elements(key)]

    def flag(self, key: str) -> bool:
        """A member that is true or false; false where it is not there, as Java has it."""
        value = self.mapping().get(key, False)
        if not isinstance(value, bool):
            refuse(self.place(key), f"should be true or false, found {_shown(value)}.")
        return value

    def integer(self, key: str, *, bits: int = 32) -> int:
        """A member that is a whole number of Java's int or long."""
        return self.member(key).as_integer(bits=bits)

    def number(self, key: str) -> float:
        """A member that is a number; may be NaN or ±inf."""
        return self.member(key).as_number()

    def word(self, key: str, known: Collection[str]) -> str:
        """A member that is one of some words."""
        word = self.text(key)
        if word not in known:
            refuse(self.place(key), f"{word!r:.{_SHOWN}} is not known.{nearest(word, known)}")
        return word

    def as_text(self) -> str:
        """The value as text."""
        if not isinstance(self.value, str):
            refuse(self.pointer, f"should be text, found {_shown(self.value)}.")
        return self.value

    def as_integer(self, *, bits: int = 32) -> int:
        """The value as a whole number of Java's int or long."""
        value = self.value
        if isinstance(value, bool) or not isinstance(value, int) or not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
            refuse(self.pointer, f"should be a whole number of {bits} bits, found {_shown(value)}.")
        return value

    def as_number(self) -> float:
        """The value as a number of Java's double."""
        value = self.value
        if isinstance(value, str) and value in _NOT_FINITE:
            return _NOT_FINITE[value]
        if isinstance(value, bool) or not isinstance(value, int | float):
            refuse(self.pointer, f"should be a number, found {_shown(value)}.")
        try:
            return float(value)
        except OverflowError:
            refuse(self.pointer, "should be a number of 64 bits.")

    def allow(self, keys: Collection[str]) -> None:
        """Refuse members of other names: DataVec reads past them, so that a misspelt one is 0 or null to it."""
        for key, value in self.mapping().items():
            if key not in keys and value is not None:
                refuse(self.place(key), f'unknown key "{key:.{_SHOWN}}", which DataVec reads past.{nearest(key, keys)}')


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return "null" if value is None else f"{value!r:.{_SHOWN}}"
