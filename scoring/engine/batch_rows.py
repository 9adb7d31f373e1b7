"""How many rows one call of the model gets: as asked, or at the knee of a short measured search; halved out of memory.

A call has a price of its own, so few rows are dear; the activations of many do not fit the caches of a core, so many
are dear too. `auto` doubles the rows of a call from 32 on, each size tried on rows that are scored anyway, and takes
the smallest size whose time per row is within 2 % of the best.

It does so in rounds, one call of each size after the other, and takes the median of a size's calls. Sizes that are
tried at different times cannot be compared: of two tasks on an H200 the one that began alone found calls of 32 rows to
be the quickest, since the other was loading its model meanwhile; together they scored 9,800 rows/s, of 12,400.
"""

from __future__ import annotations

import statistics
from typing import Literal, TypeAlias

from etl.runs.receipt import BatchFacts

__all__ = ["AUTO", "BatchRows", "SizeKey"]

AUTO: Literal["auto"] = "auto"
SizeKey: TypeAlias = "tuple[int | str, int, tuple[int, ...]]"
"""Rows and bytes of a call that were asked for, and the lengths that its rows are padded to."""

_FIRST = 32
_LAST = 16_384
"""Rows of a call that the search begins and ends with."""
_TRIES = 3
"""Calls of each size, at least; the median counts: neither one that was interrupted, nor the first one on a GPU, which
looks for kernels.
"""
_NEAR = 1.02
"""How much more than the best a size may take, and be chosen because it is smaller."""
_WORSE = 3
"""A round ends when so many sizes in a row were not better by that much than all before them."""
_LONG = 0.1
"""Seconds of a call, at which a round ends, too: the price of a call, a millisecond at most, is no part of it any more,
and to try more rows would take long and much memory."""


class BatchRows:
    """The rows of a call, for a loaded model and one padded length."""

    def __init__(
        self, asked: int | Literal["auto"], *, most_bytes: int, fixed: int | None = None, fill: bool = False
    ) -> None:
        """`fixed` is the first axis of a model that takes no other number of rows.

        With `fill` each call gets as many rows, made up where there are too few: on a GPU every other number costs a
        search for kernels, and memory that is not given back.
        """
        self._fill = fill
        self._asked = fixed or asked
        self._most_bytes = most_bytes
        self.fixed = fixed
        self.cap: int | None = None
        """Most rows that there is room for, by bytes or by memory; None while nothing says so."""
        self.is_alone = False
        """Whether one row alone was too much for the memory since the last `restore`."""
        self._tries: dict[int, list[float]] = {}
        """Seconds a row of each call, by its rows."""
        self._round: dict[int, float] = {}
        """Of the round that goes on."""
        self.is_searching = self._asked == AUTO
        """Whether the rows of a call are still being looked for."""
        self._last = 0
        """Rows of the call before."""
        self._chosen = _FIRST if self._asked == AUTO else int(self._asked)
        self._calls = 0
        self._out_of_memory = 0

    @property
    def rows(self) -> int:
        """Rows of the next call, if there are as many."""
        return max(1, min(self._chosen, self.cap or self._chosen))

    def full(self, rows: int) -> int:
        """How many rows a call of so many is to have, the made-up ones among them."""
        if self.fixed is not None:
            return self.fixed
        return self.rows if self._fill and not self.is_searching and rows < self.rows else rows

    @property
    def facts(self) -> BatchFacts:
        """What was found so far."""
        return BatchFacts(
            rows=self.rows,
            calls=self._calls,
            out_of_memory=self._out_of_memory,
            seconds_per_row={str(rows): seconds for rows, seconds in self._medians().items()},
        )

    def note(self, rows: int, nbytes: int) -> None:
        """The model was called with so many rows; in and out it had so many bytes."""
        self._calls += 1
        if self.fixed is None and rows:
            within = max(1, self._most_bytes * rows // max(1, nbytes))
            self.cap = within if self.cap is None else min(self.cap, within)

    def timed(self, rows: int, seconds: float, *, is_whole: bool) -> None:
        """A batch of so many rows took so long; whether all of them were scored.

        With `fill` the first call of each size is left out: cuDNN plans anew for each shape, for 30 ms.
        """
        is_prepared, self._last = not self._fill or rows == self._last, rows
        if self.is_searching and is_whole and rows == self.rows and is_prepared:
            self._tries.setdefault(rows, []).append(seconds / rows)
            self._round[rows] = seconds / rows
            self._go_on(rows)

    def _go_on(self, rows: int) -> None:
        """To the next size of the round; behind its last one to the next round, or to what was found."""
        found = list(self._round.values())
        earlier, latest = found[:-_WORSE], found[-_WORSE:]
        is_flat = bool(earlier) and min(latest) * _NEAR >= min(earlier)
        is_long = found[-1] * rows >= _LONG
        is_last = rows * 2 > _LAST or (self.cap is not None and rows >= self.cap)
        if not is_last and (not (is_flat or is_long) or rows * 2 in self._tries):
            self._chosen = rows * 2
            return
        self._round = {}
        self._chosen = _FIRST
        if all(len(tries) >= _TRIES for tries in self._tries.values()):
            self.is_searching = False
            medians = self._medians()
            self._chosen = min(size for size, taken in medians.items() if taken <= min(medians.values()) * _NEAR)

    def _medians(self) -> dict[int, float]:
        return {rows: statistics.median(tries) for rows, tries in self._tries.items()}

    def halve(self, rows: int) -> None:
        """So many rows were too many for the memory: from now on at most half of them."""
        self._out_of_memory += 1
        self.is_searching = False
        self.is_alone |= rows == 1
        if self.fixed is None:
            half = max(1, rows // 2)
            self.cap = half if self.cap is None else min(self.cap, half)

    def restore(self, cap: int | None) -> None:
        """Go back to what there was room for before."""
        self.cap, self.is_alone = cap, False
