"""A store to be tried, and how other libraries see what is in it."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Callable

    from etl.runs.storage import Pending, Storage


@dataclass(frozen=True)
class Site:
    """A store, and a folder in it that is the test's own."""

    storage: Storage
    root: str
    """The folder, in the store's naming."""
    uri: str
    """The same for `storage_for`, in another process."""
    readers: tuple[Callable[[str], set[int]], ...]
    """Each gives the numbers in all Parquet files that a library finds under a folder."""

    def path(self, name: str) -> str:
        """A name in the folder."""
        return f"{self.root}/{name}"

    def write_pending(self, name: str, data: bytes) -> Pending:
        """A finished pending file."""
        writer = self.storage.begin(self.path(name))
        writer.write(data)
        return writer.finish()


def sha256(data: bytes) -> str:
    """The digest of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def parquet_bytes(number: int) -> bytes:
    """A Parquet file with one row."""
    sink = io.BytesIO()
    pq.write_table(pa.table({"number": pa.array([number], pa.int64())}), sink)
    return sink.getvalue()


def read_by_pyarrow(folder: str) -> set[int]:
    """The numbers that pyarrow finds."""
    table = ds.dataset(folder, format="parquet").to_table()
    return set(table.column("number").to_pylist()) if table.num_columns else set()


def read_by_duckdb(folder: str) -> set[int]:
    """The numbers that DuckDB finds."""
    import duckdb

    with duckdb.connect() as connection:
        if not connection.execute("SELECT file FROM glob(?)", [f"{folder}/**/*.parquet"]).fetchall():
            return set()
        rows = connection.execute("SELECT number FROM read_parquet(?)", [f"{folder}/**/*.parquet"]).fetchall()
    return {number for (number,) in rows}


def read_by_polars(folder: str) -> set[int]:
    """The numbers that Polars finds."""
    import polars as pl

    try:
        return set(pl.read_parquet(f"{folder}/**/*.parquet")["number"].to_list())
    except pl.exceptions.ComputeError as error:
        if "expanded paths were empty" in str(error):
            return set()
        raise


def read_by_pandas(folder: str) -> set[int]:
    """The numbers that pandas finds."""
    import pandas as pd

    frame = pd.read_parquet(folder)
    return set(frame["number"]) if len(frame.columns) else set()
