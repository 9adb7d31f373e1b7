"""`wordpiece`: words as the pieces of a vocabulary that is given, as BERT has them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import AfterValidator, Field, StringConstraints, model_validator

from etl.ops.base import State
from etl.ops.codes import TextCodes
from etl.ops.token_ids import Cut, SequenceParams, SequenceStep
from etl.ops.tokens import Tokens, between_runs, edges_of
from etl.types import ColumnType, kernels

if TYPE_CHECKING:
    import numpy.typing as npt

    from etl.frame import Column, Frame
    from etl.types import ArrowArray

__all__ = ["WordPiece", "WordPieceParams", "WordPieceState", "file_beside"]

_WHITESPACE = frozenset(b" \t\n\v\f\r")


def file_beside(name: str) -> str:
    """Refuse the name of a file that may lie elsewhere than in the folder of the recipe, or below.

    Raises:
        ValueError: it is absolute, goes upwards, or is no plain path of parts with slashes between.
    """
    parts = name.split("/")
    if not {"", ".", ".."}.isdisjoint(parts) or any(sign in name for sign in "\\:\0"):
        message = "a file in the recipe's folder or below it is a relative path, without `..`, such as vocab.txt"
        raise ValueError(message)
    return name


class WordPieceParams(SequenceParams):
    """The length of the ids, how words are cut into pieces, and what stands around them."""

    unknown: str = Field(default="[UNK]", min_length=1, description="Piece for a word that cannot be cut.")
    continuation: str = Field(default="##", description="What a piece begins with that is not a word's first.")
    max_chars_per_word: int = Field(default=100, ge=1, le=10_000, description="Longer words are unknown.")
    vocabulary_file: Annotated[str, StringConstraints(max_length=255), AfterValidator(file_beside)] | None = Field(
        default=None,
        description="Where the pieces come from in a recipe without state: a file of one piece a line, such as BERT's "
        "vocab.txt, by its path from the recipe's folder.",
    )
    vocabulary_sha256: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")] | None = Field(
        default=None, description="SHA-256 of that file, which another is refused by; a fit writes it."
    )
    begin: str | None = Field(default=None, description="Piece before those of each text, such as `[CLS]`.")
    end: str | None = Field(default=None, description="Piece behind those of each text, such as `[SEP]`.")

    @property
    def around(self) -> int:
        """How many of a row's ids are of no word."""
        return (self.begin is not None) + (self.end is not None)

    @model_validator(mode="after")
    def _fits(self) -> WordPieceParams:
        if self.around >= self.max_len:
            message = f"max_len {self.max_len} leaves no room between begin and end"
            raise ValueError(message)
        if self.vocabulary_sha256 is not None and self.vocabulary_file is None:
            message = "vocabulary_sha256 is that of vocabulary_file, which is not given"
            raise ValueError(message)
        return self


class WordPieceState(State):
    """The vocabulary of a model."""

    vocab: tuple[str, ...] = Field(min_length=1, description="The pieces; the position of each, from 0, is its id.")

    @model_validator(mode="after")
    def _entries_differ(self) -> WordPieceState:
        if len(set(self.vocab)) != len(self.vocab):
            message = "no piece stands twice in vocab: one of its ids would never be used"
            raise ValueError(message)
        return self

    @classmethod
    def read(cls, data: bytes) -> WordPieceState:
        """From a file of one piece a line in UTF-8, as BERT's `vocab.txt`. Line feeds alone end lines, with or without
        a carriage return before them.

        Raises:
            ValueError: a line is empty, stands twice or is not UTF-8; the message has its number, from 1.
        """  # noqa: D205  one sentence
        try:
            lines = data.decode().removesuffix("\n").split("\n")
        except UnicodeDecodeError as error:
            before = data.count(b"\n", 0, error.start)
            message = f"line {before + 1} is not UTF-8"
            raise ValueError(message) from error
        first: dict[str, int] = {}
        for number, line in enumerate(lines, 1):
            piece = line.removesuffix("\r")
            problem = "" if piece else "is empty"
            if number == 1 and piece.startswith("\ufeff"):
                problem = "begins with a byte order mark"
            if first.setdefault(piece, number) != number:
                problem = problem or f"has the piece of line {first[piece]}"
            if problem:
                message = f"line {number} {problem}; each line is one piece, and its position is the piece's id"
                raise ValueError(message)
        return cls(vocab=tuple(first))

    @functools.cached_property
    def ids(self) -> dict[str, int]:
        """Id of each piece."""
        return {piece: position for position, piece in enumerate(self.vocab)}

    @functools.cached_property
    def longest(self) -> int:
        """Code points of the longest piece."""
        return max(map(len, self.vocab))

    @functools.cached_property
    def codes(self) -> TextCodes:
        """The look-up of whole words, made once."""
        return TextCodes(self.vocab)


class WordPiece(SequenceStep):
    """The pieces of words as `max_len` int64 ids, which are their positions in the vocabulary; behind them in `out`,
    where wanted, the number of pieces before any was cut off, as float64, and with `mask` as the last `max_len` times 1
    for a piece or 0 for padding, int64.

    The words are a list of texts, or one text that is cut at the white space of ASCII. A word becomes the longest piece
    of the vocabulary with which it begins, what is left the longest piece that, behind `continuation`, begins it, and
    so on (WordPiece as BERT has it, Devlin et al. 2018). A word that cannot be used up so, or has more than
    `max_chars_per_word` code points, becomes `unknown` as a whole. Case, accents and punctuation are not touched: that
    is for steps before (`normalize_unicode`, `regex_replace`, `lower`, `tokenize`).

    `begin` and `end` stand in every row and count in `max_len`, but not among the pieces that are counted. An empty
    word has no pieces. A missing word is unknown. A text or list without words has `begin` and `end` alone; of a
    missing one all is padding, and its number of pieces is missing.

    A recipe may name the file of the vocabulary instead: its lines, from 0, become the state when the recipe is read
    from its own file, and its SHA-256 is kept. It has at most 16 MiB, and no line that is empty or stands twice.
    """  # noqa: D205  the outputs are one sentence

    op: Literal["wordpiece"]
    params: WordPieceParams
    state: WordPieceState | None = Field(
        default=None,
        description="The vocabulary; it is given, not learned. Absent only in a recipe that names a `vocabulary_file`.",
    )

    @model_validator(mode="after")
    def _special_pieces_are_there(self) -> WordPiece:
        if self.state is None:
            message = (
                "there is no vocabulary: give the pieces as state.vocab; or name their file as params.vocabulary_file, "
                "which is read from the folder of a recipe that is itself a file, by etl.load_spec or batchscore fit"
            )
            raise ValueError(message)
        for key in ("unknown", "begin", "end"):
            piece = getattr(self.params, key)
            if piece is not None and piece not in self.state.ids:
                message = f"params.{key} is {piece!r:.60}, which is not in the vocabulary"
                raise ValueError(message)
        return self

    @property
    def given(self) -> WordPieceState:
        """The vocabulary, which a spec that was read has."""
        assert self.state is not None  # noqa: S101  a step without is refused
        return self.state

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """Text or list of texts in."""
        found = types[0]
        if found.kind != "string" and (found.kind != "list" or found.item != "string"):
            message = f"takes string or list<string>, found {found}"
            raise ValueError(message)
        return self.sequence_types()

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """Each distinct word is cut once."""
        name = self.inputs[0]
        column, missing = frame.arrow(name), frame.missing(name)
        is_text = pa.types.is_string(column.type)
        words, offsets = between_runs(column, _WHITESPACE) if is_text else Tokens.of(column)
        encoded = words.dictionary_encode(null_encoding="encode")
        pieces = self._pieces_of(encoded.dictionary)
        which = encoded.indices.to_numpy()
        counts = np.diff(pieces.edges)[which]
        ends = edges_of(counts)
        ids = pieces.ids[np.arange(ends[-1]) + np.repeat(pieces.edges[which] - ends[:-1], counts)]
        cut = Cut.of(ends[offsets], self.params, self._room)
        used = np.where(missing, 0, cut.kept + self.params.around)
        return self.sequence_columns(
            self._surrounded(ids if cut.is_whole else ids[cut.mask], used), cut, missing, used=used
        )

    @property
    def _room(self) -> int:
        return self.params.max_len - self.params.around

    def unknown_ids(self, output: str) -> range | None:
        """The one of words that cannot be cut."""
        unknown = self.given.ids[self.params.unknown]
        return range(unknown, unknown + 1) if output == self.outputs[0] else None

    def _surrounded(self, ids: npt.NDArray[np.int64], used: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The ids with those of `begin` and `end` around each row's; `used` tells how many each then has."""
        if not self.params.around:
            return ids
        edges, has_any = edges_of(used), used > 0
        whole = np.zeros(edges[-1], dtype=np.int64)
        is_word = np.ones(edges[-1], dtype=bool)
        for piece, places in ((self.params.begin, edges[:-1]), (self.params.end, edges[1:] - 1)):
            if piece is not None:
                whole[places[has_any]] = self.given.ids[piece]
                is_word[places[has_any]] = False
        whole[is_word] = ids
        return whole

    def _pieces_of(self, words: ArrowArray) -> _Pieces:
        """Of distinct words: most are whole pieces, and only others are cut in Python."""
        unknown = self.given.ids[self.params.unknown]
        first = self.given.codes.codes(words).astype(np.int64)
        counts = np.ones(len(words), dtype=np.int64)
        lengths = kernels.utf8_length(words).fill_null(self.params.max_chars_per_word + 1).to_numpy()
        first[lengths > self.params.max_chars_per_word] = unknown
        first[lengths == 0] = -1
        others = np.flatnonzero(first < 0)
        cuts = [self._cut(word) or [unknown] if word else [] for word in words.take(pa.array(others)).to_pylist()]
        counts[others] = [len(cut) for cut in cuts]
        edges = edges_of(counts)
        ids = np.empty(edges[-1], dtype=np.int64)
        is_cut = np.repeat(first < 0, counts)
        ids[~is_cut] = first[first >= 0]
        ids[is_cut] = [piece for cut in cuts for piece in cut]
        return _Pieces(ids, edges)

    def _cut(self, word: str) -> list[int]:
        """The pieces of a word; none where it cannot be used up."""
        pieces: list[int] = []
        start, before = 0, ""
        while start < len(word):
            end = self._end(word, start, before)
            if end == start:
                return []
            pieces.append(self.given.ids[before + word[start:end]])
            start, before = end, self.params.continuation
        return pieces

    def _end(self, word: str, start: int, before: str) -> int:
        """Where the longest piece ends that begins at `start`; `start` where there is none."""
        ids = self.given.ids
        longest = min(len(word), start + self.given.longest - len(before))
        return next((end for end in range(longest, start, -1) if before + word[start:end] in ids), start)


class _Pieces(NamedTuple):
    """The pieces of distinct words."""

    ids: npt.NDArray[np.int64]
    """Of all words, one behind the other."""
    edges: npt.NDArray[np.int64]
    """Where those of each word begin, and those of the last end."""
