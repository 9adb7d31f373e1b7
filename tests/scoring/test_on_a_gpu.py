"""What only a GPU can show: models run there, share it, run out of its memory, and wait for it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from scoring.bundles.create import create_bundle
from scoring.runtimes.base import HERE, RuntimeOptions
from scoring.runtimes.gpu import gpu_facts
from scoring.runtimes.onnx import Session
from scoring.spark.devices import device_of
from tests.numbers_job import FEATURES
from tests.scoring.runtime_models import by_hand, feeds, torch_module, torch_program
from tests.scoring.workshop import LOGISTIC_SPEC, STORE, P, Work, logistic_model, model_of, numbers, parts_of
from tests.scoring.workshop import predictions as predictions_of

if TYPE_CHECKING:
    from pathlib import Path

    from scoring.bundles.bundle import AuditedBundle

CUDA, CPU, TENSORRT = "CUDAExecutionProvider", "CPUExecutionProvider", "TensorrtExecutionProvider"
WIDE = 1 << 18
"""Values that the wide model computes of a row: a MiB."""

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def gpu() -> None:
    """Skip where there is none, or where the installed onnxruntime cannot use it."""
    if CUDA not in ort.get_available_providers() or gpu_facts(0) is None:
        pytest.skip("no GPU")


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_model_runs_on_a_gpu(device: Any) -> None:
    """On a GPU the model gives what it gives on the CPU, within the tolerance, and its operators ran there."""
    if device == "tensorrt" and importlib.util.find_spec("tensorrt") is None:
        pytest.skip("no TensorRT")
    provider = {"cuda": CUDA, "tensorrt": TENSORRT}[device]
    values = np.random.default_rng(5).normal(size=(64, 4)).astype(np.float32)
    made = Session(logistic_model(), RuntimeOptions(device=device), "model.onnx", placement=HERE)
    assert (made.device, made.provider, made.fell_back) == (device, provider, None)
    assert made.operators[provider] > 0
    [wanted] = ort.InferenceSession(logistic_model(), providers=[CPU]).run(None, {"X": values})
    np.testing.assert_allclose(made.predict({"X": values})["p"], wanted, rtol=1e-3, atol=1e-4)


def weights() -> np.ndarray:
    """Of the wide model."""
    return np.random.default_rng(6).normal(size=(4, WIDE)).astype(np.float32)


def wide_bundle(folder: Path) -> AuditedBundle:
    """The mean of 262,144 products, none of them below 0: a model that takes more than a MiB of the device a row."""
    nodes = [
        helper.make_node("MatMul", ["X", "W"], ["wide"]),
        helper.make_node("Abs", ["wide"], ["absolute"]),
        helper.make_node("ReduceMean", ["absolute"], ["p"], axes=[1], keepdims=1),
    ]
    shapes = ({"X": (TensorProto.FLOAT, [None, 4])}, {"p": (TensorProto.FLOAT, [None, 1])})
    model = model_of(nodes, *shapes, W=weights())
    return create_bundle(STORE, str(folder), parts_of(LOGISTIC_SPEC, model, numbers(8), [P]))


def test_a_call_that_the_gpu_has_no_memory_for_is_halved(tmp_path: Path) -> None:
    """Calls of 4 GiB where a worker may have 0.9 are halved and counted, and each row has its score."""
    table = numbers(6_000)
    work = Work(tmp_path, table, bundle=wide_bundle, row_group=6_000)
    runtime = RuntimeOptions(device="cuda", gpu_memory_limit=1600 << 20)
    [receipt] = work.score(runtime=runtime, batch_rows=4096, table_rows=8192)
    [facts] = receipt.batches.values()
    assert (receipt.worker.provider, receipt.worker.device_id) == (CUDA, 0)
    assert facts.out_of_memory >= 2
    assert 64 <= facts.rows <= 1024
    features = np.stack([table.column(name).to_numpy() for name in FEATURES], axis=1)
    wanted = [np.abs(part @ weights()).mean(axis=1) for part in np.split(features, 60)]
    found = predictions_of([receipt]).sort_by("id")
    assert found.column("id").equals(table.column("id"))
    np.testing.assert_allclose(found.column("p").to_numpy(), np.concatenate(wanted), rtol=1e-4)


_OPEN = """
from scoring.runtimes.base import RuntimeOptions
from scoring.runtimes.onnx import Session
from tests.scoring.workshop import logistic_model
print(Session(logistic_model(), RuntimeOptions(device="cuda"), "model.onnx").device)
"""

_HOG = """
import ctypes, sys, time
cuda = ctypes.CDLL("libcuda.so.1")
context, free, total, place = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_size_t(), ctypes.c_uint64()
assert cuda.cuInit(0) == 0
assert cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
assert cuda.cuCtxSetCurrent(context) == 0
assert cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)) == 0
size = free.value
while cuda.cuMemAlloc_v2(ctypes.byref(place), ctypes.c_size_t(size)) != 0:
    size -= 16 << 20
print(size, flush=True)
time.sleep(float(sys.argv[1]))
"""
"""Takes all memory of the GPU for some seconds."""


def opened(**environment: str) -> subprocess.CompletedProcess[str]:
    """A process of its own that loads a model on the GPU and says where it is."""
    told = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", _OPEN], capture_output=True, text=True, check=False, env=told)


def test_a_gpu_that_another_process_has_filled_is_waited_for() -> None:
    """While another process holds all memory of the GPU no session is made; it is made once that one has ended."""
    with subprocess.Popen([sys.executable, "-c", _HOG, "6"], stdout=subprocess.PIPE, text=True) as hog:
        assert hog.stdout is not None
        assert int(hog.stdout.readline()) > 1 << 30
        made = opened()
        assert hog.poll() == 0, "it was made while the GPU was full"
    assert made.stdout.split()[-1:] == ["cuda"], made.stderr


def test_the_visible_gpu_is_number_0() -> None:
    """Where CUDA_VISIBLE_DEVICES shows one GPU the model runs on it; where it shows none, that is told."""
    assert device_of(["0"], {"CUDA_VISIBLE_DEVICES": "0"}) == 0
    assert opened(CUDA_VISIBLE_DEVICES="0").stdout.split()[-1:] == ["cuda"]
    failed = opened(CUDA_VISIBLE_DEVICES="")
    assert "NVIDIA's driver shows no GPU 0 here" in failed.stderr, failed.stdout + failed.stderr


# torch's own loader of programs warns of it.
@pytest.mark.filterwarnings("ignore:The given buffer is not writable")
@pytest.mark.parametrize("form", [torch_module, torch_program])
def test_torch_runs_on_a_gpu(tmp_path: Path, form: Any) -> None:
    """A module and a program of torch give on the GPU what the formula gives, and out of memory is told apart."""
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("safetensors") is None:
        pytest.skip("no torch")
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no torch for this GPU")
    made = form(tmp_path).load(device="cuda")
    assert (made.device, made.fell_back) == ("cuda", None)
    given = feeds(200)
    found, wanted = made.predict(given), by_hand(given)
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-5)
