"""From a model's output tensors to published Arrow columns, whole columns at a time, and the rows without a value."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from scoring.errors import InferenceError, TooFewValues
from scoring.outputs.arrays import arrow_array, arrow_type, cast, unheld
from scoring.outputs.steps import Values, all_finite, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from collections.abc import Mapping as ByName

    from etl.frame import RejectionCode
    from scoring.outputs.columns import Mapping, OutputColumn
    from scoring.signature import Signature, TensorSpec

__all__ = ["Mapped", "Refused", "map_outputs", "tensors_of"]


class Refused(NamedTuple):
    """Rows that a column has no value for."""

    mask: np.ndarray
    """Which, shape (rows,)."""
    code: RejectionCode
    """Why, in one stable word."""
    column: str
    """Which column."""
    message: str
    """Why, for a person; it shows no value."""


class Mapped(NamedTuple):
    """What a batch is published as."""

    arrays: list[pa.Array]
    """One a column, each with all rows. What stands in a row that is refused has no meaning."""
    refused: list[Refused]
    """Rows that are not to be published, by column and reason; a row may be in several."""
    non_finite: dict[str, int]
    """By column: how many rows with a NaN or ±inf were kept or made null. Columns without one are left out."""


def tensors_of(columns: Iterable[OutputColumn]) -> tuple[str, ...]:
    """The model outputs that columns are made of, each once, in the order of first use."""
    return tuple(dict.fromkeys(column.tensor for column in columns))


def map_outputs(
    columns: Sequence[OutputColumn], signature: Signature, outputs: ByName[str, np.ndarray], *, rows: int
) -> Mapped:
    """The columns of a batch of `rows` rows.

    A tensor of ragged rows is an object array of one array a row. Its rows are mapped together by shape, and a row that
    is too short for a step is refused.

    Raises:
        InferenceError: an output has not one value for each row, or not the shape that the signature declares.
        Misfit: a column cannot be made of its tensor, which `OutputColumn.problem` would have told.
    """
    tensors = {tensor.name: tensor for tensor in signature.outputs}
    made = [_column(column, tensors[column.tensor], outputs[column.tensor], rows=rows) for column in columns]
    arrays = [found.array for found in made]
    if not any(found.wrong or found.non_finite is not None for found in made):
        return Mapped(arrays, [], {})
    refused: list[Refused] = []
    others: dict[str, np.ndarray] = {}
    for column, found in zip(columns, made, strict=True):
        wrong = dict(found.wrong)
        if found.non_finite is not None and column.non_finite == "quarantine":
            wrong["NON_FINITE"] = found.non_finite
        elif found.non_finite is not None:
            others[column.column] = found.non_finite
        refused.extend(Refused(mask, code, column.column, _message(column, code)) for code, mask in wrong.items())
    out = np.logical_or.reduce([np.zeros(rows, dtype=bool), *(part.mask for part in refused)])
    counts = {name: int(np.count_nonzero(mask & ~out)) for name, mask in others.items()}
    return Mapped(arrays, refused, {name: count for name, count in counts.items() if count})


def _message(column: OutputColumn, code: RejectionCode) -> str:
    what = f"model output {column.tensor}"
    if code == "NON_FINITE":
        return f"{what} is NaN or infinite in its column; `non_finite: keep` publishes that, and `null` a null"
    if code == "NOT_ALLOWED":
        return f"{what} is an index for which its column has no label"
    if code == "WRONG_LENGTH":
        return f"{what} has fewer values in the row than a step of its column takes"
    return f"{what} is a value that {column.type or 'its own type'}, the type of its column, cannot hold"


class _Made(NamedTuple):
    """A column and what is wrong with its rows."""

    array: pa.Array
    wrong: dict[RejectionCode, np.ndarray]
    """Rows that have no value, by reason."""
    non_finite: np.ndarray | None
    """Other rows with a NaN or ±inf; None where there is none."""


def _column(column: OutputColumn, tensor: TensorSpec, given: np.ndarray, *, rows: int) -> _Made:
    mapping = column.mapping(tensor)
    is_ragged = (
        given.dtype.kind == "O" and given.ndim == 1 and (tensor.dtype != "string" or tensor.shape[1:] not in {(), (1,)})
    )
    if is_ragged and given.size == rows:
        return _ragged(column, tensor, given)
    return _dense(column, mapping, _declared(column, tensor, given, rows=rows))


def _declared(column: OutputColumn, tensor: TensorSpec, given: np.ndarray, *, rows: int) -> np.ndarray:
    """A tensor in its declared shape; (n,) and (n, 1) may stand for each other."""
    axes = tensor.shape[1:]
    if given.shape[:1] == (rows,):
        if axes in {(), (1,)} and given.size == rows:
            return given if given.ndim == len(tensor.shape) else given.reshape((rows, *axes))
        found = given.shape[1:]
        if len(found) == len(axes) and all(size in {None, own} for size, own in zip(axes, found, strict=True)):
            return given
    message = f"model output {tensor.name} has shape {list(given.shape)} for {rows} rows"
    raise InferenceError(f"{message}; column {column.column!r} cannot be made of that, where {tensor} is declared")


def _dense(column: OutputColumn, mapping: Mapping, given: np.ndarray) -> _Made:
    values = Values(given)
    try:
        for step, form in mapping.steps:
            values = step.apply(values, form)
        # A number that becomes an integer is looked at before, since it is never NaN after.
        bad = unheld(values.data, mapping.type)
        data = cast(values.data, mapping.type, bad)
        seen = data if kind_of(mapping.type) == "float" else values.data
        non_finite = _either(_rows(values.lost), None if all_finite(seen) else _rows(~np.isfinite(seen)))
        null = non_finite if column.non_finite == "null" else None
        values = values if data is values.data else values._replace(data=data)
        array = arrow_array(values, mapping.form, mapping.type, null=null)
    except InferenceError as error:
        message = f"model output {column.tensor}, column {column.column!r}: {error}"
        raise type(error)(message) from error
    wrong: dict[RejectionCode, np.ndarray] = {}
    if (rows := _rows(values.unlabelled)) is not None:
        wrong["NOT_ALLOWED"] = rows
    if (rows := _rows(bad)) is not None:
        wrong["NOT_CASTABLE"] = rows
    return _Made(array, *_apart(column, wrong, non_finite))


def _apart(
    column: OutputColumn, wrong: dict[RejectionCode, np.ndarray], non_finite: np.ndarray | None
) -> tuple[dict[RejectionCode, np.ndarray], np.ndarray | None]:
    """Each row once: what is NaN has its rule, unless it is kept and the type has no NaN."""
    if non_finite is None or not wrong:
        return wrong, non_finite
    if column.non_finite == "keep":
        return wrong, non_finite & ~np.logical_or.reduce(list(wrong.values()))
    left = {code: mask & ~non_finite for code, mask in wrong.items()}
    return {code: mask for code, mask in left.items() if mask.any()}, non_finite


def _ragged(column: OutputColumn, tensor: TensorSpec, given: np.ndarray) -> _Made:
    """Rows of one shape together, then in their own order again."""
    mapping = column.mapping(tensor)
    rows = given.size
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, values in enumerate(given):
        groups.setdefault(np.shape(values), []).append(row)
    type_ = arrow_type(mapping.form, mapping.type)
    arrays: list[pa.Array] = [pa.nulls(0, type_)]
    masks: dict[RejectionCode, np.ndarray] = {}
    for members in groups.values():
        dense = _declared(column, tensor, np.stack([given[row] for row in members]), rows=len(members))
        try:
            made = _dense(column, mapping, dense)
        except TooFewValues:
            made = _Made(pa.nulls(len(members), type_), {"WRONG_LENGTH": np.ones(len(members), dtype=bool)}, None)
        arrays.append(made.array)
        for code, mask in (*made.wrong.items(), ("NON_FINITE", made.non_finite)):
            if mask is not None:
                masks.setdefault(code, np.zeros(rows, dtype=bool))[members] = mask
    order = np.array([row for members in groups.values() for row in members], dtype=np.int64)
    array = pa.concat_arrays(arrays).take(pa.array(order.argsort()))
    non_finite = masks.pop("NON_FINITE", None)
    return _Made(array, masks, non_finite)


def _rows(mask: np.ndarray | None) -> np.ndarray | None:
    """Which rows have a place where a mask is true; None where it is nowhere."""
    if mask is None or not mask.any():
        return None
    return np.asarray(mask.any(axis=tuple(range(1, mask.ndim))))


def _either(left: np.ndarray | None, right: np.ndarray | None) -> np.ndarray | None:
    return right if left is None else left if right is None else left | right
