"""The published table: passthrough columns, the models' columns, what is made of them together, stamps."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from scoring.bundles.bundle import output_schema
from scoring.engine.chaining import aligned
from scoring.engine.ensembles import ensemble_column, ensemble_type

if TYPE_CHECKING:
    import numpy.typing as npt

    from etl.types import ArrowArray, ColumnType
    from scoring.bundles.bundle import AuditedBundle
    from scoring.engine.combining import Combined
    from scoring.engine.items import Result
    from scoring.order import Order

__all__ = ["VARIANT", "Predictions"]

VARIANT = "variant"
"""Name of the column that says which model scored a row."""

STAMP_TYPES: dict[str, pa.DataType] = {
    "run_id": pa.string(),
    "model_version": pa.string(),
    "scored_at": pa.timestamp("us", "UTC"),
}


class Predictions(NamedTuple):
    """The form of what an order publishes."""

    order: Order
    bundles: tuple[AuditedBundle, ...]
    """Of the order's models, in their order; of one whose rows each go to their own model, at least the first."""

    @property
    def is_variant(self) -> bool:
        """Whether a row is one model's."""
        return self.order.combination is not None and self.order.combination.is_variant

    @property
    def schema(self) -> pa.Schema:
        """The published columns; a name may come twice, which whoever plans refuses."""
        types: dict[str, ColumnType] = {}
        for bundle in self.bundles:
            types = {**bundle.spec.input.columns(), **types}
        types |= {field.name: field.type for field in self.order.carried}
        passthrough = [pa.field(name, types[name].arrow) for name in self.order.passthrough]
        stamps = [pa.field(stamp, STAMP_TYPES[stamp]) for stamp in self.order.stamps]
        return pa.schema([*passthrough, *self._made(), *stamps])

    def _made(self) -> list[pa.Field]:
        """What models make."""
        if self.is_variant:
            return [pa.field(VARIANT, pa.string()), *output_schema(self.bundles[0].bundle)]
        fields = [
            field.with_name(f"{model.name}_{field.name}" if model.name else field.name)
            for model, audited in zip(self.order.models, self.bundles, strict=True)
            for field in output_schema(audited.bundle)
        ]
        types = {field.name: field.type for field in fields}
        ensembles = self.order.combination.ensembles if self.order.combination else ()
        return [*fields, *(pa.field(one.column, ensemble_type(one, types)) for one in ensembles)]

    def batch(self, results: tuple[Result | None, ...], combined: Combined, schema: pa.Schema) -> pa.RecordBatch:
        """The published rows of a batch; `schema` is the one above, which takes time to make."""
        if self.is_variant:
            return self._by_variant(results, combined, schema)
        first = results[0]
        assert first is not None  # noqa: S101  every model was given all rows
        arrays = self._passthrough(first, combined.scored)
        for result, audited in zip(results, self.bundles, strict=True):
            if result is not None and result.rows.size:
                arrays.extend(aligned(column, result.rows, combined.scored) for column in result.arrays)
            else:
                arrays.extend(pa.nulls(combined.scored.size, field.type) for field in output_schema(audited.bundle))
        if self.order.combination is not None and self.order.combination.ensembles:
            made = dict(zip(schema.names, arrays, strict=False))
            arrays.extend(ensemble_column(one, made) for one in self.order.combination.ensembles)
        versions = ",".join(model.version for model in self.order.models)
        arrays.extend(self._stamps(versions, combined.scored.size))
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _by_variant(self, results: tuple[Result | None, ...], combined: Combined, schema: pa.Schema) -> pa.RecordBatch:
        """A row for each model that scored it, those of one row of the input beside each other."""
        parts = []
        for number, (result, rows) in enumerate(zip(results, combined.by_model, strict=True)):
            if result is None or not rows.size:
                continue
            name = self.order.models[number].name
            arrays = self._passthrough(result, rows)
            arrays.append(pa.repeat(pa.scalar(name, pa.string()), rows.size))
            arrays.extend(aligned(column, result.rows, rows) for column in result.arrays)
            arrays.extend(self._stamps(self.order.models[number].version, rows.size))
            parts.append(pa.RecordBatch.from_arrays(arrays, schema=schema))
        return pa.concat_batches(parts).take(pa.array(np.argsort(_of_models(combined), kind="stable")))

    def positions(self, combined: Combined) -> npt.NDArray[np.int64]:
        """Of each published row, the position in the batch of the row that it was made of."""
        return np.sort(_of_models(combined), kind="stable") if self.is_variant else combined.scored

    def _passthrough(self, result: Result, rows: npt.NDArray[np.int64]) -> list[ArrowArray]:
        """The columns of the input at these positions of the batch, all of which the model was given."""
        at = rows if result.given is None else np.searchsorted(result.given, rows)
        columns = [result.frame.arrow(name) for name in self.order.passthrough]
        return columns if at.size == result.frame.rows else [column.take(pa.array(at)) for column in columns]

    def _stamps(self, version: str, rows: int) -> list[ArrowArray]:
        stamps = {"run_id": self.order.run_id, "model_version": version, "scored_at": self.order.scored_at}
        return [pa.repeat(pa.scalar(stamps[stamp], STAMP_TYPES[stamp]), rows) for stamp in self.order.stamps]


def _of_models(combined: Combined) -> npt.NDArray[np.int64]:
    """The positions that each model scored, one model behind the other."""
    return np.concatenate([rows for rows in combined.by_model if rows.size])
