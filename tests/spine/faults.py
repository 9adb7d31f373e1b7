"""A store that fails at a chosen call, before or after it did what it was asked."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from etl.runs.storage import Storage


class Died(BaseException):
    """The process is gone: nothing of ours may catch it."""


class FaultyStore:
    """Another store, that raises at its k-th call of any operation, counted over all threads."""

    def __init__(self, inner: Storage, fault: Callable[[], BaseException], *, at: int = -1, is_applied: bool = False):
        """Fail at call `at`, from 0; `is_applied`: after the operation, as when only the answer is lost."""
        self.calls: list[str] = []
        self._inner = inner
        self._fault = fault
        self._at = at
        self._is_applied = is_applied
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self._inner, name)

        def call(*arguments: Any) -> Any:
            with self._lock:
                number = len(self.calls)
                self.calls.append(name)
            if number != self._at:
                return operation(*arguments)
            if self._is_applied:
                operation(*arguments)
            raise self._fault()

        return call
