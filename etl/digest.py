"""Order-free digests of row identity, so that a total that adds up by accident is still found out.

A row is (file, row index). Its hash is XXH64 of the index as 8 little-endian bytes, seeded with the file's path folded
through XXH64; a digest is the sum of its rows' hashes modulo 2^64. Sums of disjoint sets of rows add, in any order, and
a lost row that is balanced by a doubled one changes the sum although the count stays right.

XXH64: https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md, here for inputs of exactly eight bytes in numpy,
because a call per row would cost more than the model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["digest_of", "digest_of_range", "file_seed", "row_hashes"]

_PRIME_1 = 0x9E3779B185EBCA87
_PRIME_2 = 0xC2B2AE3D27D4EB4F
_PRIME_3 = 0x165667B19E3779F9
_PRIME_4 = 0x85EBCA77C2B2AE63
_PRIME_5 = 0x27D4EB2F165667C5
_MASK = (1 << 64) - 1
_RANGE_BLOCK = 1 << 16


def _rotate_left(value: npt.NDArray[np.uint64], bits: int) -> npt.NDArray[np.uint64]:
    return (value << np.uint64(bits)) | (value >> np.uint64(64 - bits))


def row_hashes(seed: int, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """XXH64 of each row index as 8 little-endian bytes under `seed`; shape as `rows`."""
    lane = rows.astype(np.uint64)
    lane *= np.uint64(_PRIME_2)
    lane = _rotate_left(lane, 31)
    lane *= np.uint64(_PRIME_1)
    lane ^= np.uint64((seed + _PRIME_5 + 8) & _MASK)
    lane = _rotate_left(lane, 27)
    lane *= np.uint64(_PRIME_1)
    lane += np.uint64(_PRIME_4)
    lane ^= lane >> np.uint64(33)
    lane *= np.uint64(_PRIME_2)
    lane ^= lane >> np.uint64(29)
    lane *= np.uint64(_PRIME_3)
    lane ^= lane >> np.uint64(32)
    return lane


def digest_of(hashes: npt.NDArray[np.uint64]) -> int:
    """Sum of row hashes modulo 2^64; 0 for no rows."""
    return int(hashes.sum(dtype=np.uint64))


def digest_of_range(seed: int, first: int, rows: int) -> int:
    """Digest of the rows `first … first + rows - 1`, in blocks so that memory stays flat."""
    total = 0
    for start in range(first, first + rows, _RANGE_BLOCK):
        block = np.arange(start, min(start + _RANGE_BLOCK, first + rows), dtype=np.int64)
        total += digest_of(row_hashes(seed, block))
    return total & _MASK


def file_seed(path: str) -> int:
    """Seed of a file: the path folded through the same hash, eight bytes at a time.

    Any injective-enough function would do; this one needs no second implementation of XXH64 for long inputs.
    """
    data = path.encode()
    seed = len(data)
    for start in range(0, len(data), 8):
        word = np.frombuffer(data[start : start + 8].ljust(8, b"\0"), dtype="<i8")
        seed = int(row_hashes(seed, word)[0])
    return seed
