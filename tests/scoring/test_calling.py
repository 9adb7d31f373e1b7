"""Calls of a model with a device of its own: one goes on while the next batch is made ready; nothing else changes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from etl.runs.receipt import Receipt
from scoring.engine import modelling
from scoring.engine.batch_rows import BatchRows
from scoring.engine.batching import ModelBatch, Outcome
from scoring.engine.calling import Calls
from scoring.runtimes.base import HERE
from scoring.worker import score_splits
from tests.scoring.workshop import Work, lookup_bundle, predictions, quarantined

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PLENTY = 1 << 40
NOTHING = Outcome(np.empty(0, np.int64), {})


def batch_of(rows: int) -> ModelBatch:
    """A batch of nobody's rows."""
    return ModelBatch({}, rows, ())


@pytest.fixture
def own_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model is called as one is that has a device of its own."""
    monkeypatch.setattr(modelling, "Calls", lambda run, **_: Calls(run, has_own_device=True))


def scored(folder: Path, **order: Any) -> tuple[pa.Table, pa.Table, list[Any]]:
    """What a worker makes of 300 rows in 7 splits, on three of which the model fails, one of them alone in its call."""
    index = np.arange(300) % 4
    index[[5, 100, 101, 299]] = 9
    table = pa.table({"index": index, "id": np.arange(300)})
    work = Work(folder, table, bundle=lookup_bundle, row_group=40, pieces=7)
    found = list(score_splits(work.make_order(**order), work.splits, HERE))
    receipts = [receipt for receipt in found if isinstance(receipt, Receipt)]
    assert len(receipts) == len(work.splits), found
    accounts = [
        (receipt.split, receipt.account.rows_in.rows, receipt.account.scored.rows, receipt.account.quarantined.rows)
        for receipt in receipts
    ]
    return predictions(receipts).sort_by("id"), quarantined(receipts).select(["row", "code", "message"]), accounts


@pytest.mark.parametrize("batch_rows", [1, 7, 64, 1000, "auto"])
@pytest.mark.parametrize("overlap", ["always", "never"])
def test_a_call_beside_another_batch_gives_the_same(
    tmp_path: Path, request: pytest.FixtureRequest, batch_rows: Any, overlap: str
) -> None:
    """Scores, rows that are set aside and accounts of splits are those of calls in turn, whatever shares a call."""
    wanted = scored(tmp_path / "in turn", batch_rows=batch_rows, overlap=overlap)
    request.getfixturevalue("own_device")
    found = scored(tmp_path / "ahead", batch_rows=batch_rows, overlap=overlap)
    assert found[0].num_rows == 296
    assert found[0].equals(wanted[0])
    assert found[1].equals(wanted[1])
    assert found[2] == wanted[2]


def test_the_next_batch_is_made_ready_while_a_call_goes_on() -> None:
    """A call that waits for the next batch to be cut comes to its end, and calls are in the order of their batches."""
    cut, ran = threading.Event(), list[int]()

    def run(batch: ModelBatch, _size: BatchRows) -> Outcome:
        if batch.rows == 1:
            assert cut.wait(20), "the second batch was not cut while the first one was with the model"
        ran.append(batch.rows)
        return NOTHING

    def cutting(rows: int) -> Callable[[int], ModelBatch]:
        def made(_: int) -> ModelBatch:
            if rows == 2:
                cut.set()
            return batch_of(rows)

        return made

    calls, size = Calls(run, has_own_device=True), BatchRows(5, most_bytes=PLENTY)
    came = [[called.batch.rows for called in calls.call(cutting(rows), size)] for rows in (1, 2, 3)]
    came.append([called.batch.rows for called in calls.rest()])
    calls.close()
    assert came == [[], [1], [2], [3]]
    assert ran == [1, 2, 3]


def test_a_search_waits_for_each_call() -> None:
    """While the rows of a call are looked for, no batch is cut before the call before it was timed."""
    calls, size, known = Calls(lambda *_: NOTHING, has_own_device=True), BatchRows("auto", most_bytes=PLENTY), [0]

    def cutting(rows: int) -> ModelBatch:
        assert known[0] == len(made)
        made.append(rows)
        return batch_of(rows)

    made: list[int] = []
    for _ in range(5):
        for _called in calls.call(cutting, size):
            known[0] += 1
    calls.close()
    assert len(made) == 5


def test_what_a_call_raises_comes_out_and_no_thread_is_left() -> None:
    """An error of the thread reaches whoever takes what came of the call; to close in the middle waits for the call."""

    def run(batch: ModelBatch, _size: BatchRows) -> Outcome:
        if batch.rows == 1:
            message = "no"
            raise ZeroDivisionError(message)
        return NOTHING

    calls, size = Calls(run, has_own_device=True), BatchRows(5, most_bytes=PLENTY)
    assert not list(calls.call(lambda _: batch_of(1), size))
    with pytest.raises(ZeroDivisionError):
        list(calls.call(lambda _: batch_of(2), size))
    assert not list(calls.call(lambda _: batch_of(1), size))
    calls.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batchscore-call")]
