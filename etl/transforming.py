"""Apply a fitted spec to what a notebook has: an Arrow table or batch, or a pandas frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from etl.arrivals import check_entry
from etl.pipeline import Pipeline
from etl.relational import behind_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from etl.frame import Frame, Rejection
    from etl.spec import Spec

__all__ = ["Transformed", "transform"]


class Transformed(NamedTuple):
    """What became of rows."""

    tensors: dict[str, Any]
    """numpy arrays by the name of the model input; the first axis is the kept rows. One that is padded as a model is
    fed is an `etl.ragged.Ragged`, which has as many; `etl.ragged.padded_feeds` makes arrays of all."""
    table: pa.Table
    """Every column behind the last step, of the kept rows: the inputs as the contract hands them on, and what the steps
    made."""
    rows: npt.NDArray[np.int64]
    """Positions of the kept rows in what was given."""
    rejections: list[Rejection]
    """Rows that a rule rejected, each under the first that it broke."""
    filtered: npt.NDArray[np.int64]
    """Positions of rows that a filter or dedupe left out. Kept, rejected and filtered rows add up to what was given."""


def transform(spec: Spec, data: Any, references: Mapping[str, Any] | None = None) -> Transformed:
    """What a fitted spec makes of an Arrow table or batch, or a pandas frame. Spark's are for `etl.spark.transform`.

    Where the spec has relational steps that run on the whole table, a table or frame is taken for all the rows that
    there are, and is prepared first. Of a part of them, such as a test set, the steps would make something else:
    prepare the whole by `etl.relational.prepare`, cut its table, and give the parts, which are taken as they are. They
    are known by a mark in the metadata of their schema, which pandas does not keep. A record batch is a part, so it
    must bear the mark.

    It replays the golden rows and indexes the reference tables first: to transform many batches, make an
    `etl.pipeline.Pipeline` once.

    Raises:
        TypeError: the data is of no kind that is known.
        SpecError: the spec is a recipe, or does not mean here what it meant where it was fitted.
        ContractError: the data lacks a column, has one that a step makes and no mark, or was prepared for another spec;
            a batch was not prepared; or a value breaks a rule that says `fail`.
        TransformError: a value breaks a step that says `fail`.
    """
    pipeline = Pipeline(spec, references or {})
    table, counts, places = behind_table(data, spec, references)
    check_entry(spec, table.schema, "the table", others=[label.name for label in spec.input.labels])
    frame = pipeline.contract(table, "the table")
    made = pipeline.transform(frame)
    kept = np.arange(frame.rows) if made.kept is None else made.kept
    found = Transformed(made.tensors, _table(spec, frame, pa.array(kept)), kept, made.rejections, made.filtered)
    return _placed(found, places, counts.rows_in)


def _placed(found: Transformed, places: npt.NDArray[np.int64], given: int) -> Transformed:
    """The same by positions in what was given, of which these rows came through the steps on the table."""
    left_out = np.ones(given, dtype=bool)
    left_out[places] = False
    left_out[places[found.filtered]] = True
    return found._replace(
        rows=places[found.rows],
        rejections=[rejection._replace(rows=places[rejection.rows]) for rejection in found.rejections],
        filtered=np.flatnonzero(left_out),
    )


def _table(spec: Spec, frame: Frame, rows: pa.Array) -> pa.Table:
    """The columns that are still there, as Arrow arrays of their canonical types."""
    schema = spec.schema_at()
    arrays = {name: frame.arrow(name).take(rows) for name in schema}
    return pa.table({name: array.cast(schema[name].arrow) for name, array in arrays.items()})
