"""What a process keeps loaded: made once by key, bounded by bytes, closed when it has to go, never shared by a fork.

A session that is made and ended again and again does not give all its memory back (onnxruntime issue 26831), so what is
kept is only removed to make room for what has not been loaded yet, and never while somebody uses it.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Hashable

__all__ = ["Loaded", "Resident"]

T = TypeVar("T")


class Loaded(NamedTuple, Generic[T]):
    """Something that was loaded."""

    value: T
    bytes: int
    """What it takes of the process's memory, about."""
    close: Callable[[], None]
    """Gives that back."""


@dataclass(eq=False)
class _Kept(Generic[T]):
    loaded: Loaded[T]
    users: set[object] = field(default_factory=set)
    """Who borrowed it and has not given it back."""
    was_given: bool = False
    """Somebody may have it of whom it is not known when he is done: it is closed by who lets go of it last."""


class Resident(Generic[T]):
    """Loaded things by key; what was used longest ago goes first. Threads that ask for one at once get one."""

    def __init__(self, budget: Callable[[], int]) -> None:
        """`budget` gives the bytes that may be kept, and is asked before each load."""
        self._budget = budget
        self._kept: OrderedDict[Hashable, _Kept[T]] = OrderedDict()
        self._lock = threading.Lock()
        self.loads = 0
        """How many times something was loaded."""

    @property
    def bytes(self) -> int:
        """What is kept takes so much, about; more than the budget where what is in use does."""
        return sum(kept.loaded.bytes for kept in self._kept.copy().values())

    def __len__(self) -> int:
        """How many things are kept."""
        return len(self._kept)

    def get(self, key: Hashable, load: Callable[[], Loaded[T]]) -> T:
        """What is kept under a key, or is loaded now. It may be used as long as there is a reference to it."""
        with self._lock:
            kept = self._found(key, load)
            kept.was_given = True
            return kept.loaded.value

    @contextlib.contextmanager
    def borrow(self, key: Hashable, load: Callable[[], Loaded[T]]) -> Generator[T]:
        """The same, for the length of a block, in which it is not removed."""
        user = object()
        with self._lock:
            kept = self._found(key, load)
            kept.users.add(user)
        try:
            yield kept.loaded.value
        finally:
            # Without the lock, which another thread may hold for as long as a load takes.
            kept.users.discard(user)

    def _found(self, key: Hashable, load: Callable[[], Loaded[T]]) -> _Kept[T]:
        if key not in self._kept:
            budget = self._budget()
            # What was too much while it was in use goes first, so that less is there at once.
            self._shrink(budget)
            loaded = load()
            self.loads += 1
            self._shrink(budget - loaded.bytes)
            self._kept[key] = _Kept(loaded)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _shrink(self, budget: int) -> None:
        """Remove what nobody uses until the rest takes no more than this; one that is larger than all stays alone."""
        total = self.bytes
        for key in [key for key, kept in self._kept.items() if not kept.users]:
            if total <= budget:
                return
            kept = self._kept.pop(key)
            total -= kept.loaded.bytes
            if not kept.was_given:
                kept.loaded.close()
