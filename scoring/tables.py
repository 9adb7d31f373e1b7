"""`score_table`: the rows of a table in memory with their scores, by the engine of a job and without Spark."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
import pyarrow as pa

from etl.errors import SpecError
from etl.format.problems import nearest
from etl.given import as_table
from etl.relational import behind_table
from scoring.bundles.bundle import AuditedBundle, output_schema
from scoring.bundles.sources import audited_source
from scoring.engine.stream import ScoreOptions, check_choice, pinned_tables, score_batches, stream_order
from scoring.errors import BundleError
from scoring.scorer import borrowed_bundle

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from scoring.engine.stream import Scored

__all__ = ["ON_BAD", "REJECTED", "BundleLike", "OnBad", "audited_bundle", "check_names", "kept_rows", "score_table"]

REJECTED = "rejected"
"""The column that says why a row has no score; null where it has one."""

BundleLike: TypeAlias = "str | Path | AuditedBundle"
"""A bundle: where it is, as a path, a storage URI or a URI of MLflow; or one that was audited."""

OnBad: TypeAlias = Literal["null", "drop", "fail"]
"""What happens to a row that the contract, a step or the model refuses: it stays with null and the reason, it is not
there, or nothing is."""

ON_BAD = get_args(OnBad)
"""These words."""

_WHERE = "the table"


def score_table(
    data: Any,
    bundle: BundleLike,
    references: Mapping[str, Any] | None = None,
    *,
    passthrough: Sequence[str] | None = None,
    on_bad_row: OnBad = "null",
    options: ScoreOptions | None = None,
) -> pa.Table:
    """An Arrow table or batch, or a pandas frame, with the columns that the bundle publishes behind its own.

    `passthrough` are the columns of the data that are in the result, by default all. A row that the contract, a step or
    the model refuses stays with null, and the column `rejected` says why, without its values (`on_bad_row="null"`); it
    is not there (`"drop"`); or the call fails (`"fail"`). Rows that a filter of the spec leaves out are not there.
    All others are, in their order.

    The model stays loaded for later calls. `references` are the tables that the spec joins, by name.

    Raises:
        TypeError: the data, or a reference, is of no kind that is known.
        BundleError: there is no bundle, it is not sound, or two columns would have one name.
        SpecError, ContractError: a reference is not given or is not as declared; the data lacks a column or has one of
            another type; a value breaks a rule that says `fail`; or `on_bad_row` is another word.
        RowsRefused: a row was refused, and `on_bad_row` is `"fail"`.
    """
    check_choice("on_bad_row", on_bad_row, ON_BAD)
    audited = audited_bundle(bundle)
    there = as_table(data).column_names
    names = tuple(there if passthrough is None else passthrough)
    check_names(audited, names, there, has_reasons=on_bad_row == "null")
    pinned = pinned_tables(audited, references)
    table, _, _ = behind_table(data, audited.spec, references)
    order = stream_order(audited, pinned, options or ScoreOptions())
    strict: Literal["fail", "null"] = "fail" if on_bad_row == "fail" else "null"
    fields = [*(table.schema.field(name) for name in names), *output_schema(audited.bundle)]
    schema = pa.schema([*fields, *([pa.field(REJECTED, pa.string())] if on_bad_row == "null" else [])])
    with borrowed_bundle(audited, pinned, order) as scorer:
        scored = score_batches(order, scorer, table.to_batches(), where=_WHERE, on_bad_row=strict, is_overlapped=False)
        made = [_batch(found, names, schema, on_bad_row=on_bad_row) for found in scored]
    return pa.Table.from_batches(made, schema)


def _batch(found: Scored, names: tuple[str, ...], schema: pa.Schema, *, on_bad_row: OnBad) -> pa.RecordBatch:
    arrays = [*(found.batch.column(name) for name in names), *found.columns]
    if on_bad_row == "null":
        arrays.append(found.rejected)
    rows = kept_rows(found, on_bad_row)
    return pa.RecordBatch.from_arrays(arrays if rows is None else [array.take(rows) for array in arrays], schema=schema)


def kept_rows(found: Scored, on_bad_row: OnBad) -> pa.Array | None:
    """Which rows are in the result; None for all."""
    stays = np.ones(found.batch.num_rows, dtype=bool)
    stays[found.filtered] = False
    if on_bad_row == "drop":
        stays &= found.rejected.is_null().to_numpy(zero_copy_only=False)
    return None if stays.all() else pa.array(np.flatnonzero(stays))


def audited_bundle(bundle: BundleLike) -> AuditedBundle:
    """The bundle, audited.

    Raises:
        BundleError: there is none, or it is not sound.
    """
    given: Any = bundle
    if isinstance(given, AuditedBundle):
        return given
    if not isinstance(given, str | os.PathLike):
        # Not shown: it may be the data, given in the bundle's place.
        message = f"a bundle is a path, a URI or an audited bundle, and no {type(given).__name__}."
        raise BundleError(message)
    return audited_source(os.fspath(given))


def check_names(audited: AuditedBundle, passed: Sequence[str], there: Collection[str], *, has_reasons: bool) -> None:
    """Refuse columns that are not there, or could not be told apart: Spark does not tell upper from lower case.

    Raises:
        SpecError: a column that is to be passed through is not there.
        BundleError: two would have one name.
    """
    for name in passed:
        if name not in there:
            message = f"passthrough: column {name!r} is not there.{nearest(name, there)}"
            raise SpecError(message)
    names = [*passed, *(field.name for field in output_schema(audited.bundle)), *([REJECTED] if has_reasons else [])]
    folded = [name.casefold() for name in names]
    twice = sorted({name for name in names if folded.count(name.casefold()) > 1})
    if twice:
        message = f"{audited.bundle.name}: columns collide: {', '.join(twice)} would be there under one name."
        raise BundleError(f"{message} Leave one out of passthrough, or rename it.")
