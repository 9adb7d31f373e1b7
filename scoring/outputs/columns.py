"""What is published: columns by name, each made of a model's output by steps, with a type and a rule for NaN."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import pyarrow as pa
from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, WithJsonSchema, model_serializer

from etl.documents import Strict
from etl.errors import Misfit
from etl.ops.base import Name
from scoring.outputs.arrays import arrow_type
from scoring.outputs.steps import AnyStep, Form, MappingStep, ScalarType, kind_of, step_of

if TYPE_CHECKING:
    from scoring.signature import TensorSpec

__all__ = ["Mapping", "NonFinite", "OutputColumn", "ScalarType"]


def _word(value: Any) -> Any:
    """YAML reads the word null as nothing."""
    return "null" if value is None else value


NonFinite = Annotated[
    Literal["keep", "null", "quarantine"],
    BeforeValidator(_word),
    WithJsonSchema({"enum": ["keep", "null", None, "quarantine"]}),
]
"""What becomes of a row with a value that is NaN or ±inf: published as it is, as null, or set aside."""

_DEFAULTS: dict[str, ScalarType] = {
    "bfloat16": "float32",
    "float16": "float32",
    "float32": "float32",
    "float64": "float64",
    "int8": "int8",
    "int16": "int16",
    "int32": "int32",
    "int64": "int64",
    "uint8": "int16",
    "uint16": "int32",
    "uint32": "int64",
    "uint64": "int64",
    "bool": "bool",
    "string": "string",
}
"""By element type of a tensor: the narrowest type that holds each of its values, but for uint64."""


class Mapping(NamedTuple):
    """How a column is made of a tensor: its steps, each with the form of what it is given."""

    steps: tuple[tuple[MappingStep, Form], ...]
    form: Form
    """Of what the last step makes."""
    type: ScalarType
    """Of the values, or of the scores of pairs."""


class OutputColumn(Strict):
    """One published column: what the steps make of each row of a tensor."""

    column: Name
    tensor: str = Field(description="Name of the model output.")
    apply: tuple[AnyStep, ...] = Field(
        default=(), description="Steps from the tensor's values to the column's, in this order."
    )
    type: ScalarType | None = Field(
        default=None,
        description="Type of the column, of the values of its lists, or of the scores of top_k. Default: what the "
        "steps make, which is the tensor's own type, or the next that Spark has, unless they make another.",
    )
    non_finite: NonFinite = Field(default="quarantine", description="What becomes of a row with a NaN or ±inf.")

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What is not said is not written: a bundle is no other for it."""
        plain: dict[str, Any] = dump(self)
        silent = {name for name, field in type(self).model_fields.items() if getattr(self, name) == field.default}
        return {name: value for name, value in plain.items() if name not in silent}

    def problem(self, tensor: TensorSpec) -> str | None:
        """Why the column cannot be made from the tensor, or None."""
        try:
            self.mapping(tensor)
        except Misfit as misfit:
            return f"tensor {tensor}: {misfit}"
        return None

    def mapping(self, tensor: TensorSpec) -> Mapping:
        """How the column is made.

        Raises:
            Misfit: it cannot be made from the tensor.
        """
        form = _form(tensor)
        steps = []
        for number, written in enumerate(self.apply, 1):
            step = step_of(written)
            try:
                after = step.after(form)
            except Misfit as misfit:
                message = f"step {number} of `apply`, {step.name}, {misfit}"
                raise Misfit(message) from misfit
            steps.append((step, form))
            form = after
        type_ = self.type or form.type
        _need_type(form, type_)
        return Mapping(tuple(steps), form, type_)

    def field(self, tensor: TensorSpec) -> pa.Field:
        """The column in the published schema.

        Raises:
            Misfit: it cannot be made from the tensor.
        """
        mapping = self.mapping(tensor)
        return pa.field(self.column, arrow_type(mapping.form, mapping.type))


def _form(tensor: TensorSpec) -> Form:
    """What is known of a tensor's values."""
    if tensor.dtype not in _DEFAULTS:
        message = f"{tensor.dtype} cannot be published"
        raise Misfit(message)
    if not tensor.shape:
        message = "has rank 0, one value for all rows"
        raise Misfit(message)
    if 0 in tensor.shape[1:]:
        message = "has an axis without values"
        raise Misfit(message)
    return Form(_DEFAULTS[tensor.dtype], tensor.shape, tensor.keys)


def _need_type(form: Form, wanted: ScalarType) -> None:
    made, kind = kind_of(form.type), kind_of(wanted)
    if form.is_labelled and form.pair is None and wanted != form.type:
        message = f"labels are {form.type} and cannot become {wanted}"
    elif (made == "string") != (kind == "string"):
        hint = ": a step `labels` makes texts of indexes" if kind == "string" else ""
        message = f"{form.type} cannot become {wanted}{hint}"
    elif made == "float" and kind == "bool":
        message = f"{form.type} cannot become bool: a step `threshold` makes truths of numbers"
    else:
        return
    raise Misfit(message)
