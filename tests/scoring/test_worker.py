"""The worker, in this process: what it scores, what it sets aside, and what it commits."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

import etl.runs.keys
import scoring.worker
from etl.contract import InputField
from etl.errors import ContractError, InputChanged, ReadError, StorageError
from etl.runs.account import settle
from etl.types import ColumnType
from scoring.bundles.create import create_bundle
from scoring.code import code_digest
from scoring.worker import score_split
from tests.scoring.workshop import (
    LOGISTIC_SPEC,
    STORE,
    VALUES,
    P,
    Work,
    logistic_model,
    logistic_scores,
    lookup_bundle,
    numbers,
    parts_of,
    predictions,
    quarantined,
    with_values,
)
from tests.spine.builders import NOON, seed_of, tally

if TYPE_CHECKING:
    from etl.runs.receipt import Receipt
    from scoring.bundles.bundle import AuditedBundle

ROWS = 250


def files_under(root: str | Path) -> list[str]:
    """All files below a folder but the bundle's copy, hidden ones too."""
    paths = [path.relative_to(root) for path in Path(root).rglob("*") if path.is_file()]
    return sorted(str(path) for path in paths if "models" not in path.parts)


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("batch_rows", [1, 7, 64, 100, 10_000])
def test_scores_are_those_of_plain_onnxruntime(tmp_path: Path, batch_rows: int, pieces: int) -> None:
    """However rows are cut and batched, each has the score that plain onnxruntime gives all rows at once."""
    work = Work(tmp_path, numbers(ROWS), pieces=pieces)
    receipts = work.score(batch_rows=batch_rows)
    found = predictions(receipts)
    assert found.schema.equals(pa.schema([("id", pa.int64()), ("p", pa.float32())]))
    assert found.column("id").to_pylist() == list(range(ROWS))
    np.testing.assert_allclose(found.column("p").to_numpy(), logistic_scores(work.table), rtol=1e-6, atol=1e-7)
    assert settle(work.splits, receipts).scored.rows == ROWS


def test_a_split_without_rows_has_a_receipt_and_no_file(tmp_path: Path) -> None:
    """A split in which no row group begins is committed with nothing written."""
    work = Work(tmp_path, numbers(50), pieces=4)
    receipts = work.score()
    assert [not receipt.predictions for receipt in receipts] == [False, True, True, True]
    assert [receipt.account.rows_in.rows for receipt in receipts] == [50, 0, 0, 0]
    assert settle(work.splits, receipts).adds_up


def test_columns_that_were_asked_for_are_published(tmp_path: Path) -> None:
    """Passthrough columns come first in the order asked, then the model's, then stamps; carried ones are unchanged."""
    at = [NOON.replace(minute=row % 60) if row % 7 else None for row in range(ROWS)]
    table = numbers(ROWS).append_column("at", pa.array(at, pa.timestamp("us", "UTC")))
    carried = (InputField(name="at", type=ColumnType("timestamp"), role="id"),)
    order: dict[str, Any] = {
        "carried": carried,
        "passthrough": ("at", "f1", "id"),
        "stamps": ("scored_at", "model_version", "run_id"),
    }
    found = predictions(Work(tmp_path, table, order=order).score())
    assert found.schema.names == ["at", "f1", "id", "p", "scored_at", "model_version", "run_id"]
    for name in ("at", "f1", "id"):
        assert found.column(name).equals(table.column(name)), name
    assert (
        found.slice(0, 1).to_pylist()[0].items()
        >= {
            "scored_at": NOON,
            "model_version": "numbers:1.2",
            "run_id": "run",
        }.items()
    )


BAD: dict[int, object] = {0: None, 99: None, 100: None, 163: float("nan"), 249: None}
"""Rows with a missing feature, at borders of batches and of row groups among them."""


@pytest.mark.parametrize("batch_rows", [1, 64, 1000])
def test_a_row_that_breaks_the_contract_is_set_aside(tmp_path: Path, batch_rows: int) -> None:
    """Each row with a missing feature is in quarantine with its place, reason and values; the rest is scored."""
    work = Work(tmp_path, with_values(numbers(ROWS), "f1", BAD), pieces=2)
    receipts = work.score(batch_rows=batch_rows)
    bad, good = quarantined(receipts), predictions(receipts)
    assert bad.column("row").to_pylist() == list(BAD)
    assert good.column("id").to_pylist() == [row for row in range(ROWS) if row not in BAD]
    expected = logistic_scores(work.table)[good.column("id").to_numpy()]
    np.testing.assert_allclose(good.column("p").to_numpy(), expected, rtol=1e-6, atol=1e-7)
    for row in bad.to_pylist():
        assert (row["file"], row["etag"]) == (str(work.input), work.splits[0].ranges[0].file.etag)
        assert (row["row_group"], row["row_in_group"]) == divmod(row["row"], work.row_group)
        assert (row["stage"], row["code"], row["column"]) == ("contract", "MISSING", "f1")
        assert row["rule"] == "/input/fields/1/on_missing"
        there = pq.ParquetFile(work.input).read_row_group(row["row_group"]).slice(row["row_in_group"], 1).to_pylist()[0]
        assert row["preview"].keys() == there.keys()
        shown = {key: value for key, value in row["preview"].items() if key not in {"name", "f1"}}
        assert shown.items() <= there.items()
    account = settle(work.splits, receipts)
    assert account.quarantined == tally(str(work.input), BAD)
    assert account.scored == tally(str(work.input), [row for row in range(ROWS) if row not in BAD])
    assert sum(receipt.reasons.get("contract/MISSING", 0) for receipt in receipts) == len(BAD)


def test_personal_data_is_nowhere_in_quarantine(tmp_path: Path) -> None:
    """A column that is personal data is null in every preview, and its values are in no byte of the file."""
    work = Work(tmp_path, with_values(numbers(ROWS), "f1", BAD))
    [receipt] = work.score()
    assert quarantined([receipt]).column("preview").combine_chunks().field("name").null_count == len(BAD)
    assert receipt.quarantine is not None
    assert b"person " not in Path(receipt.quarantine.pending.path).read_bytes()


def test_a_preview_can_be_read_whatever_the_row_has(tmp_path: Path) -> None:
    """A preview shows bytes that are no UTF-8 escaped, and null for a number or instant that its type cannot hold."""
    from scoring.bundles.create import create_bundle
    from tests.scoring.workshop import LOGISTIC_SPEC, P, logistic_model, parts_of

    spec = LOGISTIC_SPEC.replace(", pii: true", "").replace("role: id}", "role: id}\n  - {name: at, type: timestamp}")
    golden = numbers(2).append_column("at", pa.array([0, 1], pa.timestamp("ms")))
    parts = parts_of(spec, logistic_model(), golden, [P])
    raw = pa.array([b"\xff\xfeok", "é".encode(), None, b"", b"a", b"b"], pa.binary()).view(pa.string())
    ids = pa.array([1, 2**64 - 1, 3, 4, 5, 6], pa.uint64())
    at = pa.array([0, 1, 2**62, 2, None, 3], pa.timestamp("ms"))
    good = numbers(6)
    columns = {"id": ids, "name": raw, "at": at, **{name: good.column(name) for name in ("f0", "f1", "f2", "f3")}}
    work = Work(tmp_path, pa.table(columns), lambda folder: create_bundle(STORE, str(folder), parts))
    receipts = work.score()
    found = quarantined(receipts)
    assert found.column("row").to_pylist() == [0, 1, 2]
    assert found.column("code").to_pylist() == ["NOT_UTF8", "OUT_OF_RANGE", "OUT_OF_RANGE"]
    previews = found.column("preview").to_pylist()
    assert [row["name"] for row in previews] == ["\\xff\\xfeok", "é", None]
    assert [row["id"] for row in previews] == [1, None, 3]
    assert [row["at"].isoformat() if row["at"] else None for row in previews] == [
        "1970-01-01T00:00:00+00:00",
        "1970-01-01T00:00:00.001000+00:00",
        None,
    ]
    assert found.to_pandas().shape[0] == 3
    assert predictions(receipts).column("id").to_pylist() == [4, 5, 6]
    assert settle(work.splits, receipts).adds_up


def test_a_row_that_breaks_several_rules_counts_once(tmp_path: Path) -> None:
    """A row is set aside once, under the first rule that it breaks, and counted once."""
    table = with_values(with_values(numbers(ROWS), "f1", {3: None, 4: None}), "f2", {3: 1000.0, 5: 1000.0})
    [receipt] = Work(tmp_path, table).score()
    found = quarantined([receipt]).select(["row", "code", "column"]).to_pylist()
    assert [tuple(row.values()) for row in found] == [
        (3, "MISSING", "f1"),
        (4, "MISSING", "f1"),
        (5, "OUT_OF_RANGE", "f2"),
    ]
    assert receipt.reasons == {"contract/MISSING": 2, "contract/OUT_OF_RANGE": 1}
    assert receipt.account.adds_up


def test_a_split_of_bad_rows_alone_has_no_predictions(tmp_path: Path) -> None:
    """Where every row is set aside there is a quarantine and no file of predictions."""
    work = Work(tmp_path, with_values(numbers(20), "f1", dict.fromkeys(range(20))))
    [receipt] = work.score()
    assert receipt.predictions == ()
    assert quarantined([receipt]).num_rows == 20
    assert not [name for name in files_under(work.root) if name.endswith((".parquet", ".inprogress"))]


def lookup_table(indexes: list[int]) -> pa.Table:
    """Rows for the look-up model."""
    return pa.table({"index": pa.array(indexes, pa.int64()), "id": range(len(indexes))})


@settings(max_examples=15, deadline=None)
@given(st.sets(st.integers(0, 79), max_size=80), st.integers(1, 90))
def test_rows_that_the_model_fails_on_are_found(
    tmp_path_factory: pytest.TempPathFactory, bad: set[int], batch_rows: int
) -> None:
    """A model that fails on a batch because of some of its rows loses exactly those rows; all others are scored."""
    indexes = [len(VALUES) + 5 if row in bad else row % len(VALUES) for row in range(80)]
    work = Work(tmp_path_factory.mktemp("bisect"), lookup_table(indexes), lookup_bundle, row_group=30)
    receipts = work.score(batch_rows=batch_rows)
    found, good = quarantined(receipts), predictions(receipts)
    good_rows = [row for row in range(80) if row not in bad]
    assert settle(work.splits, receipts).scored.rows == len(good_rows)
    if good_rows:
        assert good.to_pydict() == {"id": good_rows, "p": [VALUES[row % len(VALUES)] for row in good_rows]}
    if bad:
        assert found.column("row").to_pylist() == sorted(bad)
        assert set(found.column("stage").to_pylist()) == {"inference"}
        assert set(found.column("code").to_pylist()) == {"MODEL_FAILED"}
        assert "out of data bounds" in found.column("message")[0].as_py()
        assert receipts[0].reasons == {"inference/MODEL_FAILED": len(bad)}


def test_contract_and_model_share_a_batch(tmp_path: Path) -> None:
    """Of one batch, some rows may break the contract and others fail in the model: each is set aside for its reason."""
    table = with_values(lookup_table([0, 99, 1, 2, 99, 3]), "index", {2: None})
    work = Work(tmp_path, table, lookup_bundle)
    [receipt] = work.score()
    found = quarantined([receipt]).select(["row", "stage"]).to_pydict()
    assert found == {"row": [1, 2, 4], "stage": ["inference", "contract", "inference"]}
    assert predictions([receipt]).to_pydict() == {"id": [0, 3, 5], "p": [0.25, 0.75, 1.0]}


def test_the_model_shows_no_personal_data(tmp_path: Path) -> None:
    """Where the input has personal data, what the runtime says of a row, a value among it, is left out."""
    from scoring.bundles.create import create_bundle
    from tests.scoring.workshop import LOOKUP_SPEC, P, lookup_model, parts_of

    spec = LOOKUP_SPEC.replace("nullable: false", "nullable: false, pii: true")
    parts = parts_of(spec, lookup_model(), lookup_table([0, 1]), [P])
    work = Work(tmp_path, lookup_table([0, 424_242]), lambda folder: create_bundle(STORE, str(folder), parts))
    [receipt] = work.score()
    assert receipt.quarantine is not None
    assert quarantined([receipt]).column("message").to_pylist() == [
        "the model failed; its reason may show personal data"
    ]
    assert b"424242" not in Path(receipt.quarantine.pending.path).read_bytes()


def test_a_split_with_a_receipt_is_not_scored_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second attempt at a split gives the first one's receipt, loads nothing and writes nothing."""
    work = Work(tmp_path, with_values(numbers(ROWS), "f1", BAD), pieces=2)
    first = work.score()
    before = files_under(work.root)
    monkeypatch.setattr(scoring.worker, "borrowed_scorer", None)
    work.input.unlink()
    assert work.score() == first
    assert files_under(work.root) == before


def together(count: int, action: Any) -> list[Any]:
    """What an action gives in each of several threads that are let go at once."""
    barrier = threading.Barrier(count)

    def go(_: int) -> Any:
        barrier.wait()
        return action()

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(go, range(count)))


def keyed_bundle(folder: Path) -> AuditedBundle:
    """A bundle of the logistic model that expects no id twice."""
    spec = f"{LOGISTIC_SPEC}expectations: [{{id: once, batch: {{unique: [id, name]}}, severity: fail}}]\n"
    return create_bundle(STORE, str(folder), parts_of(spec, logistic_model(), numbers(5), [P]))


def check_one_attempt(work: Work, receipt: Receipt) -> None:
    """Only what the winner wrote is there."""
    [part], bad = receipt.predictions, receipt.quarantine
    assert bad is not None
    expected = [Path(work.layout.receipt("000000")), Path(part.pending.upload), Path(bad.pending.path)]
    expected += [Path(keys.pending.path) for keys in receipt.keys.values()]
    assert files_under(work.root) == sorted(str(path.relative_to(work.root)) for path in expected)


@pytest.mark.matrix("Eight attempts score one split at once", "one receipt wins; the losers abort their own files")
def test_racing_attempts_leave_one_receipt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 8 attempts at one split at once one wins, all give its receipt, and the others' files are gone."""
    work = Work(tmp_path, with_values(numbers(ROWS), "f1", BAD), keyed_bundle)
    order, split = work.make_order(), work.splits[0]
    score_split(order.model_copy(update={"run_id": "warm-up"}), split)  # the model is loaded
    everybody = threading.Barrier(8)
    look = scoring.worker.receipt_of

    def look_together(*arguments: Any) -> Receipt | None:
        found = look(*arguments)
        if found is None:
            everybody.wait(30)
        return found

    monkeypatch.setattr(scoring.worker, "receipt_of", look_together)
    receipts = together(8, lambda: score_split(order, split))
    assert receipts == [look(STORE, work.layout, split)] * 8
    warm_up = work.layout.root + "/run_id=warm-up"
    for path in [*Path(warm_up).rglob("*"), *Path(work.root, "_batchscore/runs/warm-up").rglob("*")]:
        if path.is_file():
            path.unlink()
    check_one_attempt(work, receipts[0])
    assert receipts[0].keys["once"].rows == ROWS - len(BAD)


def test_racing_processes_leave_one_receipt(tmp_path: Path) -> None:
    """Of 4 processes that score one split at once one wins, and the others' files are gone."""
    work = Work(tmp_path, with_values(numbers(ROWS), "f1", BAD))
    order, split = work.make_order(), work.splits[0]
    waiting, starting = os.pipe()
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            os.close(starting)
            os.read(waiting, 1)
            code = 1
            try:
                score_split(order, split)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    os.close(starting)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4
    os.close(waiting)
    check_one_attempt(work, score_split(order, split))


class LostReceipt:
    """A store that fails at the creation of a receipt, before or after it landed."""

    def __init__(self, *, is_applied: bool, error: type[BaseException]):
        self.is_applied = is_applied
        self.error = error

    def __getattr__(self, name):
        return getattr(STORE, name)

    def create_if_absent(self, path, data):
        """See `etl.runs.storage.Storage.create_if_absent`."""
        if self.is_applied:
            STORE.create_if_absent(path, data)
        raise self.error("the store is away")


def score_with(work: Work, monkeypatch: pytest.MonkeyPatch, **fault: Any) -> Receipt:
    """Score the first split on a store that loses receipts."""
    monkeypatch.setattr(scoring.worker, "storage_for", lambda uri: (LostReceipt(**fault), uri))
    try:
        return score_split(work.make_order(), work.splits[0])
    finally:
        monkeypatch.undo()


def test_a_receipt_that_landed_unanswered_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt whose receipt landed although the store's answer was lost succeeds, and its files stay."""
    work = Work(tmp_path, with_values(numbers(ROWS), "f1", BAD))
    receipt = score_with(work, monkeypatch, is_applied=True, error=TimeoutError)
    assert receipt == score_split(work.make_order(), work.splits[0])
    check_one_attempt(work, receipt)


@pytest.mark.parametrize("is_applied", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_signal_at_the_commit_voids_no_receipt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], *, is_applied: bool
) -> None:
    """An attempt that is stopped while its receipt is created leaves no receipt without files."""
    work = Work(tmp_path, with_values(numbers(ROWS), "f1", BAD))
    with pytest.raises(error):
        score_with(work, monkeypatch, is_applied=is_applied, error=error)
    receipt = score_split(work.make_order(), work.splits[0])
    [written] = receipt.predictions
    STORE.complete(written.pending)
    assert predictions([receipt]).num_rows == ROWS - len(BAD)


def test_a_receipt_that_may_land_later_keeps_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt whose receipt is not there after a lost answer fails for a retry, and throws nothing away."""
    work = Work(tmp_path, with_values(numbers(ROWS), "f1", BAD))
    with pytest.raises(TimeoutError, match="the store is away"):
        score_with(work, monkeypatch, is_applied=False, error=TimeoutError)
    assert [Path(name).suffix for name in files_under(work.root)] == [".arrow", ".inprogress"]
    assert score_split(work.make_order(), work.splits[0]).account.adds_up


def test_a_refused_receipt_takes_its_files_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt whose receipt the store refuses, as a full disk does, leaves nothing behind."""
    work = Work(tmp_path, with_values(numbers(ROWS), "f1", BAD), keyed_bundle)
    with pytest.raises(StorageError, match="the store is away"):
        score_with(work, monkeypatch, is_applied=False, error=StorageError)
    assert files_under(work.root) == []


def test_a_failed_attempt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that fails after it has written rows, because a page is damaged, leaves neither file nor receipt."""
    monkeypatch.setattr(etl.runs.keys, "KEYS_HELD", 100)
    work = Work(tmp_path, with_values(numbers(3000), "f1", BAD), keyed_bundle, row_group=1000)
    chunk = pq.read_metadata(work.input).row_group(2).column(0)
    data = bytearray(work.input.read_bytes())
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    data[start : start + 100] = b"\xff" * 100
    work.input.write_bytes(data)
    work.splits = work.cut()
    with pytest.raises(ReadError, match=f"{work.input}: row group 2 cannot be decoded"):
        work.score()
    assert files_under(work.root) == []


def test_an_input_that_changed_is_not_scored(tmp_path: Path) -> None:
    """A file that was replaced after the plan is InputChanged, and nothing is written."""
    work = Work(tmp_path, numbers(ROWS))
    pq.write_table(numbers(ROWS + 1), work.input)
    with pytest.raises(InputChanged, match=str(work.input)):
        work.score()
    assert files_under(work.root) == []


def test_a_file_with_another_schema_is_not_scored(tmp_path: Path) -> None:
    """A file that lacks a column or has one of another type is a ContractError with the file and all columns."""
    work = Work(tmp_path, numbers(ROWS))
    text = pa.array(["x"] * ROWS)
    pq.write_table(work.table.drop_columns(["f0"]).set_column(2, "f1", text), work.input)
    work.splits = work.cut()
    with pytest.raises(
        ContractError, match=f"{work.input}: breaks the input contract: column 'f0'.*; column 'f1' has type"
    ):
        work.score()
    assert files_under(work.root) == []


@pytest.mark.parametrize("batch_rows", [10, 64, 1000])
@pytest.mark.parametrize("limit", [1, 63, 64, 65, 100, 101, ROWS - 1])
def test_a_limit_takes_the_first_rows(tmp_path: Path, limit: int, batch_rows: int) -> None:
    """A split's limit scores its first rows and counts the others as filtered, by number and by digest."""
    work = Work(tmp_path, numbers(ROWS), order={"row_limits": {0: limit}, "batch_rows": batch_rows})
    receipts = work.score()
    assert predictions(receipts).column("id").to_pylist() == list(range(limit))
    account = settle(work.splits, receipts)
    assert account.filtered == tally(str(work.input), range(limit, ROWS))


def rows_in_sample(work: Work, share: float) -> list[int]:
    """Rows whose XXH64 lies in the lowest share of all numbers, by the xxhash library."""
    seed = seed_of(str(work.input))
    hashes = [xxhash.xxh64_intdigest(row.to_bytes(8, "little"), seed) for row in range(ROWS)]
    return [row for row, found in enumerate(hashes) if found < share * 2**64]


@pytest.mark.parametrize("share", [0.001, 0.3, 0.999, 1.0])
def test_a_sample_is_chosen_by_hash(tmp_path: Path, share: float) -> None:
    """A sample is the rows of the lowest hashes, whatever the batches; the others are counted as filtered."""
    work = Work(tmp_path, numbers(ROWS), pieces=2)
    expected = rows_in_sample(work, share)
    for number, batch_rows in enumerate((7, 1000)):
        work.layout = work.layout.__class__(work.root, f"run-{number}")
        receipts = work.score(sample=share, batch_rows=batch_rows, run_id=f"run-{number}")
        found = predictions(receipts)
        assert (found.column("id").to_pylist() if expected else []) == expected
        account = settle(work.splits, receipts)
        assert account.scored == tally(str(work.input), expected)
        assert account.filtered.rows == ROWS - len(expected)


def test_a_sample_of_a_limit_is_of_the_first_rows(tmp_path: Path) -> None:
    """A limit counts rows of the input, and a sample is taken of them."""
    work = Work(tmp_path, numbers(ROWS))
    receipts = work.score(sample=0.5, row_limits={0: 80})
    assert predictions(receipts).column("id").to_pylist() == [row for row in rows_in_sample(work, 0.5) if row < 80]
    assert settle(work.splits, receipts).adds_up


def test_a_receipt_says_who_and_how(tmp_path: Path) -> None:
    """A receipt has the phases' seconds, the bytes that were read, and the process that made it."""
    work = Work(tmp_path, numbers(ROWS).append_column("unread", pa.array(np.arange(ROWS))))
    [receipt] = work.score()
    assert receipt.seconds.keys() == {"load", "read", "transform", "infer", "write"}
    assert all(seconds >= 0 for seconds in receipt.seconds.values())
    assert receipt.bytes_read == work.input.stat().st_size
    assert receipt.worker.pid == os.getpid()
    assert receipt.worker.code == code_digest()
    assert receipt.worker.provider == "CPUExecutionProvider"
    assert receipt.worker.golden_features_ulp == 0
    assert receipt.worker.golden_outputs_abs is not None
    assert 0 <= receipt.worker.golden_outputs_abs < 1e-5
    assert receipt.started_at <= receipt.ended_at
