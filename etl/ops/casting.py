"""The conversions of `cast`, by whole columns. What they mean is said at `etl.ops.columns.Cast`.

Each takes a frame and a column's name, and gives the column in its new type with null (or NaN) where there is no value,
and the rows whose value has no counterpart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from etl.frame import EXACT_INTEGERS, Frame
from etl.ops.time import DAY_MICROSECONDS, integers_of
from etl.types import INTEGER_BOUNDS, SCALARS, ArrowArray, kernels

if TYPE_CHECKING:
    from collections.abc import Callable

    from etl.frame import Column

__all__ = ["CASTS"]

Mask: TypeAlias = npt.NDArray[np.bool_]
Cast: TypeAlias = "Callable[[Frame, str], tuple[Column, Mask]]"

_FLOATS = ("float32", "float64")
_INTEGERS = ("bool", "int32", "int64")

_NUMBER = r"^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$"
_WHOLE = r"^[+-]?[0-9]+$"
_DATE = (
    r"(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    r"|02-(?:0[1-9]|1[0-9]|2[0-8]))"
    r"|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)"
)
_ZONE = r"(?:Z|[+-](?:0[0-9]|1[0-4]):[0-5][0-9])"
_TIME = r"[T ](?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]+)?)?"
_TIMESTAMP = rf"^{_DATE}(?:{_TIME}{_ZONE}?)?$"

_LONGEST_INT64 = len(str(2**63))


def _unchanged(frame: Frame, name: str) -> tuple[Column, Mask]:
    return frame[name], np.zeros(frame.rows, dtype=bool)


def _numbers_of(frame: Frame, name: str) -> tuple[npt.NDArray[np.int64], Mask]:
    """A bool or integer column as int64, and which rows have none."""
    column = frame.arrow(name)
    return integers_of(column.cast(pa.int64())), frame.missing(name)


def _integer_to_integer(to: str) -> Cast:
    def cast(frame: Frame, name: str) -> tuple[Column, Mask]:
        values, missing = _numbers_of(frame, name)
        low, high = INTEGER_BOUNDS[to]
        failed = ((values < low) | (values > high)) & ~missing
        values = np.where(failed, 0, values).astype(to)
        return pa.array(values, SCALARS[to], mask=missing | failed), failed

    return cast


def _integer_to_float(to: str) -> Cast:
    def cast(frame: Frame, name: str) -> tuple[Column, Mask]:
        values, missing = _numbers_of(frame, name)
        failed = ((values < -EXACT_INTEGERS) | (values > EXACT_INTEGERS)) & ~missing
        floats = values.astype(np.float64)
        floats[missing | failed] = np.nan
        return floats.astype(to, copy=False), failed

    return cast


def _number_to_bool(frame: Frame, name: str) -> tuple[Column, Mask]:
    values = frame.float64(name) if frame.kind(name) in _FLOATS else _numbers_of(frame, name)[0]
    missing = frame.missing(name)
    failed = (values != 0) & (values != 1) & ~missing
    return pa.array(values == 1, pa.bool_(), mask=missing | failed), failed


def _integer_to_text(frame: Frame, name: str) -> tuple[Column, Mask]:
    return frame.arrow(name).cast(pa.string()), np.zeros(frame.rows, dtype=bool)


def _float_to_float64(frame: Frame, name: str) -> tuple[Column, Mask]:
    return frame.float64(name), np.zeros(frame.rows, dtype=bool)


def _float_to_float32(frame: Frame, name: str) -> tuple[Column, Mask]:
    return _narrowed(frame.float64(name))


def _narrowed(values: npt.NDArray[np.float64]) -> tuple[Column, Mask]:
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    failed = np.isinf(narrow) & np.isfinite(values)
    narrow[failed] = np.nan
    return narrow, failed


def _float_to_integer(to: str) -> Cast:
    def cast(frame: Frame, name: str) -> tuple[Column, Mask]:
        values, missing = frame.float64(name), frame.missing(name)
        low, high = INTEGER_BOUNDS[to]
        # −2^63 and 2^63 are floats, 2^63 − 1 is not: the upper bound is the one that is excluded.
        whole = (values >= low) & (values < high + 1) & (np.trunc(values) == values)
        integers = np.where(whole, values, 0).astype(to)
        return pa.array(integers, SCALARS[to], mask=~whole), ~whole & ~missing

    return cast


def _float_to_text(frame: Frame, name: str) -> tuple[Column, Mask]:
    values, missing = frame.float64(name), frame.missing(name)
    finite = np.isfinite(values)
    whole = finite & (np.trunc(values) == values) & (np.abs(values) < EXACT_INTEGERS)
    plain = pa.array(np.where(whole, values, 0).astype(np.int64), mask=~whole).cast(pa.string())
    own = values.astype(frame.kind(name), copy=False)
    shortest = pa.array(own, mask=~finite).cast(pa.string())
    return kernels.if_else(pa.array(whole), plain, shortest), ~finite & ~missing


def _trimmed(frame: Frame, name: str) -> tuple[ArrowArray, Mask]:
    column = frame.arrow(name)
    return kernels.utf8_trim(column, characters=" "), frame.missing(name)


def _matches(texts: ArrowArray, pattern: str) -> Mask:
    """Where a text matches; false for null."""
    found = kernels.match_substring_regex(texts, pattern=pattern)
    matches: Mask = found.fill_null(False).to_numpy(zero_copy_only=False)  # noqa: FBT003  pyarrow's own
    return matches


def _where(mask: Mask, texts: ArrowArray) -> ArrowArray:
    """The texts where the mask is true, else null."""
    return kernels.if_else(pa.array(mask), texts, pa.scalar(None, texts.type))


def _parsed(frame: Frame, name: str) -> tuple[npt.NDArray[np.float64], Mask]:
    texts, missing = _trimmed(frame, name)
    numbers = _matches(texts, _NUMBER)
    values = _where(numbers, texts).cast(pa.float64()).to_numpy(zero_copy_only=False)
    failed = (~numbers | np.isinf(values)) & ~missing
    return np.where(failed, np.nan, values), failed


def _text_to_float32(frame: Frame, name: str) -> tuple[Column, Mask]:
    values, failed = _parsed(frame, name)
    narrow, beyond = _narrowed(values)
    return narrow, failed | beyond


def _text_to_integer(to: str) -> Cast:
    def cast(frame: Frame, name: str) -> tuple[Column, Mask]:
        texts, missing = _trimmed(frame, name)
        whole = _matches(texts, _WHOLE)
        held = whole & _is_int64(texts)
        plain = kernels.utf8_ltrim(_where(held, texts), characters="+").cast(pa.int64())
        values = np.full(frame.rows, np.nan) if (whole | missing).all() else _parsed(frame, name)[0]
        exact = ~whole & (np.abs(values) < EXACT_INTEGERS) & (np.trunc(values) == values)
        integers = np.where(exact, np.where(exact, values, 0).astype(np.int64), plain.fill_null(0).to_numpy())
        low, high = INTEGER_BOUNDS[to]
        good = (held | exact) & (integers >= low) & (integers <= high)
        return pa.array(np.where(good, integers, 0).astype(to), SCALARS[to], mask=~good), ~good & ~missing

    return cast


def _is_int64(texts: ArrowArray) -> Mask:
    """Which of the texts, each a sign and digits, are within int64: by length, then as text, which orders digits."""
    digits = kernels.utf8_ltrim(kernels.utf8_ltrim(texts, characters="+-"), characters="0")
    length: npt.NDArray[np.int32] = kernels.binary_length(digits).fill_null(0).to_numpy()
    limit = kernels.if_else(kernels.starts_with(texts, pattern="-"), pa.scalar(str(2**63)), pa.scalar(str(2**63 - 1)))
    within: Mask = kernels.less_equal(digits, limit).fill_null(False).to_numpy(zero_copy_only=False)  # noqa: FBT003  pyarrow's own
    held: Mask = (length < _LONGEST_INT64) | ((length == _LONGEST_INT64) & within)
    return held


def _text_to_bool(frame: Frame, name: str) -> tuple[Column, Mask]:
    texts, missing = _trimmed(frame, name)
    lower = kernels.ascii_lower(texts)
    true = kernels.is_in(lower, value_set=pa.array(["true", "1"])).to_numpy(zero_copy_only=False)
    false = kernels.is_in(lower, value_set=pa.array(["false", "0"])).to_numpy(zero_copy_only=False)
    return pa.array(true, mask=~(true | false)), ~(true | false) & ~missing


def _dated(texts: ArrowArray, pattern: str) -> Mask:
    return _matches(texts, pattern) & ~_matches(texts, "^0000")


def _text_to_date(frame: Frame, name: str) -> tuple[Column, Mask]:
    texts, missing = _trimmed(frame, name)
    good = _dated(texts, f"^{_DATE}$")
    return _where(good, texts).cast(pa.date32()), ~good & ~missing


def _text_to_timestamp(frame: Frame, name: str) -> tuple[Column, Mask]:
    texts, missing = _trimmed(frame, name)
    good = _dated(texts, _TIMESTAMP)
    zoned = good & _matches(texts, rf"{_TIME}{_ZONE}$")
    texts = kernels.replace_substring_regex(texts, pattern=r"(\.[0-9]{6})[0-9]+", replacement=r"\1")
    instants = kernels.coalesce(
        _where(zoned, texts).cast(pa.timestamp("us", "UTC")),
        _where(good & ~zoned, texts).cast(pa.timestamp("us")).view(pa.timestamp("us", "UTC")),
    )
    return instants, ~good & ~missing


def _date_to_timestamp(frame: Frame, name: str) -> tuple[Column, Mask]:
    days, missing = integers_of(frame.arrow(name)), frame.missing(name)
    failed = (np.abs(days) > 2**63 // DAY_MICROSECONDS) & ~missing
    micros = np.where(failed, 0, days) * DAY_MICROSECONDS
    return pa.array(micros, mask=missing | failed).view(SCALARS["timestamp"]), failed


def _timestamp_to_date(frame: Frame, name: str) -> tuple[Column, Mask]:
    days = (integers_of(frame.arrow(name)) // DAY_MICROSECONDS).astype(np.int32)
    return pa.array(days, mask=frame.missing(name)).view(pa.date32()), np.zeros(frame.rows, dtype=bool)


def _viewed(to: str) -> Cast:
    def cast(frame: Frame, name: str) -> tuple[Column, Mask]:
        return frame.arrow(name).view(SCALARS[to]), np.zeros(frame.rows, dtype=bool)

    return cast


CASTS: dict[tuple[str, str], Cast] = {
    **{(kind, kind): _unchanged for kind in SCALARS},
    **{(source, to): _integer_to_integer(to) for source in _INTEGERS for to in INTEGER_BOUNDS if source != to},
    **{(source, to): _integer_to_float(to) for source in _INTEGERS for to in _FLOATS},
    **{(source, "bool"): _number_to_bool for source in ("int32", "int64", *_FLOATS)},
    **{(source, "string"): _integer_to_text for source in _INTEGERS},
    ("float32", "float64"): _float_to_float64,
    ("float64", "float32"): _float_to_float32,
    **{(source, to): _float_to_integer(to) for source in _FLOATS for to in INTEGER_BOUNDS},
    **{(source, "string"): _float_to_text for source in _FLOATS},
    ("string", "bool"): _text_to_bool,
    **{("string", to): _text_to_integer(to) for to in INTEGER_BOUNDS},
    ("string", "float32"): _text_to_float32,
    ("string", "float64"): _parsed,
    ("string", "date"): _text_to_date,
    ("string", "timestamp"): _text_to_timestamp,
    ("date", "timestamp"): _date_to_timestamp,
    ("timestamp", "date"): _timestamp_to_date,
    ("timestamp", "int64"): _viewed("int64"),
    ("int64", "timestamp"): _viewed("timestamp"),
}
"""The conversion from one kind to another, where there is one."""
