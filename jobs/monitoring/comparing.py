"""Two runs beside each other: which rows both have, how far their scores are apart, and whether that is acceptable.

Memory: the columns that are asked for (key, scores, segments) of both runs, and about 130 bytes a row of either beside
them, as measured with 3 million rows in each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.printable import counted
from jobs.errors import Refused
from jobs.monitoring.matching import examples, keyed_as, match, numbers_in, slices_of
from jobs.monitoring.measures import rank_correlation

if TYPE_CHECKING:
    import numpy.typing as npt

    from jobs.monitoring.matching import Side, Slices

__all__ = ["Breach", "ColumnChange", "Comparison", "Flips", "Gate", "Question", "Segment", "Shift", "compare"]

Floats: TypeAlias = "npt.NDArray[np.float64]"
Bits: TypeAlias = "npt.NDArray[np.bool_]"

_SHARES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_TRUE = 0.5
"""What tells true from false where a column of them is taken for numbers."""


class Gate(NamedTuple):
    """What a comparison has to keep to; None sets no limit."""

    mean_delta: float | None = None
    """Most that the mean of |now - before| may be."""
    delta: float | None = None
    """Most that |now - before| of any row may be."""
    flips: float | None = None
    """Most rows, as a share of those compared, that may be on the other side of the threshold."""
    rank_correlation: float | None = None
    """Least that it may be; one that is not defined does not hold."""
    unmatched: float | None = None
    """Most rows, as a share of those of both runs, that may have no partner, or none with a score."""


class Question(NamedTuple):
    """What is asked of two runs."""

    keys: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]
    """Names of a score in the one run and in the other."""
    threshold: float | None = None
    by: tuple[str, ...] = ()
    worst: int = 10


class Shift(NamedTuple):
    """How far numbers moved: now - before."""

    mean: float
    mean_absolute: float
    largest: float
    """Of |now - before|."""
    quantiles: dict[float, float]
    """By share of the rows."""
    rank_correlation: float | None
    """Spearman's; None where it is not defined, for all rows of a run have the same score."""


class Flips(NamedTuple):
    """Rows that fell on the other side of the threshold; of a column of texts, rows whose value is another."""

    rows: int
    up: int | None
    """From below the threshold to it or above; None of texts."""
    down: int | None
    share: float | None
    """Of the rows that are compared; None where there are none."""


class Segment(NamedTuple):
    """The same of the rows that have one value of a column."""

    value: str | None
    rows: int
    mean: float | None
    """None of texts."""
    mean_absolute: float | None
    flips: Flips | None
    """None without a threshold."""


class ColumnChange(NamedTuple):
    """How a score changed."""

    name: str
    rows: int
    """Rows that have it in both runs."""
    lost: int
    """Matched rows that have a score in the first run only; null, NaN and infinite are no scores."""
    gained: int
    """In the second run only."""
    unscored: int
    """In neither."""
    are_numbers: bool
    shift: Shift | None
    """None of texts, and where no row has both scores."""
    flips: Flips | None
    """None of numbers without a threshold."""
    segments: dict[str, list[Segment]]
    """By column, the segment with the most rows first."""
    worst: pa.Table
    """The rows that moved most: key, segments, before, now, delta."""


class Breach(NamedTuple):
    """A limit that does not hold."""

    column: str | None
    """None of one that is about rows."""
    limit: str
    allowed: float
    found: float | None
    """None where it is not defined."""


class Comparison(NamedTuple):
    """Two runs beside each other."""

    before: Side
    now: Side
    columns: list[ColumnChange]

    @property
    def unmatched(self) -> float:
        """Share of the rows of both runs that have no partner."""
        return self._apart / self._rows

    @property
    def _rows(self) -> int:
        return self.before.rows + self.now.rows

    @property
    def _apart(self) -> int:
        return self._rows - self.before.matched - self.now.matched

    def breaches(self, gate: Gate) -> list[Breach]:
        """The limits that do not hold; one that nothing can be held against does not either."""
        found: list[Breach] = []
        measured = [(column.name, self._measured(column)) for column in self.columns]
        for limit, allowed in gate._asdict().items():
            values: list[tuple[str | None, float | None]]
            values = [(name, numbers[limit]) for name, numbers in measured if limit in numbers]
            for name, value in values or [(None, None)]:
                if allowed is not None and not _holds(limit, value, allowed):
                    found.append(Breach(name, limit, allowed, value))
        return found

    def _measured(self, column: ColumnChange) -> dict[str, float | None]:
        # A row that lost its score, or came to one, is compared with nothing.
        apart = self._apart + 2 * (column.lost + column.gained)
        found: dict[str, float | None] = {"unmatched": apart / self._rows}
        if column.flips is not None:
            found["flips"] = column.flips.share
        if column.are_numbers:
            shift = column.shift
            found["mean_delta"] = None if shift is None else shift.mean_absolute
            found["delta"] = None if shift is None else shift.largest
            found["rank_correlation"] = None if shift is None else shift.rank_correlation
        return found


def _holds(limit: str, value: float | None, allowed: float) -> bool:
    return value is not None and (value >= allowed if limit == "rank_correlation" else value <= allowed)


def compare(before: pa.Table, now: pa.Table, question: Question) -> Comparison:
    """Compare what two runs published: tables with the key, the scores and the columns of segments, those in either.

    Raises:
        Refused: no row of the one has a partner in the other, or a column is not one to be compared.
    """
    now = keyed_as(now, before, question.keys, what="the second run")
    matches = match(before, now, question.keys)
    if not len(matches.left):
        sides = [
            f"{counted(side.num_rows, 'row has', 'rows have')} {examples(side, question.keys)}"
            for side in (before, now)
        ]
        raise Refused(
            f"no row of the two runs has the same {' and '.join(question.keys)}: {', '.join(sides)}. "
            "Name another --key."
        )
    left, right = pa.array(matches.left), pa.array(matches.right)
    told = before.select(question.keys).take(left)
    slices = {}
    for name in question.by:
        column = before.column(name).take(left) if name in before.column_names else now.column(name).take(right)
        slices[name] = slices_of(name, column)
        told = told if name in told.column_names else told.append_column(name, column)
    columns = []
    for old, new in question.columns:
        name = old if old == new else f"{old} → {new}"
        pair = _Pair.of(name, before.column(old).take(left), now.column(new).take(right))
        columns.append(_change(pair, told, slices, question=question))
    return Comparison(*matches.sides, columns)


class _Pair(NamedTuple):
    """A column of two runs, row by row."""

    name: str
    before: pa.ChunkedArray
    now: pa.ChunkedArray
    numbers: tuple[Floats, Floats] | None
    """None of texts."""
    threshold: float | None
    """Of a column of true and false."""

    @classmethod
    def of(cls, name: str, before: pa.ChunkedArray, now: pa.ChunkedArray) -> _Pair:
        mine, yours = numbers_in(before), numbers_in(now)
        if (mine is None) != (yours is None) or pa.types.is_nested(before.type) or pa.types.is_nested(now.type):
            raise Refused(f"--column {name}: {before.type} cannot be compared with {now.type}. Name a plain column.")
        is_bool = pa.types.is_boolean(before.type) and pa.types.is_boolean(now.type)
        if mine is None or yours is None:
            return cls(name, before.cast(pa.string()), now.cast(pa.string()), None, None)
        return cls(name, before, now, (mine.astype(np.float64), yours.astype(np.float64)), _TRUE if is_bool else None)

    @property
    def has(self) -> tuple[Bits, Bits]:
        """Which rows have a score before and now."""
        if self.numbers is None:
            return pc.is_valid(self.before).to_numpy(), pc.is_valid(self.now).to_numpy()
        return ~np.isnan(self.numbers[0]), ~np.isnan(self.numbers[1])


def _change(pair: _Pair, told: pa.Table, slices: dict[str, Slices], *, question: Question) -> ColumnChange:
    old, new = pair.has
    both = old & new
    threshold = question.threshold if pair.threshold is None else pair.threshold
    moves = _moves(pair, both, threshold)
    return ColumnChange(
        name=pair.name,
        rows=int(both.sum()),
        lost=int((old & ~new).sum()),
        gained=int((new & ~old).sum()),
        unscored=int((~old & ~new).sum()),
        are_numbers=pair.numbers is not None,
        shift=_shift(pair.numbers, both),
        flips=moves.flips(both),
        segments={
            name: [moves.segment(value, rows[both[rows]]) for value, rows in zip(*found, strict=True)]
            for name, found in slices.items()
        },
        worst=_worst(pair, told, moves, count=question.worst),
    )


class _Moves(NamedTuple):
    """What became of each row; nothing of one without both scores."""

    delta: Floats | None
    up: Bits | None
    """None without a threshold; of texts, the rows whose value is another."""
    down: Bits | None
    """None of texts, too."""

    def flips(self, rows: npt.NDArray[np.generic]) -> Flips | None:
        """Of some rows."""
        if self.up is None:
            return None
        up = int(self.up[rows].sum())
        down = None if self.down is None else int(self.down[rows].sum())
        count = len(self.up[rows])
        flipped = up + (down or 0)
        return Flips(flipped, None if down is None else up, down, flipped / count if count else None)

    def segment(self, value: str | None, rows: npt.NDArray[np.int64]) -> Segment:
        """Of the rows that have a value."""
        flips = self.flips(rows)
        if self.delta is None or not len(rows):
            return Segment(value, len(rows), None, None, flips)
        delta = self.delta[rows]
        return Segment(value, len(rows), float(delta.mean()), float(np.abs(delta).mean()), flips)


def _moves(pair: _Pair, both: Bits, threshold: float | None) -> _Moves:
    if pair.numbers is None:
        other = pc.not_equal(pair.before, pair.now).fill_null(False).to_numpy()  # noqa: FBT003  Arrow's way
        return _Moves(None, other, None)
    before, now = pair.numbers
    delta = now - before
    if threshold is None:
        return _Moves(delta, None, None)
    is_above, was_above = now >= threshold, before >= threshold
    return _Moves(delta, both & is_above & ~was_above, both & was_above & ~is_above)


def _shift(numbers: tuple[Floats, Floats] | None, both: Bits) -> Shift | None:
    if numbers is None or not both.any():
        return None
    before, now = (side[both] for side in numbers)
    delta = now - before
    size = np.abs(delta)
    quantiles = np.quantile(delta, _SHARES, method="inverted_cdf")
    return Shift(
        mean=float(delta.mean()),
        mean_absolute=float(size.mean()),
        largest=float(size.max()),
        quantiles=dict(zip(_SHARES, map(float, quantiles), strict=True)),
        rank_correlation=rank_correlation(before, now),
    )


def _worst(pair: _Pair, told: pa.Table, moves: _Moves, *, count: int) -> pa.Table:
    """The rows that moved most, the first ones of equal ones."""
    size = np.nan_to_num(np.abs(moves.delta), nan=-1.0) if moves.delta is not None else np.asarray(moves.up, float)
    order = np.argsort(-size, kind="stable")[:count]
    chosen = pa.array(order[size[order] > 0], pa.int64())
    table = told.take(chosen).append_column("before", pair.before.take(chosen))
    table = table.append_column("now", pair.now.take(chosen))
    if moves.delta is None:
        return table
    return table.append_column("delta", pa.array(moves.delta).take(chosen))
