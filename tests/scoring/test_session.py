"""Sessions: the device that was asked for or none, and nothing that was not audited."""

from __future__ import annotations

import json
import os
import weakref
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from scoring.errors import BundleError, DeviceError, InferenceError, OutOfMemory
from scoring.runtimes.base import Placement, RuntimeOptions
from scoring.runtimes.onnx import Session
from scoring.runtimes.onnx.reasons import is_out_of_memory
from scoring.runtimes.onnx.session import loses_memory
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
    with pytest.raises(BundleError, match=r"its weights lie beside it in weights.bin, which is no file of this bundle"):
        open_session(path.read_bytes())


def test_a_failure_of_the_model_is_told_in_the_runtimes_words() -> None:
    """A model that fails is an InferenceError with the runtime's message."""
    with pytest.raises(InferenceError, match=r"the model failed: .*out of data bounds"):
        open_session(lookup_model()).predict({"index": np.array([99])})


def test_the_runtime_does_not_take_every_core() -> None:
    """A session computes with as many threads as the task has cores, or as it was told to use."""
    cases = (
        (RuntimeOptions(), Placement(), 1),
        (RuntimeOptions(), Placement(cores=4), 4),
        (RuntimeOptions(intra_op_threads=3), Placement(cores=4), 3),
    )
    for options, placement, threads in cases:
        session = Session(logistic_model(), options, "model.onnx", placement=placement)._session
        assert session is not None
        made = session.get_session_options()
        assert (made.intra_op_num_threads, made.inter_op_num_threads) == (threads, 1)


@pytest.mark.parametrize("level", [0, 4])
def test_a_level_of_zero_is_a_level(level: int) -> None:
    """The least that the runtime logs is what was asked for, and 0 is not taken for nothing."""
    session = Session(logistic_model(), RuntimeOptions(log_severity=level), "model.onnx")._session
    assert session is not None
    assert session.get_session_options().log_severity_level == level


def test_too_large_a_batch_is_out_of_memory() -> None:
    """A run that the runtime has no memory for is OutOfMemory, whereupon fewer rows may do; the session lives on."""
    nodes = [helper.make_node("ConstantOfShape", ["n"], ["p"])]
    model = model_of(nodes, {"n": (TensorProto.INT64, [None])}, {"p": (TensorProto.FLOAT, [None, None])})
    session = open_session(model)
    with pytest.raises(OutOfMemory, match="Failed to allocate memory"):
        session.predict({"n": np.array([1 << 20, 1 << 24])})
    assert session.predict({"n": np.array([2, 3])})["p"].shape == (2, 3)


@pytest.mark.parametrize(
    "text",
    [
        "bfc_arena.cc:360 BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 1024",
        "CUDA failure 2: out of memory ; GPU=0 ; hostname=h ; expr=cudaMalloc((void**)&p, size);",
        "Available memory of 1048576 is smaller than requested bytes of 2097152",
        "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED",
        "std::bad_alloc",
    ],
)
def test_each_library_has_its_words_for_out_of_memory(text: str) -> None:
    """What the arenas, CUDA, cuBLAS and the host say when memory is short is known as that."""
    assert is_out_of_memory(RuntimeError(text))


@pytest.mark.parametrize("text", ["indices element out of data bounds, idx=99", "CUDA failure 700: illegal address"])
def test_other_failures_are_not_out_of_memory(text: str) -> None:
    """A failure that fewer rows would meet as well is not taken for a lack of memory."""
    assert not is_out_of_memory(RuntimeError(text))


def _versioned(opset: int = 17, ir_version: int = 9, *, op: str = "Identity", domain: str = "") -> bytes:
    row = (TensorProto.FLOAT, [None, 2])
    graph = helper.make_graph(
        [helper.make_node(op, ["X"], ["p"], domain=domain)],
        "graph",
        [helper.make_tensor_value_info("X", *row)],
        [helper.make_tensor_value_info("p", *row)],
    )
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=ir_version).SerializeToString())


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (_versioned(opset=99), r"it uses opset 99 of ai.onnx, and this runtime knows up to \d+\. Install a newer"),
        (_versioned(ir_version=99), r"it is written in ONNX IR version 99, and this runtime reads up to \d+\. Install"),
        (_versioned(op="Mine", domain="my.ops"), "it has operator Mine of domain my.ops, which is no operator of this"),
        (_versioned(op="Nope"), "opset 17 has no operator Nope that this runtime knows"),
    ],
)
def test_a_model_that_the_runtime_is_too_old_for_is_told_as_such(model: bytes, told: str) -> None:
    """Of an opset, an IR version or an operator that the runtime lacks: which one, what it has, and what to do."""
    with pytest.raises(BundleError, match=f"onnxruntime {ort.__version__} cannot load this model: {told}"):
        open_session(model)


def test_a_warm_up_runs_the_model_and_fails_nothing() -> None:
    """A warm-up is one run of the model on made-up rows; that the model cannot take them is no error."""
    session = open_session(logistic_model())
    session.warm_up()
    with pytest.raises(InferenceError):
        open_session(picky_model()).predict({"X": np.zeros(1, np.int64)})
    open_session(picky_model()).warm_up()


def picky_model() -> bytes:
    """values[X - 1]: it fails on 0, which a warm-up would feed."""
    nodes = [
        helper.make_node("Sub", ["X", "two"], ["i"]),
        helper.make_node("Gather", ["values", "i"], ["p"], axis=0),
    ]
    return model_of(
        nodes,
        {"X": (TensorProto.INT64, [None])},
        {"p": (TensorProto.FLOAT, [None])},
        two=np.array(2),
        values=np.array([7], np.float32),
    )


def test_a_closed_session_says_so() -> None:
    """A closed session frees the model, can be closed again, and fails clearly."""
    session = open_session(logistic_model())
    held = weakref.ref(session._session)
    session.close()
    session.close()
    assert held() is None
    with pytest.raises(InferenceError, match="it was closed"):
        session.predict({"X": np.zeros((1, 4), np.float32)})


def test_the_runtimes_profile_is_had_once(tmp_path: Path) -> None:
    """With a folder for it, the runtime's profile of what ran until it was ended lies there, named by the process."""
    session = Session(logistic_model(), RuntimeOptions(profile=str(tmp_path / "profiles")), "model.onnx")
    session.predict({"X": np.zeros((3, 4), np.float32)})
    found = session.end_profile()
    assert session.end_profile() is None
    assert found is not None
    [file] = (tmp_path / "profiles").iterdir()
    assert str(file) == found
    assert file.name.startswith(f"onnxruntime-{os.getpid()}")
    assert {"MatMul", "Sigmoid"} <= {event["args"].get("op_name") for event in json.loads(file.read_text())}


def test_without_a_folder_there_is_no_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a folder for it, a session writes no profile."""
    monkeypatch.chdir(tmp_path)
    session = open_session(logistic_model())
    assert session.end_profile() is None
    session.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("version", "machine", "loses"),
    [
        ("1.24.1", "aarch64", True),
        ("1.26.0", "arm64", True),
        ("1.27.0", "aarch64", False),
        ("1.24.0", "aarch64", False),
        ("1.26.0", "x86_64", False),
    ],
)
def test_a_runtime_that_loses_memory_is_known(version: str, machine: str, *, loses: bool) -> None:
    """KleidiAI is turned off for the releases on ARM whose convolutions lose memory with it, and for no others."""
    assert loses_memory(version, machine) is loses
