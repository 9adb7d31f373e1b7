"""Protobuf's wire format, as much as is needed to look into an ONNX file and to put one together: no library of it.

A message is a run of fields; a field is a tag (number and wire type) and a value. See protobuf.dev, "Encoding".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterator

__all__ = ["Field", "Message", "field", "fields", "number"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}
_MORE = 0x80
_MOST_BITS = 64


class Message(NamedTuple):
    """A stretch of bytes that is read as a message, where it lies."""

    data: bytes | mmap.mmap
    start: int
    end: int

    def to_bytes(self) -> bytes:
        """A copy of the stretch."""
        return bytes(self.data[self.start : self.end])


class Field(NamedTuple):
    """A field of a message."""

    number: int
    start: int
    """Where its tag begins."""
    value: int
    """Of a number; of the other wire types 0."""
    content: Message
    """Of a message, a text or bytes; of the other wire types empty."""


def fields(message: Message) -> Iterator[Field]:
    """The fields in their order.

    Raises:
        ValueError: this is no message.
    """
    data, place, end = message
    while place < end:
        start = place
        tag, place = _varint(data, place, end)
        wire, value, length = tag & 7, 0, 0
        if wire == _VARINT:
            value, place = _varint(data, place, end)
        elif wire == _BYTES:
            length, place = _varint(data, place, end)
        elif wire in _FIXED:
            place += _FIXED[wire]
        else:
            problem = f"wire type {wire}"
            raise ValueError(problem)
        content = Message(data, place, place + length)
        place += length
        if place > end:
            problem = "a field goes beyond its message"
            raise ValueError(problem)
        yield Field(tag >> 3, start, value, content)


def _varint(data: bytes | mmap.mmap, place: int, end: int) -> tuple[int, int]:
    """A number in groups of seven bits, lowest first, and where it ends."""
    value = 0
    for shift in range(0, _MOST_BITS + 6, 7):
        if place >= end:
            break
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < _MORE:
            return value, place
    problem = "a number goes beyond its message"
    raise ValueError(problem)


def number(field_number: int, value: int) -> bytes:
    """A field that is a number of 0 or more."""
    return _encoded(field_number << 3 | _VARINT) + _encoded(value)


def field(field_number: int, content: bytes) -> bytes:
    """A field that is a message, a text or bytes."""
    return _encoded(field_number << 3 | _BYTES) + _encoded(len(content)) + content


def _encoded(value: int) -> bytes:
    groups = bytearray()
    while value >= _MORE:
        groups.append(value & 0x7F | _MORE)
        value >>= 7
    groups.append(value)
    return bytes(groups)
