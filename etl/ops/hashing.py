"""Hashes as ids: XXH64 with seed 42, read as a signed number, which is Spark's `xxhash64`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from pydantic import Field

from etl.documents import Strict
from etl.ops.base import Params, RowStep
from etl.ops.time import integers_of
from etl.types import ColumnType, kernels
from etl.xxh64 import buckets_of, hash_integers, hash_texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from etl.frame import Column, Frame
    from etl.types import ArrowArray

__all__ = [
    "AsId",
    "HashBucket",
    "HashBucketParams",
    "HashId",
    "HashedCross",
    "HashedCrossParams",
    "HashingStep",
]

_ABSENT = "-"
"""Stands for a missing value among texts with their length before them, of which none begins so."""

Buckets = Annotated[int, Field(ge=1, le=2**31 - 1, description="How many buckets; ids run from 0 to one less.")]


class AsId(Strict):
    """Replace the value by an id."""

    as_value: int = Field(ge=0, le=2**63 - 1, description="The id.")


class HashBucketParams(Params):
    """How many buckets, and what a missing value gets."""

    buckets: Buckets
    missing: Literal["as_missing", "reject"] | AsId = Field(
        default="as_missing", description="Missing, the row is quarantined, or an id, such as one behind all buckets."
    )


class HashBucket(RowStep):
    """An int64 id from 0 to `buckets` − 1: pmod(h, `buckets`), where h is the XXH64 with seed 42 of the text's UTF-8
    bytes, or of the integer as 8 little-endian bytes, read as a signed number. In Spark SQL `pmod(xxhash64(x),
    buckets)`, with an integer cast to BIGINT. Empty text is a text. Missing gets what `missing` says.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["hash_bucket"]
    params: HashBucketParams

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """String, int32 or int64 in, int64 out."""
        _need_hashable(types)
        return (ColumnType("int64"),)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:
        """One hash a row, or a distinct text."""
        name, column = self.inputs[0], frame.arrow(self.inputs[0])
        hashes = hash_texts(column) if pa.types.is_string(column.type) else hash_integers(integers_of(column))
        ids = buckets_of(hashes, self.params.buckets)
        if self.params.missing == "reject":
            _reject_missing(frame, name, pointer)
        return (_without_missing(ids, frame.missing(name), self.params.missing),)


class HashedCrossParams(Params):
    """How many buckets, and what a row gets in which a value is missing."""

    buckets: Buckets
    missing: Literal["as_category", "as_missing", "reject"] | AsId = Field(
        default="as_missing",
        description="Missing is a value like any other, or makes the result missing, or the row is quarantined, or "
        "gets an id, such as one behind all buckets.",
    )


class HashedCross(RowStep):
    """An int64 id from 0 to `buckets` − 1 of the values of several columns together: pmod(h, `buckets`), where h is the
    XXH64 with seed 42, read as a signed number, of the UTF-8 bytes of one text. That text is, for each column in the
    order of `in`, the length of the value's own text in bytes, in decimal digits, a colon, and the value's text: so
    `("a", "bc")` and `("ab", "c")` differ. The text of an integer is its decimal digits, with a minus before negative
    ones.

    In Spark SQL `pmod(xxhash64(concat(octet_length(a), ':', a, octet_length(b), ':', b)), buckets)`. Empty text is a
    text. Where a value is missing, `missing` says what the row gets; with `as_category` a missing value is written as
    `-` in place of length, colon and text.
    """  # noqa: D205  the formula is one sentence

    op: Literal["hashed_cross"]
    params: HashedCrossParams
    arity = (None, 1)

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """Two or more columns of string, int32 or int64 in, int64 out."""
        if len(types) < 2:  # noqa: PLR2004  a cross
            message = "takes two columns or more, found one; hash_bucket takes one"
            raise ValueError(message)
        _need_hashable(types)
        return (ColumnType("int64"),)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:
        """The columns' texts are joined by kernels, then hashed."""
        hashes = hash_texts(_joined([frame.arrow(name) for name in self.inputs]))
        ids, missing = buckets_of(hashes, self.params.buckets), self.params.missing
        if missing == "as_category":
            return (ids,)
        if missing == "reject":
            for name in self.inputs:
                _reject_missing(frame, name, pointer)
        return (_without_missing(ids, np.any([frame.missing(name) for name in self.inputs], axis=0), missing),)


class HashId(RowStep):
    """An int64 that stands for the values of the columns: the XXH64 with seed 42, read as a signed number, of one text:
    for each column in the order of `in`, the length of the value's own text in bytes, in decimal digits, a colon, and
    the value's text; `-` in place of all three where the value is missing. The text of an integer is its decimal
    digits, with a minus before negative ones.

    Equal rows have equal ids, in any file, batch or order. Among k different rows two have one id with a probability of
    about k² ÷ 2^65. It is never missing. In Spark SQL `xxhash64(concat(coalesce(concat(octet_length(a), ':', a), '-'),
    coalesce(concat(octet_length(b), ':', b), '-')))`.
    """  # noqa: D205  the formula is one sentence

    op: Literal["hash_id"]
    arity = (None, 1)

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """Columns of string, int32 or int64 in, int64 out."""
        _need_hashable(types)
        return (ColumnType("int64"),)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """The columns' texts are joined by kernels, then hashed."""
        return (hash_texts(_joined([frame.arrow(name) for name in self.inputs])).view(np.int64),)


def _need_hashable(types: tuple[ColumnType, ...]) -> None:
    """Refuse what has no canonical bytes: a float has several texts, a date none that all engines share."""
    for found in types:
        if found.kind != "string" and not found.is_integer:
            message = f"takes string, int32 or int64, found {found}; cast it first"
            raise ValueError(message)


def _joined(columns: Sequence[ArrowArray]) -> ArrowArray:
    """One text a row, never null; what it is stands at `HashId`."""
    parts = []
    for column in columns:
        texts = column if pa.types.is_string(column.type) else column.cast(pa.string())
        lengths = kernels.binary_length(texts).cast(pa.string())
        part = kernels.binary_join_element_wise(lengths, texts, ":")
        parts.append(part.fill_null(_ABSENT) if part.null_count else part)
    return kernels.binary_join_element_wise(*parts, "")


def _reject_missing(frame: Frame, name: str, pointer: str) -> None:
    rule, message = f"{pointer}/params/missing", f"{name} has no value"
    frame.reject(frame.missing(name), code="MISSING", pointer=rule, column=name, message=message)


def _without_missing(
    ids: npt.NDArray[np.int64], missing: npt.NDArray[np.bool_], instead: Literal["as_missing", "reject"] | AsId
) -> Column:
    """The ids, with null, or an id, where a value is missing."""
    if isinstance(instead, AsId):
        ids[missing] = instead.as_value
        return ids
    return pa.array(ids, mask=missing) if missing.any() else ids


HashingStep: TypeAlias = HashBucket | HashedCross | HashId
