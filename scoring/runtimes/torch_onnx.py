"""From torch to ONNX, and whether both give the same: an export is a translation, and is believed when it was tried."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnxscript  # noqa: F401  torch.onnx needs it, and says so late
import torch

from scoring.errors import BundleError
from scoring.runtimes.base import RuntimeOptions
from scoring.runtimes.onnx import load_onnx
from scoring.runtimes.torch import TorchRuntime, load_callable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from scoring.runtimes.torch import TorchCallable
    from scoring.signature import Signature, TensorSpec

__all__ = ["Difference", "differences", "export_onnx", "load_for_export"]

_OPTIONS = RuntimeOptions(trust=("torch_program",))


class Difference(NamedTuple):
    """How far an output of the ONNX file is off at most, over all rows of the sample, fed together and one by one."""

    output: str
    absolute: float
    """Infinite where one of both is NaN, infinite, or no number, and the other is something else."""
    relative: float
    """Of the largest number of the output in torch."""
    is_within: bool
    """Whether |onnx - torch| ≤ atol + rtol · |torch| everywhere."""


def load_for_export(model: str, files: Mapping[str, Any], *, where: str) -> TorchCallable:
    """A program or a declared module on the CPU. A program is run as code: whoever names the file vouches for it.

    Raises:
        BundleError: it cannot be loaded.
    """
    return load_callable(model, files, _OPTIONS, where=where, device=torch.device("cpu"))


def export_onnx(made: TorchCallable, sample: Mapping[str, np.ndarray], path: Path, *, opset: int | None) -> None:
    """Write the ONNX file, with tensors named as in the signature and every axis open that the signature leaves open.

    Raises:
        BundleError: torch cannot export it, or the rows of a program are of a fixed number.
    """
    signature = made.signature
    for tensor in signature.inputs:
        if tensor.shape[:1] != (None,):
            message = (
                f"input {tensor} has a fixed first axis, the rows of a batch. Export the program again with "
                f"`dynamic_shapes={{{tensor.name!r}: {{0: torch.export.Dim.DYNAMIC}}}}`."
            )
            raise BundleError(message)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it names each optional library that is not there
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters of them shows in the comparison
            source = made.source
            program = source if isinstance(source, torch.export.ExportedProgram) else _traced(made, sample)
            written = torch.onnx.export(
                program,
                (),
                dynamo=True,
                opset_version=opset,
                input_names=[tensor.name for tensor in signature.inputs],
                output_names=[tensor.name for tensor in signature.outputs],
                verbose=False,
            )
            written.save(str(path))
    except Exception as error:  # torch's own have no common base but Exception
        raise BundleError(f"torch {torch.__version__} cannot export this model to ONNX: {error}") from error


def _traced(made: TorchCallable, sample: Mapping[str, np.ndarray]) -> torch.export.ExportedProgram:
    """A program of a module, from two rows of the sample: an axis of one element would be taken for a constant."""
    tensors = {
        name: torch.tensor(np.resize(values, (2, *values.shape[1:])), dtype=made.types[name])
        for name, values in sample.items()
    }
    axes = [
        {axis: torch.export.Dim.DYNAMIC for axis, size in enumerate(tensor.shape) if size is None}
        for tensor in made.signature.inputs
    ]
    assert isinstance(made.source, torch.nn.Module)  # noqa: S101  the caller has looked
    return torch.export.export(made.source, tuple(tensors.values()), dynamic_shapes=axes)


def differences(
    made: TorchCallable, path: Path, sample: Mapping[str, np.ndarray], *, atol: float, rtol: float
) -> list[Difference]:
    """Run the sample through torch and through the ONNX file: all rows at once, and the first one alone.

    Raises:
        BundleError: the ONNX file cannot be loaded, or takes or gives other tensors.
        InferenceError: one of both fails on the sample.
    """
    files = {file.name: file.read_bytes() for file in path.parent.iterdir() if file.name.startswith(path.name)}
    exported = load_onnx(path.name, files, RuntimeOptions(), where=str(path))
    _check_signature(made.signature, exported.signature)
    runtime = TorchRuntime(made, torch.device("cpu"), threads=1, fell_back=None)
    found: dict[str, Difference] = {}
    for rows in (slice(None), slice(0, 1)):
        feeds = {name: values[rows] for name, values in sample.items()}
        ours, theirs = exported.predict(feeds), runtime.predict(feeds)
        for name, wanted in theirs.items():
            new = _difference(name, ours[name], wanted, allowed=atol + rtol * np.abs(wanted.astype(np.float64)))
            old = found.get(name, new)
            found[name] = Difference(
                name,
                max(old.absolute, new.absolute),
                max(old.relative, new.relative),
                is_within=old.is_within and new.is_within,
            )
    exported.close()
    return list(found.values())


def _check_signature(wanted: Signature, found: Signature) -> None:
    def told(tensors: tuple[TensorSpec, ...]) -> str:
        return ", ".join(str(tensor) for tensor in tensors)

    for before, after in ((wanted.inputs, found.inputs), (wanted.outputs, found.outputs)):
        if [(t.name, t.dtype, t.shape) for t in before] != [(t.name, t.dtype, t.shape) for t in after]:
            message = f"the export has other tensors: {told(after)}, and torch has {told(before)}."
            raise BundleError(message)


def _difference(name: str, found: np.ndarray, wanted: np.ndarray, *, allowed: np.ndarray) -> Difference:
    if found.shape != wanted.shape:
        return Difference(name, np.inf, np.inf, is_within=False)
    if not wanted.size:
        return Difference(name, 0.0, 0.0, is_within=True)
    left, right = found.astype(np.float64), wanted.astype(np.float64)
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    with np.errstate(invalid="ignore"):
        off = np.where(same, 0.0, np.where(np.isfinite(left) & np.isfinite(right), np.abs(left - right), np.inf))
    largest = np.max(np.abs(right), where=np.isfinite(right), initial=0.0)
    limit = np.where(np.isfinite(allowed), allowed, 0.0) if wanted.dtype.kind == "f" else np.zeros(wanted.shape)
    return Difference(
        name,
        float(off.max()),
        float(off.max() / largest) if largest else float(off.max()),
        is_within=bool((off <= limit).all()),
    )
