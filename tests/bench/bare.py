"""The limit: the same columns in and out and the same codec, and nothing else. Two processes with one thread each."""

from __future__ import annotations

import functools
import multiprocessing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.bench.contender import CORES
from tests.bench.inference import arrow_scores
from tests.bench.workload import FEATURES, RESULT, Workload

__all__ = ["Bare"]

_BATCH_ROWS = 1 << 14
_GROUP_ROWS = 1 << 20
_STREAM_BYTES = 1 << 18
"""As we read: beside the MLP, whole column chunks took a quarter longer, because they pass through the cache."""


class Bare:
    """pyarrow and onnxruntime: no account, no checks, no commit, nothing forced to disk."""

    def start(self) -> None:
        """Start the processes."""
        self._pool = multiprocessing.get_context("spawn").Pool(CORES)

    def score(self, work: Workload) -> dict[str, float]:
        """Score each file by the process that is free."""
        work.out.mkdir(parents=True)
        task = functools.partial(_score_file, str(work.onnx), str(work.out))
        self._pool.map(task, [str(path) for path in work.files], chunksize=1)
        return {}

    def stop(self) -> None:
        """End the processes."""
        self._pool.close()
        self._pool.join()


def _score_file(onnx: str, out: str, path: str) -> None:
    pa.set_cpu_count(1)
    columns = ["id", *FEATURES]
    target = Path(out) / Path(path).name
    with (
        pq.ParquetFile(path, pre_buffer=False, buffer_size=_STREAM_BYTES) as source,
        pq.ParquetWriter(target, RESULT, compression="zstd", use_dictionary=False) as sink,
    ):
        waiting: list[pa.RecordBatch] = []
        for batch in source.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False):
            scored = arrow_scores(onnx, [batch.column(name) for name in FEATURES])
            waiting.append(pa.RecordBatch.from_arrays([batch.column("id"), scored], schema=RESULT))
            if len(waiting) * _BATCH_ROWS >= _GROUP_ROWS:
                sink.write_table(pa.Table.from_batches(waiting))
                waiting = []
        if waiting:
            sink.write_table(pa.Table.from_batches(waiting))
