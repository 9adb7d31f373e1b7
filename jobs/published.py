"""Published files as tables: each with the columns that the names of its folders stand for."""

from __future__ import annotations

import re
from functools import reduce
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from etl.runs.partitions import partition_columns, partition_values
from etl.runs.s3a import s3a_options, s3a_uri
from jobs.column_types import arrow_of, spark_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow.dataset as ds
    from pyspark.sql import DataFrame, SparkSession

    from etl.runs.manifest import Manifest
    from etl.runs.storage import Storage

__all__ = ["PublishedFile", "dataset_of", "frame_of", "schema_of"]

_GLOB = re.compile(r"([\\{}\[\]*?,])")


class PublishedFile(NamedTuple):
    """A file of a version."""

    path: str
    run: str
    """Folder of its run."""
    partition: str
    """Folder in that."""

    def table(self, storage: Storage, schema: pa.Schema) -> pa.Table:
        """Its rows, of some of the published columns."""
        with storage.open_input(self.path) as source:
            file = pq.ParquetFile(source)
            names = self._stored(schema)
            table = file.read(names).select(names) if names else None
            rows = file.metadata.num_rows
        columns = {} if table is None else dict(zip(names, table.columns, strict=True))
        return pa.table([*self._columns(columns, schema, rows)], names=schema.names).cast(schema)

    def batches(self, storage: Storage, schema: pa.Schema, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """The same as a stream."""
        with storage.open_input(self.path) as source:
            names = self._stored(schema)
            for batch in pq.ParquetFile(source).iter_batches(batch_rows, columns=names):
                columns = {name: batch.column(name) for name in names}
                arrays = list(self._columns(columns, schema, batch.num_rows))
                yield pa.RecordBatch.from_arrays(arrays, names=schema.names).cast(schema)

    def _stored(self, schema: pa.Schema) -> list[str]:
        """Those of the columns that are in the file."""
        named = partition_columns(self.partition)
        return [name for name in schema.names if name not in named]

    def _columns(self, stored: dict[str, pa.Array], schema: pa.Schema, rows: int) -> Iterator[pa.Array]:
        values = partition_values(self.partition, schema)
        return (stored[name] if name in stored else pa.repeat(values[name], rows) for name in schema.names)


def schema_of(manifest: Manifest) -> pa.Schema:
    """The published columns."""
    return pa.schema([pa.field(column.name, arrow_of(column.type)) for column in manifest.columns])


def dataset_of(storage: Storage, manifest: Manifest, files: Sequence[PublishedFile]) -> ds.Dataset:
    """Files as a dataset of pyarrow."""
    import pyarrow.dataset as ds  # noqa: PLC0415  it imports pandas, half a second that a command need not pay

    schema = schema_of(manifest)
    folders = pa.schema([schema.field(name) for name in manifest.partition_by])
    filesystem, paths = storage.arrow_paths([file.path for file in files])
    hive = ds.partitioning(folders, flavor="hive") if manifest.partition_by else None
    return ds.dataset(paths, schema=schema, format="parquet", filesystem=filesystem, partitioning=hive)


def frame_of(session: SparkSession, manifest: Manifest, files: Sequence[PublishedFile]) -> DataFrame:
    """Files as a DataFrame of Spark; nothing is read before an action."""
    names = [f"`{column.name.replace('`', '``')}`" for column in manifest.columns]
    types = (spark_of(arrow_of(column.type)) for column in manifest.columns)
    ddl = ", ".join(f"{name} {type_}" for name, type_ in zip(names, types, strict=True))
    if not files:
        return session.createDataFrame([], ddl)
    reader = session.read.options(**s3a_options(files[0].run)).schema(ddl)
    if not manifest.partition_by:
        return reader.parquet(*(_spark_path(file.path) for file in files))
    # Spark takes columns from the names of all folders below a base, and that of a run is none of the predictions'.
    frames = [
        reader.option("basePath", _spark_path(run)).parquet(*(_spark_path(file.path) for file in some)).select(*names)
        for run, some in groupby(files, key=lambda file: file.run)
    ]
    return reduce(lambda left, right: left.union(right), frames)


def _spark_path(path: str) -> str:
    """The path as Spark takes it: with its scheme, and what Hadoop would take for a glob escaped."""
    uri = f"file://{path}" if path.startswith("/") else s3a_uri(path)
    return _GLOB.sub(r"\\\1", uri)
