"""Names, element types and shapes of a model's tensors."""

from __future__ import annotations

from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from etl.documents import Strict

__all__ = ["Signature", "TensorSpec"]


class TensorSpec(Strict):
    """One input or output of a model."""

    name: str
    dtype: str = Field(description="numpy's name, e.g. float32; string for text.")
    shape: tuple[int | None, ...] = Field(description="None where any size goes; the first axis is rows.")
    keys: tuple[int | str, ...] | None = Field(
        default=None, description="Of an (n, k) tensor that a map was unfolded to: the key of each of its columns."
    )

    sequence: bool = Field(
        default=False, description="One tensor a row, each of its own size: an array of arrays to numpy."
    )

    @model_serializer(mode="wrap")
    def _without_absent_keys(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Hardly any tensor has keys or is a sequence; what one has not is written as if there were no such thing."""
        plain: dict[str, Any] = dump(self)
        if self.keys is None:
            plain.pop("keys", None)
        if not self.sequence:
            plain.pop("sequence", None)
        return plain

    def agrees(self, other: TensorSpec) -> bool:
        """Whether both can be of one tensor: of a map, one may know the keys and the other not yet."""
        if (self.keys is None) == (other.keys is None):
            return self == other
        facts = ((spec.name, spec.dtype, spec.sequence, len(spec.shape)) for spec in (self, other))
        return len(set(facts)) == 1

    def __str__(self) -> str:
        """For messages: name float32[rows, 28]; `rows` and `any` are axes of any size."""
        free = ("rows", *["any"] * len(self.shape))
        axes = ", ".join(free[axis] if size is None else str(size) for axis, size in enumerate(self.shape))
        return f"{self.name} {self.dtype}[{axes}]"


class Signature(Strict):
    """A model's inputs and outputs, in the graph's order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def fixed_rows(self) -> int | None:
        """The number of rows that each call has to have; None where any number goes.

        Outputs are not asked: converters write a 1 there of models that take any number of rows.
        """
        return next((tensor.shape[0] for tensor in self.inputs if tensor.shape and tensor.shape[0] is not None), None)

    def agrees(self, other: Signature) -> bool:
        """Whether both can be of one model: keys of maps may be known to one of them alone."""
        return all(
            len(mine) == len(others) and all(one.agrees(two) for one, two in zip(mine, others, strict=True))
            for mine, others in ((self.inputs, other.inputs), (self.outputs, other.outputs))
        )
