"""Stored documents: strict, frozen, canonical JSON, each with a format version."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from etl.errors import DocumentError

__all__ = ["Document", "Strict", "canonical_json", "sha256_hex", "strictly"]

ModelT = TypeVar("ModelT", bound=BaseModel)


STRICT = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, ser_json_inf_nan="strings")
"""How every value that is read from outside is read."""


class Strict(BaseModel):
    """Base of every value that is read from outside: frozen, and an unknown key is an error.

    What is read from outside is read by `strictly`.
    """

    model_config = STRICT


class Document(Strict):
    """A value that is stored as one JSON file. Subclasses add `format: Literal["batchscore.<kind>/<n>"]`."""

    def to_bytes(self) -> bytes:
        """Canonical JSON: the same value always gives the same bytes, so that documents can be compared by digest."""
        return canonical_json(self.model_dump(mode="json", by_alias=True))

    @classmethod
    def from_bytes(cls, data: bytes, *, where: str) -> Self:
        """Parse a stored document; `where` is the path that an error names."""
        try:
            return strictly(cls, data)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            pointer = "/" + "/".join(str(part) for part in first["loc"])
            message = (
                f"{where}: not a {cls.__name__} this release can read: {first['msg']} at {pointer}. "
                "If another release of batchscore wrote it, use that one; otherwise the file is damaged."
            )
            raise DocumentError(message) from error


def strictly(model: type[ModelT], data: str | bytes) -> ModelT:
    """Validate JSON without coercion: `true` is no number, `"4"` no integer, `"no"` no bool; 4 may stand for 4.0.

    As JSON, because there a list may stand for a tuple and a text for a date: JSON has no others.

    Raises:
        ValidationError: with every problem.
    """
    return model.model_validate_json(data, strict=True)


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys and no spaces; floats in shortest round-trip form (RFC 8785 for our value range)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha256_hex(data: bytes) -> str:
    """Lower-case hexadecimal SHA-256."""
    return hashlib.sha256(data).hexdigest()
