"""One model for every runtime: two inputs, two outputs, and it fails on an index that it does not know."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import posixpath
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from scoring.bundles.create import create_bundle
from scoring.outputs.columns import OutputColumn
from scoring.runtimes import load
from scoring.runtimes.base import RuntimeOptions
from scoring.signature import Signature, TensorSpec
from tests.scoring.workshop import STORE, parts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from scoring.bundles.bundle import AuditedBundle
    from scoring.runtimes.base import Kind, Runtime

W = np.array([[0.5, -1.0, 2.0], [0.25, 0.75, -0.5], [-1.5, 0.1, 0.3], [1.0, -0.2, 0.6]], dtype=np.float32)
B = np.array([0.1, -0.2, 0.3], dtype=np.float32)
V = np.array([0.25, 0.5, 0.75, 1.0], dtype=np.float32)
"""The model knows the indexes 0 to 3."""

SIGNATURE = Signature(
    inputs=(
        TensorSpec(name="X", dtype="float32", shape=(None, 4)),
        TensorSpec(name="index", dtype="int64", shape=(None,)),
    ),
    outputs=(
        TensorSpec(name="p", dtype="float32", shape=(None, 3)),
        TensorSpec(name="v", dtype="float32", shape=(None,)),
    ),
)


class RuntimeModel(NamedTuple):
    """The model in one form."""

    kind: Kind
    model: str
    """Its file."""
    files: dict[str, bytes]
    options: RuntimeOptions
    plain: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]
    """The same outputs by a call of the library itself."""

    def load(self, **options: Any) -> Runtime:
        """The model, loaded as a worker loads it."""
        changed = RuntimeOptions.model_validate({**self.options.model_dump(), **options})
        return load(self.model, self.files, changed, where="bundle", kind=self.kind)


def feeds(rows: int, seed: int = 3) -> dict[str, np.ndarray]:
    """What the model is fed with."""
    rng = np.random.default_rng(seed)
    return {"X": rng.normal(size=(rows, 4)).astype(np.float32), "index": rng.integers(0, 4, rows)}


def by_hand(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The model's outputs by its formula, in float64."""
    z = given["X"].astype(np.float64) @ W + B
    return {"p": (1 / (1 + np.exp(-z))).astype(np.float32), "v": V[given["index"]]}


def numpy_model(_: Path) -> RuntimeModel:
    """The model as layers."""
    layers = [
        {
            "op": "dense",
            "input": "X",
            "output": "p",
            "weights": W.tolist(),
            "bias": B.tolist(),
            "activation": "sigmoid",
        },
        {"op": "gather", "input": "index", "output": "v", "table": V.tolist()},
    ]
    document = {"format": "batchscore.numpy/1", "signature": SIGNATURE.model_dump(mode="json"), "layers": layers}
    files = {"model.json": json.dumps(document).encode()}
    return RuntimeModel("numpy", "model.json", files, RuntimeOptions(), by_hand)


def folder_files(folder: Path, name: str) -> dict[str, bytes]:
    """Files below a folder, as a bundle holds them under a name."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {f"{name}/{path.relative_to(folder)}": path.read_bytes() for path in paths}


@contextlib.contextmanager
def unwarned() -> Iterator[None]:
    """Without what MLflow warns the author of a model of: that there are no type hints, and that it pickles."""
    with warnings.catch_warnings(record=True):  # MLflow has filters of its own, which are asked first
        warnings.simplefilter("ignore")
        yield


def pyfunc_model(folder: Path) -> RuntimeModel:
    """The model as a Python class, logged by MLflow."""
    # First: it imports MLflow without the warnings of MLflow's own classes.
    importlib.import_module("scoring.runtimes.pyfunc")
    from mlflow.models import ModelSignature
    from mlflow.pyfunc.model import PythonModel
    from mlflow.types import Schema
    from mlflow.types import TensorSpec as Tensor

    with unwarned():

        class Model(PythonModel):
            def predict(self, context, model_input, params=None):  # noqa: ARG002  as MLflow calls it
                z = model_input["X"].astype(np.float64) @ W + B
                return {"p": (1 / (1 + np.exp(-z))).astype(np.float32), "v": V[model_input["index"]]}

    def schema(tensors):
        return Schema(
            [Tensor(np.dtype(t.dtype), tuple(-1 if n is None else n for n in t.shape), t.name) for t in tensors]
        )

    signature = ModelSignature(schema(SIGNATURE.inputs), schema(SIGNATURE.outputs))
    path = folder / "mlflow"
    save_pyfunc(path, python_model=Model(), signature=signature)
    options = RuntimeOptions(trust=("pyfunc",))
    return RuntimeModel("pyfunc", "model/MLmodel", folder_files(path, "model"), options, _plain_mlflow(str(path)))


def save_pyfunc(path: Path, **facts: Any) -> None:
    """Save an MLflow model."""
    import mlflow.pyfunc

    with unwarned():
        mlflow.pyfunc.save_model(str(path), pip_requirements=[], **facts)


def _plain_mlflow(path: str) -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    import mlflow.pyfunc

    model = mlflow.pyfunc.load_model(path, suppress_warnings=True)
    return model.predict


def torch_program(folder: Path) -> RuntimeModel:
    """The model as a program of torch.export."""
    import torch

    from tests.scoring.torch_modules import TwoOutputs, with_weights

    module = with_weights(TwoOutputs(4, 3), W, B, V)
    rows = torch.export.Dim.DYNAMIC
    sample = (torch.zeros(5, 4), torch.zeros(5, dtype=torch.int64))
    program = torch.export.export(module, sample, dynamic_shapes={"X": {0: rows}, "index": {0: rows}})
    torch.export.save(program, folder / "model.pt2")
    files = {"model.pt2": (folder / "model.pt2").read_bytes()}
    options = RuntimeOptions(trust=("torch_program",))
    return RuntimeModel("torch", "model.pt2", files, options, _plain_torch(module))


def torch_module(_: Path) -> RuntimeModel:
    """The model as a class that is installed, and weights."""
    from safetensors.torch import save

    from tests.scoring.torch_modules import TwoOutputs, with_weights

    module = with_weights(TwoOutputs(4, 3), W, B, V)
    declared = {
        "format": "batchscore.torch/1",
        "module": "tests.scoring.torch_modules:TwoOutputs",
        "kwargs": {"width": 4, "classes": 3},
        "weights": "weights.safetensors",
        "signature": SIGNATURE.model_dump(mode="json"),
    }
    files = {"torch/model.json": json.dumps(declared).encode(), "torch/weights.safetensors": save(module.state_dict())}
    return RuntimeModel("torch", "torch/model.json", files, RuntimeOptions(), _plain_torch(module))


def _plain_torch(module: Any) -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    import torch

    def call(given):
        with torch.no_grad():
            made = module(torch.tensor(given["X"]), torch.tensor(given["index"]))
        return {name: tensor.numpy() for name, tensor in made.items()}

    return call


# The environment that has torch has no MLflow.
BUILDERS: dict[str, Callable[[Path], RuntimeModel]] = {"numpy": numpy_model}
if importlib.util.find_spec("torch") is None:
    BUILDERS["pyfunc"] = pyfunc_model
else:
    BUILDERS |= {"torch program": torch_program, "torch module": torch_module}


SPEC = """
format: scorespec/1
spec_id: both
input:
  fields:
  - {name: f0, type: float32, nullable: false}
  - {name: f1, type: float32, nullable: false}
  - {name: f2, type: float32, nullable: false}
  - {name: f3, type: float32, nullable: false}
  - {name: index, type: int64, nullable: false}
  - {name: id, type: int64, role: id}
outputs:
  tensors:
  - {tensor: X, from: [f0, f1, f2, f3]}
  - {tensor: index, dtype: int64, shape: [-1], from: [index]}
"""


def table_of(given: dict[str, np.ndarray]) -> pa.Table:
    """Rows that the spec makes these feeds of."""
    columns = {f"f{place}": values for place, values in enumerate(given["X"].T)}
    return pa.table({**columns, "index": given["index"], "id": np.arange(len(given["index"]))})


def bundle_of(made: RuntimeModel, folder: Path) -> AuditedBundle:
    """A bundle of the model with golden rows."""
    own = posixpath.dirname(made.model)
    beside: dict[str, Path] = {}
    for name, data in made.files.items():
        if name != made.model:
            path = folder.parent / "beside" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            beside[posixpath.relpath(name, own or ".")] = path
    columns = (
        OutputColumn(column="p", tensor="p", type="float32"),
        OutputColumn(column="v", tensor="v", type="float32"),
    )
    parts = parts_of(SPEC, made.files[made.model], table_of(feeds(4)), columns)
    parts = parts._replace(runtime=made.kind, model_file=made.model, weights=beside, options=made.options)
    return create_bundle(STORE, str(folder), parts)
