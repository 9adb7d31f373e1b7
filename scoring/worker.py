"""Score splits: the data flow of a worker, in pure Arrow and numpy. It runs without Spark.

read → contract → transform → score → write → receipt
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from etl.contract import Contract
from etl.frame import Rejection
from etl.runs.receipt import WorkerFacts
from etl.runs.storage import storage_for
from scoring.code import code_digest
from scoring.engine.attempt import Attempt, receipt_of
from scoring.engine.chaining import chained_columns
from scoring.engine.choosing import Chooser
from scoring.engine.combining import FOLDERS, NO_FOLDER, combine
from scoring.engine.guarding import ALONE, Guard
from scoring.engine.items import End, Rows
from scoring.engine.modelling import ModelStages
from scoring.engine.reading import Reading, shown_fields
from scoring.engine.routing import Routing
from scoring.engine.sketching import Published
from scoring.engine.stages import Stage, run_in_line, run_stages
from scoring.predictions import Predictions
from scoring.runtimes.base import HERE
from scoring.scorer import borrowed_scorer, loads_so_far

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from concurrent.futures import Future

    import numpy.typing as npt
    import pyarrow as pa

    from etl.errors import BatchscoreError
    from etl.runs.receipt import Receipt
    from etl.runs.splits import Split
    from scoring.engine.combining import Combined
    from scoring.engine.guarding import Situation
    from scoring.engine.items import Item
    from scoring.engine.owner import Owner
    from scoring.order import ModelOrder, Order
    from scoring.runtimes.base import Placement
    from scoring.scorer import Scorer

__all__ = ["Unscored", "receipt_of", "score_split", "score_splits"]

_LINUX_RSS_UNIT = 1024
_COMMITTING = 4
"""Splits of a task that are committed at a time, while later ones are read."""


class Unscored(NamedTuple):
    """A split that cannot be scored; trying again would not help."""

    split: Split
    error: BatchscoreError


def score_split(order: Order, split: Split, placement: Placement = HERE, *, situation: Situation = ALONE) -> Receipt:
    """Score one split and commit its receipt; a split that has one is not scored again.

    To be sure that it is the driver's code that does this, call `scoring.code.check_code` first.

    Raises:
        BatchscoreError: the split cannot be scored, and trying again would not help.
    """
    [found] = score_splits(order, [split], placement, situation=situation)
    if isinstance(found, Unscored):
        raise found.error
    return found


def score_splits(
    order: Order, splits: Sequence[Split], placement: Placement = HERE, *, situation: Situation = ALONE
) -> Generator[Receipt | Unscored]:
    """Score splits, in their order, and commit the receipt of each; batches of the model cross their borders.

    Raises:
        BatchscoreError: the model cannot be loaded.
        OSError: storage failed in a way that another try may not meet.
    """
    with contextlib.closing(_Flow(order, placement, situation)) as flow:
        yield from flow.run(splits)


class _Flow:
    """A task's flow: what it scores with, and the attempts that have begun and not ended."""

    def __init__(self, order: Order, placement: Placement, situation: Situation) -> None:
        self.order = order
        self.storage, _ = storage_for(order.root)
        self.layout = order.layout
        self._placement = placement
        self._situation = situation
        self._open: dict[str, Attempt] = {}
        self._route_by = ",".join(field.name for field in order.chosen_by)
        self._borrowed = contextlib.ExitStack()

    def run(self, splits: Sequence[Split]) -> Iterator[Receipt | Unscored]:
        """Read, transform, score and write, each in a thread of its own."""
        missing = []
        for split in splits:
            receipt = receipt_of(self.storage, self.layout, split)
            if receipt is None:
                missing.append(split)
            else:
                yield receipt
        if not missing:
            return
        start = time.perf_counter()
        self.guard = Guard(self.order, self._situation, self._placement, task=splits[0].index)
        self._borrowed.callback(self.guard.close)
        self._load(self.order.models[:1] if self.order.routed else self.order.models)
        self._loading = time.perf_counter() - start
        stages = self._stages(missing)
        yield from run_stages(stages, _note_wait) if self._overlaps(missing[0]) else run_in_line(stages)
        self.guard.is_done = True

    def _overlaps(self, split: Split) -> bool:
        """Whether side by side is quicker.

        Where all stages want the task's one core it is not: a thread for each took 1.41 s of processor time for
        2,000,000 rows of a light model where one for all took 1.25 s, and 2.8 s where it took 2.3 s for a heavy one
        (local disk, 2 cores). There is something to gain where a stage waits: for a GPU, for a store.
        """
        if self.order.overlap != "auto":
            return self.order.overlap == "always"
        on_gpu = any(model.scorer.runtime.device != "cpu" for model in self.models)
        storage, path = storage_for(split.ranges[0].file.path)
        return on_gpu or self._placement.cores > 1 or storage.local_path(path) is None

    def _load(self, models: Sequence[ModelOrder]) -> None:
        order = self.order
        borrowed = [borrowed_scorer(self.storage, order, model, placement=self._placement) for model in models]
        # Until the task ends, so that none of its models makes room for another one of them.
        scorers = [self._borrowed.enter_context(scorer) for scorer in borrowed]
        names = [model.name for model in models]
        bundles = tuple(scorer.audited for scorer in scorers)
        is_private = any(field.pii for audited in bundles for field in audited.spec.input.fields)
        self.models = [
            ModelStages(
                order,
                scorer,
                number,
                chained=chained_columns(names, bundles, number),
                guard=self.guard,
                is_private=is_private,
            )
            for number, scorer in enumerate(scorers)
        ]
        self.predictions = Predictions(order, bundles)
        self.schema = self.predictions.schema
        self.shown = self._shown()

    def _stages(self, splits: list[Split]) -> list[Stage]:
        reading = Reading(self.order, () if self.order.routed else self.models)
        stages = [Stage("read", lambda _: reading.read(map(self._begin, splits)))]
        if self.order.chosen_by:
            stages.append(Stage("choose", Chooser(self.order).choose))
        if self.order.routed:
            self._routing = Routing(self.storage, self.order, self._placement, guard=self.guard)
            return [*stages, Stage("score", self._routing.score), Stage("write", self._write)]
        for model in self.models:
            stages.append(Stage(f"transform{model.suffix}", model.transform))
            stages.append(Stage(f"infer{model.suffix}", model.infer))
        return [*stages, Stage("write", self._write)]

    def _begin(self, split: Split) -> Attempt:
        attempt = Attempt(storage=self.storage, layout=self.layout, order=self.order, split=split)
        self._open[attempt.name] = attempt
        unique = [name for model in self.models for name in model.unique]
        attempt.open(published=self.schema, contract=self.shown, unique=unique)
        # To load the models is what the first split of a task took.
        attempt.seconds["load"], self._loading = self._loading, 0.0
        return attempt

    def _shown(self) -> Contract:
        """The fields by which a row that was set aside is shown."""
        if self.order.routed is not None:
            return Contract(fields=self.order.routed.shown)
        contracts = [model.scorer.pipeline.spec.input for model in self.models]
        made = {column.field.name for model in self.models for column in model.chained}
        return contracts[0] if len(contracts) == 1 else Contract(fields=shown_fields(contracts, made))

    def _write(self, items: Iterator[Item]) -> Generator[Receipt | Unscored]:
        """To make a file durable and to commit is waiting, for a disk or a store: later splits go on meanwhile."""
        ending: deque[tuple[Attempt, Future[Receipt | Unscored]]] = deque()
        with ThreadPoolExecutor(_COMMITTING, "batchscore-commit") as threads:
            for item in items:
                attempt = item.attempt
                if isinstance(item, Rows) and attempt.error is None:
                    with attempt.failing(item.batch):
                        with attempt.clock("write"):
                            published = self._publish(item)
                        self._sketch(attempt, published)
                elif isinstance(item, End):
                    ending.append((item.attempt, threads.submit(self._ended, item.attempt)))
                while len(ending) > _COMMITTING or (ending and ending[0][1].done()):
                    yield self._committed(*ending.popleft())
            while ending:
                yield self._committed(*ending.popleft())

    def _committed(self, attempt: Attempt, ended: Future[Receipt | Unscored]) -> Receipt | Unscored:
        found = ended.result()
        del self._open[attempt.name]
        return found

    def _sketch(self, attempt: Owner, published: Published | None) -> None:
        assert isinstance(attempt, Attempt)  # noqa: S101  the rows of a split
        if attempt.sketcher is not None and published is not None:
            with attempt.clock("sketch"):
                attempt.sketcher.take(published)

    def _publish(self, item: Rows) -> Published | None:
        attempt = item.attempt
        assert isinstance(attempt, Attempt)  # noqa: S101  the rows of a split
        combined, rows = self._combined(item, attempt)
        hashes = attempt.hashes(item.batch)
        if combined.filtered.size:
            attempt.count("write", "filtered", hashes[combined.filtered])
        if combined.rejections:
            attempt.set_aside(item.batch, combined.rejections)
        published = None
        if rows is not None:
            if attempt.sketcher is not None:
                published = Published(rows, item.results, self.predictions.positions(combined), hashes)
            attempt.publish(rows)
            attempt.count("write", "scored", _of(hashes, self._published(combined)))
            if self.order.combination is not None:
                for model, rows in zip(self.order.models, combined.by_model, strict=True):
                    if rows.size:
                        attempt.count_model(model.name, _of(hashes, rows))
                attempt.unscored.update(combined.unscored)
        return published

    def _combined(self, item: Rows, attempt: Attempt) -> tuple[Combined, pa.RecordBatch | None]:
        """What becomes of the rows of a batch, and the predictions."""
        combined = combine(item, self.order.models, self._route_by)
        if not combined.scored.size:
            return combined, None
        rows = self.predictions.batch(item.results, combined, self.schema)
        positions = self.predictions.positions(combined)
        unplaceable = [
            Rejection(np.unique(positions[bad]), "NO_FOLDER", FOLDERS, column, NO_FOLDER)
            for column, bad in attempt.unplaceable(rows)
        ]
        if not unplaceable:
            return combined, rows
        combined = combine(item, self.order.models, self._route_by, unplaceable=unplaceable)
        is_empty = not combined.scored.size
        return combined, None if is_empty else self.predictions.batch(item.results, combined, self.schema)

    def _published(self, combined: Combined) -> npt.NDArray[np.int64]:
        """The rows that are in the file: of a column `variant`, those of which some model has a score."""
        if not self.predictions.is_variant:
            return combined.scored
        return np.unique(np.concatenate(combined.by_model))

    def _ended(self, attempt: Attempt) -> Receipt | Unscored:
        if attempt.error is None:
            callers = [self._routing] if self.order.routed else self.models
            batches = {name: facts for caller in callers for name, facts in caller.facts().items()}
            with attempt.failing():
                return attempt.finish(_facts(self.models[0].scorer, self._placement, self._situation), batches)
        attempt.abort()
        assert attempt.error is not None  # noqa: S101  either it was there, or `finish` failed
        return Unscored(attempt.split, attempt.error)

    def close(self) -> None:
        """Throw away what was begun and did not end, and give the models back."""
        with self._borrowed:
            for attempt in self._open.values():
                attempt.abort()


def _of(hashes: npt.NDArray[np.uint64], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    return hashes if rows.size == hashes.size else hashes[rows]


def _note_wait(stage: str, item: Item, seconds: float) -> None:
    item.attempt.waiting[stage] += seconds


def _facts(scorer: Scorer, placement: Placement, situation: Situation) -> WorkerFacts:
    found, runtime = scorer.deviation, scorer.runtime
    return WorkerFacts(
        host=socket.gethostname(),
        pid=os.getpid(),
        code=code_digest(),
        provider=runtime.provider,
        device_id=None if runtime.device == "cpu" else placement.device_id or 0,
        fell_back=runtime.fell_back,
        operators=dict(runtime.operators),
        profile=runtime.end_profile(),
        task_try=situation.tries_before,
        loads=loads_so_far(),
        peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _LINUX_RSS_UNIT,
        golden_features_ulp=None if found is None else found.features_ulp,
        golden_outputs_abs=None if found is None else found.outputs_abs,
    )
