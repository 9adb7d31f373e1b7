"""A bundle behind a web server: rows in, scores out, by the contract, the steps and the model that a job runs.

MLflow loads a model that was logged from a bundle by this module's `_load_pyfunc`, in `mlflow models serve`,
`mlflow.pyfunc.load_model` and what is built on them. Nothing here imports MLflow, and nothing was pickled.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, ValidationError

from etl.documents import Strict
from etl.frame import Rejection, once
from etl.runs.local import LocalStorage
from scoring.bundles.bundle import audit, output_schema
from scoring.bundles.golden import arrow_table
from scoring.bundles.requests import read_frame
from scoring.bundles.sources import BUNDLE_INSIDE, REFERENCES_INSIDE
from scoring.engine.stream import ScoreOptions, pinned_tables, score_batches, stream_order
from scoring.errors import BundleError
from scoring.runtimes.base import DeviceChoice
from scoring.scorer import make_scorer
from scoring.tables import REJECTED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from etl.types import ArrowArray
    from scoring.bundles.bundle import AuditedBundle
    from scoring.scorer import Scorer

__all__ = ["REJECTED", "Answer", "Served", "ServedOptions"]

_MOST_BYTES = 256 << 20
"""Of one call of the model, in and out."""


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
        chosen = ScoreOptions(
            device=options.device,
            intra_op_threads=options.threads,
            batch_rows=options.batch_rows,
            batch_bytes=_MOST_BYTES,
        )
        pinned = pinned_tables(audited, references)
        self._audited = audited
        self._order = stream_order(audited, pinned, chosen)
        self._scorer: Scorer = make_scorer(audited, pinned, self._order, model=self._order.models[0])

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
        table, unread = read_frame(model_input, self._audited.spec.input)
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
        batches = table.combine_chunks().to_batches()
        found = list(score_batches(self._order, self._scorer, batches, where="the request", is_overlapped=False))
        # A value that could not be read is missing to the contract, which is not what is wrong with it.
        told = self._unread(unread or [], table.num_rows)
        reasons = pc.coalesce(told, pa.chunked_array([part.reasons for part in found], pa.string()).combine_chunks())
        mask = told.is_valid()
        columns = {}
        for number, field in enumerate(output_schema(self._audited.bundle)):
            whole = pa.chunked_array([part.columns[number] for part in found], field.type).combine_chunks()
            index = pa.array(np.arange(table.num_rows), mask=mask.to_numpy(zero_copy_only=False))
            columns[field.name] = whole.take(index) if unread else whole
        return Answer(columns, reasons)

    def _unread(self, unread: list[Rejection], rows: int) -> ArrowArray:
        """Why a value of a row could not be read; null for all others."""
        reasons: list[str | None] = [None] * rows
        for rejection in once(unread, rows):
            for row in rejection.rows:
                reasons[row] = f"{rejection.code}: {rejection.message} ({rejection.pointer})"
        return pa.array(reasons, pa.string())
