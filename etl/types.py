"""Column types of specs and contracts, the one Arrow type that each has inside, and what may be read as it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from etl.format.problems import near

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler

__all__ = [
    "INTEGER_BOUNDS",
    "MOST_WIDTH",
    "SCALARS",
    "UNSIGNED",
    "VECTOR_ITEMS",
    "ArrowArray",
    "ColumnType",
    "Schema",
    "TypeName",
    "canonical",
    "decoded",
    "held",
    "is_bytes",
    "is_readable",
    "joined",
    "kernels",
    "one_chunk",
    "parts_of",
    "rows_with",
    "unread_subfields",
    "width_of",
    "workable",
]

ArrowArray: TypeAlias = Any
"""A `pyarrow.Array`, without its type: the stubs of pyarrow have wrong or missing overloads for most kernels."""

kernels: Any = pyarrow.compute
"""`pyarrow.compute`, without its types, as above."""

SCALARS: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "uint64": pa.uint64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "string": pa.string(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", "UTC"),
}
"""The canonical Arrow type of each scalar kind. `uint64` is for ids, such as hashes: it is carried, and no number."""

VECTOR_ITEMS: dict[str, pa.DataType] = {
    "float32": pa.float32(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "float16": pa.float16(),
    "int32": pa.int32(),
    "int16": pa.int16(),
    "int8": pa.int8(),
    "uint32": pa.uint32(),
    "uint16": pa.uint16(),
    "uint8": pa.uint8(),
    "bool": pa.bool_(),
}
"""The Arrow type of the elements of a vector, by what numpy calls it; all but `bool` have numpy's memory layout."""

INTEGER_BOUNDS = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}
"""Smallest and largest value of each integer kind."""

UNSIGNED = pa.decimal128(20, 0)
"""What Spark, and databases without uint64, hold one in: the one type of decimals that is read as an integer."""

_ITEMS = "|".join(VECTOR_ITEMS)
_VECTOR = rf"({_ITEMS})\[([1-9][0-9]{{0,6}})\]"
_OTHER_WIDTH = rf"(?:{_ITEMS})\[(?:-[0-9]+|0+|[1-9][0-9]{{7,}})\]"
_FORMS = (f"{'|'.join(VECTOR_ITEMS)}[width]", "list<scalar>", "struct<name: scalar, …>")

MOST_WIDTH = 9_999_999
"""Values a row of a vector, or of the columns of a tensor: what the text of a type can say."""

_DAY_MILLISECONDS = 86_400_000
_MICROSECONDS = {"s": 1_000_000, "ms": 1000}
"""In a unit that is coarser than they are."""
_DECIMAL_BITS = 128
_INT64_DIGITS = 18
"""So many decimal digits fit int64 whatever they are."""
_EXACT_INTEGERS = 2**53
_EXACT_POWER = 22
"""float64 holds powers of ten exactly up to this one."""


class ColumnType(NamedTuple):
    """A column's type: a scalar kind, a vector of `width` numbers, a list of any length, or a struct of scalars."""

    kind: str
    """One of `SCALARS`, or `vector`, `list`, `struct`."""
    width: int = 1
    """Values per row; above 1 only for a vector, 0 of one whose width a fit has yet to tell."""
    item: str = "float32"
    """Kind of the elements of a vector (one of `VECTOR_ITEMS`) or of a list; without meaning for others."""
    fields: tuple[tuple[str, str], ...] = ()
    """Name and kind of each field of a struct."""

    @classmethod
    def parse(cls, text: str) -> ColumnType:
        """From `float64`, `string`, …, `float32[28]`, `int64[128]` and `uint8[784]` for vectors, `list<string>`, or
        `struct<city: string, zip: int64>`.

        Raises:
            ValueError: no such type.
        """  # noqa: D205  the forms are one sentence
        if text in SCALARS:
            return cls(text)
        if vector := re.fullmatch(_VECTOR, text):
            return cls("vector", int(vector[2]), vector[1])
        if re.fullmatch(_OTHER_WIDTH, text):
            message = f"a vector has 1 to {MOST_WIDTH:,} values a row"
            raise PydanticCustomError("E-SIZE", "{message}", {"message": message})
        if (inner := re.fullmatch(r"list<([a-z0-9]+)>", text)) and inner[1] in SCALARS:
            return cls("list", 1, inner[1])
        if struct := re.fullmatch(r"struct<(.+)>", text):
            fields = tuple((name, kind) for name, _, kind in (part.partition(": ") for part in struct[1].split(", ")))
            if all(name and kind in SCALARS for name, kind in fields) and len(dict(fields)) == len(fields):
                return cls("struct", fields=fields)
        message = f"no column type {text!r:.80}; there is: {', '.join(SCALARS)}, {', '.join(_FORMS)}{_hint(text)}"
        raise ValueError(message)

    def __str__(self) -> str:
        """As `parse` reads it; a width that is not known is `?`."""
        if self.kind == "vector":
            return f"{self.item}[{self.width or '?'}]"
        if self.kind == "struct":
            return f"struct<{', '.join(f'{name}: {kind}' for name, kind in self.fields)}>"
        return f"list<{self.item}>" if self.kind == "list" else self.kind

    @property
    def arrow(self) -> pa.DataType:
        """The canonical Arrow type that a column of this type is cast to on entry."""
        if self.kind == "struct":
            return pa.struct([pa.field(name, SCALARS[kind]) for name, kind in self.fields])
        if self.kind == "vector":
            return pa.list_(VECTOR_ITEMS[self.item])
        return pa.list_(SCALARS[self.item]) if self.kind == "list" else SCALARS[self.kind]

    @property
    def is_scalar(self) -> bool:
        """Whether a row has one value."""
        return self.kind in SCALARS

    @property
    def is_numeric(self) -> bool:
        """Whether ops may take it as float64."""
        return self.kind in {"bool", "int32", "int64", "float32", "float64"}

    @property
    def is_float(self) -> bool:
        """Whether NaN can occur."""
        return self.kind in {"float32", "float64"}

    @property
    def is_integer(self) -> bool:
        """Whether values are whole numbers."""
        return self.kind in INTEGER_BOUNDS

    @property
    def may_be_missing(self) -> bool:
        """Whether a row can be without a value: a vector of integers or bools has no NaN to say so."""
        return self.kind != "vector" or self.item.startswith("float")


_ELSEWHERE = {
    **dict.fromkeys(("double", "float", "number"), "float64"),
    **dict.fromkeys(("int", "integer", "long", "bigint"), "int64"),
    **dict.fromkeys(("str", "text", "varchar"), "string"),
    "boolean": "bool",
    "datetime": "timestamp",
}
"""What types are called in other places."""


def _hint(text: str) -> str:
    """The type that a name of none is near to."""
    if text.lower() in _ELSEWHERE:
        return f'. Did you mean "{_ELSEWHERE[text.lower()]}"?'
    bracket = text.partition("[")
    vectors = [f"{item}[{bracket[2]}" for item in VECTOR_ITEMS] if bracket[1] else []
    found = near(text, [*SCALARS, *(f"list<{kind}>" for kind in SCALARS), *vectors])
    return f".{found}" if found else ""


class _ColumnTypeSchema:
    """Lets pydantic read and write a `ColumnType` as text."""

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        def read(value: Any) -> ColumnType:
            if isinstance(value, ColumnType):
                return value
            if isinstance(value, str):
                return ColumnType.parse(value)
            message = "a column type is text, such as float64"
            raise ValueError(message)

        return core_schema.no_info_plain_validator_function(read, serialization=core_schema.to_string_ser_schema())

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {
            "anyOf": [
                {"enum": list(SCALARS)},
                {"type": "string", "pattern": rf"^{_VECTOR}$"},
                {"type": "string", "pattern": rf"^list<({'|'.join(SCALARS)})>$"},
                {"type": "string", "pattern": "^struct<.+>$"},
            ]
        }


TypeName = Annotated[ColumnType, _ColumnTypeSchema]
"""A column type in a document."""


def width_of(types: Iterable[ColumnType]) -> int:
    """Values per row of columns side by side; 0 where a width is not known before the fit."""
    widths = [found.width for found in types]
    return sum(widths) if all(widths) else 0


Schema = dict[str, ColumnType]
"""Columns by name, in the order in which they came to be."""


def is_bytes(found: pa.DataType) -> bool:
    """Whether rows are bytes, of one length or of any: what a vector of uint8 may be stored as."""
    kinds = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
    return any(is_kind(found) for is_kind in kinds)


def is_readable(found: pa.DataType, wanted: ColumnType) -> bool:
    """Whether every value of the found type is one of the wanted type, or is checked value by value on entry.

    Checked by value: unsigned, negative or wide integers, decimals with a fraction, lists of another length or of lists
    of several, bytes of another length, timestamps far from today.
    """
    if isinstance(found, pa.DictionaryType):
        return wanted.is_scalar and is_readable(found.value_type, wanted)
    if pa.types.is_null(found):
        return True
    if wanted.kind == "struct":
        return isinstance(found, pa.StructType) and not unread_subfields(found, wanted)
    if isinstance(found, pa.ListType | pa.LargeListType | pa.FixedSizeListType):
        return _holds_elements(found.value_type, wanted)
    if is_bytes(found):
        return wanted.kind == "vector" and wanted.item == "uint8"
    is_decimal = pa.types.is_decimal(found) and found.scale >= 0
    rules: dict[str, bool] = {
        "bool": pa.types.is_boolean(found),
        "int32": found in {pa.int8(), pa.int16(), pa.int32(), pa.uint8(), pa.uint16()},
        "int64": pa.types.is_integer(found) or is_decimal,
        "uint64": pa.types.is_integer(found) or is_decimal,
        "float32": found in {pa.float16(), pa.float32()},
        "float64": pa.types.is_floating(found) or pa.types.is_integer(found) or is_decimal,
        "string": pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_string_view(found),
        "date": pa.types.is_date(found),
        "timestamp": pa.types.is_timestamp(found),
    }
    return rules.get(wanted.kind, False)


def _holds_elements(inner: pa.DataType, wanted: ColumnType) -> bool:
    """Whether a list with elements of this type is readable; a vector may be a list of lists, to any depth."""
    if wanted.kind == "list":
        return is_readable(inner, ColumnType(wanted.item))
    if wanted.kind != "vector":
        return False
    if isinstance(inner, pa.ListType | pa.LargeListType | pa.FixedSizeListType):
        return _holds_elements(inner.value_type, wanted)
    if pa.types.is_null(inner):
        return True
    if wanted.item == "bool":
        return bool(pa.types.is_boolean(inner))
    return bool(
        pa.types.is_floating(inner) if wanted.may_be_missing else pa.types.is_integer(inner) or inner == UNSIGNED
    )


def unread_subfields(found: pa.StructType, wanted: ColumnType) -> list[str]:
    """What is wrong with each subfield that a struct of the wanted type needs; others do not matter."""
    problems = []
    for name, kind in wanted.fields:
        there = found.get_all_field_indices(name)
        if len(there) != 1:
            problems.append(f"subfield {name!r} is {f'there {len(there)} times' if there else 'not there'}")
        elif not is_readable(found.field(there[0]).type, ColumnType(kind)):
            problems.append(f"subfield {name!r} has type {found.field(there[0]).type}, not {kind}")
    return problems


def canonical(column: ArrowArray, wanted: ColumnType) -> ArrowArray:
    """A column of a readable type, in the wanted type's own Arrow type and without a copy where it has it.

    A timestamp without a zone is UTC, one with a zone keeps its instant, and units finer than µs are floored. A decimal
    becomes the nearest float64. Vectors are read by `etl.tensors.matrix_of` instead.

    Raises:
        pa.ArrowInvalid: a value has no equal in the wanted type.
    """
    column = decoded(column)
    if column.type == wanted.arrow:
        return column
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), wanted.arrow)
    if not wanted.is_scalar:
        return joined(column, wanted, [canonical(part, kind) for part, kind in parts_of(column, wanted)])
    if wanted.kind == "timestamp":
        return _to_utc_microseconds(column)
    if pa.types.is_decimal(column.type) and wanted.kind == "float64":
        return _nearest_float64(column)
    return column.cast(wanted.arrow)


def parts_of(column: ArrowArray, wanted: ColumnType) -> list[tuple[ArrowArray, ColumnType]]:
    """All elements of a list column one behind the other, or the subfields of a struct column, with their types."""
    if wanted.kind != "struct":
        return [(column.flatten(), ColumnType(wanted.item))]
    subfields = dict(zip([field.name for field in column.type], column.flatten(), strict=True))
    return [(subfields[name], ColumnType(kind)) for name, kind in wanted.fields]


def joined(
    column: ArrowArray,
    wanted: ColumnType,
    parts: Sequence[ArrowArray],
    *,
    absent: npt.NDArray[np.bool_] | None = None,
) -> ArrowArray:
    """The column with other parts of the same lengths, null where it is null and where `absent` says."""
    null = column.is_null().to_numpy(zero_copy_only=False)
    mask: Any = pa.array(null if absent is None else null | absent)
    if wanted.kind == "struct":
        return pa.StructArray.from_arrays(parts, fields=list(wanted.arrow), mask=mask)
    ends = np.cumsum(_lengths(column))
    offsets: ArrowArray = pa.array(np.concatenate([[0], ends])).cast(pa.int32())
    return pa.ListArray.from_arrays(offsets, parts[0], mask=mask)


def rows_with(column: ArrowArray, wanted: ColumnType, marked: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which rows of a list or struct column have a marked element or subfield, `marked` being as long as the part."""
    if wanted.kind == "struct":
        return marked
    rows = np.zeros(len(column), dtype=bool)
    rows[np.repeat(np.arange(len(column)), _lengths(column))[marked]] = True
    return rows


def _lengths(column: ArrowArray) -> npt.NDArray[np.int64]:
    """Elements of each list, 0 of a null one."""
    return np.asarray(kernels.list_value_length(column).fill_null(0).to_numpy()).astype(np.int64)


_UNEASY = re.compile(r"_view|indices=u?int(8|16)")


def workable(rows: ArrowArray) -> ArrowArray:
    """A batch or table as Arrow can work on it; as it is where it is that already.

    Of string and binary views Arrow can take or filter no rows. Dictionaries whose codes are of 8 or 16 bits cannot be
    joined with others where they have too many values together.
    """
    # Ten times as quick as looking at each type, and done for each batch.
    if not _UNEASY.search(str(rows.schema)):
        return rows
    fields = [field.with_type(_workable_type(field.type)) for field in rows.schema]
    return rows.cast(pa.schema(fields, rows.schema.metadata))


def _workable_type(found: pa.DataType) -> pa.DataType:
    """The type with texts, bytes and codes of the plain kind, at any depth."""
    if isinstance(found, pa.DictionaryType):
        codes = pa.int32() if found.index_type.bit_width < 32 else found.index_type  # noqa: PLR2004  bits
        return pa.dictionary(codes, _workable_type(found.value_type), found.ordered)
    if isinstance(found, pa.ListType | pa.LargeListType | pa.FixedSizeListType):
        item = found.value_field.with_type(_workable_type(found.value_type))
        if isinstance(found, pa.FixedSizeListType):
            return pa.list_(item, found.list_size)
        return pa.list_(item) if isinstance(found, pa.ListType) else pa.large_list(item)
    if isinstance(found, pa.StructType):
        return pa.struct([field.with_type(_workable_type(field.type)) for field in found])
    if pa.types.is_string_view(found):
        return pa.string()
    return pa.binary() if pa.types.is_binary_view(found) else found


def decoded(column: ArrowArray) -> ArrowArray:
    """One array, no dictionary, and decimals of 128 or 256 bits: Arrow lacks kernels for narrower ones."""
    column = one_chunk(column)
    if isinstance(column.type, pa.DictionaryType):
        column = column.cast(_workable_type(column.type)).dictionary_decode()
    if pa.types.is_decimal(column.type) and column.type.bit_width < _DECIMAL_BITS:
        column = column.cast(pa.decimal128(column.type.precision, column.type.scale))
    return column


def held(column: ArrowArray, wanted: ColumnType) -> tuple[ArrowArray, npt.NDArray[np.bool_] | None]:
    """As `canonical` for a scalar, with null for what has no equal in the type; and which rows that is, if any."""
    column = decoded(column)
    try:
        return canonical(column, wanted), None
    except pa.ArrowInvalid:
        rows = _without_equal(column, wanted)
        kept = kernels.if_else(pa.array(rows), pa.scalar(None, column.type), column)
        return canonical(kept, wanted), rows


def _without_equal(column: ArrowArray, wanted: ColumnType) -> npt.NDArray[np.bool_]:
    """Integers of the other sign or half, instants that are too far away for µs, dates with a time of day."""
    if pa.types.is_decimal(column.type):
        # Arrow has no kernel that compares any two decimals.
        low, high = (0, 2**64 - 1) if wanted.kind == "uint64" else INTEGER_BOUNDS["int64"]
        values = column.to_pylist()
        return np.array([v is not None and (v != v.to_integral_value() or not low <= v <= high) for v in values])
    is_number = pa.types.is_integer(column.type)
    values = (column if is_number else column.view(pa.int64())).fill_null(0).to_numpy()
    if is_number:
        return np.asarray(values < 0 if wanted.kind == "uint64" else values > INTEGER_BOUNDS["int64"][1])
    if pa.types.is_date(column.type):
        return np.asarray(values % _DAY_MILLISECONDS != 0)
    furthest = INTEGER_BOUNDS["int64"][1] // _MICROSECONDS[column.type.unit]
    return np.asarray((values < -furthest) | (values > furthest))


def _nearest_float64(column: ArrowArray) -> ArrowArray:
    """Decimals as the nearest float64, ties to even. Arrow's own cast may be off by a unit in the last place."""
    precision, scale = column.type.precision, column.type.scale
    if column.type.bit_width == _DECIMAL_BITS and precision <= _INT64_DIGITS and scale <= _EXACT_POWER:
        # The value is in the low half; two numbers that float64 holds exactly have one quotient that is nearest.
        low = np.frombuffer(column.buffers()[1], dtype="<i8")[2 * column.offset :][: 2 * len(column) : 2]
        mask = _null_mask(column)
        whole = low if mask is None else np.where(mask, 0, low)
        if not whole.size or max(-int(whole.min()), int(whole.max())) <= _EXACT_INTEGERS:
            return pa.array(whole / np.float64(10**scale), mask=mask)
    return column.cast(pa.string()).cast(pa.float64())


def one_chunk(column: ArrowArray) -> ArrowArray:
    """A column of a table as one array; `combine_chunks` copies even where there is a single chunk."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _to_utc_microseconds(column: ArrowArray) -> ArrowArray:
    unit = column.type.unit
    if unit == "ns":
        # Arrow's own cast truncates towards zero: an instant before 1970 would move forward by a microsecond.
        instants = column.view(pa.int64())
        micros = pa.array(instants.fill_null(0).to_numpy() // 1000, mask=_null_mask(column))
    else:
        # As numbers, because Arrow's casts between zones need a database of zones; the instant does not.
        micros = column.view(pa.timestamp(unit)).cast(pa.timestamp("us")).view(pa.int64())
    return micros.view(pa.timestamp("us", "UTC"))


def _null_mask(column: ArrowArray) -> npt.NDArray[np.bool_] | None:
    return column.is_null().to_numpy(zero_copy_only=False) if column.null_count else None
