"""`lookup_join`: columns of a small reference table, joined to each row in the worker."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from pydantic import Field, FiniteFloat

from etl.documents import Strict
from etl.entry import read
from etl.errors import ContractError
from etl.format.problems import listed, nearest
from etl.given import advice
from etl.ops.base import Name, Step, StepId
from etl.ops.codes import IntegerCodes, TextCodes
from etl.ops.groups import KEY_KINDS, sort_keys
from etl.ops.time import integers_of
from etl.printable import counted
from etl.tensors import matrix_of
from etl.treatments import fits
from etl.types import ColumnType, TypeName, is_readable, kernels, one_chunk

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from etl.frame import Column, Frame, RejectionCode
    from etl.types import ArrowArray

__all__ = [
    "AsValues",
    "LookupJoin",
    "LookupParams",
    "ReferenceColumn",
    "ReferenceTable",
    "check_reference",
    "content_sha256",
    "read_reference",
]

Codes: TypeAlias = "npt.NDArray[np.integer[Any]]"


class ReferenceColumn(Strict):
    """A column that the reference table gives."""

    name: Name = Field(description="Its name in the reference table.")
    type: TypeName = Field(description="Its type; the table may hold it in any form that a contract would read as it.")


class AsValues(Strict):
    """What the columns taken are in a row without a match."""

    as_value: bool | int | FiniteFloat | str | dict[Name, bool | int | FiniteFloat | str] = Field(
        description="One value for all of them, or one for each by its name in `out`."
    )

    def of(self, name: str) -> Any:
        """The value of one column."""
        return self.as_value[name] if isinstance(self.as_value, dict) else self.as_value

    def problem(self, outputs: Mapping[str, ColumnType]) -> str | None:
        """What does not go with the columns taken."""
        if isinstance(self.as_value, dict) and self.as_value.keys() != outputs.keys():
            return f"takes an as_value for each of {', '.join(outputs)}, found {', '.join(self.as_value)}"
        wrong = [f"{name} {kind}" for name, kind in outputs.items() if not fits(self.of(name), kind)]
        return f"has an as_value that is no value of {', '.join(wrong)}" if wrong else None


class LookupParams(Strict):
    """Which table, by which keys, and what happens to a row without a match."""

    reference: StepId = Field(description="Name of the reference table; the job says where it is.")
    keys: tuple[ReferenceColumn, ...] = Field(
        min_length=1, description="Key columns of the table, in the order of `in`. No key is null, none stands twice."
    )
    columns: tuple[ReferenceColumn, ...] = Field(min_length=1, description="Columns taken, in the order of `out`.")
    on_no_match: Literal["as_missing", "reject"] | AsValues = Field(
        default="as_missing", description="The columns taken are missing, the row is quarantined, or they have values."
    )
    version: str | None = Field(
        default=None,
        min_length=1,
        description="Which version of the table it must be: what its Parquet metadata says under `version`.",
    )
    sha256: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{64}$",
        description="SHA-256 that the content of its key columns and columns taken must have, whatever the order of "
        "rows and however it is stored; a wrong one is answered with the right one.",
    )


class LookupJoin(Step):
    """Left join to a table whose keys are unique. A row with a missing key has no match.

    Columns taken have the value of the matching row, missing where that is; in a row without a match they are missing,
    or, with `on_no_match: {as_value: …}`, that value. A missing value of a matching row stays missing.
    """

    op: Literal["lookup_join"]
    params: LookupParams
    arity = (None, None)

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """The types that the reference columns are declared with."""
        keys, columns = self.params.keys, self.params.columns
        if len(types) != len(keys) or len(self.outputs) != len(columns):
            message = f"takes {len(keys)} in and {len(columns)} out, as its keys and columns, found {len(types)} and "
            raise ValueError(f"{message}{len(self.outputs)}")
        for name, found, key in zip(self.inputs, types, keys, strict=True):
            if key.type.kind not in KEY_KINDS:
                message = f"takes keys of type {', '.join(KEY_KINDS)}, found {key.name} {key.type}"
                raise ValueError(message)
            if found != key.type and not (found.is_integer and key.type.is_integer):
                message = f"takes {name} as its key {key.name} is, {key.type}, found {found}"
                raise ValueError(message)
        on_no_match = self.params.on_no_match
        whole = [column for column in columns if not column.type.may_be_missing]
        if whole and on_no_match != "reject":
            item = f"{'an' if whole[0].type.item.startswith('i') else 'a'} {whole[0].type.item}"
            message = (
                f"takes {item} vector, which cannot be missing, only with on_no_match: reject; {whole[0].name} is one"
            )
            raise ValueError(message)
        if isinstance(on_no_match, AsValues):
            problem = on_no_match.problem(
                {name: column.type for name, column in zip(self.outputs, columns, strict=True)}
            )
            if problem is not None:
                raise ValueError(problem)
        return tuple(column.type for column in columns)

    def join(self, frame: Frame, table: ReferenceTable, pointer: str) -> tuple[Column, ...]:
        """One look-up for the whole batch."""
        rows = table.rows_of([frame.arrow(name) for name in self.inputs])
        if self.params.on_no_match == "reject":
            self.reject(frame, rows < 0, pointer)
        taken = table.take(rows)
        for name, column in zip(self.outputs, taken, strict=True):
            if isinstance(column, np.ndarray):
                frame.absent[name] = _absent(column)
        if isinstance(self.params.on_no_match, AsValues) and (rows < 0).any():
            return tuple(map(self._filled, self.outputs, taken, [pa.array(rows < 0)] * len(taken)))
        return taken

    def reject(self, frame: Frame, rows: npt.NDArray[np.bool_], pointer: str) -> None:
        """Set the rows without a match aside."""
        code, rule, column, message = self.rejection(pointer)
        frame.reject(rows, code=code, pointer=rule, column=column, message=message)

    def rejection(self, pointer: str) -> tuple[RejectionCode, str, str, str]:
        """Code, rule, column and message for a row without a match."""
        message = f"{', '.join(self.inputs)} has no match in {self.params.reference}"
        return "NO_MATCH", f"{pointer}/params/on_no_match", self.inputs[0], message

    def _filled(self, name: str, column: ArrowArray, rows: ArrowArray) -> Column:
        """With the value that is for rows without a match."""
        assert isinstance(self.params.on_no_match, AsValues)  # noqa: S101  else nothing is filled
        value = self.params.on_no_match.of(name)
        if isinstance(value, int) and pa.types.is_floating(column.type):
            value = float(value)  # Arrow refuses an integer beyond ±2^53 where a float is wanted
        filled: Column = kernels.if_else(rows, pa.scalar(value, column.type), column)
        return filled


class ReferenceTable:
    """A reference table with its keys indexed once, for all batches of a worker."""

    def __init__(self, index: _KeyIndex, columns: Sequence[Column]) -> None:
        """Made by `index`."""
        self._index = index
        self._columns = columns

    @classmethod
    def index(cls, step: LookupJoin, table: pa.Table, where: str) -> ReferenceTable:
        """Check the table's columns, types and the uniqueness of its keys, and index it.

        Raises:
            ContractError: the table lacks a column, has another type or a value that the declared one cannot hold, or a
                key is null or stands twice. The message shows no value.
        """
        check_reference(step, table.schema, where)
        keys = [_read(table, column, where) for column in step.params.keys]
        names = ", ".join(column.name for column in step.params.keys)
        without = sum(int(key.null_count) for key in keys)
        if without:
            message = f"{where}: {without} keys ({names}) are null and can match nothing; leave those rows out."
            raise ContractError(message)
        index = _KeyIndex(keys)
        twice = index.first_duplicate()
        if twice is not None:
            count, row, again = twice
            found = f"{count} of them stand more than once, the first in rows {row} and {again}, counted from 0"
            message = f"{where}: keys ({names}) must be unique; {found}."
            raise ContractError(message)
        _check_pin(step, table, keys, where=where)
        return cls(index, [_taken(table, column, where) for column in step.params.columns])

    def rows_of(self, keys: Sequence[ArrowArray]) -> Codes:
        """The table's row for each row of the key columns, −1 where there is none."""
        return self._index.rows_of(keys)

    def take(self, rows: Codes) -> tuple[Column, ...]:
        """The columns taken, for these rows of the table; missing for −1."""
        absent = rows < 0
        has_absent = bool(absent.any())
        indices: ArrowArray = pa.array(rows, mask=absent) if has_absent else pa.array(rows)
        taken: list[Column] = []
        for column in self._columns:
            if not isinstance(column, np.ndarray):
                taken.append(column.take(indices))
                continue
            matrix = column[rows] if len(column) else np.empty((len(rows), column.shape[1]), column.dtype)
            matrix[absent] = np.nan if column.dtype.kind == "f" else 0
            taken.append(matrix)
        return tuple(taken)


def check_reference(step: LookupJoin, schema: pa.Schema, where: str) -> None:
    """Refuse a table that lacks a column that the step declares, or has one of another type.

    Raises:
        ContractError: with every such column.
    """
    problems: list[str] = []
    for column in (*step.params.keys, *step.params.columns):
        count = len(schema.get_all_field_indices(column.name))
        if count != 1:
            found = "is not there" if not count else f"is there {count} times"
            problems.append(f"column {column.name!r} {found}.{'' if count else nearest(column.name, schema.names)}")
        elif not is_readable(schema.field(column.name).type, column.type):
            found = f"has type {schema.field(column.name).type}, step {step.id!r} says {column.type}"
            found += advice(column.name, column.type, schema)
            problems.append(f"column {column.name!r} {found}")
    if problems:
        message = f"{where}: is not the table that step {step.id!r} declares: {listed(problems)}"
        raise ContractError(message)


def read_reference(step: LookupJoin, table: pa.Table, where: str) -> list[ArrowArray]:
    """Key columns, then columns taken, in their declared types.

    Raises:
        ContractError: a value cannot be held.
    """
    arrays = [_read(table, column, where) for column in step.params.keys]
    for column in step.params.columns:
        taken = _taken(table, column, where)
        if isinstance(taken, np.ndarray):
            offsets = pa.array(np.arange(len(taken) + 1, dtype=np.int32) * column.type.width)
            taken = pa.ListArray.from_arrays(offsets, pa.array(taken.reshape(-1)), mask=pa.array(_absent(taken)))
        arrays.append(taken)
    return arrays


def _absent(vectors: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which rows have no vector: a joined one whose values are all NaN is one that is missing."""
    return (
        np.asarray(np.isnan(vectors).all(axis=1)) if vectors.dtype.kind == "f" else np.zeros(len(vectors), dtype=bool)
    )


def _check_pin(step: LookupJoin, table: pa.Table, keys: Sequence[ArrowArray], *, where: str) -> None:
    """Refuse a table that is not of the version, or has not the content, that the step names."""
    params = step.params
    told = (table.schema.metadata or {}).get(b"version", b"").decode(errors="replace")
    if params.version not in {None, told}:
        found = f"the table's metadata says {told!r:.80}" if told else "the table's metadata has no version"
        message = f"{where}: step {step.id!r} joins version {params.version!r}, {found}."
        raise ContractError(message)
    if params.sha256 is not None:
        found = _digest(step, table, keys, where=where)
        if found != params.sha256:
            message = f"{where}: its content has SHA-256 {found}, step {step.id!r} joins {params.sha256}."
            raise ContractError(message)


def content_sha256(step: LookupJoin, table: pa.Table, where: str) -> str:
    """What `sha256` of the step must say to pin this table."""
    return _digest(step, table, [_read(table, column, where) for column in step.params.keys], where=where)


def _digest(step: LookupJoin, table: pa.Table, keys: Sequence[ArrowArray], *, where: str) -> str:
    """Of name, type, presence and values of each column, rows in the order of their keys; however it is stored."""
    sorts = [part for key in keys for part in sort_keys(key)]
    rows = np.lexsort(sorts[::-1])
    total = hashlib.sha256()
    for column in (*step.params.keys, *step.params.columns):
        total.update(f"{column.name}\0{column.type}\0{rows.size}\0".encode())
        taken = _taken(table, column, where)
        if isinstance(taken, np.ndarray):
            total.update(np.ascontiguousarray(taken[rows]).tobytes())
            continue
        array: ArrowArray = taken.take(pa.array(rows))
        total.update(array.is_null().to_numpy(zero_copy_only=False).tobytes())
        total.update(_value_bytes(array))
    return total.hexdigest()


def _value_bytes(array: ArrowArray) -> bytes:
    """The values of a column one behind the other: numbers little-endian, else each as text behind its length."""
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.uint8())
    if pa.types.is_primitive(array.type):
        numbers = array.view(_INTEGERS[array.type.bit_width]).fill_null(0).to_numpy()
        return np.asarray(numbers, dtype=numbers.dtype.newbyteorder("<")).tobytes()
    texts = array.to_pylist()
    data = [(text if isinstance(text, str) else repr(text)).encode() for text in texts if text is not None]
    return b"".join(len(text).to_bytes(8, "little") + text for text in data)


_INTEGERS = {8: pa.uint8(), 32: pa.int32(), 64: pa.int64()}
"""By bits; a float's bits are its value."""


def _read(table: pa.Table, column: ReferenceColumn, where: str) -> ArrowArray:
    values, unheld = read(table.column(column.name), column.type)
    for violation in unheld:
        rows = violation.rows
        place = (
            f"in {counted(int(rows.sum()), 'row')}, the first {np.argmax(rows)}, counted from 0: it {violation.reason}"
        )
        message = f"{where}: column {column.name!r} holds a value that {column.type} cannot hold, {place}."
        raise ContractError(message)
    return values


def _taken(table: pa.Table, column: ReferenceColumn, where: str) -> Column:
    if column.type.kind != "vector":
        taken: pa.Array[Any] = _read(table, column, where)
        return taken
    given = one_chunk(table.column(column.name))
    matrix, broken = matrix_of(given, column.type.width, column.type.item)
    if not column.type.may_be_missing:
        broken = broken | given.is_null().to_numpy(zero_copy_only=False)
    if broken.any():
        count = counted(int(broken.sum()), "row")
        message = f"{where}: column {column.name!r} has {count} without {column.type.width} values."
        raise ContractError(message)
    return matrix


class _KeyIndex:
    """Keys of several columns as one integer, column by column.

    The codes of the columns so far and of the next are digits of a mixed radix, and the numbers that occur are coded
    anew before the next column: no code exceeds the number of rows, so no product of two overflows int64.
    """

    def __init__(self, keys: Sequence[ArrowArray]) -> None:
        first, *others = keys
        self._columns = [_code_column(key) for key in keys]
        codes = _codes(self._columns[0], first).astype(np.int64)
        self._pairs: list[tuple[int, IntegerCodes]] = []
        for key, column in zip(others, self._columns[1:], strict=True):
            digits = _codes(column, key)
            radix = int(digits.max(initial=0)) + 1
            pairs = codes * radix + digits
            coding = IntegerCodes(np.unique(pairs))
            self._pairs.append((radix, coding))
            codes = coding.codes(pairs).astype(np.int64)
        self._row_of_code = np.full(len(first) + 1, -1, dtype=np.int64)
        self._row_of_code[codes] = np.arange(len(first))
        self._codes = codes

    def first_duplicate(self) -> tuple[int, int, int] | None:
        """How many keys stand more than once, and the first two rows of the one that begins first."""
        counts = np.bincount(self._codes)
        twice = counts[self._codes] > 1
        if not twice.any():
            return None
        row = int(np.argmax(twice))
        again = int(np.flatnonzero(self._codes == self._codes[row])[1])
        return int((counts > 1).sum()), row, again

    def rows_of(self, keys: Sequence[ArrowArray]) -> Codes:
        """Row of each key; −1, which also addresses the last place of the table, for one that has none."""
        codes = _codes(self._columns[0], keys[0])
        for column, key, (radix, coding) in zip(self._columns[1:], keys[1:], self._pairs, strict=True):
            digits = _codes(column, key)
            pairs = codes.astype(np.int64) * radix + digits
            pairs[(codes < 0) | (digits < 0)] = -1
            codes = coding.codes(pairs)
        return self._row_of_code[codes]


def _code_column(key: ArrowArray) -> TextCodes | IntegerCodes:
    if pa.types.is_string(key.type):
        return TextCodes(key.unique().to_pylist())
    return IntegerCodes(np.unique(_as_integers(key)))


def _codes(column: TextCodes | IntegerCodes, key: ArrowArray) -> Codes:
    """Codes of one key column; −1 for a missing or unknown key."""
    if isinstance(column, TextCodes):
        return column.codes(key)
    codes = column.codes(_as_integers(key))
    if key.null_count:
        codes[key.is_null().to_numpy(zero_copy_only=False)] = -1
    return codes


def _as_integers(key: ArrowArray) -> npt.NDArray[np.int64]:
    return integers_of(key.cast(pa.int8()).cast(pa.int64()) if pa.types.is_boolean(key.type) else key)
