"""What a notebook has in its hands, an Arrow table or batch or a pandas frame, as one Arrow table."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

__all__ = ["as_table"]


def as_table(data: Any) -> pa.Table:
    """An Arrow table of an Arrow table or batch, or a pandas frame.

    Raises:
        TypeError: it is none of these.
    """
    if isinstance(data, pa.Table):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    if type(data).__module__.partition(".")[0] == "pandas":
        return pa.Table.from_pandas(data, preserve_index=False)
    message = f"takes an Arrow table or batch, or a pandas frame, found {type(data).__name__}"
    raise TypeError(message)
