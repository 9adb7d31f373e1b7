"""What a worker sketches: the rows that it publishes, each once, and nothing that could stop it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from etl.sketches.counting import Counts
from etl.sketches.sketch import Sketch, merge
from scoring.engine import sketching
from scoring.order import SketchColumn, SketchOrder
from scoring.worker import score_split
from tests.scoring.workshop import STORE, Work, numbers, predictions, with_values

if TYPE_CHECKING:
    from pathlib import Path

    from etl.runs.receipt import Receipt

COLUMNS = (
    SketchColumn(name="p", kind="number"),
    SketchColumn(name="f2", kind="number", model=0, field="f2"),
    SketchColumn(name="name", kind="text", model=0, field="name"),
)
ROWS = 1500


def order_of(rows: int = 300, **changes: Any) -> SketchOrder:
    """What is told to workers."""
    return SketchOrder(**{"columns": COLUMNS, "rows": rows, "bytes": 1, **changes})


def sketches(receipts: list[Receipt]) -> list[Sketch]:
    """Those that they name."""
    found = []
    for receipt in receipts:
        assert receipt.sketch is not None
        data = STORE.read_bytes(receipt.sketch)
        assert data is not None
        found.append(Sketch.from_bytes(data, where=receipt.sketch))
    return found


def bad_rows() -> pa.Table:
    """Rows, some of which the contract refuses: those with the largest f2."""
    table = numbers(ROWS)
    return with_values(table, "f2", dict.fromkeys(range(0, ROWS, 50), 1000.0))


@pytest.mark.parametrize("pieces", [1, 4])
@pytest.mark.parametrize("of_rows", [None, ROWS, 20 * ROWS])
def test_published_rows_are_sketched_and_no_others(tmp_path: Path, pieces: int, of_rows: int | None) -> None:
    """Counts are those of the published rows by numpy, the sample is some of them, each with its own values, and the
    time that it took is told.
    """  # noqa: D205  one sentence
    table = bad_rows()
    work = Work(tmp_path, table, pieces=pieces)
    receipts = work.score(sketch=order_of(of_rows=of_rows, bytes=sum(split.bytes for split in work.splits)))
    found = merge(sketches(receipts), 300)
    good = table.filter(pa.compute.less(table.column("f2"), 100))
    f2, p = good.column("f2").to_numpy(), predictions(receipts).column("p").to_numpy()
    assert good.num_rows == p.size == ROWS - ROWS // 50
    assert found.counts["f2"] == Counts(p.size, 0, f2.min(), f2.max())
    assert found.counts["p"] == Counts(p.size, 0, p.min(), p.max())
    assert found.counts["name"] == Counts(p.size, 0)
    together = set(zip(good.column("name").to_pylist(), f2.tolist(), strict=True))
    sampled = list(zip(pa.array(found.values["name"]).to_pylist(), found.values["f2"].tolist(), strict=True))
    assert together.issuperset(sampled)
    assert len(set(sampled)) == len(sampled) == found.hashes.size
    assert set(found.values["p"].tolist()) <= set(p.tolist())
    assert 10 < found.hashes.size <= 300
    assert all(receipt.seconds["sketch"] > 0 for receipt in receipts)


def test_a_row_group_that_is_larger_than_a_split_costs_no_row_of_the_sample(tmp_path: Path) -> None:
    """All rows of a file come from one of its four splits, and the sample has as many as it was asked for."""
    work = Work(tmp_path, numbers(ROWS), pieces=4, row_group=ROWS)
    receipts = work.score(sketch=order_of(of_rows=ROWS, bytes=sum(split.bytes for split in work.splits)))
    assert [receipt.account.scored.rows for receipt in receipts] == [ROWS, 0, 0, 0]
    assert merge(sketches(receipts), 300).hashes.size == 300


def test_the_sample_does_not_depend_on_batches_and_predictions_not_on_the_sketch(tmp_path: Path) -> None:
    """Rows of a call, or at once, change no byte of a sketch; with and without one the same is published."""
    work = Work(tmp_path, bad_rows())
    found, published = set(), []
    ways: list[dict[str, Any]] = [{}, {"batch_rows": 7}, {"table_rows": 5000}]
    for number, told in enumerate(ways):
        receipts = work.score(sketch=order_of(), run_id=f"run{number}", **told)
        published.append(predictions(receipts))
        [one] = sketches(receipts)
        found.add(one.to_bytes())
    assert len(found) == 1
    [without] = work.score(run_id="without")
    assert all(table.equals(predictions([without])) for table in published)
    assert without.sketch is None
    assert "sketch" not in without.seconds


def test_a_split_that_is_scored_twice_has_one_sketch(tmp_path: Path) -> None:
    """Who comes second finds the receipt of the first, and throws its own sketch away."""
    work = Work(tmp_path, numbers(300))
    order = work.make_order(sketch=order_of())
    [split] = work.splits
    first = score_split(order, split)
    assert score_split(order, split) == first
    receipt_path = work.layout.receipt(split.name)
    winner = STORE.read_bytes(receipt_path)
    assert winner is not None
    STORE.delete(receipt_path)
    second = score_split(order, split)  # its own sketch beside that of the first, whose receipt is gone
    assert {f"{work.layout.sketches}/{name}" for name in STORE.names(work.layout.sketches)} == {
        first.sketch,
        second.sketch,
    }


def test_what_cannot_be_sketched_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a sketch cannot be made or stored, the split is scored and its receipt names none."""
    work = Work(tmp_path, numbers(300))
    broken = COLUMNS[1].model_copy(update={"kind": "text"})
    with pytest.warns(UserWarning, match="a split has no sketch: AttributeError"):
        [receipt] = work.score(sketch=order_of(columns=(broken,)))
    assert receipt.sketch is None
    assert receipt.account.scored.rows == 300

    def full(*_: object) -> bool:
        raise OSError(28, "No space left on device")

    sketcher = sketching.Sketcher(COLUMNS, 10)
    monkeypatch.setattr(type(STORE), "create_if_absent", full)
    with pytest.warns(UserWarning, match="No space left"):
        stored = sketcher.store(STORE, str(tmp_path / "x.arrow"))
    assert stored is None


def test_a_column_of_float32_is_kept_as_it_is(tmp_path: Path) -> None:
    """The sample holds float32 in float32, which is half of a sketch."""
    work = Work(tmp_path, numbers(300))
    [found] = sketches(work.score(sketch=order_of()))
    assert found.values["f2"].dtype == np.float32
