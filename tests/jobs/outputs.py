"""Jobs over a folder that outlives one test, so that a module's tests can share what one run published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from jobs.config.job import read_config
from jobs.run import RunRequest, run
from tests.numbers_job import FEATURES, write_numbers

if TYPE_CHECKING:
    from pathlib import Path

    from jobs.record import RunRecord
    from jobs.run import OnPhase

ROWS = 600
"""Of each of the two input files."""
BAD_ROWS = (3, 250)
"""Rows of each file whose feature f1 is null, where the input is a bad one."""


def write_job(folder: Path, onnx: Path, **sections: Any) -> Path:
    """A job over `folder/in` and `folder/out`; keyword arguments replace its sections."""
    job = {
        "api_version": "batchscore/1",
        "name": "numbers",
        "input": {"files": str(folder / "in")},
        "model": {"onnx": str(onnx), "inputs": {"X": list(FEATURES)}},
        "output": {"uri": str(folder / "out"), "passthrough": ["id"]},
        **sections,
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job), encoding="utf-8")
    return path


def write_input(folder: Path) -> pa.Table:
    """Two good files."""
    return write_numbers(folder / "in", files=2, rows=ROWS, row_group=200)


def write_bad_input(folder: Path) -> pa.Table:
    """Two files with two rows each that a bare model cannot score; the good rows as one table."""
    write_numbers(folder / "in", files=2, rows=ROWS, row_group=200)
    good = []
    for path in sorted((folder / "in").iterdir()):
        table = pq.read_table(path)
        values = table.column("f1").to_pylist()
        for row in BAD_ROWS:
            values[row] = None
        table = table.set_column(table.column_names.index("f1"), "f1", pa.array(values, pa.float32()))
        pq.write_table(table, path, row_group_size=200)
        good.append(table.filter(table.column("f1").is_valid()))
    return pa.concat_tables(good)


def run_job(job: Path, run_id: str, on_phase: OnPhase = lambda _: None, **request: Any) -> RunRecord:
    """Run it in this process."""
    return run(RunRequest(config=read_config(str(job)), run_id=run_id, **request), on_phase)
