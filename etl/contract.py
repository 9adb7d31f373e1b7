"""The input contract: which columns a spec reads, of which types, and what happens to values that break a rule.

The order of checks is PMML's: a value that cannot be read as the type at all, a missing one, an invalid one (range,
allowed, pattern, min_length, max_length), an outlier. Each check sees what the treatments before it left. What
`as_missing` makes missing is then treated as `on_missing` says, under whose pointer its row is rejected; the value that
it gets in place is not checked again by the rule that was broken. A file whose *schema* breaks the contract is refused
whole; a *row* that does goes to quarantine (`reject`), or is repaired in the declared way, or flagged. A row that
breaks several rules counts once, under the first: fields in their order, and in a field as above. A row that is already
rejected fails no run.
"""

from __future__ import annotations

import functools
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Literal

import pyarrow as pa
from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from etl.documents import Strict
from etl.entry import Entry
from etl.errors import ContractError
from etl.format.problems import listed, nearest
from etl.frame import Frame
from etl.given import advice
from etl.ops.base import Name
from etl.patterns import Pattern
from etl.treatments import AsValue, Flag, Outlier, OutlierTreatment, Range, Treatment, bound_problem, fits
from etl.types import ColumnType, TypeName, is_readable, unread_subfields

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["AsValue", "Contract", "Flag", "InputField", "Outlier", "Range", "Treatment"]

_NUMERIC = "type int32, int64, float32 or float64"

_WHOLE_VECTOR = "{} vector is never missing, so {} is reject or fail"


class InputField(Strict):
    """One input column and its rules."""

    name: Name
    type: TypeName = Field(
        description="What a value is. Files may hold it in any type of Arrow whose values it has, or that are checked "
        "one by one: dictionaries, large lists, lists of lists for a vector, integers of other widths; decimals as the "
        "nearest float64, or as integers. "
        "Only decimal(20, 0), in which Spark holds a uint64, is an integer to a float64 field too."
    )
    nullable: bool = Field(default=True, description="Whether a missing value is legal.")
    role: Literal["feature", "id", "event_time"] = "feature"
    units: str | None = Field(default=None, description="What the numbers count, for the reader of the spec.")
    range: Range | None = Field(default=None, description="Valid numbers; others are invalid. NaN is in every range.")
    allowed: tuple[str | int, ...] | None = Field(
        default=None, min_length=1, description="Valid texts or integers; others are invalid."
    )
    pattern: Pattern | None = Field(
        default=None, description="RE2 pattern that a valid text matches as a whole; see `regex_full_match`."
    )
    min_length: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Least length of a valid text, in code points, or of a valid list, in elements."
    )
    max_length: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Largest length of a valid text, in code points, or of a valid list, in elements."
    )
    outlier: Outlier | None = Field(default=None, description="Bounds beyond which a valid number is an outlier.")
    pii: bool = Field(default=False, description="Personal data: masked wherever a value would be shown.")
    nan_is_value: bool = Field(
        default=False,
        description="NaN is a number to this field's rules and to steps that read it; what they make of it is missing.",
    )
    on_missing: Treatment | None = Field(
        default=None,
        description="Default: as_is where nullable, else reject, as of a vector of integers or bools, which has no "
        "missing value. Also for what as_missing of another rule makes missing.",
    )
    on_invalid: Treatment = Field(
        default="reject",
        description="Also for a value that the type cannot hold: text that is not UTF-8, a number or instant beyond "
        "its range or with a fraction, a list or struct with such a part, a vector of another length or with a null "
        "inside (these are never kept), an integer beyond ±2^53 in a float64 field (as_is rounds it).",
    )
    on_outlier: OutlierTreatment = Field(
        default="as_is", description="What happens to an outlier; as_extreme replaces it by the bound of its side."
    )
    doc: str | None = Field(default=None, description="What the column is, for the reader of the spec.")

    @field_validator("range", "outlier")
    @classmethod
    def _bounds_are_held(cls, bounds: Range | Outlier | None, info: ValidationInfo) -> Range | Outlier | None:
        kind = info.data.get("type")
        if bounds is None or kind is None or not (kind.is_integer or kind.is_float):
            return bounds
        problems: list[InitErrorDetails] = []
        for key in ("min", "max") if isinstance(bounds, Range) else ("low", "high"):
            edge = getattr(bounds, key)
            problem = None if edge is None else bound_problem(kind, edge)
            if problem is not None:
                problems.append({"type": PydanticCustomError("value_error", problem), "loc": (key,), "input": edge})
        if problems:
            raise ValidationError.from_exception_data(cls.__name__, problems)
        return bounds

    @model_validator(mode="after")
    def _rules_fit_the_type(self) -> InputField:
        for problem in self._problems():
            message = f"{problem}, {self.name} is {self.type}"
            raise ValueError(message)
        return self

    @property
    def missing_treatment(self) -> Treatment:
        """What happens to a missing value."""
        return self.on_missing or ("as_is" if self.nullable and self.type.may_be_missing else "reject")

    @property
    def flags(self) -> tuple[str, ...]:
        """The columns that tell where a rule was broken."""
        treatments = (self.on_missing, self.on_invalid, self.on_outlier)
        return tuple(treatment.flag for treatment in treatments if isinstance(treatment, Flag))

    def _problems(self) -> Iterable[str]:
        """What does not go with the type."""
        for treatment in (self.missing_treatment, self.on_invalid, self.on_outlier):
            if isinstance(treatment, AsValue) and not fits(treatment.as_value, self.type):
                yield f"as_value {treatment.as_value!r:.60} is no value of the type"
        if not self.type.may_be_missing:
            yield from self._problems_of_a_whole_vector()
        is_number = self.type.is_integer or self.type.is_float
        if self.range is not None and not is_number:
            yield f"a range needs {_NUMERIC}"
        if self.outlier is not None and not is_number:
            yield f"outlier needs {_NUMERIC}"
        if self.allowed is not None and not all(fits(value, self.type, only=(str, int)) for value in self.allowed):
            yield "allowed holds values of type string, int32 or int64"
        if self.pattern is not None and self.type.kind != "string":
            yield "pattern needs type string"
        if self.nan_is_value and not self.type.is_float:
            yield "nan_is_value needs a float type"
        yield from self._problems_of_lengths()
        yield from self._problems_of_outliers()

    def _problems_of_a_whole_vector(self) -> Iterable[str]:
        item = f"{'an' if self.type.item.startswith('i') else 'a'} {self.type.item}"
        if self.on_missing is not None and self.on_missing not in {"reject", "fail"}:
            yield _WHOLE_VECTOR.format(item, "on_missing")
        if self.on_invalid == "as_missing" or isinstance(self.on_invalid, Flag):
            yield _WHOLE_VECTOR.format(item, "on_invalid")

    def _problems_of_lengths(self) -> Iterable[str]:
        for rule in ("min_length", "max_length"):
            if getattr(self, rule) is not None and self.type.kind not in {"string", "list"}:
                yield f"{rule} needs type string or list"
        if self.min_length is not None and self.max_length is not None and self.min_length > self.max_length:
            yield f"min_length {self.min_length} is above max_length {self.max_length}"

    def _problems_of_outliers(self) -> Iterable[str]:
        if self.outlier is None:
            if self.on_outlier != "as_is":
                yield "on_outlier needs outlier, which says what one is"
            return
        bounds = [edge for edge in (self.outlier.low, self.outlier.high) if edge is not None]
        if self.on_outlier == "as_extreme" and not all(map(self._is_exact, bounds)):
            yield "as_extreme needs bounds that are values of the type"

    def _is_exact(self, edge: float) -> bool:
        return edge % 1 == 0 if self.type.is_integer else fits(edge, self.type)


class Contract(Strict):
    """The input columns of a spec. Columns that it does not name are not read."""

    fields: tuple[InputField, ...] = Field(min_length=1)
    labels: tuple[InputField, ...] = Field(
        default=(),
        description="Columns that only a fit reads, such as the target of target_encode. No step has one as its input, "
        "and where rows are scored they need not be there.",
    )
    extra_columns: Literal["ignore", "error"] = Field(
        default="ignore",
        description="Whether a file with other columns is refused; those that a job hands through are no others.",
    )

    @model_validator(mode="after")
    def _names_are_unique(self) -> Contract:
        counts = Counter(name for field in (*self.fields, *self.labels) for name in (field.name, *field.flags))
        twice = sorted(name for name, count in counts.items() if count > 1)
        if twice:
            message = f"columns declared twice: {', '.join(twice)}"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _names_are_free(self) -> Contract:
        names = [name for field in (*self.fields, *self.labels) for name in (field.name, *field.flags)]
        taken = [name for name in names if name.startswith("__batchscore_")]
        if taken:
            message = f"names that begin with __batchscore_ are taken: {', '.join(taken)}"
            raise ValueError(message)
        return self

    @functools.cached_property
    def of_training(self) -> Contract:
        """The contract of the rows that a fit reads, where labels are fields like any other."""
        fields = (*self.fields, *self.labels)
        return _OfTraining(fields=fields, extra_columns=self.extra_columns, first_label=len(self.fields))

    @functools.cached_property
    def nan_is_value(self) -> frozenset[str]:
        """Fields whose NaN is a value."""
        return frozenset(field.name for field in self.fields if field.nan_is_value)

    def columns(self) -> dict[str, ColumnType]:
        """The columns that it hands on, by name and in order: the fields, and behind them the flags."""
        flags = [name for field in self.fields for name in field.flags]
        return {**{field.name: field.type for field in self.fields}, **dict.fromkeys(flags, ColumnType("bool"))}

    def pointer(self, index: int) -> str:
        """Place in the spec of one of the fields."""
        return f"/input/fields/{index}"

    def check_schema(self, schema: pa.Schema, where: str, others: Iterable[str] = ()) -> None:
        """Refuse a file that lacks a column or has one of another type; the order of columns does not matter, and other
        columns do only where `extra_columns` is `error`: then those named in `others` are let be.

        Raises:
            ContractError: with every violation of the file.
        """  # noqa: D205  one sentence
        problems: list[str] = []
        for field in self.fields:
            matches = schema.get_all_field_indices(field.name)
            if not matches:
                problems.append(f"column {field.name!r} is not there.{nearest(field.name, schema.names)}")
            elif len(matches) > 1:
                problems.append(f"column {field.name!r} is there {len(matches)} times")
            elif not is_readable(schema.field(matches[0]).type, field.type):
                problems.append(
                    _mistyped(field, schema.field(matches[0]).type) + advice(field.name, field.type, schema)
                )
        if self.extra_columns == "error":
            known = {*others, *(field.name for field in (*self.fields, *self.labels))}
            extra = dict.fromkeys(name for name in schema.names if name not in known)
            problems.extend(f"column {name!r} is not in the contract, and extra_columns is error" for name in extra)
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
            Entry(frame, field, self.pointer(index), where=where).take(batch.column(field.name))
        return frame


class _OfTraining(Contract):
    """The contract of the rows that a fit reads."""

    first_label: int
    """Fields from this one on are labels."""

    def pointer(self, index: int) -> str:
        """Place in the spec of one of the fields or labels."""
        is_label = index >= self.first_label
        return f"/input/labels/{index - self.first_label}" if is_label else super().pointer(index)


def _mistyped(field: InputField, found: pa.DataType) -> str:
    message = f"column {field.name!r} has type {found}, the contract says {field.type}"
    if field.type.kind == "struct" and isinstance(found, pa.StructType):
        return f"{message}: {', '.join(unread_subfields(found, field.type))}"
    return message
