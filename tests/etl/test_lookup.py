from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.errors import ContractError, SpecError
from etl.ops.lookup import ReferenceTable
from etl.pipeline import Pipeline
from etl.types import ColumnType
from tests.etl.nasty import DATES, INSTANTS, INT64S, NAN, TEXTS, arrow, bits, frame_of, join_of, plain, spec_of

KEYS: dict[str, list[Any]] = {
    "bool": [True, False],
    "int32": [0, 1, -1, 2**31 - 1, -(2**31)],
    "int64": [value for value in INT64S if value is not None],
    "string": [value for value in TEXTS if value is not None],
    "date": [value for value in DATES if value is not None],
    "timestamp": [value for value in INSTANTS if value is not None],
}


def joined(step, frame, **table):
    """Index a table of `(type, values)` and join a frame to it."""
    columns = {name: arrow(values, kind) for name, (kind, values) in table.items()}
    return step.join(frame, ReferenceTable.index(step, pa.table(columns), "reference 'ref'"), "/relational/0")


@pytest.mark.parametrize("kind", KEYS)
def test_a_key_of_any_type_finds_its_row(kind):
    """Every nasty key finds exactly its own row, and missing and unknown keys find none."""
    known = KEYS[kind][::2]
    asked = [None, *KEYS[kind][::-1], *KEYS[kind]]
    (found,) = joined(
        join_of([kind], ["int64"]),
        frame_of(k0=(kind, asked)),
        k0=(kind, known),
        r0=("int64", list(range(len(known)))),
    )
    assert found.to_pylist() == [known.index(key) if key in known else None for key in asked]


ALPHABETS = {
    "string": st.sampled_from(["", "a", "A", "ß", "😀"]),
    "int64": st.sampled_from([0, 1, -1, 2**63 - 1, -(2**63)]),
    "timestamp": st.sampled_from([when for when in INSTANTS if when][:5]),
    "bool": st.booleans(),
}


@settings(deadline=None)
@given(st.data(), st.lists(st.sampled_from(list(ALPHABETS)), min_size=1, max_size=4))
def test_several_keys_are_one_key(data, kinds):
    """A join by several columns of any types finds what a dictionary of tuples finds."""
    key = st.tuples(*(ALPHABETS[kind] for kind in kinds))
    known = data.draw(st.lists(key, unique=True, max_size=20))
    asked = data.draw(st.lists(st.tuples(*(st.one_of(st.none(), ALPHABETS[kind]) for kind in kinds)), max_size=30))
    columns = {f"k{n}": (kind, [row[n] for row in known]) for n, kind in enumerate(kinds)}
    frame = frame_of(**{f"k{n}": (kind, [row[n] for row in asked]) for n, kind in enumerate(kinds)})
    (found,) = joined(join_of(kinds, ["int64"]), frame, **columns, r0=("int64", list(range(len(known)))))
    rows = {row: number for number, row in enumerate(known)}
    assert found.to_pylist() == [rows.get(row) for row in asked]


def test_a_join_is_duckdb_s_left_join():
    """A join of 5,000 rows to 2,000 by text and hour gives the rows of DuckDB's left join."""
    rng = np.random.default_rng(3)
    hours = [datetime(2013, 1, 1 + day, hour, tzinfo=UTC) for day in range(28) for hour in range(24)]
    pairs = [(origin, hour) for origin in ("EWR", "JFK", "LGA") for hour in hours][:2000]
    table = {"k0": ("string", [p[0] for p in pairs]), "k1": ("timestamp", [p[1] for p in pairs])}
    table["r0"] = ("float64", [None if n % 7 == 0 else n / 3 for n in range(len(pairs))])
    asked = [(str(rng.choice(["EWR", "JFK", "BOS"])), hours[n]) for n in rng.integers(0, len(hours), 5000)]
    frame = frame_of(k0=("string", [a[0] for a in asked]), k1=("timestamp", [a[1] for a in asked]))
    (found,) = joined(join_of(["string", "timestamp"], ["float64"]), frame, **table)
    connection = duckdb.connect()
    connection.register("ref", pa.table({name: arrow(values, kind) for name, (kind, values) in table.items()}))
    left = {
        name: arrow([a[n] for a in asked], kind) for n, (name, kind) in enumerate((("a", "string"), ("b", "timestamp")))
    }
    connection.register("rows", pa.table({**left, "n": pa.array(range(len(asked)))}))
    query = "SELECT r0 FROM rows LEFT JOIN ref ON a = k0 AND b = k1 ORDER BY n"
    assert found.to_pylist() == [row[0] for row in connection.execute(query).fetchall()]


def test_every_type_is_taken():
    """Columns of every type are taken canonical, null where there is no match or no value, a vector as NaN."""
    kinds = ["bool", "int32", "int64", "float32", "float64", "string", "date", "timestamp"]
    values = [True, 1, 2, 0.5, NAN, "ß", DATES[1], INSTANTS[1]]
    table = {f"r{n}": (kind, [value, None]) for n, (kind, value) in enumerate(zip(kinds, values, strict=True))}
    frame = frame_of(k0=("int32", [7, 8, 9, None]))
    found = joined(
        join_of(["int64"], [*kinds, "float32[2]"]),
        frame,
        k0=("int64", [7, 8, -1]),
        **{name: (kind, [*values, value]) for (name, (kind, values)), value in zip(table.items(), values, strict=True)},
        r8=("float32[2]", [[1.0, 2.0], None, [3.0, 4.0]]),
    )
    for column, kind, value in zip(found, kinds, values, strict=False):
        assert column.type == ColumnType(kind).arrow
        assert plain(column) == [None if value != value else value, None, None, None]  # noqa: PLR0124  NaN
    assert bits(found[8].tolist()) == bits(np.array([[1, 2], *[[NAN, NAN]] * 3], np.float64).tolist())


def test_a_row_without_a_match_is_rejected_where_the_step_says_so():
    """With on_no_match: reject a row whose key is unknown or missing is rejected under that rule."""
    frame = frame_of(k0=("string", ["a", "b", None]))
    step = join_of(["string"], ["int64"], on_no_match="reject")
    joined(step, frame, k0=("string", ["a"]), r0=("int64", [1]))
    (rejection,) = frame.rejections
    assert rejection.rows.tolist() == [1, 2]
    assert rejection.code == "NO_MATCH"
    assert rejection.pointer == "/relational/0/params/on_no_match"


@pytest.mark.parametrize("rows", [0, 3])
def test_an_empty_table_matches_nothing(rows):
    """A reference table without rows is a table, and every column taken from it is missing."""
    frame = frame_of(k0=("string", ["a"] * rows), k1=("int64", [1] * rows))
    step = join_of(["string", "int64"], ["int64", "float32[2]"])
    found = joined(step, frame, k0=("string", []), k1=("int64", []), r0=("int64", []), r1=("float32[2]", []))
    assert found[0].to_pylist() == [None] * rows
    assert plain(found[1].reshape(-1)) == [None] * rows * 2


def test_any_readable_form_of_a_table_will_do():
    """A reference table may hold its columns in any Arrow type that a contract reads as the declared one, in chunks."""
    table = pa.concat_tables(
        pa.table(
            {
                "k0": pa.array([key], pa.large_string()).dictionary_encode(),
                "k1": pa.array([INSTANTS[8].replace(tzinfo=None)], pa.timestamp("s")),
                "r0": pa.array([value], pa.int8()),
                "extra": pa.array([{}], pa.struct([])),
            }
        )
        for key, value in (("a", 1), ("b", 2))
    )
    step = join_of(["string", "timestamp"], ["float64"])
    frame = frame_of(k0=("string", ["b", "a", "c"]), k1=("timestamp", [INSTANTS[8]] * 3))
    (found,) = step.join(frame, ReferenceTable.index(step, table, "t"), "")
    assert found.to_pylist() == [2.0, 1.0, None]


@pytest.mark.parametrize(
    ("table", "found"),
    [
        ({"k0": ["a"], "k1": [1]}, "column 'r0' is not there. There is: k0, k1"),
        ({"k": ["a"], "k1": [1], "r0": [1]}, "column 'k0' is not there. Did you mean"),
        ({"k0": [1], "k1": [1], "r0": [1]}, "column 'k0' has type int64, step 'j' says string"),
        ({"k0": ["a", None], "k1": [None, None], "r0": [1, 2]}, r"3 keys \(k0, k1\) are null"),
        (
            {"k0": ["a"] * 3, "k1": [1] * 3, "r0": [1, 2, 3]},
            r"keys \(k0, k1\) must be unique; 1 of them stand more than once, the first in rows 0 and 1, counted",
        ),
        (
            {"k0": ["c", "b", "a", "a", "b"], "k1": [1, 1, 1, 1, 1], "r0": [1] * 5},
            r"; 2 of them stand more than once, the first in rows 1 and 4, counted from 0\.$",
        ),
    ],
)
def test_a_table_that_is_not_the_declared_one_is_refused(table, found):
    """A table that lacks a column, has another type, a null key or a key twice is refused, without a value."""
    with pytest.raises(ContractError, match=found) as caught:
        ReferenceTable.index(join_of(["string", "int64"], ["int64"]), pa.table(table), "reference 'ref'")
    assert str(caught.value).startswith("reference 'ref': ")


def test_a_table_with_a_value_beyond_its_type_is_refused():
    """A reference value that its declared type cannot hold, or a vector of another length, refuses the table."""
    broken = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"]).buffers())
    for kind, column in (
        ("int64", pa.array([2**63], pa.uint64())),
        ("float64", pa.array([2**53 + 1])),
        ("string", broken),
    ):
        with pytest.raises(ContractError, match=f"'r0' holds a value that {kind} cannot hold, in 1 row, the first 0,"):
            ReferenceTable.index(join_of(["string"], [kind]), pa.table({"k0": ["a"], "r0": column}), "t")
    with pytest.raises(ContractError, match=r"'k0' holds a value that string .*: it is not UTF-8\.$"):
        ReferenceTable.index(join_of(["string"], ["int64"]), pa.table({"k0": broken, "r0": [1]}), "t")
    table = pa.table({"k0": ["a"], "r0": pa.array([[1.0]])})
    with pytest.raises(ContractError, match="column 'r0' has 1 row without 2 values"):
        ReferenceTable.index(join_of(["string"], ["float32[2]"]), table, "t")


@pytest.mark.parametrize("kind", ["date", "timestamp"])
def test_a_repeated_key_beyond_the_calendar_is_told(kind):
    """A date or instant outside the years 1 to 9999 that stands twice is told by its rows as any other key is."""
    far = pa.array([2**31 - 1] * 2, pa.int32()).view(pa.date32())
    if kind == "timestamp":
        far = pa.array([2**62] * 2).view(pa.timestamp("us", "UTC"))
    with pytest.raises(ContractError, match=r"1 of them stand more than once, the first in rows 0 and 1, counted"):
        ReferenceTable.index(join_of([kind], ["int64"]), pa.table({"k0": far, "r0": [1, 2]}), "t")


@pytest.mark.parametrize(
    ("keys", "types", "message"),
    [
        (["string"], ["int64"], "takes k0 as its key k0 is, string, found int64"),
        (["float64"], ["float64"], r"takes keys of type .*, found k0 float64"),
        (["string", "string"], ["string"], "takes 2 in and 1 out"),
        (["date"], ["timestamp"], "takes k0 as its key k0 is, date, found timestamp"),
    ],
)
def test_keys_are_of_the_type_of_the_columns_that_ask(keys, types, message):
    """Keys of another type or number than the columns that ask are refused when the spec is read."""
    step = join_of(keys, ["int64"])
    with pytest.raises(ValueError, match=message):
        step.infer(tuple(ColumnType(kind) for kind in types))
    assert join_of(["int32"], ["int64"]).infer((ColumnType("int64"),)) == (ColumnType("int64"),)


def test_a_table_that_is_not_given_is_asked_for():
    """A pipeline whose reference table is not given says which and where the spec names it."""
    join = join_of(["string"], ["float64"]).model_dump(mode="json", by_alias=True)
    spec = spec_of([{"name": "k0", "type": "string"}], relational=[join], columns=["o0"])
    with pytest.raises(SpecError, match=r"^/relational/0/params/reference: reference table 'ref' is not given"):
        Pipeline(spec, {})
    pipeline = Pipeline(spec, {"ref": pa.table({"k0": ["a"], "r0": [1.5]})})
    batch = pa.record_batch({"k0": ["b", "a"]})
    assert plain(pipeline.transform(pipeline.contract(batch, "b")).tensors["x"][:, 0]) == [None, 1.5]
