"""Batches of the model: whatever rows share a call, each gets what it would have got alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.ragged import Mask, Ragged
from scoring.engine.batch_rows import BatchRows
from scoring.engine.batching import Batcher, Portion, in_order
from scoring.engine.inference import infer
from scoring.errors import InferenceError, OutOfMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PLENTY = 1 << 40


def lists(rows: list[list[int]], buckets: tuple[int, ...]) -> Ragged:
    """Token ids with a mask."""
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    flat = np.array([item for row in rows for item in row], dtype=np.int64)
    return Ragged(flat, offsets, buckets, 0, Mask("mask", "int64"))


def calls_of(portions: list[Portion], most: int, predict: Callable[..., Any]) -> None:
    """Feed portions one after the other, calls as full as they get, and the rest at the end."""
    batcher, size = Batcher(), BatchRows(most, most_bytes=PLENTY)
    for portion in portions:
        batcher.add(portion)
        for lengths in batcher.lengths:
            while batcher.waiting(lengths) >= most:
                batch = batcher.cut(lengths, most)
                batch.give_back(infer(predict, batch, size))
    for lengths in batcher.lengths:
        while batcher.waiting(lengths):
            batch = batcher.cut(lengths, most)
            batch.give_back(infer(predict, batch, size))


TOKENS = st.lists(st.lists(st.integers(-9, 9), max_size=12), max_size=12)


@settings(max_examples=150, deadline=None)
@given(
    parts=st.lists(TOKENS, max_size=5),
    most=st.integers(1, 9),
    buckets=st.sampled_from([(), (4, 12), (12,), (1, 2, 4, 8, 16)]),
)
def test_any_cut_of_rows_into_calls_gives_each_row_its_own_score(
    parts: list[list[list[int]]], most: int, buckets: tuple[int, ...]
) -> None:
    """Rows of any lengths, in any portions, calls and buckets: sums over what is masked in are those of plain Python,
    no call has more rows than allowed, and none pads beyond its bucket.
    """  # noqa: D205  one sentence
    number = 0
    portions = []
    for rows in parts:
        scale = np.arange(number, number + len(rows), dtype=np.float64)
        number += len(rows)
        portions.append(Portion({"ids": lists(rows, buckets), "scale": scale}, len(rows), None))

    def predict(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        rows, length = feeds["ids"].shape
        assert rows <= most
        assert feeds["mask"].shape == (rows, length)
        lengths = feeds["mask"].sum(axis=1)
        assert not buckets or length == min(bucket for bucket in buckets if bucket >= lengths.max())
        return {"p": (feeds["ids"] * feeds["mask"]).sum(axis=1) + 1000.0 * feeds["scale"]}

    calls_of(portions, most, predict)
    number = 0
    for rows, portion in zip(parts, portions, strict=True):
        assert portion.is_done
        wanted = [sum(row) + 1000.0 * (number + position) for position, row in enumerate(rows)]
        number += len(rows)
        found = in_order(portion)
        assert [value for outcome in found for value in outcome.outputs["p"].tolist()] == wanted
        assert [row for outcome in found for row in outcome.rows.tolist()] == list(range(len(rows)))


@settings(max_examples=100, deadline=None)
@given(sizes=st.lists(st.integers(0, 30), max_size=6), most=st.integers(1, 40), bad=st.sets(st.integers(0, 60)))
def test_rows_on_which_the_model_fails_are_found_wherever_they_are(sizes: list[int], most: int, bad: set[int]) -> None:
    """Each row that makes any call with it fail comes back alone with its reason, every other one with its score."""
    starts = np.cumsum([0, *sizes])
    portions = [
        Portion({"x": np.arange(start, start + n)}, n, None) for start, n in zip(starts[:-1], sizes, strict=True)
    ]

    def predict(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        broken = sorted(bad & set(feeds["x"].tolist()))
        if broken:
            message = f"broken by {broken[0]}"
            raise InferenceError(message)
        return {"p": feeds["x"] * 2}

    calls_of(portions, most, predict)
    for start, portion in zip(starts[:-1], portions, strict=True):
        failed = {start + row: reason for outcome in portion.outcomes for row, reason in outcome.failed}
        rows = range(start, start + portion.rows)
        assert failed == {row: f"broken by {row}" for row in rows if row in bad}
        found = {
            start + row: value
            for outcome in in_order(portion)
            for row, value in zip(outcome.rows.tolist(), outcome.outputs["p"].tolist(), strict=True)
        }
        assert found == {row: row * 2 for row in rows if row not in bad}


def call(predict: Callable[..., Any], rows: int, size: BatchRows) -> Any:
    """One batch of so many rows."""
    batcher, portion = Batcher(), Portion({"x": np.arange(rows, dtype=np.float32)}, rows, None)
    batcher.add(portion)
    while batcher.waiting(()):
        batch = batcher.cut((), size.rows)
        batch.give_back(infer(predict, batch, size))
    [outcome] = in_order(portion)
    return outcome


@pytest.mark.parametrize("room", [1, 10, 64])
def test_out_of_memory_halves_the_call_once_and_for_all(room: int) -> None:
    """What does not fit is tried again in halves, no row is lost, the size is remembered and the halvings counted."""
    asked: list[int] = []

    def predict(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        asked.append(len(feeds["x"]))
        if len(feeds["x"]) > room:
            message = "Failed to allocate memory"
            raise OutOfMemory(message)
        return {"p": feeds["x"] + 1}

    size = BatchRows(100, most_bytes=PLENTY)
    outcome = call(predict, 1000, size)
    np.testing.assert_array_equal(outcome.outputs["p"], np.arange(1000, dtype=np.float32) + 1)
    too_many = [rows for rows in asked if rows > room]
    assert size.facts.out_of_memory == len(too_many)
    assert size.rows <= room
    # At most two ways down from 100: the second half of a batch may be tried while the first taught the size.
    assert len(too_many) <= 2 * 7
    before = len(asked)
    call(predict, 1000, size)
    assert max(asked[before:]) <= room


def test_a_call_that_was_filled_up_is_tried_with_fewer_made_up_rows() -> None:
    """Where 8 rows are too many and 3 are not, the 3 of the last call are scored, and none is blamed."""

    def predict(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if len(feeds["x"]) > 4:
            message = "Failed to allocate memory"
            raise OutOfMemory(message)
        return {"p": feeds["x"] * 2}

    size = BatchRows(8, most_bytes=PLENTY, fill=True)
    outcome = call(predict, 3, size)
    np.testing.assert_array_equal(outcome.outputs["p"], np.arange(3, dtype=np.float32) * 2)
    assert (size.rows, size.facts.out_of_memory) == (4, 1)


def test_one_row_without_room_does_not_make_calls_small_for_all() -> None:
    """Once the row is found, the next calls have as many rows as before."""
    asked = []

    def predict(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        asked.append(len(feeds["x"]))
        if 7 in feeds["x"]:
            message = "Failed to allocate memory"
            raise OutOfMemory(message)
        return {"p": feeds["x"]}

    call(predict, 640, BatchRows(64, most_bytes=PLENTY))
    assert asked[-9:] == [64] * 9


def test_a_row_that_does_not_fit_alone_is_set_aside() -> None:
    """Where one row is too much for the memory, it comes back with the reason."""

    def predict(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if 7 in feeds["x"]:
            message = "Failed to allocate memory"
            raise OutOfMemory(message)
        return {"p": feeds["x"]}

    size = BatchRows(4, most_bytes=PLENTY)
    batcher, portion = Batcher(), Portion({"x": np.arange(20)}, 20, None)
    batcher.add(portion)
    while batcher.waiting(()):
        batch = batcher.cut((), size.rows)
        batch.give_back(infer(predict, batch, size))
    assert [failed for outcome in portion.outcomes for failed in outcome.failed] == [(7, "Failed to allocate memory")]
    assert in_order(portion)[0].rows.tolist() == [row for row in range(20) if row != 7]


def test_too_few_rows_are_told_and_not_guessed() -> None:
    """A model that gives fewer rows than it was fed fails as a whole: nobody knows whose they are."""
    size = BatchRows(10, most_bytes=PLENTY)
    with pytest.raises(InferenceError, match=r"model output p has shape \[9\] for 10 rows"):
        call(lambda feeds: {"p": feeds["x"][1:]}, 10, size)


def test_a_model_of_a_fixed_number_of_rows_gets_just_that() -> None:
    """The last call is filled up with its last row, and what the model makes of that is thrown away."""

    def predict(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        assert len(feeds["x"]) == 8
        assert len(set(feeds["x"][4:].tolist())) in {1, 4}
        return {"p": feeds["x"] * 3}

    size = BatchRows("auto", most_bytes=1, fixed=8)
    np.testing.assert_array_equal(call(predict, 20, size).outputs["p"], np.arange(20, dtype=np.float32) * 3)


def test_every_call_has_one_shape_where_that_is_dear() -> None:
    """On a GPU the last call is filled up to the others' rows, and what was made up is not handed out."""
    asked = []

    def predict(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        asked.append(len(feeds["x"]))
        return {"p": feeds["x"] * 2}

    found = call(predict, 21, BatchRows(8, most_bytes=PLENTY, fill=True))
    np.testing.assert_array_equal(found.outputs["p"], np.arange(21, dtype=np.float32) * 2)
    assert asked == [8, 8, 8]


def test_bytes_bound_the_rows_of_a_call() -> None:
    """With 4 bytes in and 4 out a row, 160 bytes are 20 rows, from the second call on."""
    asked = []

    def predict(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        asked.append(len(feeds["x"]))
        return {"p": feeds["x"]}

    call(predict, 200, BatchRows(50, most_bytes=160))
    assert asked == [50, *[20] * 7, 10]


def searched(cost: Callable[[int], float], most_bytes: int = PLENTY, **facts: Any) -> BatchRows:
    """What is chosen where a call of so many rows takes so many seconds."""
    size = BatchRows("auto", most_bytes=most_bytes, **facts)
    for _ in range(100):
        size.note(size.rows, 8 * size.rows)
        size.timed(size.rows, cost(size.rows), is_whole=True)
    return size


@pytest.mark.parametrize(
    ("cost", "chosen"),
    [
        (lambda rows: 1e-3 * rows, 32),  # a heavy model: a call's own price is nothing
        (lambda rows: 5e-3 + 1e-4 * rows, 1024),  # a call of more than 0.1 s ends the search
        (lambda rows: 20e-6 + 1e-8 * rows, 16_384),  # a light one: the call's own price is all
        (lambda rows: 20e-6 + 1e-6 * rows + (1e-6 * rows if rows > 1024 else 0), 512),  # beyond the cache twice as dear
        (lambda rows: 20e-6 + 1e-6 * rows, 1024),  # within 2 % of the best from 20 µs ÷ 2 % on: 1,000 rows
    ],
)
def test_the_knee_is_found(cost: Callable[[int], float], chosen: int) -> None:
    """The smallest size within 2 % of the best is taken, and what was measured is told."""
    size = searched(cost)
    assert size.rows == chosen
    assert {int(rows) for rows in size.facts.seconds_per_row} >= {32, 64, 128}
    assert size.facts.calls == 100


def test_an_interrupted_call_does_not_mislead_the_search() -> None:
    """Of three calls of a size the median counts: one that takes 50 times as long, the first of each size, does not."""
    seen = set[int]()

    def cost(rows: int) -> float:
        slow = 1 if rows in seen else 50
        seen.add(rows)
        return (20e-6 + 1e-6 * rows) * slow

    assert searched(cost).rows == 1024


@pytest.mark.parametrize("alone", [1, 3, 5])
def test_a_neighbour_that_comes_later_does_not_mislead_the_search(alone: int) -> None:
    """Where other tasks begin to use the GPU as the search goes on, and calls take twice as long from then on, the
    sizes are compared as they are beside them.
    """  # noqa: D205  one sentence
    calls = iter(range(1000))
    found = searched(lambda rows: (1e-3 + 1e-5 * rows) * (2 if next(calls) >= alone else 1))
    assert found.rows == searched(lambda rows: 1e-3 + 1e-5 * rows).rows == 4096


def test_a_number_of_rows_that_fails_although_no_row_does_is_not_asked_again() -> None:
    """A call that fails as a whole, and no row of it alone, was too large: it is halved, remembered and counted."""
    asked: list[int] = []

    def predict(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        asked.append(len(feeds["x"]))
        if len(feeds["x"]) > 16:
            message = "CUDNN_STATUS_NOT_SUPPORTED"
            raise InferenceError(message)
        return {"p": feeds["x"]}

    size = BatchRows(40, most_bytes=PLENTY)
    outcome = call(predict, 100, size)
    assert np.array_equal(outcome.outputs["p"], np.arange(100))
    assert asked == [40, 20, 10, 10, 20, 10, 10, *[10] * 6]
    assert (size.rows, size.facts.out_of_memory) == (10, 1)


@pytest.mark.parametrize("rows", [5, 100, 1000, 1003])
@pytest.mark.parametrize("most", [1, 7, 200])
def test_made_up_rows_are_not_what_the_model_fails_on(rows: int, most: int) -> None:
    """Where calls are filled up, a number of rows that fails is found all the same: no row is to blame for it."""
    asked: list[int] = []

    def predict(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        asked.append(len(feeds["x"]))
        if len(feeds["x"]) > most:
            message = "CUDNN_STATUS_NOT_SUPPORTED"
            raise InferenceError(message)
        return {"p": feeds["x"]}

    size = BatchRows(1000, most_bytes=PLENTY, fill=True)
    for _ in range(3):
        outcome = call(predict, rows, size)
        assert np.array_equal(outcome.outputs["p"], np.arange(rows))
    assert size.rows <= max(most, 1000 // 2)


def test_a_failure_by_chance_makes_no_call_smaller() -> None:
    """Each tenth call fails and is not to blame: its rows are scored in smaller calls, and the next one is as large."""
    calls = iter(range(10_000))

    def predict(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if next(calls) % 10 == 3:
            message = "the service did not answer"
            raise InferenceError(message)
        return {"p": feeds["x"]}

    size = BatchRows(64, most_bytes=PLENTY)
    outcome = call(predict, 64 * 50, size)
    assert np.array_equal(outcome.outputs["p"], np.arange(64 * 50))
    assert (size.rows, size.facts.out_of_memory) == (64, 0)


def test_a_row_that_has_no_room_alone_does_not_end_the_search() -> None:
    """What one row alone was too much for says nothing of the number of rows: the search goes on."""

    def predict(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if 3.0 in feeds["x"]:
            message = "no memory"
            raise OutOfMemory(message)
        return {"p": feeds["x"]}

    size = BatchRows("auto", most_bytes=PLENTY)
    outcome = call(predict, 32, size)
    assert outcome.rows.size == 31
    assert (size.is_searching, size.rows) == (True, 32)


@settings(max_examples=200, deadline=None)
@given(
    data=st.data(),
    fill=st.booleans(),
    at_once=st.sampled_from([40, 100, 1000, 5000, 10**9]),
)
def test_the_search_ends_whatever_happens(data: st.DataObject, *, fill: bool, at_once: int) -> None:
    """With any times, caps that shrink, and few rows at a time, it ends within 600 calls, at a size that fits."""
    size = BatchRows("auto", most_bytes=PLENTY, fill=fill)
    noise = data.draw(st.lists(st.floats(1e-6, 10), min_size=1, max_size=20))
    shrinks = data.draw(st.dictionaries(st.integers(0, 400), st.integers(1, 20_000), max_size=8))
    waiting, calls = at_once, 0
    while size.is_searching and calls < 600:
        rows = min(size.rows, waiting)
        cap = shrinks.get(calls, 10**9)
        size.note(rows, PLENTY * rows // min(cap, PLENTY))
        size.timed(rows, noise[calls % len(noise)], is_whole=True)
        waiting = waiting - rows or at_once
        calls += 1
    assert not size.is_searching
    assert 1 <= size.rows <= (size.cap or 16_384)
    assert size.facts.rows == size.rows


def test_a_device_that_plans_anew_for_each_shape_does_not_mislead_the_search() -> None:
    """On a GPU a call that has another number of rows than the one before may take 30 ms more; it does not count."""
    last = [0]

    def cost(rows: int) -> float:
        planning, last[0] = 0.03 * (rows != last[0]), rows
        return planning + 20e-6 + 1e-6 * rows

    assert searched(cost, fill=True).rows == 1024


def test_the_search_goes_no_further_than_the_bytes_allow() -> None:
    """The cap by bytes ends the search."""
    assert searched(lambda rows: 20e-6 + 1e-8 * rows, most_bytes=8 * 100).rows <= 100
