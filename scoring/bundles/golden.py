"""Replay a bundle's golden rows: the proof that ETL and model mean here what they meant where they were made."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.arrivals import check_entry
from etl.pipeline import Pipeline
from etl.ragged import padded_feeds
from scoring.bundles.features import compare_features
from scoring.engine.inference import padded
from scoring.errors import GoldenError
from scoring.outputs.mapping import map_outputs

if TYPE_CHECKING:
    import mmap
    from collections.abc import Mapping, Sequence

    from etl.ragged import Tensor
    from etl.types import ArrowArray
    from scoring.bundles.bundle import AuditedBundle, Tolerance
    from scoring.outputs.columns import OutputColumn
    from scoring.runtimes.base import Runtime
    from scoring.signature import Signature

__all__ = ["Deviation", "arrow_bytes", "arrow_table", "golden_outputs", "replay"]


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
    ulp = compare_features(features.tensors, expected, spec=audited.spec)
    outputs = golden_run(runtime, features.tensors)
    bundle = audited.bundle
    found = golden_outputs(bundle.columns, bundle.signature, outputs, rows=rows.num_rows)
    return Deviation(ulp, _compare_outputs(found, arrow_table(audited.files[golden.outputs]), tolerance))


def golden_run(runtime: Runtime, tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """All outputs for golden rows, in one call, or in as many as a model of a fixed number of rows needs."""
    feeds, fixed = padded_feeds(tensors), runtime.signature.fixed_rows
    rows = len(next(iter(feeds.values())))
    if fixed in {None, rows}:
        return runtime.predict(feeds)
    parts = []
    for start in range(0, rows, fixed):
        piece = {name: tensor[start : start + fixed] for name, tensor in feeds.items()}
        missing = max(0, start + fixed - rows)
        made = runtime.predict(padded(piece, missing) if missing else piece)
        parts.append({name: values[: fixed - missing] for name, values in made.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def golden_outputs(
    columns: Sequence[OutputColumn], signature: Signature, outputs: Mapping[str, np.ndarray], *, rows: int
) -> pa.Table:
    """What golden rows are published as; NaN and ±inf stand there whatever the columns make of them in a run.

    Raises:
        GoldenError: a row has no value for a column.
    """
    kept = [column.model_copy(update={"non_finite": "keep"}) for column in columns]
    mapped = map_outputs(kept, signature, outputs, rows=rows)
    for refused in mapped.refused:
        row = int(refused.mask.argmax())
        message = f"golden row {row} has no value for column {refused.column!r}: {refused.message}. Leave it out."
        raise GoldenError(message)
    return pa.Table.from_arrays(mapped.arrays, names=[column.column for column in columns])


def _wanted(expected: pa.Table, name: str, what: str, *, rows: int) -> ArrowArray:
    """A column of a golden table, of as many rows as there are here."""
    if name not in expected.column_names:
        message = f"the golden rows have no {what}; there is: {', '.join(expected.column_names)}."
        raise GoldenError(message)
    if expected.num_rows != rows:
        message = f"{what} has {expected.num_rows} golden rows, here there are {rows}."
        raise GoldenError(message)
    return expected.column(name).combine_chunks()


def _compare_outputs(outputs: pa.Table, expected: pa.Table, tolerance: Tolerance) -> float:
    largest = 0.0
    for name in outputs.column_names:
        found = outputs.column(name).combine_chunks()
        wanted = _wanted(expected, name, f"output {name!r}", rows=len(found))
        if found.type != wanted.type or not _has_shape_of(found, wanted):
            message = f"golden output {name!r} is {wanted.type} of another shape than the {found.type} here."
            raise GoldenError(message)
        for part, other in zip(_leaves(found), _leaves(wanted), strict=True):
            off, allowed = _distances(part.values, other.values, tolerance)
            worst = int((off - allowed).argmax()) if off.size else 0
            if off.size and off[worst] > allowed[worst]:
                message = (
                    f"golden row {part.rows[worst]}: output {name!r} is off by {off[worst]:.3g}; {allowed[worst]:.3g} "
                    f"is allowed (atol {tolerance.atol:g}, rtol {tolerance.rtol:g}). "
                    "The model does not compute here what it computed where the bundle was made."
                )
                raise GoldenError(message)
            largest = max(largest, float(off.max()) if off.size else 0.0)
    return largest


class _Leaf(NamedTuple):
    """The values of a column, below its lists and structs."""

    values: ArrowArray
    rows: np.ndarray
    """The row of each."""


def _leaves(column: ArrowArray) -> list[_Leaf]:
    """One, or of a struct one a field."""
    rows = np.arange(len(column))
    while _is_list(column.type):
        rows, column = rows[pc.list_parent_indices(column).to_numpy()], column.flatten()
    fields = column.flatten() if pa.types.is_struct(column.type) else [column]
    return [_Leaf(field, rows) for field in fields]


def _has_shape_of(left: ArrowArray, right: ArrowArray) -> bool:
    """Whether the lists of two columns of one type are as long, on each level."""
    while _is_list(left.type):
        if not pc.list_value_length(left).equals(pc.list_value_length(right)):
            return False
        left, right = left.flatten(), right.flatten()
    return True


def _is_list(type_: pa.DataType) -> bool:
    return bool(pa.types.is_list(type_) or pa.types.is_fixed_size_list(type_))


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
        allowed = np.where(finite, tolerance.atol + tolerance.rtol * np.abs(right), 0.0)
    return off, allowed
