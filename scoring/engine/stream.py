"""The engine over record batches that belong to no split: a table in memory, or the batches of a task of Spark.

The same stages as a job's: contract and steps, batches of the model across the borders of what comes in, outputs as
columns. What comes out has the rows that came in, each once and in their order.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from etl.arrivals import check_entry
from etl.documents import sha256_hex
from etl.errors import SpecError
from etl.format.problems import nearest
from etl.frame import once
from etl.ops.relations import joins, on_table
from etl.printable import counted
from etl.relational import used_references
from scoring.bundles.bundle import output_schema
from scoring.bundles.golden import arrow_bytes
from scoring.engine.items import Rows
from scoring.engine.modelling import ModelStages
from scoring.engine.owner import Owner
from scoring.engine.stages import Stage, run_in_line, run_stages
from scoring.errors import RowsRefused
from scoring.order import ModelOrder, Order
from scoring.runtimes.base import RuntimeOptions

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from etl.types import ArrowArray
    from scoring.bundles.bundle import AuditedBundle
    from scoring.engine.items import Item
    from scoring.scorer import Scorer

__all__ = [
    "FILTERED",
    "OnBadRow",
    "ScoreOptions",
    "Scored",
    "check_choice",
    "check_streamable",
    "pinned_tables",
    "score_batches",
    "stream_order",
]

OnBadRow = Literal["null", "fail"]
"""What happens to a row that the contract, a step or the model refuses: it has no score, or nothing has."""

FILTERED = "FILTERED: a filter of the spec leaves the row out"
"""Why a row that nobody refuses has no score."""


class ScoreOptions(RuntimeOptions):
    """How rows that belong to no split are scored: all options of a runtime, and the size of its batches."""

    batch_rows: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        default="auto", description="Rows of one call of the model; auto finds them by measuring."
    )
    batch_bytes: int = Field(
        default=64 << 20, ge=1, description="Bytes that one call of the model takes and gives at most, about."
    )
    table_rows: int = Field(
        default=16_384,
        ge=1,
        description="Rows that contract and steps take at once: smaller batches are put together, larger ones cut.",
    )

    @model_validator(mode="after")
    def _nothing_falls_back_unseen(self) -> ScoreOptions:
        if self.on_missing_gpu == "cpu":
            message = "`on_missing_gpu: cpu` needs a job, whose record says what fell back; here, ask for device auto"
            raise ValueError(message)
        return self


def stream_order(
    audited: AuditedBundle, tables: Mapping[str, bytes], options: ScoreOptions, *, moved: tuple[str, ...] = ()
) -> Order:
    """The order of a job that reads and writes nothing; `root` is to be set where the bundle is to be found by it.

    Raises:
        TypeError: the options are none.
    """
    if not isinstance(options, ScoreOptions):
        given = type(options).__name__  # type: ignore[unreachable]  # callers are not all typed
        message = f"options: give ScoreOptions, as in ScoreOptions(batch_rows=4096), and no {given}"
        raise TypeError(message)
    runtime = RuntimeOptions.model_validate(options.model_dump(include=set(RuntimeOptions.model_fields)))
    digests = {name: sha256_hex(data) for name, data in sorted(tables.items())}
    return Order(
        run_id="stream",
        root="",
        models=(ModelOrder(bundle_sha256=audited.sha256, references=digests, moved=moved, runtime=runtime),),
        carried=(),
        passthrough=(),
        stamps=(),
        scored_at=datetime.now(UTC).replace(microsecond=0),
        batch_rows=options.batch_rows,
        batch_bytes=options.batch_bytes,
        table_rows=options.table_rows,
    )


def pinned_tables(
    audited: AuditedBundle, references: Mapping[str, Any] | None, *, moved: tuple[str, ...] = ()
) -> dict[str, bytes]:
    """The reference tables that the bundle's spec joins, as Arrow IPC with the columns that it uses.

    Raises:
        SpecError: one is not given, or is given in vain.
    """
    steps, given = joins(audited.spec.relational, moved)[1], dict(references or {})
    joined = {step.params.reference for step in steps.values()}
    for name in sorted(joined ^ given.keys()):
        if name in given:
            message = f"{audited.bundle.name}: its spec joins no table {name!r}.{nearest(name, joined)}"
        else:
            message = f"{audited.bundle.name}: its spec joins the table {name!r}; give it: references={{{name!r}: …}}"
        raise SpecError(message)
    return {name: arrow_bytes(table.combine_chunks()) for name, table in used_references(steps, given).items()}


def check_streamable(audited: AuditedBundle, instead: str) -> None:
    """Refuse a bundle whose spec needs more than a row; `instead` is what to do.

    Raises:
        SpecError: it has steps that run on the whole table.
    """
    if on_table(audited.spec.relational):
        message = f"{audited.bundle.name}: its spec has steps that need the whole table, and rows come one by one here."
        raise SpecError(f"{message} {instead}")


class Scored(NamedTuple):
    """What became of a batch."""

    batch: pa.RecordBatch
    """The rows that came, in their order; a batch need not be one of those that were given."""
    columns: list[ArrowArray]
    """The published columns, one value a row; null where a row has no score."""
    rejected: ArrowArray
    """Why a row was refused, as a text that shows no value; null for all others."""
    filtered: npt.NDArray[np.int64]
    """Rows that a filter of the spec leaves out: they have no score, and nobody refused them."""

    @property
    def reasons(self) -> ArrowArray:
        """Why a row has no score; null where it has one."""
        if not self.filtered.size:
            return self.rejected
        is_filtered = np.zeros(self.batch.num_rows, dtype=bool)
        is_filtered[self.filtered] = True
        return _chosen(pa.array(is_filtered), FILTERED, self.rejected)


class _Stream(Owner):
    """Rows that belong to no split."""

    def place(self, batch: pa.RecordBatch, row: int | None = None) -> str:  # noqa: ARG002  rows of a stream have no number
        return self.where

    def note_keys(self, name: str, digests: np.ndarray) -> None:
        """Whether keys are unique can be told of a whole table alone, which a stream is not."""


def check_choice(name: str, asked: object, allowed: Sequence[str]) -> None:
    """Refuse a word that an argument does not have: taken for another one, bad rows would go where nobody looks.

    Raises:
        SpecError: it is not among them.
    """
    if asked not in allowed:
        message = (
            f"{name}: there is no {asked!r}; give one of {', '.join(map(repr, allowed))}.{nearest(str(asked), allowed)}"
        )
        raise SpecError(message)


def score_batches(
    order: Order,
    scorer: Scorer,
    batches: Iterable[pa.RecordBatch],
    *,
    where: str,
    on_bad_row: OnBadRow = "null",
    is_overlapped: bool = True,
) -> Generator[Scored]:
    """The rows of the batches with their scores; nothing is read before something is asked for.

    A batch has the columns of the bundle's contract, and may have others. `is_overlapped` runs reading, steps and model
    side by side, each in a thread.

    Raises:
        ContractError: a column is not there or has another type, or a value breaks a rule that says `fail`.
        TransformError: a value breaks a step that says `fail`.
        InferenceError: the model gives something that the bundle does not declare.
        RowsRefused: a row was refused, and `on_bad_row` is `fail`.
    """
    flow = _Flow(order, scorer, _Stream(where))
    stages = [
        Stage("read", lambda _: flow.read(batches)),
        Stage("transform", flow.model.transform),
        Stage("infer", flow.model.infer),
        Stage("score", flow.score),
    ]
    # An error that is raised here leaves the stages' threads at work for as long as somebody keeps it.
    with contextlib.closing(run_stages(stages, _note_wait) if is_overlapped else run_in_line(stages)) as scored:
        for found in scored:
            if on_bad_row == "fail" and found.rejected.null_count < len(found.rejected):
                raise RowsRefused(_refusal(found, where))
            yield found


class _Flow:
    """What a stream runs through."""

    def __init__(self, order: Order, scorer: Scorer, stream: _Stream) -> None:
        self.model = ModelStages(order, scorer)
        self._order = order
        self._stream = stream
        self._pipeline = scorer.pipeline
        self._fields = output_schema(scorer.audited.bundle)

    def read(self, batches: Iterable[pa.RecordBatch]) -> Generator[Rows]:
        """Rows for contract and steps, until it is known that nothing will come of them."""
        stream, is_checked = self._stream, False
        for batch in _gathered(batches, self._order):
            if not is_checked:
                with stream.failing():
                    others = [name for name in batch.schema.names if name not in self._pipeline.columns]
                    check_entry(
                        self._pipeline.spec, batch.schema, stream.where, others=others, moved=self._pipeline.moved
                    )
                is_checked = True
            if stream.error is not None:
                return
            yield Rows(stream, batch)

    def score(self, items: Iterator[Item]) -> Generator[Scored]:
        """Columns of whole batches."""
        for item in items:
            assert isinstance(item, Rows)  # noqa: S101  a stream has no ends, and the model gives back what it was fed
            if self._stream.error is None:
                yield self._scored(item)
        if self._stream.error is not None:
            raise self._stream.error

    def _scored(self, item: Rows) -> Scored:
        rows, [result] = item.batch.num_rows, item.results
        assert result is not None  # noqa: S101  the one model was given all rows
        columns = result.arrays or [pa.nulls(0, field.type) for field in self._fields]
        if result.rows.size < rows:
            lines = np.full(rows, -1, dtype=np.int64)
            lines[result.rows] = np.arange(result.rows.size)
            index = pa.array(lines, mask=lines < 0)
            columns = [column.take(index) for column in columns]
        which = np.full(rows, -1, dtype=np.int64)
        told = []
        for number, rejection in enumerate(once(result.rejections, rows)):
            which[rejection.rows] = number
            place = f" ({rejection.pointer})" if rejection.pointer else ""
            told.append(f"{rejection.code}: {rejection.message}{place}")
        rejected = pa.array(told, pa.string()).take(pa.array(which, mask=which < 0))
        return Scored(item.batch, columns, rejected, result.filtered)


def _gathered(batches: Iterable[pa.RecordBatch], order: Order) -> Iterator[pa.RecordBatch]:
    """The same rows: small batches together up to the rows or bytes that are worked on at once, large ones in parts."""
    most = order.rows_at_once
    waiting: list[pa.RecordBatch] = []
    rows = nbytes = 0
    for batch in batches:
        for start in range(0, batch.num_rows, most):
            part = batch.slice(start, most)
            if waiting and (rows + part.num_rows > most or nbytes + part.nbytes > order.batch_bytes):
                yield _joined(waiting)
                waiting, rows, nbytes = [], 0, 0
            waiting.append(part)
            rows += part.num_rows
            nbytes += part.nbytes
    if waiting:
        yield _joined(waiting)


def _joined(parts: list[pa.RecordBatch]) -> pa.RecordBatch:
    return parts[0] if len(parts) == 1 else pa.concat_batches(parts)


def _note_wait(stage: str, item: Any, seconds: float) -> None:
    if isinstance(item, tuple) and hasattr(item, "attempt"):
        item.attempt.waiting[stage] += seconds


def _refusal(scored: Scored, where: str) -> str:
    refused = scored.rejected.drop_null()
    count = f"{len(refused)} of {counted(len(scored.rejected), 'row of a batch has', 'rows of a batch have')} no score"
    return f"{where}: {count}, the first one: {refused[0]}. Mend the rows, or let them have null: on_bad_row='null'."


def _chosen(mask: ArrowArray, text: str, others: ArrowArray) -> ArrowArray:
    return pc.if_else(mask, pa.scalar(text), others)
