"""Texts that take several lines of a column: folded at words, and within a long word behind what divides it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.measure import Measurement
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, ConsoleOptions

__all__ = ["Folding", "folded"]

_DIVIDERS = "/:,;=_-"
"""What a path, a name or a version is cut behind; `.` is not among them: an ending stays with its name."""


class Folding:
    """A cell of a table that knows its lines when it knows its width."""

    def __init__(self, text: str) -> None:
        """The text in one line, as a terminal may show it."""
        self._text = text

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """As wide as rich takes a text to be."""
        return Measurement.get(console, options, Text(self._text))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """Its lines."""
        yield Text("\n".join(folded(self._text, options.max_width)), overflow="fold")


def folded(text: str, width: int) -> list[str]:
    """Lines of at most `width` characters; a word without dividers that is longer is cut where the line ends."""
    lines, line = [], ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if len(longer) <= width:
            line = longer
            continue
        if line:
            lines.append(line)
        line = word
        while len(line) > width:
            cut = 1 + max(line.rfind(divider, 0, width) for divider in _DIVIDERS) or width
            lines.append(line[:cut])
            line = line[cut:]
    return [*lines, line]
