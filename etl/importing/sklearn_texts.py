"""scikit-learn's vectorizers of texts, whose terms become the elements of one vector."""

from __future__ import annotations

import functools
import itertools
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from etl.importing.sklearn_columns import FLOAT64, Block, Part, Value
from etl.types import kernels

if TYPE_CHECKING:
    from collections.abc import Iterable

    from etl.importing.sklearn_draft import Leaf

__all__ = ["count_vectorizer", "tfidf_transformer", "tfidf_vectorizer"]

_PRESENT = "A row without a text, on which scikit-learn fails, is set aside here."
_LETTERS = "Characters of rarer scripts are not read, nor letters whose lower case is two or goes by those beside it."
_LAST_PLACE = "It may differ in the last place where scikit-learn runs on another processor."

_LEAST_LENGTHS = {r"(?u)\b\w\w+\b": 2, r"\b\w\w+\b": 2, r"(?u)\b\w+\b": 1, r"\b\w+\b": 1, r"(?u)\w+": 1, r"\w+": 1}
"""Patterns of tokens that are runs of word characters, and of how many at least."""

_WANTED = {"analyzer": "word", "input": "content", "strip_accents": None, "preprocessor": None, "tokenizer": None}
"""Parameters of which one value has a counterpart."""

_MOST_TERMS = 100_000

_BLOCKS = (
    (0x0, 0x52F),  # Latin, marks, Greek, Cyrillic
    (0x590, 0x6FF),  # Hebrew, Arabic
    (0xE00, 0xE7F),  # Thai
    (0x1100, 0x11FF),  # Korean in parts
    (0x1E00, 0x1EFF),  # more Latin, as of Vietnamese
    (0x2000, 0x206F),  # punctuation
    (0x20A0, 0x20CF),  # currencies
    (0x212A, 0x212B),  # Kelvin, Angstrom
    (0x2190, 0x23FF),  # arrows, mathematics
    (0x2500, 0x2775),  # boxes, symbols
    (0x3000, 0x30FF),  # of Chinese and Japanese
    (0x4E00, 0x9FFF),
    (0xAC00, 0xD7A3),  # Korean
    (0xFB00, 0xFB06),  # ligatures
    (0xFE00, 0xFE0F),
    (0xFEFF, 0xFFFF),
    (0x1F300, 0x1FAFF),  # pictures
)
"""Characters that a text may have here."""

_FINAL = "\u03a3"
"""The letter whose lower case goes by what stands beside it."""


def count_vectorizer(leaf: Leaf) -> Block:
    """`CountVectorizer`: how often a text has each term, or whether it has it."""
    dtype = np.dtype(leaf.estimator.dtype)
    if dtype.kind not in "fiu" or dtype.itemsize < np.dtype(np.int32).itemsize:
        leaf.refuse(f"dtype {dtype} may not hold every count; int32, int64, float32 and float64 have a counterpart.")
    counts = _counts(leaf)
    if leaf.estimator.binary:
        counts = leaf.draft.step("weigh", [counts], f"{counts}_there", params={"elements": "presence"})
    return _block(leaf, counts, dtype)


def tfidf_vectorizer(leaf: Leaf) -> Block:
    """`TfidfVectorizer`: counts times the idf of each term, by the norm of the text."""
    vectorizer = leaf.estimator
    if np.dtype(vectorizer.dtype) != FLOAT64:
        leaf.refuse(f"dtype {vectorizer.dtype} computes in fewer places; float64 has a counterpart.")
    if vectorizer.binary and vectorizer.sublinear_tf:
        leaf.refuse("binary and sublinear_tf together have no counterpart; binary alone means the same.")
    counts = _counts(leaf)
    params = _params(leaf, {"elements": "presence"} if vectorizer.binary else {})
    return _block(leaf, _weighed(leaf, counts, params), FLOAT64)


def tfidf_transformer(leaf: Leaf) -> Block:
    """`TfidfTransformer` behind a `CountVectorizer`."""
    values = leaf.block.values
    parts = [value.part for value in values]
    if any(part is None or part[:3] != (values[0].ours, place, len(parts)) for place, part in enumerate(parts)):
        leaf.refuse("takes all terms of one text, as CountVectorizer makes them.")
    if values[0].dtype.kind == "f" and values[0].dtype != FLOAT64:
        leaf.refuse(f"of counts of {values[0].dtype} it computes in fewer places.")
    vector = _weighed(leaf, values[0].ours, _params(leaf, {}))
    made = (
        value._replace(ours=vector, dtype=FLOAT64, part=part._replace(vector=vector)) for value, part in _pairs(values)
    )
    return Block(tuple(made), is_sparse=True)


def _pairs(values: Iterable[Value]) -> Iterable[tuple[Value, Part]]:
    return ((value, value.part) for value in values if value.part is not None)


def _params(leaf: Leaf, params: dict[str, Any]) -> dict[str, Any]:
    """Of op weigh, by the parameters and the idf of a transformer or vectorizer."""
    transformer = leaf.estimator
    if transformer.sublinear_tf:
        params["elements"] = "log"
        leaf.draft.note(_LAST_PLACE)
    if transformer.use_idf:
        params["weights"] = [leaf.finite(weight, leaf.block.values[0]) for weight in transformer.idf_]
    return params | ({} if transformer.norm is None else {"norm": transformer.norm})


def _weighed(leaf: Leaf, counts: str, params: dict[str, Any]) -> str:
    return leaf.draft.step("weigh", [counts], f"{counts}_tfidf", params=params) if params else counts


def _counts(leaf: Leaf) -> str:
    """Our vector with the count of each term."""
    vectorizer = leaf.estimator
    least, length = _checked(leaf)
    (value,) = leaf.block.values
    draft = leaf.draft
    draft.need_value(value, leaf.pointer, _PRESENT)
    text = value.ours
    letters = _Letters.of(is_lowered=bool(vectorizer.lowercase))
    draft.guard({"regex_full_match": [text, f"[{letters.known}]*"]}, _LETTERS)
    if vectorizer.lowercase:
        text = draft.step("lower", [text], f"{value.name}_lower", params={"mode": "unicode_simple"})
    token = f"[{letters.word}]{{{least},}}" if least > 1 else f"[{letters.word}]+"
    tokens = draft.step("tokenize", [text], f"{value.name}_tokens", params={"match": token})
    if length > 1:
        tokens = draft.step("ngrams", [tokens], f"{value.name}_ngrams", params={"n": length})
    terms = _terms(leaf)
    # Each term in the one list that there was: its idf is 1, and what is left is the count.
    state = {"vocab": terms, "counts": [1] * len(terms), "rows": 1}
    return draft.step(
        "tfidf", [tokens], f"{value.name}_terms", params={"norm": "none", "max_size": _MOST_TERMS}, state=state
    )


def _checked(leaf: Leaf) -> tuple[int, int]:
    """How many characters a token has at least, and how many tokens a term; what has no counterpart is refused."""
    vectorizer = leaf.estimator
    for key, wanted in _WANTED.items():
        found = getattr(vectorizer, key)
        if found != wanted:
            shown = getattr(found, "__name__", found)
            leaf.refuse(f"{key} {shown!r:.60} has no counterpart; {wanted!r} has.")
    if vectorizer.token_pattern not in _LEAST_LENGTHS:
        known = ", ".join(_LEAST_LENGTHS)
        leaf.refuse(f"token_pattern {vectorizer.token_pattern!r:.60} has no counterpart; these have: {known}.")
    least, most = vectorizer.ngram_range
    if least != most:
        leaf.refuse(
            f"ngram_range {vectorizer.ngram_range} makes terms of several lengths; one length has a counterpart."
        )
    if len(leaf.block.values) != 1 or not leaf.block.values[0].is_text:
        leaf.refuse("takes one column of texts.")
    stop_words = vectorizer.get_stop_words() or frozenset()
    if stop_words and (most > 1 or not stop_words.isdisjoint(vectorizer.vocabulary_)):
        leaf.refuse(
            "stop_words have no counterpart where they are in the vocabulary, or stood between words of a term."
        )
    return _LEAST_LENGTHS[vectorizer.token_pattern], most


def _terms(leaf: Leaf) -> list[str]:
    """The terms in the order of their columns."""
    vocabulary = leaf.estimator.vocabulary_
    terms = sorted(vocabulary, key=vocabulary.__getitem__)
    if terms != sorted(vocabulary) or len(terms) > _MOST_TERMS:
        leaf.refuse(f"a vocabulary in its own order, or of more than {_MOST_TERMS} terms, has no counterpart.")
    return terms


def _block(leaf: Leaf, vector: str, dtype: np.dtype[Any]) -> Block:
    (value,) = leaf.block.values
    terms = _terms(leaf)
    parts = (Part(vector, place, len(terms), None) for place in range(len(terms)))
    values = [
        Value(f"{value.name}_{term}"[:200], vector, "vector", dtype, part=part)
        for term, part in zip(terms, parts, strict=True)
    ]
    return Block(tuple(values), is_sparse=True)


class _Letters(NamedTuple):
    """Which characters are known, and which of them are of words: each as what stands in a class of a pattern."""

    known: str
    word: str

    @classmethod
    @functools.cache
    def of(cls, *, is_lowered: bool) -> _Letters:
        """By Python's own tables, as scikit-learn goes by them; lowered, where op lower makes the same of them."""
        letters = [chr(code) for first, last in _BLOCKS for code in range(first, last + 1)]
        if is_lowered:
            lower = kernels.utf8_lower(pa.array(letters)).to_pylist()
            there = set(letters)
            pairs = zip(letters, lower, strict=True)
            letters = [one for one, low in pairs if one != _FINAL and low == one.lower() and low in there]
        by_code = itertools.groupby(enumerate(letters), key=lambda pair: ord(pair[1]) - pair[0])
        by_word = itertools.groupby(letters, key=lambda letter: re.fullmatch(r"\w", letter) is not None)
        known = "".join(_range([letter for _, letter in run]) for _, run in by_code)
        # What stands between two letters and is not known is set aside.
        return cls(known, "".join(_range(list(run)) for is_word, run in by_word if is_word))


def _range(letters: list[str]) -> str:
    first, last = (f"\\x{{{ord(letter):X}}}" for letter in (letters[0], letters[-1]))
    return first if first == last else f"{first}-{last}"
