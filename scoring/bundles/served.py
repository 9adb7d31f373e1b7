"""A bundle behind a web server: rows in, scores out, by the contract, the steps and the model that a job runs.

MLflow loads a model that was logged from a bundle by this module's `_load_pyfunc`, in `mlflow models serve`,
`mlflow.pyfunc.load_model` and what is built on them. Nothing here imports MLflow, and nothing was pickled.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import Field, ValidationError

from etl.arrivals import check_entry
from etl.documents import Strict
from etl.frame import Rejection, once
from etl.pipeline import Pipeline
from etl.runs.local import LocalStorage
from scoring.bundles.bundle import audit
from scoring.bundles.golden import arrow_table, replay
from scoring.bundles.requests import read_frame
from scoring.bundles.sources import BUNDLE_INSIDE, REFERENCES_INSIDE
from scoring.engine.batch_rows import BatchRows
from scoring.engine.batching import Batcher, Portion
from scoring.engine.inference import infer
from scoring.errors import BundleError
from scoring.outputs.mapping import map_outputs, tensors_of
from scoring.runtimes import load
from scoring.runtimes.base import DeviceChoice, RuntimeOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from etl.types import ArrowArray
    from scoring.bundles.bundle import AuditedBundle
    from scoring.engine.batching import Lengths, Outcome
    from scoring.runtimes.base import Runtime

__all__ = ["REJECTED", "Answer", "Served", "ServedOptions"]

REJECTED = "rejected"
"""The column of an answer that says why a row has no score; null where it has one."""

_MOST_BYTES = 256 << 20
"""Of one call of the model, in and out."""

_REASON_CHARS = 1024


class ServedOptions(Strict):
    """How a served bundle runs: MLflow's `model_config`, whose every key counts."""

    device: DeviceChoice = "cpu"
    threads: int = Field(default=1, ge=1, le=256, description="Threads of one operator.")
    batch_rows: int = Field(default=2048, ge=1, description="Rows of one call of the model.")


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> Served:
    """What MLflow calls to load a logged bundle; `path` is the model's data.

    Raises:
        BundleError: the bundle is not sound, does not give its golden rows here, or an option is not one of ours.
    """
    try:
        options = ServedOptions.model_validate(dict(model_config or {}))
    except ValidationError as error:
        [first, *_] = error.errors()
        place = ".".join(map(str, first["loc"]))
        message = f"model_config: {place}: {first['msg']}. There is: {', '.join(ServedOptions.model_fields)}."
        raise BundleError(message) from error
    audited = audit(LocalStorage(), str(Path(path).resolve() / BUNDLE_INSIDE))
    tables = (Path(path) / REFERENCES_INSIDE).glob("*.arrow")
    return Served(audited, {table.stem: arrow_table(table.read_bytes()) for table in tables}, options)


class Answer(NamedTuple):
    """What became of rows."""

    columns: dict[str, ArrowArray]
    """The published columns, one value a row; null where a row has no score."""
    rejected: ArrowArray
    """Why a row has no score; null where it has one."""


class Served:
    """A loaded bundle that answers; requests may come from several threads."""

    def __init__(self, audited: AuditedBundle, references: Mapping[str, pa.Table], options: ServedOptions) -> None:
        """Load the model and replay the golden rows: what answers otherwise than the bundle does not start."""
        bundle = audited.bundle
        self._audited = audited
        self._pipeline = Pipeline(audited.spec, references)
        self._options = options
        runtime = RuntimeOptions(device=options.device, intra_op_threads=options.threads)
        self._runtime: Runtime = load(bundle.model, audited.files, runtime, where=bundle.name, kind=bundle.runtime)
        audited.settle()
        replay(audited, self._runtime, audited.tolerance(self._runtime.device))
        self._names = tensors_of(bundle.columns)
        self._is_private = any(field.pii for field in audited.spec.input.fields)
        self._sizes: dict[Lengths, BatchRows] = {}
        self._lock = threading.Lock()

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> Any:
        """A pandas frame of the published columns and `rejected`, with a row for each row of the frame that was given.

        A row that the contract, a step, the model or a filter leaves without a score has null in every column, and the
        reason in `rejected`, which shows no value of the row.

        Raises:
            ContractError: what was given is no frame, or lacks a column.
            BundleError: `params` were given; a bundle has none.
        """
        if params:
            message = f"{self._audited.bundle.name}: takes no parameters, and was given {', '.join(sorted(params))}."
            raise BundleError(message)
        table, unread = read_frame(model_input, self._pipeline.spec.input)
        answer = self.score(table, unread)
        frame = pa.table({**answer.columns, REJECTED: answer.rejected}).to_pandas(integer_object_nulls=True)
        for name, column in answer.columns.items():
            if column.null_count and pa.types.is_floating(column.type):
                # pandas has NaN for null, which MLflow writes into an answer as it is, and no reader of JSON takes.
                frame[name] = frame[name].astype(object).where(column.is_valid().to_numpy(zero_copy_only=False), None)
        return frame

    def score(self, table: pa.Table, unread: list[Rejection] | None = None) -> Answer:
        """Scores of rows; those in `unread` have a value that could not be read, and so none.

        Raises:
            ContractError: the table lacks a column, or has one of another type.
        """
        pipeline = self._pipeline
        check_entry(pipeline.spec, table.schema, "the request")
        features = pipeline.transform(pipeline.contract(table.combine_chunks(), "the request"))
        kept = np.arange(table.num_rows) if features.kept is None else features.kept
        rejections = [*(unread or ()), *features.rejections]
        with self._lock:
            outcomes = self._outcomes(Portion(features.tensors, kept.size, None))
        found = [self._mapped(outcome, kept, rejections) for outcome in outcomes]
        rows = np.concatenate([part[0] for part in found]) if found else kept[:0]
        reasons = self._reasons(table.num_rows, rejections, features.filtered)
        keep = np.array([reasons[row] is None for row in rows], dtype=bool)
        # Of each row of the request, where its score is among those that came back.
        places = np.full(table.num_rows, -1)
        places[rows[keep]] = np.flatnonzero(keep)
        index = pa.array(places, mask=places < 0)
        columns = {}
        for number, field in enumerate(self._fields()):
            parts = [part[1][number] for part in found]
            whole = pa.chunked_array(parts, field.type).combine_chunks() if parts else pa.nulls(0, field.type)
            columns[field.name] = whole.take(index)
        return Answer(columns, pa.array(reasons, pa.string()))

    def _fields(self) -> list[pa.Field]:
        tensors = {tensor.name: tensor for tensor in self._audited.bundle.signature.outputs}
        return [column.field(tensors[column.tensor]) for column in self._audited.bundle.columns]

    def _outcomes(self, portion: Portion) -> list[Outcome]:
        """What the model makes of the rows, call by call."""
        batcher = Batcher()
        batcher.add(portion)
        for lengths in batcher.lengths:
            size = self._size(lengths)
            while batcher.waiting(lengths):
                batch = batcher.cut(lengths, size.rows)
                batch.give_back(infer(lambda feeds: self._runtime.predict(feeds, self._names), batch, size))
        return portion.outcomes

    def _size(self, lengths: Lengths) -> BatchRows:
        fixed = next((tensor.shape[0] for tensor in self._audited.bundle.signature.inputs), None)
        made = BatchRows(self._options.batch_rows, most_bytes=_MOST_BYTES, fixed=fixed)
        return self._sizes.setdefault(lengths, made)

    def _mapped(
        self, outcome: Outcome, kept: np.ndarray, rejections: list[Rejection]
    ) -> tuple[np.ndarray, list[ArrowArray]]:
        """The scored rows of one outcome with their columns; the others are added to the rejections."""
        bundle = self._audited.bundle
        for row, reason in outcome.failed:
            shown = "its reason may show personal data" if self._is_private else reason[:_REASON_CHARS]
            rejections.append(Rejection(kept[[row]], "MODEL_FAILED", "", "", f"the model failed: {shown}"))
        rows = kept[outcome.rows]
        if not rows.size:
            return rows, [pa.nulls(0, field.type) for field in self._fields()]
        mapped = map_outputs(bundle.columns, bundle.signature, outcome.outputs, rows=rows.size)
        rejections.extend(
            Rejection(rows[part.mask], part.code, "", part.column, part.message) for part in mapped.refused
        )
        return rows, mapped.arrays

    def _reasons(self, rows: int, rejections: list[Rejection], filtered: np.ndarray) -> list[str | None]:
        reasons: list[str | None] = [None] * rows
        for row in filtered:
            reasons[row] = "FILTERED: a filter of the spec leaves the row out"
        for rejection in once(rejections, rows):
            place = f" ({rejection.pointer})" if rejection.pointer else ""
            for row in rejection.rows:
                reasons[row] = f"{rejection.code}: {rejection.message}{place}"
        return reasons
