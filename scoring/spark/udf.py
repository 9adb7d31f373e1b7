"""`score_udf`: a bundle as a column function, for expressions of DataFrames and SQL; by the engine of a job.

An Arrow function where Spark has it (4.1), else a pandas one, of the kind that gets an iterator of batches: the model's
batches are its own, whatever those of Spark are. It is marked as not deterministic, since Spark evaluates a
deterministic function again for each filter on its result. So it may not stand where Spark allows none of these, in the
condition of a join or inside an aggregate: make a column of it first. Spark 4.1 takes it in ORDER BY.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pyarrow as pa

from etl.errors import ContractError, SpecError
from etl.spark.schema import column
from etl.types import is_readable
from scoring.engine.stream import OnBadRow, ScoreOptions, check_choice, check_streamable, pinned_tables
from scoring.errors import BundleError
from scoring.spark.streaming import Work, declared_types, published_fields, scored_batches, spark_columns, work_for
from scoring.tables import REJECTED, BundleLike, audited_bundle, check_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import Column, SparkSession

    from etl.contract import InputField
    from etl.types import ArrowArray, ColumnType
    from scoring.engine.stream import Scored

__all__ = ["ScoreFunction", "score_udf"]

ScoreFunction = Callable[..., "Column"]
"""Called with the columns of the contract in their order, with one struct that has them by name, or with nothing for
the columns of these names."""

_WHERE = "the columns of score_udf"
_EXACT = 2**53


class _Task(NamedTuple):
    """What a task of the function is told."""

    work: Work
    fields: tuple[tuple[str, ColumnType], ...]
    """Name and type of each field of the contract, in their order."""
    published: list[pa.Field]
    has_reasons: bool

    @property
    def is_struct(self) -> bool:
        """Whether it gives more than one value a row."""
        return self.has_reasons or len(self.published) > 1


def score_udf(
    bundle: BundleLike,
    references: Mapping[str, Any] | None = None,
    *,
    on_bad_row: OnBadRow | Literal["reason"] = "null",
    options: ScoreOptions | None = None,
    shared: str | None = None,
    spark: SparkSession | None = None,
    way: Literal["auto", "arrow", "pandas"] = "auto",
) -> ScoreFunction:
    """A bundle as a column function. For SQL, give it to `spark.udf.register` with a name.

    It gives the published column where the bundle has one, else a struct of them. A row that the contract, a step or
    the model refuses has null in each (`on_bad_row="null"`), and the reason in a field `rejected` of the struct
    (`"reason"`); or it fails the query (`"fail"`). A row that a filter of the spec leaves out has null, and fails none.

    `references` are the tables that the spec joins, by name. `shared` is a folder that this process can write to and
    all workers can read, in which the bundle is put; without it, it is sent with the session, which is `spark` or the
    active one. `way` is how rows come to the workers; auto is arrow where this Spark has it.

    Raises:
        BundleError: there is no bundle, it is not sound, there is no session, or this Spark cannot give its rows.
        SpecError, ContractError: the spec needs the whole table; a reference is not given or is not as declared;
            `on_bad_row` or `way` is another word.
    """
    check_choice("on_bad_row", on_bad_row, ("null", "reason", "fail"))
    check_choice("way", way, ("auto", "arrow", "pandas"))
    audited = audited_bundle(bundle)
    check_streamable(audited, "Use scoring.spark.frames.score, which sees the DataFrame.")
    check_names(audited, (), (), has_reasons=on_bad_row == "reason")
    fields = audited.spec.input.fields
    kind = _way(way)
    if kind == "pandas":
        _check_pandas(fields)
    work = work_for(
        _session(spark),
        audited,
        pinned_tables(audited, references),
        options=options,
        on_bad_row="fail" if on_bad_row == "fail" else "null",
        shared=shared,
    )
    told = tuple((field.name, field.type) for field in fields)
    task = _Task(work, told, published_fields(audited), on_bad_row == "reason")
    function = _arrow_function(task) if kind == "arrow" else _pandas_function(task)
    return _with_columns(function.asNondeterministic(), [field.name for field in fields])


def _session(spark: SparkSession | None) -> SparkSession:
    from pyspark.sql import SparkSession  # noqa: PLC0415  only who has a session needs Spark

    found = spark or SparkSession.getActiveSession()
    if found is None:
        message = "score_udf: there is no active Spark session to send the bundle with. Give it: spark="
        raise BundleError(message)
    return found


def _way(asked: Literal["auto", "arrow", "pandas"]) -> Literal["arrow", "pandas"]:
    from pyspark.sql import functions  # noqa: PLC0415  as above

    has_arrow = hasattr(functions, "arrow_udf")
    if asked == "arrow" and not has_arrow:
        message = "score_udf: this Spark has no Arrow functions; 4.1 has them. Leave `way` out."
        raise BundleError(message)
    return "arrow" if has_arrow and asked != "pandas" else "pandas"


def _with_columns(function: Any, names: Sequence[str]) -> ScoreFunction:
    """The function, for which no columns are those of the contract. It keeps what `register` looks for."""

    @functools.wraps(function)
    def scored(*columns: Any) -> Column:
        if len(columns) not in {0, 1, len(names)}:
            message = (
                f"score_udf: takes the {len(names)} columns {', '.join(names)} in this order, one struct that has them "
                f"by name, or nothing for the columns of these names; it was given {len(columns)}."
            )
            raise ContractError(message)
        made: Column = function(*(columns or map(column, names)))
        return made

    return scored


def _returned(task: _Task) -> Any:
    """Spark's type of what the function gives."""
    from pyspark.sql.types import StringType, StructField, StructType  # noqa: PLC0415  as above

    types = declared_types(task.published)
    if not task.is_struct:
        return types[0]
    members = [StructField(field.name, kind) for field, kind in zip(task.published, types, strict=True)]
    if task.has_reasons:
        members.append(StructField(REJECTED, StringType()))
    return StructType(members)


def _arrow_function(task: _Task) -> Any:
    from pyspark.sql import functions  # noqa: PLC0415  as above

    # Spark tells the kind of function by these names, and looks them up where the function is written.
    def score(batches: Iterator[tuple[pa.Array, ...]]) -> Iterator[pa.Array]:
        yield from _scored(task, batches)

    any_functions: Any = functions  # it depends on Spark's version what is there
    return any_functions.arrow_udf(score, _returned(task))


def _scored(task: _Task, batches: Iterator[tuple[ArrowArray, ...]]) -> Iterator[ArrowArray]:
    """Runs on a worker."""
    for found in scored_batches(task.work, _named(task, batches), _WHERE):
        columns = spark_columns(found, task.published)
        yield _struct(task, found, columns) if task.is_struct else columns[0]


def _named(task: _Task, batches: Iterator[Any]) -> Iterator[pa.RecordBatch]:
    """The columns by the contract's names, however they were given."""
    names = [name for name, _ in task.fields]
    for given in batches:
        columns = given if isinstance(given, tuple) else (given,)
        is_struct = len(columns) == 1 and isinstance(columns[0], pa.StructArray)
        if is_struct and (len(names) > 1 or task.fields[0][1].kind != "struct"):
            members = columns[0].flatten()
            yield pa.RecordBatch.from_arrays(members, names=[field.name for field in columns[0].type])
        elif len(columns) == len(names):
            yield pa.RecordBatch.from_arrays(list(columns), names=names)
        else:
            message = f"{_WHERE}: {len(columns)} were given, the bundle reads {len(names)}: {', '.join(names)}."
            raise ContractError(message)


def _struct(task: _Task, found: Scored, columns: list[ArrowArray]) -> ArrowArray:
    names = [field.name for field in task.published]
    if not task.has_reasons:
        return pa.StructArray.from_arrays(columns, names)
    return pa.StructArray.from_arrays([*columns, found.reasons], [*names, REJECTED])


def _pandas_function(task: _Task) -> Any:
    import pandas as pd  # noqa: PLC0415  only where Spark has no other kind of function
    from pyspark.sql import functions  # noqa: PLC0415  only who has a session needs Spark

    given: Any = pd.DataFrame if task.is_struct else pd.Series

    def score(batches: Any) -> Any:
        yield from _scored_by_pandas(task, batches)

    score.__annotations__ = {"batches": Iterator[tuple[pd.Series, ...]], "return": Iterator[given]}
    any_functions: Any = functions
    return any_functions.pandas_udf(score, _returned(task))


def _scored_by_pandas(task: _Task, batches: Iterator[Any]) -> Iterator[Any]:
    """Runs on a worker."""
    arrays = (_from_pandas(task, given if isinstance(given, tuple) else (given,)) for given in batches)
    for found in _scored(task, arrays):
        if not task.is_struct:
            yield found.to_pandas(integer_object_nulls=True)
            continue
        table = pa.Table.from_arrays(found.flatten(), names=[field.name for field in found.type])
        yield table.to_pandas(integer_object_nulls=True)


def _from_pandas(task: _Task, columns: tuple[Any, ...]) -> tuple[ArrowArray, ...]:
    """The columns in types from which the contract reads its fields, in their order."""
    if len(columns) == 1 and hasattr(columns[0], "columns"):
        frame = columns[0]
        missing = [name for name, _ in task.fields if name not in frame.columns]
        if missing:
            message = f"{_WHERE}: the struct has no field {', '.join(missing)}."
            raise ContractError(message)
        columns = tuple(frame[name] for name, _ in task.fields)
    if len(columns) != len(task.fields):
        names = ", ".join(name for name, _ in task.fields)
        message = f"{_WHERE}: {len(columns)} were given, the bundle reads {len(task.fields)}: {names}."
        raise ContractError(message)
    return tuple(_array(series, *field) for series, field in zip(columns, task.fields, strict=True))


def _array(series: Any, name: str, wanted: ColumnType) -> ArrowArray:
    """A column of pandas, which has no missing integers: they come as floats, as long as these hold them."""
    try:
        found = pa.array(series, from_pandas=True)
        if is_readable(found.type, wanted):
            return found
        if wanted.is_integer and pa.types.is_floating(found.type) and (series.abs() > _EXACT).any():
            message = f"{_WHERE}: {name} has integers beyond ±2^53 and missing ones, which pandas cannot hold together."
            raise ContractError(f"{message} Use scoring.spark.frames.score.")
        return found.cast(wanted.arrow)
    except pa.ArrowException:
        # Arrow's own words show a value, which may be personal data.
        message = f"{_WHERE}: {name} is no {wanted} as pandas gives it. Use scoring.spark.frames.score."
        raise ContractError(message) from None


def _check_pandas(fields: Sequence[InputField]) -> None:
    """Refuse what pandas would change on the way."""
    for field in fields:
        if field.nan_is_value:
            reason = "NaN is a value to it, and pandas makes NaN of what is missing"
        elif field.type.kind == "timestamp":
            reason = "pandas gets timestamps without a zone"
        else:
            continue
        message = f"score_udf: field {field.name!r} cannot go through a pandas function, and this Spark has no other"
        raise SpecError(f"{message}: {reason}. Use scoring.spark.frames.score.")
