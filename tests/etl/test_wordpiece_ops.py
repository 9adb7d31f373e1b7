from __future__ import annotations

import hashlib
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from etl import fit, load_spec, read_spec, save_spec
from etl.errors import SpecError
from etl.format import vocabularies
from etl.ops.wordpiece import WordPiece, WordPieceState
from etl.types import ColumnType
from tests.etl.nasty import TEXTS, applied, frame_of, plain, step_of

VOCAB = [
    *(
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "un",
        "##aff",
        "##able",
        "##a",
        "##ble",
        "a",
        "b",
        "ab",
        "abc",
        "##b",
        "##bc",
    ),
    *(
        "##c",
        "want",
        "##want",
        "##ed",
        "wa",
        "runn",
        "##ing",
        ",",
        "é",
        "##\u0301",
        "e",
        "漢",
        "##字",
        "😀",
        "##😀",
        "1",
    ),
    *("##1", "##", "x", "##x", "naïve", "##s", "\u00a0", "\x00"),
]
STATE = {"vocab": VOCAB}
WORDS = [
    "unaffable",
    "wanted",
    "running",
    "abc",
    "abcbc",
    "ab",
    "abx",
    "q",
    "un",
    "##a",
    "##",
    "[UNK]",
    "[CLS]",
    "xxxx",
    "x" * 101,
]
WORDS += ["", "漢字", "字", "😀😀", "e\u0301", "é", "1111", "naïves", "NAÏVE", "unwanted,", "a" * 100, "a" * 101]
SIGNS = st.text(alphabet="abcx1 ,é😀\n\u00a0", max_size=12)
TEXT_LISTS = st.lists(st.one_of(st.none(), SIGNS, st.sampled_from(TEXTS)), max_size=5)
WORD_LISTS = st.lists(
    st.one_of(
        st.none(), st.lists(st.one_of(st.none(), st.sampled_from(WORDS), st.text("abc#x", max_size=6)), max_size=5)
    ),
    max_size=5,
)


def pieces_of(word, *, longest=100, vocab=VOCAB):
    """Cut one word as the published algorithm says: greedily the longest piece first, character by character."""
    if word is None or len(word) > longest:
        return ["[UNK]"]
    pieces: list[str] = []
    start = 0
    while start < len(word):
        end = len(word)
        while end > start and ("##" if start else "") + word[start:end] not in vocab:
            end -= 1
        if end == start:
            return ["[UNK]"]
        pieces.append(("##" if start else "") + word[start:end])
        start = end
    return pieces


def row_by_hand(words, params):
    """Return ids, number of pieces and mask of one row by the words of the op."""
    length, pad = params["max_len"], params.get("pad_id", 0)
    pieces = [piece for word in words or () for piece in pieces_of(word, longest=params.get("max_chars_per_word", 100))]
    begin = [params["begin"]] if "begin" in params else []
    end = [params["end"]] if "end" in params else []
    room = length - len(begin) - len(end)
    kept = pieces[max(0, len(pieces) - room) :] if params.get("truncate") == "left" else pieces[:room]
    ids = [] if words is None else [VOCAB.index(piece) for piece in begin + kept + end]
    fill, ones = length - len(ids), [1] * len(ids)
    count = None if words is None else len(pieces)
    if params.get("pad") == "left":
        return [pad] * fill + ids, count, [0] * fill + ones
    return ids + [pad] * fill, count, ones + [0] * fill


def words_of(text):
    """Split a text at the white space of ASCII."""
    return None if text is None else re.split("[ \t\n\v\f\r]+", text)


PARAMS = [
    {"max_len": 4},
    {"max_len": 7, "begin": "[CLS]", "end": "[SEP]"},
    {"max_len": 3, "begin": "[CLS]", "end": "[SEP]", "truncate": "left", "pad": "left"},
    {"max_len": 2, "end": "[SEP]", "pad_id": 9, "max_chars_per_word": 5},
    {"max_len": 300, "begin": "[CLS]", "pad": "left", "pad_id": 2_000_000_000},
]


def outputs_of(kind, rows, params):
    """Return ids, number of pieces and mask of a column, as Python values."""
    outputs = ("ids", "n", "mask")
    keys = {"state": STATE, "params": {**params, "mask": True}}
    made = applied(frame_of(x=(kind, rows)), "wordpiece", "x", outputs=outputs, **keys)
    assert [column.dtype for column in made] == [np.int64, np.float64, np.int64]
    return list(zip(*map(plain, made), strict=True))


@pytest.mark.parametrize("params", PARAMS)
def test_words_become_their_pieces(params):
    """Each row has the ids, the number of pieces and the mask of the reference, for words and for texts."""
    rows = [None, [], WORDS, [None], [""], *([word] for word in WORDS), [word for word in WORDS if len(word) < 5]]
    assert outputs_of("list<string>", rows, params) == [row_by_hand(row, params) for row in rows]
    texts = [*TEXTS, *WORDS, " ".join(WORDS), "\tun  ab\n", "un\u00a0ab"]
    assert outputs_of("string", texts, params) == [row_by_hand(words_of(text), params) for text in texts]


@settings(max_examples=50, deadline=None)
@given(WORD_LISTS, TEXT_LISTS, st.sampled_from(PARAMS), st.integers(0, 5))
def test_pieces_do_not_depend_on_the_batch(lists, texts, params, cut):
    """Random words and texts have the pieces of the reference, whichever batch they are in."""
    for kind, rows, split in (("list<string>", lists, lambda row: row), ("string", texts, words_of)):
        wanted = [row_by_hand(split(row), params) for row in rows]
        assert outputs_of(kind, rows, params) == wanted
        assert outputs_of(kind, rows[:cut], params) + outputs_of(kind, rows[cut:], params) == wanted


@settings(max_examples=50, deadline=None)
@given(
    st.sets(st.text("ab", min_size=1, max_size=4)),
    st.sets(st.text("ab", min_size=1, max_size=4)),
    st.lists(st.text("ab", max_size=9)),
)
def test_any_vocabulary_is_searched_greedily(first, others, words):
    """Whatever pieces a vocabulary has, a word is cut as by the reference."""
    vocab = ["[UNK]", *sorted(first), *(f"@{piece}" for piece in sorted(others))]
    params = {"max_len": 40, "pad_id": 1_000_000, "continuation": "@"}
    (ids,) = applied(frame_of(x=("list<string>", [words])), "wordpiece", "x", state={"vocab": vocab}, params=params)
    marked = [piece.replace("@", "##") for piece in vocab]
    wanted = [marked.index(piece) for word in words for piece in pieces_of(word, vocab=marked)][:40]
    assert ids[0].tolist() == wanted + [1_000_000] * (40 - len(wanted))


def test_a_vocabulary_is_read_from_its_file():
    """Each line is a piece, also one with a line separator of Unicode in it; carriage returns belong to line ends."""
    assert WordPieceState.read("[PAD]\n[UNK]\r\na\u2028b\n\x85\n##c\n".encode()).vocab == (
        "[PAD]",
        "[UNK]",
        "a\u2028b",
        "\x85",
        "##c",
    )
    assert WordPieceState.read(b"a\nb").vocab == ("a", "b")


RECIPE = """
format: scorespec/1
spec_id: bert
input: {fields: [{name: text, type: string}]}
steps:
  - id: pieces
    op: wordpiece
    in: [text]
    out: [ids, n, mask]
    params: {vocabulary_file: words/vocab.txt, max_len: 7, mask: true, begin: "[CLS]", end: "[SEP]"}
outputs: {tensors: [{tensor: input_ids, from: [ids], dtype: int64}]}
"""


def recipe_in(folder, data, text=RECIPE):
    """Write a recipe, and the file of its vocabulary, into a folder."""
    (folder / "words").mkdir()
    (folder / "words" / "vocab.txt").write_bytes(data)
    (folder / "recipe.yaml").write_text(text)
    return folder / "recipe.yaml"


def test_a_recipe_may_name_the_file_of_its_vocabulary(tmp_path):
    """The lines of the file are the state of the fitted spec, its SHA-256 is kept, and then it is needed no more."""
    data = "\r\n".join(VOCAB).encode()
    file = recipe_in(tmp_path, data)
    texts = ["unaffable wanted", None, "abc q ab running un ab"]
    spec = fit(load_spec(file, fitted=False), pa.table({"text": texts}))
    step = spec.steps[0]
    assert isinstance(step, WordPiece)
    assert step.given.vocab == tuple(VOCAB)
    assert step.params.vocabulary_sha256 == hashlib.sha256(data).hexdigest()
    save_spec(spec, tmp_path / "fitted.json")
    (tmp_path / "words" / "vocab.txt").unlink()
    again = load_spec(tmp_path / "fitted.json")
    assert again == spec
    wanted = [row_by_hand(words_of(text), {"max_len": 7, "begin": "[CLS]", "end": "[SEP]"})[0] for text in texts]
    assert again.transform(pa.table({"text": texts})).tensors["input_ids"].tolist() == wanted


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"[UNK]\n[CLS]\n[SEP]\n\na\n", "line 4 is empty"),
        (b"[UNK]\n[CLS]\n\r\n[SEP]\n", "line 3 is empty"),
        (b"[UNK]\n[CLS]\n[SEP]\n[CLS]\r\n", "line 4 has the piece of line 2"),
        (b"[UNK]\n[CLS]\n\xc3\x28\n[SEP]\n", "line 3 is not UTF-8"),
        (b"\xef\xbb\xbf[UNK]\n[CLS]\n[SEP]\n", "line 1 begins with a byte order mark"),
        (b"", "line 1 is empty"),
        (b"[UNK]\n[CLS]\n", r"params.end is '\[SEP\]', which is not in the vocabulary"),
        (b"[UNK]\n[CLS]\n[SEP]\n" + b"a" * 60, "has more than 0 MiB"),
    ],
)
def test_a_vocabulary_that_cannot_be_meant_is_refused(tmp_path, monkeypatch, data, reason):
    """A line that is empty, stands twice or is not UTF-8 is named by its number; a large file is refused."""
    monkeypatch.setattr(vocabularies, "MOST_BYTES", 60)
    with pytest.raises(SpecError, match=rf"recipe.yaml:\d+:\d+: /steps/0.*{reason}"):
        load_spec(recipe_in(tmp_path, data), fitted=False)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/etc/hostname", "relative path"),
        ("../vocab.txt", "relative path"),
        ("words/../../vocab.txt", "relative path"),
        ("words//vocab.txt", "relative path"),
        ("C:/vocab.txt", "relative path"),
        ("''", "relative path"),
        ("words", "is not in the recipe's folder"),
        ("words/other.txt", "is not in the recipe's folder"),
        ("words/link.txt", "a link that leaves the folder"),
        ("words/folder/vocab.txt", "a link that leaves the folder"),
    ],
)
def test_a_vocabulary_lies_in_the_folder_of_its_recipe(tmp_path, name, reason):
    """A name that leads elsewhere, by itself or by a link, is refused at its place; so is a file that is not there."""
    (tmp_path / "recipes").mkdir()
    file = recipe_in(tmp_path / "recipes", b"[UNK]\n[CLS]\n[SEP]\n", RECIPE.replace("words/vocab.txt", name))
    (tmp_path / "vocab.txt").write_bytes(b"[UNK]\n[CLS]\n[SEP]\n")
    (tmp_path / "recipes" / "words" / "link.txt").symlink_to(tmp_path / "vocab.txt")
    (tmp_path / "recipes" / "words" / "folder").symlink_to(tmp_path)
    with pytest.raises(SpecError, match=rf"/steps/0/params/vocabulary_file: .*{reason}"):
        load_spec(file, fitted=False)


def test_another_file_than_the_one_that_was_pinned_is_refused(tmp_path):
    """A recipe that has the file's SHA-256 takes no other file; without a file there is none to have one."""
    data = b"[UNK]\n[CLS]\n[SEP]\n"
    pinned = f"vocabulary_sha256: {hashlib.sha256(data).hexdigest()}"
    file = recipe_in(tmp_path, data, RECIPE.replace("max_len", f"{pinned}, max_len"))
    assert load_spec(file, fitted=False).steps[0].is_fitted
    (tmp_path / "words" / "vocab.txt").write_bytes(data + b"a\n")
    with pytest.raises(SpecError, match=r"/steps/0/params/vocabulary_sha256: .* is another than this. \[E-HASH\]"):
        load_spec(file, fitted=False)
    file.write_text(RECIPE.replace("vocabulary_file: words/vocab.txt", pinned))
    with pytest.raises(SpecError, match="vocabulary_sha256 is that of vocabulary_file, which is not given"):
        load_spec(file, fitted=False)


def test_a_recipe_that_is_no_file_has_no_folder():
    """A text or a dict that names a file of pieces is refused, and told to be read from a file by `load_spec`."""
    with pytest.raises(SpecError, match=r"is not read from a file has none: read it by `etl.load_spec`"):
        read_spec(RECIPE, "recipe.yaml", fitted=False)
    with pytest.raises(ValidationError, match=r"a recipe that is itself a file, by etl.load_spec or batchscore fit"):
        step_of("wordpiece", ["x"], params={"max_len": 4, "vocabulary_file": "vocab.txt"})


def test_a_step_tells_what_its_ids_mean():
    """Unknown words have one id, padding one, and the room for pieces is what begin and end leave."""
    params = {"max_len": 9, "begin": "[CLS]", "end": "[SEP]", "pad_id": 0, "mask": True}
    step = step_of("wordpiece", ["x"], ["ids", "n", "mask"], state=STATE, params=params)
    assert step.unknown_ids("ids") == range(1, 2)
    assert step.padding_id("ids") == 0
    assert step.truncation("ids") == ("n", 7)
    assert step.unknown_ids("mask") is step.padding_id("n") is step.truncation("mask") is None
    assert step.is_fitted
    vector = ColumnType("vector", 9, "int64")
    for kind in ("string", "list<string>"):
        assert step.infer((ColumnType.parse(kind),)) == (vector, ColumnType("float64"), vector)
    with pytest.raises(ValueError, match="takes string or list<string>, found list<int64>"):
        step.infer((ColumnType.parse("list<int64>"),))


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"state": None}, "state"),
        ({"state": {"vocab": []}}, "at least 1"),
        ({"state": {"vocab": ["[UNK]", "a", "a"]}}, "no piece stands twice"),
        ({"state": {"vocab": ["a"]}}, r"params.unknown is '\[UNK\]', which is not in the vocabulary"),
        ({"params": {"max_len": 4, "begin": "<s>"}}, "params.begin is '<s>', which is not in the vocabulary"),
        ({"params": {"max_len": 4, "end": "</s>"}}, "params.end is '</s>'"),
        ({"params": {"max_len": 2, "begin": "[CLS]", "end": "[SEP]"}}, "max_len 2 leaves no room"),
        ({"params": {"max_len": 4, "unknown": ""}}, "at least 1"),
    ],
)
def test_a_vocabulary_fits_its_step(keys, reason):
    """A vocabulary that is absent, has a piece twice or lacks one that the step needs is refused."""
    with pytest.raises(ValidationError, match=reason):
        step_of("wordpiece", ["x"], **{"state": STATE, "params": {"max_len": 4}, **keys})


def test_missing_words_are_not_texts_in_memory():
    """A missing list whose place in memory holds words has no pieces."""
    lists = pa.ListArray.from_arrays(
        pa.array([0, 1, 2, 3], pa.int32()), pa.array(["a", "b", "un"]), mask=pa.array([False, True, False])
    )
    frame = frame_of(x=("string", [""] * 3))
    frame["y"] = lists
    ids, count = applied(frame, "wordpiece", "y", outputs=("i", "n"), state=STATE, params={"max_len": 2})
    assert ids.tolist() == [[9, 0], [0, 0], [4, 0]]
    assert plain(count) == [1.0, None, 1.0]


BERT = {
    "L'\u00c9T\u00c9, c'est\tfini !": ["l", "'", "ete", ",", "c", "'", "est", "fini", "!"],
    "漢字カナ a\u030angstr\u00f6m_2": ["漢", "字", "カナ", "angstrom", "_", "2"],
    "Stra\u00dfe \u00c6on $9.99 [x]": ["straße", "æon", "$", "9", ".", "99", "[", "x", "]"],
    "": [],
}
"""What BertNormalizer(lowercase=True) and BertPreTokenizer() of the package tokenizers 0.23.3 make of texts."""


def test_words_of_bert_are_made_by_the_steps_before():
    """Normal form, marks taken away, lower case and a pattern give the words of BERT's uncased tokenizer."""
    frame = frame_of(x=("string", list(BERT)))
    word = r"[\x{4E00}-\x{9FFF}]|[!-/:-@\[-`{-~]|[^\x00- !-/:-@\[-`{-~\x{4E00}-\x{9FFF}]+"
    for op, source, made, params in (
        ("normalize_unicode", "x", "apart", {"form": "NFD"}),
        ("regex_replace", "apart", "bare", {"pattern": r"[\x{300}-\x{36F}]+", "replacement": ""}),
        ("lower", "bare", "low", {"mode": "unicode_simple"}),
        ("tokenize", "low", "words", {"match": word}),
    ):
        (frame[made],) = applied(frame, op, source, params=params)
    assert plain(frame["words"]) == list(BERT.values())
