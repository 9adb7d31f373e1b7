"""The published table: passthrough columns, the model's columns, stamps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from scoring.bundles.bundle import output_schema

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from etl.frame import Frame
    from scoring.bundles.bundle import AuditedBundle
    from scoring.order import Order
    from scoring.scorer import Scorer

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


def assemble_predictions(
    order: Order, scorer: Scorer, *, frame: Frame, outputs: Mapping[str, np.ndarray], rows: np.ndarray
) -> pa.RecordBatch:
    """One batch of the published table; `rows` are the positions in the frame that the outputs stand for."""
    bundle = scorer.audited.bundle
    arrays: list[pa.Array] = []
    for name in order.passthrough:
        column = frame.arrow(name)
        arrays.append(column if rows.size == frame.rows else column.take(pa.array(rows)))
    tensors = {tensor.name: tensor for tensor in bundle.signature.outputs}
    arrays.extend(column.array(outputs, tensors[column.tensor], rows.size) for column in bundle.columns)
    stamps = {"run_id": order.run_id, "model_version": f"{bundle.name}:{bundle.version}", "scored_at": order.scored_at}
    arrays.extend(pa.repeat(pa.scalar(stamps[stamp], STAMP_TYPES[stamp]), rows.size) for stamp in order.stamps)
    return pa.RecordBatch.from_arrays(arrays, schema=prediction_schema(order, scorer.audited))
