"""A `lookup_join` to a reference table that is too large for a worker, by a join of Spark.

It gives what the worker's join gives: keys are unique and never null, a row with a missing key has no match, and
columns taken have their declared types. The reference is read by our own code first, as a worker reads one.
"""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from etl.arrivals import REJECTED, unmatched
from etl.errors import ContractError, SpecError
from etl.ops.lookup import AsValues, check_reference, read_reference
from etl.spark.batches import map_batches
from etl.spark.schema import arrow_schema, arrow_type, as_declared, column, spark_type

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pyspark.sql import Column, DataFrame

    from etl.ops.lookup import LookupJoin

__all__ = ["joined", "with_nothing"]

_MATCHED = "__batchscore_matched"
_TWICE = "must be unique; some stand more than once"
_PLAIN = (pa.types.is_boolean, pa.types.is_string, pa.types.is_date32)


def joined(df: DataFrame, step: LookupJoin, reference: DataFrame, *, index: int, moved: bool) -> DataFrame:
    """The DataFrame with the columns that a step takes; `moved` says that the step is the worker's, which rejects.

    Looks at the keys of the reference at once.

    Raises:
        SpecError: the step pins its reference by digest or version, which Spark's join does not check.
        ContractError: the reference is not as the step declares it, or a key of the DataFrame is of no plain type.
    """
    from pyspark.sql import functions  # noqa: PLC0415  only who has a DataFrame needs Spark

    if step.params.sha256 is not None or step.params.version is not None:
        message = f"step {step.id!r}: a reference that Spark joins cannot be pinned by sha256 or version; leave it out."
        raise SpecError(message)
    pairs = zip(step.inputs, step.params.keys, strict=True)
    keys = [_key(df, name, is_integer=key.type.is_integer) for name, key in pairs]
    right = _reference(step, reference)
    matches = [key == column(_key_name(at)) for at, key in enumerate(keys)]
    found = df.join(right, functools.reduce(lambda one, other: one & other, matches), "left")
    has_match = column(_MATCHED).isNotNull()
    made = []
    for at, name in enumerate(step.outputs):
        taken = column(_taken_name(at))
        if isinstance(step.params.on_no_match, AsValues):
            kind = spark_type(step.params.columns[at].type.arrow)
            value = functions.lit(step.params.on_no_match.of(name)).cast(kind)
            taken = functions.when(has_match, taken).otherwise(value)
        made.append(taken.alias(name))
    kept = [column(name) for name in df.columns]
    if step.params.on_no_match == "reject":
        if moved:
            made.append((~has_match).alias(unmatched(step.id)))
        else:
            reasons = column(REJECTED) if REJECTED in df.columns else functions.lit(None).cast("string")
            reason = functions.lit(json.dumps(list(step.rejection(f"/relational/{index}"))))
            made.append(functions.when(has_match | reasons.isNotNull(), reasons).otherwise(reason).alias(REJECTED))
            kept = [column(name) for name in df.columns if name != REJECTED]
    return found.select(*kept, *made)


def with_nothing(df: DataFrame, name: str) -> DataFrame:
    """With a text column of nulls."""
    from pyspark.sql import functions  # noqa: PLC0415  as above

    return df.withColumn(name, functions.lit(None).cast("string"))


def _key_name(at: int) -> str:
    return f"__batchscore_key_{at}"


def _taken_name(at: int) -> str:
    return f"__batchscore_taken_{at}"


def _key(df: DataFrame, name: str, *, is_integer: bool) -> Column:
    """A key as Spark compares it: without collation, and integers of any width alike."""
    kind = arrow_type(df.schema[name].dataType)
    if is_integer and kind is not None and pa.types.is_integer(kind):
        return column(name).cast("bigint")
    is_instant = kind == pa.timestamp("us", "UTC")
    if kind is None or is_integer or not (is_instant or any(is_kind(kind) for is_kind in _PLAIN)):
        found = df.schema[name].dataType.simpleString()
        message = f"column {name!r} is {found}, which Spark cannot join by; cast it to its type in the contract."
        raise ContractError(message)
    return column(name).cast("string") if pa.types.is_string(kind) else column(name)


def _reference(step: LookupJoin, reference: DataFrame) -> DataFrame:
    """Keys and columns taken, in their declared types and under names of our own.

    Raises:
        ContractError: a column is not there or of another type, a key is null or stands twice.
    """
    from pyspark.sql import functions  # noqa: PLC0415  as above

    where = f"reference {step.params.reference!r}"
    check_reference(step, arrow_schema(reference.schema), where)
    keys, taken = step.params.keys, step.params.columns
    kinds = [pa.int64() if key.type.is_integer else key.type.arrow for key in keys]
    fields = [pa.field(_key_name(at), kind) for at, kind in enumerate(kinds)]
    fields += [pa.field(_taken_name(at), part.type.arrow) for at, part in enumerate(taken)]
    declared = pa.schema([*fields, pa.field(_MATCHED, pa.bool_())])
    names = list(dict.fromkeys(part.name for part in (*keys, *taken)))
    read = map_batches(reference, names, functools.partial(_read, step=step, declared=declared), declared=declared)
    key_columns = [column(_key_name(at)) for at in range(len(keys))]
    without = functools.reduce(lambda one, other: one | other, (key.isNull() for key in key_columns))
    rows = functions.count(functions.lit(1))
    groups = read.groupBy(*key_columns).agg(rows.alias("rows")).filter(without | (column("rows") > 1))
    found = groups.select(without.alias("without")).limit(1).collect()
    if found:
        shown = ", ".join(key.name for key in keys)
        wrong = "are null and can match nothing; leave those rows out" if found[0]["without"] else _TWICE
        message = f"{where}: keys ({shown}) {wrong}."
        raise ContractError(message)
    return read


def _read(batches: Iterable[pa.RecordBatch], *, step: LookupJoin, declared: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Runs on a worker."""
    where = f"reference {step.params.reference!r}"
    for batch in batches:
        arrays = read_reference(step, pa.Table.from_batches([batch]), where)
        arrays.append(pa.array(np.ones(batch.num_rows, dtype=bool)))
        yield as_declared(dict(zip(declared.names, arrays, strict=True)), declared)
