"""What is collected of all jobs under `metrics.uri`: of each ending of a run its record, and the table of its tasks.

    <metrics.uri>/<job>/records/<run id>.<when>.json
    <metrics.uri>/<job>/tasks/<run id>.<when>.parquet
    <metrics.uri>/<job>/seals/<run id>.<when>.json       see `jobs.monitoring.sealing`

All are created once and never replaced. A run ends several times where it failed and was begun again, or where a
person decided on it; its last ending is what counts.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from etl.documents import sha256_hex
from etl.errors import BatchscoreError, DocumentError, ReadError, StorageError
from etl.runs.storage import storage_for
from jobs.monitoring.sealing import Seal, seal_ending
from jobs.record import load_record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from etl.runs.storage import Storage
    from jobs.record import RunRecord

__all__ = ["Collected", "Ending", "collect"]

_THREADS = 16
_STAMP = "%Y%m%dT%H%M%S%fZ"
_NAME = re.compile(r"(?P<run_id>.+)\.(?P<when>\d{8}T\d{12}Z)\.(?:json|parquet)")
_JOB = re.compile(r"[a-z][a-z0-9_-]*")


class Ending(NamedTuple):
    """How a run ended, once or the last time."""

    job: str
    run_id: str
    when: datetime
    record: RunRecord | None
    """None where it cannot be read."""
    problem: str | None
    """Why it cannot."""

    @property
    def name(self) -> str:
        """As its files are named."""
        return f"{self.run_id}.{self.when:{_STAMP}}"


class Collected(NamedTuple):
    """A folder of collected records."""

    storage: Storage
    folder: str

    @classmethod
    def at(cls, uri: str) -> Collected:
        """The one that `metrics.uri` names."""
        return cls(*storage_for(uri))

    def jobs(self) -> list[str]:
        """Jobs that have records here."""
        names = [name for name in self.storage.names(self.folder) if _JOB.fullmatch(name)]
        # What is a file of that name holds no records.
        folders = [name for name in names if self.storage.stat(f"{self.folder}/{name}") is None]
        return [name for name in folders if self._latest(name, "records")]

    def endings(self, job: str) -> list[Ending]:
        """The last ending of each run of a job, the oldest first; one that cannot be read is told and fails nothing."""
        return self._read(job, self._latest(job, "records").items())

    def every_ending(self, job: str) -> list[Ending]:
        """All endings of the runs of a job, the oldest first."""
        return self._read(job, self._named(f"{self.folder}/{job}/records"))

    def last(self, job: str, run_id: str) -> Ending | None:
        """The last ending of a run, be it one that cannot be read; None where none was collected."""
        stamp = self._latest(job, "records").get(run_id)
        return self._ending(job, run_id, stamp) if stamp is not None else None

    def tasks(self, job: str, run_id: str) -> pa.Table | None:
        """The table of a run's tasks; None where none was collected.

        Raises:
            ReadError: it is damaged.
        """
        stamp = self._latest(job, "tasks").get(run_id)
        if stamp is None:
            return None
        path = f"{self.folder}/{job}/tasks/{run_id}.{stamp}.parquet"
        try:
            with self.storage.open_input(path) as source:
                return pq.read_table(source)
        except pa.ArrowException as error:
            message = f"{path}: a damaged table of tasks: {error}. Remove it, and a run's receipts are read instead."
            raise ReadError(message) from error

    def _read(self, job: str, named: Iterable[tuple[str, str]]) -> list[Ending]:
        with ThreadPoolExecutor(_THREADS) as threads:
            return list(threads.map(lambda one: self._ending(job, *one), sorted(named, key=lambda one: one[1])))

    def _ending(self, job: str, run_id: str, stamp: str) -> Ending:
        when = datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
        try:
            record = load_record(self.storage, f"{self.folder}/{job}/records/{run_id}.{stamp}.json")
        except (DocumentError, StorageError, OSError) as error:
            return Ending(job, run_id, when, None, str(error))
        return Ending(job, run_id, when, record, None if record else "it is gone")

    def _latest(self, job: str, kind: str) -> dict[str, str]:
        """By run, the time of its last ending."""
        return dict(sorted(self._named(f"{self.folder}/{job}/{kind}")))

    def _named(self, folder: str) -> Iterator[tuple[str, str]]:
        for name in self.storage.names(folder):
            if match := _NAME.fullmatch(name):
                yield match["run_id"], match["when"]


def collect(uri: str, record: RunRecord, tasks: pa.Table | None = None) -> str | None:
    """Put the record of a run, and the table of its tasks, where those of all jobs are collected; SHA-256 of the seal.

    Where that fails there is a warning and no error, for the run has ended as its own record says; and no seal.
    """
    try:
        storage, root = storage_for(uri)
        folder, name = f"{root}/{record.job}", f"{record.run_id}.{record.recorded_at.astimezone(UTC):{_STAMP}}"
        seal = Seal(job=record.job, ending=name, record_sha256=sha256_hex(record.to_bytes()))
        if tasks is not None:
            sink = pa.BufferOutputStream()
            pq.write_table(tasks, sink, compression="zstd")
            data = sink.getvalue()
            storage.create_if_absent(f"{folder}/tasks/{name}.parquet", data)
            seal = seal.model_copy(update={"tasks_sha256": hashlib.sha256(data).hexdigest()})
        storage.create_if_absent(f"{folder}/records/{name}.json", record.to_bytes())
        return seal_ending(storage, folder, seal)
    except (BatchscoreError, OSError) as error:
        told = f"{uri}: the record of run {record.run_id} was not collected, or not sealed: {error}"
        warnings.warn(told, stacklevel=2)
        return None
