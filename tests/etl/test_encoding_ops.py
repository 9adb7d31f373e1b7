from __future__ import annotations

import itertools
import math
import pickle

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from etl.types import ColumnType
from tests.etl.nasty import INT64S, TEXTS, applied, arrow, bits, frame_of, plain, same_floats, step_of
from tests.etl.test_categorical_ops import SEEDS, learned, merged_anyhow

MAPPING = {"A": 1.0, "": -0.0, "ß": 1e308, "e\u0301": 2.0, "\u00e9": 3.0, "\x00": 5e-324, "x" * 20_000: 7.5}
NUMBERS = {0: 0.25, -1: -0.0, 2**31: 3.0, 2**53 + 1: 4.0, 2**63 - 1: 5.0, -(2**63): 6.0}


@pytest.mark.parametrize("unknown", ["as_missing", {"as_value": -1}])
@pytest.mark.parametrize("missing", ["as_missing", {"as_value": 9.5}])
def test_ordinal_map_looks_up(unknown, missing):
    """A text or an integer gets its mapped number to the bit, others and missing ones what the step says."""
    instead = [float(told["as_value"]) if isinstance(told, dict) else None for told in (unknown, missing)]
    by_text = {key: float(number) for key, number in NUMBERS.items()}
    for kind, values, mapping in (("string", TEXTS, MAPPING), ("int64", INT64S, by_text)):
        params = {"mapping": {str(key): n for key, n in mapping.items()}, "unknown": unknown, "missing": missing}
        (found,) = applied(frame_of(x=(kind, values)), "ordinal_map", "x", params=params)
        assert found.dtype == np.float64
        assert same_floats(found, [instead[1] if v is None else mapping.get(v, instead[0]) for v in values])


def test_ordinal_map_reads_integers_of_any_origin():
    """An int32 column and integers that an op made are looked up like int64."""
    params = {"mapping": {"7": 1, "-7": 2}}
    frame = frame_of(x=("int32", [7, None, -7, 8]), y=("string", ["a"] * 4))
    assert plain(applied(frame, "ordinal_map", "x", params=params)[0]) == [1.0, None, 2.0, None]
    frame["y"] = np.array([7, 8, -7, 0])
    assert plain(applied(frame, "ordinal_map", "y", params=params)[0]) == [1.0, None, 2.0, None]


def test_ordinal_map_rejects_what_it_is_told_to():
    """An unmapped value and a missing one are rejected each under its own rule; a null hides no 0."""
    for kind, values in (("string", ["0", "b", None]), ("int64", [0, 1, None])):
        frame = frame_of(x=(kind, values))
        applied(frame, "ordinal_map", "x", params={"mapping": {"0": 1}, "unknown": "reject", "missing": "reject"})
        assert [(r.rows.tolist(), r.code, r.pointer, r.column) for r in frame.rejections] == [
            ([1], "UNKNOWN_CATEGORY", "/steps/0/params/unknown", "x"),
            ([2], "MISSING", "/steps/0/params/missing", "x"),
        ]


@pytest.mark.parametrize("key", ["01", "+1", "1.0", "-0", " 1", "", "9223372036854775808", "\u0661", "1" * 30])
def test_the_keys_of_integers_are_plain(key):
    """For a column of integers each key is an int64 in plain digits; for texts any key will do."""
    step = step_of("ordinal_map", ["x"], params={"mapping": {"5": 1.0, key: 2.0}})
    assert step.infer((ColumnType("string"),)) == (ColumnType("float64"),)
    with pytest.raises(ValueError, match="keys are not all int64 in plain digits, found int32"):
        step.infer((ColumnType("int32"),))


@pytest.mark.parametrize("kind", ["float64", "bool", "date", "uint64", "float32[2]", "list<string>"])
def test_ordinal_map_takes_texts_and_integers(kind):
    """Floats, dates and lists are refused until they are cast."""
    with pytest.raises(ValueError, match=r"takes string, int32 or int64, found .*; cast it first"):
        step_of("ordinal_map", ["x"], params={"mapping": {"5": 1.0}}).infer((ColumnType.parse(kind),))


@pytest.mark.parametrize(
    "params", [{}, {"mapping": {}}, {"mapping": {"a": math.inf}}, {"mapping": {"a": 1}, "unknown": "zeros"}]
)
def test_ordinal_map_needs_a_mapping_to_finite_numbers(params):
    """A mapping that is absent, empty or to inf, and a word that is no rule, are refused."""
    with pytest.raises(ValidationError):
        step_of("ordinal_map", ["x"], params=params)


FEW = [text for text in TEXTS if text is None or len(text) < 20] * 2 + ["A"] * 7 + [None] * 3 + ["", "ß", "zz"]


@pytest.mark.parametrize("value", ["share", "count"])
def test_a_frequency_is_what_sql_finds(value):
    """Each text gets the share or count that DuckDB finds among the rows that have a text, an unknown one 0."""
    state = learned("frequency_encode", FEW, cuts=(3, 3, 20))
    connection = duckdb.connect()
    connection.register("rows", pa.table({"x": arrow(FEW, "string")}))
    count, share = "count(*)", "count(*) / (SELECT count(x) FROM rows)"
    found = connection.execute(f"SELECT x, {count}, {share} FROM rows WHERE x IS NOT NULL GROUP BY x").fetchall()  # noqa: S608  ours
    assert dict(zip(state.vocab, state.counts, strict=True)) == {text: count for text, count, _ in found}
    assert state.n == sum(text is not None for text in FEW)
    wanted = {text: float(share if value == "share" else count) for text, count, share in found}
    asked = [*FEW, "nobody"]
    frame = frame_of(x=("string", asked))
    (numbers,) = applied(frame, "frequency_encode", "x", state=state.model_dump(), params={"value": value})
    assert same_floats(numbers, [None if text is None else wanted.get(text, 0.0) for text in asked])


def test_frequencies_of_others_are_as_told():
    """Unknown and missing values get a number, are missing, or are rejected, as the step says."""
    state = {"vocab": ["a"], "counts": [3], "n": 4}
    frame = frame_of(x=("string", ["a", "b", None]))
    for told, wanted in (("as_missing", None), ({"as_value": 0.5}, 0.5)):
        params = {"unknown": told, "missing": told}
        (found,) = applied(frame, "frequency_encode", "x", state=state, params=params)
        assert plain(found) == [0.75, wanted, wanted]
    applied(frame, "frequency_encode", "x", state=state, params={"unknown": "reject", "missing": "reject"})
    assert [(r.rows.tolist(), r.code, r.pointer) for r in frame.rejections] == [
        ([1], "UNKNOWN_CATEGORY", "/steps/0/params/unknown"),
        ([2], "MISSING", "/steps/0/params/missing"),
    ]


def test_a_share_is_of_all_rows_although_few_categories_are_kept():
    """Categories beyond max_size are unknown, and still count in the rows that shares are of."""
    state = learned("frequency_encode", ["a", "a", "b", None], params={"max_size": 1})
    assert (state.vocab, state.counts, state.n) == (("a",), (2,), 3)
    with pytest.raises(ValueError, match="column 'x' has no value to learn from"):
        learned("frequency_encode", [None])


@pytest.mark.parametrize(
    ("params", "kept"),
    [
        ({}, {"a", "b", "", "d"}),
        ({"min_count": 2}, {"a", "b", ""}),
        ({"min_share": 0.25}, {"a", "b"}),
        ({"min_share": 0.3333333333333333}, {"a", "b"}),
        ({"min_share": 0.33333333333333337}, {"a"}),
        ({"min_share": 0.25, "max_categories": 1}, {"a"}),
        ({"min_count": 5}, {"a"}),
        ({"max_categories": 2, "other": ""}, {"a", "b"}),
        ({"max_categories": 2, "other": "b"}, {"a", "b"}),
    ],
)
def test_rare_categories_become_one(params, kept):
    """Categories below min_count or min_share, or beyond max_categories, and unseen ones, become the text `other`."""
    texts = ["a"] * 5 + ["b"] * 3 + [""] * 2 + ["d"] + [None] * 9 + ["b"]
    state = learned("rare_to_other", texts, params=params, cuts=(4,))
    assert set(state.vocab) == kept
    asked = [*texts, "never", "other", "A"]
    (found,) = applied(frame_of(x=("string", asked)), "rare_to_other", "x", state=state.model_dump(), params=params)
    other = params.get("other", "other")
    assert plain(found) == [text if text is None or text in kept else other for text in asked]
    assert found.type == pa.string()


def test_a_batch_of_kept_categories_is_not_copied():
    """Where no category is rare, the column is handed on as it is."""
    frame = frame_of(x=("string", ["a", None]))
    assert applied(frame, "rare_to_other", "x", state={"vocab": ["a"], "counts": [1]})[0] is frame["x"]


def test_nothing_to_keep_is_refused():
    """Where every category is rare, the fit says so."""
    with pytest.raises(ValueError, match=r"column 'x' has no category with 1 rows and a share of 0\.6 or more"):
        learned("rare_to_other", ["a", "b"], params={"min_share": 0.6})


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(st.sampled_from([None, "", "a", "ß", "b"]), st.text(max_size=2))), SEEDS)
def test_what_is_learned_is_the_same_to_the_byte_for_any_partitioning(texts, seed):
    """However rows are dealt out to pieces and these are merged, the state is that of all rows at once, to the byte."""
    rng = np.random.default_rng(seed)
    texts = [*texts, "always"]
    for op, params in (("frequency_encode", {"max_size": 3}), ("rare_to_other", {"max_categories": 3})):
        state = merged_anyhow(op, texts, rng, params=params)
        assert state.model_dump_json() == learned(op, texts, params=params).model_dump_json()


STEPS = [
    ("ordinal_map", {"params": {"mapping": MAPPING, "unknown": {"as_value": -1}}}),
    ("frequency_encode", {"state": {"vocab": ["A", ""], "counts": [2, 1], "n": 7}}),
    ("rare_to_other", {"state": {"vocab": ["A", ""], "counts": [2, 1]}}),
]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, len(TEXTS)), max_size=6).map(sorted))
def test_numbers_do_not_depend_on_the_batches(cuts):
    """Any split of the rows into batches gives the same values."""
    for op, keys in STEPS:
        step = step_of(op, ["x"], **keys)
        parts = [
            plain(step.apply(frame_of(x=("string", TEXTS[a:b])), "")[0])
            for a, b in itertools.pairwise([0, *cuts, len(TEXTS)])
        ]
        assert list(itertools.chain(*parts)) == plain(step.apply(frame_of(x=("string", TEXTS)), "")[0])


@pytest.mark.parametrize(("op", "keys"), STEPS)
def test_a_step_that_was_used_is_still_a_value(op, keys):
    """A step that has looked values up is equal to a fresh one, and is pickled and written as before."""
    step, fresh = (step_of(op, ["x"], **keys) for _ in range(2))
    first = step.apply(frame_of(x=("string", TEXTS)), "")[0]
    assert step == fresh
    assert step.model_dump_json() == fresh.model_dump_json()
    again = pickle.loads(pickle.dumps(step))
    assert again == fresh
    second = again.apply(frame_of(x=("string", TEXTS)), "")[0]
    assert plain(first) == plain(second) if op == "rare_to_other" else bits(first) == bits(second)
