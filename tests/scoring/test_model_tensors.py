"""What a model takes and gives: element types, ranks, maps and sequences, against plain onnxruntime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from scoring.errors import BundleError, InferenceError
from scoring.protobuf import Message, field, fields, number
from scoring.runtimes.base import RuntimeOptions
from scoring.runtimes.onnx import Session
from scoring.runtimes.onnx.graph import rewritten
from scoring.runtimes.onnx.tensors import unfolded
from tests.scoring.workshop import logistic_model

if TYPE_CHECKING:
    from collections.abc import Sequence

BFLOAT16 = TensorProto.BFLOAT16


def open_session(model: bytes) -> Session:
    """A session on the CPU."""
    return Session(model, RuntimeOptions(), "model.onnx")


def plain(model: bytes) -> ort.InferenceSession:
    """A session of plain onnxruntime."""
    return ort.InferenceSession(model, providers=["CPUExecutionProvider"])


def model_of_infos(nodes: Sequence[onnx.NodeProto], inputs: Sequence[Any], outputs: Sequence[Any]) -> bytes:
    """An ONNX file from nodes and value infos."""
    graph = helper.make_graph(list(nodes), "graph", list(inputs), list(outputs))
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 1)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())


def identity(element: int, shape: Sequence[int | str | None]) -> bytes:
    """A model that gives what it is fed."""
    info = helper.make_tensor_value_info
    return model_of_infos(
        [helper.make_node("Identity", ["X"], ["p"])], [info("X", element, shape)], [info("p", element, shape)]
    )


def classifier(keys: Sequence[int] | Sequence[str], *, behind: str = "Softmax", copies: int = 1) -> bytes:
    """Softmax and ZipMap as scikit-learn's exporter puts them; `behind` "" leaves the former out."""
    kind = TensorProto.INT64 if isinstance(keys[0], int) else TensorProto.STRING
    labels: dict[str, Any] = {f"classlabels_{'int64s' if kind == TensorProto.INT64 else 'strings'}": keys}
    maps = helper.make_sequence_type_proto(
        helper.make_map_type_proto(kind, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    )
    nodes = [helper.make_node(behind, ["X"], ["z"])] if behind else []
    names = [f"p{copy}" for copy in range(copies)]
    nodes += [
        helper.make_node("ZipMap", ["z" if behind else "X"], [name], domain="ai.onnx.ml", **labels) for name in names
    ]
    row = helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, len(keys)])
    return model_of_infos(nodes, [row], [helper.make_value_info(name, maps) for name in names])


@pytest.mark.parametrize(
    "name",
    ["float16", "float32", "float64", "bool", *(f"{s}int{b}" for s in ("", "u") for b in (8, 16, 32, 64))],
)
def test_each_element_type_goes_in_and_comes_out_as_it_is(name: str) -> None:
    """A tensor of each element type of numpy comes back equal, its extremes too, and of the same type."""
    dtype = np.dtype(name)
    facts: Any = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype) if dtype.kind == "f" else None
    values = np.array([[True, False]] if facts is None else [[facts.min, facts.max], [0, 1]], dtype)
    session = open_session(identity(helper.np_dtype_to_tensor_dtype(dtype), [None, 2]))
    assert session.signature.inputs[0].dtype == name
    found = session.predict({"X": values})["p"]
    assert found.dtype == dtype
    assert np.array_equal(found, values)


def test_texts_go_in_and_come_out_as_they_are() -> None:
    """Texts come back as they were fed, an empty one and one with other letters too."""
    values = np.array([["", "ä☃"], ["a" * 300, " "]], dtype=object)
    session = open_session(identity(TensorProto.STRING, [None, 2]))
    assert session.signature.outputs[0].dtype == "string"
    assert np.array_equal(session.predict({"X": values})["p"], values)


@pytest.mark.parametrize("shape", [[None], [None, 3], [None, "length"], ["rows", 2, "length", 4], [None, 1, 1, 1, 2]])
def test_tensors_of_any_rank_are_known_and_run(shape: list[int | str | None]) -> None:
    """Axes that the model names or leaves open are None in the signature, and any size goes there."""
    session = open_session(identity(TensorProto.FLOAT, shape))
    assert session.signature.inputs[0].shape == tuple(size if isinstance(size, int) else None for size in shape)
    for free in (1, 3):
        values = np.random.default_rng(1).random(
            [size if isinstance(size, int) else free for size in shape], np.float32
        )
        assert np.array_equal(session.predict({"X": values})["p"], values)


def test_bfloat16_is_fed_as_bits_and_comes_back_as_float32() -> None:
    """bfloat16 is fed as bits in uint16; every one of the 65,536 comes back as the float32 that equals it."""
    bits = np.arange(1 << 16, dtype=np.uint16).reshape(-1, 2)
    session = open_session(identity(BFLOAT16, [None, 2]))
    assert [str(tensor) for tensor in (*session.signature.inputs, *session.signature.outputs)] == [
        "X bfloat16[rows, 2]",
        "p bfloat16[rows, 2]",
    ]
    found = session.predict({"X": bits})["p"]
    wanted = (bits.astype(np.uint32) << 16).view(np.float32)
    assert found.dtype == np.float32
    assert np.array_equal(found, wanted, equal_nan=True)


@pytest.mark.parametrize("behind", ["Softmax", ""])
@pytest.mark.parametrize("keys", [[0, 1, 2], [7, -3, 0], ["b", "a", "ä"], [5], [0, 1 << 40, -(1 << 63)]])
def test_the_maps_of_a_classifier_are_unfolded(keys: list[Any], behind: str) -> None:
    """A map a row becomes (rows, k) float32 to the bit, its columns in the order of the runtime's dicts, keys told."""
    model = classifier(keys, behind=behind)
    values = np.random.default_rng(3).normal(size=(50, len(keys))).astype(np.float32)
    [maps] = plain(model).run(None, {"X": values})
    session = open_session(model)
    found = session.predict({"X": values}, ["p0"])["p0"]
    assert found.dtype == np.float32
    assert np.array_equal(found, np.array([list(row.values()) for row in maps], np.float32))
    [output] = session.signature.outputs
    assert (output.keys, output.shape) == (tuple(maps[0]), (None, len(keys)))
    assert session.predict({"X": values[:0]})["p0"].shape == (0, len(keys))


def test_a_classifiers_keys_are_known_before_it_runs() -> None:
    """Keys of a ZipMap are read from the file, so that columns can be planned before a row is there."""
    assert open_session(classifier(["no", "maybe"])).signature.outputs[0].keys == ("maybe", "no")


def test_a_signature_agrees_before_and_after_keys_were_learned() -> None:
    """A signature whose keys were learned from a run agrees with that of the model as loaded, and with no other."""
    session = open_session(classifier([1, 2], behind=""))
    fresh = session.signature
    assert fresh.outputs[0].keys is None
    session.predict({"X": np.ones((2, 2), np.float32)})
    assert session.signature.outputs[0].keys == (1, 2)
    assert fresh.agrees(session.signature)
    assert session.signature.agrees(fresh)
    assert not open_session(classifier([1, 3])).signature.agrees(open_session(classifier([1, 2])).signature)
    assert not open_session(logistic_model()).signature.agrees(fresh)


def test_two_maps_of_one_tensor_are_both_unfolded() -> None:
    """Two ZipMaps of one tensor are two outputs, in the model's order."""
    session = open_session(classifier([1, 0], copies=2))
    assert [tensor.name for tensor in session.signature.outputs] == ["p0", "p1"]
    found = session.predict({"X": np.array([[0, 1]], np.float32)})
    assert np.array_equal(found["p0"], found["p1"])


def test_rows_with_other_keys_fail() -> None:
    """Maps that differ in their keys are an InferenceError and not a table with values in the wrong columns."""
    with pytest.raises(InferenceError, match="not every row of its output p has the same keys"):
        unfolded([{1: 0.5, 2: 0.5}, {1: 0.5, 3: 0.5}], "p")
    with pytest.raises(InferenceError, match="not every row"):
        unfolded([{1: 0.5}, {1: 0.5, 3: 0.5}], "p")


def test_a_sequence_is_one_tensor_a_row() -> None:
    """A sequence of tensors is an array of arrays, one a row, whether or not they have one shape."""
    info = helper.make_tensor_value_info
    nodes = [helper.make_node("SplitToSequence", ["X", "sizes"], ["p"], axis=0)]
    model = model_of_infos(
        nodes,
        [info("X", TensorProto.FLOAT, [None]), info("sizes", TensorProto.INT64, [None])],
        [helper.make_tensor_sequence_value_info("p", TensorProto.FLOAT, None)],
    )
    session = open_session(model)
    assert session.signature.outputs[0].sequence
    for sizes in ([1, 3], [2, 2]):
        feeds = {"X": np.arange(4, dtype=np.float32), "sizes": np.array(sizes)}
        found, [wanted] = session.predict(feeds)["p"], plain(model).run(None, feeds)
        assert found.shape == (2,)
        assert [row.tolist() for row in found] == [row.tolist() for row in wanted]


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_a_list_of_so_many_tensors_is_an_output_for_each(rows: int) -> None:
    """Two tensors in a sequence are two outputs, also of a batch of two rows, and equal those of plain onnxruntime."""
    listed = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.INT64, None))
    model = model_of_infos(
        [
            helper.make_node("Neg", ["X"], ["minus"]),
            helper.make_node("Abs", ["X"], ["size"]),
            helper.make_node("SequenceConstruct", ["minus", "size"], ["p"]),
        ],
        [helper.make_tensor_value_info("X", TensorProto.INT64, [None, 2])],
        [helper.make_value_info("p", listed), helper.make_tensor_value_info("size", TensorProto.INT64, [None, 2])],
    )
    session, feeds = open_session(model), {"X": np.arange(2 * rows).reshape(rows, 2)}
    assert [str(tensor) for tensor in session.signature.outputs] == [
        f"{name} int64[rows, 2]" for name in ("p_0", "p_1", "size")
    ]
    found, [wanted, size] = session.predict(feeds), plain(model).run(None, feeds)
    assert [found[name].tolist() for name in ("p_0", "p_1", "size")] == [
        *(part.tolist() for part in wanted),
        size.tolist(),
    ]


@pytest.mark.parametrize(
    ("type_", "told"),
    [
        (
            helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None)),
            r"seq\(tensor\(float\)\)",
        ),
        (helper.make_tensor_type_proto(TensorProto.FLOAT8E4M3FN, [None]), r"tensor\(float8e4m3fn\)"),
        (
            helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, [None])),
            r"optional\(tensor\(float\)\)",
        ),
    ],
)
def test_an_input_that_is_no_column_is_refused(type_: onnx.TypeProto, told: str) -> None:
    """An input that is no tensor of a known type is refused with its name, its type and what to do."""
    info = helper.make_value_info("X", type_)
    model = model_of_infos([helper.make_node("Identity", ["X"], ["p"])], [info], [helper.make_value_info("p", type_)])
    with pytest.raises(BundleError, match=rf"input X has type {told}, which this release cannot feed\. (Export|Put)"):
        open_session(model)


def test_a_file_that_needs_nothing_is_loaded_as_it_is() -> None:
    """A model without such outputs is given to the runtime byte by byte as it was audited."""
    model = logistic_model()
    assert rewritten(model)[0] is model


@given(st.binary(max_size=200))
@settings(max_examples=50, deadline=None)
def test_bytes_that_are_no_model_are_left_to_the_runtime(data: bytes) -> None:
    """Whatever the bytes are, they are passed on unchanged or told apart, and nothing but the runtime judges them."""
    assert rewritten(data)[0] == data


@given(st.lists(st.tuples(st.integers(1, 1000), st.integers(0, 2**64 - 1) | st.binary(max_size=300)), max_size=8))
@settings(max_examples=50, deadline=None)
def test_what_is_put_together_is_read_back(parts: list[tuple[int, int | bytes]]) -> None:
    """Fields that are written are read back: their numbers, their values and where they lie."""
    written = [number(tag, value) if isinstance(value, int) else field(tag, value) for tag, value in parts]
    data = b"".join(written)
    found = list(fields(Message(data, 0, len(data))))
    values = [
        one.content.to_bytes() if isinstance(two[1], bytes) else one.value
        for one, two in zip(found, parts, strict=True)
    ]
    assert values == [value for _, value in parts]
    assert [one.number for one in found] == [tag for tag, _ in parts]
    assert [data[one.start :] for one in found] == [b"".join(written[at:]) for at in range(len(written))]
