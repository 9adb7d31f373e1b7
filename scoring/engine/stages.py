"""Run generators one behind another, each in a thread of its own, with bounded queues between them.

Reading waits for the disk, the model for the GPU, writing for the store: side by side, the slowest of them sets the
pace, and not their sum. All of them release the interpreter's lock while they work.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["OnWait", "Stage", "run_in_line", "run_stages"]

OnWait = Callable[[str, Any, float], None]
"""Told the name of a stage, an item, and the seconds that the stage waited to get it or to hand it on."""


class Stage(NamedTuple):
    """One step of the flow."""

    name: str
    work: Callable[[Iterator[Any]], Generator[Any]]
    """Makes the items that it hands on of those that it gets; may hold some back, and hand them on at the end."""


class _Stopped(Exception):
    """Whoever takes the items takes no more."""


class _Queue:
    """Items on their way between two threads, at most `depth` of them."""

    def __init__(self, depth: int) -> None:
        self._items: deque[Any] = deque()
        self._depth = depth
        self._changed = threading.Condition()
        self._is_stopped = False
        self._is_done = False
        self._error: BaseException | None = None

    def put(self, item: Any) -> None:
        with self._changed:
            self._changed.wait_for(lambda: len(self._items) < self._depth or self._is_stopped)
            if self._is_stopped:
                raise _Stopped
            self._items.append(item)
            self._changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """There are no more items; `error` is raised at whoever asks for one."""
        with self._changed:
            self._is_done, self._error = True, error
            self._changed.notify_all()

    def stop(self) -> None:
        """Nobody takes the items any more."""
        with self._changed:
            self._is_stopped = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Any]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._is_done or self._is_stopped)
                if self._is_stopped:
                    raise _Stopped
                if not self._items:
                    if self._error is not None:
                        raise self._error
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item


def run_stages(stages: Sequence[Stage], on_wait: OnWait, *, depth: int = 1) -> Generator[Any]:
    """What the last stage makes. The first one gets nothing; the last one runs in the caller's thread.

    An error of a stage comes out here, after all of them have ended. So have they when the caller takes no more.
    """
    queues = [_Queue(depth) for _ in stages[:-1]]
    sources: list[Iterator[Any]] = [iter(()), *(iter(queue) for queue in queues)]
    threads = [
        threading.Thread(
            target=_pump, args=(stage, source, queue), kwargs={"on_wait": on_wait}, name=f"batchscore-{stage.name}"
        )
        for stage, source, queue in zip(stages, sources, queues, strict=False)
    ]
    last = stages[-1]
    try:
        for thread in threads:
            thread.start()
        yield from last.work(_timed(last.name, sources[-1], on_wait))
    finally:
        for queue in queues:
            queue.stop()
        for thread in threads:
            if thread.is_alive():  # not if it, or one before it, could not be started
                thread.join()


def run_in_line(stages: Iterable[Stage]) -> Generator[Any]:
    """The same, all in the caller's thread: nothing waits, and nothing runs side by side."""
    items: Iterator[Any] = iter(())
    with contextlib.ExitStack() as made:
        for stage in stages:
            # Whatever ends the last one, the others end before what they work with does, and not with a traceback.
            items = made.enter_context(contextlib.closing(stage.work(items)))
        yield from items


def _pump(stage: Stage, source: Iterator[Any], sink: _Queue, *, on_wait: OnWait) -> None:
    """A stage's thread."""
    with contextlib.closing(stage.work(_timed(stage.name, source, on_wait))) as made:
        try:
            for item in made:
                start = time.perf_counter()
                sink.put(item)
                on_wait(stage.name, item, time.perf_counter() - start)
        except _Stopped:
            return
        except BaseException as error:  # noqa: BLE001  whatever it is, the caller is to get it
            sink.end(error)
        else:
            sink.end()


def _timed(name: str, source: Iterator[Any], on_wait: OnWait) -> Iterator[Any]:
    """The items, each with the time that it took to come."""
    while True:
        start = time.perf_counter()
        item = next(source, _NONE)
        if item is _NONE:
            return
        on_wait(name, item, time.perf_counter() - start)
        yield item


_NONE = object()
