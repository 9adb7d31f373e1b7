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
    from collections.abc import Collection, Iterable, Sequence

    import pyarrow as pa

    from etl.contract import Contract
    from etl.frame import Frame, RejectionCode
    from etl.spec import Spec
    from etl.types import ArrowArray, Schema

__all__ = [
    "ORIGIN",
    "REJECTED",
    "arrivals",
    "check_entry",
    "entered",
    "is_prepared",
    "need_arrivals",
    "reject_again",
    "take_in",
    "unmatched",
]

REJECTED = "__batchscore_rejected"
"""The column with the reasons of rows that a step on the table rejects; the worker sets them aside."""

ORIGIN = "__batchscore_origin"
"""The column that says where a row of pinned files was before Spark prepared it: a struct of the number of the `file`
in the listing, its `row_group`, the `first_row` of that, and its `row` in the file. No step sees it."""

_TEXT, _BOOL = ColumnType("string"), ColumnType("bool")


def unmatched(step: str) -> str:
    """The column that says, for a join that was moved to the table and rejects, which rows found no match."""
    return f"__batchscore_unmatched_{step}"


def arrivals(spec: Spec, moved: Collection[str] = ()) -> Schema:
    """The columns that steps on the table make, by name; with that of reasons where such a step may reject a row.

    `moved` are ids of joins that run on the table although they stand behind the last step that needs other rows.
    """
    part = on_table(spec.relational)
    steps = [step for index, step in enumerate(spec.relational) if index < part or step.id in moved]
    if not steps:
        return {}
    schema = spec.schema_at(len(spec.relational))
    made = {name: schema[name] for step in steps for name in step.outputs}
    rejecting = [step for step in steps if isinstance(step, LookupJoin) and step.params.on_no_match == "reject"]
    made.update({unmatched(step.id): _BOOL for step in rejecting if step.id in moved})
    return {**made, REJECTED: _TEXT} if any(step.id not in moved for step in rejecting) else made


def is_prepared(spec: Spec, names: Collection[str]) -> bool:
    """Whether rows with columns of these names have been through the steps on the table, or there is no such step.

    Where such steps leave rows out and make nothing, this cannot be told, and is false: to run them again leaves no
    more rows out.
    """
    made = arrivals(spec)
    return not on_table(spec.relational) or (bool(made) and all(name in names for name in made))


def check_entry(
    spec: Spec, schema: pa.Schema, where: str, *, others: Iterable[str] = (), moved: Collection[str] = ()
) -> None:
    """Refuse a file or table of prepared rows that lacks a column or has one of another type.

    `others` are columns that it may have although the contract says that there are no others.

    Raises:
        ContractError: with every violation.
    """
    made = arrivals(spec, moved)
    spec.input.check_schema(schema, where, [*others, *made])
    need_arrivals(made, schema.names, where)


def need_arrivals(made: Schema, names: Sequence[str], where: str) -> None:
    """Refuse rows that were not prepared.

    Raises:
        ContractError: a column that steps on the table make is not there.
    """
    missing = [name for name in made if name not in names]
    if missing:
        message = (
            f"{where}: column {missing[0]!r} is not there. Relational steps make it of the whole table, before any row "
            "is scored: prepare the table first, by etl.relational.prepare in memory or by etl.spark.prepare in Spark; "
            "a job does it by itself."
        )
        raise ContractError(message)


def entered(contract: Contract, made: Schema, batch: pa.RecordBatch | pa.Table, *, where: str) -> Frame:
    """A batch behind the contract, with what steps on the table made of it.

    Raises:
        ContractError: a column that a step on the table makes is not there, or a value breaks a rule whose treatment is
            `fail`.
    """
    need_arrivals(made, batch.schema.names, where)
    frame = contract.apply(batch, where)
    for name, kind in made.items():
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
