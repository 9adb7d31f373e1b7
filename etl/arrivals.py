"""What steps on the whole table made of a batch, on its way into a frame.

Relational steps that run on the table (`etl.relational`) are not run in the worker. What they made arrives with the
batch, and is taken in as it is: behind the contract, and without its rules.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pyarrow as pa

from etl.documents import canonical_json, sha256_hex
from etl.errors import ContractError
from etl.ops.lookup import LookupJoin
from etl.ops.relations import on_table
from etl.tensors import matrix_of
from etl.types import ColumnType, canonical, is_readable, one_chunk

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from etl.contract import Contract
    from etl.frame import Frame, RejectionCode
    from etl.spec import Spec
    from etl.types import ArrowArray, Schema

__all__ = [
    "ORIGIN",
    "PREPARED",
    "REJECTED",
    "arrivals",
    "check_entry",
    "entered",
    "is_prepared",
    "mark_of",
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

PREPARED = b"batchscore.prepared"
"""In the metadata of an Arrow schema, the mark of rows that have been through the steps on the table: see `mark_of`.
Arrow keeps it where rows are taken, filtered, sliced or stored as Parquet; pandas and Spark do not."""

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


def mark_of(spec: Spec) -> bytes:
    """What marks rows as prepared for a spec: the digest of all that decides what its steps on the table make.

    That is the steps without their `doc`, and the names, order and types of the contract's fields. A recipe and what is
    fitted of it have the same mark. Of reference tables it holds what the joins say of them.
    """
    part = spec.relational[: on_table(spec.relational)]
    decides = {
        "fields": [[field.name, str(field.type)] for field in spec.input.fields],
        "nan_is_value": sorted(spec.input.nan_is_value),
        "relational": [
            step.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude={"doc"}) for step in part
        ],
        "semantics": spec.semantics.model_dump(mode="json"),
    }
    return sha256_hex(canonical_json(decides)).encode()


def is_prepared(spec: Spec, schema: pa.Schema, where: str) -> bool:
    """Whether rows bear the mark of having been through the spec's steps on the table, or there is no such step.

    Raises:
        ContractError: they bear the mark of other steps.
    """
    if not on_table(spec.relational):
        return True
    found = (schema.metadata or {}).get(PREPARED)
    if found is not None and found != mark_of(spec):
        message = (
            f"{where}: was prepared by the relational steps of another spec, or of another version of this one. Give "
            "the rows as they were before, and they are prepared anew. If they are meant to be the rows of this spec, "
            "take the mark off: table.replace_schema_metadata()."
        )
        raise ContractError(message)
    return found is not None


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
    need_arrivals(made, schema, where)


def need_arrivals(made: Schema, schema: pa.Schema, where: str) -> None:
    """Refuse rows that were not prepared.

    Raises:
        ContractError: a column that steps on the table make is not there, or has another type.
    """
    missing = [name for name in made if name not in schema.names]
    if missing:
        message = (
            f"{where}: column {missing[0]!r} is not there. Relational steps make it of the whole table, before any row "
            "is scored: prepare the table first, by etl.relational.prepare in memory or by etl.spark.prepare in Spark; "
            "a job does it by itself."
        )
        raise ContractError(message)
    for name, kind in made.items():
        found = schema.field(name).type
        if not is_readable(found, kind):
            lost = pa.types.is_floating(found) and kind.kind in {"int32", "int64", "uint64", "bool"}
            told = _ROUNDED if lost else "Hand it on as they made it."
            message = f"{where}: column {name!r} has type {found}, the spec's steps make {kind} of it. {told}"
            raise ContractError(message)


_ROUNDED = (
    "pandas makes floats of them where one is missing, and rounds large integers. Keep them, as you prepare: "
    "prepare(…).table.to_pandas(types_mapper=pandas.ArrowDtype)."
)


def entered(contract: Contract, made: Schema, batch: pa.RecordBatch | pa.Table, *, where: str) -> Frame:
    """A batch behind the contract, with what steps on the table made of it.

    Raises:
        ContractError: a column that a step on the table makes is not there or not of its type, or a value breaks a rule
            whose treatment is `fail`.
    """
    need_arrivals(made, batch.schema, where)
    frame = contract.apply(batch, where)
    for name, kind in made.items():
        if name == REJECTED:
            reject_again(frame, one_chunk(batch.column(name)))
            continue
        try:
            take_in(frame, name, batch.column(name), kind=kind)
        except pa.ArrowInvalid:
            # Arrow's own words show the value, which may be personal data.
            message = f"{where}: column {name!r} has a value that is no {kind}, which the spec's steps make of it."
            raise ContractError(message) from None
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
