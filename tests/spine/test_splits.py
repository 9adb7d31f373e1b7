"""Splits: a fixed partition of bytes and of row groups, and of splits into tasks."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.runs.read import RangeReader
from etl.runs.splits import FileRange, InputFile, Split, cut_splits, group_splits
from tests.spine.builders import STORE, pin, write_groups

if TYPE_CHECKING:
    from pathlib import Path

SIZES = st.lists(st.integers(0, 10_000), max_size=8)
TARGETS = st.integers(1, 12_000)


def files_of(sizes: list[int]) -> tuple[InputFile, ...]:
    """A listing of files of these sizes."""
    return tuple(InputFile(path=f"/in/{number}", bytes=size, etag="e") for number, size in enumerate(sizes))


def splits_of(sizes: list[int]) -> tuple[Split, ...]:
    """One split of each size."""
    return tuple(
        Split(index=number, ranges=(FileRange(file=file, start=0, end=file.bytes),))
        for number, file in enumerate(files_of(sizes))
    )


@settings(deadline=None)
@given(SIZES, st.integers(50, 12_000))
def test_splits_cover_every_byte_once(sizes: list[int], target: int) -> None:
    """The splits of a file follow each other from its first byte to its last; indexes are dense in file order."""
    files = files_of(sizes)
    splits = cut_splits(files, target)
    assert [split.index for split in splits] == list(range(len(splits)))
    by_file = [[split for split in splits if split.ranges[0].file == file] for file in files]
    assert [split for group in by_file for split in group] == list(splits)
    for file, group in zip(files, by_file, strict=True):
        assert (group[0].ranges[0].start, group[-1].ranges[0].end) == (0, file.bytes)
        assert all(left.ranges[0].end == right.ranges[0].start for left, right in pairwise(group))


@settings(deadline=None)
@given(SIZES, st.integers(50, 12_000))
def test_splits_of_a_file_are_alike(sizes: list[int], target: int) -> None:
    """No split is larger than the target, and a file's splits, as many as it needs, differ by one byte at most."""
    splits = cut_splits(files_of(sizes), target)
    for file in files_of(sizes):
        found = [split.bytes for split in splits if split.ranges[0].file == file]
        assert len(found) == max(1, -(-file.bytes // target))
        assert max(found) <= target
        assert max(found) - min(found) <= 1


def test_a_split_is_named_by_its_number() -> None:
    """Names of splits are six digits, so that up to a million of them sort as their numbers."""
    assert [split.name for split in cut_splits(files_of([20]), 7)] == ["000000", "000001", "000002"]


@pytest.fixture(scope="module")
def parquet_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Parquet files with many, few, empty and no row groups."""
    folder = tmp_path_factory.mktemp("splits")
    shapes: tuple[list[int], ...] = ([], [0], [1], [100], [5] * 20, [0, 5, 0, 0, 7, 0], [1, 500, 1, 1], [0] * 5)
    paths = [folder / f"{number}.parquet" for number in range(len(shapes))]
    for path, sizes in zip(paths, shapes, strict=True):
        write_groups(path, sizes)
    return paths


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 7), TARGETS)
def test_a_row_group_belongs_to_one_split(parquet_files: list[Path], number: int, target: int) -> None:
    """However a file is cut, each of its row groups is in one split, with its place and size as in the footer."""
    path = parquet_files[number]
    metadata = pq.read_metadata(path)
    found = [
        group
        for split in cut_splits((pin(path),), max(target, 20))
        for group in RangeReader(STORE, split.ranges[0]).row_groups
    ]
    assert [group.number for group in found] == list(range(metadata.num_row_groups))
    assert [group.rows for group in found] == [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert [group.first_row for group in found] == [sum(g.rows for g in found[:i]) for i in range(len(found))]


@settings(deadline=None)
@given(SIZES, st.integers(1, 20_000), st.integers(1, 20))
def test_tasks_are_a_partition_of_the_splits(sizes: list[int], task_bytes: int, parallelism: int) -> None:
    """Every split is in one task, no task is empty, and the same splits always make the same tasks."""
    splits = splits_of(sizes)
    tasks = group_splits(splits, task_bytes=task_bytes, parallelism=parallelism)
    assert sorted(split.index for task in tasks for split in task) == list(range(len(splits)))
    assert all(tasks)
    assert all(left.index < right.index for task in tasks for left, right in pairwise(task))
    assert tasks == group_splits(splits[::-1], task_bytes=task_bytes, parallelism=parallelism)


@settings(deadline=None)
@given(SIZES, st.integers(1, 20_000), st.integers(1, 20))
def test_no_core_idles_while_there_is_a_split_for_it(sizes: list[int], task_bytes: int, parallelism: int) -> None:
    """There are as many tasks as cores where there are splits enough, and more only when tasks would be too large."""
    splits = splits_of(sizes)
    tasks = group_splits(splits, task_bytes=task_bytes, parallelism=parallelism)
    assert len(tasks) >= min(len(splits), parallelism)
    assert len(tasks) <= max(parallelism, -(-sum(sizes) // task_bytes))


@settings(deadline=None)
@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=30), st.integers(1, 8))
def test_tasks_are_balanced(sizes: list[int], parallelism: int) -> None:
    """The largest task has at most the share of one core and one split more."""
    tasks = group_splits(splits_of(sizes), task_bytes=10**9, parallelism=parallelism)
    largest = max(sum(split.bytes for split in task) for task in tasks)
    assert largest <= sum(sizes) / len(tasks) + max(sizes)
