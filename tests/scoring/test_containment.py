"""A model that takes its process with it, or never comes back: what the next try of the task makes of the rows."""

from __future__ import annotations

import platform
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.runs.account import settle
from etl.runs.receipt import Receipt
from etl.runs.splits import SPLIT
from scoring.bundles.create import BundleParts, create_bundle
from scoring.engine.breadcrumbs import Breadcrumb, RowRange, Suspects
from scoring.engine.contained import Contained
from scoring.engine.guarding import Guard, Situation
from scoring.errors import BundleError, InferenceError
from scoring.outputs.columns import OutputColumn
from scoring.runtimes.base import HERE
from scoring.worker import score_splits
from tests.scoring.workshop import STORE, Work, predictions, quarantined, spec_of
from tests.zoo import faults

if TYPE_CHECKING:
    from pathlib import Path

    from scoring.bundles.bundle import AuditedBundle

ROWS = 200
BAD = 137
DIES = platform.machine() in {"x86_64", "AMD64"}
"""Other processors do not trap on the division by which the model dies: there the row is as good as any other."""
P = OutputColumn(column="p", tensor="p", type="float32")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's folder of breadcrumbs is the test's own."""
    monkeypatch.setenv("BATCHSCORE_CACHE", str(tmp_path / "cache"))


def work_of(folder: Path, model: bytes, rows: int = ROWS, pieces: int = 1) -> Work:
    """A file whose rows have the scores 0, 1, 2 …, and a model with a fault."""

    def bundle(place: Path) -> AuditedBundle:
        golden = pa.table({"id": [0, 1], "row": [0, 1]})
        parts = BundleParts(
            name="fault",
            version="1",
            model=model,
            spec=spec_of(faults.SPEC),
            columns=(P,),
            golden_rows=golden,
            references={},
            facts={},
        )
        return create_bundle(STORE, str(place), parts)

    return Work(folder, pa.table({"id": np.arange(rows), "row": np.arange(rows)}), bundle, pieces=pieces)


def try_apart(work: Work, *, may_end: bool = False, **changes: Any) -> int:
    """A first try of the task in a process of its own; how that ended, 0 where it came to its end."""
    order = work.make_order(**changes)
    lines = [
        "import sys",
        "from etl.runs.splits import SPLIT",
        "from scoring.engine.guarding import Situation",
        "from scoring.order import Order",
        "from scoring.worker import score_splits",
        "order = Order.model_validate_json(sys.argv[1])",
        "splits = [SPLIT.validate_json(text) for text in sys.argv[2:]]",
        f"list(score_splits(order, splits, situation=Situation(0, {may_end})))",
    ]
    told = [order.model_dump_json(by_alias=True), *(SPLIT.dump_json(split).decode() for split in work.splits)]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines), *told], check=False, capture_output=True, timeout=60)
    return done.returncode


def next_try(work: Work, **changes: Any) -> list[Receipt]:
    """The second try of the task, in this process."""
    found = list(score_splits(work.make_order(**changes), work.splits, situation=Situation(tries_before=1)))
    return [receipt for receipt in found if isinstance(receipt, Receipt)]


def check_scored(work: Work, receipts: list[Receipt], bad: list[int], reason: str) -> None:
    """Every row but the bad ones has its own score; these are set aside alone with the reason."""
    found, aside = predictions(receipts), quarantined(receipts)
    good = [row for row in range(work.table.num_rows) if row not in bad]
    assert found["id"].to_pylist() == good
    assert found["p"].to_pylist() == [float(row) for row in good]
    assert aside["row"].to_pylist() == bad
    assert aside["code"].to_pylist() == ["MODEL_FAILED"] * len(bad)
    assert aside["stage"].to_pylist() == ["inference"] * len(bad)
    assert all(reason in message for message in aside["message"].to_pylist()), aside["message"].to_pylist()
    assert settle(work.splits, receipts).quarantined.rows == len(bad)


@pytest.mark.servers
def test_a_try_on_another_host_scores_all_rows_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing tells what the try before died of, every row is scored apart: the job still comes to its end."""
    work = work_of(tmp_path, faults.dies_on(BAD))
    assert try_apart(work, batch_rows=8) == (-signal.SIGFPE if DIES else 0)
    monkeypatch.setenv("BATCHSCORE_CACHE", str(tmp_path / "elsewhere"))
    receipts = next_try(work, batch_rows=8)
    check_scored(work, receipts, [BAD] * DIES, "killed by SIGFPE")
    assert receipts[0].contained_rows == ROWS * DIES


@pytest.mark.servers
def test_a_row_on_which_the_model_hangs_is_found(tmp_path: Path) -> None:
    """The watchdog ends the first try; the second waits in vain, halves, and sets the row aside."""
    work = work_of(tmp_path, faults.hangs_on(BAD))
    slow = {"call_timeout": 2.0, "batch_rows": 4}
    assert try_apart(work, may_end=True, **slow) == -signal.SIGKILL
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scoring.engine.contained._LEAST_SECONDS", 1.0)
        receipts = next_try(work, **slow)
    check_scored(work, receipts, [BAD], "no answer within")


def test_a_try_that_comes_to_its_end_leaves_no_crumb(tmp_path: Path) -> None:
    """Breadcrumbs go with their task, so that the next run of the same id suspects nobody; nothing is scored apart."""
    work = work_of(tmp_path, faults.fails_on(BAD))
    receipts = work.score()
    check_scored(work, receipts, [BAD], "")
    assert receipts[0].contained_rows == 0
    assert not list((tmp_path / "cache").glob("*/breadcrumbs/*"))


def test_a_model_that_cannot_be_loaded_apart_is_an_error(tmp_path: Path) -> None:
    """What hinders the other process is told as the reason."""
    work = work_of(tmp_path, faults.fails_on(BAD))
    model = work.make_order().models[0].model_copy(update={"bundle_sha256": "0" * 64})
    contained = Contained(work.root, model, (None, 1), deadline=1)  # type: ignore[arg-type]  # as it is sent
    with pytest.raises(BundleError, match="there is no bundle"):
        contained.predict({"row": np.array([1])}, ["p"])
    contained.close()


def test_a_model_apart_answers_as_here(tmp_path: Path) -> None:
    """Outputs, and errors of the model with its own words, come through the pipe; the process stays for the next."""
    work = work_of(tmp_path, faults.fails_on(BAD))
    contained = Contained(work.root, work.make_order().models[0], (None, 1), deadline=60)  # type: ignore[arg-type]
    try:
        found = contained.predict({"row": np.arange(5)}, ["p"])
        np.testing.assert_array_equal(found["p"], np.arange(5, dtype=np.float32))
        process = contained._process
        with pytest.raises(InferenceError, match="the model failed"):
            contained.predict({"row": np.array([BAD])}, ["p"])
        assert contained.predict({"row": np.array([7])}, ["p"])["p"].tolist() == [7.0]
        assert contained._process is process
    finally:
        contained.close()


Ranges = list[tuple[int, int, int]]
RANGES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 50), st.integers(0, 50)), max_size=5)


@settings(max_examples=100, deadline=None)
@given(told=RANGES, asked=RANGES)
def test_suspects_are_the_rows_of_the_ranges(told: Ranges, asked: Ranges) -> None:
    """A call has a suspect in it just where a row of it is one of the rows that were told."""
    ranges = [RowRange(split, min(a, b), max(a, b)) for split, a, b in told]
    others = [RowRange(split, min(a, b), max(a, b)) for split, a, b in asked]
    rows = {(one.split, row) for one in ranges for row in range(one.first, one.last + 1)}
    wanted = any((one.split, row) in rows for one in others for row in range(one.first, one.last + 1))
    assert Suspects(tuple(ranges)).among(others) == wanted


def test_what_a_dead_process_was_doing_is_found_once(tmp_path: Path) -> None:
    """A file that was left says the last call's rows and those found before; a living twin's file is left alone."""
    first = Breadcrumb(tmp_path, "/out", "run", task=3)
    first.calling([RowRange(3, 0, 63), RowRange(4, 0, 9)])
    twin = Breadcrumb(tmp_path, "/out", "run", task=3)
    twin.calling([RowRange(9, 9, 9)])
    assert twin.found == ()
    leave(first)
    second = Breadcrumb(tmp_path, "/out", "run", task=3)
    assert second.found == (RowRange(3, 0, 63), RowRange(4, 0, 9))
    second.calling([RowRange(5, 1, 2)])
    second.returned()
    leave(second)
    third = Breadcrumb(tmp_path, "/out", "run", task=3)
    assert third.found == second.found
    third.close(is_done=True)
    assert Breadcrumb(tmp_path, "/out", "run", task=3).found == ()
    assert Breadcrumb(tmp_path, "/out", "another", task=3).found == ()


def test_a_try_that_ended_with_an_error_leaves_no_suspect(tmp_path: Path) -> None:
    """An error of the store, say, is not the model's doing: the next try here knows that, and suspects no row."""
    first = Breadcrumb(tmp_path, "/out", "run", task=3)
    assert not first.is_known
    first.calling([RowRange(3, 0, 63)])
    first.close(is_done=False)
    second = Breadcrumb(tmp_path, "/out", "run", task=3)
    assert (second.is_known, second.found) == (True, ())
    second.close(is_done=True)
    assert not list(tmp_path.iterdir())


def test_a_host_that_lets_no_file_be_made_goes_without(tmp_path: Path) -> None:
    """Where the folder cannot be made, a task runs, and tells nothing."""
    (tmp_path / "file").write_text("no folder")
    crumb = Breadcrumb(tmp_path / "file" / "folder", "/out", "run", task=3)
    crumb.calling([RowRange(3, 0, 63)])
    crumb.returned()
    assert (crumb.is_known, crumb.found) == (False, ())
    crumb.close(is_done=False)


def test_files_that_nobody_came_back_for_are_removed(tmp_path: Path) -> None:
    """After a week nobody tries the task again."""
    import os

    leave(Breadcrumb(tmp_path, "/out", "old", task=1))
    leave(Breadcrumb(tmp_path, "/out", "new", task=1))
    old, _ = tmp_path.iterdir()
    os.utime(old, (0, 0))
    Breadcrumb(tmp_path, "/out", "another", task=1).close(is_done=True)
    assert len(list(tmp_path.iterdir())) == 1
    assert not old.exists()


def test_models_side_by_side_each_leave_their_rows(tmp_path: Path) -> None:
    """While one model's call is over and another's is not, the rows of the second are the ones that are told."""
    work = work_of(tmp_path, faults.fails_on(BAD))
    order = work.make_order()
    guard = Guard(order, Situation(), HERE, task=0)
    one, two = (order.models[0].model_copy(update={"name": name}) for name in ("one", "two"))
    inside, leave_it = threading.Event(), threading.Event()

    def slow(_feeds: Any, _names: Any) -> dict[str, np.ndarray]:
        inside.set()
        leave_it.wait(20)
        return {}

    class Quick:
        def predict(self, _feeds: Any, _names: Any) -> dict[str, np.ndarray]:
            return {}

    class Slow:
        predict = staticmethod(slow)

    call = guard.predict(Slow(), two, [RowRange(0, 10, 20)], names=())  # type: ignore[arg-type]
    thread = threading.Thread(target=call, args=({},))
    thread.start()
    assert inside.wait(20)
    guard.predict(Quick(), one, [RowRange(0, 0, 5)], names=())({})  # type: ignore[arg-type]
    [path] = (tmp_path / "cache").glob("*/breadcrumbs/*")
    assert path.read_bytes().startswith(b"[[0,10,20]]")
    leave_it.set()
    thread.join()
    assert path.read_bytes().startswith(b"[]")
    guard.is_done = True
    guard.close()


def leave(crumb: Breadcrumb) -> None:
    """As the end of its process leaves it: open files are closed, and nothing is tidied up."""
    import os

    assert crumb._descriptor is not None
    os.close(crumb._descriptor)
    crumb._descriptor = None


@pytest.mark.parametrize("data", [b"", b"[[1, 2", b"nonsense", b"[[1]]", b"\xff\xfe", b"{}"])
def test_a_crumb_that_means_nothing_suspects_nobody(tmp_path: Path, data: bytes) -> None:
    """A file that was cut off, or is no crumb, is as none."""
    made = Breadcrumb(tmp_path, "/out", "run", task=1)
    leave(made)
    [path] = tmp_path.iterdir()
    path.write_bytes(data)
    assert Breadcrumb(tmp_path, "/out", "run", task=1).found == ()


def test_very_many_splits_in_one_call_fit(tmp_path: Path) -> None:
    """The splits of a call of 1,000 tiny ones are told as a whole, as many as there is room for."""
    crumb = Breadcrumb(tmp_path, "/out", "run", task=0)
    crumb.calling([RowRange(split, 0, 3) for split in range(1_000)])
    leave(crumb)
    found = Breadcrumb(tmp_path, "/out", "run", task=0).found
    assert len(found) > 150
    assert Suspects(found).among([RowRange(100, 1, 1)])
