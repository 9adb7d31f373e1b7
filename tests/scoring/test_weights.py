"""Weights in files beside the model: from the audited bytes alone, and not in memory twice."""

from __future__ import annotations

import mmap
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from scoring.errors import BundleError
from scoring.runtimes import load
from scoring.runtimes.base import RuntimeOptions

if TYPE_CHECKING:
    from pathlib import Path


def weighted_model(width: int, *places: tuple[str, int]) -> bytes:
    """X + the sum of tensors of `width` floats that lie in files, each at its offset."""
    tensors = []
    for at, (location, offset) in enumerate(places):
        tensor = TensorProto(name=f"W{at}", data_type=TensorProto.FLOAT, dims=[width])
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", str(offset)), ("length", str(4 * width))):
            tensor.external_data.add(key=key, value=value)
        tensors.append(tensor)
    nodes = [helper.make_node("Sum", ["X", *(tensor.name for tensor in tensors)], ["p"])]
    row = helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, width])
    out = helper.make_tensor_value_info("p", TensorProto.FLOAT, [None, width])
    graph = helper.make_graph(nodes, "graph", [row], [out], tensors)
    return bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    )


def test_weights_of_a_bundle_are_given_to_the_runtime() -> None:
    """Weights that are files of the bundle, beside the model or below it, are what the model computes with."""
    one, two = np.arange(3, dtype=np.float32), np.array([10, 20, 30], np.float32)
    files = {
        "models/net.onnx": weighted_model(3, ("net.data", 0), ("more/w.bin", 8)),
        "models/net.data": one.tobytes(),
        "models/more/w.bin": bytes(8) + two.tobytes(),
        "etl.json": b"{}",
    }
    session = load("models/net.onnx", files, RuntimeOptions(), where="bundle")
    files.clear()
    found = session.predict({"X": np.ones((2, 3), np.float32)})["p"]
    assert np.array_equal(found, np.ones((2, 3), np.float32) + one + two)


def test_weights_that_are_no_file_of_the_bundle_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that lies where the model says, and is no file of the bundle, is not read: the model is refused."""
    (tmp_path / "w.bin").write_bytes(bytes(12))
    monkeypatch.chdir(tmp_path)
    files = {"model.onnx": weighted_model(3, ("w.bin", 0)), "other.bin": bytes(12)}
    with pytest.raises(BundleError, match=r"its weights lie beside it in w\.bin, which is no file of this bundle"):
        load("model.onnx", files, RuntimeOptions(), where=str(tmp_path))


def test_weights_that_are_cut_off_are_refused() -> None:
    """A file that is shorter than the model says is refused with the tensor that is not whole."""
    files = {"model.onnx": weighted_model(3, ("w.bin", 0)), "w.bin": bytes(8)}
    with pytest.raises(BundleError, match="the file of its tensor W0 is shorter than the model says"):
        load("model.onnx", files, RuntimeOptions(), where="bundle")


def test_an_onnxruntime_that_takes_no_weights_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the runtime cannot be given audited weights, that is said, and none are read from disk instead."""
    monkeypatch.delattr(ort.SessionOptions, "add_external_initializers_from_files_in_memory")
    with pytest.raises(BundleError, match=r"this runtime cannot be given weights that were audited\. Install a newer"):
        load("model.onnx", {"model.onnx": weighted_model(3, ("w.bin", 0))}, RuntimeOptions(), where="bundle")


def test_weights_beyond_two_gigabytes_are_found(tmp_path: Path) -> None:
    """Tensors at the beginning and beyond 4 GB of one mapped file are both read: no offset is cut to 32 bits."""
    far, values = (4 << 30) + 4096, np.array([1.5, -2, 7], np.float32)
    with (tmp_path / "w.bin").open("w+b") as file:  # sparse: it takes no room
        file.write(values.tobytes())
        file.seek(far)
        file.write((10 * values).tobytes())
        file.flush()
        weights = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    files: dict[str, bytes | mmap.mmap] = {"w.bin": weights}
    files["model.onnx"] = weighted_model(3, ("w.bin", 0), ("w.bin", far))
    session = load("model.onnx", files, RuntimeOptions(), where="bundle")
    found = session.predict({"X": np.zeros((1, 3), np.float32)})["p"]
    assert np.array_equal(found, [11 * values])


@pytest.mark.servers
def test_a_single_tensor_above_two_gigabytes_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """The runtime's limit for one tensor is told with the tensor, its size, and the ways out."""
    width = (2 << 30) // 4 + 1
    with (tmp_path / "w.bin").open("w+b") as file:  # sparse: it takes no room
        file.truncate(4 * width)
        weights = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    files: dict[str, bytes | mmap.mmap] = {"w.bin": weights, "model.onnx": weighted_model(width, ("w.bin", 0))}
    with pytest.raises(BundleError, match=r"its tensor W0 has 2147483652 bytes.*split it, or keep it in float16"):
        load("model.onnx", files, RuntimeOptions(), where="bundle")


_MEASURED = """
import mmap, sys
from scoring.runtimes import load
from scoring.runtimes.base import RuntimeOptions

def kilobytes(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key))

import scoring.runtimes.onnx
before, files_before = kilobytes("RssAnon:"), kilobytes("RssFile:")
with open(sys.argv[2], "rb") as file:
    weights = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
session = load("m", {"m": open(sys.argv[1], "rb").read(), "w.bin": weights}, RuntimeOptions(), where="b")
print(kilobytes("RssAnon:") - before, kilobytes("RssFile:") - files_before)
"""


def test_weights_are_in_memory_once(tmp_path: Path) -> None:
    """Of mapped weights of 64 MB, a loaded model has one copy, and the pages of the file are given back."""
    parts, width = 8, 2 << 20
    size = parts * width * 4
    (tmp_path / "m").write_bytes(weighted_model(width, *(("w.bin", 4 * width * at) for at in range(parts))))
    np.ones(parts * width, np.float32).tofile(tmp_path / "w.bin")
    command = [sys.executable, "-c", _MEASURED, str(tmp_path / "m"), str(tmp_path / "w.bin")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    own, of_files = (int(word) * 1024 for word in done.stdout.split())
    assert own < 1.2 * size + (16 << 20)
    assert of_files < size / 2
