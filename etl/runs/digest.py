"""Order-free digests of row identity, so that a total that adds up by accident is still found out.

A row is (file, row index). Its hash is XXH64 of the index as 8 little-endian bytes, seeded with the file's path folded
through XXH64; a digest is the sum of its rows' hashes modulo 2^64. Sums of disjoint sets of rows add, in any order, and
a lost row that is balanced by a doubled one changes the sum although the count stays right.

XXH64 itself is `etl.xxh64`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from etl.xxh64 import hash_integer, hash_integers

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

__all__ = ["digest_of", "digest_of_ranges", "file_seed", "row_hashes"]

_MASK = (1 << 64) - 1
_RANGE_BLOCK = 1 << 16


def row_hashes(seed: int | npt.NDArray[np.uint64], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """XXH64 of each row index as 8 little-endian bytes under `seed`, or each under its own; shape as `rows`."""
    return hash_integers(rows, seed)


def digest_of(hashes: npt.NDArray[np.uint64]) -> int:
    """Sum of row hashes modulo 2^64; 0 for no rows."""
    return int(hashes.sum(dtype=np.uint64))


def digest_of_ranges(ranges: Iterable[tuple[int, int, int]]) -> int:
    """Digest of runs of rows, each as seed of the file, first row, and how many rows.

    Runs are hashed together, and in blocks so that memory stays flat.
    """
    total = held = 0
    blocks: list[tuple[int, npt.NDArray[np.int64]]] = []
    for seed, first, rows in ranges:
        for start in range(first, first + rows, _RANGE_BLOCK):
            block = np.arange(start, min(start + _RANGE_BLOCK, first + rows), dtype=np.int64)
            blocks.append((seed, block))
            held += block.size
            if held >= _RANGE_BLOCK:
                total += _digest_of_blocks(blocks)
                blocks, held = [], 0
    return (total + _digest_of_blocks(blocks)) & _MASK


def _digest_of_blocks(blocks: list[tuple[int, npt.NDArray[np.int64]]]) -> int:
    """Digest of rows, each block under its own seed; one block, as of a large file, is not copied."""
    if not blocks:
        return 0
    if len(blocks) == 1:
        return digest_of(row_hashes(*blocks[0]))
    seeds = np.repeat(np.array([seed for seed, _ in blocks], dtype=np.uint64), [block.size for _, block in blocks])
    return digest_of(row_hashes(seeds, np.concatenate([block for _, block in blocks])))


def file_seed(path: str) -> int:
    """Seed of a file: the path folded through the same hash, eight bytes at a time.

    Any injective-enough function would do; this one needs no second implementation of XXH64 for long inputs.
    """
    data = path.encode()
    seed = len(data)
    for start in range(0, len(data), 8):
        seed = hash_integer(int.from_bytes(data[start : start + 8], "little"), seed)
    return seed
