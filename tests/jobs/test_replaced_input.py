"""An input file that is replaced while a run goes on: told by its name, and never published with the wrong rows."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import pytest

import etl.runs.read
from etl.errors import FileDamaged, InputChanged
from etl.runs.read import RangeReader
from jobs.config.job import read_config
from jobs.errors import ExitCode, InputUnfit, exit_code
from jobs.record import RunState
from jobs.run import RunRequest, run
from scoring.worker import score_split
from tests.numbers_job import logistic_scores, published_scores, write_numbers
from tests.scoring.workshop import Work, numbers, predictions
from tests.scoring.workshop import logistic_scores as plain_scores

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    from pyspark.sql import SparkSession

    from tests.numbers_job import JobWriter

SPLITS = {"target_bytes": "1MB", "task_bytes": 1}


class Exchange:
    """Puts another file of as many rows in the place of one, and back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._kept = path.parent.parent / "kept"
        shutil.copy2(path, self._kept)

    def put_other(self) -> None:
        """The same columns and row groups, other values."""
        table = pq.read_table(self._kept)
        negated = table.set_column(1, "f0", [np.negative(table.column("f0").to_numpy())])
        pq.write_table(negated, self.path, row_group_size=100)
        os.utime(self.path, ns=(1, 1))

    def put_back(self) -> None:
        """As `cp -p` does."""
        shutil.copy2(self._kept, self.path)

    def before(self, phase: str, job: Path) -> None:
        """Run the job, and put the other file there when this phase is about to begin."""

        def exchange(name: str) -> None:
            if name == phase:
                self.put_other()

        run(RunRequest(config=read_config(str(job)), run_id="r"), exchange)


@pytest.fixture
def exchange(tmp_path: Path) -> Exchange:
    """Three input files, of which the second can be exchanged."""
    write_numbers(tmp_path / "in", files=3, rows=300, row_group=100)
    return Exchange(tmp_path / "in" / "part-1.parquet")


def receipts(folder: Path) -> dict[str, bytes]:
    """Receipts of the run by name."""
    found = (folder / "out" / "_batchscore" / "runs" / "r" / "receipts").glob("*.json")
    return {path.name: path.read_bytes() for path in found}


def expected(folder: Path) -> dict[int, float]:
    """The oracle, over the input as it is now."""
    tables = [pq.read_table(path) for path in sorted((folder / "in").glob("*.parquet"))]
    return {key: score for table in tables for key, score in logistic_scores(table).items()}


@pytest.mark.matrix(
    "An input file is replaced before it is read", "exits 1 and names it; put back, the same command publishes"
)
def test_a_file_that_is_replaced_before_it_is_read_is_named(
    spark: SparkSession, tmp_path: Path, job_file: JobWriter, exchange: Exchange
) -> None:
    """The others keep their receipts and nothing is published; put back, the same id scores what is left."""
    whole = expected(tmp_path)
    job = job_file(splits=SPLITS)
    with pytest.raises(
        InputUnfit, match=rf"{exchange.path}: was replaced .* Put the planned one back.*\(cp -p\)"
    ) as told:
        exchange.before("score", job)
    assert exit_code(told.value) == ExitCode.FAILED
    assert receipts(tmp_path).keys() == {"000000.json", "000002.json"}
    assert not list((tmp_path / "out").rglob("*.parquet"))
    exchange.put_back()
    before = receipts(tmp_path)
    record = run(RunRequest(config=read_config(str(job)), run_id="r"))
    assert (record.state, record.splits_scored_now) == (RunState.SUCCEEDED, 1)
    assert {name: receipts(tmp_path)[name] for name in before} == before
    assert published_scores(tmp_path / "out" / "run_id=r") == pytest.approx(whole, abs=1e-6)


@pytest.mark.matrix(
    "An input file is replaced after it was read", "exits 1 and names it; put back, the same command publishes"
)
@pytest.mark.parametrize("on_damaged", ["fail", "quarantine"])
def test_a_file_that_is_replaced_after_it_was_read_is_named(
    spark: SparkSession, tmp_path: Path, job_file: JobWriter, exchange: Exchange, on_damaged: str
) -> None:
    """Before anything is published the pins are looked at again; put back, the same id publishes what was scored."""
    whole = expected(tmp_path)
    job = job_file(splits=SPLITS, input={"files": str(tmp_path / "in"), "on_damaged": on_damaged})
    with pytest.raises(InputChanged, match=str(exchange.path)) as told:
        exchange.before("settle", job)
    assert exit_code(told.value) == ExitCode.FAILED
    assert len(receipts(tmp_path)) == 3
    assert not list((tmp_path / "out").rglob("*.parquet"))
    exchange.put_back()
    record = run(RunRequest(config=read_config(str(job)), run_id="r"))
    assert (record.state, record.splits_scored_now) == (RunState.SUCCEEDED, 0)
    assert published_scores(tmp_path / "out" / "run_id=r") == pytest.approx(whole, abs=1e-6)


def test_what_is_there_now_is_scored_under_another_id(
    spark: SparkSession, tmp_path: Path, job_file: JobWriter, exchange: Exchange
) -> None:
    """The other way on that the message names: a new id scores the file that replaced the planned one."""
    job = job_file(splits=SPLITS)
    with pytest.raises(InputUnfit):
        exchange.before("score", job)
    run(RunRequest(config=read_config(str(job)), run_id="s"))
    assert published_scores(tmp_path / "out" / "run_id=s") == pytest.approx(expected(tmp_path), abs=1e-6)


def test_a_file_that_is_replaced_while_it_is_read_and_put_back_is_not_taken_for_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that read rows of the other file leaves no receipt, which the file that is put back would confirm."""
    # Of what is read at once, nothing can be replaced after.
    monkeypatch.setattr(etl.runs.read, "_WHOLE_BYTES", 0)
    work = Work(tmp_path, numbers(300))
    exchange = Exchange(work.input)
    batches = RangeReader.batches
    exchanged: list[bool] = []

    def exchanging(reader: RangeReader, columns: list[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        if not exchanged:
            exchanged.append(True)
            exchange.put_other()
        yield from batches(reader, columns, batch_rows)

    monkeypatch.setattr(RangeReader, "batches", exchanging)
    # What lies where a page was may be none.
    with pytest.raises((InputChanged, FileDamaged), match=str(work.input)):
        score_split(work.make_order(), work.splits[0])
    assert not Path(work.layout.receipts).exists()
    exchange.put_back()
    found = predictions([score_split(work.make_order(), work.splits[0])])
    np.testing.assert_allclose(found.column("p").to_numpy(), plain_scores(work.table), rtol=1e-6, atol=1e-7)
