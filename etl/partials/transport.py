"""Partial states as bytes, and back: what a worker learned on its way to the driver. Data alone, so nothing is pickled.

Bytes are the length of a header as 8 little-endian bytes, the header as JSON, then buffers, each from a multiple of 8.
The header holds every attribute of the object by its name, of objects in it likewise; it names no class. Reading fills
an empty object that the reader made: it decides which attributes there are and of which classes their values are, so
bytes from elsewhere can at most be refused.

What an attribute may hold: None, bools, integers of any size, floats to the bit, texts, numpy arrays and scalars of
numbers and bools, mappings, lists and tuples of those; or another object of the kind. A mapping from texts to int64,
such as a vocabulary's counts, is two arrays and the texts one behind the other.
"""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

__all__ = ["dump", "load"]

_ALIGNED = 8
_LENGTH = struct.Struct("<Q")
_SAFE = 2**53
"""Integers of JSON are written so far; others as hexadecimal text, which has no limit of digits."""

_LEAST, _LARGEST = -(2**63), 2**63 - 1


class _Shipped(Protocol):
    """What can be shipped: its attributes are data, and an empty one can be made."""

    def fresh(self) -> Any:
        """An empty one of the same configuration."""


ShippedT = TypeVar("ShippedT", bound=_Shipped)


def dump(objects: Mapping[str, _Shipped]) -> bytes:
    """Objects by name as bytes; equal states give equal bytes, since each is brought into its canonical form first.

    Raises:
        TypeError: an attribute holds something that is no data; the message says where.
    """
    writer = _Writer()
    header = {name: writer.attributes(value, name) for name, value in objects.items()}
    text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    return b"".join([_LENGTH.pack(len(text)), _padded(text), *writer.buffers])


def load(templates: Mapping[str, ShippedT], data: bytes) -> dict[str, ShippedT]:
    """The objects that were dumped, each filled into an empty one of its template.

    Raises:
        ValueError: the bytes hold other objects or attributes than the templates have, or are damaged.
    """
    try:
        (length,) = _LENGTH.unpack_from(data)
        header = json.loads(data[_LENGTH.size : _LENGTH.size + length])
        reader = _Reader(memoryview(data)[_LENGTH.size + length + -length % _ALIGNED :])
        if header.keys() != templates.keys():
            message = f"partial states are of {', '.join(header)}, wanted are those of {', '.join(templates)}"
            raise ValueError(message)
        return {name: reader.filled(template.fresh(), header[name], name) for name, template in templates.items()}
    except (struct.error, KeyError, TypeError, AttributeError, IndexError) as error:
        message = f"partial states are damaged: {error}"
        raise ValueError(message) from error


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _ALIGNED)


class _Writer:
    """The buffers so far, and where the next begins."""

    def __init__(self) -> None:
        self.buffers: list[bytes] = []
        self._end = 0

    def attributes(self, shipped: Any, place: str) -> dict[str, Any]:
        compact = getattr(shipped, "compact", None)
        if compact is not None:
            compact()
        told: dict[str, Any] = {}
        for name, value in vars(shipped).items():
            where = f"{place}.{name}"
            is_object = hasattr(value, "fresh")
            told[name] = {"object": self.attributes(value, where)} if is_object else self._data(value, where)
        return told

    def _data(self, value: Any, place: str) -> Any:
        if isinstance(value, np.ndarray | np.generic):
            return {"array": self._array(np.asarray(value), place), "scalar": isinstance(value, np.generic)}
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, int):
            return value if -_SAFE <= value <= _SAFE else {"int": hex(value)}
        if isinstance(value, float):
            return {"float": value.hex()}
        if isinstance(value, dict):
            return self._mapping(value, place)
        return self._sequence(value, place)

    def _sequence(self, value: Any, place: str) -> Any:
        if not isinstance(value, list | tuple):
            message = f"{place} is {type(value).__name__}, which is no data"
            raise TypeError(message)
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [self._data(part, f"{place}[{at}]") for at, part in enumerate(value)]}

    def _mapping(self, value: dict[Any, Any], place: str) -> Any:
        if value and all(type(k) is str and type(v) is int and _LEAST <= v <= _LARGEST for k, v in value.items()):
            texts = [text.encode() for text in value]
            arrays: dict[str, npt.NDArray[Any]] = {
                "texts": np.frombuffer(b"".join(texts), np.uint8),
                "lengths": np.fromiter(map(len, texts), np.int64, len(texts)),
                "counts": np.fromiter(value.values(), np.int64, len(texts)),
            }
            return {"counts": {name: self._array(array, place) for name, array in arrays.items()}}
        pairs = [[self._data(key, place), self._data(part, f"{place}[{key!r:.40}]")] for key, part in value.items()]
        return {"mapping": pairs}

    def _array(self, value: npt.NDArray[Any], place: str) -> list[Any]:
        if value.dtype.kind not in "biuf":
            message = f"{place} is an array of {value.dtype}, which is no data"
            raise TypeError(message)
        kind = value.dtype.newbyteorder("<")
        data = np.ascontiguousarray(value, dtype=kind).tobytes()
        begin, self._end = self._end, self._end + len(data) + -len(data) % _ALIGNED
        self.buffers.append(_padded(data))
        return [kind.str, list(value.shape), begin]


class _Reader:
    """The buffers, of which each array is copied, since what is read goes on to be written to."""

    def __init__(self, buffers: memoryview) -> None:
        self._buffers = buffers

    def filled(self, empty: Any, attributes: dict[str, Any], place: str) -> Any:
        """The object with these attributes; they must be those that it has."""
        there = dict(vars(empty))
        if there.keys() != attributes.keys():
            message = f"{place} has {', '.join(there)}, the bytes have {', '.join(attributes)}"
            raise ValueError(message)
        for name, told in attributes.items():
            setattr(empty, name, self._attribute(told, there[name], f"{place}.{name}"))
        return empty

    def _attribute(self, told: Any, there: Any, place: str) -> Any:
        """The value, where `there` is what the empty object has, of the class that the value shall have."""
        if isinstance(told, dict) and "object" in told:
            if not hasattr(there, "fresh"):
                message = f"{place} is no object here"
                raise ValueError(message)
            return self.filled(there.fresh(), told["object"], place)
        value = self._data(told)
        return Counter(value) if isinstance(there, Counter) and isinstance(value, dict) else value

    def _data(self, told: Any) -> Any:
        if not isinstance(told, dict):
            return told
        ((kind, part),) = ((key, part) for key, part in told.items() if key != "scalar")
        if kind == "array":
            return self._array(part)[()] if told["scalar"] else self._array(part)
        if kind == "counts":
            return self._counts(part)
        if kind == "mapping":
            return {self._data(key): self._data(value) for key, value in part}
        if kind in {"int", "float"}:
            return int(part, 16) if kind == "int" else float.fromhex(part)
        values = [self._data(value) for value in part]
        return values if kind == "list" else tuple(values)

    def _counts(self, told: dict[str, Any]) -> dict[str, int]:
        texts, ends = self._array(told["texts"]).tobytes(), np.cumsum(self._array(told["lengths"])).tolist()
        spans = zip([0, *ends[:-1]], ends, self._array(told["counts"]).tolist(), strict=True)
        return {texts[begin:end].decode(): count for begin, end, count in spans}

    def _array(self, told: list[Any]) -> npt.NDArray[Any]:
        kind, shape, begin = np.dtype(told[0]), tuple(told[1]), told[2]
        if kind.kind not in "biuf":
            message = f"an array of {kind} is no data"
            raise ValueError(message)
        size = math.prod(shape)
        flat = np.frombuffer(self._buffers, kind, size, begin) if size else np.empty(0, kind)
        return flat.astype(kind.newbyteorder("=")).reshape(shape)
