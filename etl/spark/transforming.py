"""`transform`: the features of a fitted spec as columns of a Spark DataFrame, made by the code that workers run.

What comes out beside the columns handed through is one column a tensor, by the name of the model input that it feeds,
which is its own unless `bind` says, as in `etl.transforming.transform`. A row of it is a scalar where the shape of the
tensor is [-1], else an array of the row's values in row-major order; of a ragged tensor, as long as the row is, without
padding and mask. Types are the tensor's own, but for those that Spark has not: float16 and bfloat16 come as float, an
unsigned integer as the next wider type (uint64 as decimal(20, 0)).

Relational steps that run on the whole table come first, by `etl.spark.prepare`. Rows that a filter leaves out are not
there. A row that a rule rejects is never dropped: it fails the query
(`on_rejected="fail"`), or stays with null in every tensor and its reason in the column `rejection`, a struct of `code`,
`pointer`, `column` and `message` which is null for all other rows (`on_rejected="keep"`). To drop such rows, count them
by `rejection`, then filter by it.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from etl.arrivals import arrivals, check_entry
from etl.bfloat16 import floats_of
from etl.errors import SpecError, TransformError
from etl.format.problems import nearest
from etl.ops.relations import joins
from etl.pipeline import Pipeline
from etl.ragged import Ragged
from etl.relational import used_references
from etl.spark.batches import map_batches, need_frame
from etl.spark.preparing import WHERE, frames_of, moved_joins, prepare
from etl.spark.schema import arrow_schema, arrow_type, as_declared
from etl.types import UNSIGNED, one_chunk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pyspark.sql import DataFrame

    from etl.frame import Frame
    from etl.outputs import TensorOutput
    from etl.pipeline import Features
    from etl.ragged import Tensor
    from etl.spark.preparing import References
    from etl.spec import Spec
    from etl.types import ArrowArray

__all__ = ["OnRejected", "transform"]

OnRejected = Literal["fail", "keep"]
"""What happens to a row that a rule of the spec rejects."""

REJECTION = "rejection"
"""The column that says why a row has no features."""

_REASON = pa.struct([pa.field(name, pa.string()) for name in ("code", "pointer", "column", "message")])

_ELEMENTS = {
    "float16": pa.float32(),
    "bfloat16": pa.float32(),
    "uint8": pa.int16(),
    "uint16": pa.int32(),
    "uint32": pa.int64(),
    "uint64": UNSIGNED,
    "bool": pa.bool_(),
    "string": pa.string(),
}
"""Arrow's type of a tensor's elements where it has not numpy's name, or Spark has not the type."""


class _Work(NamedTuple):
    """What a task is told."""

    spec: Spec
    references: dict[str, pa.Table]
    moved: tuple[str, ...]
    """Ids of joins that were run on the table."""
    passthrough: tuple[str, ...]
    on_rejected: OnRejected
    declared: pa.Schema
    """Of the batches that it gives."""


def transform(
    df: DataFrame,
    spec: Spec,
    references: References | None = None,
    *,
    passthrough: Sequence[str] | None = None,
    on_rejected: OnRejected = "fail",
) -> DataFrame:
    """The columns of `passthrough` (default: those that the spec names) and one column a tensor; lazy, as Spark is.

    A column that the spec knows is handed through as the contract and the steps have it, another as it is.

    Raises:
        SpecError: the spec is not fitted, a reference is not given, or two columns would have one name.
        ContractError: the DataFrame lacks a column, or has one of another type; or a reference table is not as
            declared.
        ValueError: `on_rejected` is unknown.
        TypeError: `df` is no Spark DataFrame.
    """
    if on_rejected not in {"fail", "keep"}:
        message = f"on_rejected is 'fail' or 'keep', found {on_rejected!r:.40}"
        raise ValueError(message)
    need_frame(df, "Spec.transform")
    moved = moved_joins(spec, references)
    given = dict(references or {})
    tables = {name: given[name] for name in given.keys() - frames_of(given).keys()}
    Pipeline(spec, tables, moved=moved)
    names = tuple(spec.outputs.passthrough if passthrough is None else passthrough)
    df = prepare(df, spec, references, others=names)
    check_entry(spec, arrow_schema(df.schema), WHERE, others=names, moved=moved)
    work = _Work(
        spec=spec,
        references=used_references(joins(spec.relational, moved)[1], tables),
        moved=moved,
        passthrough=names,
        on_rejected=on_rejected,
        declared=_declared(df, spec, names, on_rejected=on_rejected),
    )
    carried = [name for name in names if name in df.columns]
    read = list(dict.fromkeys([*(field.name for field in spec.input.fields), *arrivals(spec, moved), *carried]))
    return map_batches(df, read, functools.partial(_run, work=work), declared=work.declared)


def _declared(df: DataFrame, spec: Spec, names: tuple[str, ...], *, on_rejected: OnRejected) -> pa.Schema:
    """The schema of what comes out.

    Raises:
        SpecError: a column is not there, has a type that Arrow batches do not carry, or a name comes twice.
    """
    known = spec.schema_at()
    fields = []
    for name in names:
        if name in known:
            kind = known[name].arrow
        elif name in df.columns:
            found = df.schema[name].dataType
            kind = arrow_type(found)
            if kind is None:
                message = f"passthrough: column {name!r} is {found.simpleString()}, which cannot be handed through."
                raise SpecError(message)
        else:
            message = f"passthrough: column {name!r} is not there.{nearest(name, [*known, *df.columns])}"
            raise SpecError(message)
        fields.append(pa.field(name, kind))
    fields += [pa.field(output.model_input, _column_type(output)) for output in spec.outputs.tensors]
    if on_rejected == "keep":
        fields.append(pa.field(REJECTION, _REASON))
    folded = [field.name.casefold() for field in fields]
    twice = sorted({name for name in folded if folded.count(name) > 1})
    if twice:
        # Spark does not tell upper from lower case.
        clash = f"two columns would be called {', '.join(twice)}"
        message = f"{clash}; leave one out of passthrough, or rename the tensor, or the model input that it feeds."
        raise SpecError(message)
    return pa.schema(fields)


def _column_type(output: TensorOutput) -> pa.DataType:
    element = _ELEMENTS.get(output.dtype) or pa.type_for_alias(output.dtype)
    return element if output.rank == 1 else pa.list_(element)


def _run(batches: Iterable[pa.RecordBatch], *, work: _Work) -> Iterator[pa.RecordBatch]:
    """Runs on a worker."""
    pipeline = Pipeline(work.spec, work.references, moved=work.moved)
    for batch in batches:
        frame = pipeline.contract(batch, WHERE)
        features = pipeline.transform(frame)
        if features.rejections and work.on_rejected == "fail":
            raise TransformError(_refusal(features))
        yield as_declared(_columns(work, batch, frame, features=features), work.declared)


def _refusal(features: Features) -> str:
    first = features.rejections[0]
    count = sum(rejection.rows.size for rejection in features.rejections)
    return (
        f"{count} rows of a batch are rejected, the first by {first.pointer}: {first.message} ({first.code}). "
        "Mend the rows, or keep them with their reasons: on_rejected='keep'."
    )


def _columns(work: _Work, batch: pa.RecordBatch, frame: Frame, *, features: Features) -> dict[str, ArrowArray]:
    """Every declared column, of the rows that no filter left out."""
    stays = np.ones(frame.rows, dtype=bool)
    stays[features.filtered] = False
    rows = np.flatnonzero(stays)
    kept = rows if features.kept is None else features.kept
    columns: dict[str, ArrowArray] = {}
    for name in work.passthrough:
        whole = frame.arrow(name) if name in frame else one_chunk(batch.column(name))
        columns[name] = whole if rows.size == frame.rows else whole.take(pa.array(rows))
    # A row that stays and has no features, for it was rejected, is null in every tensor.
    line = np.full(frame.rows, -1, dtype=np.int64)
    line[kept] = np.arange(kept.size)
    lines = line[rows]
    for output in work.spec.outputs.tensors:
        values = _as_column(features.tensors[output.model_input], output)
        name = output.model_input
        columns[name] = values.take(pa.array(lines, mask=lines < 0)) if (lines < 0).any() else values
    if work.on_rejected == "keep":
        columns[REJECTION] = _reasons(features, frame.rows).take(pa.array(rows))
    return columns


def _as_column(tensor: Tensor, output: TensorOutput) -> ArrowArray:
    kind = _column_type(output)
    element = kind.value_type if output.rank > 1 else kind
    flat = tensor.values if isinstance(tensor, Ragged) else tensor.reshape(-1)
    values: ArrowArray = pa.array(floats_of(flat) if output.dtype == "bfloat16" else flat).cast(element)
    if output.rank == 1:
        return values
    if isinstance(tensor, Ragged):
        return pa.ListArray.from_arrays(pa.array(tensor.offsets.astype(np.int32)), values)
    width = len(values) // max(len(tensor), 1)
    return pa.ListArray.from_arrays(pa.array(np.arange(len(tensor) + 1, dtype=np.int32) * width), values)


def _reasons(features: Features, rows: int) -> ArrowArray:
    """Why each row of the batch was rejected; null for the others."""
    which = np.full(rows, -1, dtype=np.int64)
    for number, rejection in enumerate(features.rejections):
        which[rejection.rows] = number
    told: ArrowArray = pa.array(
        [{"code": r.code, "pointer": r.pointer, "column": r.column, "message": r.message} for r in features.rejections],
        _REASON,
    )
    return told.take(pa.array(which, mask=which < 0))
