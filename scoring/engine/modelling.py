"""The stages of one model: contract and steps make its tensors, the model scores them, its outputs become columns."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from etl.errors import ContractError, TransformError, note_place
from etl.expectations import unique_columns
from etl.frame import Rejection
from etl.keys import key_digests
from etl.runs.read import ROW
from scoring.engine.attempt import Attempt
from scoring.engine.batch_rows import BatchRows
from scoring.engine.batching import Batcher, Outcome, Portion, in_order
from scoring.engine.breadcrumbs import RowRange
from scoring.engine.calling import Calls
from scoring.engine.chaining import with_chained
from scoring.engine.inference import infer
from scoring.engine.items import Fed, Result, Rows
from scoring.errors import InferenceError
from scoring.outputs.mapping import map_outputs, tensors_of

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Generator, Iterator

    import numpy.typing as npt

    from etl.frame import Frame
    from etl.pipeline import Features
    from etl.runs.receipt import BatchFacts
    from etl.types import ArrowArray
    from scoring.engine.batching import Lengths, ModelBatch, Part
    from scoring.engine.calling import Called
    from scoring.engine.chaining import Chained
    from scoring.engine.guarding import Guard
    from scoring.engine.inference import Predict
    from scoring.engine.items import Item
    from scoring.engine.owner import Owner
    from scoring.order import Order
    from scoring.scorer import Scorer

__all__ = ["ModelStages", "expectation_id"]

_REASON_CHARS = 1024


class _Waiting(NamedTuple):
    """An item in its place behind others whose rows are with the model."""

    item: Item
    portion: Portion | None


class ModelStages:
    """What one model does to the rows that flow by."""

    def __init__(
        self,
        order: Order,
        scorer: Scorer,
        number: int = 0,
        *,
        chained: tuple[Chained, ...] = (),
        guard: Guard | None = None,
        is_private: bool = False,
    ) -> None:
        """`number` is the model's among those of the order, `chained` what it reads of those before it.

        Without a guard the model is called in this process, whatever comes of that. `is_private` says that some model's
        contract knows personal data, which this one may read under another word.
        """
        self.scorer = scorer
        self._guard = guard
        self.name = order.models[number].name
        self.suffix = f" {self.name}" if self.name else ""
        self._number = number
        self.chained = chained
        self._order = order
        unique = unique_columns(scorer.pipeline.spec.expectations)
        self.unique = {expectation_id(self.name, name): columns for name, columns in unique.items()}
        """The columns of each `unique` expectation, by its id among those of all models."""
        self._columns = scorer.audited.bundle.columns
        self._names = tensors_of(self._columns)
        self._held = 2 * order.rows_at_once
        self._is_private = is_private or any(field.pii for field in scorer.pipeline.spec.input.fields)
        self._counted = {key: (size.facts.calls, size.facts.out_of_memory) for key, size in scorer.sizes.copy().items()}
        """What was told already of the calls of a model that earlier tasks have called, too."""
        self._telling = threading.Lock()

    def transform(self, items: Iterator[Item]) -> Generator[Item]:
        """From rows to tensors."""
        for item in items:
            if not isinstance(item, Rows):
                yield item
                continue
            fed = None
            with item.attempt.failing(item.batch), item.attempt.clock(f"transform{self.suffix}"):
                fed = self._fed(item)
            if fed is not None:
                yield fed

    def _fed(self, item: Rows) -> Fed:
        attempt = item.attempt
        given = None if item.chosen is None else np.flatnonzero(item.chosen == self._number)
        batch = with_chained(item.batch, self.chained, item.results)
        if given is not None:
            batch = batch.take(pa.array(given))
        frame = self._framed(batch, attempt)
        features = self._features(batch, attempt, frame)
        for name, tally in features.tallies.items():
            attempt.expectations[expectation_id(self.name, name)] += tally
        for name, columns in self.unique.items():
            digests = key_digests(frame, columns)
            attempt.note_keys(name, digests if features.kept is None else digests[:, features.kept])
        return Fed(item, given, frame, features)

    def _framed(self, batch: pa.RecordBatch, attempt: Owner) -> Frame:
        try:
            return self.scorer.pipeline.contract(batch, attempt.where)
        except ContractError as error:
            if error.row is None:
                raise
            told = str(error).removeprefix(f"{attempt.where}: ")
            raise ContractError(f"{attempt.place(batch, error.row)}: {told}") from error

    def _features(self, batch: pa.RecordBatch, attempt: Owner, frame: Frame) -> Features:
        try:
            return self.scorer.pipeline.transform(frame)
        except TransformError as error:
            raise TransformError(f"{attempt.place(batch, error.row)}: {error}") from error

    def infer(self, items: Iterator[Item]) -> Generator[Item]:
        """From tensors to scores, call by call, in the order in which the rows came."""
        batcher, waiting = Batcher(), deque[_Waiting]()
        with contextlib.closing(Calls(self._run, has_own_device=self.scorer.runtime.device != "cpu")) as calls:
            for item in items:
                portion = self._portion(item) if isinstance(item, Fed) else None
                waiting.append(_Waiting(item, portion))
                if portion is not None:
                    batcher.add(portion)
                for lengths in batcher.lengths:
                    while batcher.waiting(lengths) >= self._size(lengths).rows:
                        self._call(calls, batcher, lengths)
                held = sum(behind.portion.rows for behind in waiting if behind.portion is not None)
                if held - calls.rows_going > self._held:
                    self._flush(calls, batcher)
                yield from self._finished(waiting)
            self._flush(calls, batcher)
            for called in calls.rest():
                self._take(called)
            yield from self._finished(waiting)

    def score(self, item: Rows) -> Result:
        """The rows at once, in batches of their own."""
        with item.attempt.clock("transform"):
            fed = self._fed(item)
            portion, batcher = self._portion(fed), Batcher()
            batcher.add(portion)
        self._flush(Calls(self._run, has_own_device=False), batcher)
        with item.attempt.clock("infer"):
            return self._result(fed, portion)

    def _portion(self, item: Fed) -> Portion:
        features = item.features
        rows = item.frame.rows if features.kept is None else features.kept.size
        return Portion(features.tensors, rows, item.attempt, numbers=None if self._guard is None else _numbers(item))

    def _size(self, lengths: Lengths) -> BatchRows:
        """How many rows a call gets that is padded to these lengths; found once for a loaded model."""
        key = (self._order.batch_rows, self._order.batch_bytes, lengths)
        if key not in self.scorer.sizes:
            self.scorer.sizes[key] = BatchRows(
                self._order.batch_rows,
                most_bytes=self._order.batch_bytes,
                fixed=self.scorer.audited.bundle.signature.fixed_rows,
                fill=self.scorer.runtime.device != "cpu",
            )
        return self.scorer.sizes[key]

    def facts(self) -> dict[str, BatchFacts]:
        """How the model was called since this was last asked, by its name and the lengths that rows were padded to."""
        found = {}
        with self._telling:
            for key, size in self.scorer.sizes.copy().items():
                rows, nbytes, lengths = key
                if (rows, nbytes) == (self._order.batch_rows, self._order.batch_bytes):
                    facts = size.facts
                    calls, out_of_memory = self._counted.get(key, (0, 0))
                    self._counted[key] = (facts.calls, facts.out_of_memory)
                    fresh = {"calls": facts.calls - calls, "out_of_memory": facts.out_of_memory - out_of_memory}
                    padded = f"[{', '.join(map(str, lengths))}]" if lengths else ""
                    found[f"{self.name}{padded}"] = facts.model_copy(update=fresh)
        return found

    def _flush(self, calls: Calls, batcher: Batcher) -> None:
        for lengths in batcher.lengths:
            while batcher.waiting(lengths):
                self._call(calls, batcher, lengths)

    def _call(self, calls: Calls, batcher: Batcher, lengths: Lengths) -> None:
        for called in calls.call(functools.partial(batcher.cut, lengths), self._size(lengths)):
            self._take(called)

    def _run(self, batch: ModelBatch, size: BatchRows) -> Outcome | InferenceError:
        try:
            # A runtime is for one thread at a time, and another stage or caller may have the same model.
            with self.scorer.lock:
                return infer(self._predict(batch), batch, size)
        except InferenceError as error:
            return error
        except Exception as error:
            note_place(error, batch.parts[0].portion.owner.where)
            raise

    def _take(self, called: Called) -> None:
        """Hand back what came of a call, to those whose rows they were."""
        batch, size, outcome, seconds = called
        attempts = [part.portion.owner for part in batch.parts]
        if isinstance(outcome, InferenceError):
            for attempt in attempts:
                attempt.error = attempt.error or outcome
            outcome = Outcome(np.empty(0, np.int64), {})
        batch.give_back(outcome)
        size.timed(batch.rows, seconds, is_whole=outcome.rows.size == batch.rows)
        for part, attempt in zip(batch.parts, attempts, strict=True):
            attempt.seconds[f"infer{self.suffix}"] += seconds * part.size / batch.rows

    def _predict(self, batch: ModelBatch) -> Predict:
        """How to call the model with this batch."""
        runtime = self.scorer.runtime
        if self._guard is None:
            return lambda feeds: runtime.predict(feeds, self._names)
        rows = [_range(part) for part in batch.parts]
        if self._guard.suspects.among(rows):
            for part in batch.parts:
                part.portion.owner.contained_rows[self.name] += part.size
        return self._guard.predict(runtime, self._order.models[self._number], rows, names=self._names)

    def _finished(self, waiting: deque[_Waiting]) -> Iterator[Item]:
        while waiting and (waiting[0].portion is None or waiting[0].portion.is_done):
            item, portion = waiting.popleft()
            if portion is None:
                yield item
                continue
            assert isinstance(item, Fed)  # noqa: S101  it has a portion
            if item.attempt.error is not None:
                continue
            result = None
            with item.attempt.failing(item.before.batch), item.attempt.clock(f"infer{self.suffix}"):
                result = self._result(item, portion)
            if result is not None:
                yield item.before._replace(results=(*item.before.results, result))

    def _result(self, item: Fed, portion: Portion) -> Result:
        """Columns of the rows that were scored; the others with the reason why not."""
        kept = item.features.kept if item.features.kept is not None else np.arange(item.frame.rows)
        filtered, rejections = item.features.filtered, list(item.features.rejections)
        if item.given is not None:
            kept, filtered = item.given[kept], item.given[filtered]
            rejections = [rejection._replace(rows=item.given[rejection.rows]) for rejection in rejections]
        rows: list[npt.NDArray[np.int64]] = []
        arrays: list[list[ArrowArray]] = []
        for outcome in in_order(portion):
            scored, columns, refused = self._mapped(outcome, kept, item.attempt.non_finite)
            rows.append(scored)
            arrays.append(columns)
            rejections.extend(refused)
        rejections.extend(
            Rejection(kept[[row]], "MODEL_FAILED", "", "", self._shown(reason))
            for outcome in portion.outcomes
            for row, reason in outcome.failed
        )
        scored, columns = _together(rows, arrays)
        return Result(item.frame, item.given, scored, columns, rejections, filtered)

    def _mapped(
        self, outcome: Outcome, kept: npt.NDArray[np.int64], non_finite: Counter[str]
    ) -> tuple[npt.NDArray[np.int64], list[ArrowArray], list[Rejection]]:
        """The columns of one outcome, without the rows of which a column cannot hold an output."""
        rows = kept[outcome.rows]
        mapped = map_outputs(self._columns, self.scorer.audited.bundle.signature, outcome.outputs, rows=rows.size)
        prefix = f"{self.name}_" if self.name else ""
        non_finite.update({f"{prefix}{column}": rows for column, rows in mapped.non_finite.items()})
        if not mapped.refused:
            return rows, mapped.arrays, []
        bad = np.zeros(rows.size, dtype=bool)
        rejections = []
        for refused in mapped.refused:
            fresh = refused.mask & ~bad
            bad |= fresh
            if fresh.any():
                rejections.append(Rejection(rows[fresh], refused.code, "", refused.column, refused.message))
        good: Any = ~bad
        return rows[good], [column.filter(good) for column in mapped.arrays], rejections

    def _shown(self, reason: str) -> str:
        """A runtime shows the value that it stumbled over."""
        if self._is_private:
            return "the model failed; its reason may show personal data"
        return reason[:_REASON_CHARS]


def _numbers(item: Fed) -> npt.NDArray[np.int64]:
    """Places of the rows that the model gets."""
    numbers: npt.NDArray[np.int64] = item.before.batch.column(ROW).to_numpy()
    for positions in (item.given, item.features.kept):
        if positions is not None:
            numbers = numbers[positions]
    return numbers


def _range(part: Part) -> RowRange:
    """Where the rows of a part lie in their split. They are in its order."""
    first, last = part.ends
    numbers, attempt = part.portion.numbers, part.portion.owner
    assert isinstance(attempt, Attempt)  # noqa: S101  only splits are guarded
    return RowRange(attempt.split.index, int(numbers[first]), int(numbers[last]))


def expectation_id(model: str, name: str) -> str:
    """The id of an expectation of a model's spec, among those of several models."""
    return f"{model}.{name}" if model else name


def _together(
    rows: list[npt.NDArray[np.int64]], arrays: list[list[ArrowArray]]
) -> tuple[npt.NDArray[np.int64], list[ArrowArray]]:
    """One run of rows in their order."""
    if not rows:
        return np.empty(0, np.int64), []
    if len(rows) == 1:
        return rows[0], arrays[0]
    order = np.argsort(np.concatenate(rows), kind="stable")
    joined = [pa.concat_arrays(parts).take(pa.array(order)) for parts in zip(*arrays, strict=True)]
    return np.concatenate(rows)[order], joined
