"""Expectations against counts by hand, row by row."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.checks import check, checked
from etl.errors import SpecError, TransformError
from etl.pipeline import Pipeline
from etl.runs.receipt import Tally
from etl.spec import Spec, read_spec
from tests.etl.nasty import INF, NAN, document

FIELDS = [
    {"name": "x", "type": "float64", "range": {"max": 1000}},
    {"name": "n", "type": "int64"},
    {"name": "s", "type": "string"},
    {"name": "words", "type": "list<string>"},
]
STEPS = [
    {"id": "idx", "op": "string_index", "in": ["s"], "out": ["sid"], "params": {"layout": {"oov_buckets": 2}},
     "state": {"vocab": ["a", "b"], "counts": [2, 1]}},
    {"id": "ids", "op": "token_ids", "in": ["words"], "out": ["ids", "n_words"],
     "params": {"max_len": 2, "oov": {"kind": "single", "id": 1}},
     "state": {"vocab": ["the", "cat"], "counts": [2, 1]}},
]  # fmt: skip


def spec_of(*expectations: dict[str, Any], keep: Any = None) -> Spec:
    """A spec over FIELDS and STEPS with these expectations, named e0, e1, …, and a filter where one is given."""
    value = document(FIELDS, STEPS, columns=["x"])
    if keep is not None:
        value["relational"] = [{"id": "f", "op": "filter", "params": {"keep": keep}}]
    value["expectations"] = [{"id": f"e{number}", "severity": "warn", **e} for number, e in enumerate(expectations)]
    return read_spec(json.dumps(value), "spec.json")


ROWS: list[dict[str, Any]] = [
    {"x": x, "n": n, "s": s, "words": words}
    for x, n, s, words in [
        (1.0, 1, "a", ["the", "cat"]),
        (None, 2, "b", ["dog"]),
        (NAN, None, "z", None),
        (-5.0, 2**60, None, []),
        (INF, 4, "a", ["the", "the", "dog", "dog"]),
        (7.5, -3, "", [None, "cat"]),
        (2000.0, 5, "y", ["cat", "cat", "cat"]),
        (0.0, 1, "a", ["dog", "dog"]),
        (-0.0, 1, "a", ["cat", "dog", "the"]),
    ]
]
SCHEMA = pa.schema([("x", pa.float64()), ("n", pa.int64()), ("s", pa.string()), ("words", pa.list_(pa.string()))])


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    """Rows as a table."""
    return pa.Table.from_pylist(rows, SCHEMA)


def is_missing(value: Any) -> bool:
    """Null or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def valid(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows that the contract does not reject: those whose x is at most 1000."""
    return [row for row in rows if is_missing(row["x"]) or row["x"] <= 1000]


def unknown(row: dict[str, Any]) -> list[bool]:
    """For each id that is made of a row's first two words, whether it stands for an unknown one; a null is no word."""
    return [word not in {"the", "cat"} for word in (row["words"] or [])[:2]]


def by_hand(rows: list[dict[str, Any]]) -> dict[str, tuple[int, int]]:
    """Hits and rows of EXPECTATIONS, by id."""
    ids = [is_unknown for row in rows for is_unknown in unknown(row)]
    counts = [
        sum(is_missing(row["x"]) for row in rows),
        sum(row["words"] is None for row in rows),
        sum(row["s"] in {"a", "b"} for row in rows),
        sum(row["n"] in {1, 2**60} for row in rows),
        sum(not is_missing(row["x"]) and row["x"] > 0 for row in rows),
        sum(row["s"] not in {"a", "b", None} for row in rows),
        sum(ids),
        sum(len(row["words"] or []) > 2 for row in rows),
        sum(not (row["n"] is not None and row["n"] >= 0) for row in rows),
    ]
    of = [len(rows)] * len(counts)
    of[6] = len(ids)
    return {f"e{number}": pair for number, pair in enumerate(zip(counts, of, strict=True))}


EXPECTATIONS: list[dict[str, Any]] = [
    {"batch": {"null_share": ["x", "<=", 0.2]}},
    {"batch": {"null_share": ["words", "<", 0.5]}},
    {"batch": {"in_set_share": ["s", ["a", "b"], ">=", 0.98]}},
    {"batch": {"in_set_share": ["n", [1, 2**60], "==", 1]}},
    {"batch": {"row_share": [{"cmp": ["x", ">", 0]}, ">", 0.1]}},
    {"batch": {"oov_share": ["sid", "<=", 0.5]}},
    {"batch": {"oov_share": ["ids", "!=", 1.0]}},
    {"batch": {"truncated_share": ["ids", "<=", 0.0]}},
    {"row": {"cmp": ["n", ">=", 0]}},
]


def tallies_of(spec: Spec, table: pa.Table) -> dict[str, tuple[int, int]]:
    """What the pipeline counts in one batch."""
    pipeline = Pipeline(spec, {})
    found = pipeline.transform(pipeline.contract(table, "t")).tallies
    return {name: (tally.hits, tally.rows) for name, tally in found.items()}


def test_every_share_is_counted_as_by_hand() -> None:
    """Each kind of expectation counts what a loop over the rows counts, of rows that no rule rejects."""
    spec = spec_of(*EXPECTATIONS)
    found = tallies_of(spec, table_of(ROWS))
    assert found == by_hand(valid(ROWS))
    assert all(0 < hits < rows for hits, rows in found.values()), found


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(ROWS), max_size=20), st.lists(st.integers(0, 20), max_size=3))
def test_counts_do_not_depend_on_how_rows_are_cut(rows: list[dict[str, Any]], cuts: list[int]) -> None:
    """Tallies of the parts of a table add up to those of the table, which are those by hand."""
    spec = spec_of(*EXPECTATIONS)
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    total = {f"e{number}": Tally() for number in range(len(EXPECTATIONS))}
    pipeline = Pipeline(spec, {})
    for start, stop in itertools.pairwise(edges):
        part = pipeline.transform(pipeline.contract(table_of(rows[start:stop]), "t")).tallies
        total = {name: total[name] + part[name] for name in total}
    assert {name: (tally.hits, tally.rows) for name, tally in total.items()} == by_hand(valid(rows))


def test_filtered_rows_are_not_counted() -> None:
    """What a filter leaves out is in no tally."""
    kept = [row for row in valid(ROWS) if row["s"] is not None]
    assert tallies_of(spec_of(*EXPECTATIONS, keep={"not": {"is_null": "s"}}), table_of(ROWS)) == by_hand(kept)


def test_a_quarantined_row_has_its_reason_and_counts_in_no_later_expectation() -> None:
    """A row that breaks an expectation is rejected under it, once, and the shares are of the rows that are left."""
    positive = {"row": {"cmp": ["x", ">=", 0]}}
    spec = spec_of(
        {**positive, "severity": "warn"},
        {**positive, "severity": "quarantine"},
        {**positive, "severity": "quarantine"},
        {"batch": {"null_share": ["x", "<=", 0]}},
    )
    pipeline = Pipeline(spec, {})
    features = pipeline.transform(pipeline.contract(table_of(ROWS), "t"))
    bad = [row for row, value in enumerate(ROWS) if is_missing(value["x"]) or value["x"] < 0]
    found = [(r.rows.tolist(), r.code, r.pointer, r.column) for r in features.rejections]
    too_large = [row for row, value in enumerate(ROWS) if not is_missing(value["x"]) and value["x"] > 1000]
    assert found == [
        (too_large, "OUT_OF_RANGE", "/input/fields/0/range", "x"),
        (bad, "EXPECTATION", "/expectations/1", "x"),
    ]
    assert features.rejections[1].message == "expectation 'e1' is not met"
    rows = len(ROWS) - len(too_large)
    assert {name: (t.hits, t.rows) for name, t in features.tallies.items()} == {
        "e0": (len(bad), rows),
        "e1": (len(bad), rows),
        "e2": (0, rows - len(bad)),
        "e3": (0, rows - len(bad)),
    }
    assert features.kept is not None
    assert features.kept.size == rows - len(bad)


def test_a_row_that_may_not_be_there_fails_with_count_and_place() -> None:
    """Severity fail names the expectation, its place, how many rows and the first; a rejected row fails nothing."""
    spec = spec_of({"row": {"not": {"cmp": ["x", "<", 0]}}, "severity": "fail"})
    pipeline = Pipeline(spec, {})
    message = (
        r"^/expectations/0: expectation 'e0' is not met in 2 rows of the batch, the first at 1; the spec says fail\.$"
    )
    with pytest.raises(TransformError, match=message):
        pipeline.transform(pipeline.contract(table_of([ROWS[0], ROWS[3], ROWS[3]]), "t"))
    lenient = spec_of({"row": {"cmp": ["x", "<=", 1000]}, "severity": "fail"}, keep={"not": {"is_null": "x"}})
    pipeline = Pipeline(lenient, {})
    pipeline.transform(pipeline.contract(table_of([ROWS[0], ROWS[6]]), "t"))


@pytest.mark.parametrize(
    ("symbol", "bound", "holds"),
    [("<=", 0.2, True), ("<", 0.2, False), ("==", 0.2, True), ("!=", 0.2, False), (">=", 0.2, True), (">", 0.2, False),
     ("<=", 0.19, False), (">=", 0.21, False)],
)  # fmt: skip
def test_a_bound_is_met_as_its_sign_says(symbol: str, bound: float, holds: bool) -> None:  # noqa: FBT001
    """1 of 5 is 0.2 to the bit, so each sign means what it says at the very bound."""
    spec = spec_of({"batch": {"null_share": ["x", symbol, bound]}, "severity": "fail"})
    (found,) = check(spec, table_of([*[ROWS[0]] * 4, ROWS[1]]))
    assert found.model_dump() == {
        "id": "e0",
        "what": "null_share of x",
        "severity": "fail",
        "hits": 1,
        "rows": 5,
        "share": 0.2,
        "bound": f"{symbol} {bound}",
        "holds": holds,
        "query": None,
    }
    (empty,) = check(spec, table_of([]))
    assert (empty.share, empty.holds, empty.rows) == (None, True, 0)


def test_a_check_of_a_table_tells_everything_and_fails_nothing() -> None:
    """The local check reports every expectation in its order, those that would end a run too, in one sentence each."""
    spec = spec_of(
        {"row": {"cmp": ["x", ">=", 0]}, "severity": "fail"},
        {"row": {"is_null": "words"}, "severity": "quarantine"},
        {"batch": {"in_set_share": ["s", ["a"], ">=", 0.98]}, "severity": "fail"},
        {"batch": {"row_share": [{"is_null": "s"}, "<", 1]}},
        {"batch": {"unique": ["s"]}, "severity": "fail"},
    )
    found = check(spec, table_of(ROWS[:4]).to_batches()[0])
    assert [(c.severity, c.hits, c.rows, c.holds) for c in found] == [
        ("fail", 3, 4, False),
        ("quarantine", 3, 4, False),
        ("fail", 0, 1, False),
        ("warn", 0, 1, True),
        ("fail", 0, 1, True),
    ]
    assert [str(c) for c in found] == [
        "expectation 'e0': 3 of 4 rows do not meet it",
        "expectation 'e1': 3 of 4 rows do not meet it",
        "expectation 'e2': in_set_share of s is 0 (0 of 1), not >= 0.98",
        "expectation 'e3': row_share of its condition is 0 (0 of 1), as it should be < 1.0",
        "expectation 'e4': 0 of 1 rows repeat s of another",
    ]
    assert checked(spec.expectations[:1], {})[0].holds


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, -0.0, 1.0, NAN, None]), st.sampled_from(["a", "", None]), st.integers(0, 2))
    )
)
def test_rows_that_repeat_others_are_counted_exactly(rows: list[Any]) -> None:
    """A check of unique counts all rows but the first of each key; two missing values are one, as are 0.0 and −0.0."""
    table = table_of([{"x": x, "s": s, "n": n, "words": None} for x, s, n in rows])
    keys = [(None if is_missing(x) else x, s, n) for x, s, n in rows]
    spec = spec_of(
        *({"batch": {"unique": names}} for names in (["x", "s", "n"], ["n"], ["s", "x"])),
    )
    wanted = [
        len(rows) - len(set(keys)),
        len(rows) - len({n for *_, n in keys}),
        len(rows) - len({(s, x) for x, s, _ in keys}),
    ]
    assert [(c.hits, c.rows, c.holds) for c in check(spec, table)] == [(w, len(rows), w == 0) for w in wanted]


def test_a_broken_unique_says_how_to_find_the_rows() -> None:
    """The sentence has a query that lists the keys that repeat, and no value; what needs quotes has them."""
    expectation = {"id": "once", "batch": {"unique": ["n", 'a "b"']}, "severity": "warn"}
    value = document([*FIELDS, {"name": 'a "b"', "type": "string"}], columns=["x"])
    spec = read_spec(json.dumps({**value, "expectations": [expectation]}), "spec.json")
    table = table_of([ROWS[0], ROWS[0], ROWS[3]])
    table = table.append_column('a "b"', pa.array(["k", "k", "k"]))
    (found,) = check(spec, table)
    query = 'SELECT n, "a ""b""", count(*) FROM input GROUP BY n, "a ""b""" HAVING count(*) > 1'
    assert str(found) == f"""expectation 'once': 1 of 3 rows repeat n, a "b" of another (to list them: {query})"""
    with duckdb.connect() as connection:
        connection.register("input", table)
        assert connection.execute(query).fetchall() == [(1, "k", 2)]


def test_nan_that_is_a_value_is_one_value() -> None:
    """Where NaN is a value it is no null, and all NaN are one key, whatever their bits are."""
    value = document([{"name": "x", "type": "float64", "nan_is_value": True}], columns=["x"])
    value["expectations"] = [{"id": "u", "batch": {"unique": ["x"]}, "severity": "warn"}]
    odd = np.array([0x7FF8000000000001, 0xFFF8000000000000], dtype=np.uint64).view(np.float64)
    (found,) = check(read_spec(json.dumps(value), "s"), pa.table({"x": pa.array([*odd, 1.0, None])}))
    assert (found.hits, found.rows) == (1, 4)


@pytest.mark.parametrize(
    ("expectation", "pointer", "message"),
    [
        ({"row": {"cmp": ["xx", ">", 1]}}, "/row/cmp/0", "column 'xx' is not there. Did you mean"),
        ({"row": {"cmp": ["s", ">", 1]}}, "/row/cmp/2", "is string, and 1 is no value of that type"),
        ({"row": {"cmp": ["x", ">", 1]}, "severity": "quarantin"}, "/severity", 'Did you mean "quarantine"?'),
        ({"batch": {"null_share": ["xx", "<=", 0.1]}}, "/batch/null_share/0", "is made by no step. Did you"),
        ({"batch": {"null_share": ["x", "<=", 20]}}, "/batch/null_share/2", "a share is between 0 and 1, found 20.0."),
        ({"batch": {"null_share": ["x", "=<", 0.1]}}, "/batch/null_share/1", "should be '<', '<='"),
        ({"batch": {"null_share": ["x", 0.1]}}, "/batch/null_share", "should be [column, operator, bound]"),
        ({"batch": {"null_share": ["x", "<=", 0.1]}, "severity": "quarantine"}, "/severity", "'warn' or 'fail'"),
        ({"batch": {"in_set_share": ["s", [1], ">=", 0.1]}}, "/batch/in_set_share/1/0", "1 is no value of that type"),
        ({"batch": {"in_set_share": ["s", ["a"], ">=", -1]}}, "/batch/in_set_share/3", "a share is between 0 and 1"),
        ({"batch": {"row_share": [{"is_nan": "s"}, "<", 1]}}, "/batch/row_share/0/is_nan", "is_nan takes floats"),
        ({"batch": {"row_share": [{"is_nan": "q"}, "<", 2]}}, "/batch/row_share/0/is_nan", "column 'q' is not there"),
        ({"batch": {"oov_share": ["x", "<", 1]}}, "/batch/oov_share/0", "is made by no step of ids"),
        ({"batch": {"oov_share": ["n_words", "<", 1]}}, "/batch/oov_share/0", "makes no ids of unknown values"),
        ({"batch": {"truncated_share": ["sid", "<", 1]}}, "/batch/truncated_share/0", "does not say how many tokens"),
        ({"batch": {"truncated_share": ["x", "<", 1]}}, "/batch/truncated_share/0", "is made by no step of ids"),
        ({"batch": {"unique": ["words"]}}, "/batch/unique/0", "is list<string>, unique takes scalars"),
        ({"batch": {"unique": ["s", "q"]}}, "/batch/unique/1", "column 'q' is made by no step"),
        ({"batch": {"nul_share": ["x", "<", 1]}}, "/batch", "should be a mapping of one of the keys null_share"),
        ({"rwo": {"is_null": "x"}}, "/rwo", 'unknown key "rwo". Did you mean "row"?'),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place(expectation: dict[str, Any], pointer: str, message: str) -> None:
    """Each expectation that does not fit is named with the pointer of what is wrong, among others that fit."""
    with pytest.raises(SpecError) as caught:
        spec_of({"row": {"is_null": "x"}}, expectation)
    lines = [line for line in str(caught.value).splitlines() if f": /expectations/1{pointer}: " in line]
    assert any(message in line for line in lines), str(caught.value)


def test_two_expectations_of_one_name_are_refused() -> None:
    """The name of an expectation is its key in receipts and records, so it stands once."""
    with pytest.raises(SpecError, match=r"/expectations/1/id: id 'same' is used before\. \[E-DUP-OUTPUT\]"):
        spec_of(*[{"id": "same", "row": {"is_null": "x"}}] * 2)


def test_ids_that_a_later_step_makes_anew_are_of_no_step_of_ids() -> None:
    """Once the number of tokens is dropped, no share of cut rows can be told, which the spec's reader says."""
    value = document(FIELDS, [*STEPS, {"id": "d", "op": "drop", "in": ["n_words"], "out": []}], columns=["x"])
    value["expectations"] = [{"id": "e", "batch": {"truncated_share": ["ids", "<", 1]}, "severity": "warn"}]
    with pytest.raises(SpecError, match="column 'n_words', the number of tokens, is dropped before the end"):
        read_spec(json.dumps(value), "spec.json")
