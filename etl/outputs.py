"""What a spec makes: named tensors of any rank for the inputs of a model, and columns handed through."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field, FiniteFloat, model_validator

from etl.bfloat16 import MOST, bits_of
from etl.documents import Strict
from etl.format.problems import Problem, nearest
from etl.ops.base import Name
from etl.types import MOST_WIDTH, width_of

if TYPE_CHECKING:
    from etl.types import ColumnType, Schema

__all__ = ["Bind", "Outputs", "RaggedMask", "RaggedRows", "TensorDtype", "TensorOutput"]

TensorDtype = Literal[
    "float16",
    "float32",
    "float64",
    "bfloat16",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
    "string",
]
"""Element types of tensors, by numpy's names; string for text. Of a bfloat16, which numpy lacks, it has the bits, in
uint16."""

_MOST_AXES = 8
_MOST_BUCKETS = 64


class Bind(Strict):
    """Where a tensor goes."""

    model_input: Name = Field(description="Name of the model input that it feeds.")


class RaggedMask(Strict):
    """The tensor that tells a model which elements of a row are its own."""

    model_input: Name = Field(description="Name of the model input that it feeds.")
    dtype: Literal["int64", "int32", "float32", "bool"] = Field(
        default="int64", description="Element type: 1 (true) for an element of the list, 0 for padding."
    )


class RaggedRows(Strict):
    """What becomes of lists of several lengths in one tensor."""

    on_ragged: Literal["pad", "error"] = Field(
        description="`pad`: rows are filled up on the right, in each call of the model to one length. `error`: a row "
        "that does not have the values that `shape` says is rejected."
    )
    pad: int | FiniteFloat = Field(default=0, description="What a shorter row is filled up with.")
    buckets: tuple[Annotated[int, Field(ge=1, le=MOST_WIDTH)], ...] | None = Field(
        default=None,
        min_length=1,
        max_length=_MOST_BUCKETS,
        description="Lengths, ascending: rows are padded to the smallest that they fit. Default: the longest row of "
        "the call of the model.",
    )
    mask: RaggedMask | None = Field(default=None, description="A second tensor that says where padding is.")
    too_long: Literal["reject", "truncate"] = Field(
        default="reject",
        description="A row that is longer than the last bucket: quarantined, or cut to its first elements.",
    )

    @model_validator(mode="after")
    def _keys_go_together(self) -> RaggedRows:
        keys = sorted(self.model_fields_set - {"on_ragged"})
        if self.on_ragged == "error" and keys:
            message = f"on_ragged: error pads no row, so it takes no {', '.join(keys)}"
            raise ValueError(message)
        if self.buckets is not None and list(self.buckets) != sorted(set(self.buckets)):
            message = "buckets are lengths in ascending order, each once"
            raise ValueError(message)
        if self.buckets is None and self.too_long == "truncate":
            message = "too_long: truncate needs buckets, the last of which is where rows are cut"
            raise ValueError(message)
        return self


class TensorOutput(Strict):
    """One tensor that the spec makes: columns side by side, cast once; or one column of lists, see `ragged`."""

    tensor: Name = Field(description="Its name; also that of the model input that it feeds, unless `bind` says.")
    dtype: TensorDtype = Field(
        default="float32",
        description="Element type. Integer and bool tensors take integers and bools; cast other columns first. A row "
        "with an integer beyond the type is rejected. A bfloat16 is rounded once, to nearest, ties to even.",
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
    ragged: RaggedRows | None = Field(
        default=None,
        description="Of a tensor of one column of lists: what becomes of rows of several lengths. A row without a "
        "list, or with a missing element, is rejected; an empty list is all padding.",
    )

    @model_validator(mode="after")
    def _shape_is_one(self) -> TensorOutput:
        if self.shape is not None and (self.shape[0] != -1 or any(size < 1 for size in self.shape[1:])):
            message = "shape is -1 for the rows, then axes of 1 or more"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _ragged_goes_with_the_rest(self) -> TensorOutput:
        if self.ragged is not None and (problem := self._ragged_problem(self.ragged)) is not None:
            raise ValueError(problem)
        return self

    def _ragged_problem(self, ragged: RaggedRows) -> str | None:
        if len(self.columns) != 1 or self.dtype == "string":
            return "ragged goes with one column, of lists of numbers or bools"
        if ragged.on_ragged == "error":
            is_sized = self.shape is not None and len(self.shape) > 1
            return None if is_sized else "on_ragged: error needs a shape, which says how many values a row has"
        if self.shape is not None:
            return "on_ragged: pad takes no shape: it is [-1, the length that the rows are padded to]"
        return _pad_problem(ragged.pad, self.dtype)

    @property
    def model_input(self) -> str:
        """Name of the model input that it feeds."""
        return self.bind.model_input if self.bind else self.tensor

    @property
    def model_inputs(self) -> tuple[str, ...]:
        """Names of all model inputs that it feeds: its own, and that of its mask."""
        return (
            (self.model_input, self.ragged.mask.model_input)
            if self.ragged and self.ragged.mask
            else (self.model_input,)
        )

    @property
    def is_float(self) -> bool:
        """Whether its elements are floats, in which a missing value is NaN."""
        return self.dtype.startswith(("float", "bfloat"))

    @property
    def is_padded(self) -> bool:
        """Whether its rows have several lengths, and are padded as they are fed."""
        return self.ragged is not None and self.ragged.on_ragged == "pad"

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths to which rows are padded; none where any may be, or where rows are not padded."""
        return (self.ragged.buckets or ()) if self.ragged else ()

    @property
    def pad(self) -> float:
        """What rows are filled up with, as the tensor holds it: of a bfloat16 the bits."""
        value = self.ragged.pad if self.ragged else 0
        return int(bits_of(np.array([value], np.float64))[0]) if self.dtype == "bfloat16" else value

    @property
    def rank(self) -> int:
        """Number of axes, the rows' included."""
        return len(self.shape) if self.shape else 2

    def axes(self, width: int) -> tuple[int, ...]:
        """The axes behind the rows', of a row of `width` values; 0 where that is not known before the fit, or differs
        from one call of the model to the next.
        """  # noqa: D205  one sentence
        if self.is_padded:
            return (self.lengths[0] if len(self.lengths) == 1 else 0,)
        return self.shape[1:] if self.shape else (width,)

    def form(self, width: int) -> str:
        """Element type and axes, for people."""
        if self.is_padded:
            return f"{self.dtype}[rows, {' or '.join(map(str, self.lengths)) or 'longest'}]"
        return f"{self.dtype}[{', '.join(['rows', *(str(size or '?') for size in self.axes(width))])}]"

    def takes(self, found: ColumnType) -> bool:
        """Whether a column of this type can be part of the tensor: nothing is rounded or cut off on its way there."""
        if (self.ragged is not None) != (found.kind == "list"):
            return False
        kind = found.kind if found.is_scalar else found.item
        if self.dtype in {"string", "bool"}:
            return kind == self.dtype
        is_whole = kind.removeprefix("u") in {"bool", "int8", "int16", "int32", "int64"}
        if kind == "uint64":
            # An id, and no number: it may be fed as what it is.
            return self.dtype == "uint64"
        return is_whole or (self.is_float and kind.startswith("float"))


def _pad_problem(pad: float, dtype: str) -> str | None:
    """Why a tensor cannot be filled up with a number; None where it can."""
    if dtype == "bool":
        return None if pad in {0, 1} else f"pad {pad!r} is no bool: write 0 or 1"
    if dtype.startswith(("float", "bfloat")):
        most = MOST if dtype == "bfloat16" else float(np.finfo(dtype).max)
        return None if abs(pad) <= most else f"pad {pad!r} is beyond {dtype}"
    info = np.iinfo(dtype)
    if pad != int(pad) or not info.min <= pad <= info.max:
        return f"pad {pad!r} is no {dtype}"
    return None


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
            for fed in tensor.model_inputs[1:]:
                if fed in {*model_inputs, tensor.model_input}:
                    message = f"model input {fed!r} is already fed by a tensor."
                    problems.append(Problem(f"{pointer}/ragged/mask/model_input", message, "E-MODEL-INPUT"))
            names.add(tensor.tensor)
            model_inputs.update(tensor.model_inputs)
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
            problems.append(Problem(place, _mistyped(tensor, name, schema[name]), "E-TYPE"))
    return problems


def _mistyped(tensor: TensorOutput, name: str, found: ColumnType) -> str:
    told = f"column {name!r} is {found}, "
    if tensor.ragged is not None and found.kind != "list":
        return f"{told}whose rows are of one length: `ragged` is for lists."
    if tensor.ragged is None and found.kind == "list" and found.item != "string":
        return f"{told}whose rows may be of any length: say under `ragged` what becomes of them, or use list_pad."
    return f"{told}a tensor of {tensor.dtype} does not take it; cast it, or derive another column."


def _shape_problems(tensor: TensorOutput, pointer: str, schema: Schema) -> list[Problem]:
    if tensor.ragged is not None:
        return []
    width = width_of(schema[name] for name in tensor.columns)
    if width > MOST_WIDTH:
        message = f"its columns have {width:,} values a row; at most {MOST_WIDTH:,} are possible."
        return [Problem(f"{pointer}/from", message, "E-SIZE")]
    if not width or tensor.shape is None or math.prod(tensor.shape[1:]) == width:
        return []
    values = math.prod(tensor.shape[1:])
    message = f"a row of shape {list(tensor.shape)} has {values} values, its columns have {width}."
    return [Problem(f"{pointer}/shape", message, "E-TENSOR-DIM")]
