"""Replay a bundle's golden rows: the proof that ETL and model mean here what they meant where they were made."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from etl.pipeline import Pipeline
from scoring.errors import GoldenError

if TYPE_CHECKING:
    from scoring.bundle import AuditedBundle, Tolerance
    from scoring.session import Session

__all__ = ["Deviation", "arrow_table", "arrow_bytes", "replay"]


class Deviation(NamedTuple):
    """The largest differences that a replay found."""

    features_ulp: int
    """In units in the last place of float32."""
    outputs_abs: float
    """Absolute, over all published columns."""


def arrow_table(data: bytes) -> pa.Table:
    """A table from Arrow IPC bytes."""
    return pa.ipc.open_file(pa.BufferReader(data)).read_all()


def arrow_bytes(table: pa.Table) -> bytes:
    """A table as Arrow IPC bytes."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def replay(audited: AuditedBundle, session: Session, tolerance: Tolerance) -> Deviation | None:
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
    features = pipeline.transform(pipeline.contract(rows, golden.rows))
    if features.kept is not None:
        rejection = features.rejections[0]
        message = f"golden row {rejection.rows[0]} is rejected: {rejection.message} ({rejection.pointer})."
        raise GoldenError(message)
    ulp = _compare_features(features.tensors, arrow_table(audited.files[golden.features]), allowed=_allowed_ulp(audited))
    outputs = session.run(features.tensors)
    expected = arrow_table(audited.files[golden.outputs])
    return Deviation(ulp, _compare_outputs(audited, outputs, expected, tolerance))


def _allowed_ulp(audited: AuditedBundle) -> int:
    return int(any(step.transcendental for step in audited.spec.steps))


def _compare_features(tensors: dict[str, np.ndarray], expected: pa.Table, *, allowed: int) -> int:
    largest = 0
    for name, tensor in tensors.items():
        wanted = expected.column(name).combine_chunks()
        flat = wanted.flatten() if pa.types.is_list(wanted.type) else wanted
        if tensor.dtype == object:
            if flat.to_pylist() != tensor.reshape(-1).tolist():
                message = f"golden features of tensor {name!r} differ from the bundle's."
                raise GoldenError(message)
            continue
        distance = _ulp_distance(tensor.reshape(-1), flat.to_numpy(zero_copy_only=False))
        if distance.size and int(distance.max()) > allowed:
            row, column = divmod(int(distance.argmax()), tensor[0].size)
            message = (
                f"golden row {row}: feature {column} of tensor {name!r} is off by {int(distance.max())} units in the last "
                f"place, {allowed} are allowed. The ETL does not mean here what it meant where the bundle was made."
            )
            raise GoldenError(message)
        largest = max(largest, int(distance.max()) if distance.size else 0)
    return largest


def _ulp_distance(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Steps between representable numbers; NaN equals NaN. Integers of the bits, made monotonic over the sign."""
    if not np.issubdtype(found.dtype, np.floating):
        return np.where(found == wanted, 0, np.iinfo(np.int32).max)
    integer = np.int32 if found.dtype == np.float32 else np.int64
    ordered = []
    for values in (found, wanted.astype(found.dtype, copy=False)):
        bits = values.view(integer).astype(object if integer is np.int64 else np.int64)
        ordered.append(np.where(bits < 0, np.iinfo(integer).min - bits, bits))
    distance = np.abs(ordered[0] - ordered[1])
    return np.where(np.isnan(found) & np.isnan(wanted), 0, distance)


def _compare_outputs(
    audited: AuditedBundle, outputs: dict[str, np.ndarray], expected: pa.Table, tolerance: Tolerance
) -> float:
    largest = 0.0
    given = {tensor.name: tensor for tensor in audited.bundle.signature.outputs}
    for column in audited.bundle.columns:
        found = column.array(outputs, given[column.tensor], expected.num_rows)
        wanted = expected.column(column.column).combine_chunks()
        if pa.types.is_list(found.type):
            found, wanted = found.flatten(), wanted.flatten()
        if not pa.types.is_floating(found.type):
            if not found.equals(wanted):
                message = f"golden output {column.column!r} differs from the bundle's."
                raise GoldenError(message)
            continue
        left, right = found.to_numpy(zero_copy_only=False), wanted.to_numpy(zero_copy_only=False)
        off = np.abs(left.astype(np.float64) - right)
        if not np.allclose(left, right, rtol=tolerance.rtol, atol=tolerance.atol, equal_nan=True):
            message = (
                f"golden output {column.column!r} is off by {float(np.nanmax(off)):.3g}, more than atol {tolerance.atol:g} + "
                f"rtol {tolerance.rtol:g}. The model does not compute here what it computed where the bundle was made."
            )
            raise GoldenError(message)
        largest = max(largest, float(np.nanmax(off)) if off.size else 0.0)
    return largest
