"""The input contract: which columns a spec reads, of which types, and what happens to values that break a rule.

The order of checks is PMML's: missing, then invalid. A file whose *schema* breaks the contract is refused whole; a
*row* that does goes to quarantine (`reject`), or is repaired in the declared way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, FiniteFloat, model_validator

from etl.documents import Strict
from etl.errors import ContractError
from etl.frame import Frame
from etl.ops.base import Name
from etl.problems import nearest
from etl.types import ColumnType, TypeName

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["AsValue", "Contract", "InputField", "Range", "Treatment"]


class AsValue(Strict):
    """Replace the value."""

    as_value: bool | int | FiniteFloat | str


Treatment = Literal["as_is", "as_missing", "reject", "fail"] | AsValue
"""What happens to a value that breaks a rule: kept, made missing, its row quarantined, the run failed, or replaced."""


class Range(Strict):
    """Closed interval of valid numbers."""

    min: FiniteFloat | None = None
    max: FiniteFloat | None = None


class InputField(Strict):
    """One input column and its rules."""

    name: Name
    type: TypeName
    nullable: bool = Field(default=True, description="Whether a missing value is legal.")
    role: Literal["feature", "id", "event_time"] = "feature"
    range: Range | None = Field(default=None, description="Valid numbers; others are invalid.")
    allowed: tuple[str | int, ...] | None = Field(default=None, description="Valid values; others are invalid.")
    max_length: Annotated[int, Field(ge=0)] | None = Field(default=None, description="Longest valid text, in characters.")
    pii: bool = Field(default=False, description="Personal data: masked wherever a value would be shown.")
    nan_is_value: bool = Field(default=False, description="NaN is a number to the model, not a missing value.")
    on_missing: Treatment | None = Field(default=None, description="Default: as_is where nullable, else reject.")
    on_invalid: Treatment = "reject"
    doc: str | None = None

    @model_validator(mode="after")
    def _rules_fit_the_type(self) -> InputField:
        if self.range is not None and not self.type.is_numeric:
            message = f"a range needs a numeric type, {self.name} is {self.type}"
            raise ValueError(message)
        if self.max_length is not None and self.type.kind != "string":
            message = f"max_length needs type string, {self.name} is {self.type}"
            raise ValueError(message)
        return self

    @property
    def missing_treatment(self) -> Treatment:
        """What happens to a missing value."""
        return self.on_missing or ("as_is" if self.nullable else "reject")


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
            elif not _is_readable(schema.field(matches[0]).type, field.type):
                found = schema.field(matches[0]).type
                problems.append(f"column {field.name!r} has type {found}, the contract says {field.type}")
        if problems:
            message = f"{where}: breaks the input contract: {'; '.join(problems)}."
            raise ContractError(message)

    def apply(self, batch: pa.RecordBatch | pa.Table, where: str) -> Frame:
        """Canonical columns of a batch whose schema was checked, with the rows that break a rule marked as rejected.

        Raises:
            ContractError: a value cannot be held by the declared type, or breaks a rule whose treatment is `fail`.
        """
        frame = Frame(batch.num_rows, {})
        for index, field in enumerate(self.fields):
            column = _canonical(batch.column(field.name), field, where)
            column = _treat_missing(frame, field, column, f"/input/fields/{index}")
            frame[field.name] = _treat_invalid(frame, field, column, f"/input/fields/{index}")
        return frame


def _is_readable(found: pa.DataType, wanted: ColumnType) -> bool:
    """Whether every value of the found type is a value of the wanted one, or is checked one by one (wide integers)."""
    if pa.types.is_dictionary(found):
        return _is_readable(found.value_type, wanted)
    if pa.types.is_null(found):
        return True
    if wanted.kind == "vector":
        is_list = pa.types.is_list(found) or pa.types.is_large_list(found) or pa.types.is_fixed_size_list(found)
        return is_list and pa.types.is_floating(found.value_type)
    rules: dict[str, bool] = {
        "bool": pa.types.is_boolean(found),
        "int32": pa.types.is_integer(found) and (found.bit_width < 32 or found == pa.int32()),  # noqa: PLR2004  bits
        "int64": pa.types.is_integer(found),
        "float32": found in {pa.float16(), pa.float32()},
        "float64": pa.types.is_floating(found) or pa.types.is_integer(found),
        "string": pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_string_view(found),
        "date": pa.types.is_date(found),
        "timestamp": pa.types.is_timestamp(found),
    }
    return rules[wanted.kind]


def _canonical(column: pa.Array | pa.ChunkedArray, field: InputField, where: str) -> pa.Array:
    """Cast to the field's Arrow type. A timestamp without a zone is UTC; finer units than µs are floored."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    target = field.type.arrow
    if column.type == target:
        return column
    try:
        if field.type.kind == "timestamp":
            return _to_utc_microseconds(column)
        return column.cast(target)
    except pa.ArrowInvalid as error:
        message = f"{where}: column {field.name!r} holds a value that {field.type} cannot hold exactly: {error}."
        raise ContractError(message) from error


def _to_utc_microseconds(column: pa.Array) -> pa.Array:
    if pa.types.is_null(column.type):
        return column.cast(pa.timestamp("us", "UTC"))
    if column.type.unit == "ns":
        # Arrow's unsafe cast truncates towards zero, so an instant before 1970 would move forward by a microsecond.
        column = pc.floor_temporal(column, unit="microsecond")
    return column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64()).cast(pa.timestamp("us", "UTC"))


def _treat_missing(frame: Frame, field: InputField, column: pa.Array, pointer: str) -> pa.Array:
    has_nan = field.type.is_float and not field.nan_is_value
    treatment = field.missing_treatment
    if treatment in {"as_is", "as_missing"} or (column.null_count == 0 and not has_nan):
        return column
    missing = pc.is_null(column, nan_is_null=has_nan)
    return _treat(frame, field, column, Violation(missing, treatment, "MISSING", f"{pointer}/on_missing", "has no value"))


def _treat_invalid(frame: Frame, field: InputField, column: pa.Array, pointer: str) -> pa.Array:
    for mask, rule, reason in _violations(field, column):
        invalid = pc.fill_null(mask, fill_value=False)
        code = {"range": "OUT_OF_RANGE", "allowed": "NOT_ALLOWED", "max_length": "TOO_LONG", "vector": "WRONG_LENGTH"}[rule]
        violation = Violation(invalid, field.on_invalid, code, f"{pointer}/{rule}", reason)
        column = _treat(frame, field, column, violation)
    return column


def _violations(field: InputField, column: pa.Array) -> list[tuple[pa.Array, str, str]]:
    found: list[tuple[pa.Array, str, str]] = []
    if field.range is not None:
        if field.range.min is not None:
            found.append((pc.less(column, field.range.min), "range", f"is below {field.range.min:g}"))
        if field.range.max is not None:
            found.append((pc.greater(column, field.range.max), "range", f"is above {field.range.max:g}"))
    if field.allowed is not None:
        # index_in, not is_in: is_in answers false for null, which the missing rule has already treated.
        known = pc.is_in(column, value_set=pa.array(field.allowed, field.type.arrow))
        found.append((pc.and_(pc.invert(known), pc.is_valid(column)), "allowed", "is not one of the allowed values"))
    if field.max_length is not None:
        found.append((pc.greater(pc.utf8_length(column), field.max_length), "max_length", "is too long"))
    if field.type.kind == "vector":
        wrong = pc.not_equal(pc.list_value_length(column), field.type.width)
        found.append((wrong, "vector", f"does not have {field.type.width} values"))
    return found


class Violation:
    """Rows of a batch that break one rule, and what the contract says about them."""

    def __init__(self, mask: pa.Array, treatment: Treatment, code: str, pointer: str, reason: str) -> None:  # noqa: PLR0913, PLR0917
        """`mask` is true where the rule is broken and has no nulls."""
        self.mask = mask
        self.treatment = treatment
        self.code = code
        self.pointer = pointer
        self.reason = reason


def _treat(frame: Frame, field: InputField, column: pa.Array, violation: Violation) -> pa.Array:
    treatment = violation.treatment
    rows: npt.NDArray[np.bool_] = violation.mask.to_numpy(zero_copy_only=False)
    if treatment == "as_is" or not rows.any():
        return column
    if treatment == "fail":
        first = int(np.argmax(rows))
        message = f"column {field.name!r} {violation.reason} in {rows.sum()} rows, the first at position {first}"
        raise ContractError(f"{violation.pointer}: {message}; the contract says fail.")
    if treatment == "reject":
        message = f"{field.name} {violation.reason}"
        frame.reject(rows, code=violation.code, pointer=violation.pointer, column=field.name, message=message)
        return column
    replacement: Any = None if treatment == "as_missing" else treatment.as_value  # type: ignore[union-attr]
    return pc.if_else(violation.mask, pa.scalar(replacement, column.type), column)
