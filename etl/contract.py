"""The input contract: which columns a spec reads, of which types, and what happens to values that break a rule.

The order of checks is PMML's, missing before invalid, after a value that cannot be read as the type at all. A file
whose *schema* breaks the contract is refused whole; a *row* that does goes to quarantine (`reject`), or is repaired in
the declared way. A row that breaks several rules counts once, under the first: fields in their order, and in a field
type, missing, range, allowed, max_length. A row that is already rejected fails no run.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import Field, FiniteFloat, model_validator

from etl.documents import Strict
from etl.errors import ContractError
from etl.frame import EXACT_INTEGERS, Frame, RejectionCode
from etl.ops.base import Name
from etl.problems import listed, nearest
from etl.tensors import matrix_of
from etl.types import INTEGER_BOUNDS, ColumnType, TypeName, held, is_readable, kernels, one_chunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from etl.frame import Column
    from etl.types import ArrowArray

__all__ = ["AsValue", "Contract", "InputField", "Range", "Treatment"]


class AsValue(Strict):
    """Replace the value."""

    as_value: bool | int | FiniteFloat | str = Field(description="A value of the field's type.")


Treatment = Literal["as_is", "as_missing", "reject", "fail"] | AsValue
"""What happens to a value that breaks a rule: kept, made missing, its row quarantined, the run failed, or replaced."""


class Range(Strict):
    """Closed interval of valid numbers."""

    min: FiniteFloat | None = Field(default=None, description="Smallest valid number.")
    max: FiniteFloat | None = Field(default=None, description="Largest valid number.")

    @model_validator(mode="after")
    def _is_an_interval(self) -> Range:
        if self.min is None and self.max is None:
            message = "give min, max or both"
            raise ValueError(message)
        if self.min is not None and self.max is not None and self.min > self.max:
            message = f"min {self.min!r} is above max {self.max!r}"
            raise ValueError(message)
        return self


class InputField(Strict):
    """One input column and its rules."""

    name: Name
    type: TypeName
    nullable: bool = Field(default=True, description="Whether a missing value is legal.")
    role: Literal["feature", "id", "event_time"] = "feature"
    range: Range | None = Field(default=None, description="Valid numbers; others are invalid. NaN is in every range.")
    allowed: tuple[str | int, ...] | None = Field(
        default=None, min_length=1, description="Valid texts or integers; others are invalid."
    )
    max_length: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Longest valid text, in code points."
    )
    pii: bool = Field(default=False, description="Personal data: masked wherever a value would be shown.")
    nan_is_value: bool = Field(
        default=False,
        description="NaN is a number to this field's rules and to steps that read it; what they make of it is missing.",
    )
    on_missing: Treatment | None = Field(default=None, description="Default: as_is where nullable, else reject.")
    on_invalid: Treatment = Field(
        default="reject",
        description="Also for a value that the type cannot hold: text that is not UTF-8, an integer or instant beyond "
        "its range, a vector of another length or with a null inside (these are never kept), an integer beyond ±2^53 "
        "in a float64 field (as_is rounds it).",
    )
    doc: str | None = Field(default=None, description="What the column is, for the reader of the spec.")

    @model_validator(mode="after")
    def _rules_fit_the_type(self) -> InputField:
        problem = self._problem()
        if problem is not None:
            message = f"{problem}, {self.name} is {self.type}"
            raise ValueError(message)
        return self

    @property
    def missing_treatment(self) -> Treatment:
        """What happens to a missing value."""
        return self.on_missing or ("as_is" if self.nullable else "reject")

    def _problem(self) -> str | None:
        """What does not go with the type."""
        for treatment in (self.missing_treatment, self.on_invalid):
            if isinstance(treatment, AsValue) and not _fits(treatment.as_value, self.type):
                return f"as_value {treatment.as_value!r:.60} is no value of the type"
        if self.range is not None and not _covers(self.type, self.range):
            return "a range needs a numeric type, and bounds within it"
        if self.allowed is not None and not all(_fits(value, self.type, only=(str, int)) for value in self.allowed):
            return "allowed holds values of type string, int32 or int64"
        if self.max_length is not None and self.type.kind != "string":
            return "max_length needs type string"
        if self.nan_is_value and not self.type.is_float:
            return "nan_is_value needs a float type"
        return None


def _fits(value: Any, kind: ColumnType, *, only: tuple[type, ...] = (bool, int, float, str)) -> bool:
    """Whether a literal of the spec is a value of a type; dates and timestamps have no literal."""
    if not isinstance(value, only):
        return False
    if kind.kind == "string" or isinstance(value, str):
        return kind.kind == "string" and isinstance(value, str)
    if kind.kind == "bool" or isinstance(value, bool):
        return kind.kind == "bool" and isinstance(value, bool)
    if kind.is_integer:
        low, high = INTEGER_BOUNDS[kind.kind]
        return isinstance(value, int) and low <= value <= high
    limit = float(np.finfo(kind.kind).max) if kind.is_float and float in only else -1.0
    return isinstance(value, int | float) and -limit <= value <= limit


def _covers(kind: ColumnType, valid: Range) -> bool:
    if not kind.is_integer:
        return kind.is_float
    low, high = INTEGER_BOUNDS[kind.kind]
    return all(edge is None or low <= edge <= high for edge in (valid.min, valid.max))


class Contract(Strict):
    """The input columns of a spec. Columns that it does not name are not read."""

    fields: tuple[InputField, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Contract:
        names = [field.name for field in self.fields]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            message = f"columns declared twice: {', '.join(twice)}"
            raise ValueError(message)
        return self

    @functools.cached_property
    def nan_is_value(self) -> frozenset[str]:
        """Fields whose NaN is a value."""
        return frozenset(field.name for field in self.fields if field.nan_is_value)

    def columns(self) -> dict[str, ColumnType]:
        """The columns that it hands on, by name and in order."""
        return {field.name: field.type for field in self.fields}

    def check_schema(self, schema: pa.Schema, where: str) -> None:
        """Refuse a file that lacks a column or has one of another type; other columns and their order do not matter.

        Raises:
            ContractError: with every violation of the file.
        """
        problems: list[str] = []
        for field in self.fields:
            matches = schema.get_all_field_indices(field.name)
            if not matches:
                problems.append(f"column {field.name!r} is not there.{nearest(field.name, schema.names)}")
            elif len(matches) > 1:
                problems.append(f"column {field.name!r} is there {len(matches)} times")
            elif not is_readable(schema.field(matches[0]).type, field.type):
                found = schema.field(matches[0]).type
                problems.append(f"column {field.name!r} has type {found}, the contract says {field.type}")
        if problems:
            message = f"{where}: breaks the input contract: {listed(problems)}"
            raise ContractError(message)

    def apply(self, batch: pa.RecordBatch | pa.Table, where: str) -> Frame:
        """Canonical columns of a batch whose schema was checked, with the rows that break a rule marked as rejected.

        Raises:
            ContractError: a value breaks a rule whose treatment is `fail`.
        """
        frame = Frame(batch.num_rows, {}, nan_is_value=self.nan_is_value)
        for index, field in enumerate(self.fields):
            entry = _Entry(frame, field, f"/input/fields/{index}", where)
            column = batch.column(field.name)
            frame[field.name] = entry.vector(column) if field.type.kind == "vector" else entry.scalar(column)
        return frame


class _Violation(NamedTuple):
    """Rows that break one rule."""

    rows: npt.NDArray[np.bool_]
    code: RejectionCode
    rule: str
    """Key of the field that states the rule."""
    reason: str
    """What is wrong, to be put behind the column's name."""


class _Entry(NamedTuple):
    """One column on its way into a frame."""

    frame: Frame
    field: InputField
    pointer: str
    where: str

    def scalar(self, column: ArrowArray) -> ArrowArray:
        """Cast, then treat what is missing, then what is invalid."""
        column, unheld = self._cast(column)
        if unheld is not None:
            column = self._treat(column, unheld, self._kept_or("as_is" if unheld.code == "INEXACT" else "reject"))
        column = self._treat_missing(column)
        for violation in list(self._violations(column)):
            column = self._treat(column, violation, self.field.on_invalid)
        return column

    def vector(self, column: ArrowArray) -> Column:
        """Treat broken vectors as invalid and null ones as missing; both are rows of NaN and stay so."""
        column = one_chunk(column)
        width = self.field.type.width
        matrix, broken = matrix_of(column, width)
        missing: npt.NDArray[np.bool_] = column.is_null().to_numpy(zero_copy_only=False)
        absent = missing | broken
        if absent.any():
            self.frame.absent[self.field.name] = absent
        reason = f"does not have {width} values"
        self._settle(_Violation(broken, "WRONG_LENGTH", "type", reason), self._kept_or("reject"))
        self._settle(_Violation(missing, "MISSING", "on_missing", "has no value"), self.field.missing_treatment)
        return matrix

    def _kept_or(self, instead: Treatment) -> Treatment:
        """What happens to a value that has no form in the type; `instead` of keeping it."""
        return instead if self.field.on_invalid == "as_is" else self.field.on_invalid

    def _cast(self, column: ArrowArray) -> tuple[ArrowArray, _Violation | None]:
        """The canonical column, and the rows whose value the type cannot hold although its physical type may."""
        field = self.field
        column = one_chunk(column)
        unheld = None
        if field.type.kind == "string":
            column, rows = _without_broken_text(column)
            if rows is not None:
                unheld = _Violation(rows, "NOT_UTF8", "type", "is not UTF-8")
        elif field.type.kind == "float64":
            column, rows = _rounded(column)
            if rows is not None:
                unheld = _Violation(rows, "INEXACT", "type", "is an integer beyond ±2^53")
        column, rows = held(column, field.type)
        if rows is not None:
            unheld = _Violation(rows, "OUT_OF_RANGE", "type", f"is a value that {field.type} cannot hold")
        return column, unheld

    def _treat_missing(self, column: ArrowArray) -> ArrowArray:
        treatment = self.field.missing_treatment
        if treatment in {"as_is", "as_missing"}:
            return column
        if self.field.type.is_float and not self.field.nan_is_value:
            values = column.to_numpy(zero_copy_only=False)
            # NaN is the least of values that hold one: a batch without needs no mask.
            if not values.size or not np.isnan(values.min()):
                return column
            rows = np.isnan(values)
        elif column.null_count:
            rows = column.is_null().to_numpy(zero_copy_only=False)
        else:
            return column
        return self._treat(column, _Violation(rows, "MISSING", "on_missing", "has no value"), treatment)

    def _violations(self, column: ArrowArray) -> Iterator[_Violation]:
        field = self.field
        if field.range is not None:
            yield from _out_of_range(column, field.range)
        if field.allowed is not None:
            known = kernels.is_in(column, value_set=pa.array(field.allowed, field.type.arrow))
            rows = kernels.and_not(kernels.is_valid(column), known).to_numpy(zero_copy_only=False)
            yield _Violation(rows, "NOT_ALLOWED", "allowed", "is not one of the allowed values")
        if field.max_length is not None:
            # No text has more code points than bytes, and bytes are known without reading the text.
            longest = kernels.max(kernels.binary_length(column)).as_py()
            if longest is not None and longest > field.max_length:
                rows = kernels.utf8_length(column).fill_null(0).to_numpy() > field.max_length
                yield _Violation(rows, "TOO_LONG", "max_length", f"has more than {field.max_length} characters")

    def _treat(self, column: ArrowArray, violation: _Violation, treatment: Treatment) -> ArrowArray:
        if self._settle(violation, treatment):
            return column
        value = treatment.as_value if isinstance(treatment, AsValue) else None
        return kernels.if_else(pa.array(violation.rows), pa.scalar(value, column.type), column)

    def _settle(self, violation: _Violation, treatment: Treatment) -> bool:
        """Keep, reject or fail; False where there are values to be replaced."""
        if treatment == "as_is" or not violation.rows.any():
            return True
        name, rule = self.field.name, f"{self.pointer}/{violation.rule}"
        if treatment == "reject":
            message = f"{name} {violation.reason}"
            self.frame.reject(violation.rows, code=violation.code, pointer=rule, column=name, message=message)
            return True
        if treatment == "fail":
            self._fail(violation, rule)
            return True
        return False

    def _fail(self, violation: _Violation, rule: str) -> None:
        rows = violation.rows & ~self.frame.gone
        if rows.any():
            found = f"column {self.field.name!r} {violation.reason}"
            first = f"in {rows.sum()} rows of the batch, the first at {np.argmax(rows)}"
            message = f"{self.where}: {found} {first}; the contract says fail at {rule}."
            raise ContractError(message)


def _out_of_range(column: ArrowArray, valid: Range) -> Iterator[_Violation]:
    """By least and largest first: a batch without a violation needs no mask, and NaN, in every range, fails both."""
    low = -math.inf if valid.min is None else valid.min
    high = math.inf if valid.max is None else valid.max
    if column.null_count and not pa.types.is_floating(column.type):
        # Any number inside will do: a null is no violation.
        column = column.fill_null(math.ceil(low) if math.isfinite(low) else math.floor(high))
    values = column.to_numpy(zero_copy_only=False)
    if not values.size:
        return
    # As numbers of Python, which compare exactly; numpy would round the bound to float32 (NEP 50).
    if not values.min().item() >= low:
        yield _Violation(values < _bound(values, low, np.ceil), "OUT_OF_RANGE", "range", f"is below {low!r}")
    if not values.max().item() <= high:
        yield _Violation(values > _bound(values, high, np.floor), "OUT_OF_RANGE", "range", f"is above {high!r}")


def _bound(values: npt.NDArray[Any], edge: float, inwards: Callable[[float], float]) -> Any:
    """The edge as a number that numpy compares exactly with the values; a contract's edges are within their type."""
    return int(inwards(edge)) if values.dtype.kind == "i" and math.isfinite(edge) else np.float64(edge)


def _rounded(column: ArrowArray) -> tuple[ArrowArray, npt.NDArray[np.bool_] | None]:
    """Wide integers as float64, and which of them float64 cannot hold exactly, if any; other columns as they are."""
    if isinstance(column.type, pa.DictionaryType):
        column = column.dictionary_decode()
    if column.type not in {pa.int64(), pa.uint64()}:
        return column, None
    values = column.fill_null(0).to_numpy()
    beyond = values > EXACT_INTEGERS
    if pa.types.is_signed_integer(column.type):
        beyond |= values < -EXACT_INTEGERS
    if not beyond.any():
        return column, None
    return column.cast(pa.float64(), safe=False), beyond


def _without_broken_text(column: ArrowArray) -> tuple[ArrowArray, npt.NDArray[np.bool_] | None]:
    """Text with null for what is not UTF-8, and which rows that is, if any."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        raw = (column.dictionary_decode() if isinstance(column.type, pa.DictionaryType) else column).cast(pa.binary())
        broken = np.fromiter((not _is_utf8(value) for value in raw.to_pylist()), dtype=bool, count=len(raw))
        return kernels.if_else(pa.array(broken), pa.scalar(None, raw.type), raw).cast(pa.string()), broken
    return column, None


def _is_utf8(value: bytes | None) -> bool:
    try:
        (value or b"").decode()
    except UnicodeDecodeError:
        return False
    return True
