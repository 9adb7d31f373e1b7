"""Specs as files: the document, and beside it its large states."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from etl.artifacts import stored
from etl.errors import SpecError
from etl.runs.storage import storage_for
from etl.spec import Spec, read_spec

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["load_spec", "save_spec"]


def load_spec(path: str | PathLike[str], *, fitted: bool = True) -> Spec:
    """A spec (`fitted=False`: a recipe will do) from a YAML or JSON file; large states from beside it.

    Raises:
        SpecError: it cannot be read, or with everything that is wrong with it.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        message = f"{file}: the spec cannot be read: {reason}."
        raise SpecError(message) from error

    def beside(name: str) -> bytes | None:
        found = file.parent / name
        return found.read_bytes() if found.is_file() else None

    return read_spec(text, str(file), fitted=fitted, artifacts=beside)


def save_spec(spec: Spec, path: str | PathLike[str]) -> tuple[str, ...]:
    """Write a spec and, beside it, its large states; the paths that were written, the spec's last."""
    storage, place = storage_for(str(path))
    files = stored(spec)
    folder = place.rpartition("/")[0]
    written = [f"{folder}/{name}" for name in files.artifacts]
    for name, data in files.artifacts.items():
        storage.replace(f"{folder}/{name}", data)
    storage.replace(place, files.text)
    return (*written, place)
