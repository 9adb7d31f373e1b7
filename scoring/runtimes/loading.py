"""Load a model with the runtime that its bundle asks for; no other is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scoring.errors import BundleError
from scoring.runtimes.base import HERE

if TYPE_CHECKING:
    import mmap
    from collections.abc import Mapping

    from scoring.runtimes.base import Kind, Placement, Runtime, RuntimeOptions

__all__ = ["load"]

_EXTRAS = {
    "onnxruntime": "batchscore[cpu]` or, with a GPU, `batchscore[gpu]",
    "torch": "batchscore[torch]",
    "safetensors": "batchscore[torch]",
    "mlflow": "batchscore[mlflow]",
    "pandas": "batchscore[mlflow]",
}
"""What to install, by the library that a runtime finds missing."""


def load(
    model: str,
    files: Mapping[str, bytes | mmap.mmap],
    options: RuntimeOptions,
    *,
    where: str,
    kind: Kind = "onnx",
    placement: Placement = HERE,
) -> Runtime:
    """Load a model: the file of this name among those of its bundle, whose digests were checked.

    Raises:
        DeviceError: the device is not there, or the runtime did not take it.
        BundleError: the runtime cannot load the model, is not installed here, or would run code of the bundle and was
            not allowed to.
    """
    path = f"{where}/{model}"
    try:
        if kind == "numpy":
            from scoring.runtimes.reference import Reference  # noqa: PLC0415

            return Reference(bytes(files[model]), options, path)
        if kind == "torch":
            from scoring.runtimes.torch import load_torch  # noqa: PLC0415

            return load_torch(model, files, options, where=path, placement=placement)
        if kind == "pyfunc":
            from scoring.runtimes.pyfunc import Pyfunc  # noqa: PLC0415

            return Pyfunc(model, files, options, where=path)
        from scoring.runtimes.onnx import load_onnx  # noqa: PLC0415

        return load_onnx(model, files, options, where=path, placement=placement)
    except ModuleNotFoundError as error:
        if error.name not in _EXTRAS:
            raise
        message = (
            f"{path}: this {kind} model needs {error.name}, which is not installed here. Install "
            f"`{_EXTRAS[error.name]}` where the job is planned and on every worker, or ship "
            "a Python that has it: `batchscore pack`, then --environment."
        )
        raise BundleError(message) from error
