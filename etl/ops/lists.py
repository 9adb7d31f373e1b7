"""Ops on lists of any length."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from pydantic import Field, FiniteFloat, model_validator

from etl.frame import EXACT_INTEGERS
from etl.ops.base import AsNumber, Params, RowStep, need_list
from etl.types import INTEGER_BOUNDS, ColumnType, kernels

if TYPE_CHECKING:
    import numpy.typing as npt

    from etl.frame import Column, Frame
    from etl.types import ArrowArray

__all__ = [
    "ListPad",
    "ListPadParams",
    "ListSlice",
    "ListSliceParams",
    "ListStat",
    "ListStatParams",
    "ListStep",
]

_NUMBERS = ("bool", "int32", "int64", "float32", "float64")


class _Lists:
    """A list column taken apart; what is derived of it is made once."""

    def __init__(self, column: ArrowArray) -> None:
        """Take a list column apart, whatever lies behind its nulls."""
        self.elements: ArrowArray = column.flatten()
        """All elements, one list behind the other."""
        self.lengths: npt.NDArray[np.int64] = kernels.list_value_length(column).fill_null(0).to_numpy().astype(np.int64)
        """Elements of each list; 0 where there is none."""
        self.missing: npt.NDArray[np.bool_] = column.is_null().to_numpy(zero_copy_only=False)
        """Which rows have no list."""

    @functools.cached_property
    def rows(self) -> npt.NDArray[np.int64]:
        """The row of each element."""
        return np.repeat(np.arange(self.lengths.size), self.lengths)

    @functools.cached_property
    def places(self) -> npt.NDArray[np.int64]:
        """The place of each element in its list, from 0."""
        starts = np.cumsum(self.lengths) - self.lengths
        return np.arange(len(self.elements)) - np.repeat(starts, self.lengths)

    @functools.cached_property
    def numbers(self) -> npt.NDArray[Any]:
        """The elements as int64 (0 where one is missing) or as floats (NaN). Not to be written to."""
        elements = self.elements
        if pa.types.is_floating(elements.type):
            return np.asarray(elements.to_numpy(zero_copy_only=False))
        whole = elements.cast(pa.int64()).fill_null(0)
        return np.asarray(whole.to_numpy())

    @functools.cached_property
    def absent(self) -> npt.NDArray[np.bool_]:
        """Which elements are missing: null, or NaN."""
        if pa.types.is_floating(self.elements.type):
            return np.asarray(np.isnan(self.numbers))
        return np.asarray(self.elements.is_null().to_numpy(zero_copy_only=False))

    @functools.cached_property
    def counts(self) -> npt.NDArray[np.int64]:
        """Elements of each list that are not missing."""
        if not self.absent.any():
            return self.lengths
        return np.bincount(self.rows[~self.absent], minlength=self.lengths.size).astype(np.int64)

    def with_any(self, elements: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Rows that have one of the elements where the mask is true."""
        rows = np.zeros(self.lengths.size, dtype=bool)
        if elements.any():
            rows[self.rows[elements]] = True
        return rows


class ListPadParams(Params):
    """How a list of any length becomes a vector of one length."""

    length: int = Field(ge=1, le=9_999_999, description="Values of the vector.")
    value: int | FiniteFloat = Field(default=0, description="What a shorter list is filled up with.")
    pad: Literal["left", "right"] = Field(default="right", description="The side on which it is filled up.")
    truncate: Literal["left", "right"] = Field(
        default="right", description="The side on which a longer list is cut: `right` keeps its first elements."
    )
    on_missing: Literal["as_missing", "as_empty", "reject"] = Field(
        default="reject",
        description="Where there is no list: no vector (floats only), one that is all filling, or the row is "
        "quarantined.",
    )
    on_missing_element: Literal["as_is", "reject"] | AsNumber = Field(
        default="reject",
        description="Where an element is null or NaN: NaN in the vector (floats only), the row is quarantined, or a "
        "number stands for it.",
    )
    extra: tuple[Literal["mask", "length"], ...] = Field(
        default=(), max_length=2, description="What the names behind the first in `out` are, in their order."
    )

    @model_validator(mode="after")
    def _extra_stands_once(self) -> ListPadParams:
        if len(set(self.extra)) != len(self.extra):
            message = "extra names nothing twice"
            raise ValueError(message)
        return self

    @property
    def numbers(self) -> dict[str, float]:
        """The numbers that it puts into vectors, by the parameter that says so."""
        element = self.on_missing_element
        return {"value": self.value, **({"as_value": element.as_value} if isinstance(element, AsNumber) else {})}


class ListPad(RowStep):
    """A vector of `length` values: the list, filled up with `value` where it is shorter, cut where it is longer. Of
    floats it is float32, each the nearest and beyond its range ±inf; of integers and bools (1 and 0) it is int64. −0.0
    and ±inf are handed on. An empty list is all filling.

    `extra` columns: `mask` is an int64 vector, 1 where the vector has an element of the list (a missing one too) and 0
    where it was filled up, or where there is no list; `length` is the number of elements before a cut, float64, missing
    where there is no list, but 0.0 with `on_missing: as_empty`.
    """  # noqa: D205  the semantics are one sentence

    op: Literal["list_pad"]
    params: ListPadParams
    arity = (1, None)

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """A list of numbers in, a vector out, and what `extra` names."""
        need_list(types, *_NUMBERS)
        if len(self.outputs) != 1 + len(self.params.extra):
            wanted = ", ".join(("the vector", *self.params.extra))
            message = f"makes {wanted}, found {len(self.outputs)} names in `out`"
            raise ValueError(message)
        item = "float32" if types[0].item in {"float32", "float64"} else "int64"
        if item == "int64":
            self._need_whole_numbers()
        width = self.params.length
        made = {"mask": ColumnType("vector", width, "int64"), "length": ColumnType("float64")}
        return (ColumnType("vector", width, item), *(made[name] for name in self.params.extra))

    def truncation(self, output: str) -> tuple[str, int] | None:
        """The vector is cut; `extra: [length]` has what its length was."""
        if output != self.outputs[0] or "length" not in self.params.extra:
            return None
        return self.outputs[1 + self.params.extra.index("length")], self.params.length

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:
        """All elements at once: those that stay are in the order of the places that they take."""
        params, name = self.params, self.inputs[0]
        lists = _Lists(frame.arrow(name))
        self._reject(frame, lists, f"{pointer}/params")
        elements = lists.numbers
        if isinstance(params.on_missing_element, AsNumber):
            elements = np.where(lists.absent, elements.dtype.type(params.on_missing_element.as_value), elements)
        is_taken = self._taken(lists.lengths)
        with np.errstate(over="ignore"):
            vectors = np.full(
                is_taken.shape, params.value, dtype=np.float32 if elements.dtype.kind == "f" else np.int64
            )
            vectors[is_taken] = elements[self._kept(lists)]
        if params.on_missing == "as_missing" and lists.missing.any():
            vectors[lists.missing] = np.nan
            frame.absent[self.outputs[0]] = lists.missing
        made: dict[str, Column] = {"mask": is_taken.astype(np.int64), "length": self._length(lists)}
        return (vectors, *(made[name] for name in params.extra))

    def _need_whole_numbers(self) -> None:
        if self.params.on_missing == "as_missing" or self.params.on_missing_element == "as_is":
            message = "makes integers of this list, which are never missing: choose another on_missing(_element)"
            raise ValueError(message)
        low, high = INTEGER_BOUNDS["int64"]
        for key, number in self.params.numbers.items():
            if number != int(number) or not low <= number <= high:
                message = f"makes integers of this list, found {key} {number!r}"
                raise ValueError(message)

    def _reject(self, frame: Frame, lists: _Lists, pointer: str) -> None:
        name = self.inputs[0]
        if self.params.on_missing == "reject":
            rule, message = f"{pointer}/on_missing", f"{name} has no list"
            frame.reject(lists.missing, code="MISSING", pointer=rule, column=name, message=message)
        if self.params.on_missing_element == "reject":
            rule, message = f"{pointer}/on_missing_element", f"{name} has a list with a missing element"
            frame.reject(lists.with_any(lists.absent), code="MISSING", pointer=rule, column=name, message=message)

    def _taken(self, lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Places of the vectors that elements take, shape (rows, length)."""
        kept = np.minimum(lengths, self.params.length)[:, None]
        places = np.arange(self.params.length)
        return np.asarray(places < kept if self.params.pad == "right" else places >= self.params.length - kept)

    def _kept(self, lists: _Lists) -> npt.NDArray[np.bool_] | slice:
        """Elements that are not cut off."""
        length = self.params.length
        if not lists.lengths.size or lists.lengths.max() <= length:
            return slice(None)
        if self.params.truncate == "right":
            return lists.places < length
        return lists.places >= np.repeat(lists.lengths - length, lists.lengths)

    def _length(self, lists: _Lists) -> npt.NDArray[np.float64]:
        lengths = lists.lengths.astype(np.float64)
        if self.params.on_missing != "as_empty":
            lengths[lists.missing] = np.nan
        return lengths


class ListSliceParams(Params):
    """Which elements stay, as in a slice of Python."""

    start: int = Field(
        default=0, ge=-(2**63), lt=2**63, description="The first that stays; negative ones count from the end."
    )
    stop: int | None = Field(
        default=None,
        ge=-(2**63),
        lt=2**63,
        description="The first that stays no longer; negative ones count from the end. Default: none.",
    )

    @model_validator(mode="after")
    def _is_a_part(self) -> ListSliceParams:
        if self.start == 0 and self.stop is None:
            message = "give start, stop or both"
            raise ValueError(message)
        return self


class ListSlice(RowStep):
    """The elements from `start` to before `stop`, in a list of the same type: `[-3:]` are the last three. A list that
    has fewer gives what it has, perhaps an empty list. Missing elements count and stay; a missing list stays missing.
    """  # noqa: D205  the semantics are one sentence

    op: Literal["list_slice"]
    params: ListSliceParams

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """A list in, a list of the same type out."""
        need_list(types)
        return types

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """One mask over all elements."""
        lists = _Lists(frame.arrow(self.inputs[0]))
        first = self._bound(lists.lengths, self.params.start)
        last = lists.lengths if self.params.stop is None else self._bound(lists.lengths, self.params.stop)
        lengths, places = np.maximum(last - first, 0), lists.places
        stays = (places >= np.repeat(first, lists.lengths)) & (places < np.repeat(last, lists.lengths))
        offsets: Any = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
        mask: Any = pa.array(lists.missing)
        return (pa.ListArray.from_arrays(offsets, lists.elements.filter(pa.array(stays)), mask=mask),)

    @staticmethod
    def _bound(lengths: npt.NDArray[np.int64], place: int) -> npt.NDArray[np.int64]:
        return np.minimum(lengths, place) if place >= 0 else np.maximum(lengths + place, 0)


class ListStatParams(Params):
    """What is said of a list."""

    stat: Literal["sum", "mean", "min", "max", "len"] = Field(description="What is computed.")
    missing_elements: Literal["as_missing", "skip", "reject"] = Field(
        default="as_missing",
        description="Where an element is null or NaN: the result is missing (len counts it all the same), the element "
        "does not count, or the row is quarantined.",
    )


class ListStat(RowStep):
    """A number for each list or vector, in float64. The sum is that of the elements added one by one from the first to
    the last, the mean is the sum ÷ the number of elements; a least or largest zero is 0.0, whatever its sign. ±inf are
    numbers (∞ − ∞ is missing), bools are 1 and 0. Of an empty list the sum is 0.0, the length 0.0, and the others are
    missing; a missing list gives missing, and so does a vector that is missing, all of whose elements are. A row with
    an integer beyond ±2^53 is rejected, except by len.
    """  # noqa: D205  the semantics are one sentence

    op: Literal["list_stat"]
    params: ListStatParams

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """A list of numbers in, of anything for len, or a vector, and float64 out."""
        if types[0].kind != "vector":
            need_list(types, *(() if self.params.stat == "len" else _NUMBERS))
        return (ColumnType("float64"),)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:
        """By sums and reductions over all elements at once."""
        name, rule = self.inputs[0], self.params.missing_elements
        lists = _Lists(frame.arrow(name))
        if isinstance(vectors := frame[name], np.ndarray) and vectors.dtype.kind == "f":
            lists.missing = lists.missing | np.isnan(vectors).all(axis=1)
        holed = lists.with_any(lists.absent) & ~lists.missing
        if rule == "reject":
            place, message = f"{pointer}/params/missing_elements", f"{name} has a list with a missing element"
            frame.reject(holed, code="MISSING", pointer=place, column=name, message=message)
        if self.params.stat == "len":
            result = (lists.counts if rule == "skip" else lists.lengths).astype(np.float64)
        else:
            self._reject_inexact(frame, lists)
            result = _stat(lists, self.params.stat)
            result[holed & (rule != "skip")] = np.nan
        result[lists.missing] = np.nan
        return (result,)

    def _reject_inexact(self, frame: Frame, lists: _Lists) -> None:
        numbers = lists.numbers
        if numbers.dtype.kind == "i":
            beyond = (numbers < -EXACT_INTEGERS) | (numbers > EXACT_INTEGERS)
            name = self.inputs[0]
            message = f"{name} has an integer beyond ±2^53, which float64 cannot hold exactly"
            rows = lists.with_any(beyond)
            frame.reject(rows, code="INEXACT", pointer="/semantics/profile", column=name, message=message)


def _stat(lists: _Lists, stat: str) -> npt.NDArray[np.float64]:
    """Of the elements that are there; missing where there is none."""
    values, counts, rows = lists.numbers.astype(np.float64, copy=False), lists.counts, lists.rows
    if lists.absent.any():
        values, rows = values[~lists.absent], rows[~lists.absent]
    if stat in {"sum", "mean"}:
        # It adds one by one, so that no vector unit and no neighbour changes a bit.
        result = np.bincount(rows, values, counts.size).astype(np.float64)
        with np.errstate(all="ignore"):
            return result / counts if stat == "mean" else result
    result = np.full(counts.size, np.nan)
    starts = (np.cumsum(counts) - counts)[counts > 0]
    if starts.size:
        reduce = np.minimum if stat == "min" else np.maximum
        result[counts > 0] = reduce.reduceat(values, starts) + 0.0
    return result


ListStep: TypeAlias = ListPad | ListSlice | ListStat
