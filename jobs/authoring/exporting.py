"""Export a model of another library to ONNX, and prove it on a sample before the file is there."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from etl.format.problems import nearest
from jobs.errors import Refused, refusing

if TYPE_CHECKING:
    from scoring.runtimes.torch_onnx import Difference
    from scoring.signature import Signature, TensorSpec

__all__ = ["Export", "Exported", "export_torch"]


class Export(NamedTuple):
    """What is asked for."""

    source: str
    """A program of torch.export (.pt2), or a declaration (.json) of a module and its weights."""
    sample: str
    """Rows to compare both models on: .npz with an array an input, or Parquet with a column an input."""
    out: str
    """The .onnx file to write."""
    opset: int | None
    """Of ONNX; None for torch's default."""
    atol: float
    rtol: float


class Exported(NamedTuple):
    """What was written, and how far it is off."""

    signature: Signature
    rows: int
    differences: list[Difference]


def export_torch(asked: Export) -> Exported:
    """Export, compare, and put the file in its place only where it gives what torch gives.

    Raises:
        Refused: torch is not installed here, the model cannot be loaded or exported, the sample does not fit it, or the
            ONNX file gives something else; nothing is written then.
    """
    try:
        from scoring.runtimes import torch_onnx  # noqa: PLC0415  only this command needs torch
    except ModuleNotFoundError as error:
        message = (
            f"an export needs {error.name}, which is not installed here. Run it in the environment that the model was "
            "trained in, with `pip install 'batchscore[torch,cpu]' onnxscript`."
        )
        raise Refused(message) from error
    out = Path(asked.out)
    with refusing():
        made = torch_onnx.load_for_export(Path(asked.source).name, _files(asked.source), where=asked.source)
        sample = _sample(asked.sample, made.signature)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=_folder(out)) as folder:
            draft = Path(folder) / out.name
            torch_onnx.export_onnx(made, sample, draft, opset=asked.opset)
            found = torch_onnx.differences(made, draft, sample, atol=asked.atol, rtol=asked.rtol)
            _check(found, asked)
            for file in sorted(Path(folder).iterdir(), reverse=True):  # the model after its weights
                file.replace(out.parent / file.name)
    return Exported(made.signature, len(next(iter(sample.values()))), found)


def _check(found: list[Difference], asked: Export) -> None:
    wrong = [
        f"{one.output} is off by {one.absolute:.3g} (relative {one.relative:.3g})" for one in found if not one.is_within
    ]
    if wrong:
        allowed = f"atol {asked.atol:g} and rtol {asked.rtol:g} are allowed"
        raise Refused(f"the ONNX file does not give what torch gives: {'; '.join(wrong)}; {allowed}. It was not kept.")


def _folder(out: Path) -> Path:
    if not out.parent.is_dir():
        raise Refused(f"--out {out}: there is no folder {out.parent}.")
    return out.parent


def _files(source: str) -> dict[str, bytes]:
    """The model file, and what it names beside it."""
    path = Path(source)
    try:
        files = {path.name: path.read_bytes()}
        if path.suffix == ".json":
            declared = json.loads(files[path.name])
            for name in (declared.get("program"), declared.get("weights")):
                if isinstance(name, str):
                    files[os.path.normpath(name)] = (path.parent / name).read_bytes()
    except OSError as error:
        raise Refused(f"{error.filename}: cannot be read: {error.strerror}.") from error
    except (ValueError, AttributeError) as error:
        raise Refused(f"{source}: is no declaration of a torch model: {error}.") from error
    return files


def _sample(uri: str, signature: Signature) -> dict[str, np.ndarray]:
    """The inputs, by name."""
    try:
        given = _npz(uri) if uri.endswith(".npz") else _parquet(uri, signature)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise Refused(f"--sample {uri}: cannot be read: {error}.") from error
    found = {}
    for tensor in signature.inputs:
        if tensor.name not in given:
            raise Refused(f"--sample {uri}: has nothing for input {tensor}.{nearest(tensor.name, given)}")
        found[tensor.name] = _typed(given[tensor.name], tensor, uri)
    rows = {name: len(values) for name, values in found.items()}
    if min(rows.values()) < 1 or len(set(rows.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in rows.items())
        raise Refused(f"--sample {uri}: give the same number of rows for each input, and one at least; it has {told}.")
    return found


def _npz(uri: str) -> dict[str, np.ndarray]:
    with np.load(uri, allow_pickle=False) as arrays:
        return dict(arrays)


def _parquet(uri: str, signature: Signature) -> dict[str, np.ndarray]:
    """A column an input; a matrix that is the only input may be spread over all columns, in the file's order."""
    table = pq.read_table(uri)
    [first, *others] = signature.inputs
    if not others and len(first.shape) == 2 and first.name not in table.column_names:  # noqa: PLR2004  a matrix
        return {first.name: np.stack([column.to_numpy() for column in table.columns], axis=1)}
    named = {tensor.name for tensor in signature.inputs}
    return {name: _column(table.column(name)) for name in table.column_names if name in named}


def _column(column: pa.ChunkedArray) -> np.ndarray:
    """Numbers, or lists of numbers as deep as they are, all of one length."""
    values = column.combine_chunks()
    if not (pa.types.is_list(values.type) or pa.types.is_large_list(values.type) or _is_fixed(values)):
        return np.asarray(values.to_numpy(zero_copy_only=False))
    inner = _column(pa.chunked_array([values.flatten()]))
    return inner.reshape(len(values), -1, *inner.shape[1:])


def _is_fixed(values: pa.Array) -> bool:
    return bool(pa.types.is_fixed_size_list(values.type))


def _typed(values: np.ndarray, tensor: TensorSpec, uri: str) -> np.ndarray:
    """The values in the input's type: a number may become wider or narrower, never of another kind."""
    if not np.can_cast(values.dtype, tensor.dtype, casting="same_kind"):
        raise Refused(f"--sample {uri}: input {tensor} is given {values.dtype}.")
    return values.astype(tensor.dtype)
