"""An ONNX file as it is written: its versions, and outputs that it is better to be given in another form.

Three kinds of outputs are rewritten in memory, before the file is loaded; what they hold stays the same to the bit:

- `ZipMap` makes a dict of each row, by class, from an (n, k) tensor. The node is left out and its input is given.
- `SequenceConstruct` makes a list of so many tensors, whatever the rows: scikit-learn's multi-output classifiers give
  their probabilities so. It is left out and its inputs are given, each as an output. In a batch of as many rows as it
  has tensors, it could not be told from a sequence of one tensor a row.
- numpy has no bfloat16. A `Cast` to float32, which holds each of its values, is put behind such an output.

Field numbers are those of `onnx.proto3`. Nothing here imports onnxruntime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from scoring.protobuf import Field, Message, field, fields, number

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterator

__all__ = ["Graph", "Zipped", "listed", "rewritten", "widened"]

_IR_VERSION, _GRAPH, _OPSET = 1, 7, 8  # of a model
_NODE, _INPUT, _OUTPUT = 1, 11, 12  # of a graph
_FED, _GIVEN, _KIND, _ATTRIBUTE = 1, 2, 4, 5  # of a node
_NAME, _INTEGER, _INTEGERS, _TEXTS, _TYPE = 1, 3, 8, 9, 20  # of an attribute
_TYPE_OF, _TENSOR, _SEQUENCE = 2, 1, 4  # of a value, and kinds of types
_IS_INTEGER = 2
_FLOAT, _BFLOAT16 = 1, 16  # element types
_LABELS = (b"classlabels_int64s", b"classlabels_strings")


class Zipped(NamedTuple):
    """An output of `ZipMap`."""

    tensor: str
    """The tensor that it is made of."""
    keys: tuple[int, ...] | tuple[str, ...]
    """The class of each of its columns."""


class Graph(NamedTuple):
    """What is known of a file before it is loaded. Of what is no ONNX file, nothing."""

    ir_version: int = 0
    opsets: dict[str, int] = {}  # noqa: RUF012  never written to
    """By domain."""
    zipped: dict[str, Zipped] = {}  # noqa: RUF012  as above
    """By output, where it can be had without its ZipMap."""
    listed: dict[str, tuple[str, ...]] = {}  # noqa: RUF012  as above
    """By output that is a list of so many tensors: their names."""
    bfloat16: tuple[str, ...] = ()
    """Outputs of this type."""
    outputs: tuple[str, ...] = ()
    """All outputs, in their order."""

    def __str__(self) -> str:
        """For messages."""
        opsets = ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in sorted(self.opsets.items()))
        return f"IR version {self.ir_version}, opset {opsets or 'none'}"


class _Node(NamedTuple):
    place: tuple[int, int]
    message: Message


class _Parts:
    """A file taken apart, by places in it."""

    def __init__(self, data: bytes | mmap.mmap) -> None:
        """Raises ValueError where this is no model."""
        self.ir_version = 0
        self.opsets: dict[str, int] = {}
        self.graph = Message(data, 0, 0)
        self.graph_place = (0, 0)
        for part in fields(Message(data, 0, len(data))):
            if part.number == _IR_VERSION:
                self.ir_version = part.value
            elif part.number == _OPSET:
                opset = {inner.number: inner for inner in fields(part.content)}
                domain = opset[1].content.to_bytes().decode() if 1 in opset else ""
                self.opsets[domain] = opset[2].value if 2 in opset else 0  # noqa: PLR2004  its number
            elif part.number == _GRAPH:
                self.graph, self.graph_place = part.content, (part.start, part.content.end)
        self.nodes: list[_Node] = []
        self.inputs: set[str] = set()
        self.outputs: dict[str, Message] = {}
        self.output_places: dict[str, tuple[int, int]] = {}
        for part in fields(self.graph):
            if part.number == _NODE:
                self.nodes.append(_Node((part.start, part.content.end), part.content))
            elif part.number == _INPUT:
                self.inputs.add(_text(part.content, 1))
            elif part.number == _OUTPUT:
                name = _text(part.content, 1)
                self.outputs[name] = part.content
                self.output_places[name] = (part.start, part.content.end)

    def zip_maps(self) -> Iterator[tuple[_Node, str, Zipped]]:
        """Each ZipMap whose output is one of the model and goes nowhere else, with that output."""
        for node, fed_by, given in self._of_kind(b"ZipMap"):
            [fed] = fed_by
            attributes = [part.content for part in fields(node.message) if part.number == _ATTRIBUTE]
            keys = _labels(attributes)
            plain = len(set(keys)) == len(keys) > 0 and fed not in self.inputs
            if plain and given in self.outputs and not self._is_fed(given):
                yield node, given, Zipped(fed, keys)

    def lists(self) -> Iterator[tuple[_Node, str, tuple[str, ...]]]:
        """Each SequenceConstruct whose output is one of the model and goes nowhere else, with that output."""
        for node, fed, given in self._of_kind(b"SequenceConstruct"):
            if given not in self.outputs or self._is_fed(given) or not self.inputs.isdisjoint(fed):
                continue
            names = {listed(given, place) for place in range(len(fed))}
            if names.isdisjoint({*self.outputs, *fed}) and _listed_element(self.outputs[given]) not in {0, _BFLOAT16}:
                yield node, given, fed

    def _of_kind(self, kind: bytes) -> Iterator[tuple[_Node, tuple[str, ...], str]]:
        """Nodes of a kind that gives one thing, with what each is fed and gives."""
        data = self.graph.data
        for node in self.nodes:
            if data.find(kind, node.message.start, node.message.end) < 0:
                continue
            parts = [part for part in fields(node.message) if part.number in {_FED, _GIVEN, _KIND}]
            texts = [(part.number, part.content.to_bytes()) for part in parts]
            if (_KIND, kind) in texts:
                [given] = [text.decode() for place, text in texts if place == _GIVEN]
                yield node, tuple(text.decode() for place, text in texts if place == _FED), given

    def _is_fed(self, name: str) -> bool:
        """Whether a node takes this tensor."""
        wanted = name.encode()
        return any(
            part.number == _FED and part.content.to_bytes() == wanted
            for node in self.nodes
            for part in fields(node.message)
        )


def rewritten(model: bytes | mmap.mmap) -> tuple[bytes, Graph]:
    """The file with its outputs in a form that can be had quickly, and what is known of it.

    An output of ZipMap or SequenceConstruct is gone and the tensors that it was made of are there; one of bfloat16 is
    there a second time, by the name that `widened` gives it. A file that needs none of this is given back as it is.
    """
    try:
        parts = _Parts(model)
        zips, lists = list(parts.zip_maps()), list(parts.lists())
        narrow = tuple(name for name, message in parts.outputs.items() if _element(message) == _BFLOAT16)
    except (ValueError, KeyError):  # no model, or one whose texts are none: the runtime says what is wrong with it
        return _whole(model), Graph()
    graph = Graph(
        parts.ir_version,
        parts.opsets,
        zipped={output: zipped for _, output, zipped in zips},
        listed={output: fed for _, output, fed in lists},
        bfloat16=narrow,
        outputs=tuple(parts.outputs),
    )
    if not zips and not lists and not narrow:
        return _whole(model), graph
    gone = [(node, output) for node, output, _ in (*zips, *lists)]
    left_out = [node.place for node, _ in gone] + [parts.output_places[output] for _, output in gone]
    tensors = {zipped.tensor: _FLOAT for zipped in graph.zipped.values()}
    tensors |= {name: _listed_element(parts.outputs[output]) for output, fed in graph.listed.items() for name in fed}
    added = [_output(name, element) for name, element in tensors.items() if name not in parts.outputs]
    added += [_cast(name) + _output(widened(name), _FLOAT) for name in narrow]
    kept = _without(parts.graph, left_out)
    start, end = parts.graph_place
    return b"".join((model[:start], field(_GRAPH, b"".join((*kept, *added))), model[end:])), graph


def widened(output: str) -> str:
    """The name under which a bfloat16 output is given as float32."""
    return f"{output}/batchscore.float32"


def listed(output: str, place: int) -> str:
    """The name under which a tensor of a list is given."""
    return f"{output}_{place}"


def _whole(model: bytes | mmap.mmap) -> bytes:
    return model if isinstance(model, bytes) else bytes(model[:])


def _without(message: Message, left_out: list[tuple[int, int]]) -> Iterator[bytes]:
    """The stretches of a message between others."""
    place = message.start
    for start, end in sorted(left_out):
        yield bytes(message.data[place:start])
        place = end
    yield bytes(message.data[place : message.end])


def _text(message: Message, wanted: int) -> str:
    return next((part.content.to_bytes().decode() for part in fields(message) if part.number == wanted), "")


def _element(output: Message) -> int:
    """The element type of an output that is a tensor; else 0."""
    return _element_of([kind for part in fields(output) if part.number == _TYPE_OF for kind in fields(part.content)])


def _listed_element(output: Message) -> int:
    """The element type of an output that is a sequence of tensors; else 0."""
    kinds = [kind for part in fields(output) if part.number == _TYPE_OF for kind in fields(part.content)]
    sequences = [part for kind in kinds if kind.number == _SEQUENCE for part in fields(kind.content)]
    return _element_of([kind for part in sequences for kind in fields(part.content)])


def _element_of(kinds: list[Field]) -> int:
    tensors = [kind.content for kind in kinds if kind.number == _TENSOR]
    return next((part.value for tensor in tensors for part in fields(tensor) if part.number == 1), 0)


def _labels(attributes: list[Message]) -> tuple[int, ...] | tuple[str, ...]:
    """The classes that a ZipMap names, as integers or as texts."""
    integers: list[int] = []
    texts: list[str] = []
    for attribute in attributes:
        parts = list(fields(attribute))
        if not any(part.number == _NAME and part.content.to_bytes() in _LABELS for part in parts):
            continue
        texts += [part.content.to_bytes().decode() for part in parts if part.number == _TEXTS]
        for part in parts:
            if part.number == _INTEGERS:
                packed = part.content.to_bytes()
                integers += _varints(packed) if packed else [_signed(part.value)]
    return tuple(integers) or tuple(texts)


def _varints(packed: bytes) -> list[int]:
    """A packed list of numbers, each read as the field that it would be."""
    values, group = [], bytearray()
    for byte in packed:
        group.append(byte)
        if byte < 0x80:  # noqa: PLR2004  the bit that says that more follow
            [part] = fields(Message(b"\x00" + bytes(group), 0, len(group) + 1))
            values.append(_signed(part.value))
            group.clear()
    return values


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def _output(name: str, element: int) -> bytes:
    tensor = field(1, number(1, element))
    return field(_OUTPUT, field(1, name.encode()) + field(2, tensor))


def _cast(name: str) -> bytes:
    to = field(_NAME, b"to") + number(_INTEGER, _FLOAT) + number(_TYPE, _IS_INTEGER)
    texts = ((_FED, name), (_GIVEN, widened(name)), (_KIND, "Cast"))
    return field(_NODE, b"".join(field(place, text.encode()) for place, text in texts) + field(_ATTRIBUTE, to))
