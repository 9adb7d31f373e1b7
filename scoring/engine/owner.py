"""Whose rows flow by: an attempt at a split, or a stream of batches that belong to none."""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from etl.errors import BatchscoreError, note_place
from etl.runs.receipt import Tally

if TYPE_CHECKING:
    from collections.abc import Generator

    import numpy as np
    import pyarrow as pa

__all__ = ["Owner"]


class Owner(ABC):
    """All that the stages of a model know of where rows come from. What belongs to one stage belongs to one thread."""

    def __init__(self, where: str) -> None:
        """`where` is what errors call the rows."""
        self.where = where
        self.error: BatchscoreError | None = None
        """Why the rows cannot be scored: whatever else comes of them is dropped."""
        self.seconds: defaultdict[str, float] = defaultdict(float)
        """Work, by stage."""
        self.waiting: defaultdict[str, float] = defaultdict(float)
        """Waiting for rows, or for the next stage to take them, by stage."""
        self.expectations: defaultdict[str, Tally] = defaultdict(Tally)
        self.non_finite: Counter[str] = Counter()
        """Published rows with a NaN or ±inf, by column."""

    @contextlib.contextmanager
    def clock(self, stage: str) -> Generator[None]:
        """Count the time as the stage's work."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - start

    @contextlib.contextmanager
    def failing(self, batch: pa.RecordBatch | None = None) -> Generator[None]:
        """An error that another try would meet again ends what these rows are of, and nothing else of the task.

        Any other one ends the task; what it came up at is written on it, the batch where one is at work.
        """
        try:
            yield
        except BatchscoreError as error:
            self.error = self.error or error
        except Exception as error:
            note_place(error, self.place(batch) if batch is not None and batch.num_rows else self.where)
            raise

    @abstractmethod
    def place(self, batch: pa.RecordBatch, row: int | None = None) -> str:
        """Where a row of a batch is, by its position, or where the batch begins; for a message."""

    @abstractmethod
    def note_keys(self, name: str, digests: np.ndarray) -> None:
        """Digests of the keys of rows that an expectation wants to be unique."""
