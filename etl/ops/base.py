"""What a step of a spec is: a frozen value with parameters, a schema rule, and one way to apply it.

An op is one small class in the file of its family. Its parameters and its fitted state are typed and strict. Other
back ends (ONNX, Catalyst) are separate modules that dispatch on these classes, so that adding one touches nothing here.

Profile `f64-v1`: float64 inside, NaN in a float column is missing, missing in gives missing out unless the op's
purpose is to treat it, no integer arithmetic that can overflow, no rounding, IEEE 754 where nothing else is said
(overflow is ±inf, ∞ − ∞ is NaN and so missing), UTC only.

The docstring of an op's class states its meaning, and the docs are made from it. The one of `apply` says how.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Self, TypeVar

from pydantic import (
    Field,
    FiniteFloat,
    PlainSerializer,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
)

from etl.documents import Strict

if TYPE_CHECKING:
    from etl.frame import Column, Frame
    from etl.types import ColumnType

__all__ = [
    "Accumulator",
    "AsNumber",
    "ColumnName",
    "FittedStep",
    "Name",
    "Params",
    "RowStep",
    "State",
    "Step",
    "StepId",
    "need_list",
    "need_numeric",
    "need_string",
]

Name = Annotated[str, StringConstraints(min_length=1, max_length=255)]
"""Name of a column."""


def _placed(name: str, info: SerializationInfo) -> Any:
    """The name; or its place, where the context of a dump has places of columns, which no literal looks like."""
    places: dict[str, int] = info.context or {}
    return {"#": places[name]} if name in places else name


ColumnName = Annotated[Name, PlainSerializer(_placed)]
"""Name of a column that a step reads, among its parameters: what it is called there is not part of their meaning."""

StepId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,99}$")]
"""Name of a step, unique in its spec."""

StateT = TypeVar("StateT", bound="State")
StateT_co = TypeVar("StateT_co", bound="State", covariant=True)


class _Part(Strict):
    """A part of a step. Where what equals its default is left out of a dump, −0.0 is not: it equals 0.0, and is another
    number.
    """  # noqa: D205  one sentence

    @model_serializer(mode="wrap")
    def _with_negative_zeros(self, dump: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        plain: dict[str, Any] = dump(self)
        if not info.exclude_defaults or info.include is not None or info.exclude is not None:
            return plain
        for name, field in type(self).model_fields.items():
            value, key = getattr(self, name), field.alias or name
            if key not in plain and "-0.0" in (said := repr(value)) and said != repr(field.default):
                is_part = isinstance(value, Strict)
                plain[key] = value.model_dump(mode="json", by_alias=True, exclude_defaults=True) if is_part else value
        return plain


class Params(_Part):
    """Parameters of an op, chosen by its author."""


class State(_Part):
    """What an op learned from data."""


class AsNumber(Strict):
    """Replace the value by a number."""

    as_value: FiniteFloat = Field(description="The number.")


class Step(_Part):
    """One application of an op: columns in, columns out. A column name is written once in a spec."""

    op: str
    id: StepId = Field(description="Name of the step, unique in its spec.")
    inputs: tuple[Name, ...] = Field(alias="in", min_length=1, description="Columns read, in the op's order.")
    outputs: tuple[Name, ...] = Field(alias="out", min_length=1, description="Columns written, in the op's order.")
    doc: str | None = Field(default=None, description="Why the step is there, for the reader of the spec.")

    transcendental: ClassVar[bool] = False
    """Whether platforms may differ by one unit in the last place (sin, exp, …)."""
    arity: ClassVar[tuple[int | None, int | None]] = (1, 1)
    """How many columns `in` and `out` name; None for one or more."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Columns read, those of conditions too; `infer` is given their types in this order."""
        return self.inputs

    @property
    def learns_from(self) -> tuple[str, ...]:
        """Labels of the contract, each a number or bool, that a fit of the step reads and nothing else does."""
        return ()

    @property
    def dropped(self) -> tuple[str, ...]:
        """Columns that no later step can read."""
        return ()

    @abstractmethod
    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """Types of the outputs, given those of the columns that the step reads.

        Raises:
            ValueError: the op cannot take these types; the message says which it takes.
        """


class RowStep(Step):
    """A step that maps rows one by one, from the batch alone."""

    @property
    def is_fitted(self) -> bool:
        """Whether the step can be applied."""
        return True

    @abstractmethod
    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:
        """The output columns, each of `frame.rows` rows. `pointer` is the step's place, for rejections."""

    def unknown_ids(self, output: str) -> range | None:  # noqa: ARG002  most steps make no ids
        """Ids in an output that stand for unknown categories or tokens; None where it does not hold ids."""
        return None

    def padding_id(self, output: str) -> int | None:  # noqa: ARG002  as above
        """The id in an output that fills it up to its length and stands for nothing; None where there is none."""
        return None

    def truncation(self, output: str) -> tuple[str, int] | None:  # noqa: ARG002  as above
        """The output that has the length of each list before an output cut it, and the length that it cuts to; None
        where nothing is cut, or no output has the length.
        """  # noqa: D205  one sentence
        return None

    def element_names(self, output: str) -> tuple[str, ...] | None:  # noqa: ARG002  as above
        """What each value of a vector stands for, such as a category; None where an output has no such names."""
        return None

    def run(self, frame: Frame, pointer: str) -> None:
        """Write the step's columns into the frame.

        Those that it drops stay in the frame, where no step of a checked spec can read them: a fit learns behind the
        last step, from columns that a step before this one reads.
        """
        for name, column in zip(self.outputs, self.apply(frame, pointer), strict=True):
            frame[name] = column


class Accumulator(ABC, Generic[StateT_co]):
    """What a step has learned so far: one for each row group, merged in canonical order (file, row group).

    It must not depend on how the rows were cut: the same rows give the same state to the byte. So sums are exact
    (`etl.partials`). Its attributes are numbers, texts, numpy arrays, mappings and lists of those, and other partials:
    what crosses from a worker to the driver is data.
    """

    @property
    def most_extra_passes(self) -> int:
        """How often `narrow` may ask for one more pass (quantiles of many distinct values: 3 times)."""
        return 0

    @abstractmethod
    def fresh(self) -> Self:
        """An empty one that learns the same."""

    @abstractmethod
    def update(self, frame: Frame) -> None:
        """Take in one batch; no row of it is rejected or filtered."""

    @abstractmethod
    def merge(self, later: Self) -> None:
        """Take in what was learned from rows that come later in canonical order."""

    def narrow(self) -> Self | None:
        """What is to be learned in one more pass over the data; None when this pass told everything."""
        return None

    @abstractmethod
    def finish(self) -> StateT_co:
        """The state.

        Raises:
            ValueError: there is nothing to learn from, e.g. only missing values.
        """


class FittedStep(RowStep, Generic[StateT]):
    """A step with state. A spec whose state is absent is a recipe: it can be fitted, not applied."""

    state: StateT | None = Field(default=None, description="What was learned; absent in a recipe.")

    @property
    def is_fitted(self) -> bool:
        """Whether the step can be applied."""
        return self.state is not None

    @property
    def learned(self) -> StateT:
        """The state, which a spec that is applied is known to have."""
        assert self.state is not None  # noqa: S101  a pipeline refuses a recipe before any step runs
        return self.state

    @property
    def most_extra_passes(self) -> int:
        """Passes over the data that a fit of the step may need beyond the first; none where it has nothing to learn."""
        return 0 if self.is_fitted else self.accumulator().most_extra_passes

    @abstractmethod
    def accumulator(self) -> Accumulator[StateT]:
        """A fresh partial state."""


def need_numeric(types: tuple[ColumnType, ...]) -> None:
    """Refuse any input that is not a scalar number or bool.

    Raises:
        ValueError: with the type found.
    """
    for found in types:
        if not found.is_numeric:
            message = f"takes numbers, found {found}"
            raise ValueError(message)


def need_list(types: tuple[ColumnType, ...], *items: str) -> None:
    """Refuse any input that is not a list of these kinds of elements; of any kind where none is named.

    Raises:
        ValueError: with the type found.
    """
    for found in types:
        if found.kind != "list" or (items and found.item not in items):
            wanted = " or ".join(f"list<{item}>" for item in items) or "a list"
            message = f"takes {wanted}, found {found}"
            raise ValueError(message)


def need_string(types: tuple[ColumnType, ...]) -> None:
    """Refuse any input that is not text.

    Raises:
        ValueError: with the type found.
    """
    for found in types:
        if found.kind != "string":
            message = f"takes string, found {found}; cast it first"
            raise ValueError(message)
