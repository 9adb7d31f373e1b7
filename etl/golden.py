"""Golden rows: a few training rows with every column that the steps made of them, replayed wherever a spec is loaded.

They are the proof that the spec means here what it meant where it was fitted. Behind a transcendental step floats may
differ by one unit in the last place of float32. All others must be equal after a cast to float32, to the bit of float64
where the spec has a float64 tensor; −0.0 equals 0.0. What is no float must be equal.

A vector of more than 256 values is written as its SHA-256. Behind a transcendental step that tells nothing, so weighted
sums of its values stand beside it, each equal within one unit in the last place of each value that it is made of.

A text or list (of no floats) that a step makes is written as its SHA-256 too where it is long. What is given has to be
whole, so rows of too long values are no golden rows.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from etl.documents import canonical_json, sha256_hex
from etl.entry import read
from etl.errors import ContractError, SpecError, TransformError
from etl.format.positions import escape
from etl.plain import array_of, plain_values
from etl.tensors import as_lists
from etl.training import GoldenRow
from etl.types import kernels, one_chunk
from etl.ulp import ulp_distance

if TYPE_CHECKING:
    from collections.abc import Iterable

    from etl.contract import InputField
    from etl.entry import Violation
    from etl.frame import Column, Frame
    from etl.spec import Spec
    from etl.types import ArrowArray

__all__ = ["MOST_BYTES", "MOST_ROWS", "frame_of", "golden_rows", "personal_columns", "replay"]

_LEAST_NORMAL = float(np.finfo(np.float32).tiny)

MOST_ROWS = 12
"""Rows that a fit keeps."""

MOST_BYTES = 4 * 2**20
"""Of all golden rows of a spec, as JSON: a quarter of what a spec may have."""

_WIDEST = 256
"""Values of a vector that are written out, and sums of a wider one."""

_LONGEST = 4096
"""Bytes of a text, or of a list as JSON, that is written out where a step makes it."""

_NUMBER_BYTES = 20
"""About what a number takes as JSON."""


def golden_rows(spec: Spec, batch: pa.RecordBatch, frame: Frame) -> tuple[GoldenRow, ...] | None:
    """Rows of a batch that exercise the spec, with what became of them: of each field a row without a value, the least
    and the largest, then the first ones. `frame` is the batch behind all steps.

    Personal data is left out: such a field, what is joined by it, and what a step that learned from such a label reads,
    is missing in every golden row, so a spec that needs it has none. So are rows left out that are too long,
    see `MOST_BYTES`; None where all are.
    """  # noqa: D205  one sentence each
    pii = personal_columns(spec)
    raw, sound = {}, ~frame.gone
    for field in spec.input.fields:
        raw[field.name], unheld = _raw(batch.column(field.name), field)
        for violation in unheld:
            # What the type cannot hold has no form in which it could be given again.
            sound &= ~violation.rows
    joined = {name: frame[name] for step in spec.relational for name in step.outputs}
    short = _short({name: column for name, column in {**raw, **joined}.items() if name not in pii}, sound)
    if not short.size:
        return None if sound.any() else ()
    rows = _chosen(raw, short)
    given = {name: plain_values(_taken(column, rows)) for name, column in {**raw, **joined}.items()}
    given.update({name: [None] * rows.size for name in given if name in pii})
    if not pii:
        return _within(_rows(given, _written_of(spec, frame, rows)))
    # What the steps make of the rows is another thing without the personal data.
    try:
        again = frame_of(spec, [GoldenRow.model_validate({"in": row, "out": {}}) for row in _by_row(given)])
        for index, step in enumerate(spec.steps):
            step.run(again, f"/steps/{index}")
    except (ContractError, TransformError):
        return ()
    kept = np.flatnonzero(~again.gone)
    given = {name: [values[row] for row in kept] for name, values in given.items()}
    return _within(_rows(given, _written_of(spec, again, kept)))


def personal_columns(spec: Spec, invented: Iterable[str] = ()) -> frozenset[str]:
    """Columns of personal data, but for fields whose values are invented; so is what a step reads that learned from a
    personal label, for it would tell that.
    """  # noqa: D205  one sentence
    found = {field.name for field in spec.input.of_training.fields if field.pii} - set(invented)
    labels = found & {label.name for label in spec.input.labels}
    taught: set[str] = set()
    for step in reversed((*spec.relational, *spec.steps)):
        if not labels.isdisjoint(step.learns_from) or not taught.isdisjoint(step.outputs):
            taught.update(step.reads)
    return spec.derived_from(found | taught)


def _short(columns: dict[str, Column], sound: np.ndarray) -> np.ndarray:
    """Positions of sound rows that are short enough: all that may stand beside eleven others, or, where there are none,
    that may stand alone.
    """  # noqa: D205  one sentence
    sizes = np.zeros(sound.size)
    for column in columns.values():
        sizes += _sizes(column)
    beside = np.flatnonzero(sound & (sizes <= MOST_BYTES / MOST_ROWS))
    return beside if beside.size else np.flatnonzero(sound & (sizes <= MOST_BYTES))


def _sizes(column: Column) -> np.ndarray:
    """About the bytes that each row takes as JSON."""
    if isinstance(column, np.ndarray):
        return np.full(len(column), float(_NUMBER_BYTES * (column.size // max(len(column), 1))))
    if pa.types.is_string(column.type):
        return _filled(kernels.binary_length(column))
    if pa.types.is_struct(column.type):
        return sum((_sizes(part) for part in column.flatten()), np.zeros(len(column)))
    if pa.types.is_list(column.type):
        rows = np.repeat(np.arange(len(column)), _filled(column.value_lengths()).astype(np.int64))
        return np.bincount(rows, weights=_sizes(column.flatten()) + 1, minlength=len(column))
    return np.full(len(column), float(_NUMBER_BYTES))


def _filled(lengths: ArrowArray) -> np.ndarray:
    found: np.ndarray = lengths.fill_null(0).to_numpy(zero_copy_only=False).astype(np.float64)
    return found


def _within(rows: Iterable[GoldenRow]) -> tuple[GoldenRow, ...] | None:
    """The rows, in their order, that are together no longer than golden rows may be; None where each is longer."""
    left, kept = MOST_BYTES, list[GoldenRow]()
    rows = list(rows)
    for row in rows:
        size = len(canonical_json(row.model_dump(by_alias=True)))
        if size <= left:
            left -= size
            kept.append(row)
    return None if rows and not kept else tuple(kept)


def replay(spec: Spec) -> None:
    """Run every golden row through contract and row steps, and compare what each step makes.

    Raises:
        SpecError: naming the first step that makes something else, its column and the row.
    """
    if not spec.golden:
        return
    try:
        _replay(spec)
    except (KeyError, ValueError, TypeError, ContractError, TransformError) as error:
        message = f"/golden: a row is not one of spec {spec.spec_id}: {error} [E-GOLDEN]"
        raise SpecError(message) from error


def _replay(spec: Spec) -> None:
    frame = frame_of(spec, spec.golden)
    inexact = _inexact(spec)
    exact = None if any(tensor.dtype == "float64" for tensor in spec.outputs.tensors) else 0
    for index, step in enumerate(spec.steps):
        step.run(frame, f"/steps/{index}")
        for name in step.outputs:
            row = _first_difference(frame[name], name, spec.golden, allowed=1 if name in inexact else exact)
            if row is not None:
                what = f"/steps/{index}: step {step.id!r} ({step.op}) makes another {name!r} of golden row {row}"
                place = f"/golden/{row}/out/{escape(name)}"
                message = f"{what} ({place}) than where the spec was fitted. It does not mean here what it meant there."
                raise SpecError(f"{message} [E-GOLDEN]")
    gone = np.flatnonzero(frame.gone)
    if gone.size:
        why = frame.rejections[0].pointer if frame.rejections else "a filter"
        message = f"/golden/{gone[0]}: the row is rejected by {why}, which it was not where the spec was fitted."
        raise SpecError(f"{message} [E-GOLDEN]")


def _raw(column: ArrowArray, field: InputField) -> tuple[ArrowArray, list[Violation]]:
    """The field as it came, in its canonical type, before any treatment; and where that cannot hold it."""
    if field.type.kind != "vector":
        return read(column, field.type)
    return as_lists(one_chunk(column), field.type.item), []


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


def _written_of(spec: Spec, frame: Frame, rows: np.ndarray) -> dict[str, list[Any]]:
    """What the row steps make of these rows."""
    inexact = _inexact(spec)
    names = [name for step in spec.steps for name in step.outputs]
    made = {name: _written(_taken(frame[name], rows), has_sums=name in inexact) for name in names}
    exact = {name for name in names if not _has_floats(frame[name])}
    return {name: list(map(_digested, values)) if name in exact else values for name, values in made.items()}


def _has_floats(column: Column) -> bool:
    """Whether it is a column of more than texts, integers and lists of these: one whose digest may differ elsewhere."""
    if isinstance(column, np.ndarray):
        return True
    type_ = column.type.value_type if pa.types.is_list(column.type) else column.type
    return bool(pa.types.is_floating(type_) or pa.types.is_struct(type_))


def _digested(value: Any) -> Any:
    """A value, or the digest of one that is long."""
    if not isinstance(value, str | list):
        return value
    data = _bytes_of(value)
    return value if len(data) <= _LONGEST else {"sha256": sha256_hex(data)}


def _bytes_of(value: str | list[Any]) -> bytes:
    return value.encode() if isinstance(value, str) else canonical_json(value)


def _inexact(spec: Spec) -> set[str]:
    """Columns behind a transcendental step."""
    found: set[str] = set()
    for step in spec.steps:
        if step.transcendental or not found.isdisjoint(step.reads):
            found.update(step.outputs)
    return found


def _taken(column: Column, rows: np.ndarray) -> Column:
    return column[rows] if isinstance(column, np.ndarray) else column.take(pa.array(rows))


def _by_row(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    count = len(next(iter(columns.values()), []))
    return [{name: values[row] for name, values in columns.items()} for row in range(count)]


def _rows(given: dict[str, list[Any]], made: dict[str, list[Any]]) -> Iterable[GoldenRow]:
    for row, values in enumerate(_by_row(given)):
        out = {name: column[row] for name, column in made.items()}
        yield GoldenRow.model_validate({"in": values, "out": out})


def _written(column: Column, *, has_sums: bool) -> list[Any]:
    """As JSON values; a wide vector as its digest, and with sums where its floats may differ."""
    if not isinstance(column, np.ndarray) or column.ndim == 1 or column.shape[1] <= _WIDEST:
        return plain_values(column)
    digests = [{"sha256": sha256_hex(np.ascontiguousarray(row).tobytes())} for row in column]
    if not has_sums or column.dtype != np.float32:
        return digests
    return [{**digest, "sums": sums} for digest, sums in zip(digests, plain_values(_sums(column)), strict=True)]


def _sums(vectors: np.ndarray) -> np.ndarray:
    """Of each vector 128 sums of positive and 128 of negative values. Value i is in sum i mod 128, i // 128 + 1 times,
    so that no two values can change places unseen. A sum of one sign is as exact as what it is made of.
    """  # noqa: D205  one sentence each
    slots = _WIDEST // 2
    padded = np.zeros((len(vectors), -(-vectors.shape[1] // slots), slots))
    padded.reshape(len(vectors), -1)[:, : vectors.shape[1]] = vectors
    padded *= np.arange(1, padded.shape[1] + 1)[:, None]
    return np.concatenate([np.maximum(padded, 0).sum(axis=1), np.minimum(padded, 0).sum(axis=1)], axis=1)


def frame_of(spec: Spec, rows: Iterable[GoldenRow]) -> Frame:
    """The given values behind the contract and the relational steps."""
    rows = list(rows)
    schema = spec.schema_at(len(spec.relational))

    def column(name: str) -> ArrowArray:
        return array_of([row.given.get(name) for row in rows], schema[name])

    batch = pa.RecordBatch.from_pydict({field.name: column(field.name) for field in spec.input.fields})
    frame = spec.input.apply(batch, "golden rows")
    for step in spec.relational:
        for name in step.outputs:
            frame[name] = column(name)
    return frame


def _first_difference(found: Column, name: str, rows: tuple[GoldenRow, ...], *, allowed: int | None) -> int | None:
    """The first row that has another value in a column, or none."""
    for number, (value, row) in enumerate(zip(_written(found, has_sums=bool(allowed)), rows, strict=True)):
        try:
            is_same = name in row.made and _same(value, row.made[name], allowed)
        except (KeyError, OverflowError, TypeError, ValueError):
            # What was edited by hand may be anything.
            is_same = False
        if not is_same:
            return number
    return None


def _same(found: Any, wanted: Any, allowed: int | None) -> bool:
    """Whether a value is the one wanted, floats within so many units of float32; None: as float64."""
    if allowed and isinstance(found, dict) and isinstance(wanted, dict) and "sums" in found:
        # One unit in the last place gives another digest; an older spec has no sums, and is believed.
        return "sums" not in wanted or all(map(_is_near, found["sums"], wanted["sums"]))
    if isinstance(found, str | list) and isinstance(wanted, dict):
        return wanted == {"sha256": sha256_hex(_bytes_of(found))}
    if isinstance(found, list) and isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(_same, found, wanted, [allowed] * len(found)))
    if allowed is not None and isinstance(found, float) and isinstance(wanted, float | int):
        with np.errstate(over="ignore"):
            pair = np.array([found, wanted], np.float64).astype(np.float32)
        return int(ulp_distance(pair[:1], pair[1:])[0]) <= allowed
    return bool(found == wanted)


def _is_near(found: Any, wanted: Any) -> bool:
    """Whether two sums differ by no more than the last place of float32 of what they are made of."""
    if isinstance(found, str) or isinstance(wanted, str):
        return bool(found == wanted)
    return math.isclose(found, wanted, rel_tol=2**-23, abs_tol=_LEAST_NORMAL)
