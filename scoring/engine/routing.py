"""Each row to the model of its segment. Each of them is loaded when its rows come, and kept if it can."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np

from etl.arrivals import check_entry
from scoring.engine.items import Rows
from scoring.engine.modelling import ModelStages
from scoring.scorer import borrowed_scorer

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    import pyarrow as pa

    from etl.runs.receipt import BatchFacts
    from etl.runs.storage import Storage
    from scoring.engine.guarding import Guard
    from scoring.engine.items import Item, Result
    from scoring.order import Order
    from scoring.runtimes.base import Placement

__all__ = ["Routing"]


class Routing:
    """The one stage of models that each score their own rows. A model's rows of one batch are its batch."""

    def __init__(self, storage: Storage, order: Order, placement: Placement, *, guard: Guard) -> None:
        """Nothing is loaded yet."""
        self._storage = storage
        self._order = order
        self._placement = placement
        self._guard = guard
        routed = order.routed
        self._is_private = routed is not None and any(field.pii for field in routed.shown)
        self._checked: dict[int, pa.Schema] = {}
        self._facts: dict[str, BatchFacts] = {}

    def score(self, items: Iterator[Item]) -> Generator[Item]:
        """From rows to scores; there is no result of a model that had no row."""
        for item in items:
            if not isinstance(item, Rows):
                yield item
                continue
            scored = None
            with item.attempt.failing(item.batch):
                scored = item._replace(results=self._results(item))
            if scored is not None:
                yield scored

    def _results(self, item: Rows) -> tuple[Result | None, ...]:
        assert item.chosen is not None  # noqa: S101  the stage before chose
        results: list[Result | None] = [None] * len(self._order.models)
        for number in np.unique(item.chosen[item.chosen >= 0]).tolist():
            with contextlib.ExitStack() as stack:
                model = self._order.models[number]
                borrowed = borrowed_scorer(self._storage, self._order, model, placement=self._placement)
                with item.attempt.clock("load"):
                    scorer = stack.enter_context(borrowed)
                    stages = ModelStages(self._order, scorer, number, guard=self._guard, is_private=self._is_private)
                self._check(stages, number, item)
                results[number] = stages.score(item)
                self._count(stages.facts())
        return tuple(results)

    def _check(self, stages: ModelStages, number: int, item: Rows) -> None:
        """See that the model can read what was read: again where the columns are others than when it was last used."""
        schema = item.batch.schema
        if number not in self._checked or not schema.equals(self._checked[number], check_metadata=True):
            pipeline, where = stages.scorer.pipeline, item.attempt.place(item.batch)
            check_entry(pipeline.spec, schema, where, others=schema.names, moved=pipeline.moved)
            self._checked[number] = schema

    def _count(self, told: dict[str, BatchFacts]) -> None:
        for name, facts in told.items():
            before = self._facts.get(name)
            calls = facts.calls + (before.calls if before else 0)
            out_of_memory = facts.out_of_memory + (before.out_of_memory if before else 0)
            self._facts[name] = facts.model_copy(update={"calls": calls, "out_of_memory": out_of_memory})

    def facts(self) -> dict[str, BatchFacts]:
        """How the models were called since this was last asked."""
        told, self._facts = self._facts, {}
        return told
