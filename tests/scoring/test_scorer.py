"""The resident scorer: loaded once for each bundle and option, bounded, and never shared across a fork."""

from __future__ import annotations

import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import scoring.scorer
from etl.contract import InputField
from etl.documents import sha256_hex
from etl.references import pin_references
from etl.runs.layout import Layout
from etl.types import ColumnType
from scoring.bundles.create import create_bundle
from scoring.bundles.golden import arrow_bytes, arrow_table
from scoring.errors import BundleError, InferenceError
from scoring.resident import Resident
from scoring.runtimes.base import RuntimeOptions
from scoring.scorer import Scorer, borrowed_scorer, loads_so_far, resident_bytes, resident_scorer
from scoring.worker import score_split
from tests.scoring.workshop import STORE, P, Work, logistic_scores, lookup_model, numbers, parts_of
from tests.spine.test_references import SPEC, airports

if TYPE_CHECKING:
    from scoring.order import Order


@pytest.fixture(autouse=True)
def _nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins as a new process does: bundles of the same bytes were loaded by others."""
    monkeypatch.setattr(scoring.scorer, "_resident", Resident(scoring.scorer._budget))


def load(order: Order) -> Scorer:
    """The scorer of an order."""
    return resident_scorer(STORE, order, order.models[0])


def room_for(monkeypatch: pytest.MonkeyPatch, *scorers: Scorer) -> None:
    """From now on a process may keep so much, and no byte more."""
    monkeypatch.setenv("BATCHSCORE_RESIDENT_BYTES", str(sum(scorer.bytes for scorer in scorers)))


def test_a_bundle_is_loaded_once(tmp_path: Path) -> None:
    """The same bundle with the same options is loaded once, however often, and for whatever run it is asked for."""
    work = Work(tmp_path, numbers(3))
    before = loads_so_far()
    first = load(work.make_order())
    for run_id, batch_rows in (("run", 1), ("run", 1000), ("another", 64)):
        assert load(work.make_order(run_id=run_id, batch_rows=batch_rows)) is first
    assert loads_so_far() == before + 1


def test_threads_share_one_load(tmp_path: Path) -> None:
    """Eight threads that ask at once get one scorer, loaded once."""
    order = Work(tmp_path, numbers(3)).make_order()
    before = loads_so_far()
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: load(order), range(8)))
    assert all(scorer is found[0] for scorer in found)
    assert loads_so_far() == before + 1


def test_other_options_are_another_scorer(tmp_path: Path) -> None:
    """Other session options are another scorer, and asking for the first again loads nothing."""
    work = Work(tmp_path, numbers(3))
    before = loads_so_far()
    orders = [work.make_order(runtime=RuntimeOptions(intra_op_threads=threads)) for threads in (1, 2)]
    first, second = (load(order) for order in orders)
    assert first is not second
    assert [load(order) for order in orders] == [first, second]
    assert loads_so_far() == before + 2


def three_orders(folder: Path) -> list[Order]:
    """Orders that need a scorer each."""
    work = Work(folder, numbers(3))
    return [work.make_order(runtime=RuntimeOptions(intra_op_threads=threads)) for threads in (1, 2, 3)]


def test_the_one_used_longest_ago_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process keeps so many bytes; one scorer more makes the one used longest ago be loaded again, and no other."""
    one, two, three = three_orders(tmp_path)
    before = loads_so_far()
    room_for(monkeypatch, load(one), load(two))
    for order in (one, three):
        load(order)
    assert loads_so_far() == before + 3
    load(one)
    assert loads_so_far() == before + 3
    load(two)
    assert loads_so_far() == before + 4
    assert len(scoring.scorer._resident) == 2


def test_what_goes_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scorer that has to make room is closed if it was borrowed and given back; while it is borrowed it stays, and so
    does one that somebody got for good: it can be used though it is kept no longer.
    """  # noqa: D205  one sentence
    one, two, three = three_orders(tmp_path)
    feeds = {"X": np.zeros((1, 4), np.float32)}
    with borrowed_scorer(STORE, one, one.models[0]) as first:
        room_for(monkeypatch, first)
        with borrowed_scorer(STORE, two, two.models[0]) as second:
            assert {len(first.runtime.predict(feeds)["p"]), len(second.runtime.predict(feeds)["p"])} == {1}
            assert resident_bytes() == first.bytes + second.bytes
    third = load(three)
    assert resident_bytes() == third.bytes
    for closed in (first, second):
        with pytest.raises(InferenceError, match="it was closed"):
            closed.runtime.predict(feeds)
    load(one)
    assert resident_bytes() == first.bytes
    assert len(third.runtime.predict(feeds)["p"]) == 1


def test_one_that_is_larger_than_the_bound_is_kept_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scorer above the bound is loaded and kept all the same, but no other one beside it."""
    one, two, _ = three_orders(tmp_path)
    monkeypatch.setenv("BATCHSCORE_RESIDENT_BYTES", "0")
    before = loads_so_far()
    assert load(one) is load(one)
    load(two)
    assert (loads_so_far(), len(scoring.scorer._resident)) == (before + 2, 1)


def test_the_models_of_a_task_stay_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models that one task needs at a time are loaded once for all its tasks, though they are above the bound."""
    monkeypatch.setenv("BATCHSCORE_RESIDENT_BYTES", "0")
    work = Work(tmp_path, numbers(50))
    [model] = work.make_order().models
    second = model.model_copy(update={"name": "b", "runtime": RuntimeOptions(intra_op_threads=2)})
    order = work.make_order().model_copy(update={"models": (model.model_copy(update={"name": "a"}), second)})
    before = loads_so_far()
    for run_id in ("first", "second"):
        receipts = [score_split(order.model_copy(update={"run_id": run_id}), split) for split in work.splits]
        assert sum(receipt.account.scored.rows for receipt in receipts) == 50
        assert loads_so_far() == before + 2


@pytest.mark.parametrize("bound", ["", "-1", "2GB", "1e9"])
def test_a_bound_that_is_no_number_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    """A bound that is no number of bytes is an error with the variable's name, not the default."""
    monkeypatch.setenv("BATCHSCORE_RESIDENT_BYTES", bound)
    with pytest.raises(BundleError, match=f"BATCHSCORE_RESIDENT_BYTES is '{bound}', and should be a number of bytes"):
        load(Work(tmp_path, numbers(3)).make_order())


def test_a_load_that_fails_is_tried_again(tmp_path: Path) -> None:
    """A bundle that cannot be loaded is not remembered, and a lock is not left behind."""
    work = Work(tmp_path, numbers(3))
    order = work.make_order(bundle_sha256="0" * 64)
    for _ in range(2):
        with pytest.raises(BundleError, match=r"there is no bundle\.json here"):
            load(order)


def in_a_child(action) -> list[int]:
    """What an action gives in a forked child."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.write(writing, " ".join(str(number) for number in action()).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with os.fdopen(reading) as pipe:
        return [int(number) for number in pipe.read().split()]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_fork_loads_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    """A forked child does not use its parent's session: it counts from 0, loads its own, and scores with it.

    Also where its parent has threads in its session, and while the child has more scorers than are kept.
    """
    monkeypatch.setenv("BATCHSCORE_RESIDENT_BYTES", "0")
    work = Work(tmp_path, numbers(50))
    parent = load(work.make_order(runtime=RuntimeOptions(intra_op_threads=threads)))

    def action():
        counts = [loads_so_far()]
        for option in range(1, 4):
            mine = load(work.make_order(runtime=RuntimeOptions(intra_op_threads=option)))
            assert mine is not parent
        counts.append(loads_so_far())
        [receipt] = work.score()
        assert receipt.worker.pid == os.getpid()
        return [*counts, receipt.account.scored.rows]

    assert in_a_child(action) == [0, 3, 50]
    assert logistic_scores(work.table).size == 50


def test_a_fork_during_a_load_does_not_hang(tmp_path: Path) -> None:
    """A child that is forked while another thread of its parent loads gets a lock of its own."""
    order = Work(tmp_path, numbers(3)).make_order()
    is_held, is_over = threading.Event(), threading.Event()

    def hold():
        with scoring.scorer._resident._lock:
            is_held.set()
            is_over.wait(30)

    with ThreadPoolExecutor(1) as threads:
        threads.submit(hold)
        is_held.wait(30)

        def action():
            load(order)
            return [loads_so_far()]

        try:
            assert in_a_child(action) == [1]
        finally:
            is_over.set()


@pytest.fixture
def joined(tmp_path: Path) -> tuple[Work, dict[str, str]]:
    """Work whose spec joins a reference table, and the digests of the pinned table."""
    spec = SPEC.replace("type: float64", "type: int64").replace("X, from", "index, dtype: int64, shape: [-1], from")
    table = airports(["a", "b", "c"], pa.int64())
    pq.write_table(table, tmp_path / "ref.parquet")
    parts = parts_of(spec, lookup_model(), table.select(["iata"]).rename_columns(["code"]), [P])
    parts = parts._replace(references={"airports": table})
    codes = table.select(["iata"]).rename_columns(["code"])
    work = Work(
        tmp_path / "work", codes, lambda folder: create_bundle(STORE, str(folder), parts), order={"passthrough": ()}
    )
    pinned = pin_references(work.audited.spec, {"airports": str(tmp_path / "ref.parquet")})["airports"]
    for run_id in ("run", "later"):
        STORE.create_if_absent(Layout(work.root, run_id).reference("airports", pinned.sha256), pinned.data)
    return work, {"airports": pinned.sha256}


def test_a_run_joins_the_table_that_it_pinned(joined: tuple[Work, dict[str, str]]) -> None:
    """A scorer has the reference tables that the run pinned, and rows are joined to those."""
    work, references = joined
    assert [receipt.account.scored.rows for receipt in work.score(references=references)] == [3]


def test_a_later_run_finds_what_is_loaded(joined: tuple[Work, dict[str, str]]) -> None:
    """Runs that pinned equal reference tables share one scorer, and another table or another column is another one."""
    work, references = joined
    before = loads_so_far()
    first = load(work.make_order(references=references))
    assert load(work.make_order(references=references, run_id="later")) is first
    assert loads_so_far() == before + 1
    pinned = STORE.read_bytes(work.layout.reference("airports", references["airports"])) or b""
    shorter = arrow_bytes(arrow_table(pinned).slice(0, 2))
    other = {"airports": sha256_hex(shorter)}
    STORE.create_if_absent(Layout(work.root, "other").reference("airports", other["airports"]), shorter)
    assert load(work.make_order(references=other, run_id="other")) is not first
    carried = (InputField(name="more", type=ColumnType("int64"), role="id"),)
    assert load(work.make_order(references=references, carried=carried)) is not first
    assert loads_so_far() == before + 3


def test_another_root_finds_what_is_loaded(tmp_path: Path) -> None:
    """A job that writes to another place loads no second copy of the same bundle."""
    work = Work(tmp_path, numbers(3))
    first = load(work.make_order())
    assert load(work.make_order(root=str(tmp_path / "elsewhere"))) is first


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"other"), lambda path: path.unlink()])
def test_a_reference_that_changed_is_refused(joined: tuple[Work, dict[str, str]], damage) -> None:
    """A pinned reference table that was changed or removed is refused with its path."""
    work, references = joined
    path = work.layout.reference("airports", references["airports"])
    damage(Path(path))
    with pytest.raises(BundleError, match=re.escape(f"{path}: the pinned reference table is missing or was changed")):
        work.score(references=references)
