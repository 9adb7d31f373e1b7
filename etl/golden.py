"""Golden rows: a few training rows with every column that the steps made of them, replayed wherever a spec is loaded.

They are the proof that the spec means here what it meant where it was fitted. Numbers must be equal to the bit after
the cast to float32, or within one unit in the last place behind a transcendental step; all else must be equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from etl.documents import sha256_hex
from etl.errors import SpecError
from etl.plain import array_of, plain_values
from etl.training import GoldenRow
from etl.types import held, one_chunk
from etl.ulp import ulp_distance

if TYPE_CHECKING:
    from collections.abc import Iterable

    from etl.contract import InputField
    from etl.frame import Column, Frame
    from etl.spec import Spec
    from etl.types import ArrowArray

__all__ = ["MOST_ROWS", "frame_of", "golden_rows", "replay"]

MOST_ROWS = 12
"""Rows that a fit keeps."""

_WIDEST = 256
"""Values of a vector that are written out; a wider one is its SHA-256."""


def golden_rows(spec: Spec, batch: pa.RecordBatch, frame: Frame) -> tuple[GoldenRow, ...]:
    """Rows of a batch that exercise the spec, with what became of them: of each field a row without a value, the least
    and the largest, then the first ones. `frame` is the batch behind all steps.

    Personal data is left out: such a field, and what is joined by it, is missing in every golden row, so a spec that
    needs it has none.
    """  # noqa: D205  one sentence each
    pii = spec.derived_from(field.name for field in spec.input.fields if field.pii)
    raw = {field.name: _raw(batch.column(field.name), field) for field in spec.input.fields}
    rows = _chosen(raw, np.flatnonzero(~frame.gone))
    if not rows.size:
        return ()
    given = {name: plain_values(column.take(pa.array(rows))) for name, column in raw.items()}
    joined = [name for step in spec.relational for name in step.outputs]
    given.update({name: plain_values(_taken(frame[name], rows)) for name in joined})
    given.update({name: [None] * rows.size for name in given if name in pii})
    if not pii:
        return tuple(_rows(given, {name: _taken(frame[name], rows) for name in _made(spec)}))
    # What the steps make of the rows is another thing without the personal data.
    again = frame_of(spec, [GoldenRow.model_validate({"in": row, "out": {}}) for row in _by_row(given)])
    for index, step in enumerate(spec.steps):
        step.run(again, f"/steps/{index}")
    kept = np.flatnonzero(~again.gone)
    given = {name: [values[row] for row in kept] for name, values in given.items()}
    return tuple(_rows(given, {name: _taken(again[name], kept) for name in _made(spec)}))


def replay(spec: Spec) -> None:
    """Run every golden row through contract and row steps, and compare what each step makes.

    Raises:
        SpecError: naming the first step that makes something else, its column and the row.
    """
    if not spec.golden:
        return
    try:
        frame = frame_of(spec, spec.golden)
    except (KeyError, ValueError, TypeError) as error:
        message = f"/golden: a row is not one of spec {spec.spec_id}: {error}"
        raise SpecError(message) from error
    transcendental: set[str] = set()
    for index, step in enumerate(spec.steps):
        step.run(frame, f"/steps/{index}")
        if step.transcendental or not transcendental.isdisjoint(step.reads):
            transcendental.update(step.outputs)
        for name in step.outputs:
            row = _first_difference(frame[name], name, spec.golden, allowed=int(name in transcendental))
            if row is not None:
                what = f"/steps/{index}: step {step.id!r} ({step.op}) makes another {name!r} of golden row {row}"
                message = f"{what} than where the spec was fitted. It does not mean here what it meant there."
                raise SpecError(message)
    gone = np.flatnonzero(frame.gone)
    if gone.size:
        why = frame.rejections[0].pointer if frame.rejections else "a filter"
        message = f"/golden/{gone[0]}: the row is rejected by {why}, which it was not where the spec was fitted."
        raise SpecError(message)


def _raw(column: ArrowArray, field: InputField) -> ArrowArray:
    """The field as it came, in its canonical type, before any treatment."""
    if field.type.kind in {"vector", "list", "struct"}:
        return one_chunk(column).cast(field.type.arrow, safe=False)
    return held(column, field.type)[0]


def _chosen(raw: dict[str, ArrowArray], kept: np.ndarray) -> np.ndarray:
    """Positions, ascending."""
    chosen: dict[int, None] = {}
    for column in raw.values():
        values = column.take(pa.array(kept))
        missing = values.is_null().to_numpy(zero_copy_only=False)
        if missing.any():
            chosen[int(missing.argmax())] = None
        if pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
            numbers = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
            if not np.isnan(numbers).all():
                chosen.update(dict.fromkeys((int(np.nanargmin(numbers)), int(np.nanargmax(numbers)))))
    chosen.update(dict.fromkeys(range(min(MOST_ROWS, kept.size))))
    return kept[sorted(list(chosen)[:MOST_ROWS])]


def _made(spec: Spec) -> list[str]:
    """Columns that the row steps make."""
    return [name for step in spec.steps for name in step.outputs]


def _taken(column: Column, rows: np.ndarray) -> Column:
    return column[rows] if isinstance(column, np.ndarray) else column.take(pa.array(rows))


def _by_row(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    count = len(next(iter(columns.values()), []))
    return [{name: values[row] for name, values in columns.items()} for row in range(count)]


def _rows(given: dict[str, list[Any]], made: dict[str, Column]) -> Iterable[GoldenRow]:
    shown = {name: _written(column) for name, column in made.items()}
    for row, values in enumerate(_by_row(given)):
        out = {name: column[row] for name, column in shown.items()}
        yield GoldenRow.model_validate({"in": values, "out": out})


def _written(column: Column) -> list[Any]:
    """As JSON values; a wide vector as its digest."""
    if isinstance(column, np.ndarray) and column.ndim == 2 and column.shape[1] > _WIDEST:  # noqa: PLR2004  a vector
        return [{"sha256": sha256_hex(np.ascontiguousarray(row).tobytes())} for row in column]
    return plain_values(column)


def frame_of(spec: Spec, rows: Iterable[GoldenRow]) -> Frame:
    """The given values behind the contract and the relational steps."""
    rows = list(rows)
    schema = dict(spec.schemas())[spec.relational[-1].id] if spec.relational else spec.input.columns()

    def column(name: str) -> ArrowArray:
        return array_of([row.given.get(name) for row in rows], schema[name])

    batch = pa.RecordBatch.from_pydict({field.name: column(field.name) for field in spec.input.fields})
    frame = spec.input.apply(batch, "golden rows")
    for step in spec.relational:
        for name in step.outputs:
            frame[name] = column(name)
    return frame


def _first_difference(found: Column, name: str, rows: tuple[GoldenRow, ...], *, allowed: int) -> int | None:
    """The first row that has another value in a column, or none."""
    for number, (value, row) in enumerate(zip(_written(found), rows, strict=True)):
        if name not in row.made or not _same(value, row.made[name], allowed):
            return number
    return None


def _same(found: Any, wanted: Any, allowed: int) -> bool:
    if allowed and isinstance(wanted, dict) and "sha256" in wanted:
        # A digest cannot tell one unit in the last place from another number; the columns it is made of are compared.
        return True
    if isinstance(found, list) and isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(_same, found, wanted, [allowed] * len(found)))
    if isinstance(found, float) and isinstance(wanted, float | int) and not isinstance(wanted, bool):
        with np.errstate(over="ignore"):
            pair = np.array([found, wanted], np.float64).astype(np.float32)
        return int(ulp_distance(pair[:1], pair[1:])[0]) <= allowed
    return bool(found == wanted)
