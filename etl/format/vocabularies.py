"""Vocabularies that a recipe names as files beside it: read into the state of their steps, so that a spec has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from etl.documents import sha256_hex
from etl.format.artifacts import each_step
from etl.format.problems import Problem
from etl.ops.wordpiece import WordPieceState, file_beside

if TYPE_CHECKING:
    from etl.format.artifacts import ReadArtifact

__all__ = ["MOST_BYTES", "with_vocabularies"]

MOST_BYTES = 16 * 2**20
"""Of a vocabulary's file."""


def with_vocabularies(value: Any, read: ReadArtifact) -> tuple[Any, list[Problem]]:
    """The JSON value of a spec in which steps that name a file, and have no state yet, have its lines as state and its
    SHA-256 in their params; and what is wrong with the files.
    """  # noqa: D205  one sentence
    return each_step(value, lambda step: _read(step, read) if _names_file(step) else step)


def _names_file(step: Any) -> bool:
    """Whether a step is to be given a file's lines; one whose params are wrong is left to those who tell that."""
    if not isinstance(step, dict) or step.get("op") != "wordpiece" or "state" in step:
        return False
    params = step.get("params")
    name = params.get("vocabulary_file") if isinstance(params, dict) else None
    try:
        return isinstance(name, str) and bool(file_beside(name))
    except ValueError:
        return False


def _read(step: dict[str, Any], read: ReadArtifact) -> dict[str, Any] | Problem:
    """The step with its vocabulary, or what is wrong with the file."""
    name, wanted = step["params"]["vocabulary_file"], step["params"].get("vocabulary_sha256")
    told = f"file {name!r:.80}"
    try:
        data = read(name)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return Problem("/params/vocabulary_file", f"{told} cannot be read: {reason}.", "E-ARTIFACT")
    if data is None:
        message = (
            f"{told} is not in the recipe's folder. A recipe that is not read from a file has none: read it by "
            "`etl.load_spec`, or give the pieces as `state.vocab`."
        )
        return Problem("/params/vocabulary_file", message, "E-ARTIFACT")
    if len(data) > MOST_BYTES:
        return Problem("/params/vocabulary_file", f"{told} has more than {MOST_BYTES >> 20} MiB.", "E-SIZE")
    sha256 = sha256_hex(data)
    if wanted not in {None, sha256}:
        return Problem("/params/vocabulary_sha256", f"{told} has SHA-256 {sha256}: it is another than this.", "E-HASH")
    try:
        vocab = WordPieceState.read(data).vocab
    except ValueError as error:
        return Problem("/params/vocabulary_file", f"{told}: {error}.", "E-ARTIFACT")
    return {**step, "params": {**step["params"], "vocabulary_sha256": sha256}, "state": {"vocab": list(vocab)}}
