"""Specs as files: the document, and beside it its large states."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from etl.errors import SpecError
from etl.format.artifacts import MOST_BYTES as MOST_ARTIFACT_BYTES
from etl.format.artifacts import stored
from etl.runs.storage import storage_for
from etl.spec import MOST_BYTES, Spec, read_spec, too_long

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
        with file.open("rb") as opened:
            data = opened.read(MOST_BYTES + 1)
    except OSError as error:
        message = f"{file}: the spec cannot be read: {error.strerror}."
        raise SpecError(message) from error
    if len(data) > MOST_BYTES:
        raise SpecError(too_long(str(file)))
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        lines = data[: error.start].decode().split("\n")
        place = f"{file}:{len(lines)}:{len(lines[-1]) + 1}"
        message = f"{place}: /: the spec cannot be read: it is not UTF-8 text. [E-SYNTAX]"
        raise SpecError(message) from error
    return read_spec(text, str(file), fitted=fitted, artifacts=partial(_beside, file.parent))


def _beside(folder: Path, name: str) -> bytes | None:
    """The bytes of a file in a folder; None where there is none.

    Raises:
        OSError: it cannot be read.
        ValueError: it leads out of the folder, or is too large.
    """
    found = folder / name
    if not found.is_file():
        return None
    # What a mounted folder links to within itself, as Kubernetes does, is beside the spec.
    if not found.resolve().is_relative_to(folder.resolve()):
        message = "it is a link that leaves the folder of the spec"
        raise ValueError(message)
    with found.open("rb") as opened:
        data = opened.read(MOST_ARTIFACT_BYTES + 1)
    if len(data) > MOST_ARTIFACT_BYTES:
        message = f"it has more than {MOST_ARTIFACT_BYTES >> 20} MiB, the most of a state"
        raise ValueError(message)
    return data


def save_spec(spec: Spec, path: str | PathLike[str]) -> tuple[str, ...]:
    """Write a spec and, beside it, its large states; the absolute paths that were written, the spec's last. Folders on
    the way there are made.

    Raises:
        SpecError: it is larger than what may be read; nothing is written.
        StorageError: it cannot be written there.
    """  # noqa: D205  one sentence each
    storage, place = storage_for(str(path))
    files = stored(spec)
    folder = place.rpartition("/")[0]
    written = [f"{folder}/{name}" for name in files.artifacts]
    for name, data in files.artifacts.items():
        storage.replace(f"{folder}/{name}", data)
    storage.replace(place, files.text)
    return (*written, place)
