from __future__ import annotations

import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from etl.ops import codes
from etl.ops.codes import IntegerCodes, TextCodes
from etl.types import ColumnType
from tests.etl.nasty import TEXTS, applied, arrow, frame_of, step_of
from tests.etl.test_numeric_ops import learned

VOCAB = ["A", "ß", "", "\u00e9", "😀", "\x00", "x" * 20_000]
STATE = {"vocab": VOCAB, "counts": [9, 8, 7, 6, 5, 4, 3]}


def one_hot(frame, **params):
    """Apply one_hot with the vocabulary above."""
    return applied(frame, "one_hot", "x", state=STATE, params=params)[0]


@pytest.mark.parametrize("unknown", ["zeros", "bucket"])
def test_one_hot_is_one_at_the_category(unknown):
    """A known text has a single 1 at its position, an unknown one none or one in the bucket, a missing one none."""
    hot = one_hot(frame_of(x=("string", TEXTS)), unknown=unknown)
    width = len(VOCAB) + (unknown == "bucket")
    for text, line in zip(TEXTS, hot.tolist(), strict=True):
        wanted = [0.0] * width
        if text in VOCAB:
            wanted[VOCAB.index(text)] = 1.0
        elif text is not None and unknown == "bucket":
            wanted[-1] = 1.0
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


def test_one_hot_says_how_wide_it_is():
    """The type of a fitted one_hot is a vector as wide as its vocabulary, and one wider with a bucket."""
    for unknown, width in (("zeros", 7), ("bucket", 8), ("reject", 7)):
        step = step_of("one_hot", ["x"], state=STATE, params={"unknown": unknown})
        assert step.infer((ColumnType("string"),)) == (ColumnType("vector", width),)
        assert step.apply(frame_of(x=("string", ["A"])), "")[0].shape == (1, width)


def test_string_index_has_its_layout():
    """0 is given to no row, 1 is missing, 2 unknown, and category k is 3 + k."""
    (ids,) = applied(frame_of(x=("string", TEXTS)), "string_index", "x", state=STATE)
    wanted = [1 if text is None else VOCAB.index(text) + 3 if text in VOCAB else 2 for text in TEXTS]
    assert ids.tolist() == wanted
    assert ids.dtype == np.int64


@pytest.mark.parametrize("layout", [{"pad": 1}, {"missing": 0}, {"oov_buckets": 2}, {"oov": 1}])
def test_string_index_knows_one_layout(layout):
    """A layout that this release does not make is refused, not ignored."""
    with pytest.raises(ValidationError):
        step_of("string_index", ["x"], params={"layout": layout})


@pytest.mark.parametrize("op", ["one_hot", "string_index"])
@pytest.mark.parametrize("kind", ["int64", "float64", "date", "float32[2]"])
def test_categories_are_text(op, kind):
    """Numbers and dates are no categories until they are cast."""
    with pytest.raises(ValueError, match=r"takes string, found .*; cast it first"):
        step_of(op, ["x"]).infer((ColumnType.parse(kind),))


@pytest.mark.parametrize(
    "state", [{"vocab": [], "counts": []}, {"vocab": ["a", "a"], "counts": [1, 1]}, {"vocab": ["a"], "counts": []}]
)
def test_a_vocabulary_has_distinct_texts_and_a_count_for_each(state):
    """A vocabulary that is empty, has a text twice or counts that do not match is refused."""
    with pytest.raises(ValidationError):
        step_of("one_hot", ["x"], state=state)


LETTERS = [text for text in TEXTS for _ in range(TEXTS.index(text) % 3 + 1)]


@pytest.mark.parametrize("cuts", [(), (1,), (3, 3, 17), tuple(range(1, len(LETTERS)))])
@pytest.mark.parametrize("op", ["one_hot", "string_index"])
def test_a_vocabulary_is_ordered_by_count_and_then_by_bytes(op, cuts):
    """Categories are learned most frequent first, ties by UTF-8 bytes, whatever the order and the cut of the rows."""
    counts = Counter(text for text in LETTERS if text is not None)
    wanted = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0].encode()))
    for values in (LETTERS, LETTERS[::-1]):
        state = learned(op, values, "string", cuts=cuts)
        assert list(zip(state.vocab, state.counts, strict=True)) == wanted


def test_rare_and_many_categories_are_left_out():
    """Categories below min_count are not learned, and of the others only the most frequent."""
    texts = ["a"] * 3 + ["b"] * 2 + ["c"] * 2 + ["d"]
    assert learned("one_hot", texts, "string", params={"min_count": 2}).vocab == ("a", "b", "c")
    assert learned("one_hot", texts, "string", params={"max_categories": 2}).vocab == ("a", "b")
    assert learned("string_index", texts, "string", params={"max_size": 1}).vocab == ("a",)
    with pytest.raises(ValueError, match="column 'x' has no category with 4 rows or more"):
        learned("one_hot", texts, "string", params={"min_count": 4})


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(max_size=3))), st.sets(st.text(max_size=3), min_size=1))
def test_codes_of_texts_are_their_positions(values, known):
    """All ways of looking texts up, by Arrow, by Python and by Arrow among distinct ones, give the position, or −1."""
    vocabulary = sorted(known)
    wanted = [vocabulary.index(value) if value in known else -1 for value in values]
    column = arrow(values, "string")
    assert TextCodes(vocabulary).codes(column).tolist() == wanted
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codes, "_KERNEL_TEXTS", 0)
        for price in (0, 10**9):
            patch.setattr(codes, "_PYTHON_PRICE", price)
            assert TextCodes(vocabulary).codes(column).tolist() == wanted


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
