"""Rows that repeat the key of another, counted from digests in files, against plain Python."""

from __future__ import annotations

import itertools
import json
import math
import struct
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

import etl.runs.keys
from etl.checks import check
from etl.errors import AccountError, PendingLost, StorageError
from etl.keys import key_digests
from etl.pipeline import Pipeline
from etl.runs.keys import KeyWriter, count_repeats
from etl.runs.local import LocalStorage
from etl.spec import read_spec
from etl.types import SCALARS
from etl.xxh64 import hash_words
from tests.etl.nasty import DATES, FLOATS, INSTANTS, INT64S, NAN, TEXTS, document

if TYPE_CHECKING:
    from collections.abc import Iterable

    from etl.runs.receipt import Written
    from etl.spec import Spec

STORE = LocalStorage()

VALUES: dict[str, list[Any]] = {
    "bool": [None, True, False],
    "int32": [None, 0, 1, -1, 2**31 - 1, -(2**31)],
    "int64": INT64S,
    "uint64": [None, 0, 1, 2**63, 2**64 - 1],
    "float32": [None, NAN, 0.0, -0.0, 1.5, math.inf],
    "float64": FLOATS,
    "string": TEXTS,
    "date": DATES,
    "timestamp": INSTANTS,
}
FIELDS: list[dict[str, Any]] = [{"name": kind, "type": kind} for kind in VALUES]
FIELDS.append({"name": "nan", "type": "float64", "nan_is_value": True})
STEPS = [
    {"id": "a", "op": "abs", "in": ["float64"], "out": ["size"]},
    {"id": "l", "op": "length", "in": ["string"], "out": ["letters"]},
]
COLUMNS = [*VALUES, "nan", "size", "letters"]
SCHEMA = pa.schema([(field["name"], SCALARS[field["type"]]) for field in FIELDS])


def is_nan(value: Any) -> bool:
    """Whether a value is NaN."""
    return isinstance(value, float) and math.isnan(value)


def key_of(row: dict[str, Any], columns: list[str]) -> tuple[Any, ...]:
    """What a row is told from others by; that 0.0 is −0.0 Python knows."""
    size = None if row["float64"] is None else abs(row["float64"])
    made = {**row, "size": size, "letters": None if row["string"] is None else len(row["string"])}
    return tuple(("NaN" if name == "nan" else None) if is_nan(made[name]) else made[name] for name in columns)


def repeats_by_hand(rows: list[dict[str, Any]], columns: list[str]) -> int:
    """All rows but the first of each key."""
    return sum(count - 1 for count in Counter(key_of(row, columns) for row in rows).values())


def spec_of(*columns: list[str]) -> Spec:
    """A spec over FIELDS and STEPS that expects these columns to be unique, named u0, u1, …."""
    value = document(FIELDS, STEPS, columns=["size"])
    value["expectations"] = [
        {"id": f"u{number}", "batch": {"unique": names}, "severity": "warn"} for number, names in enumerate(columns)
    ]
    return read_spec(json.dumps(value), "spec.json")


def written(folder: Path, name: str, parts: Iterable[np.ndarray]) -> Written | None:
    """A file of digests, as a worker leaves it."""
    writer = KeyWriter(STORE, str(folder / f"{name}.arrow"))
    for digests in parts:
        writer.write(digests)
    found = writer.finish()
    if found is not None:
        STORE.complete(found.pending)
    return found


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_repeats_are_counted_exactly_however_rows_are_cut(data: st.DataObject) -> None:
    """Digests of any cut into splits and batches, counted in any number of ranges, give the count of a loop in Python
    and that of a check in memory, for every type of column and for columns that steps made.
    """  # noqa: D205  one sentence
    cell = {field["name"]: st.sampled_from(VALUES[field["type"]]) for field in FIELDS}
    rows = data.draw(st.lists(st.fixed_dictionaries(cell), max_size=25))
    rows += data.draw(st.lists(st.sampled_from(rows), max_size=10)) if rows else []
    columns = data.draw(st.lists(st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=5), min_size=1, max_size=2))
    cuts = data.draw(st.lists(st.integers(0, len(rows)), max_size=4))
    spec = spec_of(*columns)
    table = pa.Table.from_pylist(rows, SCHEMA)
    pipeline = Pipeline(spec, {})
    with tempfile.TemporaryDirectory() as folder:
        files: dict[int, list[Written]] = {number: [] for number in range(len(columns))}
        for start, stop in itertools.pairwise([0, *sorted(cuts), len(rows)]):
            frame = pipeline.contract(table.slice(start, stop - start), "t")
            assert pipeline.transform(frame).kept is None
            for number, names in enumerate(columns):
                digests = key_digests(frame, names)
                halves = np.array_split(digests, 2, axis=1)
                file = written(Path(folder), f"{number}-{len(files[number])}-{start}", halves)
                files[number] += [file] if file is not None else []
        most = data.draw(st.sampled_from([1, 3, 1000]))
        found = [count_repeats(STORE, files[number], keys_at_once=most) for number in files]
    assert found == [repeats_by_hand(rows, names) for names in columns]
    assert [one.hits for one in check(spec, table)] == found


@pytest.mark.parametrize("held", [5_000, 1_000_000])
@pytest.mark.parametrize("most", [1_000, 20_000, 1_000_000])
def test_many_keys_are_counted_in_ranges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int, most: int) -> None:
    """Files cut into ranges of their own, and counted in more ranges, in fewer or in one, give one count; a key that
    stands a hundred thousand times, and keys that share their first word or their second, among them.
    """  # noqa: D205  one sentence
    monkeypatch.setattr(etl.runs.keys, "KEYS_HELD", held)
    rng = np.random.default_rng(3)
    keys = rng.integers(0, 2**64, (2, 60_000), dtype=np.uint64)
    keys[0, 100:200] = keys[0, 0]
    keys[1, 200:300] = keys[1, 0]
    keys[:, 40_000:50_000] = keys[:, :10_000]
    keys = np.concatenate([keys, np.repeat(keys[:, :1], 100_000, axis=1)], axis=1)
    keys = keys[:, rng.permutation(keys.shape[1])]
    pieces = np.array_split(keys, [10, 3_000, 90_000], axis=1)
    files = [written(tmp_path, str(number), np.array_split(piece, 7, axis=1)) for number, piece in enumerate(pieces)]
    wanted = keys.shape[1] - len(set(zip(*keys.tolist(), strict=True)))
    assert count_repeats(STORE, [file for file in files if file is not None], keys_at_once=most) == wanted == 110_000


@given(st.lists(st.lists(st.integers(0, 2**64 - 1), min_size=3, max_size=3), min_size=1), st.integers(0, 2**64 - 1))
def test_the_hash_of_words_is_xxh64_of_their_bytes(rows: list[list[int]], seed: int) -> None:
    """Up to three words of a row give XXH64 of their little-endian bytes one behind another."""
    words = np.array(rows, np.uint64)
    for width in (1, 2, 3):
        hashes = hash_words([words[:, place].copy() for place in range(width)], (seed, 1))
        packed = [struct.pack(f"<{width}Q", *row[:width]) for row in rows]
        assert hashes.tolist() == [[xxhash.xxh64_intdigest(data, each) for data in packed] for each in (seed, 1)]


def test_files_that_are_not_what_was_written_are_no_count(tmp_path: Path) -> None:
    """A file that is gone, damaged, or shorter than its receipt says is an error and never a count."""
    digests = np.arange(20, dtype=np.uint64).reshape(2, 10)
    file = written(tmp_path, "a", [digests])
    assert file is not None
    assert count_repeats(STORE, [file]) == count_repeats(STORE, []) == 0
    with pytest.raises(AccountError, match="hold 10 rows, their receipts say 11"):
        count_repeats(STORE, [file.model_copy(update={"rows": 11})])
    path = Path(file.pending.path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(AccountError, match=r"a\.arrow: the keys of rows cannot be read back"):
        count_repeats(STORE, [file])
    path.unlink()
    with pytest.raises(PendingLost, match=r"a\.arrow"):
        count_repeats(STORE, [file])


def test_a_store_that_does_not_answer_costs_no_run(tmp_path: Path) -> None:
    """Keys that the store does not give are told so, and the same id goes on."""

    class Away(LocalStorage):
        def open_input(self, path):
            raise ConnectionError(f"{path}: reset")

    file = written(tmp_path, "a", [np.arange(20, dtype=np.uint64).reshape(2, 10)])
    assert file is not None
    with pytest.raises(StorageError, match=r"a\.arrow: the keys of rows cannot be read: .*: reset\. Run the same id"):
        count_repeats(Away(), [file])
    assert count_repeats(STORE, [file]) == 0
