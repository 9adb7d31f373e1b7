"""Large files and weights beside the model: mapped, audited like any other file, and loaded as they were hashed."""

from __future__ import annotations

import mmap
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime as ort
import pyarrow as pa
import pytest
from onnx import TensorProto, helper

from etl.runs.layout import model_folder
from jobs.config.job import Model
from jobs.planning.model import resolve_model
from scoring.bundles.bundle import AuditedBundle, audit, copy_bundle
from scoring.bundles.create import BundleParts, create_bundle
from scoring.bundles.weights import external_files, weights_beside
from scoring.errors import BundleError
from scoring.runtimes import load
from scoring.runtimes.base import RuntimeOptions
from tests.scoring.test_bundle import change, refused
from tests.scoring.workshop import LOOKUP_SPEC, STORE, VALUES, P, Work, logistic_model, model_of, parts_of, predictions
from tests.stores.site import sha256

if TYPE_CHECKING:
    from pathlib import Path

LARGE_VALUES = np.arange(5_000_001, dtype=np.float32)
"""More than 16 MiB."""


def save_apart(folder: Path, values: np.ndarray, name: str) -> Path:
    """A model that looks up values, which lie in another file."""
    node = helper.make_node("Gather", ["values", "index"], ["p"], axis=0)
    data = model_of([node], {"index": (TensorProto.INT64, [None])}, {"p": (TensorProto.FLOAT, [None])}, values=values)
    (folder / name).parent.mkdir(parents=True)
    model = onnx.load_from_string(data)
    onnx.save(model, folder / "given.onnx", save_as_external_data=True, location=name, size_threshold=0)
    return folder / "given.onnx"


def apart_parts(path: Path) -> BundleParts:
    """What a bundle of such a model is made of."""
    golden = pa.table({"index": [0, 1], "id": [0, 1]})
    return parts_of(LOOKUP_SPEC, path.read_bytes(), golden, [P])._replace(weights=weights_beside(path))


def large_bundle(folder: Path) -> AuditedBundle:
    """A bundle with a large file."""
    return create_bundle(
        STORE, str(folder), apart_parts(save_apart(folder.parent / "given", LARGE_VALUES, "weights.bin"))
    )


def apart(name: str) -> onnx.TensorProto:
    """A tensor that lies in a file."""
    tensor = onnx.TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="offset", value="0")
    tensor.external_data.add(key="location", value=name)
    return tensor


def test_a_large_file_is_mapped(tmp_path: Path) -> None:
    """A file above 16 MiB is mapped and not read into memory; its bundle is copied and audited like any other."""
    audited = large_bundle(tmp_path / "bundle")
    weights = audited.files["weights.bin"]
    assert isinstance(weights, mmap.mmap)
    assert weights[:] == LARGE_VALUES.tobytes()
    assert {type(content) for name, content in audited.files.items() if name != "weights.bin"} == {bytes}
    copy_bundle(audited, STORE, str(tmp_path / "copy"))
    copied = audit(STORE, str(tmp_path / "copy"))
    assert (copied.sha256, copied.bundle) == (audited.sha256, audited.bundle)
    assert (tmp_path / "copy" / "weights.bin").read_bytes() == LARGE_VALUES.tobytes()
    with pytest.raises(TypeError, match="readonly"):
        weights[0] = 1


def test_to_hash_a_large_file_takes_no_memory_of_its_size(tmp_path: Path) -> None:
    """The audit has no more than a piece of a large file in memory at a time: the pages behind it are given back."""
    with (tmp_path / "file").open("wb") as file:
        file.truncate(256 << 20)
    script = (
        "import resource, sys, hashlib\n"
        "from scoring.bundles.files import read_file, sha256_of\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\n"
        "print(sha256_of(read_file(sys.argv[1])), peak() - before)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "file")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found, kilobytes = done.stdout.split()
    assert found == sha256(bytes(256 << 20))
    assert int(kilobytes) < 64 << 10


def test_what_was_hashed_is_what_is_loaded(tmp_path: Path) -> None:
    """A large file that is replaced after the audit is loaded as it was; one that was written to is refused."""
    audited = large_bundle(tmp_path / "bundle")
    place = tmp_path / "bundle" / "weights.bin"
    (tmp_path / "other").write_bytes(bytes(LARGE_VALUES.nbytes))
    (tmp_path / "other").rename(place)
    audited.settle()
    session = load("model.onnx", audited.files, RuntimeOptions(), where="here")
    [scores] = session.predict({"index": np.array([0, 5_000_000])}).values()
    assert scores.tolist() == LARGE_VALUES[[0, 5_000_000]].tolist()
    place.write_bytes(LARGE_VALUES.tobytes())
    again = audit(STORE, str(tmp_path / "bundle"))
    again.settle()
    with place.open("r+b") as file:
        file.write(b"\x01")
    with pytest.raises(
        BundleError, match=r"file weights\.bin was written to while it was loaded .* Replace files whole"
    ):
        again.settle()


@pytest.mark.parametrize("name", ["weights.bin", "parts/weights.bin"])
def test_weights_beside_the_model_are_part_of_the_bundle(tmp_path: Path, name: str) -> None:
    """A model with its weights in another file scores like onnxruntime with both at hand; that file has a digest, is
    changed unseen by nobody, and is not looked for beside the bundle.
    """  # noqa: D205  one sentence
    path = save_apart(tmp_path / "given", VALUES, name)
    audited = create_bundle(STORE, str(tmp_path / "bundle"), apart_parts(path))
    assert name in audited.bundle.files
    [expected] = ort.InferenceSession(str(path)).run(None, {"index": np.arange(4)})
    for parent in ("given", "bundle"):
        (tmp_path / parent).rename(tmp_path / f"moved-{parent}")
    [found] = (
        load("model.onnx", audited.files, RuntimeOptions(), where="here").predict({"index": np.arange(4)}).values()
    )
    assert found.tolist() == expected.tolist() == VALUES.tolist()
    folder = tmp_path / "moved-bundle"
    data = bytearray((folder / name).read_bytes())
    data[0] ^= 1
    (folder / name).write_bytes(data)
    assert f"file {name} was changed" in refused(folder)
    change(folder, lambda value: value["files"].pop(name))
    assert refused(folder) == (
        f"{folder}: the model has weights in the file '{name}', which has no digest in bundle.json. Nothing was loaded."
    )


def test_a_worker_scores_with_mapped_weights(tmp_path: Path) -> None:
    """Rows that a worker scores with a model whose weights are mapped have the values that the weights hold."""
    table = pa.table({"index": [0, 4_194_305, 5_000_000], "id": [1, 2, 3]})
    work = Work(tmp_path / "work", table, large_bundle)
    assert isinstance(audit(STORE, model_folder(work.root, work.audited.sha256)).files["weights.bin"], mmap.mmap)
    assert predictions(work.score()).column("p").to_pylist() == [0.0, 4_194_305.0, 5_000_000.0]


def test_a_bare_model_has_its_weights_beside_it(tmp_path: Path) -> None:
    """A config that names an ONNX file gets a bundle with its weights, mapped; where they are missing it says so."""
    path = save_apart(tmp_path / "given", LARGE_VALUES, "weights.bin")
    config, schema = Model.model_validate({"onnx": str(path)}), pa.schema({"index": pa.int64()})
    audited = resolve_model(config, schema)
    assert isinstance(audited.files["weights.bin"], mmap.mmap)
    copy_bundle(audited, STORE, str(tmp_path / "copy"))
    assert audit(STORE, str(tmp_path / "copy")).sha256 == audited.sha256
    values = np.zeros_like(LARGE_VALUES)
    assert save_apart(tmp_path / "other", values, "weights.bin").read_bytes() == path.read_bytes()
    other = resolve_model(Model.model_validate({"onnx": str(tmp_path / "other" / "given.onnx")}), schema)
    assert other.bundle.version != audited.bundle.version
    (tmp_path / "given" / "weights.bin").unlink()
    with pytest.raises(BundleError, match=r"has weights in the file 'weights\.bin', which is not beside it"):
        resolve_model(config, schema)


def test_weights_that_are_not_given_are_told(tmp_path: Path) -> None:
    """A bundle of a model without its weights is refused before anything is written, and so is one that leads away."""
    path = save_apart(tmp_path / "given", VALUES, "weights.bin")
    parts = apart_parts(path)
    for wrong, told in (
        (parts._replace(weights={}), "the model has weights in the file 'weights.bin', which is not among `weights`"),
        (parts._replace(weights={**parts.weights, "../x": path}), "file name '../x' leaves the bundle or is hidden"),
        (parts._replace(weights={"weights.bin": tmp_path / "none"}), "a file of the model cannot be read"),
        (parts._replace(weights={**parts.weights, "etl.json": path}), "the bundle has a file etl.json of its own"),
    ):
        with pytest.raises(BundleError, match=re.escape(told)):
            create_bundle(STORE, str(tmp_path / "bundle"), wrong)
        assert not (tmp_path / "bundle").exists()
    away = onnx.load(str(path), load_external_data=False)
    for entry in away.graph.initializer[0].external_data:
        entry.value = "../weights.bin" if entry.key == "location" else entry.value
    path.write_bytes(away.SerializeToString())
    with pytest.raises(BundleError, match=r"has weights in the file '\.\./weights\.bin', which is not in its folder"):
        weights_beside(path)


def test_files_with_weights_are_found_wherever_a_tensor_may_be() -> None:
    """Tensors of the graph, branches, functions, attributes and sparse tensors are found; what is no model has none."""
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=apart("inner"))], "b", [], [], [apart("b")]
    )
    sparse = onnx.SparseTensorProto(values=apart("values"), indices=apart("indices"), dims=[1])
    nodes = [
        helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch),
        helper.make_node("Many", ["x"], ["z"], domain="ours", tensors=[apart("one"), apart("./two")]),
        helper.make_node("Constant", [], ["s"], sparse_value=sparse),
    ]
    graph = helper.make_graph(nodes, "g", [], [], [apart("outer"), apart("outer")])
    model = helper.make_model(graph)
    constant = helper.make_node("Constant", [], ["f"], value=apart("function"))
    model.functions.append(helper.make_function("ours", "F", [], ["f"], [constant], []))
    found = external_files(model.SerializeToString())
    assert found == ("b", "function", "indices", "inner", "one", "outer", "two", "values")
    for nothing in (logistic_model(), b"", b"location", b"no model, but a location", bytes(1000), b"\x3a\xff\xff"):
        assert external_files(nothing) == ()
