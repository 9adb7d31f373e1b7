"""The published table: passthrough columns, the models' columns, stamps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from scoring.bundles.bundle import output_schema

if TYPE_CHECKING:
    from etl.types import ArrowArray
    from scoring.bundles.bundle import AuditedBundle
    from scoring.engine.items import Result
    from scoring.order import Order

__all__ = ["assemble_predictions", "prediction_schema"]

STAMP_TYPES: dict[str, pa.DataType] = {
    "run_id": pa.string(),
    "model_version": pa.string(),
    "scored_at": pa.timestamp("us", "UTC"),
}


def prediction_schema(order: Order, audited: AuditedBundle) -> pa.Schema:
    """Schema of the published table; a name may come twice, which whoever plans refuses."""
    types = {**audited.spec.input.columns(), **{field.name: field.type for field in order.carried}}
    passthrough = [pa.field(name, types[name].arrow) for name in order.passthrough]
    stamps = [pa.field(stamp, STAMP_TYPES[stamp]) for stamp in order.stamps]
    return pa.schema([*passthrough, *output_schema(audited.bundle), *stamps])


def assemble_predictions(order: Order, audited: AuditedBundle, result: Result, *, schema: pa.Schema) -> pa.RecordBatch:
    """One batch of the published table, of the rows that were scored."""
    bundle, frame, rows = audited.bundle, result.frame, result.rows
    arrays: list[ArrowArray] = []
    for name in order.passthrough:
        column = frame.arrow(name)
        arrays.append(column if rows.size == frame.rows else column.take(pa.array(rows)))
    arrays.extend(result.arrays)
    stamps = {"run_id": order.run_id, "model_version": f"{bundle.name}:{bundle.version}", "scored_at": order.scored_at}
    arrays.extend(pa.repeat(pa.scalar(stamps[stamp], STAMP_TYPES[stamp]), rows.size) for stamp in order.stamps)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
