"""Apply a fitted spec to what a notebook has: an Arrow table or batch, or a pandas frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from etl.arrivals import check_entry
from etl.pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

    from etl.frame import Frame, Rejection
    from etl.spec import Spec

__all__ = ["Transformed", "as_table", "transform"]


class Transformed(NamedTuple):
    """What became of rows."""

    tensors: dict[str, npt.NDArray[Any]]
    """By the name of the model input; the first axis is the kept rows."""
    table: pa.Table
    """Every column behind the last step, of the kept rows: the inputs as the contract hands them on, and what the steps
    made."""
    rows: npt.NDArray[np.int64]
    """Positions of the kept rows in what was given."""
    rejections: list[Rejection]
    """Rows that a rule rejected, each under the first that it broke."""
    filtered: npt.NDArray[np.int64]
    """Positions of rows that a filter left out. Kept, rejected and filtered rows add up to what was given."""


def transform(spec: Spec, data: Any, references: Mapping[str, pa.Table] | None = None) -> Transformed:
    """What a fitted spec makes of an Arrow table or batch, or a pandas frame. Spark's are for `etl.spark.transform`.

    Where the spec has relational steps that run on the whole table, `data` is what `etl.relational.prepare` gives. It
    replays the golden rows and indexes the reference tables first: to transform many batches, make an
    `etl.pipeline.Pipeline` once.

    Raises:
        TypeError: the data is of no kind that is known.
        SpecError: the spec is a recipe, or does not mean here what it meant where it was fitted.
        ContractError: the data lacks a column, or a value breaks a rule that says `fail`.
        TransformError: a value breaks a step that says `fail`.
    """
    table = as_table(data)
    pipeline = Pipeline(spec, references or {})
    check_entry(spec, table.schema, "the table")
    frame = pipeline.contract(table, "the table")
    made = pipeline.transform(frame)
    rows = pa.array(made.kept) if made.kept is not None else pa.array(range(frame.rows), pa.int64())
    return Transformed(made.tensors, _table(spec, frame, rows), rows.to_numpy(), made.rejections, made.filtered)


def as_table(data: Any) -> pa.Table:
    """An Arrow table of an Arrow table or batch, or a pandas frame.

    Raises:
        TypeError: it is none of these.
    """
    if isinstance(data, pa.Table):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    if type(data).__module__.partition(".")[0] == "pandas":
        return pa.Table.from_pandas(data, preserve_index=False)
    message = f"takes an Arrow table or batch, or a pandas frame, found {type(data).__name__}"
    raise TypeError(message)


def _table(spec: Spec, frame: Frame, rows: pa.Array) -> pa.Table:
    """The columns that are still there, as Arrow arrays of their canonical types."""
    _, schema = spec.schemas()[-1]
    arrays = {name: frame.arrow(name).take(rows) for name in schema}
    return pa.table({name: array.cast(schema[name].arrow) for name, array in arrays.items()})
