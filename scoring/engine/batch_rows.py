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
from typing import Literal, NamedTuple, TypeAlias

from etl.runs.receipt import BatchFacts

__all__ = ["AUTO", "BatchRows", "Room", "SizeKey"]

AUTO: Literal["auto"] = "auto"
SizeKey: TypeAlias = "tuple[int | str, int, tuple[int, ...]]"
"""Rows and bytes of a call that were asked for, and the lengths that its rows are padded to."""

_FEWEST, _MOST = 32, 16_384
"""Rows of a call that the search begins with, and goes up to."""
_TRIES = 3
"""Calls of each size, at least; the median counts, so that one that was interrupted does not."""
_ROUNDS = 8
"""After so many the search ends, whatever is missing: what there is room for may shrink again and again."""
_SHORT_CALLS = 16
"""After so many calls in a row with fewer rows than were to be tried it ends, too: there are no more rows at a time."""
_NEAR = 1.02
"""How much more than the best a size may take, and be chosen because it is smaller."""
_WORSE = 3
"""A round ends when so many sizes in a row were not better by that much than all before them."""
_LONG = 0.1
"""Seconds of a call, at which a round ends, too: the price of a call, a millisecond at most, is no part of it any more,
and to try more rows would take long and much memory."""
_PLANNED = 2
"""Calls of another size than the call before, after which such a call counts: no two of this size come together."""
_BLAMED = 2
"""Failures of calls in a row, none of whose rows fails alone, after which it is their number that is to blame."""


class Room(NamedTuple):
    """What is known of how many rows there is room for."""

    cap: int | None
    is_searching: bool


class BatchRows:
    """The rows of a call, for a loaded model and one padded length."""

    def __init__(
        self, asked: int | Literal["auto"], *, most_bytes: int, fixed: int | None = None, fill: bool = False
    ) -> None:
        """`fixed` is the first axis of a model that takes no other number of rows.

        With `fill` each call gets as many rows, made up where there are too few, once that number is found: on a GPU
        every other number costs a search for kernels, 30 ms with cuDNN, and memory that is not given back.
        """
        self._fill = fill
        self._asked = fixed or asked
        self._most_bytes = most_bytes
        self.fixed = fixed
        self.cap: int | None = None
        """Most rows that there is room for, by bytes or by memory; None while nothing says so."""
        self.is_alone = False
        """Whether one row alone was too much for the memory since the last `restore`."""
        self.is_searching = self._asked == AUTO
        """Whether the rows of a call are still being looked for."""
        self._tries: dict[int, tuple[float, ...]] = {}
        """Seconds a row of each call, by its rows. Other threads read it: a value is replaced, never changed."""
        self._round: dict[int, float] = {}
        """Of the round that goes on."""
        self._rounds = 0
        self._before = 0
        """Rows of the call before."""
        self._planned = self._short = 0
        self._blamed: list[int] = []
        """Rows of the calls in a row of which their number seemed to be to blame."""
        self._chosen = _FEWEST if self._asked == AUTO else int(self._asked)
        self._calls = 0
        self._too_large = 0

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
            out_of_memory=self._too_large,
            seconds_per_row={str(rows): seconds for rows, seconds in self._medians().items()},
        )

    def note(self, rows: int, nbytes: int, *, made_up: int = 0) -> None:
        """The model was called with so many rows, and some that were made up; in and out the former had such bytes."""
        self._calls += 1
        if self._blamed and rows + made_up >= min(self._blamed):
            self._blamed = []
        if self.fixed is None and rows:
            within = max(1, self._most_bytes * rows // max(1, nbytes))
            self.cap = within if self.cap is None else min(self.cap, within)

    def timed(self, rows: int, seconds: float, *, is_whole: bool) -> None:
        """A batch of so many rows took so long; whether all of them were scored."""
        is_planned, self._before = self._fill and rows != self._before, rows
        if not self.is_searching:
            return
        if rows < self.rows:
            self._short += 1
            if self._short >= _SHORT_CALLS and self._tries:
                self._choose()
            return
        if not is_whole or rows != self.rows:
            return
        self._short = 0
        if is_planned and self._planned < _PLANNED:
            self._planned += 1
            return
        self._planned = 0
        self._round[rows] = seconds / rows
        self._tries[rows] = (*self._tries.get(rows, ()), seconds / rows)
        self._go_on(rows)

    def _go_on(self, rows: int) -> None:
        """To the next size of the round; behind its last one to the next round, or to what was found."""
        found = list(self._round.values())
        earlier, latest = found[:-_WORSE], found[-_WORSE:]
        is_flat = bool(earlier) and min(latest) * _NEAR >= min(earlier)
        is_long = found[-1] * rows >= _LONG
        is_last = rows * 2 > _MOST or (self.cap is not None and rows >= self.cap)
        if not is_last and (not (is_flat or is_long) or rows * 2 in self._tries):
            self._chosen = rows * 2
            return
        self._round, self._chosen = {}, _FEWEST
        self._rounds += 1
        fitting = self._fitting()
        if self._rounds >= _ROUNDS or all(len(tries) >= _TRIES for tries in fitting.values()):
            self._choose()

    def _choose(self) -> None:
        """End the search with the smallest size that is about as quick as the best."""
        self.is_searching = False
        medians = {rows: statistics.median(tries) for rows, tries in self._fitting().items()} or {_FEWEST: 0.0}
        self._chosen = min(rows for rows, taken in medians.items() if taken <= min(medians.values()) * _NEAR)

    def _fitting(self) -> dict[int, tuple[float, ...]]:
        """The calls of sizes that there is still room for."""
        return {rows: tries for rows, tries in self._tries.items() if self.cap is None or rows <= self.cap}

    def _medians(self) -> dict[int, float]:
        return {rows: statistics.median(tries) for rows, tries in self._tries.copy().items()}

    def halve(self, rows: int) -> None:
        """So many rows were too many for the memory: from now on at most half of them."""
        self._too_large += 1
        self.is_searching = False
        self.is_alone |= rows == 1
        if self.fixed is None:
            half = max(1, rows // 2)
            self.cap = half if self.cap is None else min(self.cap, half)

    def blame(self, rows: int) -> None:
        """A call of so many rows failed, and none of its rows did alone. Once may be chance, such as of a service."""
        self._blamed.append(rows)
        if len(self._blamed) >= _BLAMED and rows > 1:
            self._blamed = []
            self.halve(rows)

    @property
    def room(self) -> Room:
        """What is known now, to be gone back to."""
        return Room(self.cap, self.is_searching)

    def restore(self, room: Room) -> None:
        """Go back to what was known before."""
        self.cap, self.is_searching = room
        self.is_alone = False
