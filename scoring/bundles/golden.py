"""Replay a bundle's golden rows: the proof that ETL and model mean here what they meant where they were made."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.arrivals import check_entry
from etl.pipeline import Pipeline
from etl.ulp import ulp_distance
from scoring.errors import GoldenError

if TYPE_CHECKING:
    import mmap

    from etl.types import ArrowArray
    from scoring.bundles.bundle import AuditedBundle, Tolerance
    from scoring.runtimes.base import Runtime

__all__ = ["Deviation", "arrow_bytes", "arrow_table", "replay"]


class Deviation(NamedTuple):
    """The largest differences that a replay found."""

    features_ulp: int
    """In units in the last place of float32."""
    outputs_abs: float
    """Absolute, over all published columns."""


def arrow_table(data: bytes | mmap.mmap) -> pa.Table:
    """A table from Arrow IPC bytes."""
    return pa.ipc.open_file(pa.BufferReader(data)).read_all()


def arrow_bytes(table: pa.Table) -> bytes:
    """A table as Arrow IPC bytes."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def replay(audited: AuditedBundle, runtime: Runtime, tolerance: Tolerance) -> Deviation | None:
    """Run the golden rows through ETL and model and compare; None when the bundle has none.

    Features must be equal to the bit after the cast to the tensor's type, or within one unit in the last place where
    the spec uses a transcendental function.

    Raises:
        GoldenError: naming the first tensor or column, and the row, that differs.
    """
    golden = audited.bundle.golden
    if golden is None:
        return None
    references = {name: arrow_table(audited.files[file]) for name, file in golden.references.items()}
    pipeline = Pipeline(audited.spec, references)
    rows = arrow_table(audited.files[golden.rows])
    check_entry(audited.spec, rows.schema, golden.rows)
    features = pipeline.transform(pipeline.contract(rows, golden.rows))
    if features.filtered.size:
        message = f"golden row {features.filtered[0]} is left out by a filter of the spec."
        raise GoldenError(message)
    if features.kept is not None:
        rejection = features.rejections[0]
        message = f"golden row {rejection.rows[0]} is rejected: {rejection.message} ({rejection.pointer})."
        raise GoldenError(message)
    expected = arrow_table(audited.files[golden.features])
    ulp = _compare_features(features.tensors, expected, allowed=_allowed_ulp(audited))
    outputs = runtime.predict(features.tensors)
    given = {tensor.name: tensor for tensor in audited.bundle.signature.outputs}
    found = {
        column.column: column.array(outputs, given[column.tensor], rows.num_rows) for column in audited.bundle.columns
    }
    return Deviation(ulp, _compare_outputs(found, arrow_table(audited.files[golden.outputs]), tolerance))


def _allowed_ulp(audited: AuditedBundle) -> int:
    return int(any(step.transcendental for step in audited.spec.steps))


def _compare_features(tensors: dict[str, np.ndarray], expected: pa.Table, *, allowed: int) -> int:
    largest = 0
    for name, tensor in tensors.items():
        what = f"tensor {name!r}"
        wanted = _wanted(expected, name, what, rows=tensor.shape[0])
        flat = _values(wanted)
        if len(flat) != tensor.size:
            message = f"golden features of {what} have {len(flat)} values, here there are {tensor.size}."
            raise GoldenError(message)
        distance = ulp_distance(tensor.reshape(-1), flat.to_numpy(zero_copy_only=False))
        off = int(distance.max()) if distance.size else 0
        if off > allowed:
            row, column = divmod(int(distance.argmax()), tensor[0].size)
            message = (
                f"golden row {row}: feature {column} of {what} is off by {off} units in the last place, {allowed} are "
                "allowed. The ETL does not mean here what it meant where the bundle was made."
            )
            raise GoldenError(message)
        largest = max(largest, off)
    return largest


def _wanted(expected: pa.Table, name: str, what: str, *, rows: int) -> ArrowArray:
    """A column of a golden table, of as many rows as there are here."""
    if name not in expected.column_names:
        message = f"the golden rows have no {what}; there is: {', '.join(expected.column_names)}."
        raise GoldenError(message)
    if expected.num_rows != rows:
        message = f"{what} has {expected.num_rows} golden rows, here there are {rows}."
        raise GoldenError(message)
    return expected.column(name).combine_chunks()


def _compare_outputs(outputs: dict[str, ArrowArray], expected: pa.Table, tolerance: Tolerance) -> float:
    largest = 0.0
    for name, found in outputs.items():
        wanted = _wanted(expected, name, f"output {name!r}", rows=len(found))
        rows = _row_of_each_value(found)
        if found.type != wanted.type or not rows.equals(_row_of_each_value(wanted)):
            message = f"golden output {name!r} is {wanted.type} of another shape than the {found.type} here."
            raise GoldenError(message)
        off, allowed = _distances(_values(found), _values(wanted), tolerance)
        worst = int((off - allowed).argmax()) if off.size else 0
        if off.size and off[worst] > allowed[worst]:
            message = (
                f"golden row {rows[worst]}: output {name!r} is off by {off[worst]:.3g}; {allowed[worst]:.3g} is "
                f"allowed (atol {tolerance.atol:g}, rtol {tolerance.rtol:g}). "
                "The model does not compute here what it computed where the bundle was made."
            )
            raise GoldenError(message)
        largest = max(largest, float(off.max()) if off.size else 0.0)
    return largest


def _values(column: ArrowArray) -> ArrowArray:
    return column.flatten() if pa.types.is_list(column.type) else column


def _row_of_each_value(column: ArrowArray) -> ArrowArray:
    if pa.types.is_list(column.type):
        return pc.list_parent_indices(column)
    return pa.array(np.arange(len(column)))


def _distances(found: ArrowArray, wanted: ArrowArray, tolerance: Tolerance) -> tuple[np.ndarray, np.ndarray]:
    """How far off each value is, and how far it may be. What is no float must be equal; so must NaN and infinity."""
    left, right = found.to_numpy(zero_copy_only=False), wanted.to_numpy(zero_copy_only=False)
    if not pa.types.is_floating(found.type):
        return np.where(left == right, 0.0, np.inf), np.zeros(len(found))
    left, right = left.astype(np.float64), right.astype(np.float64)
    finite = np.isfinite(left) & np.isfinite(right)
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    with np.errstate(invalid="ignore"):
        off = np.where(finite, np.abs(left - right), np.where(same, 0.0, np.inf))
    return off, np.where(finite, tolerance.atol + tolerance.rtol * np.abs(right), 0.0)
