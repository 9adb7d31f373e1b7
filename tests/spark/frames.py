"""DataFrames as Arrow tables, on every Spark."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def arrow_of(frame: DataFrame) -> pa.Table:
    """Return the rows of a DataFrame as Arrow."""
    any_frame: Any = frame
    if hasattr(any_frame, "toArrow"):
        return any_frame.toArrow()
    # Spark 3.5 has it under a name of its own, as `toPandas` uses it.
    batches = any_frame._collect_as_arrow()
    return pa.Table.from_batches(batches) if batches else pa.table({})
