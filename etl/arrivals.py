"""What steps on the whole table made of a batch, on its way into a frame.

Relational steps that run on the table (`etl.relational`) are not run in the worker. What they made arrives with the
batch, and is taken in as it is: behind the contract, and without its rules.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from etl.errors import ContractError
from etl.ops.lookup import LookupJoin
from etl.ops.relations import on_table
from etl.tensors import matrix_of
from etl.types import ColumnType, canonical, one_chunk

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pyarrow as pa

    from etl.contract import Contract
    from etl.frame import Frame, RejectionCode
    from etl.spec import Spec
    from etl.types import ArrowArray, Schema

__all__ = ["REJECTED", "arrivals", "check_entry", "entered", "reject_again", "take_in"]

REJECTED = "__batchscore_rejected"
"""The column with the reasons of rows that a step on the table rejects; the worker sets them aside."""

_TEXT = ColumnType("string")


def arrivals(spec: Spec) -> Schema:
    """The columns that steps on the table make, by name; with that of reasons where such a step may reject a row."""
    steps = spec.relational[: on_table(spec.relational)]
    if not steps:
        return {}
    schema = dict(spec.schemas())[steps[-1].id]
    made = {name: schema[name] for step in steps for name in step.outputs}
    rejects = any(isinstance(step, LookupJoin) and step.params.on_no_match == "reject" for step in steps)
    return {**made, REJECTED: _TEXT} if rejects else made


def check_entry(
    spec: Spec, schema: pa.Schema, where: str, *, others: Iterable[str] = (), contract: Contract | None = None
) -> None:
    """Refuse a file or table that lacks a column or has one of another type; by the spec's contract, or another.

    `others` are columns that it may have although the contract says that there are no others.

    Raises:
        ContractError: with every violation.
    """
    (contract or spec.input).check_schema(schema, where, [*others, *arrivals(spec)])
    _need_arrivals(spec, schema.names, where)


def _need_arrivals(spec: Spec, names: Sequence[str], where: str) -> None:
    missing = [name for name in arrivals(spec) if name not in names]
    if missing:
        message = (
            f"{where}: column {missing[0]!r} is not there. Steps of spec {spec.spec_id} make it of the whole table, "
            "before any row is scored: prepare the table first, by etl.relational.prepare in memory or by "
            "etl.spark.prepare in Spark; a job does it by itself."
        )
        raise ContractError(message)


def entered(spec: Spec, batch: pa.RecordBatch | pa.Table, where: str, *, contract: Contract | None = None) -> Frame:
    """The batch behind the spec's contract, or another, with what steps on the table made of it.

    Raises:
        ContractError: a column that a step on the table makes is not there, or a value breaks a rule whose treatment is
            `fail`.
    """
    _need_arrivals(spec, batch.schema.names, where)
    frame = (contract or spec.input).apply(batch, where)
    for name, kind in arrivals(spec).items():
        if name == REJECTED:
            reject_again(frame, one_chunk(batch.column(name)))
        else:
            take_in(frame, name, batch.column(name), kind=kind)
    return frame


def take_in(frame: Frame, name: str, column: ArrowArray, *, kind: ColumnType) -> None:
    """Write a column that a step made, and that was stored since, into a frame."""
    if kind.kind != "vector":
        frame[name] = canonical(column, kind)
        return
    column = one_chunk(column)
    matrix, _ = matrix_of(column, kind.width, kind.item)
    if column.null_count:
        frame.absent[name] = column.is_null().to_numpy(zero_copy_only=False)
    frame[name] = matrix


def reject_again(frame: Frame, reasons: ArrowArray) -> None:
    """Reject the rows that a step on the table rejected, under its rule."""
    if reasons.null_count == frame.rows:
        return
    encoded = reasons.cast("string").dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy()
    for number, text in enumerate(encoded.dictionary.to_pylist()):
        code: RejectionCode
        code, pointer, column, message = json.loads(text)
        frame.reject(codes == number, code=code, pointer=pointer, column=column, message=message)
