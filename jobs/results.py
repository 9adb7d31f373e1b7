"""Published predictions as Arrow, pandas and Spark tables: always one whole version, and only the files that it names.

>>> results = open_results("conf/flights.yaml")
>>> results.rows, results.run_ids
>>> results.run().pandas(columns=["flight_id", "p_late"])
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from etl.errors import ReadError
from etl.format.problems import nearest
from etl.printable import counted
from etl.runs.layout import Layout
from etl.runs.manifest import (
    FILES_SCHEMA,
    Manifest,
    RunEntry,
    is_kept,
    latest_manifest,
    published_files,
    read_manifest,
    version_of,
)
from etl.runs.read import open_parquet
from etl.spark.freeze import opening
from jobs.errors import Refused
from jobs.history.local_files import export_batches
from jobs.history.runs import find_run, look_at, output_root, quarantined_rows
from jobs.planning.destination import Target
from jobs.planning.plan import load_plan
from jobs.published import PublishedFile, dataset_of, frame_of, schema_of
from jobs.record import RunRecord, load_record

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    import pandas as pd
    import pyarrow.dataset as ds
    from pyspark.sql import DataFrame, SparkSession

    from etl.runs.storage import Storage

__all__ = ["Results", "open_results"]

_THREADS = 16
_SHOWN = 3


def open_results(where: str, run_id: str | None = None, seq: int | None = None) -> Results:
    """Open what is published under a config's output, or under an output URI; without `seq`, its newest version.

    With `run_id` the results are those of one run, which may also be a trial that `--limit` or `--sample` wrote.

    Raises:
        Refused: nothing is published there, or not that run or version.
        ReadError: a published file is gone or has another size.
    """
    storage, root = output_root(where)
    if run_id is not None and run_id not in _run_ids(storage, root, seq):
        root = _root_of_unlisted(find_run(where, run_id), seq)
    results = Results(storage, root, _version(storage, root, seq))
    if run_id is not None:
        results = results.run(run_id)
    try:
        _check_files(storage, results.files)
    except ReadError:
        if is_kept(storage, root, results.manifest):
            raise
        # Another version was published meanwhile, and its publisher, or `gc`, has removed what it does not hold.
        return open_results(where, run_id, seq)
    return results


@dataclass(frozen=True, eq=False)
class Results:
    """A version of an output root, or one run of it."""

    _storage: Storage = field(repr=False)
    root: str
    """The output root."""
    manifest: Manifest = field(repr=False)
    """The version that this was opened at."""
    only: str | None = None
    """The run that this is narrowed to; None for the whole version."""

    @property
    def seq(self) -> int:
        """Number of the version."""
        return self.manifest.seq

    @property
    def _entries(self) -> tuple[RunEntry, ...]:
        return tuple(entry for entry in self.manifest.runs if self.only in {None, entry.run_id})

    @property
    def run_ids(self) -> tuple[str, ...]:
        """The runs, oldest first."""
        return tuple(entry.run_id for entry in self._entries)

    @property
    def rows(self) -> int:
        """Predictions, over all runs."""
        return sum(entry.rows for entry in self._entries)

    @property
    def bytes(self) -> int:
        """Size of the files."""
        return sum(entry.bytes for entry in self._entries)

    @property
    def folders(self) -> tuple[str, ...]:
        """Folder of each run."""
        return tuple(f"{self.root}/{entry.folder}" for entry in self._entries)

    @cached_property
    def files(self) -> pa.Table:
        """The files, one a row: run_id, path, rows, bytes, sha256, split, digest."""
        tables = []
        for entry in self._entries:
            table = published_files(self._storage, entry)
            tables.append(table.add_column(0, "run_id", pa.repeat(entry.run_id, table.num_rows)))
        schema = FILES_SCHEMA.insert(0, pa.field("run_id", pa.string()))
        return pa.concat_tables([schema.empty_table(), *(table.cast(schema) for table in tables)])

    @cached_property
    def schema(self) -> pa.Schema:
        """Columns of the predictions."""
        return schema_of(self.manifest)

    @cached_property
    def scores(self) -> tuple[str, ...]:
        """Columns that the model made, as the newest run planned them; the others are the input's, or stamps."""
        plan = load_plan(self._target(None)) if self.run_ids else None
        others = (*plan.order.passthrough, *plan.order.stamps) if plan is not None else ()
        return tuple(name for name in self.schema.names if name not in others)

    def run(self, run_id: str | None = None) -> Results:
        """The same version, narrowed to one run: by default the newest.

        Raises:
            Refused: the version does not hold that run.
        """
        chosen = run_id or next(reversed(self.run_ids), "")
        if chosen not in self.run_ids:
            message = f"{self.root}: version {self.seq} holds no run {chosen!r}.{nearest(chosen, self.run_ids)}"
            raise Refused(message)
        return Results(self._storage, self.root, self.manifest, chosen)

    def arrow(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All predictions, or some columns of them, in memory."""
        with ThreadPoolExecutor(_THREADS) as threads:
            schema = self._selected(columns)
            tables = list(threads.map(lambda file: file.table(self._storage, schema), self._published))
        return pa.concat_tables([schema.empty_table(), *tables])

    def head(self, rows: int) -> pa.Table:
        """The first predictions; reads no more files than it needs."""
        found: list[pa.RecordBatch] = []
        missing = rows
        with closing(self.batches(batch_rows=max(1, rows))) as batches:
            for batch in batches:
                found.append(batch.slice(0, missing))
                missing -= found[-1].num_rows
                if missing <= 0:
                    break
        return pa.Table.from_batches(found, self.schema)

    def batches(self, columns: Sequence[str] | None = None, batch_rows: int = 65_536) -> Generator[pa.RecordBatch]:
        """All predictions as a stream, file by file, so that memory stays flat."""
        schema = self._selected(columns)
        for file in self._published:
            yield from file.batches(self._storage, schema, batch_rows)

    def dataset(self) -> ds.Dataset:
        """A pyarrow dataset over the files, for filters and projections that read only what they need."""
        return dataset_of(self._storage, self.manifest, self._published)

    def pandas(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """All predictions, or some columns of them, as a pandas DataFrame."""
        frame: pd.DataFrame = self.arrow(columns).to_pandas()
        return frame

    def spark(self, session: SparkSession) -> DataFrame:
        """The predictions as a Spark DataFrame; nothing is read before an action."""
        with opening(session, self.root):
            return frame_of(session, self.manifest, self._published)

    def record(self, run_id: str | None = None) -> RunRecord:
        """What happened in a run: by default in the newest."""
        target = self._target(run_id)
        record = load_record(target.storage, target.layout.record)
        if record is None:
            message = f"{target.layout.record}: the record of this run is not there. Run the same id again to write it."
            raise ReadError(message)
        return record

    def quarantine(self, run_id: str | None = None) -> pa.Table:
        """The rows that a run set aside, by default the newest: where each is, why, and its values as a preview."""
        return quarantined_rows(self._target(run_id))

    def inputs(self, columns: Sequence[str], run_id: str | None = None) -> pa.Table:
        """Columns of the input that a run scored, by default the newest, from the very files that it pinned.

        Raises:
            InputChanged: a file was replaced or removed since.
        """
        target = self._target(run_id)
        plan = load_plan(target)
        if plan is None:
            message = f"{target.layout.plan}: the plan of this run is not there, so its input is not known."
            raise ReadError(message)
        wanted = list(columns)
        with ThreadPoolExecutor(_THREADS) as threads:
            files = threads.map(lambda file: open_parquet(target.storage, file).read(wanted), plan.inputs)
            return pa.concat_tables(files, promote_options="permissive")

    def verify(self) -> None:
        """Read every file's footer and compare its rows with what was committed.

        Raises:
            ReadError: naming the files that differ.
        """
        with ThreadPoolExecutor(_THREADS) as threads:
            found = list(threads.map(self._footer_rows, self._paths))
        expected = self.files.column("rows").to_pylist()
        problems = [
            f"{path} has {counted(rows, 'row')}, {wanted} were committed"
            for path, rows, wanted in zip(self._paths, found, expected, strict=True)
            if rows != wanted
        ]
        _raise_problems(problems)

    def export(self, path: str) -> int:
        """Write all predictions as one local file, by its ending: `.parquet`, `.csv` or `.arrow`; the number of rows.

        Raises:
            Refused: another ending, a folder that is not there, or lists in a CSV.
        """
        export_batches(path, self.schema, self.batches())
        return self.rows

    @cached_property
    def _paths(self) -> tuple[str, ...]:
        return tuple(map(str, self.files.column("path").to_pylist()))

    @cached_property
    def _published(self) -> tuple[PublishedFile, ...]:
        folders = {entry.run_id: f"{self.root}/{entry.folder}" for entry in self._entries}
        rows = self.files.select(["path", "run_id", "partition"]).to_pylist()
        return tuple(PublishedFile(row["path"], folders[row["run_id"]], row["partition"]) for row in rows)

    def _selected(self, columns: Sequence[str] | None) -> pa.Schema:
        unknown = [name for name in columns or () if name not in self.schema.names]
        if unknown:
            raise Refused(f"{self.root}: there is no column {unknown[0]!r}.{nearest(unknown[0], self.schema.names)}")
        return self.schema if columns is None else pa.schema([self.schema.field(name) for name in columns])

    def _footer_rows(self, path: str) -> int:
        with self._storage.open_input(path) as source:
            return int(pq.ParquetFile(source).metadata.num_rows)

    def _target(self, run_id: str | None) -> Target:
        narrowed = self.run(run_id)
        [entry] = narrowed._entries  # noqa: SLF001  our own
        return Target(self._storage, Layout(self.root, entry.run_id, is_hidden=entry.folder.startswith("_")))


def _run_ids(storage: Storage, root: str, seq: int | None) -> frozenset[str]:
    manifest = latest_manifest(storage, root) if seq is None else read_manifest(storage, root, seq)
    return manifest.run_ids if manifest is not None else frozenset()


def _version(storage: Storage, root: str, seq: int | None) -> Manifest:
    latest = latest_manifest(storage, root)
    if latest is None:
        message = f"{root}: nothing is published here. `batchscore history` says what ran; `batchscore run` publishes."
        raise Refused(message)
    if seq is None:
        return latest
    manifest = read_manifest(storage, root, seq)
    if manifest is None:
        raise Refused(f"{root}: there is no version {seq}; the newest is {latest.seq}.")
    if seq < latest.kept_from:
        message = (
            f"{root}: version {seq} is kept no more, and may lack files; the oldest that is whole is "
            f"{latest.kept_from}. `batchscore versions` lists them."
        )
        raise Refused(message)
    return manifest


def _root_of_unlisted(target: Target, seq: int | None) -> str:
    """The output root of a trial run.

    Raises:
        Refused: the run is no trial, and is not published.
    """
    run_id, root = target.layout.run_id, target.layout.root
    if run_id not in _run_ids(target.storage, root, seq):
        state, version = look_at(target).state, version_of(*target)
        which = "no version holds it" if seq is None else f"version {seq} does not hold it"
        hint = "`batchscore show` says more."
        if seq is None and version is not None:
            which, hint = "the newest version holds it no more", f"It came with version {version.seq}; see --version."
        raise Refused(f"{root}: run {run_id} is {state}, and {which}. {hint}")
    return root


def _check_files(storage: Storage, files: pa.Table) -> None:
    """Compare the sizes of the files with what was committed: a version is whole or an error."""
    paths = map(str, files.column("path").to_pylist())
    expected = dict(zip(paths, files.column("bytes").to_pylist(), strict=True))
    folders = sorted({path.rpartition("/")[0] for path in expected})
    sizes = {file.path: file.bytes for folder in folders for file in storage.list_files(folder)}
    for path in expected.keys() - sizes.keys():
        # What a listing leaves out may be there all the same: a hidden folder, a store whose listings lag.
        file = storage.stat(path)
        if file is not None:
            sizes[path] = file.bytes
    _raise_problems(
        [
            f"{path} is gone" if path not in sizes else f"{path} has {sizes[path]} bytes, {wanted} were committed"
            for path, wanted in expected.items()
            if sizes.get(path) != wanted
        ]
    )


def _raise_problems(problems: list[str]) -> None:
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ReadError(f"Published files are damaged: {'; '.join(problems[:_SHOWN])}{more}. Restore them from a copy.")
