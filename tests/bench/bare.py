"""The limit: the same columns in and out and the same codec, and nothing else. Two processes with one thread each."""

from __future__ import annotations

import functools
import multiprocessing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.bench.contender import CORES
from tests.bench.inference import Scoring, arrow_scores
from tests.bench.workload import TASKS, WORKLOADS, Task

__all__ = ["Bare"]

_BATCH_BYTES = 1 << 23
"""Of what is read at once with its scores, as with us. A quarter of it takes 1 to 8 % longer."""
_GROUP_BYTES = 16 << 20
"""What a row group that is written has, about: a million rows of an id and a score."""
_STREAM_BYTES = 1 << 18
"""As we read: beside the MLP, whole column chunks took a quarter longer, because they pass through the cache."""


class Bare:
    """pyarrow and onnxruntime: no account, no checks, no commit, nothing forced to disk."""

    def start(self) -> None:
        """Start the processes."""
        self._pool = multiprocessing.get_context("spawn").Pool(CORES)

    def score(self, task: Task) -> dict[str, float]:
        """Score each group of files, one each where there are few, by the process that is free."""
        task.out.mkdir(parents=True)
        files = [str(path) for path in task.files]
        groups = [files[number::TASKS] for number in range(TASKS)]
        one = functools.partial(_score_files, Scoring.of(task), task.workload, str(task.out))
        self._pool.map(one, groups, chunksize=1)
        return {}

    def stop(self) -> None:
        """End the processes."""
        self._pool.close()
        self._pool.join()


def _score_files(scoring: Scoring, workload: str, out: str, paths: list[str]) -> None:
    pa.set_cpu_count(1)
    kind = WORKLOADS[workload]
    rows = max(scoring.model_rows, 1 << (_BATCH_BYTES // (kind.input_bytes + 4 * kind.width)).bit_length() - 1)
    with pq.ParquetWriter(
        Path(out) / Path(paths[0]).name, kind.result, compression="zstd", use_dictionary=False
    ) as sink:
        waiting: list[pa.RecordBatch] = []
        held = 0
        for path in paths:
            with pq.ParquetFile(path, pre_buffer=False, buffer_size=_STREAM_BYTES) as source:
                for batch in source.iter_batches(rows, columns=["id", *kind.columns], use_threads=False):
                    scored = arrow_scores(scoring, [batch.column(name) for name in kind.columns])
                    waiting.append(pa.RecordBatch.from_arrays([batch.column("id"), scored], schema=kind.result))
                    held += waiting[-1].nbytes
                    if held >= _GROUP_BYTES:
                        sink.write_table(pa.Table.from_batches(waiting))
                        waiting, held = [], 0
        if waiting:
            sink.write_table(pa.Table.from_batches(waiting))
