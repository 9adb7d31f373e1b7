"""Small files that share a split: each row's file, place and score are as where every file has a split of its own."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.contract import InputField
from etl.errors import AccountError, ContractError, InputChanged, ReadError, TransformError
from etl.runs.account import settle
from etl.runs.receipt import EMPTY
from etl.runs.splits import FileRange, InputFile, Split, cut_splits
from etl.types import ColumnType
from scoring.bundles.create import create_bundle
from scoring.combination import Combination
from scoring.engine.attempt import Attempt
from scoring.engine.items import Rows
from scoring.engine.reading import Reading
from scoring.engine.rebatching import rebatch
from scoring.order import Routed
from scoring.worker import score_split
from tests.numbers_job import FEATURES
from tests.scoring.workshop import (
    LOGISTIC_SPEC,
    STORE,
    P,
    Work,
    logistic_model,
    logistic_scores,
    numbers,
    parts_of,
    predictions,
    quarantined,
    with_values,
)
from tests.spine.builders import pin, tally

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etl.runs.receipt import Receipt

SHARED_BYTES = 4 << 20


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([0, 1, 900, 1 << 20, 3 << 20, 5 << 20, 9 << 20]), max_size=900),
    st.sampled_from([1000, 2 << 20, 8 << 20]),
    st.integers(1, 20),
)
def test_small_files_share_splits(sizes: list[int], target: int, most: int) -> None:
    """Every byte is in one split, in the files' order; only whole, small and many files share one."""
    files = tuple(InputFile(path=f"/in/{number}", bytes=size, etag="e") for number, size in enumerate(sizes))
    splits = cut_splits(files, target, max_files=most)
    assert [split.index for split in splits] == list(range(len(splits)))
    ranges = [one for split in splits for one in split.ranges]
    by_path: dict[str, list[FileRange]] = {file.path: [] for file in files}
    for one in ranges:
        by_path[one.file.path].append(one)
    by_file = list(by_path.values())
    assert [one for group in by_file for one in group] == ranges
    for file, group in zip(files, by_file, strict=True):
        assert (group[0].start, group[-1].end) == (0, file.bytes)
        assert all(left.end == right.start for left, right in pairwise(group))
    for split in splits:
        if len(split.ranges) > 1:
            assert len(split.ranges) <= most
            assert split.bytes <= min(target, SHARED_BYTES)
            assert all(one.bytes == one.file.bytes for one in split.ranges)
    assert len(splits) >= min(len(files), 128)
    assert len(files) >= 256 or all(len(split.ranges) == 1 for split in splits)


def test_as_many_files_share_a_split_as_may() -> None:
    """2,000 files of 60 kB are 134 splits of 15; 10,000 of 1 kB are 625 of 16, or of fewer where the config says."""
    small = tuple(InputFile(path=f"/in/{number}", bytes=60_000, etag="e") for number in range(2000))
    assert len(cut_splits(small, 128 << 20, max_files=16)) == 134
    tiny = tuple(InputFile(path=f"/in/{number}", bytes=1000, etag="e") for number in range(10_000))
    assert len(cut_splits(tiny, 128 << 20, max_files=16)) == 625
    assert len(cut_splits(tiny, 128 << 20, max_files=4)) == 2500
    assert len(cut_splits(tiny, 128 << 20)) == 10_000


class SmallFiles(Work):
    """Files of parts of a table, all in one split."""

    def fill(self, tables: Sequence[pa.Table], row_group: int) -> None:
        """Write them, and plan the one split."""
        self.tables = tables
        self.paths = [self.folder / f"part-{number:02d}.parquet" for number in range(len(tables))]
        for path, table in zip(self.paths, tables, strict=True):
            pq.write_table(table, path, row_group_size=row_group)
        files = [pin(path) for path in self.paths]
        whole = tuple(FileRange(file=file, start=0, end=file.bytes) for file in files)
        self.splits = (Split(index=0, ranges=whole),)

    def check(self, receipts: list[Receipt], bad: set[int]) -> None:
        """By ids, which count up through all files: each of a bad row is set aside with its place, each other scored.

        The oracle reads the files itself, hashes with the library xxhash, and scores with plain onnxruntime.
        """
        good, aside = predictions(receipts), quarantined(receipts)
        there = pa.concat_tables([pq.read_table(path) for path in self.paths])
        ids = [number for number in there.column("id").to_pylist() if number not in bad]
        assert (good.column("id").to_pylist() if good.num_columns else []) == ids
        if ids:
            wanted = logistic_scores(there.filter(~np.isin(there.column("id").to_numpy(), list(bad))))
            np.testing.assert_allclose(good.column("p").to_numpy(), wanted, rtol=1e-6, atol=1e-7)
        assert [row["preview"]["id"] for row in aside.to_pylist()] == sorted(bad)
        for row in aside.to_pylist():
            file = pq.ParquetFile(row["file"])
            [found] = file.read().slice(row["row"], 1).to_pylist()
            assert found["id"] == row["preview"]["id"]
            assert [found] == file.read_row_group(row["row_group"]).slice(row["row_in_group"], 1).to_pylist()
            assert row["etag"] == pin(Path(row["file"])).etag
        account = settle(self.splits, receipts)
        scored = quarantine = EMPTY
        for path in self.paths:
            rows = pq.read_table(path).column("id").to_pylist()
            scored += tally(str(path), [row for row, number in enumerate(rows) if number not in bad])
            quarantine += tally(str(path), [row for row, number in enumerate(rows) if number in bad])
        assert (account.scored, account.quarantined) == (scored, quarantine)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=9),
    st.sets(st.integers(0, 200), max_size=12),
    st.integers(1, 50),
    st.sampled_from([1, 7, 64, 1000]),
)
def test_rows_of_shared_splits_are_scored_and_told(
    sizes: list[int], bad: set[int], row_group: int, batch_rows: int
) -> None:
    """Whatever files there are, row groups and batches, each row has its score, or its file and place in quarantine."""
    bad = {number for number in bad if number < sum(sizes)}
    table = with_values(numbers(sum(sizes)), "f1", dict.fromkeys(bad))
    with tempfile.TemporaryDirectory() as folder:
        work = SmallFiles(Path(folder), numbers(1))
        ends = np.cumsum([0, *sizes]).tolist()
        work.fill([table.slice(start, end - start) for start, end in pairwise(ends)], row_group)
        work.check(work.score(batch_rows=batch_rows, table_rows=100), bad)


def test_files_of_a_split_may_have_columns_of_other_types(tmp_path: Path) -> None:
    """Columns that differ from file to file in type, order or dictionary are read as each file has them."""
    table = numbers(60)
    narrow = table.set_column(0, "id", table.column("id").cast(pa.int32()))
    coded = narrow.set_column(1, "name", narrow.column("name").dictionary_encode())
    required = pa.schema([field.with_nullable(field.name == "name") for field in table.schema])
    parts = [
        table.slice(0, 10),
        narrow.slice(10, 10),
        coded.slice(20, 5),
        coded.slice(25, 5).unify_dictionaries(),
        table.slice(30, 10).select(list(reversed(table.column_names))),
        table.slice(40, 10).cast(required),
        table.slice(50, 10).append_column("more", pa.nulls(10)),
    ]
    work = SmallFiles(tmp_path, numbers(1), order={"passthrough": ("id", "name")})
    work.fill(parts, 4)
    receipts = work.score(table_rows=100)
    found = predictions(receipts)
    assert found.column("id").to_pylist() == list(range(60))
    assert found.column("name").to_pylist() == table.column("name").to_pylist()
    np.testing.assert_allclose(found.column("p").to_numpy(), logistic_scores(table), rtol=1e-6, atol=1e-7)
    assert settle(work.splits, receipts).scored.rows == 60


@pytest.mark.parametrize("kind", ["damaged", "replaced", "lacking"])
def test_a_file_that_cannot_be_read_is_the_one_that_is_named(tmp_path: Path, kind: str) -> None:
    """A damaged or replaced file, or one without a column, fails its split by its own name; nothing is left behind."""
    work = SmallFiles(tmp_path, numbers(1))
    parts = [numbers(20, seed) for seed in range(5)]
    if kind == "lacking":
        parts[3] = parts[3].drop_columns(["f2"])
    work.fill(parts, 10)
    if kind == "damaged":
        data = work.paths[3].read_bytes()
        work.paths[3].write_bytes(data[: len(data) // 2])
        work.splits = (replace(work.splits[0], ranges=(*work.splits[0].ranges[:3], _pinned(work.paths[3]))),)
    if kind == "replaced":
        pq.write_table(numbers(21), work.paths[3])
    error = {"damaged": ReadError, "replaced": InputChanged, "lacking": ContractError}[kind]
    with pytest.raises(error, match=str(work.paths[3])):
        score_split(work.make_order(), work.splits[0])
    assert not list(Path(work.root).rglob("*.inprogress"))
    assert not Path(work.layout.receipts).exists()


def _pinned(path: Path) -> FileRange:
    file = pin(path)
    return FileRange(file=file, start=0, end=file.bytes)


@pytest.mark.parametrize("limit", [1, 20, 33, 60])
def test_a_limit_ends_among_the_files(tmp_path: Path, limit: int) -> None:
    """Of a split with a limit so many rows are scored, the first ones, and the others are counted as filtered."""
    work = SmallFiles(tmp_path, numbers(1))
    table = numbers(60)
    work.fill([table.slice(start, 20) for start in (0, 20, 40)], 7)
    receipts = work.score(row_limits={0: limit}, table_rows=16)
    assert predictions(receipts).column("id").to_pylist() == list(range(limit))
    account = settle(work.splits, receipts)
    assert (account.rows_in.rows, account.scored.rows, account.filtered.rows) == (60, limit, 60 - limit)


def test_a_row_lost_in_a_shared_split_is_found(tmp_path: Path) -> None:
    """An account that names a row of another file of the split does not settle, though the count is right."""
    work = SmallFiles(tmp_path, numbers(1))
    work.fill([numbers(10), numbers(10)], 10)
    receipts = work.score()
    one, other = (tally(str(path), [9]) for path in work.paths)
    assert one != other
    account = receipts[0].account
    moved = account.scored + other
    forged = moved.of(account.scored.rows, int(moved.digest, 16) - int(one.digest, 16))
    receipt = receipts[0].model_copy(update={"account": account.model_copy(update={"scored": forged})})
    with pytest.raises(AccountError, match="not the same rows by their digests"):
        settle(work.splits, [receipt])


def test_categories_with_short_codes_are_joined(tmp_path: Path) -> None:
    """Dictionaries that have 8 bits for a code, as pandas writes them, hold more values together than that tells."""
    work = SmallFiles(tmp_path, numbers(1), order={"passthrough": ("id", "name")})
    short = pa.dictionary(pa.int8(), pa.string())
    table = numbers(300)
    parts = [table.slice(start, 100) for start in (0, 100, 200)]
    work.fill([part.set_column(1, "name", part.column("name").combine_chunks().cast(short)) for part in parts], 50)
    found = predictions(work.score(table_rows=1000))
    assert found.column("name").to_pylist() == table.column("name").to_pylist()


@pytest.mark.parametrize("kind", ["another type", "not there"])
def test_a_routed_file_is_checked_though_it_shares_a_split(tmp_path: Path, kind: str) -> None:
    """Where each row goes to the model of its segment, the columns of a split's second file are looked at, too."""
    work = SmallFiles(tmp_path, numbers(1))
    table = numbers(40)
    other = table.slice(20).drop_columns(["f1"])
    if kind == "another type":
        other = other.append_column("f1", table.slice(20).column("f1").cast(pa.string()))
    work.fill([table.slice(0, 20), other], 20)
    contract = work.audited.spec.input
    [model] = work.make_order().models
    order = {
        "models": (model.model_copy(update={"name": "one"}),),
        "combination": Combination(route_by="name", routes={"none": "one"}, otherwise="one"),
        "chosen_by": (InputField(name="name", type=ColumnType("string")),),
        "routed": Routed(columns=tuple(field.name for field in contract.fields), shown=contract.fields),
    }
    with pytest.raises((ContractError, ReadError), match=r"part-01\.parquet.*f1"):
        score_split(work.make_order(**order), work.splits[0])


@pytest.mark.parametrize("rule", ["contract", "expectation"])
def test_a_row_that_fails_the_run_is_told_by_its_own_file(tmp_path: Path, rule: str) -> None:
    """Where the spec says fail, the file and the index of the row are told, and not those of the batch."""
    spec = LOGISTIC_SPEC.replace(
        "{name: f1, type: float32, nullable: false}", "{name: f1, type: float32, on_missing: fail}"
    )
    if rule == "expectation":
        spec = LOGISTIC_SPEC + "expectations: [{id: once, row: {cmp: [id, '!=', 33]}, severity: fail}]\n"
    bundle = partial(create_bundle, STORE)
    work = SmallFiles(
        tmp_path, numbers(1), lambda folder: bundle(str(folder), parts_of(spec, logistic_model(), numbers(5), [P]))
    )
    table = with_values(numbers(60), "f1", {33: None} if rule == "contract" else {})
    work.fill([table.slice(0, 20), table.slice(20)], 20)
    with pytest.raises(
        (ContractError, TransformError), match=r"^\S*/part-01\.parquet, row 13: .*in 1 row of the batch"
    ):
        score_split(work.make_order(table_rows=100), work.splits[0])


@settings(deadline=None)
@given(st.lists(st.integers(0, 300), max_size=30), st.integers(1, 500), st.integers(1, 5000))
def test_batches_are_cut_where_they_are_too_large(sizes: list[int], rows: int, most_bytes: int) -> None:
    """The same rows in their order, in batches no larger than one that came or than the bytes allow."""
    ends = np.cumsum([0, *sizes]).tolist()
    batches = [pa.record_batch({"x": np.arange(*ends[number : number + 2])}) for number in range(len(sizes))]
    found = list(rebatch(batches, rows, most_bytes=most_bytes))
    assert [row for batch in found for row in batch.column("x").to_pylist()] == list(range(ends[-1]))
    largest = max([8 * size for size in sizes], default=0)
    assert all(batch.num_rows <= rows and 8 * batch.num_rows <= max(most_bytes, largest) for batch in found)


def test_long_texts_are_taken_a_few_at_a_time(tmp_path: Path) -> None:
    """Texts that lie in a file once for many rows are not known to be long before they are read; batches are small."""
    table = numbers(5000).set_column(1, "name", pa.array(["x" * 50_000, "y" * 50_000] * 2500))
    work = Work(tmp_path, table, row_group=5000)
    routed = Routed(columns=("id", "name"), shown=())
    order = work.make_order(routed=routed, batch_rows="auto", table_rows=1 << 16)
    attempt = Attempt(storage=STORE, layout=work.layout, order=order, split=work.splits[0])
    found = [item.batch for item in Reading(order, ()).read([attempt]) if isinstance(item, Rows)]
    assert pa.concat_arrays([batch.column("id") for batch in found]).to_pylist() == list(range(5000))
    assert max(batch.nbytes for batch in found) <= 1024 * 50_100


@pytest.mark.parametrize("columns", [("id", *FEATURES), ("id", "name")])
def test_short_rows_are_taken_together(tmp_path: Path, columns: tuple[str, ...]) -> None:
    """Rows of any file, a long text before them or not, are as many at once as was planned where they are short."""
    work = SmallFiles(tmp_path, numbers(1))
    table = numbers(40_001)
    first = with_values(table.slice(0, 1), "name", {0: "x" * 5_000_000})
    work.fill([first, table.slice(1)], 1 << 16)
    order = work.make_order(routed=Routed(columns=columns, shown=()), batch_rows="auto", table_rows=1 << 16)
    attempt = Attempt(storage=STORE, layout=work.layout, order=order, split=work.splits[0])
    found = [item.batch.num_rows for item in Reading(order, ()).read([attempt]) if isinstance(item, Rows)]
    assert found == [40_001]
