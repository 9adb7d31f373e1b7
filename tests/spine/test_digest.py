"""Row digests: XXH64 by an independent library, and what makes them find out what a count does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.runs.digest import digest_of, digest_of_ranges, file_seed, row_hashes
from tests.spine.builders import MASK, seed_of

if TYPE_CHECKING:
    import random

SEEDS = st.integers(0, MASK)
ROWS = st.lists(st.integers(0, 2**63 - 1), max_size=50)


def hashes_of(seed: int, rows: list[int]) -> list[int]:
    """XXH64 of each row by the xxhash library."""
    return [xxhash.xxh64_intdigest(row.to_bytes(8, "little"), seed) for row in rows]


def digest(seed: int, rows: list[int]) -> int:
    """Our digest of rows by index."""
    return digest_of(row_hashes(seed, np.array(rows, dtype=np.int64)))


@settings(deadline=None)
@given(SEEDS, ROWS)
def test_a_row_hash_is_xxh64(seed: int, rows: list[int]) -> None:
    """A row's hash is XXH64 of its index as 8 little-endian bytes under the seed, and a digest is the sum."""
    found = row_hashes(seed, np.array(rows, dtype=np.int64))
    assert found.dtype == np.uint64
    assert found.tolist() == hashes_of(seed, rows)
    assert digest_of(found) == sum(hashes_of(seed, rows)) & MASK


def test_hashing_leaves_the_rows_alone() -> None:
    """Hashing changes neither the array of rows, nor needs it to be writable."""
    rows = np.arange(5, dtype=np.int64)
    rows.flags.writeable = False
    row_hashes(7, rows)
    assert rows.tolist() == [0, 1, 2, 3, 4]


@settings(deadline=None)
@given(SEEDS, st.integers(0, 2**40), st.integers(0, 500))
def test_the_digest_of_a_range_is_the_sum_of_its_rows(seed: int, first: int, rows: int) -> None:
    """The digest of a range is the sum of the hashes of its rows modulo 2^64."""
    assert digest_of_ranges([(seed, first, rows)]) == sum(hashes_of(seed, list(range(first, first + rows)))) & MASK


@settings(deadline=None)
@given(st.lists(st.tuples(SEEDS, st.integers(0, 2**40), st.integers(0, 90_000)), max_size=5))
def test_the_digest_of_ranges_is_the_sum_of_theirs(ranges: list[tuple[int, int, int]]) -> None:
    """Ranges of several files have the digest that they have one by one, whatever their sizes."""
    assert digest_of_ranges(ranges) == sum(digest_of_ranges([one]) for one in ranges) & MASK


@settings(deadline=None)
@given(st.lists(st.tuples(SEEDS, st.integers(0, 2**40)), min_size=1, max_size=50))
def test_rows_of_several_files_are_hashed_each_under_its_own_seed(rows: list[tuple[int, int]]) -> None:
    """Hashes of rows under a seed each are those that the library xxhash gives."""
    seeds = np.array([seed for seed, _ in rows], dtype=np.uint64)
    indexes = np.array([row for _, row in rows], dtype=np.int64)
    found = row_hashes(seeds, indexes).tolist()
    assert found == [hashes_of(seed, [row])[0] for seed, row in rows]


@pytest.mark.parametrize("rows", [0, 1, 65_535, 65_536, 65_537, 131_073])
def test_the_digest_of_a_long_range_has_no_seams(rows: int) -> None:
    """A range that is summed in blocks has the digest of one that is not."""
    assert digest_of_ranges([(3, 17, rows)]) == digest(3, list(range(17, 17 + rows)))


@settings(deadline=None)
@given(SEEDS, ROWS, st.randoms(use_true_random=False), st.integers(0, 50))
def test_a_digest_is_free_of_order_and_cut(seed: int, rows: list[int], shuffler: random.Random, cut: int) -> None:
    """Rows in any order, and in any two parts, have the digest of the whole."""
    shuffled = shuffler.sample(rows, len(rows))
    assert digest(seed, shuffled) == digest(seed, rows)
    assert (digest(seed, shuffled[:cut]) + digest(seed, shuffled[cut:])) & MASK == digest(seed, rows)


def test_no_rows_have_digest_zero() -> None:
    """The digest of no rows is 0 under any seed."""
    assert digest(5, []) == digest_of_ranges([(5, 100, 0)]) == 0


@settings(deadline=None)
@given(SEEDS, st.sets(st.integers(0, 10_000), min_size=2, max_size=50), st.data())
def test_a_lost_row_is_not_balanced_by_a_doubled_one(seed: int, rows: set[int], data: st.DataObject) -> None:
    """Losing one row and doubling another keeps the count and changes the digest."""
    lost, doubled = data.draw(st.permutations(sorted(rows)))[:2]
    wrong = [row for row in rows if row != lost] + [doubled]
    assert len(wrong) == len(rows)
    assert digest(seed, wrong) != digest(seed, list(rows))


@settings(deadline=None)
@given(st.text(max_size=40))
def test_a_file_seed_is_its_path_folded_through_xxh64(path: str) -> None:
    """A file's seed is its path in UTF-8, eight bytes at a time, through XXH64, beginning with the length."""
    assert file_seed(path) == seed_of(path)


@settings(deadline=None)
@given(st.text(max_size=20), st.text(max_size=20))
def test_files_have_seeds_of_their_own(left: str, right: str) -> None:
    """Two paths have one seed only if they are equal; a zero byte at the end makes a difference too."""
    assert (file_seed(left) == file_seed(right)) == (left == right)
    assert file_seed(left) != file_seed(f"{left}\0")
