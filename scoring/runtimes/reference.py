"""The reference: models of a few layers, written down as JSON and computed by numpy alone. Short rather than quick.

It is the oracle of other runtimes: it shares no arithmetic with them. Sums are of float64, and what comes out is
rounded once, to the type that the signature declares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import numpy as np
from pydantic import Field, FiniteFloat, StrictStr, field_validator, model_validator

from etl.documents import Document, Strict
from etl.errors import DocumentError
from scoring.errors import BundleError, InferenceError
from scoring.runtimes.declared import DeclaredModel, cpu_only
from scoring.signature import Signature

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from scoring.runtimes.base import RuntimeOptions

__all__ = ["Reference", "ReferenceModel"]

Activation = Literal["identity", "relu", "sigmoid", "softmax", "tanh"]
"""A function of each number; `softmax` of each row."""
_Vector: TypeAlias = tuple[FiniteFloat, ...]
_Matrix: TypeAlias = tuple[_Vector, ...]


class Dense(Strict):
    """output = activation(input · weights + bias)."""

    op: Literal["dense"]
    input: str
    output: str
    weights: _Matrix = Field(min_length=1, description="One row an input, one column an output.")
    bias: _Vector | None = Field(default=None, description="One number an output; none is zeros.")
    activation: Activation = "identity"

    @field_validator("weights")
    @classmethod
    def _one_width(cls, weights: _Matrix) -> _Matrix:
        return _rectangular(weights)

    def apply(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """The layer's output."""
        made = _numbers(values[self.input]) @ np.array(self.weights)
        return _activated(self.activation, made if self.bias is None else made + np.array(self.bias))


class Gather(Strict):
    """The rows of a table at the input's integers, as an embedding or a list of labels; one beyond it is an error."""

    op: Literal["gather"]
    input: str
    output: str
    table: _Matrix | _Vector | tuple[StrictStr, ...] = Field(min_length=1)

    def apply(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """The layer's output."""
        table = np.array(self.table, dtype=object) if isinstance(self.table[0], str) else np.array(self.table)
        return np.asarray(table[values[self.input]])


class Concat(Strict):
    """Inputs side by side, along the last axis."""

    op: Literal["concat"]
    inputs: tuple[str, ...] = Field(min_length=1)
    output: str

    def apply(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """The layer's output."""
        return np.concatenate([_numbers(values[name]) for name in self.inputs], axis=-1)


class Function(Strict):
    """A function of the input. `argmax` is the first largest of a row; `mean` and `column` take away the last axis."""

    op: Literal["function"]
    input: str
    output: str
    function: Literal[Activation, "argmax", "column", "mean"]
    column: int = Field(default=0, description="Which, for `column`.")

    def apply(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """The layer's output."""
        given = _numbers(values[self.input])
        if self.function == "column":
            return np.asarray(given[..., self.column])
        if self.function == "mean":
            return np.asarray(given.mean(axis=-1))
        if self.function == "argmax":
            return np.asarray(given.argmax(axis=-1))
        return _activated(self.function, given)


class Tree(Strict):
    """A tree as its nodes, the root first. An input goes left where it is at most the threshold; NaN goes right."""

    feature: tuple[int, ...] = Field(description="Column of the input; -1 at a leaf.")
    threshold: _Vector
    left: tuple[int, ...] = Field(description="Number of a later node; anything at a leaf.")
    right: tuple[int, ...]
    value: _Matrix = Field(min_length=1, description="What each node adds to the outputs; only a leaf's is used.")

    @model_validator(mode="after")
    def _is_a_tree(self) -> Tree:
        nodes = len(_rectangular(self.value))
        if {len(part) for part in (self.feature, self.threshold, self.left, self.right)} != {nodes}:
            message = "the lists of a tree have one entry a node, all of them"
            raise ValueError(message)
        for node, feature in enumerate(self.feature):
            if feature >= 0 and not all(node < child < nodes for child in (self.left[node], self.right[node])):
                message = f"a child of node {node} is not one of the later nodes"
                raise ValueError(message)
        return self

    def apply(self, inputs: np.ndarray) -> np.ndarray:
        """The values of the leaves that rows come to."""
        feature, threshold = np.array(self.feature), np.array(self.threshold)
        left, right = np.array(self.left), np.array(self.right)
        at = np.zeros(len(inputs), dtype=np.int64)
        while (inner := np.flatnonzero(feature[at] >= 0)).size:
            node = at[inner]
            at[inner] = np.where(inputs[inner, feature[node]] <= threshold[node], left[node], right[node])
        return np.asarray(np.array(self.value)[at])


class Trees(Strict):
    """output = activation(base + what each tree adds)."""

    op: Literal["trees"]
    input: str
    output: str
    trees: tuple[Tree, ...] = Field(min_length=1)
    base: _Vector = (0.0,)
    activation: Activation = "identity"

    def apply(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """The layer's output."""
        given = _numbers(values[self.input])
        total = np.array(self.base) + np.zeros((len(given), 1))
        for tree in self.trees:
            total = total + tree.apply(given)
        return _activated(self.activation, total)


Layer = Annotated[Dense | Gather | Concat | Function | Trees, Field(discriminator="op")]


class ReferenceModel(Document):
    """The model file."""

    format: Literal["batchscore.numpy/1"] = "batchscore.numpy/1"
    signature: Signature
    layers: tuple[Layer, ...]

    @model_validator(mode="after")
    def _is_connected(self) -> ReferenceModel:
        there = [tensor.name for tensor in self.signature.inputs]
        for layer in self.layers:
            for name in layer.inputs if isinstance(layer, Concat) else (layer.input,):
                if name not in there:
                    message = f"layer {layer.output!r} takes {name!r}, which is neither an input nor made before it"
                    raise ValueError(message)
            if layer.output in there:
                message = f"{layer.output!r} is made twice, or is an input"
                raise ValueError(message)
            there.append(layer.output)
        for tensor in self.signature.outputs:
            if tensor.name not in there:
                message = f"no layer makes output {tensor.name!r}"
                raise ValueError(message)
        return self


class Reference(DeclaredModel):
    """A loaded reference model."""

    def __init__(self, model: bytes, options: RuntimeOptions, where: str) -> None:
        """Read the model.

        Raises:
            DeviceError: a GPU was asked for.
            BundleError: the bytes are no such model.
        """
        self.fell_back = cpu_only(options, "the numpy reference")
        try:
            read = ReferenceModel.from_bytes(model, where=where)
        except DocumentError as error:
            raise BundleError(str(error)) from error
        super().__init__(read.signature, f"numpy {np.__version__}")
        self._layers: tuple[Layer, ...] = read.layers

    def _run(self, feeds: dict[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        values = dict(feeds)
        try:
            with np.errstate(all="ignore"):
                for layer in self._layers:
                    values[layer.output] = layer.apply(values)
        except (IndexError, ValueError, MemoryError) as error:
            raise InferenceError(f"the model failed: {error}") from error
        return values

    def _release(self) -> None:
        self._layers = ()


def _rectangular(matrix: _Matrix) -> _Matrix:
    if len({len(row) for row in matrix}) > 1:
        message = "the rows of a matrix are of one length"
        raise ValueError(message)
    return matrix


def _numbers(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float64)


def _activated(activation: str, values: np.ndarray) -> np.ndarray:
    return np.asarray(_ACTIVATIONS[activation](values))


def _sigmoid(values: np.ndarray) -> np.ndarray:
    """1 / (1 + e^−x), from an exponential that cannot overflow."""
    small = np.exp(-np.abs(values))
    return np.asarray(np.where(values >= 0, 1.0, small) / (1.0 + small))


def _softmax(values: np.ndarray) -> np.ndarray:
    raised = np.exp(values - values.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


_ACTIVATIONS: dict[str, Callable[[np.ndarray], Any]] = {
    "identity": lambda values: values,
    "relu": lambda values: np.maximum(values, 0.0),
    "sigmoid": _sigmoid,
    "softmax": _softmax,
    "tanh": np.tanh,
}
