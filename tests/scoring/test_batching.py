"""Model batches: the same rows in the same order, cut anew."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.engine.rebatching import rebatch


def table_of(rows: int) -> pa.RecordBatch:
    """A batch of rows with numbers, texts, lists, categories and nulls."""
    numbers = range(rows)
    return pa.RecordBatch.from_pydict(
        {
            "id": pa.array(numbers, pa.int64()),
            "name": pa.array([None if number % 3 == 0 else f"é{number}" for number in numbers], pa.string()),
            "list": pa.array([[number] * (number % 4) for number in numbers], pa.list_(pa.int16())),
            "kind": pa.array([f"kind {number % 5}" for number in numbers]).dictionary_encode(),
        }
    )


CUTS = st.lists(st.integers(0, 60), max_size=8)


@settings(max_examples=100, deadline=None)
@given(cuts=CUTS, rows=st.integers(1, 50))
def test_rows_are_the_same_in_batches_of_one_size(cuts: list[int], rows: int) -> None:
    """Batches of any sizes, slices among them, come out with every row once, in order, all of the size but the last."""
    whole = table_of(60)
    borders = sorted(cuts)
    pieces = [whole.slice(start, end - start) for start, end in zip([0, *borders], [*borders, 60], strict=True)]
    found = list(rebatch(iter(pieces), rows))
    assert [batch.num_rows for batch in found] == [rows] * (60 // rows) + [60 % rows] * (60 % rows > 0)
    assert pa.Table.from_batches(found).equals(pa.Table.from_batches([whole]))


def test_categories_of_each_batch_keep_their_meaning() -> None:
    """Categories that every batch numbers in its own way are the same texts after batches are joined."""
    batches = [
        pa.RecordBatch.from_pydict({"kind": pa.array(texts).dictionary_encode()})
        for texts in (["a", "b"], ["b", "c", "a"], ["c"])
    ]
    found = [text for batch in rebatch(batches, 4) for text in batch.column("kind").to_pylist()]
    assert found == ["a", "b", "b", "c", "a", "c"]


@pytest.mark.parametrize("batches", [[], [table_of(0)], [table_of(0)] * 3])
def test_no_rows_make_no_batch(batches: list[pa.RecordBatch]) -> None:
    """Where there are no rows there is no batch."""
    assert list(rebatch(batches, 10)) == []


def test_a_batch_of_the_size_is_not_copied() -> None:
    """A batch that lies within one piece is a view of it."""
    whole = table_of(60)
    addresses = [batch.column("id").buffers()[1].address for batch in rebatch([whole], 20)]
    assert set(addresses) == {whole.column("id").buffers()[1].address}


def test_batches_come_as_soon_as_they_are_full() -> None:
    """A batch is handed on before the next piece is asked for, so that memory holds one batch and not the split."""

    def pieces():
        for number in range(3):
            taken.append(number)
            yield table_of(10)

    taken: list[int] = []
    batches = rebatch(pieces(), 10)
    next(batches)
    assert taken == [0]
