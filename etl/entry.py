"""One column on its way through the contract into a frame: read as its type, checked, and treated.

A batch without a violation pays for no mask: least and largest value, or length, are looked at first.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from etl.errors import ContractError
from etl.frame import EXACT_INTEGERS, Frame, RejectionCode
from etl.patterns import matches
from etl.printable import counted
from etl.tensors import faults_inside, matrix_of
from etl.treatments import AsValue, Flag
from etl.types import (
    INTEGER_BOUNDS,
    UNSIGNED,
    ColumnType,
    decoded,
    held,
    joined,
    kernels,
    one_chunk,
    parts_of,
    rows_with,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from etl.contract import InputField
    from etl.frame import Column
    from etl.treatments import OutlierTreatment, Range
    from etl.types import ArrowArray

__all__ = ["Entry", "Violation", "read"]

_CODE_POINT_BYTES = 4
"""At most, in UTF-8."""

_LEAVING = {"as_is", "as_missing"}
"""Treatments that leave a missing value as it is."""


class Violation(NamedTuple):
    """Rows that break one rule."""

    rows: npt.NDArray[np.bool_]
    code: RejectionCode
    rule: str
    """Key of the field that states the rule."""
    reason: str
    """What is wrong, to be put behind the column's name."""


class Entry:
    """One column on its way into a frame."""

    def __init__(self, frame: Frame, field: InputField, pointer: str, *, where: str) -> None:
        """`pointer` is the field's place in the spec, `where` names the batch in errors."""
        self._frame = frame
        self._field = field
        self._pointer = pointer
        self._where = where
        self._flags = {name: np.zeros(frame.rows, dtype=bool) for name in field.flags}

    def take(self, column: ArrowArray) -> None:
        """Write the column and its flags into the frame."""
        is_vector = self._field.type.kind == "vector"
        self._frame[self._field.name] = self._vector(column) if is_vector else self._treated(column)
        for name, rows in self._flags.items():
            self._frame[name] = pa.array(rows)

    def _treated(self, column: ArrowArray) -> ArrowArray:
        """Cast, then treat what is missing, then what is invalid, then outliers."""
        field = self._field
        column, unheld = read(column, field.type)
        for violation in unheld:
            is_kept = field.on_invalid != "as_is" or violation.code == "INEXACT"
            column = self._treat(column, violation, field.on_invalid if is_kept else "reject")
        column = self._treat_missing(column)
        found: list[tuple[Violation, OutlierTreatment]]
        found = [(violation, field.on_invalid) for violation in _violations(column, field)]
        column = self._treat_all(column, found, "on_invalid")
        if field.outlier is not None:
            found = []
            for rows, edge, side in _beyond(column, field.outlier.range):
                violation = Violation(rows, "OUTLIER", "outlier", f"is an outlier: it {side}")
                found.append((violation, _at(edge, field.on_outlier, column.type)))
            column = self._treat_all(column, found, "on_outlier")
        return column

    def _treat_all(
        self, column: ArrowArray, found: Sequence[tuple[Violation, OutlierTreatment]], key: str
    ) -> ArrowArray:
        """Treat violations, and then what that made missing; `key` says which treatment it was."""
        for violation, treatment in found:
            column = self._treat(column, violation, treatment)
        made = [violation.rows for violation, treatment in found if treatment == "as_missing"]
        if not made or self._field.missing_treatment in _LEAVING:
            return column
        reason = f"has no value, since {key} makes it missing"
        violation = Violation(np.logical_or.reduce(made), "MISSING", "on_missing", reason)
        return self._treat(column, violation, self._field.missing_treatment)

    def _vector(self, column: ArrowArray) -> Column:
        """Treat broken vectors as invalid and null ones as missing; both are rows of NaN, or of zeros, and stay so."""
        column = one_chunk(column)
        width, item = self._field.type.width, self._field.type.item
        on_invalid = self._field.on_invalid
        matrix, broken = matrix_of(column, width, item)
        missing: npt.NDArray[np.bool_] = column.is_null().to_numpy(zero_copy_only=False)
        absent = missing | broken
        if absent.any():
            self._frame.absent[self._field.name] = absent
        has_null, is_beyond = faults_inside(column, width, item, broken=broken)
        for violation in (
            Violation(broken & ~has_null & ~is_beyond, "WRONG_LENGTH", "type", f"does not have {width} values"),
            Violation(has_null, "WRONG_LENGTH", "type", f"has a null among its {width} values"),
            Violation(is_beyond, "OUT_OF_RANGE", "type", f"has a value that {item} cannot hold"),
        ):
            self._settle(violation, "reject" if on_invalid == "as_is" else on_invalid)
        without = absent if on_invalid == "as_missing" or isinstance(on_invalid, Flag) else missing
        self._settle(Violation(without, "MISSING", "on_missing", "has no value"), self._field.missing_treatment)
        return matrix

    def _treat_missing(self, column: ArrowArray) -> ArrowArray:
        treatment = self._field.missing_treatment
        if treatment in _LEAVING:
            return column
        if self._field.type.is_float and not self._field.nan_is_value:
            values = column.to_numpy(zero_copy_only=False)
            # NaN is the least of values that hold one: a batch without needs no mask.
            if not values.size or not np.isnan(values.min()):
                return column
            rows = np.isnan(values)
        elif column.null_count:
            rows = column.is_null().to_numpy(zero_copy_only=False)
        else:
            return column
        return self._treat(column, Violation(rows, "MISSING", "on_missing", "has no value"), treatment)

    def _treat(self, column: ArrowArray, violation: Violation, treatment: OutlierTreatment) -> ArrowArray:
        if self._settle(violation, treatment):
            return column
        value: Any = treatment.as_value if isinstance(treatment, AsValue) else None
        if isinstance(value, int) and pa.types.is_floating(column.type):
            value = float(value)  # Arrow refuses an integer beyond ±2^53 where a float is wanted
        return kernels.if_else(pa.array(violation.rows), pa.scalar(value, column.type), column)

    def _settle(self, violation: Violation, treatment: OutlierTreatment) -> bool:
        """Keep, flag, reject or fail; False where there are values to be replaced."""
        if treatment == "as_is" or not violation.rows.any():
            return True
        name, rule = self._field.name, f"{self._pointer}/{violation.rule}"
        if isinstance(treatment, Flag):
            self._flags[treatment.flag] |= violation.rows
            return True
        if treatment == "reject":
            message = f"{name} {violation.reason}"
            self._frame.reject(violation.rows, code=violation.code, pointer=rule, column=name, message=message)
            return True
        if treatment == "fail":
            self._fail(violation, rule)
            return True
        return False

    def _fail(self, violation: Violation, rule: str) -> None:
        rows = violation.rows & ~self._frame.gone
        if rows.any():
            found = f"column {self._field.name!r} {violation.reason}"
            row = int(np.argmax(rows))
            first = f"in {counted(int(rows.sum()), 'row')} of the batch, the first at {row}"
            raise ContractError.at(row, f"{self._where}: {found} {first}; the contract says fail at {rule}.")


def read(column: ArrowArray, wanted: ColumnType) -> tuple[ArrowArray, list[Violation]]:
    """A column of a readable type, but a vector, in its canonical type; and the rows whose value the type cannot hold.

    Such a value is null, a list or struct with such a part too; an integer that float64 cannot hold exactly is rounded.
    """
    column = one_chunk(column)
    if wanted.is_scalar or pa.types.is_null(column.type):
        return _read_scalars(column, wanted)
    parts: list[ArrowArray] = []
    unheld: list[Violation] = []
    is_as_found = column.type == wanted.arrow
    names = [f"a subfield {name}" for name, _ in wanted.fields] or ["an element"]
    for name, (part, kind) in zip(names, parts_of(column, wanted), strict=True):
        values, broken = read(part, kind)
        parts.append(values)
        is_as_found &= values is part
        for violation in broken:
            rows, reason = rows_with(column, wanted, violation.rows), f"has {name} that {violation.reason}"
            unheld.append(violation._replace(rows=rows, reason=reason))
    if not unheld and is_as_found:
        return column, []
    absent = np.zeros(len(column), dtype=bool)
    for violation in unheld:
        absent |= violation.rows & (violation.code != "INEXACT")
    return joined(column, wanted, parts, absent=absent), unheld


def _read_scalars(column: ArrowArray, wanted: ColumnType) -> tuple[ArrowArray, list[Violation]]:
    unheld: list[Violation] = []
    if wanted.kind == "string":
        column, rows = _without_broken_text(column)
        if rows is not None:
            unheld = [Violation(rows, "NOT_UTF8", "type", "is not UTF-8")]
    elif wanted.kind == "float64":
        column, rows = _rounded(column)
        if rows is not None:
            unheld = [Violation(rows, "INEXACT", "type", "is an integer beyond ±2^53")]
    column, rows = held(column, wanted)
    if rows is not None:
        unheld = [Violation(rows, "OUT_OF_RANGE", "type", f"is a value that {wanted} cannot hold")]
    return (_quietened(column) if wanted.is_float else column), unheld


def _quietened(column: ArrowArray) -> ArrowArray:
    """Floats without a signalling NaN, of which arithmetic says that it is invalid; without a copy where there is none.

    Looked at where they lie, nulls too: what is there for a null does not matter.
    """
    if not len(column):
        return column
    width = column.type.bit_width // 8
    bits = np.frombuffer(column.buffers()[1], f"i{width}", len(column), column.offset * width)
    values = bits.view(f"f{width}")
    # NaN is the least of values that hold one.
    if not np.isnan(values.min()):
        return column
    signalling = _present(column, np.isnan(values) & (bits & _QUIET[width] == 0))
    if not signalling.any():
        return column
    return kernels.if_else(pa.array(signalling), pa.scalar(math.nan, column.type), column)


_QUIET = {4: 1 << 22, 8: 1 << 51}
"""The bit that a NaN has which signals nothing, by its bytes."""


def _violations(column: ArrowArray, field: InputField) -> Iterator[Violation]:
    """What is invalid, rule by rule."""
    if field.range is not None:
        for rows, _, side in _beyond(column, field.range):
            yield Violation(rows, "OUT_OF_RANGE", "range", side)
    if field.allowed is not None:
        known = kernels.is_in(column, value_set=pa.array(field.allowed, field.type.arrow))
        yield Violation(_present_without(column, known), "NOT_ALLOWED", "allowed", "is not one of the allowed values")
    if field.pattern is not None:
        matching: ArrowArray = pa.array(matches(column, field.pattern))
        yield Violation(_present_without(column, matching), "PATTERN", "pattern", "does not match the pattern")
    if field.min_length is not None or field.max_length is not None:
        yield from _misfitting_lengths(column, field)


def _present_without(column: ArrowArray, fine: ArrowArray) -> npt.NDArray[np.bool_]:
    rows: npt.NDArray[np.bool_] = kernels.and_not(kernels.is_valid(column), fine).to_numpy(zero_copy_only=False)
    return rows


def _misfitting_lengths(column: ArrowArray, field: InputField) -> Iterator[Violation]:
    is_text = field.type.kind == "string"
    what = "characters" if is_text else "elements"
    # No text has more code points than bytes, nor fewer than a quarter; bytes are known without reading the text.
    sizes = kernels.min_max(kernels.binary_length(column) if is_text else kernels.list_value_length(column)).as_py()
    if sizes["min"] is None:
        return
    least, most = field.min_length or 0, math.inf if field.max_length is None else field.max_length
    sure = least * _CODE_POINT_BYTES if is_text and least > 1 else least
    if sizes["min"] >= sure and sizes["max"] <= most:
        return
    lengths = kernels.utf8_length(column) if is_text else kernels.list_value_length(column)
    # A null breaks no rule: `least` is within them.
    numbers = lengths.fill_null(least).to_numpy()
    yield Violation(numbers < least, "WRONG_LENGTH", "min_length", f"has fewer than {least} {what}")
    yield Violation(numbers > most, "TOO_LONG", "max_length", f"has more than {most} {what}")


def _beyond(column: ArrowArray, valid: Range) -> Iterator[tuple[npt.NDArray[np.bool_], float, str]]:
    """Rows below and above a range, each with its bound and what is wrong; NaN is in every range."""
    if len(column) == column.null_count:
        return
    values = _numbers(column, valid)
    low, high = valid.min, valid.max
    # As numbers of Python, which compare exactly; numpy would round the bound to float32 (NEP 50). These leave out NaN.
    least, most = np.fmin.reduce(values).item(), np.fmax.reduce(values).item()
    if low is not None and not (least >= low if valid.holds_min else least > low):
        if valid.holds_min:
            yield _present(column, values < _bound(values, math.ceil, low)), low, f"is below {low!r}"
        else:
            yield _present(column, values <= _bound(values, math.floor, low)), low, f"is not above {low!r}"
    if high is not None and not (most <= high if valid.holds_max else most < high):
        if valid.holds_max:
            yield _present(column, values > _bound(values, math.floor, high)), high, f"is above {high!r}"
        else:
            yield _present(column, values >= _bound(values, math.ceil, high)), high, f"is not below {high!r}"


def _numbers(column: ArrowArray, valid: Range) -> npt.NDArray[Any]:
    """The values: a null float is NaN, a null integer a valid one where there is one, so that it costs no mask."""
    if pa.types.is_floating(column.type) or not column.null_count:
        return np.asarray(column.to_numpy(zero_copy_only=False))
    if valid.min is not None:
        filler = math.ceil(valid.min) if valid.holds_min else math.floor(valid.min) + 1
    else:
        edge = valid.max or 0.0
        filler = math.floor(edge) if valid.holds_max else math.ceil(edge) - 1
    lowest, highest = INTEGER_BOUNDS[str(column.type)]
    return np.asarray(column.fill_null(min(max(filler, lowest), highest)).to_numpy())


def _present(column: ArrowArray, rows: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The same rows without those that have no value."""
    if not column.null_count:
        return rows
    valid: npt.NDArray[np.bool_] = column.is_valid().to_numpy(zero_copy_only=False)
    return rows & valid


def _bound(values: npt.NDArray[Any], rounded: Callable[[float], float], edge: float) -> Any:
    """The edge as a number that numpy compares exactly with the values; a contract's edges are within their type."""
    return int(rounded(edge)) if values.dtype.kind == "i" else np.float64(edge)


def _at(edge: float, treatment: OutlierTreatment, kind: pa.DataType) -> OutlierTreatment:
    """`as_extreme` for one side of an outlier's bounds; other treatments are of both."""
    if treatment != "as_extreme":
        return treatment
    return AsValue(as_value=int(edge) if pa.types.is_integer(kind) else edge)


def _rounded(column: ArrowArray) -> tuple[ArrowArray, npt.NDArray[np.bool_] | None]:
    """Wide integers as float64, and which of them float64 cannot hold exactly, if any; other columns as they are."""
    column = decoded(column)
    if column.type == UNSIGNED:
        return column, _beyond_float64(column)
    if column.type not in {pa.int64(), pa.uint64()}:
        return column, None
    values = column.fill_null(0).to_numpy()
    beyond = values > EXACT_INTEGERS
    if pa.types.is_signed_integer(column.type):
        beyond |= values < -EXACT_INTEGERS
    if not beyond.any():
        return column, None
    return column.cast(pa.float64(), safe=False), beyond


def _beyond_float64(column: ArrowArray) -> npt.NDArray[np.bool_] | None:
    """Which decimals, being integers, float64 cannot hold exactly, if any."""
    low, high = (
        np.frombuffer(column.buffers()[1] or b"", "<i8")[2 * column.offset :][: 2 * len(column)].reshape(-1, 2).T
    )
    within = ((high == 0) & (low >= 0) & (low <= EXACT_INTEGERS)) | (
        (high == -1) & (low < 0) & (low >= -EXACT_INTEGERS)
    )
    beyond = _present(column, ~within)
    return beyond if beyond.any() else None


def _without_broken_text(column: ArrowArray) -> tuple[ArrowArray, npt.NDArray[np.bool_] | None]:
    """Text with null for what is not UTF-8, and which rows that is, if any."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        raw = decoded(column).cast(pa.binary())
        broken = np.fromiter((not _is_utf8(value) for value in raw.to_pylist()), dtype=bool, count=len(raw))
        return kernels.if_else(pa.array(broken), pa.scalar(None, raw.type), raw).cast(pa.string()), broken
    return column, None


def _is_utf8(value: bytes | None) -> bool:
    try:
        (value or b"").decode()
    except UnicodeDecodeError:
        return False
    return True
