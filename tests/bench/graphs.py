"""ONNX files put together without the package `onnx`, which a GPU machine need not have. Field numbers: onnx.proto3."""

from __future__ import annotations

import itertools
import struct
from typing import TYPE_CHECKING

import numpy as np

from scoring.protobuf import field, number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

__all__ = ["Graph"]

_TYPES = {"float32": 1, "uint8": 2, "int64": 7}
_INT_MASK = (1 << 64) - 1
_FLOAT, _INTEGER, _TEXT, _FLOATS, _INTEGERS, _TEXTS = 1, 2, 3, 6, 7, 8
"""AttributeProto.AttributeType."""


class Graph:
    """A model under construction: nodes in the order in which they run, and weights."""

    def __init__(self, name: str) -> None:
        """Nothing is in it."""
        self._name = name
        self._numbers = itertools.count()
        self._nodes: list[bytes] = []
        self._weights: list[bytes] = []
        self._inputs: list[bytes] = []
        self._outputs: list[bytes] = []

    def input(self, name: str, dtype: str, shape: Sequence[int | str]) -> str:
        """A tensor that is fed; an axis that is a text is open."""
        self._inputs.append(_value(name, dtype, shape))
        return name

    def output(self, name: str, dtype: str, shape: Sequence[int | str]) -> None:
        """A tensor that is given."""
        self._outputs.append(_value(name, dtype, shape))

    def weight(self, values: npt.ArrayLike) -> str:
        """A constant."""
        array, name = np.asarray(values), f"w{next(self._numbers)}"
        dims = b"".join(number(1, size) for size in array.shape)
        kind = number(2, _TYPES[str(array.dtype)])
        self._weights.append(dims + kind + field(8, name.encode()) + field(9, np.ascontiguousarray(array).tobytes()))
        return name

    def node(self, kind: str, *inputs: str, out: str | None = None, domain: str = "", **attributes: object) -> str:
        """An operator with one output, whose name comes back."""
        made = out or f"t{next(self._numbers)}"
        parts = [*(field(1, name.encode()) for name in inputs), field(2, made.encode()), field(4, kind.encode())]
        parts += [field(5, _attribute(name, value)) for name, value in attributes.items()]
        if domain:
            parts.append(field(7, domain.encode()))
        self._nodes.append(b"".join(parts))
        return made

    def to_bytes(self, opsets: Mapping[str, int] = {"": 17}) -> bytes:
        """The file, of IR version 8."""
        graph = [field(1, node) for node in self._nodes]
        graph.append(field(2, self._name.encode()))
        graph += [field(5, weight) for weight in self._weights]
        graph += [field(11, value) for value in self._inputs]
        graph += [field(12, value) for value in self._outputs]
        versions = [
            field(8, (field(1, domain.encode()) if domain else b"") + number(2, version))
            for domain, version in opsets.items()
        ]
        return number(1, 8) + field(7, b"".join(graph)) + b"".join(versions)


def _value(name: str, dtype: str, shape: Sequence[int | str]) -> bytes:
    axes = [field(2, size.encode()) if isinstance(size, str) else number(1, size) for size in shape]
    tensor = number(1, _TYPES[dtype]) + field(2, b"".join(field(1, axis) for axis in axes))
    return field(1, name.encode()) + field(2, field(1, tensor))


def _attribute(name: str, value: object) -> bytes:
    head = field(1, name.encode())
    match value:
        case float():
            return head + number(20, _FLOAT) + _fixed(2, [value])
        case int():
            return head + number(20, _INTEGER) + number(3, value & _INT_MASK)
        case str():
            return head + number(20, _TEXT) + field(4, value.encode())
        case [str(), *_]:
            return head + number(20, _TEXTS) + b"".join(field(9, str(item).encode()) for item in value)
        case [float(), *_]:
            return head + number(20, _FLOATS) + _fixed(7, value)
        case [*integers]:
            return head + number(20, _INTEGERS) + b"".join(number(8, item & _INT_MASK) for item in integers)
        case _:
            raise TypeError(name)


def _fixed(place: int, values: Iterable[float]) -> bytes:
    """Fields of 32-bit floats."""
    tag = number(place, 0)[:-1]
    assert len(tag) == 1
    return b"".join(bytes([tag[0] | 5]) + struct.pack("<f", value) for value in values)
