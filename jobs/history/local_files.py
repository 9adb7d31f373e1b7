"""Tables as files of this machine, by their ending."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from jobs.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["export_batches"]


def export_batches(path: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Write record batches as one `.parquet`, `.csv` or `.arrow` file; nothing of it is there before all of it is.

    Raises:
        Refused: another ending, a folder that is not there, or lists in a CSV.
    """
    target = Path(path)
    kind = target.suffix.lower()
    if kind not in {".parquet", ".csv", ".arrow"}:
        raise Refused(f"{path}: tables are exported as .parquet, .csv or .arrow, by the file's ending.")
    if not target.absolute().parent.is_dir():
        raise Refused(f"{path}: its folder is not there.")
    lists = [column.name for column in schema if pa.types.is_nested(column.type)]
    if kind == ".csv" and lists:
        raise Refused(f"{path}: CSV holds no lists, and {', '.join(lists)} is one. Export .parquet or .arrow.")
    partial = target.with_name(f".{target.name}.inprogress")
    try:
        with _writer(kind, partial, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _writer(kind: str, path: Path, schema: pa.Schema) -> Any:
    if kind == ".parquet":
        return pq.ParquetWriter(path, schema, compression="zstd")
    return csv.CSVWriter(path, schema) if kind == ".csv" else pa.ipc.new_file(str(path), schema)
