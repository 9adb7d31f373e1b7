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

    @model_serializer(mode="wrap")
    def _without_absent_keys(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Hardly any tensor has keys; one that has none is written as if there were no such thing."""
        plain: dict[str, Any] = dump(self)
        if self.keys is None:
            plain.pop("keys", None)
        return plain

    def __str__(self) -> str:
        """For messages: name float32[rows, 28]; `rows` and `any` are axes of any size."""
        free = ("rows", *["any"] * len(self.shape))
        axes = ", ".join(free[axis] if size is None else str(size) for axis, size in enumerate(self.shape))
        return f"{self.name} {self.dtype}[{axes}]"


class Signature(Strict):
    """A model's inputs and outputs, in the graph's order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
