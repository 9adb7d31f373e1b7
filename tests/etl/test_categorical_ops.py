from __future__ import annotations

import itertools
import pickle
from collections import Counter

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from etl.ops import codes
from etl.ops.codes import IntegerCodes, TextCodes
from etl.types import ColumnType
from etl.xxh64 import hash_texts
from tests.etl.nasty import TEXTS, applied, arrow, frame_of, step_of

VOCAB = ["A", "ß", "", "\u00e9", "😀", "\x00", "x" * 20_000]
STATE = {"vocab": VOCAB, "counts": [9, 8, 7, 6, 5, 4, 3]}


def learned(op, values, kind="string", *, cuts=(), **keys):
    """Fit a step to values that come in pieces."""
    total = step_of(op, ["x"], **keys).accumulator()
    for start, stop in itertools.pairwise([0, *cuts, len(values)]):
        part = step_of(op, ["x"], **keys).accumulator()
        part.update(frame_of(x=(kind, values[start:stop])))
        total.merge(part)
    return total.finish()


def merged_anyhow(op, values, rng, *, kind="string", **keys):
    """Fit a step to values that are dealt out to pieces, which are merged in any order and grouping."""
    owner = rng.integers(0, rng.integers(1, 6), len(values))
    parts = []
    for piece in rng.permutation(6):
        part = step_of(op, ["x"], **keys).accumulator()
        for row in rng.permutation(np.flatnonzero(owner == piece)):
            part.update(frame_of(x=(kind, [values[row]])))
        parts.append(part)
    while len(parts) > 1:
        into, gone = rng.choice(len(parts), 2, replace=False)
        parts[into].merge(parts[gone])
        del parts[gone]
    return parts[0].finish()


def one_hot(frame, **params):
    """Apply one_hot with the vocabulary above."""
    return applied(frame, "one_hot", "x", state=STATE, params=params)[0]


@pytest.mark.parametrize("unknown", ["zeros", "bucket"])
@pytest.mark.parametrize("missing", ["zeros", "bucket"])
def test_one_hot_is_one_at_the_category(unknown, missing):
    """A known text has a single 1 at its position, an unknown or a missing one none, or one in its bucket."""
    hot = one_hot(frame_of(x=("string", TEXTS)), unknown=unknown, missing=missing)
    width = len(VOCAB) + (unknown == "bucket") + (missing == "bucket")
    for text, line in zip(TEXTS, hot.tolist(), strict=True):
        wanted = [0.0] * width
        if text in VOCAB:
            wanted[VOCAB.index(text)] = 1.0
        elif text is None and missing == "bucket":
            wanted[-1] = 1.0
        elif text is not None and unknown == "bucket":
            wanted[len(VOCAB)] = 1.0
        assert line == wanted, text
    assert (hot.dtype, hot.shape) == (np.float32, (len(TEXTS), width))


def test_one_hot_rejects_what_it_is_told_to():
    """Rows with an unknown or a missing category are rejected each under its own rule."""
    frame = frame_of(x=("string", ["A", "a", None, "ß"]))
    one_hot(frame, unknown="reject", missing="reject")
    assert [(r.rows.tolist(), r.code, r.pointer, r.column) for r in frame.rejections] == [
        ([1], "UNKNOWN_CATEGORY", "/steps/0/params/unknown", "x"),
        ([2], "MISSING", "/steps/0/params/missing", "x"),
    ]


@pytest.mark.parametrize(("op", "kind"), [("one_hot", "string"), ("multi_hot", "list<string>")])
def test_vectors_say_how_wide_they_are(op, kind):
    """The type of a fitted step is a vector as wide as its vocabulary, and one wider for each bucket."""
    value = "A" if op == "one_hot" else ["A"]
    for unknown, missing, width in (("zeros", "zeros", 7), ("bucket", "reject", 8), ("bucket", "bucket", 9)):
        step = step_of(op, ["x"], state=STATE, params={"unknown": unknown, "missing": missing})
        assert step.infer((ColumnType.parse(kind),)) == (ColumnType("vector", width),)
        assert step.apply(frame_of(x=(kind, [value])), "")[0].shape == (1, width)


LISTS = [TEXTS[n : n + n % 5] for n in range(len(TEXTS))] + [None, [], [None], ["A", "A", "nobody", "A", "nobody"]]


def hot_lists(lists, *, values, unknown, missing):
    """Make the vectors of multi_hot in plain Python."""
    lines = []
    for texts in lists:
        line = [float((texts or []).count(text)) for text in VOCAB]
        if unknown == "bucket":
            line.append(float(sum(text is not None and text not in VOCAB for text in texts or [])))
        if values == "presence":
            line = [min(count, 1.0) for count in line]
        lines.append([*line, float(texts is None)] if missing == "bucket" else line)
    return lines


@pytest.mark.parametrize("values", ["presence", "count"])
@pytest.mark.parametrize("unknown", ["zeros", "bucket"])
@pytest.mark.parametrize("missing", ["zeros", "bucket"])
def test_multi_hot_tells_which_categories_a_list_has(values, unknown, missing):
    """Each list has 1, or the count, at each category that it has; null is no element, and buckets tell the rest."""
    frame = frame_of(x=("list<string>", LISTS))
    params = {"values": values, "unknown": unknown, "missing": missing}
    (found,) = applied(frame, "multi_hot", "x", state=STATE, params=params)
    assert found.tolist() == hot_lists(LISTS, **params)
    assert found.dtype == np.float32
    frame["x"] = frame["x"].slice(3)
    frame.rows -= 3
    assert applied(frame, "multi_hot", "x", state=STATE, params=params)[0].tolist() == hot_lists(LISTS[3:], **params)


def test_multi_hot_rejects_what_it_is_told_to():
    """Rows with an unknown element or without a list are rejected each under its own rule; null is no element."""
    frame = frame_of(x=("list<string>", [["A", "a"], None, [], [None], ["ß"], ["b", "c"]]))
    applied(frame, "multi_hot", "x", state=STATE, params={"unknown": "reject", "missing": "reject"})
    assert [(r.rows.tolist(), r.code, r.pointer, r.column) for r in frame.rejections] == [
        ([0, 5], "UNKNOWN_CATEGORY", "/steps/0/params/unknown", "x"),
        ([1], "MISSING", "/steps/0/params/missing", "x"),
    ]


def test_multi_hot_learns_how_many_lists_have_a_category():
    """What is learned is what DuckDB counts: lists by category, of which one that has it twice counts once."""
    table = pa.table({"n": range(len(LISTS)), "x": arrow(LISTS, "list<string>")})
    query = "SELECT t, count(DISTINCT n) FROM (SELECT n, unnest(x) AS t FROM table_) WHERE t IS NOT NULL GROUP BY 1"
    connection = duckdb.connect()
    connection.register("table_", table)
    wanted = connection.execute(f"{query} ORDER BY 2 DESC, encode(t)").fetchall()
    for cuts in ((), (0, 3, 3, 20)):
        state = learned("multi_hot", LISTS, "list<string>", cuts=cuts)
        assert list(zip(state.vocab, state.counts, strict=True)) == wanted


@pytest.mark.parametrize("buckets", [1, 2, 4, 1_000_000])
def test_string_index_has_its_layout(buckets):
    """0 is given to no row, 1 is missing, unknown ones share the next ids by hash, and category k comes k behind."""
    layout = {"pad": 0, "missing": 1, "oov_buckets": buckets}
    params = {"layout": layout, "min_count": 3}
    (ids,) = applied(frame_of(x=("string", TEXTS)), "string_index", "x", state=STATE, params=params)
    for text, found in zip(TEXTS, ids.tolist(), strict=True):
        if text is None:
            assert found == 1
        elif text in VOCAB:
            assert found == 2 + buckets + VOCAB.index(text)
        else:
            unsigned = xxhash.xxh64_intdigest(text.encode(), 42)
            assert found == 2 + (unsigned - 2**64 if unsigned >= 2**63 else unsigned) % buckets
    assert ids.dtype == np.int64


def test_string_index_tells_what_its_ids_mean():
    """The ids of unknown categories and of padding are those of the layout."""
    assert step_of("string_index", ["x"]).unknown_ids("out") == range(2, 3)
    step = step_of("string_index", ["x"], params={"layout": {"pad": 0, "missing": 1, "oov_buckets": 4}})
    assert (step.unknown_ids("out"), step.padding_id("out")) == (range(2, 6), 0)


@pytest.mark.parametrize("layout", [{"pad": 1}, {"missing": 0}, {"oov_buckets": 0}, {"oov": 1}])
def test_string_index_knows_one_layout(layout):
    """A layout that this release does not make is refused, not ignored."""
    with pytest.raises(ValidationError):
        step_of("string_index", ["x"], params={"layout": layout})


@pytest.mark.parametrize("op", ["one_hot", "string_index", "frequency_encode", "rare_to_other"])
@pytest.mark.parametrize("kind", ["int64", "float64", "date", "float32[2]"])
def test_categories_are_text(op, kind):
    """Numbers and dates are no categories until they are cast."""
    with pytest.raises(ValueError, match=r"takes string, found .*; cast it first"):
        step_of(op, ["x"]).infer((ColumnType.parse(kind),))


@pytest.mark.parametrize("kind", ["string", "list<int64>", "float32[2]"])
def test_multi_hot_takes_lists_of_texts(kind):
    """A text, a list of numbers and a vector are no lists of categories."""
    with pytest.raises(ValueError, match="takes list<string>, found"):
        step_of("multi_hot", ["x"]).infer((ColumnType.parse(kind),))


@pytest.mark.parametrize(
    "state", [{"vocab": [], "counts": []}, {"vocab": ["a", "a"], "counts": [1, 1]}, {"vocab": ["a"], "counts": []}]
)
@pytest.mark.parametrize("op", ["one_hot", "multi_hot", "string_index", "rare_to_other"])
def test_a_vocabulary_has_distinct_texts_and_a_count_for_each(op, state):
    """A vocabulary that is empty, has a text twice or counts that do not match is refused."""
    with pytest.raises(ValidationError):
        step_of(op, ["x"], state=state)


SEEDS = st.integers(0, 2**32 - 1)
LETTERS = [text for text in TEXTS for _ in range(TEXTS.index(text) % 3 + 1)]


@pytest.mark.parametrize("cuts", [(), (1,), (3, 3, 17), tuple(range(1, len(LETTERS)))])
@pytest.mark.parametrize("op", ["one_hot", "string_index"])
def test_a_vocabulary_is_ordered_by_count_and_then_by_bytes(op, cuts):
    """Categories are learned most frequent first, ties by UTF-8 bytes, whatever the order and the cut of the rows."""
    counts = Counter(text for text in LETTERS if text is not None)
    wanted = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0].encode()))
    for values in (LETTERS, LETTERS[::-1]):
        state = learned(op, values, cuts=cuts)
        assert list(zip(state.vocab, state.counts, strict=True)) == wanted


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.one_of(st.sampled_from([None, "", "a", "ß", "\uffff", "\U00010000", "b"]), st.text(max_size=2))), SEEDS
)
def test_a_vocabulary_is_the_same_to_the_byte_for_any_partitioning(texts, seed):
    """However rows are dealt out to pieces and these are merged, the state is that of all rows at once, to the byte."""
    rng = np.random.default_rng(seed)
    texts = [*texts, "always"]
    counts = Counter(text for text in texts if text is not None)
    wanted = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0].encode()))
    for op, values, kind in (("string_index", texts, "string"), ("multi_hot", [[t, t] for t in texts], "list<string>")):
        state = merged_anyhow(op, values, rng, kind=kind)
        assert list(zip(state.vocab, state.counts, strict=True)) == wanted
        assert state.model_dump_json() == learned(op, values, kind).model_dump_json()


def test_rare_and_many_categories_are_left_out():
    """Categories below min_count are not learned, and of the others only the most frequent."""
    texts = ["a"] * 3 + ["b"] * 2 + ["c"] * 2 + ["d"]
    assert learned("one_hot", texts, params={"min_count": 2}).vocab == ("a", "b", "c")
    assert learned("one_hot", texts, params={"max_categories": 2}).vocab == ("a", "b")
    assert learned("string_index", texts, params={"max_size": 1}).vocab == ("a",)
    with pytest.raises(ValueError, match="column 'x' has no category with 4 rows or more"):
        learned("one_hot", texts, params={"min_count": 4})


def codes_by_dict(vocabulary, values):
    """Look values up in plain Python."""
    position = {text: code for code, text in enumerate(vocabulary)}
    return [position.get(value, -1) for value in values]


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(max_size=3))), st.sets(st.text(max_size=3), min_size=1), st.integers(0, 3))
def test_codes_of_texts_are_their_positions(values, known, start):
    """Arrow's look-up and our own give the position, or −1, for a whole column and for a slice of one."""
    vocabulary = sorted(known)
    column = arrow(values, "string").slice(start)
    wanted = codes_by_dict(vocabulary, values[start:])
    assert TextCodes(vocabulary).codes(column).tolist() == wanted
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codes, "_MARKED", 8)
        assert TextCodes(vocabulary).codes(column).tolist() == wanted
        patch.setattr(codes, "_KERNEL_TEXTS", 0)
        patch.setattr(codes, "_KERNEL_SHARE", 0)
        assert TextCodes(vocabulary).codes(column).tolist() == wanted


MANY = [f"{'token' * (n % 4)}{n}" for n in range(5000)] + TEXTS[1:]


@pytest.mark.parametrize("bits", [64, 5, 1, 0])
def test_texts_of_one_hash_are_told_apart(monkeypatch, bits):
    """Texts whose hashes are equal, in the vocabulary or by chance outside it, are never taken for one another."""
    kept = np.uint64((2**64 - 1) ^ ((1 << (64 - bits)) - 1))
    monkeypatch.setattr(codes, "hash_texts", lambda column: hash_texts(column) & kept)
    monkeypatch.setattr(codes, "_KERNEL_TEXTS", 0)
    monkeypatch.setattr(codes, "_KERNEL_SHARE", 0)
    values = [*MANY[::3], None, "nobody", "token", *(f"u{n}" for n in range(500))]
    for vocabulary in (MANY, ["a"], ["", "a"], MANY[:40]):
        assert TextCodes(vocabulary).codes(arrow(values, "string")).tolist() == codes_by_dict(vocabulary, values)


def test_elements_of_lists_are_looked_up_at_once():
    """Codes of the flattened elements of lists are those of the texts, also of a slice and of texts that repeat."""
    lists = [[MANY[(7 * n * k) % len(MANY)] for k in range(n % 6)] if n % 5 else None for n in range(600)]
    for start in (0, 17):
        column = arrow(lists, "list<string>").slice(start)
        flat = [text for texts in lists[start:] for text in texts or []]
        assert TextCodes(MANY).codes(column.flatten()).tolist() == codes_by_dict(MANY, flat)
    repeating = [*MANY[:9], None, "nobody"] * 200
    assert TextCodes(MANY).codes(arrow(repeating, "string")).tolist() == codes_by_dict(MANY, repeating)
    many = repeating * 31
    assert TextCodes(MANY[:7]).codes(arrow(many, "string")).tolist() == codes_by_dict(MANY[:7], many)


WIDE = st.integers(-(2**63), 2**63 - 1)
NEAR = st.integers(-20, 20)


@settings(deadline=None)
@given(st.one_of(st.sets(WIDE), st.sets(NEAR.map(lambda n: n * 3_600_000_000 + 7))), st.lists(st.one_of(WIDE, NEAR)))
def test_codes_of_integers_are_their_positions(known, values):
    """Integers far apart, evenly spaced, or at both ends of int64 are found at their positions, others at −1."""
    ordered = sorted(known)
    asked = [*values, *ordered, *(min(value + 1, 2**63 - 1) for value in ordered)]
    found = IntegerCodes(np.array(ordered, np.int64)).codes(np.array(asked, np.int64))
    assert found.tolist() == [ordered.index(value) if value in known else -1 for value in asked]


def test_a_step_that_was_used_is_still_a_value():
    """A step that has looked texts up is equal to a fresh one, and is pickled and written as before."""
    step, other, fresh = (step_of("one_hot", ["x"], state=STATE) for _ in range(3))
    step.apply(frame_of(x=("string", ["A"])), "")
    other.apply(frame_of(x=("string", ["A"])), "")
    assert step == fresh == other == step
    assert step.model_dump_json() == fresh.model_dump_json()
    assert pickle.loads(pickle.dumps(step)) == fresh
