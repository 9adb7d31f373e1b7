"""Stages that overlap: what flows, what is waited for, and how everything ends."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.engine.stages import Stage, run_stages

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator


def source(items: list[int]) -> Stage:
    """A first stage that hands on these items."""
    return Stage("read", lambda _: (item for item in items))


def each(name: str, work: Callable[[int], Any]) -> Stage:
    """A stage that does something to each item."""
    return Stage(name, lambda items: (work(item) for item in items))


def ignore(_stage: str, _item: Any, _seconds: float) -> None:
    """Waiting is not looked at."""


def names() -> set[str]:
    """The stages' threads that are alive."""
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("batchscore-")}


@settings(max_examples=50, deadline=None)
@given(items=st.lists(st.integers(), max_size=30), depth=st.integers(1, 3), keep=st.integers(1, 4))
def test_items_come_out_in_their_order(items: list[int], depth: int, keep: int) -> None:
    """Whatever the depth of the queues, and whatever a stage holds back until the end, no item is lost or overtakes."""

    def hold(arriving: Iterator[int]) -> Generator[int]:
        held: list[int] = []
        for item in arriving:
            held.append(item)
            if len(held) > keep:
                yield held.pop(0)
        yield from held

    stages = [
        source(items),
        each("double", lambda item: item * 2),
        Stage("hold", hold),
        each("write", lambda item: item + 1),
    ]
    assert list(run_stages(stages, ignore, depth=depth)) == [item * 2 + 1 for item in items]
    assert not names()


def test_stages_run_at_the_same_time() -> None:
    """Three stages that need each other's next item at once get by: they run side by side, not in turn."""
    meeting = threading.Barrier(3, timeout=20)

    def paused(item: int, wanted: int) -> int:
        if item == wanted:
            meeting.wait()
        return item

    stages = [
        Stage("read", lambda _: (paused(item, 2) for item in range(6))),
        each("infer", lambda item: paused(item, 1)),
        each("write", lambda item: paused(item, 0)),
    ]
    assert list(run_stages(stages, ignore)) == list(range(6))


def test_no_more_items_are_on_their_way_than_the_queues_hold() -> None:
    """A slow last stage stops the first one: memory does not grow with the input."""
    made = Counter[str]()
    ahead = []

    def read(_: Iterator[int]) -> Generator[int]:
        for item in range(20):
            made["read"] += 1
            yield item

    def write(item: int) -> int:
        time.sleep(0.002)
        made["written"] += 1
        ahead.append(made["read"] - made["written"])
        return item

    list(run_stages([Stage("read", read), each("infer", lambda item: item), each("write", write)], ignore, depth=1))
    # One in each of two queues, one in the hands of each of two stages before the last.
    assert max(ahead) <= 4


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_an_error_of_any_stage_comes_out_and_ends_the_others(broken: int) -> None:
    """The caller gets the error itself, and no thread is left."""
    closed = []

    def stage(number: int) -> Callable[[Iterator[int]], Generator[int]]:
        def work(items: Iterator[int]) -> Generator[int]:
            try:
                for item in items if number else range(50):
                    if number == broken and item == 7:
                        message = f"stage {number}"
                        raise OSError(message)
                    yield item
            finally:
                closed.append(number)

        return work

    with pytest.raises(OSError, match=f"stage {broken}"):
        list(run_stages([Stage(str(number), stage(number)) for number in range(3)], ignore))
    assert not names()
    assert sorted(closed) == [0, 1, 2]


def test_a_caller_who_takes_no_more_ends_the_stages() -> None:
    """An endless source stops when the generator is closed."""
    endless = iter(int, 1)
    flow = run_stages([Stage("read", lambda _: (item for item in endless)), each("write", lambda item: item)], ignore)
    assert next(flow) == 0
    flow.close()
    assert not names()


def test_waiting_is_told_of_the_stage_that_waits() -> None:
    """Where reading is slow the others wait for it, and where writing is slow reading waits to hand on."""

    def waits(slow: str) -> dict[str, float]:
        found: Counter[str] = Counter()

        def note(stage: str, _item: int, seconds: float) -> None:
            found[stage] += seconds  # type: ignore[assignment]  # a counter of seconds

        def work(name: str, item: int) -> int:
            time.sleep(0.02 if name == slow else 0)
            return item

        stages = [
            Stage("read", lambda _: (work("read", item) for item in range(10))),
            each("infer", lambda item: work("infer", item)),
            each("write", lambda item: work("write", item)),
        ]
        list(run_stages(stages, note))
        return dict(found)

    slow_reader, slow_writer = waits("read"), waits("write")
    assert slow_reader["infer"] > 0.1 > slow_reader["read"]
    assert slow_reader["write"] > 0.1
    assert slow_writer["read"] > 0.1 > slow_writer["write"]


def test_a_thread_that_cannot_be_started_ends_those_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the host has no room for one more thread, that error comes out, and no thread of ours waits for ever."""
    start = threading.Thread.start

    def most_of_them(thread: threading.Thread) -> None:
        if thread.name == "batchscore-last":
            message = "can't start new thread"
            raise RuntimeError(message)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", most_of_them)
    stages = [source(list(range(9))), each("middle", abs), each("last", abs), each("write", abs)]
    with pytest.raises(RuntimeError, match="can't start new thread"):
        list(run_stages(stages, ignore))
    assert not names()
