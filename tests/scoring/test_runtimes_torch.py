"""torch: programs by consent, modules by name, and exports that are proven. Runs where torch is: `make test-torch`."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import pickle
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from typer.testing import CliRunner

from jobs.authoring.exporting import Export, export_torch
from jobs.cli import app
from jobs.errors import Refused
from scoring.errors import BundleError, DeviceError, InferenceError, OutOfMemory
from scoring.runtimes import load
from scoring.runtimes.base import Placement, RuntimeOptions
from tests.scoring import torch_modules
from tests.scoring.runtime_models import SIGNATURE, by_hand, feeds, torch_module, torch_program

if TYPE_CHECKING:
    from pathlib import Path

    from scoring.runtimes.base import Runtime

ROWS = torch.export.Dim.DYNAMIC
TRUSTING = RuntimeOptions(trust=("torch_program",))
HERE = "tests.scoring.torch_modules"


def program(module: torch.nn.Module, *args: torch.Tensor, **kwargs: torch.Tensor) -> bytes:
    """A .pt2 file of a module whose inputs have rows as an open axis."""
    shapes = {name: {0: ROWS} for name in kwargs}
    open_rows = tuple({0: ROWS} for _ in args) if not kwargs else None
    if kwargs:
        names = list(torch_modules.names_of(module))[: len(args)]
        shapes |= {name: {0: ROWS} for name in names}
    exported = torch.export.export(module, args, kwargs, dynamic_shapes=open_rows or shapes)
    written = io.BytesIO()
    torch.export.save(exported, written)
    return written.getvalue()


def opened(data: bytes, options: RuntimeOptions = TRUSTING) -> Runtime:
    """A program as a worker loads it."""
    return load("model.pt2", {"model.pt2": data}, options, where="bundle", kind="torch")


def tensor(name: str, dtype: str, *shape: int | None) -> dict[str, Any]:
    """A tensor of a signature."""
    return {"name": name, "dtype": dtype, "shape": [None, *shape]}


X4 = [tensor("X", "float32", 4)]


def declared(name: str, tensors: dict[str, torch.Tensor], outputs: list[Any], /, **facts: Any) -> Runtime:
    """A module of the tests as a worker loads it."""
    document = {
        "format": "batchscore.torch/1",
        "module": f"{HERE}:{name}" if ":" not in name else name,
        "weights": "w.safetensors",
        "signature": {"inputs": X4, "outputs": outputs},
        **facts,
    }
    files = {"model.json": json.dumps(document).encode(), "w.safetensors": save(tensors)}
    return load("model.json", files, RuntimeOptions(), where="bundle", kind="torch")


def told(runtime: Runtime) -> tuple[list[str], list[str]]:
    """The signature as texts."""
    signature = runtime.signature
    return [str(t) for t in signature.inputs], [str(t) for t in signature.outputs]


@pytest.mark.parametrize(
    ("kind", "outputs"),
    [
        ("tensor", ["output float32[rows, 4]"]),
        ("tuple", ["output_0 float32[rows, 4]", "output_1 float32[rows]"]),
        ("mapping", ["twice float32[rows, 4]", "sum float32[rows]"]),
    ],
)
def test_outputs_of_a_program_have_the_names_that_it_gives_them(kind: str, outputs: list[str]) -> None:
    """Keys of a mapping are names; what has none is `output`, or is numbered."""
    runtime = opened(program(torch_modules.Returns(kind), torch.ones(3, 4)))
    assert told(runtime) == (["X float32[rows, 4]"], outputs)
    x = feeds(5)["X"]
    found = list(runtime.predict({"X": x}).values())
    np.testing.assert_array_equal(found[0], x * 2)
    for rest in found[1:]:
        np.testing.assert_allclose(rest, x.sum(axis=1), rtol=1e-5)


def test_arguments_by_keyword_and_of_other_types() -> None:
    """A program may take arguments by keyword, and of any type; rows are scored one at a time as well as together."""
    module = torch_modules.Keywords()
    data = program(module, torch.ones(3, 4), mask=torch.ones(3, dtype=torch.bool), half=torch.ones(3).half())
    runtime = opened(data)
    assert told(runtime)[0] == ["X float32[rows, 4]", "mask bool[rows]", "half float16[rows]"]
    given_ = {"X": feeds(6)["X"], "mask": np.arange(6) % 2 == 0, "half": np.arange(6, dtype=np.float16)}
    found = runtime.predict(given_)["output"]
    expected = np.where(given_["mask"], given_["X"].sum(axis=1), given_["half"].astype(np.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    alone = [runtime.predict({name: v[row : row + 1] for name, v in given_.items()})["output"][0] for row in range(6)]
    np.testing.assert_array_equal(alone, found)


def test_a_program_of_fixed_rows_says_so() -> None:
    """A first axis that was not left open is in the signature, so that no bundle is made of it."""
    written = io.BytesIO()
    torch.export.save(torch.export.export(torch_modules.Returns("tensor"), (torch.ones(3, 4),)), written)
    assert opened(written.getvalue()).signature.inputs[0].shape == (3, 4)


def test_a_program_of_training_is_refused() -> None:
    """Dropout and batch normalisation as in training would give other scores each time: the program is not loaded."""
    for module in (torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(4)):
        with pytest.raises(BundleError, match=r"in training mode .*Call `\.eval\(\)`"):
            opened(program(module.train(), torch.ones(3, 4)))
        opened(program(module.eval(), torch.ones(3, 4))).close()


class _Payload:
    """Pickled, it makes a folder where it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


def _with_payload(data: bytes, path: str) -> bytes:
    """The archive with a pickle in place of its sample inputs: torch falls back to unpickling whatever it finds."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            content = pickle.dumps((_Payload(path),), protocol=2) if name.endswith("model.pt") else old.read(name)
            new.writestr(name, content)
    return out.getvalue()


@pytest.mark.filterwarnings("ignore")  # torch's, as it falls back
def test_a_program_is_not_touched_without_the_jobs_consent(tmp_path: Path) -> None:
    """A .pt2 that has a pickle runs it where the job trusts programs, and nowhere else."""
    ran = tmp_path / "ran"
    data = _with_payload(program(torch_modules.Returns("tensor"), torch.ones(3, 4)), str(ran))
    for options in (RuntimeOptions(), RuntimeOptions(trust=("pyfunc",))):
        with pytest.raises(BundleError, match=r"does not allow that.*scoring\.trust: \[torch_program\]"):
            opened(data, options)
        assert not ran.exists()
    with contextlib.suppress(BundleError):
        opened(data)
    assert ran.exists()


def test_what_is_no_module_is_never_called(tmp_path: Path) -> None:
    """A declaration can name classes of torch.nn.Module only; a function with its arguments is refused, not called."""
    target = tmp_path / "made"
    for name in ("os:mkdir", "os:getcwd", f"{HERE}:names_of", f"{HERE}:absent"):
        with pytest.raises(BundleError, match=r"no subclass of torch\.nn\.Module"):
            declared(name, {}, [tensor("p", "float32")], kwargs={"path": str(target)})
    assert not target.exists()
    with pytest.raises(BundleError, match=r"absent_package cannot be imported here.*Install it on every worker"):
        declared("absent_package:Model", {}, [tensor("p", "float32")])
    for name in ("os.path", "a b:C", "../x:Y", ":Y"):
        with pytest.raises(BundleError, match="/module"):
            declared(f"{name}:" if ":" not in name else name, {}, [tensor("p", "float32")])


def weights_of(name: str, **kwargs: Any) -> dict[str, torch.Tensor]:
    """Random weights of a module of the tests, without copies of tied ones."""
    torch.manual_seed(0)
    return dict(getattr(torch_modules, name)(**kwargs).state_dict())


def test_weights_have_to_be_those_of_the_module() -> None:
    """A weight that is missing, or that the module does not know, or of another shape, is a BundleError naming it."""
    whole = weights_of("Tied", width=4)
    outputs = [tensor("p", "float32", 4)]
    for weights, message in (
        ({"bias": whole["bias"]}, "weights missing: .*second.weight"),
        ({**whole, "other": torch.ones(1)}, "unknown: other"),
        ({**whole, "bias": torch.ones(9)}, "size mismatch for bias"),
    ):
        given_ = {name: value.clone() for name, value in weights.items()}
        with pytest.raises(BundleError, match=rf"(?s)Tied cannot be made with these kwargs and weights: .*{message}"):
            declared("Tied", given_, outputs, kwargs={"width": 4})
    with pytest.raises(BundleError, match="cannot be made with these kwargs"):
        declared("Tied", {}, outputs, kwargs={"wide": 4})


def test_tied_weights_are_stored_once() -> None:
    """Of weights that a module shares, the file has one, as safetensors stores them."""
    whole = weights_of("Tied", width=4)
    once = {"first.weight": whole["first.weight"], "bias": whole["bias"]}
    runtime = declared("Tied", once, [tensor("p", "float32", 4)], kwargs={"width": 4})
    x = feeds(7)["X"]
    w, b = whole["first.weight"].numpy(), whole["bias"].numpy()
    np.testing.assert_allclose(runtime.predict({"X": x})["p"], x @ w.T @ w.T + b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("type_", "taken"), [(torch.bfloat16, "float32"), (torch.float16, "float16")])
def test_weights_keep_their_type(type_: torch.dtype, taken: str) -> None:
    """A module computes in the type of its weights; bfloat16, which numpy has not, comes in and out as float32."""
    torch.manual_seed(0)
    module = torch_modules.Tied(4).to(type_).eval()
    once = {"first.weight": module.first.weight, "bias": module.bias}
    signature = {"inputs": [tensor("X", taken, 4)], "outputs": [tensor("p", taken, 4)]}
    runtime = declared("Tied", once, [], kwargs={"width": 4}, signature=signature)
    x = feeds(7)["X"].astype(taken)
    with torch.no_grad():
        expected = module(torch.tensor(x).to(type_)).float().numpy().astype(taken)
    np.testing.assert_array_equal(runtime.predict({"X": x})["p"], expected)


def test_a_module_is_in_inference_mode() -> None:
    """Dropout does nothing, gradients are not kept, and a module that writes into its input writes into a copy."""
    runtime = declared("InPlace", {}, [tensor("p", "float32", 4)])
    x = feeds(9)["X"]
    before = x.copy()
    np.testing.assert_array_equal(runtime.predict({"X": x})["p"], before * 2)
    np.testing.assert_array_equal(x, before)


def test_outputs_are_not_copied_on_the_cpu() -> None:
    """What `predict` gives is the memory that torch computed into."""
    runtime = declared("Keeps", {}, [tensor("p", "float32", 4)])
    found = runtime.predict({"X": feeds(9)["X"]})["p"]
    assert found.__array_interface__["data"][0] == torch_modules.Keeps.last.data_ptr()


def test_each_model_has_its_own_threads(tmp_path: Path) -> None:
    """The count of threads is the process's, so it is set again when another model has had its turn."""
    made = torch_program(tmp_path)
    one, two = made.load(intra_op_threads=1), made.load(intra_op_threads=2)
    for runtime, threads in ((one, 1), (two, 2), (one, 1)):
        runtime.predict(feeds(2))
        assert torch.get_num_threads() == threads


@pytest.mark.parametrize("kind", ["cuda", "cpu", "numpy"])
def test_memory_that_is_not_there_is_told_apart(kind: str) -> None:
    """Out of memory, on a GPU, by torch's allocator or by numpy's, is OutOfMemory: fewer rows may do."""
    runtime = declared("Greedy", {}, [tensor("p", "float32", 4)], kwargs={"kind": kind})
    with pytest.raises(OutOfMemory, match="the model failed"):
        runtime.predict({"X": feeds(9)["X"]})
    assert runtime.predict({"X": feeds(2)["X"]})["p"].shape == (2, 4)


@pytest.mark.parametrize("kind", ["tuple", "mapping", "named"])
def test_outputs_of_a_module_are_taken_by_key_or_in_order(kind: str) -> None:
    """A mapping is read by the names of the signature, whatever its order; a tuple, with names or not, in its order."""
    outputs = [tensor("twice", "float32", 4), tensor("sum", "float32")]
    runtime = declared("Returns", {}, outputs[::-1] if kind == "mapping" else outputs, kwargs={"kind": kind})
    x = feeds(3)["X"]
    found = runtime.predict({"X": x})
    np.testing.assert_array_equal(found["twice"], x * 2)
    np.testing.assert_allclose(found["sum"], x.sum(axis=1), rtol=1e-5)


def test_another_number_of_outputs_is_an_error() -> None:
    """A module that returns more tensors than its signature declares fails."""
    runtime = declared("Returns", {}, [tensor("p", "float32", 4)], kwargs={"kind": "tuple"})
    with pytest.raises(InferenceError, match="gave 2 outputs, its signature declares 1"):
        runtime.predict({"X": feeds(2)["X"]})


def test_a_declaration_may_name_a_programs_outputs() -> None:
    """Beside a program, a signature gives its outputs other names; it has to be for the same inputs."""
    data = program(torch_modules.Returns("tuple"), torch.ones(3, 4))
    outputs = [tensor("twice", "float32", 4), tensor("sum", "float32")]

    def opened_with(**signature: Any) -> Runtime:
        document = {"format": "batchscore.torch/1", "program": "m.pt2", "signature": signature}
        files = {"t/model.json": json.dumps(document).encode(), "t/m.pt2": data}
        return load("t/model.json", files, TRUSTING, where="bundle", kind="torch")

    assert list(opened_with(inputs=X4, outputs=outputs).predict({"X": feeds(2)["X"]})) == ["twice", "sum"]
    with pytest.raises(BundleError, match="takes X and gives 2 outputs; the signature that is declared says otherwise"):
        opened_with(inputs=[tensor("Y", "float32", 4)], outputs=outputs)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"module": None}, "exactly one of `program` and `module`"),
        ({"program": "m.pt2"}, "exactly one of `program` and `module`"),
        ({"weights": None}, "comes with `weights` and a `signature`"),
        ({"weights": "../w.safetensors"}, r"names \.\./w.safetensors, which is no file of the bundle"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused(facts: dict[str, Any], message: str) -> None:
    """A declaration names one model, all that it needs, and files of the bundle only."""
    with pytest.raises(BundleError, match=message):
        declared("Returns", {}, [tensor("p", "float32", 4)], kwargs={"kind": "tensor"}, **facts)


def test_a_gpu_is_used_where_it_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` is the CPU where the task has no GPU, and cuda fails where torch finds none."""
    made = torch_module(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert made.load(device="auto").device == "cpu"
    with pytest.raises(DeviceError, match=r"device cuda was asked for, torch .* finds no GPU"):
        made.load(device="cuda")
    fallen = load(
        made.model,
        made.files,
        RuntimeOptions(device="cuda", on_missing_gpu="cpu"),
        where="bundle",
        kind="torch",
        placement=Placement(device_id=0),
    )
    assert "finds no GPU" in (fallen.fell_back or "")


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_any_cut_of_rows_gives_the_same_scores(sizes: list[int]) -> None:
    """However rows are cut into calls, each has its score."""
    runtime = declared("Tied", _WEIGHTS, [tensor("p", "float32", 4)], kwargs={"width": 4})
    x = feeds(sum(sizes))["X"]
    ends = np.cumsum(sizes)
    parts = [runtime.predict({"X": x[end - size : end]})["p"] for size, end in zip(sizes, ends, strict=True)]
    np.testing.assert_allclose(np.concatenate(parts), runtime.predict({"X": x})["p"], rtol=1e-5, atol=1e-6)


_WEIGHTS = {name: value for name, value in weights_of("Tied", width=4).items() if name != "second.weight"}


def exporting(tmp_path: Path, source: str, sample: str, **facts: Any) -> Export:
    """An export as it is asked for."""
    asked = {"opset": None, "atol": 1e-5, "rtol": 1e-4, "out": str(tmp_path / "model.onnx"), **facts}
    return Export(source=str(tmp_path / source), sample=str(tmp_path / sample), **asked)


def save_sample(folder: Path, arrays: dict[str, Any]) -> None:
    """Arrays by name, as numpy stores them."""
    np.savez(folder / "sample.npz", **arrays)


@pytest.mark.parametrize("build", [torch_program, torch_module])
def test_an_export_gives_what_torch_gives(tmp_path: Path, build: Any) -> None:
    """The ONNX file of a program, or of a module and its weights, has its tensors, open rows, and gives its numbers."""
    made = build(tmp_path)
    for name, data in made.files.items():
        (tmp_path / name.rpartition("/")[2]).write_bytes(data)
    save_sample(tmp_path, feeds(12))
    done = export_torch(exporting(tmp_path, made.model.rpartition("/")[2], "sample.npz", opset=18))
    assert (done.signature, done.rows) == (SIGNATURE, 12)
    assert all(one.absolute < 1e-6 for one in done.differences)
    session = ort.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    for rows in (1, 2, 31):
        given_ = feeds(rows, seed=rows)
        found = dict(zip(["p", "v"], session.run(["p", "v"], given_), strict=True))
        for name, expected in by_hand(given_).items():
            np.testing.assert_allclose(found[name], expected, rtol=2e-6, atol=1e-7)
    assert not list(tmp_path.glob(".export-*"))


def test_an_export_that_differs_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where ONNX gives something else, the output and by how much is told, and no file is left."""
    (tmp_path / "m.pt2").write_bytes(program(torch_modules.Returns("tensor"), torch.ones(3, 4)))
    table = pa.table({name: feeds(5)["X"][:, place] for place, name in enumerate("abcd")})
    pq.write_table(table, tmp_path / "sample.parquet")
    torch_onnx = importlib.import_module("scoring.runtimes.torch_onnx")
    real = torch_onnx.load_onnx

    class Off:
        def __init__(self, session: Any) -> None:
            self.signature, self.close, self.session = session.signature, session.close, session

        def predict(self, given_: Any) -> Any:
            return {name: values + np.float32(0.25) for name, values in self.session.predict(given_).items()}

    monkeypatch.setattr(torch_onnx, "load_onnx", lambda *args, **kwargs: Off(real(*args, **kwargs)))
    with pytest.raises(Refused, match=r"output is off by 0\.25 \(relative .*It was not kept"):
        export_torch(exporting(tmp_path, "m.pt2", "sample.parquet"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.pt2", "sample.parquet"]
    assert export_torch(exporting(tmp_path, "m.pt2", "sample.parquet", atol=0.26)).differences[0].is_within


def test_the_command_tells_how_far_each_output_is_off(tmp_path: Path) -> None:
    """`batchscore export torch` prints the tensors, the rows compared, and the largest difference of each output."""
    (tmp_path / "m.pt2").write_bytes(program(torch_modules.Returns("mapping"), torch.ones(3, 4)))
    save_sample(tmp_path, {"X": feeds(5)["X"]})
    words = [str(tmp_path / "m.pt2"), "--out", str(tmp_path / "m.onnx"), "--sample", str(tmp_path / "sample.npz")]
    done = CliRunner().invoke(app, ["export", "torch", *words])
    assert done.exit_code == 0, done.output
    for told_ in ("X float32[rows, 4]", "twice float32[rows, 4]", "5 rows", "off, twice", "off, sum"):
        assert told_ in done.output
    assert (tmp_path / "m.onnx").exists()


def test_a_sample_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    """A sample has rows for each input, as many for each, and in a type that becomes the input's."""
    made = torch_program(tmp_path)
    good = feeds(3)
    for wrong, message in (
        ({"X": good["X"]}, r"has nothing for input index int64\[rows\]"),
        ({**good, "index": good["index"][:2]}, "it has X 3, index 2"),
        ({"X": good["X"][:0], "index": good["index"][:0]}, "one at least"),
        ({**good, "index": good["index"] + 0.5}, r"input index int64\[rows\] is given float64"),
    ):
        save_sample(tmp_path, wrong)
        with pytest.raises(Refused, match=message):
            export_torch(exporting(tmp_path, made.model, "sample.npz"))
    with pytest.raises(Refused, match=r"absent\.pt2: cannot be read"):
        export_torch(exporting(tmp_path, "absent.pt2", "sample.npz"))
