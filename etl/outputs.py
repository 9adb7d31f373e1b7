"""What a spec makes: named tensors of any rank for the inputs of a model, and columns handed through."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from etl.documents import Strict
from etl.format.problems import Problem, nearest
from etl.ops.base import Name
from etl.types import MOST_WIDTH, width_of

if TYPE_CHECKING:
    from etl.types import ColumnType, Schema

__all__ = ["Bind", "Outputs", "TensorDtype", "TensorOutput"]

TensorDtype = Literal["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool", "string"]
"""Element types of tensors, by numpy's names; string for text."""

_MOST_AXES = 8


class Bind(Strict):
    """Where a tensor goes."""

    model_input: Name = Field(description="Name of the model input that it feeds.")


class TensorOutput(Strict):
    """One tensor that the spec makes: columns side by side, cast once."""

    tensor: Name = Field(description="Its name; also that of the model input that it feeds, unless `bind` says.")
    dtype: TensorDtype = Field(
        default="float32",
        description="Element type. Integer and bool tensors take integers and bools; cast other columns first. A row "
        "with an integer beyond the type is rejected.",
    )
    columns: tuple[Name, ...] = Field(alias="from", min_length=1, description="Columns, in the tensor's order.")
    shape: tuple[int, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=_MOST_AXES,
        description="-1 for the rows, then the axes of a row, e.g. [-1, 3, 32, 32]; their product is the number of "
        "values that the columns have a row. [-1] is one value a row. Default: [-1, that number].",
    )
    bind: Bind | None = Field(
        default=None, description="Which input of the model it feeds, if not the one of its name."
    )

    @model_validator(mode="after")
    def _shape_is_one(self) -> TensorOutput:
        if self.shape is not None and (self.shape[0] != -1 or any(size < 1 for size in self.shape[1:])):
            message = "shape is -1 for the rows, then axes of 1 or more"
            raise ValueError(message)
        return self

    @property
    def model_input(self) -> str:
        """Name of the model input that it feeds."""
        return self.bind.model_input if self.bind else self.tensor

    @property
    def rank(self) -> int:
        """Number of axes, the rows' included."""
        return len(self.shape) if self.shape else 2

    def axes(self, width: int) -> tuple[int, ...]:
        """The axes behind the rows', of a row of `width` values; 0 where that is not known before the fit."""
        return self.shape[1:] if self.shape else (width,)

    def form(self, width: int) -> str:
        """Element type and axes, for people."""
        return f"{self.dtype}[{', '.join(['rows', *(str(size or '?') for size in self.axes(width))])}]"

    def takes(self, found: ColumnType) -> bool:
        """Whether a column of this type can be part of the tensor: nothing is rounded or cut off on its way there."""
        kind = found.item if found.kind == "vector" else found.kind
        if self.dtype == "string":
            return kind == "string"
        if self.dtype == "bool":
            return kind == "bool"
        is_whole = kind in {"bool", "int32", "int64"}
        return is_whole or (self.dtype.startswith("float") and kind in {"float32", "float64"})


class Outputs(Strict):
    """What a spec makes."""

    tensors: tuple[TensorOutput, ...] = Field(min_length=1, description="Model inputs.")
    passthrough: tuple[Name, ...] = Field(
        default=(), description="Columns handed through beside the tensors, e.g. the id; a job may name others."
    )

    def problems(self, schema: Schema) -> list[Problem]:
        """Everything that does not fit the columns that there are behind the last step.

        Where only a fit tells the width of a vector, whether it fills a shape is told behind it.
        """
        problems: list[Problem] = []
        names: set[str] = set()
        model_inputs: set[str] = set()
        for index, tensor in enumerate(self.tensors):
            pointer = f"/outputs/tensors/{index}"
            if tensor.tensor in names:
                problems.append(
                    Problem(f"{pointer}/tensor", f"tensor {tensor.tensor!r} is already made.", "E-DUP-OUTPUT")
                )
            elif tensor.model_input in model_inputs:
                message = f"model input {tensor.model_input!r} is already fed by another tensor."
                problems.append(Problem(f"{pointer}/bind", message, "E-MODEL-INPUT"))
            names.add(tensor.tensor)
            model_inputs.add(tensor.model_input)
            found = _column_problems(tensor, pointer, schema)
            problems.extend(found or _shape_problems(tensor, pointer, schema))
        for position, name in enumerate(self.passthrough):
            if name not in schema:
                message = f"column {name!r} is made by no step.{nearest(name, schema)}"
                problems.append(Problem(f"/outputs/passthrough/{position}", message, "E-NO-COLUMN"))
        return problems


def _column_problems(tensor: TensorOutput, pointer: str, schema: Schema) -> list[Problem]:
    problems: list[Problem] = []
    for position, name in enumerate(tensor.columns):
        place = f"{pointer}/from/{position}"
        if name not in schema:
            message = f"column {name!r} is made by no step.{nearest(name, schema)}"
            problems.append(Problem(place, message, "E-NO-COLUMN"))
        elif not tensor.takes(schema[name]):
            found = f"column {name!r} is {schema[name]}, a tensor of {tensor.dtype} does not take it"
            problems.append(Problem(place, f"{found}; cast it, or derive another column.", "E-TYPE"))
    return problems


def _shape_problems(tensor: TensorOutput, pointer: str, schema: Schema) -> list[Problem]:
    width = width_of(schema[name] for name in tensor.columns)
    if width > MOST_WIDTH:
        message = f"its columns have {width:,} values a row; at most {MOST_WIDTH:,} are possible."
        return [Problem(f"{pointer}/from", message, "E-SIZE")]
    if not width or tensor.shape is None or math.prod(tensor.shape[1:]) == width:
        return []
    values = math.prod(tensor.shape[1:])
    message = f"a row of shape {list(tensor.shape)} has {values} values, its columns have {width}."
    return [Problem(f"{pointer}/shape", message, "E-TENSOR-DIM")]
