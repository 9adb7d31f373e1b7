from __future__ import annotations

import itertools
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from etl import xxh64
from etl.types import ColumnType
from etl.xxh64 import buckets_of, hash_integers, hash_texts, hash_texts_under
from tests.etl.nasty import INT64S, TEXTS, applied, arrow, frame_of, plain, step_of

INT32S = [None, 0, 1, -1, 2**31 - 1, -(2**31)]
PRESENT = [text for text in TEXTS if text is not None]


def xxh(text):
    """Hash one text, or one integer as 8 bytes, by another library; unsigned."""
    data = text.encode() if isinstance(text, str) else text.to_bytes(8, "little", signed=True)
    return xxhash.xxh64_intdigest(data, 42)


def pmod(unsigned, count):
    """Read a hash as a signed number and return its bucket."""
    return (unsigned - 2**64 if unsigned >= 2**63 else unsigned) % count


def signed(unsigned):
    """Read a hash as a signed number."""
    return unsigned - 2**64 if unsigned >= 2**63 else unsigned


def together(values):
    """Write the text that stands for the values of a row."""
    texts = [None if value is None else str(value) for value in values]
    return "".join("-" if text is None else f"{len(text.encode())}:{text}" for text in texts)


@settings(deadline=None)
@given(
    st.lists(st.one_of(st.sampled_from(PRESENT), st.text(max_size=80))), st.integers(0, 5), st.integers(0, 2**64 - 1)
)
def test_the_hash_of_a_text_is_xxh64(texts, start, seed):
    """The hash of each text is XXH64 of its UTF-8 bytes, whatever stands beside it and wherever the column begins,
    under one seed and under several at once.
    """  # noqa: D205  one sentence
    column = pa.array(texts, pa.string()).slice(start)
    wanted = [[xxhash.xxh64_intdigest(text.encode(), each) for text in texts[start:]] for each in (seed, 0)]
    assert hash_texts(column, seed).tolist() == wanted[0]
    assert hash_texts_under(column, (seed, 0)).tolist() == wanted


@pytest.mark.parametrize("first", range(9))
@pytest.mark.parametrize("order", [1, -1])
def test_texts_of_every_length_are_hashed(first, order):
    """Texts of 0 to 300 bytes, at any alignment and in any order, and a slice of them, have the hash of XXH64."""
    texts = ["\0" * first, *("".join(chr(33 + n % 90) for n in range(size)) for size in range(300)[::order])]
    assert hash_texts(pa.array(texts)).tolist() == [xxh(text) for text in texts]
    assert hash_texts(pa.array(texts).slice(7, 100)).tolist() == [xxh(text) for text in texts[7:107]]


def test_blocks_have_no_seams():
    """Many texts, long ones among short ones, have the hash of XXH64 however many are hashed or read together."""
    texts = ["ab" * (n * n % 97) for n in range(500)] + ["long " * 5_000, "", "longer" * 20_000]
    wanted = [xxh(text) for text in texts]
    for rows, stripes in ((1, 1), (7, 3), (2**12, 2**10)):
        with mock.patch.object(xxh64, "_ROWS", rows), mock.patch.object(xxh64, "_STRIPES", stripes):
            assert hash_texts(pa.array(texts)).tolist() == wanted
    # The stripes of the last two differ in number by 2^16.
    long = ["y" * 40, "z" * 32, "x" * (32 * 2**16 + 32)]
    assert hash_texts(pa.array(long)).tolist() == [xxh(text) for text in long]


def test_texts_that_repeat_are_hashed_alike():
    """A column in which few texts stand for many rows, null among them, has the same hashes."""
    texts = (PRESENT * 100)[:2000]
    column = pa.array([*texts, None], pa.string())
    assert xxh64.repeats(column)
    assert hash_texts(column)[:-1].tolist() == [xxh(text) for text in texts]


def test_a_text_under_a_null_harms_no_other():
    """A null that hides bytes, as a kernel may leave it, changes the hash of no other text."""
    offsets, data, valid = np.array([0, 1, 8, 11], np.int32).tobytes(), b"a-secretbcd"[:11], b"\x05"
    hidden = pa.StringArray.from_buffers(3, pa.py_buffer(offsets), pa.py_buffer(data), pa.py_buffer(valid))
    assert hidden.to_pylist() == ["a", None, "bcd"]
    assert hash_texts(hidden)[[0, 2]].tolist() == [xxh("a"), xxh("bcd")]


@settings(deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1)), st.integers(1, 2**31 - 1))
def test_the_hash_of_an_integer_is_xxh64_of_8_bytes(values, count):
    """The hash of an integer is XXH64 of its 8 little-endian bytes, and its bucket that of the signed hash."""
    hashes = hash_integers(np.array(values, np.int64))
    assert hashes.tolist() == [xxh(value) for value in values]
    assert buckets_of(hashes, count).tolist() == [pmod(xxh(value), count) for value in values]


@pytest.mark.parametrize(("kind", "values"), [("string", TEXTS), ("int64", INT64S), ("int32", INT32S)])
@pytest.mark.parametrize("count", [1, 2, 1000, 2**31 - 1])
def test_a_bucket_is_the_hash_modulo_their_number(kind, values, count):
    """hash_bucket is pmod of the signed hash for every text and integer, and missing where the value is."""
    (found,) = applied(frame_of(x=(kind, values)), "hash_bucket", "x", params={"buckets": count})
    assert plain(found) == [None if value is None else pmod(xxh(value), count) for value in values]


def test_a_column_without_missing_values_needs_no_rule():
    """Where no value is missing, ids are plain integers, whatever `missing` says; also of a column that an op made."""
    for missing in ("as_missing", "reject", {"as_value": 9}):
        frame = frame_of(x=("int32", [5, -7]))
        frame["x"] = np.array([5, -7])
        (found,) = applied(frame, "hash_bucket", "x", params={"buckets": 9, "missing": missing})
        assert (found.dtype, found.tolist()) == (np.int64, [pmod(xxh(5), 9), pmod(xxh(-7), 9)])
        assert not frame.rejections


def test_a_missing_value_gets_an_id_or_is_rejected():
    """A missing value gets the id that is named, or its row goes to quarantine under the rule."""
    frame = frame_of(x=("string", ["a", None, ""]))
    (found,) = applied(frame, "hash_bucket", "x", params={"buckets": 8, "missing": {"as_value": 8}})
    assert found.tolist() == [pmod(xxh("a"), 8), 8, pmod(xxh(""), 8)]
    applied(frame, "hash_bucket", "x", params={"buckets": 8, "missing": "reject"})
    assert [(r.rows.tolist(), r.code, r.pointer, r.column) for r in frame.rejections] == [
        ([1], "MISSING", "/steps/0/params/missing", "x")
    ]


PAIRS = [(text, number) for text in TEXTS for number in (None, 0, -7, 2**63 - 1)]
CROSSED = {"a": ("string", [text for text, _ in PAIRS]), "b": ("int64", [number for _, number in PAIRS])}


def test_a_cross_is_the_hash_of_its_texts_with_their_lengths():
    """hashed_cross hashes length, colon and text of each value, missing where one is, or with - in its place."""
    frame = frame_of(**CROSSED)
    (found,) = applied(frame, "hashed_cross", "a", "b", params={"buckets": 1000})
    assert plain(found) == [None if None in pair else pmod(xxh(together(pair)), 1000) for pair in PAIRS]
    (found,) = applied(frame, "hashed_cross", "b", "a", params={"buckets": 9, "missing": "as_category"})
    assert plain(found) == [pmod(xxh(together(pair[::-1])), 9) for pair in PAIRS]
    (found,) = applied(frame, "hashed_cross", "a", "b", params={"buckets": 9, "missing": {"as_value": 9}})
    assert plain(found) == [9 if None in pair else pmod(xxh(together(pair)), 9) for pair in PAIRS]
    assert not frame.rejections


def test_a_cross_rejects_each_missing_value_under_its_own_name():
    """With `missing: reject` a row is rejected for each column that has no value."""
    frame = frame_of(a=("string", ["x", None, None]), b=("int32", [None, 1, None]))
    applied(frame, "hashed_cross", "a", "b", params={"buckets": 9, "missing": "reject"})
    assert [(r.rows.tolist(), r.code, r.pointer, r.column) for r in frame.rejections] == [
        ([1, 2], "MISSING", "/steps/0/params/missing", "a"),
        ([0, 2], "MISSING", "/steps/0/params/missing", "b"),
    ]


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.one_of(st.none(), st.text(":-0123456789ab", max_size=4))] * 3), unique=True))
def test_different_rows_have_different_ids(rows):
    """hash_id is the hash of the row's text, equal for equal rows and different for texts that only join alike."""
    columns = {name: ("string", list(values)) for name, values in zip("abc", zip(*rows, strict=True), strict=False)}
    if not rows:
        columns = dict.fromkeys("abc", ("string", []))
    (found,) = applied(frame_of(**columns), "hash_id", *"abc")
    assert found.dtype == np.int64
    assert found.tolist() == [signed(xxh(together(row))) for row in rows]
    assert len(set(found.tolist())) == len(rows)


def test_an_id_does_not_depend_on_the_width_of_an_integer():
    """An integer has the same id and the same bucket as int32 and as int64."""
    for op, keys in (("hash_id", {}), ("hash_bucket", {"params": {"buckets": 10**6}})):
        narrow, wide = (applied(frame_of(x=(kind, INT32S)), op, "x", **keys)[0] for kind in ("int32", "int64"))
        assert plain(narrow) == plain(wide)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, len(PAIRS)), max_size=6).map(sorted))
def test_ids_do_not_depend_on_the_batches(cuts):
    """Any split of the rows into batches gives the same ids."""
    steps = [("hash_bucket", "a", {"buckets": 77}), ("hashed_cross", "ab", {"buckets": 77}), ("hash_id", "ab", None)]
    for op, inputs, params in steps:
        keys = {} if params is None else {"params": params}
        whole = plain(applied(frame_of(**CROSSED), op, *inputs, **keys)[0])
        parts = [
            plain(applied(frame_of(**{k: (kind, v[a:b]) for k, (kind, v) in CROSSED.items()}), op, *inputs, **keys)[0])
            for a, b in itertools.pairwise([0, *cuts, len(PAIRS)])
        ]
        assert list(itertools.chain(*parts)) == whole


@pytest.mark.parametrize("op", ["hash_bucket", "hashed_cross", "hash_id"])
@pytest.mark.parametrize("kind", ["float64", "bool", "date", "timestamp", "uint64", "float32[2]", "list<string>"])
def test_what_has_no_canonical_bytes_is_not_hashed(op, kind):
    """Floats, dates, lists and the like are refused until they are cast, with the type that was found."""
    step = step_of(op, ["x", "y"], **({} if op == "hash_id" else {"params": {"buckets": 2}}))
    with pytest.raises(ValueError, match=r"takes string, int32 or int64, found .*; cast it first"):
        step.infer((ColumnType("string"), ColumnType.parse(kind)))


def test_ids_are_integers():
    """The ops on hashes make one int64 column; a cross of one column is refused."""
    kinds = (ColumnType("string"), ColumnType("int32"))
    for step in (
        step_of("hash_bucket", ["x"], params={"buckets": 2}),
        step_of("hashed_cross", ["x", "y"], params={"buckets": 2}),
        step_of("hash_id", ["x", "y"]),
    ):
        assert step.infer(kinds) == (ColumnType("int64"),)
    with pytest.raises(ValueError, match="takes two columns or more, found one; hash_bucket takes one"):
        step_of("hashed_cross", ["x"], params={"buckets": 2}).infer(kinds[:1])


@pytest.mark.parametrize(
    "params",
    [{}, {"buckets": 0}, {"buckets": 2**31}, {"buckets": 3, "missing": {"as_value": -1}}, {"buckets": 3, "seed": 1}],
)
def test_hash_bucket_refuses_other_params(params):
    """No buckets, too many, a negative id and a seed of one's own are refused."""
    with pytest.raises(ValidationError):
        step_of("hash_bucket", ["x"], params=params)


def test_spark_finds_the_same_hashes(spark):
    """Spark's xxhash64, pmod, octet_length and concat give the ids of all ops for every nasty text and integer."""
    texts = [text for text, _ in PAIRS]
    numbers = [number for _, number in PAIRS]
    rows = [(n, *pair) for n, pair in enumerate(PAIRS)]
    spark.createDataFrame(rows, "n int, a string, b long").createOrReplaceTempView("hashed")
    query = (
        "SELECT if(a IS NULL, NULL, pmod(xxhash64(a), 1000)), if(b IS NULL, NULL, pmod(xxhash64(b), 7)),"
        " if(a IS NULL OR b IS NULL, NULL,"
        "  pmod(xxhash64(concat(octet_length(a), ':', a, octet_length(b), ':', b)), 1000)),"
        " xxhash64(concat("
        "  coalesce(concat(octet_length(a), ':', a), '-'), coalesce(concat(octet_length(b), ':', b), '-')))"
        " FROM hashed ORDER BY n"
    )
    found = spark.sql(query).collect()
    frame = frame_of(a=("string", texts), b=("int64", numbers))
    ours = [
        applied(frame, "hash_bucket", "a", params={"buckets": 1000})[0],
        applied(frame, "hash_bucket", "b", params={"buckets": 7})[0],
        applied(frame, "hashed_cross", "a", "b", params={"buckets": 1000})[0],
        applied(frame, "hash_id", "a", "b")[0],
    ]
    assert [tuple(row) for row in found] == list(zip(*map(plain, ours), strict=True))


def test_arrow_is_not_asked_for_what_it_lacks():
    """An empty batch, and a batch of nulls alone, are no special case."""
    for values in ([], [None, None]):
        for kind in ("string", "int64"):
            frame = frame_of(a=(kind, values), b=("string", values))
            assert plain(applied(frame, "hash_bucket", "a", params={"buckets": 3})[0]) == values
            assert plain(applied(frame, "hashed_cross", "a", "b", params={"buckets": 3})[0]) == values
            assert plain(applied(frame, "hash_id", "a", "b")[0]) == [signed(xxh("--"))] * len(values)
    assert hash_texts(arrow([], "string")).tolist() == []
