"""XXH64 of whole columns in numpy: of texts of any length, of int64, and of rows of words.

What a spec's `semantics.hash` names: seed 42, over the UTF-8 bytes of a text or the 8 little-endian bytes of an int64.
Spark's `xxhash64` of one STRING or BIGINT column is the same number, read as a signed one.

The algorithm: https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md. It takes a text in stripes of 32 bytes,
then words of 8, at most one of 4, and at most 3 bytes. Here each such piece is taken in for all texts that have it at
once, because a call per row would cost more than most models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from etl.types import ArrowArray

__all__ = [
    "SEED",
    "buckets_of",
    "hash_integer",
    "hash_integers",
    "hash_texts",
    "hash_texts_under",
    "hash_words",
    "repeats",
]

SEED = 42
"""The seed of all hashes of specs."""

_PRIME_1 = 0x9E3779B185EBCA87
_PRIME_2 = 0xC2B2AE3D27D4EB4F
_PRIME_3 = 0x165667B19E3779F9
_PRIME_4 = 0x85EBCA77C2B2AE63
_PRIME_5 = 0x27D4EB2F165667C5
_MASK = (1 << 64) - 1

_ROWS = 1 << 12
"""Texts hashed together: their temporaries stay in the cache, and below the size from which malloc asks the kernel."""

_STRIPE = 32
_STRIPES = 1 << 10
"""Stripes that are read from memory together."""

_PLACE_OF_TAIL = np.array([0, 1, 2, 3, 7, 6, 5, 4], dtype=np.uint8)
"""By how many bytes are left after the last whole word, from 0 to 7: an order in which the texts that have a piece of 4
bytes stand beside each other, and so do those with one, two or three bytes behind it."""

_SINGLE_BYTES = ((1, 7), (2, 6), (3, 5))
"""First place, and the one behind the last, of the texts with one single byte or more, two or more, and three."""

_SAMPLE = 1 << 10


def hash_integers(values: npt.NDArray[np.int64], seed: int | npt.NDArray[np.uint64] = SEED) -> npt.NDArray[np.uint64]:
    """XXH64 of each value as 8 little-endian bytes, under one seed or each under its own; shape as `values`."""
    if isinstance(seed, int):
        hashes: npt.NDArray[np.uint64] = hash_words([values.astype(np.uint64)], (seed,))[0]
        return hashes
    hashes = seed + np.uint64((_PRIME_5 + 8) & _MASK)
    _take_word(hashes, values.astype(np.uint64))
    return _avalanched(hashes)


def hash_integer(value: int, seed: int) -> int:
    """`hash_integers` of a single unsigned number, in Python: numpy takes 15 times as long for it."""
    word = _rotated(value * _PRIME_2, 31) * _PRIME_1
    merged = (_rotated((seed + _PRIME_5 + 8) ^ (word & _MASK), 27) * _PRIME_1 + _PRIME_4) & _MASK
    merged = ((merged ^ (merged >> 33)) * _PRIME_2) & _MASK
    merged = ((merged ^ (merged >> 29)) * _PRIME_3) & _MASK
    return merged ^ (merged >> 32)


def _rotated(value: int, bits: int) -> int:
    value &= _MASK
    return ((value << bits) | (value >> (64 - bits))) & _MASK


def hash_words(columns: Sequence[npt.NDArray[np.uint64]], seeds: Sequence[int]) -> npt.NDArray[np.uint64]:
    """XXH64 under each seed of the words of each row, 8 little-endian bytes each, one behind another.

    A column has the same words under all seeds, or of shape (seeds, rows) its own; they are used up. XXH64 takes four
    words or more in stripes. Here they are taken one by one, so from there on it is another hash.

    Returns:
        Shape (seeds, rows).
    """
    begin = _begin(seeds, _PRIME_5 + 8 * len(columns))
    hashes = np.repeat(begin, columns[0].shape[-1], axis=1)
    for words in columns:
        _take_word(hashes, words)
    return _avalanched(hashes)


def hash_texts(column: ArrowArray, seed: int = SEED) -> npt.NDArray[np.uint64]:
    """XXH64 of the UTF-8 bytes of each text of an Arrow array of type string; shape (rows,).

    What a null is given means nothing. Texts that repeat themselves are hashed once.
    """
    hashes: npt.NDArray[np.uint64] = hash_texts_under(column, (seed,))[0]
    return hashes


def hash_texts_under(column: ArrowArray, seeds: Sequence[int]) -> npt.NDArray[np.uint64]:
    """As `hash_texts`, under each seed; shape (seeds, rows). The second costs less than half of the first."""
    if repeats(column):
        encoded = column.dictionary_encode(null_encoding="encode")
        indices: npt.NDArray[np.int32] = encoded.indices.to_numpy()
        return _hash_each(encoded.dictionary, seeds).take(indices, axis=1)
    return _hash_each(column, seeds)


def buckets_of(hashes: npt.NDArray[np.uint64], count: int) -> npt.NDArray[np.int64]:
    """`pmod(hash, count)` with the hash read as a signed number, as Spark has it: from 0 to `count` − 1."""
    signed = hashes.view(np.int64)
    # Division by one number is vectorised, the remainder is not.
    return signed - signed // count * count


def repeats(column: ArrowArray) -> bool:
    """Whether texts repeat themselves so often that work on distinct ones is less, as far as the first rows tell."""
    sample = column.slice(0, _SAMPLE)
    return len(sample) == _SAMPLE and len(sample.unique()) * 2 <= _SAMPLE


def _begin(seeds: Sequence[int], constant: int) -> npt.NDArray[np.uint64]:
    """What a hash begins with under each seed; shape (seeds, 1)."""
    return np.array([[(seed + constant) & _MASK] for seed in seeds], dtype=np.uint64)


def _hash_each(column: ArrowArray, seeds: Sequence[int]) -> npt.NDArray[np.uint64]:
    hashes = np.empty((len(seeds), len(column)), dtype=np.uint64)
    if not len(column):
        return hashes
    words, edges = _Words.of(column)
    for start in range(0, len(column), _ROWS):
        part = edges[start : start + _ROWS + 1]
        hashes[:, start : start + _ROWS] = _hash_part(words, part[:-1], np.diff(part), seeds=seeds)
    return hashes


class _Words(NamedTuple):
    """All bytes of a column as aligned words of 8 little-endian bytes, with more behind them than a read needs."""

    words: npt.NDArray[np.uint64]

    @classmethod
    def of(cls, column: ArrowArray) -> tuple[_Words, npt.NDArray[np.int64]]:
        """The bytes of a column of one row or more, copied to where words may be read, and where each text begins."""
        _, offsets, data = column.buffers()
        edges = np.frombuffer(offsets, dtype=np.int32)[column.offset : column.offset + len(column) + 1].astype(np.int64)
        first, size = int(edges[0]), int(edges[-1] - edges[0])
        words = np.zeros(size // 8 + 2, dtype="<u8")
        if size:
            words.view(np.uint8)[:size] = np.frombuffer(data, dtype=np.uint8, count=size, offset=first)
        return cls(words), edges - first

    def at(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
        """The 8 bytes from each position, for whose sake two aligned words are read."""
        places = positions >> 3
        bits = ((positions & 7) << 3).view(np.uint64)
        low = self.words.take(places)
        low >>= bits
        places += 1
        high = self.words.take(places)
        # A shift by all 64 bits leaves nothing, in numpy.
        high <<= np.uint64(64) - bits
        low |= high
        return low

    def stripes(self, positions: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.uint64]:
        """So many stripes from each position; shape (count, 4, positions)."""
        aligned = self.words.take((positions >> 3) + np.arange(4 * count + 1)[:, None])
        bits = ((positions & 7) << 3).view(np.uint64)
        words = aligned[:-1] >> bits
        high = aligned[1:]
        high <<= np.uint64(64) - bits
        words |= high
        return words.reshape(count, 4, positions.size)


def _hash_part(
    words: _Words, starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], *, seeds: Sequence[int]
) -> npt.NDArray[np.uint64]:
    hashes = lengths.view(np.uint64) + _begin(seeds, _PRIME_5)
    long = np.flatnonzero(lengths >= _STRIPE)
    if long.size:
        merged = _hash_stripes(words, starts[long], lengths[long] // _STRIPE, seeds=seeds)
        hashes[:, long] = merged + lengths[long].view(np.uint64)
        starts, lengths = starts + (lengths & -_STRIPE), lengths & (_STRIPE - 1)
    for end in range(8, int(lengths.max()) + 1, 8):
        rows = np.flatnonzero(lengths >= end)
        if rows.size == starts.size:
            _take_word(hashes, words.at(starts + (end - 8)))
        else:
            some = hashes.take(rows, axis=1)
            _take_word(some, words.at(starts[rows] + (end - 8)))
            hashes[:, rows] = some
    _take_tails(hashes, words, starts=starts + (lengths & ~7), sizes=lengths & 7)
    return _avalanched(hashes)


def _hash_stripes(
    words: _Words, starts: npt.NDArray[np.int64], counts: npt.NDArray[np.int64], *, seeds: Sequence[int]
) -> npt.NDArray[np.uint64]:
    """All whole stripes, and their four lanes merged: in lock-step, texts with the most stripes first."""
    order = _falling(counts)
    starts, falling = starts[order], -counts[order]
    begin = [_begin(seeds, constant) for constant in (_PRIME_1 + _PRIME_2, _PRIME_2, 0, -_PRIME_1)]
    lanes = np.repeat(np.stack(begin, axis=1), counts.size, axis=2)
    done = 0
    while active := int(np.searchsorted(falling, -done)):
        end = min(int(-falling[active - 1]), done + max(1, _STRIPES // active))
        _take_stripes(lanes[:, :, :active], words.stripes(starts[:active] + _STRIPE * done, end - done))
        done = end
    merged = np.empty((len(seeds), counts.size), dtype=np.uint64)
    merged[:, order] = _merged(lanes.swapaxes(0, 1))
    return merged


def _falling(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The order of falling counts; numpy sorts 16 bits ten times as fast."""
    most = int(counts.max())
    below = most - counts
    return np.argsort(below.astype(np.uint16) if most <= np.iinfo(np.uint16).max else below, kind="stable")


def _take_stripes(lanes: npt.NDArray[np.uint64], stripes: npt.NDArray[np.uint64]) -> None:
    spare = np.empty(lanes.shape, dtype=np.uint64)
    stripes *= np.uint64(_PRIME_2)
    for stripe in stripes:
        lanes += stripe
        _rotate(lanes, 31, spare)
        lanes *= np.uint64(_PRIME_1)


def _merged(lanes: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """From lanes of shape (4, seeds, texts)."""
    spare = np.empty(lanes.shape[1:], dtype=np.uint64)
    merged = np.zeros(lanes.shape[1:], dtype=np.uint64)
    for lane, bits in zip(lanes, (1, 7, 12, 18), strict=True):
        rotated = lane.copy()
        _rotate(rotated, bits, spare)
        merged += rotated
    for lane in lanes:
        merged ^= _rounded(lane, spare)
        merged *= np.uint64(_PRIME_1)
        merged += np.uint64(_PRIME_4)
    return merged


def _take_tails(
    hashes: npt.NDArray[np.uint64], words: _Words, *, starts: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]
) -> None:
    """The last 0 to 7 bytes of each text."""
    places = _PLACE_OF_TAIL[sizes]
    edges = np.cumsum(np.bincount(places, minlength=8))
    rows = np.argsort(places, kind="stable")[edges[0] :]
    if not rows.size:
        return
    # Where each place begins, among the texts that have a tail: a text without has the first place.
    begin = [0, *(edges - edges[0]).tolist()]
    some, left = hashes.take(rows, axis=1), words.at(starts[rows])
    spare = np.empty_like(some)
    with_four = slice(begin[4], None)
    pieces = left[with_four] & np.uint64(0xFFFF_FFFF)
    pieces *= np.uint64(_PRIME_1)
    _mix(some[:, with_four], pieces, 23, spare=spare[:, with_four])
    some[:, with_four] *= np.uint64(_PRIME_2)
    some[:, with_four] += np.uint64(_PRIME_3)
    left[with_four] >>= np.uint64(32)
    for first, behind in _SINGLE_BYTES:
        having = slice(begin[first], begin[behind])
        pieces = left[having] & np.uint64(0xFF)
        pieces *= np.uint64(_PRIME_5)
        _mix(some[:, having], pieces, 11, spare=spare[:, having])
        some[:, having] *= np.uint64(_PRIME_1)
        left[having] >>= np.uint64(8)
    hashes[:, rows] = some


def _take_word(hashes: npt.NDArray[np.uint64], words: npt.NDArray[np.uint64]) -> None:
    """Take in one word of each; the array of words is used up."""
    rounded = _rounded(words, np.empty_like(words))
    _mix(hashes, rounded, 27, spare=np.empty_like(hashes))
    hashes *= np.uint64(_PRIME_1)
    hashes += np.uint64(_PRIME_4)


def _rounded(words: npt.NDArray[np.uint64], spare: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """One round of an empty lane, in place."""
    words *= np.uint64(_PRIME_2)
    _rotate(words, 31, spare)
    words *= np.uint64(_PRIME_1)
    return words


def _mix(
    hashes: npt.NDArray[np.uint64], pieces: npt.NDArray[np.uint64], bits: int, *, spare: npt.NDArray[np.uint64]
) -> None:
    hashes ^= pieces
    _rotate(hashes, bits, spare)


def _rotate(values: npt.NDArray[np.uint64], bits: int, spare: npt.NDArray[np.uint64]) -> None:
    """To the left, in place: an array of its own each time would cost as much as the work."""
    np.right_shift(values, np.uint64(64 - bits), out=spare)
    np.left_shift(values, np.uint64(bits), out=values)
    np.bitwise_or(values, spare, out=values)


def _avalanched(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    hashes ^= hashes >> np.uint64(33)
    hashes *= np.uint64(_PRIME_2)
    hashes ^= hashes >> np.uint64(29)
    hashes *= np.uint64(_PRIME_3)
    hashes ^= hashes >> np.uint64(32)
    return hashes
