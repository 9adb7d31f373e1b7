"""MLflow's pyfunc, and nothing else imports it, nor pandas: a folder of the bundle that holds an MLmodel.

To load it runs code of the folder, most often by unpickling. So it is loaded where the job trusts pyfunc models, and
not otherwise. It is loaded from a private copy of the audited bytes, so that no one can change a file in between.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from scoring.errors import BundleError, InferenceError, OutOfMemory
from scoring.runtimes.declared import DeclaredModel, cpu_only, needs_trust
from scoring.signature import Signature, TensorSpec

# A worker tells nobody that it scores.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of MLflow's own classes
    import mlflow
    import mlflow.pyfunc
    import pandas as pd
    from mlflow.types.schema import Array, ColSpec
    from mlflow.types.schema import TensorSpec as MlflowTensor

if TYPE_CHECKING:
    from mlflow.types import Schema

    from scoring.runtimes.base import RuntimeOptions

__all__ = ["Pyfunc"]

_MODEL_FILE = "MLmodel"
_COLUMN_TYPES = {
    "boolean": "bool",
    "integer": "int32",
    "long": "int64",
    "float": "float32",
    "double": "float64",
    "string": "string",
}
_INPUT, _OUTPUT = "input", "output"
"""Names of a tensor that MLflow's signature leaves without one."""


class Pyfunc(DeclaredModel):
    """A loaded MLflow model."""

    def __init__(self, model: str, files: Mapping[str, Any], options: RuntimeOptions, *, where: str) -> None:
        """Copy the folder and load it; `model` is its MLmodel.

        Raises:
            DeviceError: a GPU was asked for.
            BundleError: the job trusts no pyfunc models, MLflow cannot load it, or its signature is none or has a type
                that cannot be fed.
        """
        needs_trust(options, "pyfunc", f"{where}: an MLflow model")
        self.fell_back = cpu_only(options, "MLflow's pyfunc")
        if posixpath.basename(model) != _MODEL_FILE or "/" not in model:
            raise BundleError(f"{where}: an MLflow model is named by the {_MODEL_FILE} in its folder.")
        folder = tempfile.mkdtemp(prefix="batchscore-pyfunc-")
        self._cleanup = weakref.finalize(self, _remove, folder, os.getpid())
        try:
            _copy(files, posixpath.dirname(model), Path(folder))
            self._model: Any = _loaded(folder, where)
            self._schemas = _schemas(self._model, where)
        except BaseException:
            self._cleanup()
            raise
        super().__init__(self._schemas.signature, f"mlflow {mlflow.__version__}")

    def _run(self, feeds: dict[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        try:
            return _named(self._model.predict(self._schemas.table(feeds)), self.signature.outputs)
        except InferenceError:
            raise
        except MemoryError as error:
            raise OutOfMemory(f"the model failed: {error}") from error
        except Exception as error:  # whatever the model raises
            raise InferenceError(f"the model failed: {error}") from error

    def _release(self) -> None:
        self._model = None
        self._cleanup()


class _Schemas(NamedTuple):
    """What MLflow says that the model takes and gives."""

    signature: Signature
    inputs: Schema

    def table(self, feeds: dict[str, np.ndarray]) -> Any:
        """What `predict` is given: a DataFrame, an array, or arrays by name, as the model was logged for.

        A copy of each: a model may write into what it is given, and others read it after it.
        """
        if not self.inputs.is_tensor_spec():
            return pd.DataFrame({name: list(values) if values.ndim > 1 else values for name, values in feeds.items()})
        copies = {name: values.copy() for name, values in feeds.items()}
        return copies if self.inputs.has_input_names() else copies[_INPUT]


def _copy(files: Mapping[str, Any], prefix: str, folder: Path) -> None:
    """The files below a folder of the bundle; the audit saw that no name leaves it."""
    for name, data in files.items():
        if name.startswith(f"{prefix}/"):
            path = folder / name.removeprefix(f"{prefix}/")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            except OSError as error:  # a full disk does not say which
                raise OSError(error.errno, error.strerror, str(path)) from error


def _remove(folder: str, owner: int) -> None:
    """A forked child ends with its parent's model in it, which is not its own to remove."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def _loaded(folder: str, where: str) -> Any:
    try:
        # What MLflow tells a model's author, by filters of its own: recorded, it is shown to nobody.
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("ignore")
            return mlflow.pyfunc.load_model(folder, suppress_warnings=True)
    except Exception as error:  # whatever its code raises
        message = (
            f"{where}: mlflow {mlflow.__version__} cannot load this model: {error}. What its requirements.txt lists "
            "has to be installed on every worker."
        )
        raise BundleError(message) from error


def _schemas(model: Any, where: str) -> _Schemas:
    found = model.metadata.signature
    if found is None or found.inputs is None or found.outputs is None:
        message = (
            f"{where}: the MLflow model has no signature of its inputs and outputs. Log it with "
            "`signature=mlflow.models.infer_signature(inputs, outputs)`."
        )
        raise BundleError(message)
    signature = Signature(
        inputs=tuple(_spec(entry, _INPUT, where) for entry in found.inputs.inputs),
        outputs=tuple(_spec(entry, _OUTPUT, where) for entry in found.outputs.inputs),
    )
    return _Schemas(signature, found.inputs)


def _spec(entry: ColSpec | MlflowTensor, unnamed: str, where: str) -> TensorSpec:
    """A tensor, or a column: of numbers or texts as rank 1, of lists of them as rank 2."""
    name = unnamed if entry.name is None else str(entry.name)
    if isinstance(entry, MlflowTensor):
        dtype = "string" if entry.type.kind in "OUS" else entry.type.name
        sizes = tuple(None if size < 0 else int(size) for size in entry.shape)
        return TensorSpec(name=name, dtype=dtype, shape=(None, *sizes[1:]))
    is_list = isinstance(entry.type, Array)
    scalar = entry.type.dtype if isinstance(entry.type, Array) else entry.type
    dtype = _COLUMN_TYPES.get(getattr(scalar, "name", ""), "")
    if not dtype:
        raise BundleError(f"{where}: column {name!r} has MLflow's type {entry.type}, which this release cannot feed.")
    return TensorSpec(name=name, dtype=dtype, shape=(None, None) if is_list else (None,))


def _named(made: Any, outputs: tuple[TensorSpec, ...]) -> dict[str, np.ndarray]:
    """What `predict` gave, by name. Two axes stay two: nothing is flattened."""
    if isinstance(made, Mapping):
        return {str(name): _array(values) for name, values in made.items()}
    if isinstance(made, pd.DataFrame):
        names = [str(name) for name in made.columns]
        if len(outputs) > 1 or outputs[0].name in names:
            return {name: _array(made.iloc[:, place]) for place, name in enumerate(names)}
        # The columns of a table without a name are one matrix.
        made = made.iloc[:, 0] if len(names) == len(outputs[0].shape) == 1 else made.to_numpy()
    if len(outputs) > 1:
        wanted = ", ".join(tensor.name for tensor in outputs)
        message = f"the model gave one {type(made).__name__}, its signature declares {wanted}: return them by name"
        raise InferenceError(message)
    return {outputs[0].name: _array(made)}


def _array(values: Any) -> np.ndarray:
    """An array of numbers, or of objects where it is of texts; lists of one length become a second axis."""
    made = np.asarray(values)
    if made.dtype != object or not made.size:
        return made
    if isinstance(made.flat[0], list | tuple | np.ndarray):
        try:
            return np.stack([np.asarray(row) for row in made])
        except ValueError as error:
            raise InferenceError(f"the model gave lists of several lengths: {error}") from error
    # pandas keeps what it does not know as objects: numbers among them become numbers again.
    return made if isinstance(made.flat[0], str) else np.asarray(made.tolist())
