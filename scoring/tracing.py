"""One row through every step, with all that it becomes on the way: the worker's own stages, one model after the other.

What is traced is what a run does to the row: the stages are those of `scoring.worker`, and only watched. It runs on the
CPU, wherever the run did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from etl.arrivals import ORIGIN, check_entry
from etl.errors import ContractError
from etl.frame import Rejection
from etl.plain import plain_values
from etl.runs.partitions import Partitioning
from scoring.engine.chaining import chained_columns, with_chained
from scoring.engine.choosing import Chooser
from scoring.engine.combining import FOLDERS, NO_FOLDER, combine
from scoring.engine.items import Fed, Rows
from scoring.engine.modelling import ModelStages
from scoring.engine.owner import Owner
from scoring.predictions import Predictions
from scoring.runtimes.base import Runtime
from scoring.scorer import load_scorer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy.typing as npt
    import pyarrow as pa

    from etl.errors import BatchscoreError
    from etl.frame import Frame
    from etl.runs.storage import Storage
    from etl.spec import Spec
    from scoring.bundles.bundle import AuditedBundle
    from scoring.engine.items import Result
    from scoring.order import ModelOrder, Order
    from scoring.scorer import Scorer

__all__ = ["Made", "ModelTrace", "RowTrace", "Scorers", "Value", "private_columns"]


class Value(NamedTuple):
    """One value of the row."""

    name: str
    type: str
    value: Any
    """As JSON knows it."""
    is_private: bool
    """Whether it is personal data, or made of such."""


class Made(NamedTuple):
    """What one step made of the row."""

    step: str
    """Id of the step; `contract` for the columns as the contract hands them on."""
    op: str
    columns: tuple[Value, ...]


class ModelTrace(NamedTuple):
    """What one model made of the row."""

    name: str
    """Its name among the models of the job; empty where it is the only one."""
    version: str
    provider: str
    """What ran it here."""
    steps: tuple[Made, ...]
    """The contract first; none where contract or steps failed."""
    tensors: tuple[Value, ...]
    """What the model was fed; nothing where it was not asked."""
    outputs: tuple[Value, ...]
    """What it gave, of that only what columns are made of."""


class RowTrace(NamedTuple):
    """What became of the row."""

    models: tuple[ModelTrace, ...]
    """Those that the row was given to."""
    outcome: Literal["scored", "quarantined", "filtered", "failed"]
    rejection: Rejection | None
    """Why it was set aside."""
    error: BatchscoreError | None
    """Why the split of such a row fails, where a rule says `fail`."""
    published: pa.RecordBatch | None
    """The columns that are published of it: a row, or one a model that scored it."""


class _Row(Owner):
    """The row belongs to no attempt."""

    def place(self, batch: pa.RecordBatch, row: int | None = None) -> str:  # noqa: ARG002  there is one
        return self.where

    def note_keys(self, name: str, digests: np.ndarray) -> None:
        """Whether a key is unique nobody can tell of one row."""


class _Watched(Runtime):
    """A runtime that keeps what its last call took and gave."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.signature, self.device, self.provider = runtime.signature, runtime.device, runtime.provider
        self.fell_back, self.operators = runtime.fell_back, runtime.operators
        self.feeds: dict[str, np.ndarray] = {}
        self.outputs: dict[str, np.ndarray] = {}

    def predict(self, feeds: Mapping[str, np.ndarray], names: Iterable[str] = ()) -> dict[str, np.ndarray]:
        self.feeds, self.outputs = dict(feeds), {}
        self.outputs = self._runtime.predict(feeds, names)
        return self.outputs

    def warm_up(self) -> None:
        self._runtime.warm_up()

    def end_profile(self) -> str | None:
        return self._runtime.end_profile()

    def close(self) -> None:
        self._runtime.close()


class Scorers:
    """The models of an order, as a run keeps them, loaded to trace rows."""

    def __init__(self, storage: Storage, order: Order) -> None:
        """Nothing is loaded yet."""
        self._storage = storage
        self.order = order.model_copy(update={"models": tuple(map(_on_cpu, order.models))})
        self._loaded: dict[int, Scorer] = {}

    def close(self) -> None:
        """Free the models."""
        for scorer in self._loaded.values():
            scorer.runtime.close()

    def of(self, number: int) -> Scorer:
        """The scorer of the model of this number.

        Raises:
            BatchscoreError: it cannot be loaded here.
        """
        if number not in self._loaded:
            self._loaded[number] = load_scorer(self._storage, self.order, self.order.models[number])
        return self._loaded[number]

    @property
    def loaded(self) -> dict[int, AuditedBundle]:
        """The bundles that were loaded, by the number of the model."""
        return {number: scorer.audited for number, scorer in sorted(self._loaded.items())}

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the input that are read, as a worker reads them."""
        order = self.order
        wanted: list[str] = list(order.routed.columns) if order.routed is not None else []
        for number in range(len(order.models)) if order.routed is None else ():
            made = {column.field.name for column in chained_columns(self._names, self._bundles, number)}
            wanted += [name for name in self.of(number).pipeline.columns if name not in made]
        chosen_by = [field.name for field in order.chosen_by]
        return tuple(dict.fromkeys([*wanted, *chosen_by, *([ORIGIN] if order.sources else [])]))

    @property
    def _names(self) -> list[str]:
        return [model.name for model in self.order.models]

    @property
    def _bundles(self) -> tuple[AuditedBundle, ...]:
        return tuple(self.of(number).audited for number in range(len(self.order.models)))

    def private(self) -> frozenset[str]:
        """Input columns that some loaded model's contract calls personal, or what workers show of rows does."""
        shown = self.order.routed.shown if self.order.routed is not None else ()
        named = {field.name for field in (*shown, *self.order.carried, *self.order.chosen_by) if field.pii}
        return frozenset(named.union(*(private_columns(one.spec) for one in self.loaded.values())))

    def trace(self, batch: pa.RecordBatch, where: str) -> RowTrace:
        """What becomes of a batch of one row, which has the columns above and `ROW`."""
        owner = _Row(where)
        try:
            chosen = Chooser(self.order).model_of(batch, where) if self.order.chosen_by else None
        except ContractError as error:
            return RowTrace((), "failed", None, error, None)
        item, traces = Rows(owner, batch, (), chosen), []
        for number in range(len(self.order.models)):
            is_given = chosen is None or chosen[0] == number
            if self.order.routed is not None and not is_given:
                item = item._replace(results=(*item.results, None))
                continue
            result, trace = self._modelled(item, number)
            traces += [trace] if is_given else []
            if result is None:
                return RowTrace(tuple(traces), "failed", None, owner.error, None)
            item = item._replace(results=(*item.results, result))
        return self._combined(item, tuple(traces))

    def _modelled(self, item: Rows, number: int) -> tuple[Result | None, ModelTrace]:
        """What one model makes of the row; no result where a rule of its spec fails the run."""
        scorer, model = self.of(number), self.order.models[number]
        watched = _Watched(scorer.runtime)
        is_routed = self.order.routed is not None
        chained = () if is_routed else chained_columns(self._names, self._bundles, number)
        check_entry(
            scorer.pipeline.spec,
            with_chained(item.batch, chained, item.results).schema,
            item.attempt.where,
            others=item.batch.schema.names,
            moved=scorer.pipeline.moved,
        )
        stages = ModelStages(
            self.order, scorer._replace(runtime=watched, sizes={}), number, chained=chained, is_private=True
        )
        told: list[Made] = []

        def fed() -> Iterator[Fed]:
            for one in stages.transform(iter([item])):
                assert isinstance(one, Fed)  # noqa: S101  what a batch of rows becomes
                # None where the row is another model's.
                told.extend(_steps(scorer.pipeline.spec, one.frame, self.private()) if one.frame.rows else ())
                yield one

        ended = next(iter(stages.infer(fed())), None)
        hidden = scorer.pipeline.spec.derived_from(self.private())
        tensors = {
            tensor.model_input: not hidden.isdisjoint(tensor.columns) for tensor in scorer.pipeline.spec.outputs.tensors
        }
        trace = ModelTrace(
            model.name,
            model.version,
            watched.provider,
            tuple(told),
            _firsts(watched.feeds, private=[name for name, is_hidden in tensors.items() if is_hidden]),
            _firsts(watched.outputs),
        )
        return (ended.results[-1] if isinstance(ended, Rows) else None), trace

    def _combined(self, item: Rows, traces: tuple[ModelTrace, ...]) -> RowTrace:
        order = self.order
        combined = combine(item, order.models, ",".join(field.name for field in order.chosen_by))
        if combined.rejections:
            return RowTrace(traces, "quarantined", combined.rejections[0], None, None)
        if not combined.scored.size:
            return RowTrace(traces, "filtered", None, None, None)
        predictions = Predictions(order, tuple(self.loaded.values()))
        rows = predictions.batch(item.results, combined, predictions.schema)
        for column, bad in Partitioning(rows.schema, order.shape.partition_by).unplaceable(rows):
            if bad.any():
                rejection = Rejection(np.zeros(1, np.int64), "NO_FOLDER", FOLDERS, column, NO_FOLDER)
                return RowTrace(traces, "quarantined", rejection, None, None)
        return RowTrace(traces, "scored", None, None, rows)


def private_columns(spec: Spec) -> frozenset[str]:
    """The input columns that a spec's contract calls personal."""
    return frozenset(field.name for field in spec.input.of_training.fields if field.pii)


def _on_cpu(model: ModelOrder) -> ModelOrder:
    """The same model, where no GPU is."""
    runtime = model.runtime.model_copy(update={"device": "cpu", "profile": None})
    return model.model_copy(update={"runtime": runtime})


def _steps(spec: Spec, frame: Frame, private: frozenset[str]) -> list[Made]:
    """The columns of a frame of one row by the step that made them: each is written once."""
    hidden = spec.derived_from(private)
    ops = {step.id: step.op for step in (*spec.relational, *spec.steps)}
    made: list[Made] = []
    before: set[str] = set()
    for step, schema in spec.schemas():
        columns = tuple(
            Value(name, str(type_), plain_values(frame[name])[0], name in hidden)
            for name, type_ in schema.items()
            if name not in before and name in frame
        )
        made.append(Made(step if step in ops else "contract", ops.get(step, ""), columns))
        before |= schema.keys()
    return made


def _firsts(tensors: Mapping[str, npt.NDArray[Any]], *, private: Sequence[str] = ()) -> tuple[Value, ...]:
    """The first row of each tensor; where a model takes no single row, the others are made up."""
    return tuple(
        Value(name, f"{values.dtype}{list(values.shape[1:])}", _plain(values[0]), name in private)
        for name, values in tensors.items()
    )


def _plain(values: Any) -> Any:
    """As JSON knows it; a NaN and ±inf as their names."""
    row = np.asarray(values)
    if row.ndim:
        return [_plain(part) for part in row]
    value = row.item()
    return str(value) if isinstance(value, bytes) or (isinstance(value, float) and not np.isfinite(value)) else value
