"""Sessions: the device that was asked for or none, and nothing that was not audited."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from scoring.errors import BundleError, DeviceError, InferenceError
from scoring.runtimes.base import RuntimeOptions
from scoring.runtimes.onnx import Session
from scoring.signature import TensorSpec
from tests.scoring.workshop import logistic_model, lookup_model, model_of

if TYPE_CHECKING:
    from pathlib import Path


def open_session(model: bytes) -> Session:
    """A session on the CPU."""
    return Session(model, RuntimeOptions(), "model.onnx")


def test_a_session_has_the_models_signature() -> None:
    """A session knows its tensors' names, types and shapes, None where any size goes."""
    signature = open_session(logistic_model()).signature
    assert [str(tensor) for tensor in (*signature.inputs, *signature.outputs)] == [
        "X float32[rows, 4]",
        "p float32[rows, 1]",
    ]
    assert signature.inputs[0].shape == (None, 4)


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((None, 28), "[rows, 28]"),
        ((1, 4), "[1, 4]"),
        ((None, None, 0), "[rows, any, 0]"),
        ((7,), "[7]"),
        ((), "[]"),
    ],
)
def test_a_tensor_is_told_as_it_is(shape: tuple[int | None, ...], text: str) -> None:
    """A tensor's text says the size of each axis, and `rows` or `any` only of one that has none."""
    assert str(TensorSpec(name="X", dtype="float32", shape=shape)) == f"X float32{text}"


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking for CUDA where the runtime has none is a DeviceError with what there is, and not a slow success."""
    there = [name for name in ort.get_available_providers() if name != "CUDAExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: there)
    with pytest.raises(
        DeviceError, match=r"device cuda was asked for, onnxruntime .* has .*CPUExecutionProvider"
    ) as caught:
        Session(logistic_model(), RuntimeOptions(device="cuda"), "model.onnx")
    assert "Install onnxruntime-gpu" in str(caught.value)


def test_a_silent_fall_back_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime that says that it has CUDA and then takes the CPU is refused."""
    make = ort.InferenceSession
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(
        ort, "InferenceSession", lambda model, options, **_: make(model, options, providers=["CPUExecutionProvider"])
    )
    with pytest.raises(DeviceError, match="CUDAExecutionProvider was asked for, onnxruntime took CPUExecutionProvider"):
        Session(logistic_model(), RuntimeOptions(device="cuda"), "model.onnx")


@pytest.mark.parametrize("model", [b"", b"no model", logistic_model()[:-10]])
def test_bytes_that_are_no_model_are_refused(model: bytes) -> None:
    """Bytes that the runtime cannot load are a BundleError with the model's name and the runtime's version."""
    with pytest.raises(BundleError, match=f"model.onnx: onnxruntime {ort.__version__} cannot load this model"):
        open_session(model)


def test_weights_beside_the_model_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose weights lie in another file is refused, also where such a file lies in the working folder."""
    nodes = [helper.make_node("Add", ["X", "W"], ["p"])]
    row = (TensorProto.FLOAT, [None, 1000])
    model = onnx.load_from_string(model_of(nodes, {"X": row}, {"p": row}, W=np.ones(1000, np.float32)))
    path = tmp_path / "model.onnx"
    onnx.save_model(model, str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (tmp_path / "weights.bin").exists()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match="Save it with its weights inside: a file beside it would not be audited"):
        open_session(path.read_bytes())


def test_a_tensor_of_an_unknown_kind_is_refused() -> None:
    """A model that takes or gives something that is no column is refused with the tensor and its type."""
    made = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
    given = helper.make_tensor_value_info("X", TensorProto.FLOAT, [None])
    graph = helper.make_graph([helper.make_node("SequenceConstruct", ["X"], ["s"])], "graph", [given], [made])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    with pytest.raises(
        BundleError, match=r"tensor s has type seq\(tensor\(float\)\), which this release cannot feed or read"
    ):
        open_session(model.SerializeToString())


def test_a_failure_of_the_model_is_told_in_the_runtimes_words() -> None:
    """A model that fails is an InferenceError with the runtime's message."""
    with pytest.raises(InferenceError, match=r"the model failed: .*out of data bounds"):
        open_session(lookup_model()).predict({"index": np.array([99])})


def test_the_runtime_does_not_take_every_core() -> None:
    """A session computes with the threads that it was told to use, and one by default."""
    for options, threads in ((RuntimeOptions(), 1), (RuntimeOptions(intra_op_threads=3), 3)):
        made = Session(logistic_model(), options, "model.onnx")._session.get_session_options()
        assert (made.intra_op_num_threads, made.inter_op_num_threads) == (threads, 1)
