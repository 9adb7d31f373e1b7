"""Which of several models scores a row: by a hash of its key, or by its segment. Equal keys have the same one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from etl.arrivals import entered
from etl.contract import Contract
from etl.keys import key_digests
from etl.types import kernels
from etl.xxh64 import hash_texts_under
from scoring.engine.items import Rows

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    import numpy.typing as npt

    from etl.frame import Frame
    from scoring.engine.items import Item
    from scoring.order import Order

__all__ = ["NOBODY", "Chooser"]

NOBODY = -1
"""In place of a model's number: no model is for the row."""


class Chooser:
    """Tells the model of each row, where an order's combination has models choose."""

    def __init__(self, order: Order) -> None:
        """Take the models' names, in their order."""
        assert order.combination is not None  # noqa: S101  else nobody chooses
        self._told = order.combination
        self._names = tuple(model.name for model in order.models)
        # Of the rows alone: nothing is refused here that the model's own contract would take.
        self._contract = Contract(fields=order.chosen_by)

    def choose(self, items: Iterator[Item]) -> Generator[Item]:
        """A stage: rows with the number of their model."""
        for item in items:
            if not isinstance(item, Rows):
                yield item
                continue
            chosen = None
            with item.attempt.failing(item.batch), item.attempt.clock("choose"):
                chosen = self.model_of(item.batch, item.attempt.where)
            if chosen is not None:
                yield item._replace(chosen=chosen)

    def model_of(self, batch: pa.RecordBatch, where: str) -> npt.NDArray[np.int64]:
        """The number of each row's model, or `NOBODY`; shape (rows,)."""
        frame = entered(self._contract, {}, batch, where=where)
        return self._assigned(frame) if self._told.assign_by else self._routed(frame)

    def _assigned(self, frame: Frame) -> npt.NDArray[np.int64]:
        """By where a hash of the key falls among the shares, laid one behind another over all 2^64 numbers."""
        digests = key_digests(frame, self._told.assign_by)[0]
        salt = hash_texts_under(pa.array([self._told.salt]), (0,)).reshape(-1)[0]
        mixed = _mixed(digests + salt)
        ends = np.cumsum([self._told.shares[name] for name in self._names])
        borders = np.array([min(int(end * 2**64), 2**64 - 1) for end in ends[:-1]], dtype=np.uint64)
        return np.searchsorted(borders, mixed, side="right").astype(np.int64)

    def _routed(self, frame: Frame) -> npt.NDArray[np.int64]:
        """By the value's text; a missing one is no value."""
        routes = self._told.routes or {name: name for name in self._names}
        numbers = {name: number for number, name in enumerate(self._names)}
        column = frame.arrow(self._told.chosen_by[0]).cast(pa.string())
        found = kernels.index_in(column, value_set=pa.array(list(routes), pa.string()))
        models = np.array([numbers[name] for name in routes.values()], dtype=np.int64)
        otherwise = NOBODY if self._told.otherwise is None else numbers[self._told.otherwise]
        places = found.fill_null(len(models)).to_numpy()
        chosen: npt.NDArray[np.int64] = np.append(models, otherwise)[places]
        return chosen


def _mixed(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of SplitMix64: each bit of a word changes half of the result's, so that another salt is a new draw.

    Source: G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
