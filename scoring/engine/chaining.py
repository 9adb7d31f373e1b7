"""A chain of models: what one of them publishes is a column that a later one may read, as `<model>_<column>`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from scoring.bundles.bundle import output_schema

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from etl.types import ArrowArray
    from scoring.bundles.bundle import AuditedBundle
    from scoring.engine.items import Result

__all__ = ["Chained", "aligned", "chained_columns", "with_chained"]


class Chained(NamedTuple):
    """A column that a model reads and an earlier one makes."""

    field: pa.Field
    """Its name and type among the columns of the input."""
    model: int
    """The number of the model that makes it."""
    place: int
    """Its place among that model's published columns."""


def chained_columns(names: Sequence[str], bundles: Sequence[AuditedBundle], number: int) -> tuple[Chained, ...]:
    """What the model of this number reads of those before it."""
    read = {field.name for field in bundles[number].spec.input.fields}
    return tuple(
        Chained(field.with_name(column), model, place)
        for model in range(number)
        for place, field in enumerate(output_schema(bundles[model].bundle))
        if (column := f"{names[model]}_{field.name}") in read
    )


def with_chained(batch: pa.RecordBatch, chained: Sequence[Chained], results: Sequence[Result | None]) -> pa.RecordBatch:
    """The rows with those columns; null where the earlier model made nothing."""
    for column in chained:
        result = results[column.model]
        if result is not None and result.arrays:
            made = aligned(result.arrays[column.place], result.rows, np.arange(batch.num_rows))
        else:
            made = pa.nulls(batch.num_rows, column.field.type)
        batch = batch.append_column(column.field, made)
    return batch


def aligned(column: ArrowArray, rows: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]) -> ArrowArray:
    """The values of a column that stands for `rows`, at the rows that are wanted; null where it has none. Ascending."""
    if rows.size == wanted.size and (rows == wanted).all():
        return column
    places = np.searchsorted(rows, wanted)
    missing = np.append(rows, -1)[places] != wanted
    index: Any = pa.array(places, mask=missing)
    return column.take(index)
