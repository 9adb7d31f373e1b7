from __future__ import annotations

import itertools
import json
import math
import re
from collections import Counter
from decimal import Decimal, getcontext

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.feature_extraction.text import TfidfVectorizer

from etl.ops import FAMILIES
from etl.partials.transport import dump, load
from etl.pipeline import Pipeline
from etl.spec import read_spec
from etl.types import ColumnType
from tests.etl.nasty import TEXTS, applied, arrow, bits, document, frame_of, plain, spec_of, step_of

TOKENS = ["a", "b", "ab", "é", "e\u0301", "😀", "", "A", "\x00", "漢字", "x" * 200]
LISTS = [
    *(
        None,
        [],
        ["a"],
        ["b", "a", "a"],
        [""],
        ["zz", "", "é", "e\u0301", "E\u0301"],
        [None],
        ["a", None, "zz"],
        ["漢字"] * 9,
    ),
    *([text] for text in TEXTS),
    *(["😀", "\x00", "a b", "A", "ab"] * 7, TEXTS, ["new"] * 3),
]
TOKEN_LISTS = st.lists(
    st.one_of(st.none(), st.lists(st.one_of(st.none(), st.sampled_from(TOKENS), st.text(max_size=2)), max_size=7)),
    max_size=6,
)
SIGNS = st.text(alphabet="ab1 ,.é😀\n\u0301", max_size=10)
TEXT_LISTS = st.lists(st.one_of(st.none(), SIGNS, st.sampled_from(TEXTS)), max_size=6)

RUNS = [
    "[^a-z0-9]+",
    "[a-z0-9]+",
    "[ ]+",
    r"[^\n]+",
    r"[a-z\x{80}-\x{10FFFF}]+",
    r"[^a\x{80}-\x{10FFFF}]+",
    "[,.]+",
    r"[\x00]+",
]
"""Patterns of which the op works byte by byte."""

OTHERS = [
    "[^a-z0-9]",
    ",",
    "ab|a",
    "é+",
    "[^é]+",
    "^[ ]+",
    r"b\z",
    "(?s)a.",
    "[ab]+?",
    "[a-b]+1",
    "(?:[a-z])+",
    "[ée]+",
]


def of_lists(lists, op, **keys):
    """Return what an op makes of a column of lists of texts, as Python values."""
    return plain(applied(frame_of(x=("list<string>", lists)), op, "x", **keys)[0])


def tokens_of(texts, **params):
    """Return the tokens of texts."""
    return plain(applied(frame_of(x=("string", texts)), "tokenize", "x", params=params)[0])


def to_python(pattern):
    """Write a pattern for Python's re."""
    return re.compile(re.sub(r"\\x\{([0-9A-F]+)\}", lambda code: chr(int(code[1], 16)), pattern).replace("\\z", "\\Z"))


def each(rows, function):
    """Return what a function makes of each row, None for None."""
    return [None if row is None else function(row) for row in rows]


@settings(max_examples=50, deadline=None)
@given(TEXT_LISTS, st.sampled_from(RUNS + OTHERS), st.integers(0, 6))
def test_tokens_are_those_of_python(texts, pattern, cut):
    """Texts are split and matched as Python's re does, in any batch; a missing text is a missing list."""
    python = to_python(pattern)
    found = tokens_of(texts, split=pattern)
    assert found == each(texts, python.split)
    assert found == tokens_of(texts[:cut], split=pattern) + tokens_of(texts[cut:], split=pattern)
    assert tokens_of(texts, split=pattern, drop_empty=True) == each(
        texts, lambda t: [part for part in python.split(t) if part]
    )
    assert tokens_of(texts, match=pattern) == each(texts, python.findall)


@pytest.mark.parametrize("pattern", RUNS + OTHERS)
def test_nasty_texts_are_split_as_by_python(pattern):
    """Every nasty text at once, and a slice of them, is split and matched as Python's re does."""
    python = to_python(pattern)
    assert tokens_of(TEXTS, split=pattern) == each(TEXTS, python.split)
    assert tokens_of(TEXTS, match=pattern) == each(TEXTS, python.findall)
    frame = frame_of(x=("string", TEXTS))
    frame["y"] = frame.arrow("x")[3:-2]
    frame.rows = len(frame.arrow("y"))
    assert plain(applied(frame, "tokenize", "y", params={"split": pattern})[0]) == each(TEXTS[3:-2], python.split)


@pytest.mark.parametrize("block", [1, 7, 100])
def test_texts_are_cut_block_by_block(block, monkeypatch):
    """How many texts are cut together changes nothing, though one is longer than a block, or empty at its border."""
    monkeypatch.setattr("etl.ops.tokens._BLOCK", block)
    texts = ["", *TEXTS[:40], "", None, "", "a b" * 9, ""]
    for pattern in RUNS:
        assert tokens_of(texts, split=pattern) == each(texts, to_python(pattern).split)
    assert tokens_of([], split="[ ]+") == tokens_of([None], split="[ ]+")[1:] == []


def test_a_null_may_have_bytes_in_memory():
    """A missing text whose place in memory holds bytes has no tokens."""
    column = pa.Array.from_buffers(
        pa.string(),
        3,
        [pa.py_buffer(b"\x05"), pa.py_buffer(np.array([0, 2, 5, 7], np.int32)), pa.py_buffer(b"a b c d")],
    )
    assert column.to_pylist() == ["a ", None, " d"]
    frame = frame_of(x=("string", ["", "", ""]))
    frame["y"] = column
    for pattern in ("[ ]+", " "):
        made = applied(frame, "tokenize", "y", params={"split": pattern})[0]
        assert made.to_pylist() == [["a", ""], None, ["", "d"]]
        made.validate(full=True)


@pytest.mark.parametrize(
    "params", [{}, {"split": "a", "match": "b"}, {"match": "a", "drop_empty": True}, {"split": ""}, {"split": "a$"}]
)
def test_tokenize_takes_one_pattern(params):
    """Neither pattern, both, or drop_empty where nothing is split, is refused."""
    with pytest.raises(ValidationError):
        step_of("tokenize", ["x"], params=params)


@settings(max_examples=50, deadline=None)
@given(TOKEN_LISTS, st.integers(1, 4), st.sampled_from(["", " ", "_\x00é"]), st.integers(0, 6))
def test_ngrams_are_neighbours(lists, n, separator, cut):
    """The n-grams of a list are its runs of n tokens; one with a missing token is missing, so is a missing list."""

    def by_hand(tokens):
        runs = [tokens[start : start + n] for start in range(len(tokens) - n + 1)]
        return [None if None in run else separator.join(run) for run in runs]

    params = {"n": n, "separator": separator}
    found = of_lists(lists, "ngrams", params=params)
    assert found == each(lists, by_hand)
    assert found == of_lists(lists[:cut], "ngrams", params=params) + of_lists(lists[cut:], "ngrams", params=params)


def test_ngrams_of_nasty_tokens():
    """Long lists and nasty tokens are no special cases; by default a space stands between tokens."""
    wanted = each(LISTS, lambda row: [None if None in pair else " ".join(pair) for pair in itertools.pairwise(row)])
    assert of_lists(LISTS, "ngrams", params={"n": 2}) == wanted


STATE = {"vocab": TOKENS, "counts": list(range(len(TOKENS), 0, -1))}


def ids_by_hand(tokens, params):
    """Return ids, count and mask of one list by the words of the op."""
    length, pad, oov = params["max_len"], params.get("pad_id", 0), params.get("oov", {"kind": "single"})
    first_oov, n = oov.get("id", 1), oov.get("n", 1)
    first = max(pad, first_oov + n - 1) + 1

    def id_of(token):
        if token in TOKENS:
            return TOKENS.index(token) + first
        if token is None:
            return first_oov
        unsigned = xxhash.xxh64_intdigest(token.encode(), 42)
        return first_oov + (unsigned - 2**64 if unsigned >= 2**63 else unsigned) % n

    ids = [id_of(token) for token in tokens or ()]
    count = None if tokens is None else len(ids)
    ids = ids[-length:] if params.get("truncate") == "left" else ids[:length]
    fill = length - len(ids)
    ones = [1] * len(ids)
    if params.get("pad") == "left":
        return [pad] * fill + ids, count, [0] * fill + ones
    return ids + [pad] * fill, count, ones + [0] * fill


PARAMS = [
    {"max_len": 3},
    {"max_len": 1, "truncate": "left"},
    {"max_len": 5, "pad": "left", "pad_id": 7},
    {"max_len": 200, "oov": {"kind": "single", "id": 40}, "pad": "left"},
    {"max_len": 4, "oov": {"kind": "buckets", "n": 5}},
    {"max_len": 6, "oov": {"kind": "buckets", "n": 1000, "id": 0}, "pad_id": 5000, "truncate": "left", "pad": "left"},
    {"max_len": 2, "oov": {"kind": "buckets", "n": 3, "id": 10}, "pad_id": 2},
    {"max_len": 2, "pad_id": 1, "oov": {"kind": "single", "id": 0}},
]


@pytest.mark.parametrize("params", PARAMS)
def test_token_ids_have_their_layout(params):
    """Ids, the number of tokens and the mask are as the op's words say, for every list and every layout."""
    outputs = ("ids", "n", "ids#mask")
    frame = frame_of(x=("list<string>", LISTS))
    ids, count, mask = applied(frame, "token_ids", "x", outputs=outputs, state=STATE, params={**params, "mask": True})
    wanted = [ids_by_hand(tokens, params) for tokens in LISTS]
    assert ids.tolist() == [row[0] for row in wanted]
    assert plain(count) == [row[1] for row in wanted]
    assert mask.tolist() == [row[2] for row in wanted]
    assert (ids.dtype, count.dtype, mask.dtype) == (np.int64, np.float64, np.int64)
    assert ids.shape == mask.shape == (len(LISTS), params["max_len"])


@settings(max_examples=50, deadline=None)
@given(TOKEN_LISTS, st.sampled_from(PARAMS), st.integers(0, 6))
def test_ids_do_not_depend_on_the_batch(lists, params, cut):
    """Random lists have the ids that the op's words say, whichever batch they are in."""
    found = of_lists(lists, "token_ids", state=STATE, params=params)
    assert found == [ids_by_hand(tokens, params)[0] for tokens in lists]
    parts = [of_lists(part, "token_ids", state=STATE, params=params) for part in (lists[:cut], lists[cut:])]
    assert parts[0] + parts[1] == found


def test_the_number_of_outputs_says_which():
    """One output is the ids, a second one the number of tokens, and with mask the last one is the mask."""
    vector = ColumnType("vector", 4, "int64")
    number, lists = ColumnType("float64"), (ColumnType.parse("list<string>"),)
    for mask, outputs, types in (
        (False, ["i"], (vector,)),
        (False, ["i", "n"], (vector, number)),
        (True, ["i", "m"], (vector, vector)),
        (True, ["i", "n", "m"], (vector, number, vector)),
    ):
        step = step_of("token_ids", ["x"], outputs, state=STATE, params={"max_len": 4, "mask": mask})
        assert step.infer(lists) == types
        assert len(step.apply(frame_of(x=("list<string>", LISTS)), "")) == len(types)
        assert step.padding_id("i") == 0
        assert step.unknown_ids("i") == range(1, 2)
        assert step.truncation("i") == (("n", 4) if "n" in outputs else None)
        for other in outputs[1:]:
            assert step.padding_id(other) is step.unknown_ids(other) is step.truncation(other) is None
    for mask, outputs in ((False, ["i", "n", "m"]), (True, ["i"]), (True, ["i", "n", "m", "x"])):
        step = step_of("token_ids", ["x"], outputs, params={"max_len": 4, "mask": mask})
        with pytest.raises(ValueError, match=f"found {len(outputs)} names in out"):
            step.infer(lists)


@pytest.mark.parametrize("params", PARAMS)
def test_ids_that_are_unknown_are_told(params):
    """The ids that a step says stand for unknown tokens are those that unknown tokens get, and no others."""
    step = step_of("token_ids", ["x"], state=STATE, params=params)
    (known,) = step.apply(frame_of(x=("list<string>", [[token] for token in TOKENS])), "")
    (new,) = step.apply(frame_of(x=("list<string>", [[f"new{n}"] for n in range(200)])), "")
    unknown = step.unknown_ids("out")
    assert not {int(value) for value in known.flat} & set(unknown)
    assert {int(value) for value in new.flat} - {step.padding_id("out")} <= set(unknown)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"max_len": 0},
        {"max_len": 4, "pad_id": 1},
        {"max_len": 4, "pad_id": 3, "oov": {"kind": "buckets", "n": 4}},
        {"max_len": 4, "oov": {"kind": "hash", "n": 4}},
        {"max_len": 4, "oov": {"kind": "single", "n": 4}},
        {"max_len": 4, "oov": {"kind": "buckets"}},
        {"max_len": 4, "truncate": "both"},
        {"max_len": 4, "pad_id": -1},
    ],
)
def test_a_layout_has_one_meaning_for_each_id(params):
    """Padding that is also an unknown token's id, and words that the op does not know, are refused."""
    with pytest.raises(ValidationError):
        step_of("token_ids", ["x"], params=params)


@pytest.mark.parametrize("op", ["ngrams", "token_ids", "tfidf"])
@pytest.mark.parametrize("kind", ["string", "list<int64>", "int64[3]", "float64"])
def test_tokens_are_lists_of_texts(op, kind):
    """Texts, numbers and lists of numbers are no tokens."""
    params = {"ngrams": {"n": 2}, "token_ids": {"max_len": 3}}.get(op, {})
    with pytest.raises(ValueError, match=r"takes list<string>, found"):
        step_of(op, ["x"], params=params).infer((ColumnType.parse(kind),))


def learned(op, lists, *, cuts=(), order=1, **params):
    """Fit a step to lists that come in pieces, merged in their order or in the opposite one."""
    step = step_of(op, ["x"], params=params)
    parts = []
    for start, stop in itertools.pairwise([0, *cuts, len(lists)]):
        parts.append(step.accumulator())
        parts[-1].update(frame_of(x=("list<string>", lists[start:stop])))
    total = step.accumulator().fresh()
    for part in parts[::order]:
        # As it comes from a worker.
        total.merge(load({"x": step.accumulator()}, dump({"x": part}))["x"])
    return total.finish()


def ranked(counts):
    """Order counts by hand: most frequent first, ties by UTF-8 bytes."""
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0].encode()))


@settings(max_examples=25, deadline=None)
@given(TOKEN_LISTS, st.lists(st.integers(0, 6), max_size=3).map(sorted), st.sampled_from([1, -1]))
def test_any_partition_gives_the_same_vocabulary(lists, cuts, order):
    """Tokens and terms are counted exactly, and ordered by count and then bytes, however the rows are cut or merged."""
    lists = [*lists, ["b", "a", "b"]]
    times = Counter(token for row in lists for token in row or () if token is not None)
    rows_with = Counter(token for row in lists for token in set(row or ()) if token is not None)
    state = learned("token_ids", lists, cuts=cuts, order=order, max_len=3)
    assert list(zip(state.vocab, state.counts, strict=True)) == ranked(times)
    assert state.model_dump_json() == learned("token_ids", lists, max_len=3).model_dump_json()
    terms = learned("tfidf", lists, cuts=cuts, order=order)
    assert list(zip(terms.vocab, terms.counts, strict=True)) == ranked(rows_with)
    assert terms.rows == sum(row is not None for row in lists)
    assert terms.model_dump_json() == learned("tfidf", lists).model_dump_json()


def test_rare_and_many_tokens_are_left_out():
    """Tokens below min_count are not learned, and of the others only the most frequent; none at all is refused."""
    lists = [["a", "a", "b"], ["a", "c"], None, ["c", "d"]]
    assert learned("token_ids", lists, max_len=3, min_count=2).vocab == ("a", "c")
    assert learned("token_ids", lists, max_len=3, max_size=1).vocab == ("a",)
    assert learned("tfidf", lists, min_count=2).vocab == ("a", "c")
    assert learned("tfidf", lists, max_size=3).vocab == ("a", "c", "b")
    for op, params in (("token_ids", {"max_len": 3}), ("tfidf", {})):
        with pytest.raises(ValueError, match="column 'x' has no token that it counts 4 times or more"):
            learned(op, lists, min_count=4, **params)
        with pytest.raises(ValueError, match="column 'x' has no token"):
            learned(op, [None, [], [None]], **params)


def tfidf_by_hand(lists, state, *, smooth, norm):
    """Return the weights by scikit-learn's formula, term by term, with a logarithm of 50 digits."""
    getcontext().prec = 50
    vocab, counts, rows = state["vocab"], state["counts"], state["rows"]
    idf = [float((Decimal(rows + smooth) / Decimal(count + smooth)).ln() + 1) for count in counts]
    lines = []
    for tokens in lists:
        if tokens is None:
            lines.append([math.nan] * len(vocab))
            continue
        weights = [tokens.count(term) * idf[place] for place, term in enumerate(vocab)]
        squares = 0.0
        for weight in weights:
            squares += weight * weight
        length = math.sqrt(squares) if norm == "l2" and squares else 1.0
        lines.append([weight / length for weight in weights])
    return np.array(lines, dtype=np.float32)


TERMS = {"vocab": TOKENS, "counts": [900, 500, 499, 77, 60, 40, 33, 9, 3, 2, 1], "rows": 1000}


@pytest.mark.parametrize("norm", ["l2", "none"])
@pytest.mark.parametrize("smooth", [True, False])
def test_tfidf_is_its_formula_to_the_bit(smooth, norm):
    """Weights are how often a term stands × idf, divided by the row's length, to the bit in float32."""
    params = {"smooth_idf": smooth, "norm": norm}
    (found,) = applied(frame_of(x=("list<string>", LISTS)), "tfidf", "x", state=TERMS, params=params)
    assert bits(found) == bits(tfidf_by_hand(LISTS, TERMS, smooth=smooth, norm=norm))
    assert (found.dtype, found.shape) == (np.float32, (len(LISTS), len(TOKENS)))


@settings(max_examples=25, deadline=None)
@given(TOKEN_LISTS, st.integers(0, 6))
def test_weights_do_not_depend_on_the_batch(lists, cut):
    """Random lists have the same weights to the bit, whichever batch they are in."""
    made = [
        applied(frame_of(x=("list<string>", part)), "tfidf", "x", state=TERMS)[0]
        for part in (lists, lists[:cut], lists[cut:])
    ]
    assert bits(made[0]) == [*bits(made[1]), *bits(made[2])]
    assert bits(made[0]) == bits(tfidf_by_hand(lists, TERMS, smooth=True, norm="l2").reshape(len(lists), len(TOKENS)))


def test_tfidf_is_what_scikit_learn_computes():
    """Fitted on the same lists, weights are those of TfidfVectorizer, within a unit in the last place of float32."""
    lists = [[token for token in row if token is not None] for row in LISTS if row is not None]
    for smooth, norm in itertools.product((True, False), ("l2", "none")):
        state = learned("tfidf", lists, smooth_idf=smooth, norm=norm)
        vectorizer = TfidfVectorizer(
            analyzer=list,
            lowercase=False,
            smooth_idf=smooth,
            norm=None if norm == "none" else norm,
            vocabulary=list(state.vocab),
        )
        wanted = vectorizer.fit_transform(lists).toarray().astype(np.float32)
        params = {"smooth_idf": smooth, "norm": norm}
        (found,) = applied(frame_of(x=("list<string>", lists)), "tfidf", "x", state=state.model_dump(), params=params)
        np.testing.assert_array_max_ulp(found, wanted, maxulp=1)
        assert found.any(axis=1).sum() == sum(map(bool, lists))


@pytest.mark.parametrize("counts", [[2], [0, 1], [3, 4]])
def test_terms_are_in_some_of_the_rows(counts):
    """A term that no list had, or more lists than there were, is refused."""
    with pytest.raises(ValidationError):
        step_of("tfidf", ["x"], state={"vocab": ["a", "b"], "counts": counts, "rows": 3})


def test_a_step_that_was_used_is_still_a_value():
    """A step that made weights is equal to a fresh one."""
    used, fresh = (step_of("tfidf", ["x"], state=TERMS) for _ in range(2))
    used.apply(frame_of(x=("list<string>", LISTS)), "")
    assert used == fresh


TICKETS = {
    "fields": [
        {"name": "ticket_id", "type": "int64", "nullable": False, "role": "id"},
        {
            "name": "subject",
            "type": "string",
            "max_length": 4000,
            "on_missing": {"as_value": ""},
            "on_invalid": "as_missing",
        },
        {
            "name": "body",
            "type": "string",
            "max_length": 100_000,
            "on_missing": {"as_value": ""},
            "on_invalid": "as_missing",
        },
    ],
    "steps": [
        {"id": "join", "op": "concat", "in": ["subject", "body"], "out": ["text"], "params": {"separator": " "}},
        {"id": "low", "op": "lower", "in": ["text"], "out": ["text_l"], "params": {"mode": "ascii"}},
        {
            "id": "num",
            "op": "regex_replace",
            "in": ["text_l"],
            "out": ["text_n"],
            "params": {"pattern": "[0-9]+", "replacement": " 0 "},
        },
        {
            "id": "tok",
            "op": "tokenize",
            "in": ["text_n"],
            "out": ["tokens"],
            "params": {"split": "[^a-z0-9]+", "drop_empty": True},
        },
        {
            "id": "ids",
            "op": "token_ids",
            "in": ["tokens"],
            "out": ["ids", "n_tokens", "ids#mask"],
            "params": {
                "max_len": 128,
                "pad_id": 0,
                "oov": {"kind": "single", "id": 1},
                "truncate": "right",
                "pad": "right",
                "mask": True,
            },
            "state": {"vocab": ["0", "the", "printer"], "counts": [9, 5, 2]},
        },
        {"id": "nlen", "op": "log1p", "in": ["n_tokens"], "out": ["len_f"]},
    ],
}


def test_a_spec_of_texts_makes_its_tensors():
    """From two texts to token ids, a mask and a length, through every kind of text step."""
    tensors = [
        {"tensor": "input_ids", "dtype": "int64", "shape": [-1, 128], "from": ["ids"]},
        {"tensor": "attention_mask", "dtype": "int64", "shape": [-1, 128], "from": ["ids#mask"]},
        {"tensor": "len", "dtype": "float32", "shape": [-1, 1], "from": ["len_f"]},
    ]
    value = document(TICKETS["fields"], TICKETS["steps"])
    value["outputs"] = {"tensors": tensors, "passthrough": ["ticket_id"]}
    value["expectations"] = [
        {"id": "oov", "batch": {"oov_share": ["ids", "<=", 0.05]}, "severity": "warn"},
        {"id": "trunc", "batch": {"truncated_share": ["ids", "<=", 0.02]}, "severity": "warn"},
    ]
    spec = read_spec(json.dumps(value), "ticket_text.json")
    subjects, bodies = ["The PRINTER!", None, "2nd floor"], ["is at 10th", None, "the " * 200]
    table = pa.table(
        {"ticket_id": pa.array([1, 2, 3]), "subject": arrow(subjects, "string"), "body": arrow(bodies, "string")}
    )
    pipeline = Pipeline(spec, {})
    made = pipeline.transform(pipeline.contract(table, "test")).tensors
    rows = [[3, 4, 1, 1, 2, 1], [], ([2, 1, 1] + [3] * 200)[:128]]
    assert made["input_ids"].tolist() == [row + [0] * (128 - len(row)) for row in rows]
    assert made["attention_mask"].tolist() == [[1] * len(row) + [0] * (128 - len(row)) for row in rows]
    assert np.allclose(made["len"], np.log1p(np.array([[6], [0], [203]])))


def test_a_recipe_of_texts_is_fitted():
    """A vocabulary is learned from what the steps before make of the texts."""
    from etl import fit

    steps = [
        {"id": "tok", "op": "tokenize", "in": ["s"], "out": ["tokens"], "params": {"match": "[a-z]+"}},
        {"id": "ids", "op": "token_ids", "in": ["tokens"], "out": ["ids"], "params": {"max_len": 4, "min_count": 2}},
        {"id": "pairs", "op": "ngrams", "in": ["tokens"], "out": ["grams"], "params": {"n": 2, "separator": "_"}},
        {"id": "weights", "op": "tfidf", "in": ["grams"], "out": ["w"]},
    ]
    fields = [{"name": "s", "type": "string", "nullable": True}]
    recipe = spec_of(fields, steps, fitted=False, columns=["w"])
    spec = fit(recipe, pa.table({"s": ["a b a", "b a", None, "", "a c"]}))
    states = {step["id"]: step.get("state") for step in spec.plain()["steps"]}
    assert states["ids"] == {"vocab": ["a", "b"], "counts": [4, 2]}
    assert states["weights"] == {"vocab": ["b_a", "a_b", "a_c"], "counts": [2, 1, 1], "rows": 4}
    assert {"tokenize", "ngrams"} == set(FAMILIES["tokens"])
