"""Values that have broken other systems, and short ways to put them through a contract, a step or a spec."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import TypeAdapter

from etl.contract import Contract
from etl.ops import AnyRowStep
from etl.ops.lookup import LookupJoin
from etl.spec import read_spec
from etl.types import ColumnType

INF = math.inf
NAN = math.nan

FLOATS: list[Any] = [
    *(None, NAN, INF, -INF, 0.0, -0.0, 5e-324, -5e-324, 2.2250738585072014e-308, 1e308, -1e308, 1.7976931348623157e308),
    *(0.1, 0.30000000000000004, 1.5, -1.5, 2.5, 1.0, -1.0, 3.0, 24.0, 1e10, 1e15, 1e16, 1e22, 123456.789, 1e-5, 1e-7),
    *(2.0**31, -(2.0**31), 2.0**31 - 1, 2.0**53, -(2.0**53), 2.0**53 + 2, 2.0**63, -(2.0**63), 3.4028234663852886e38),
    *(3.5e38, 1e-46, 16777217.0),
]
INT64S: list[Any] = [
    None,
    0,
    1,
    -1,
    2**31 - 1,
    -(2**31),
    2**31,
    2**53,
    -(2**53),
    2**53 + 1,
    -(2**53) - 1,
    2**63 - 1,
    -(2**63),
]
TEXTS: list[Any] = [
    *(
        None,
        "",
        " ",
        "A",
        "a",
        "A ",
        "İ",
        "i",
        "ß",
        "SS",
        "\u017f",
        "s",
        "\u212a",
        "K",
        "\u00a0",
        "e\u0301",
        "\u00e9",
        "漢字",
    ),
    *("😀", "x" * 20_000, "\x00", "null", "NaN", "\ufffe", "👩‍👩‍👧", "-"),
    *("\u00c5", "A\u030a", "\u212b", "\ud55c\uae00", "\u1112\u1161\u11ab", "\ufb01", "x\u0323\u0307", "x\u0307\u0323"),
    *("İSTANBUL", "ΟΔΟΣ", "\u1e9e", "\u01c5", "\u1fb3", "\u0149", "ab\u00a0cd", " \u00a0 ", "\u3000", "a\u200bb"),
    *("\ufeffa", "a b  c", "  a b ", "\t", "\n", "a\n", "a\nb\n", "a\r\n", "\r", "a\tb", "\v\f", "\x1c"),
    *("a\x85", "a\u2028", "\x7f\x1b[0m", "שלום", "\u202eabc\u202c", "مرحبا ١٢٣", "\uff11\uff12", "日本語 テキスト"),
    *("\U0010ffff", "\ufdd0", "\\ud83d\\ude00", "\\", "\\1", "$1", "a.b|c", "[a-z]+", "%_", "1,234.5", "-0", "1e5"),
    *("🏳️‍🌈", "👩🏽‍🚀 ok", "aaa", "abcabc", "a1b22c333", "é😀 漢 " * 3_000),
]
INSTANTS: list[Any] = [
    None,
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(1582, 10, 4, 23, 59, 59, tzinfo=UTC),
    datetime(1582, 10, 15, tzinfo=UTC),
    datetime(1899, 12, 31, 12, 30, tzinfo=UTC),
    datetime(1900, 2, 28, 23, 59, 59, 1, tzinfo=UTC),
    datetime(1900, 3, 1, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(2000, 2, 29, 6, 7, 8, tzinfo=UTC),
    datetime(2020, 12, 31, 23, 0, tzinfo=UTC),
    datetime(2021, 1, 1, tzinfo=UTC),
    datetime(2024, 12, 30, tzinfo=UTC),
    datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
]
DATES: list[Any] = [instant and instant.date() for instant in INSTANTS]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

STEP = TypeAdapter(AnyRowStep)


def micros(instant):
    """Return an instant as µs since 1970."""
    return None if instant is None else (instant - EPOCH) // timedelta(microseconds=1)


def days(day):
    """Return a date as days since 1970."""
    return None if day is None else (day - date(1970, 1, 1)).days


def arrow(values, kind):
    """Return a column of a canonical type; NaN stays NaN."""
    parsed = ColumnType.parse(kind)
    return pa.array(values, parsed.arrow)


def frame_of(**columns):
    """Put columns, each `(type, values)`, through a contract that keeps what it can."""
    fields = [{"name": name, "type": kind, "on_invalid": "as_is"} for name, (kind, _) in columns.items()]
    table = pa.table({name: arrow(values, kind) for name, (kind, values) in columns.items()})
    return Contract.model_validate({"fields": fields}).apply(table, "test")


def step_of(op, inputs, outputs=("out",), **keys):
    """Return a step as a spec would have it."""
    return STEP.validate_python({"op": op, "id": "s", "in": list(inputs), "out": list(outputs), **keys})


def applied(frame, op, *inputs, outputs=("out",), **keys):
    """Return the columns that a step makes of columns of a frame."""
    return step_of(op, inputs, outputs, **keys).apply(frame, "/steps/0")


def plain(column):
    """Return a column as Python values, None for missing."""
    values = column.to_pylist() if isinstance(column, pa.Array) else column.tolist()
    return [None if isinstance(value, float) and math.isnan(value) else value for value in values]


def bits(values):
    """Return floats so that equality is that of bits, but any NaN is like any other."""
    array = np.asarray(values)
    if array.dtype.kind != "f":
        return array.tolist()
    whole = array.view(np.int32 if array.dtype == np.float32 else np.int64)
    return np.where(np.isnan(array), -1, whole).tolist()


def same_floats(found, wanted):
    """Tell whether two lists of floats are equal to the bit; None is NaN."""
    as_floats = [np.array([NAN if x is None else x for x in values], dtype=np.float64) for values in (found, wanted)]
    return bits(as_floats[0]) == bits(as_floats[1])


def document(fields, steps=(), *, relational=(), columns=None, dtype="float32"):
    """Return the JSON value of a spec with one tensor."""
    names = columns if columns is not None else [name for step in steps for name in step["out"]]
    return {
        "format": "scorespec/1",
        "spec_id": "test",
        "input": {"fields": fields},
        "relational": list(relational),
        "steps": list(steps),
        "outputs": {"tensors": [{"tensor": "x", "dtype": dtype, "from": list(names)}]},
    }


def spec_of(fields, steps=(), *, fitted=True, **keys):
    """Return a spec with one tensor."""
    return read_spec(json.dumps(document(fields, steps, **keys)), "spec.json", fitted=fitted)


def join_of(keys, columns, **params):
    """Return a lookup_join from `k0, k1, …` to the columns `r0, r1, …`, each of a declared type."""
    return LookupJoin.model_validate(
        {
            "op": "lookup_join",
            "id": "j",
            "in": [f"k{n}" for n in range(len(keys))],
            "out": [f"o{n}" for n in range(len(columns))],
            "params": {
                "reference": "ref",
                "keys": [{"name": f"k{n}", "type": kind} for n, kind in enumerate(keys)],
                "columns": [{"name": f"r{n}", "type": kind} for n, kind in enumerate(columns)],
                **params,
            },
        }
    )
