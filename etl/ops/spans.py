"""What the values in a span of ordered rows come to, for many spans at once.

Sums, means and standard deviations are exact and rounded once, so they depend neither on the order of the values nor
on how they are computed: a float64 is an integer times a power of two (`etl.partials.exact`), and the sum over a span
is the difference of two running sums of integers.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from etl.ops.groups import Integers, sort_keys
from etl.partials.exact import UNIT, parts, root_of_quotient
from etl.types import ColumnType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etl.frame import Column, Frame
    from etl.ops.base import Step
    from etl.types import Schema

__all__ = ["Aggregate", "Spans", "aggregated", "kinds_of", "taken_at"]

Aggregate: TypeAlias = Literal["sum", "mean", "std", "min", "max", "count", "nunique", "last"]
"""What is computed of the values of a column that are not missing."""

_NUMBERS = {"sum", "mean", "std"}
"""Aggregates of numbers and bools."""

_SCALARS = {"min", "max", "nunique"}
"""Aggregates of whatever has an order."""

_EXACT = 2**53
"""float64 holds each integer up to this magnitude."""

_SPARE_BITS = 9
"""What int64 has beside a mantissa and a sign."""


class Spans(NamedTuple):
    """A span of places in an order of rows, for each row of the table."""

    row: Integers
    """The order: positions in the table."""
    low: Integers
    """First place of each table row's span."""
    high: Integers
    """One past its last place; equal to `low` where the span is empty."""


def kinds_of(step: Step, aggregates: Sequence[Aggregate], schema: Schema) -> tuple[ColumnType, ...]:
    """The types of a step's outputs that are aggregates of its inputs, one of each.

    Raises:
        ValueError: there are more of one than of another, or an aggregate does not go with its column's type.
    """
    if not len(step.inputs) == len(step.outputs) == len(aggregates):
        found = f"{len(step.inputs)}, {len(step.outputs)} and {len(aggregates)}"
        message = f"takes as many columns in as out and as aggregates, found {found}"
        raise ValueError(message)
    return tuple(_kind_of(aggregate, schema[name]) for aggregate, name in zip(aggregates, step.inputs, strict=True))


def _kind_of(aggregate: Aggregate, found: ColumnType) -> ColumnType:
    if (aggregate in _NUMBERS and not found.is_numeric) or (aggregate in _SCALARS and not found.is_scalar):
        message = f"computes {aggregate} of {'numbers' if aggregate in _NUMBERS else 'scalars'}, found {found}"
        raise ValueError(message)
    if aggregate == "last" and not found.may_be_missing:
        message = f"computes last of what can be missing, as it is where there is no row, found {found}"
        raise ValueError(message)
    if aggregate in _NUMBERS:
        return ColumnType("float64")
    return ColumnType("int64") if aggregate in {"count", "nunique"} else found


def aggregated(frame: Frame, name: str, aggregate: Aggregate, *, spans: Spans) -> Column:
    """The aggregate of a column over each row's span."""
    present = np.logical_not(frame.missing(name)[spans.row])
    before = np.concatenate(([0], np.cumsum(present)))
    rows, low, high = spans.row[present], before[spans.low], before[spans.high]
    if aggregate == "count":
        return high - low
    # Rows of one group often have one span, which is then computed once.
    pairs, which = np.unique(low * (rows.size + 1) + high, return_inverse=True)
    low, high = np.divmod(pairs, rows.size + 1)
    if aggregate in _NUMBERS:
        return _numbers(_Exact.of(frame, name, rows), aggregate, low, high=high)[which]
    if aggregate == "last":
        return taken_at(frame, name, np.where(high > low, _at(rows, high - 1), -1)[which])
    codes, first = _codes(frame, name, rows, zeros_differ=aggregate != "nunique")
    if aggregate == "nunique":
        return _distinct(codes, low, high)[which]
    least = _least(codes if aggregate == "min" else -codes, low, high)
    found = np.where(high > low, _at(rows[first], np.abs(least)), -1)
    return taken_at(frame, name, found[which])


def taken_at(frame: Frame, name: str, rows: Integers) -> Column:
    """The column's values at these rows of the table; missing for −1."""
    absent = rows < 0
    column = frame[name]
    if isinstance(column, np.ndarray) and (column.ndim > 1 or column.dtype.kind == "f"):
        taken = column[rows] if frame.rows else np.empty((rows.size, *column.shape[1:]), column.dtype)
        if absent.any():
            taken[absent] = np.nan if column.dtype.kind == "f" else 0
        return taken
    array: Any = frame.arrow(name)
    result: Column = array.take(pa.array(rows, mask=absent) if absent.any() else pa.array(rows))
    return result


def _at(values: Integers, places: Integers) -> Integers:
    """Values at places, some of which may be beyond the end, where it does not matter which is taken."""
    return values[np.clip(places, 0, values.size - 1)] if values.size else np.full(places.shape, -1, dtype=np.int64)


def _codes(frame: Frame, name: str, rows: Integers, *, zeros_differ: bool) -> tuple[Integers, Integers]:
    """A number for each of these rows that ascends with its value, and the first of them that has each value.

    To the least value −0.0 must be below 0.0, so that it is the same one whatever the order of rows.
    """
    column = frame[name]
    values = column[rows] if isinstance(column, np.ndarray) else column.take(pa.array(rows))
    keys = sort_keys(values, zeros_differ=zeros_differ)[1]
    _, first, codes = np.unique(keys, return_index=True, return_inverse=True)
    return codes.astype(np.int64), first


class _Exact(NamedTuple):
    """Values as integers times 2^−unit; ±inf is 0 there and counted apart."""

    integers: npt.NDArray[Any]
    """int64 where sums of all of them are exact in float64, else integers of Python."""
    unit: int
    rising: npt.NDArray[np.bool_]
    """Where a value is inf."""
    falling: npt.NDArray[np.bool_]
    """Where a value is -inf."""

    @classmethod
    def of(cls, frame: Frame, name: str, rows: Integers) -> _Exact:
        column = frame[name]
        if isinstance(column, np.ndarray):
            values = column[rows]
        else:
            taken: Any = column.take(pa.array(rows))
            values = (taken.cast(pa.uint8()) if pa.types.is_boolean(taken.type) else taken).to_numpy()
        none = np.zeros(rows.size, dtype=bool)
        if values.dtype.kind in "iu":
            return cls(_narrow(values.astype(np.int64)), 0, none, none)
        values = values.astype(np.float64)
        infinite = np.isinf(values)
        integers, unit = _integers(np.where(infinite, 0.0, values))
        return cls(_narrow(integers), unit, infinite & (values > 0), infinite & (values < 0))


def _integers(values: npt.NDArray[np.float64]) -> tuple[npt.NDArray[Any], int]:
    """Finite numbers as integers times 2^−unit, with as few bits as they need."""
    mantissas, exponents = parts(values)
    some = mantissas != 0
    places = np.maximum(exponents & 2047, 1) - 1
    spare = np.frexp((mantissas & (~mantissas + np.uint64(1))).astype(np.float64))[1] - 1
    # No unit is larger than 1, so that quotients divide by a power of two.
    lowest = int((places + spare).min(where=some, initial=UNIT))
    shift = np.where(some, places - lowest, 0)
    whole = (mantissas >> np.maximum(-shift, 0).astype(np.uint64)).astype(np.int64) * np.where(values < 0, -1, 1)
    if shift.max(initial=0) <= _SPARE_BITS:
        return whole << np.maximum(shift, 0), UNIT - lowest
    return whole.astype(object) << np.maximum(shift, 0).astype(object), UNIT - lowest


def _narrow(integers: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """As integers of Python, unless all sums of them are exact in float64."""
    if not integers.size or max(-int(integers.min()), int(integers.max())) * integers.size <= _EXACT:
        return integers.astype(np.int64)
    return integers.astype(object)


def _running(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.concatenate((np.zeros(1, dtype=values.dtype), np.cumsum(values)))


def _any(mask: npt.NDArray[np.bool_], low: Integers, high: Integers) -> npt.NDArray[np.bool_]:
    running = _running(mask.astype(np.int64))
    return np.asarray(running[high] > running[low])


def _numbers(exact: _Exact, aggregate: Aggregate, low: Integers, *, high: Integers) -> npt.NDArray[np.float64]:
    """Sum, mean or population standard deviation of each span; NaN for an empty one. ±inf counts as IEEE 754 adds."""
    counts = high - low
    totals = _running(exact.integers)
    sums = totals[high] - totals[low]
    if aggregate == "std":
        squares = _running(exact.integers.astype(object) ** 2)
        numbers = _deviations(exact.unit, sums, squares[high] - squares[low], counts=counts)
    else:
        numbers = _quotients(sums, counts if aggregate == "mean" else np.ones_like(counts), exact.unit)
    up, down = _any(exact.rising, low, high), _any(exact.falling, low, high)
    numbers[up], numbers[down] = math.inf, -math.inf
    numbers[(up | down) if aggregate == "std" else (up & down)] = math.nan
    numbers[counts == 0] = math.nan
    return numbers


def _quotients(sums: npt.NDArray[Any], divisors: Integers, unit: int) -> npt.NDArray[np.float64]:
    """Sum ÷ divisor · 2^−unit, each rounded once; beyond float64 ±inf."""
    divisors = np.maximum(divisors, 1)
    if sums.dtype != object and unit < 900:  # noqa: PLR2004  no result is subnormal, and rounded a second time
        return np.asarray(np.ldexp(sums / divisors, -unit))
    return np.array([_quotient(total, by << unit) for total, by in zip(sums.tolist(), divisors.tolist(), strict=True)])


def _quotient(total: int, divisor: int) -> float:
    try:
        return total / divisor
    except OverflowError:
        return math.inf if total > 0 else -math.inf


def _deviations(
    unit: int, sums: npt.NDArray[Any], squares: npt.NDArray[Any], *, counts: Integers
) -> npt.NDArray[np.float64]:
    """√(n·Σx² − (Σx)²) ÷ n, each rounded once."""
    triples = zip(counts.tolist(), sums.tolist(), squares.tolist(), strict=True)
    return np.array(
        [root_of_quotient(n * square - total * total, n, unit) if n else math.nan for n, total, square in triples]
    )


def _least(codes: Integers, low: Integers, high: Integers) -> Integers:
    """The least of codes[low:high] of each span; 0 where it is empty.

    By minima of stretches of 1, 2, 4, … codes: a span is covered by two of the longest that fit. M. A. Bender,
    M. Farach-Colton, The LCA problem revisited (2000), a table of which only one line is held.
    """
    found = np.zeros(low.size, dtype=np.int64)
    widths = high - low
    level = np.where(widths > 0, np.frexp(np.maximum(widths, 1).astype(np.float64))[1] - 1, -1)
    line, width = codes, 1
    for power in range(int(level.max(initial=-1)) + 1):
        if power:
            line, width = np.minimum(line[: line.size - width], line[width:]), 2 * width
        asked = level == power
        found[asked] = np.minimum(line[low[asked]], line[high[asked] - width])
    return found


def _distinct(codes: Integers, low: Integers, high: Integers) -> Integers:
    """Different codes in each span: those whose last occurrence before lies ahead of the span."""
    order = np.argsort(codes, kind="stable")
    same = codes[order][1:] == codes[order][:-1]
    since = np.zeros(codes.size, dtype=np.int64)
    # One past the place of the same code before, 0 where there is none.
    since[order[1:][same]] = order[:-1][same] + 1
    # All codes ahead of the span have theirs there too, so they are counted and taken off again.
    return _up_to(since, high, low) - low


def _up_to(values: Integers, ends: Integers, limits: Integers) -> Integers:
    """How many of values[:end] are at most the limit, for each pair; by bits, from the highest.

    A wavelet matrix (F. Claude, G. Navarro, A. Ordóñez, 2015), of which one level is held.
    """
    found, begins, limits = np.zeros(ends.size, dtype=np.int64), np.zeros_like(ends), limits + 1
    largest = max(int(limits.max(initial=0)), int(values.max(initial=0)))
    for bit in reversed(range(largest.bit_length())):
        is_one = (values >> bit & 1).astype(bool)
        zeros = _running((~is_one).astype(np.int64))
        first, last = zeros[begins], zeros[ends]
        up = (limits >> bit & 1).astype(bool)
        found += np.where(up, last - first, 0)
        begins = np.where(up, zeros[-1] + begins - first, first)
        ends = np.where(up, zeros[-1] + ends - last, last)
        values = np.concatenate((values[~is_one], values[is_one]))
    return found
