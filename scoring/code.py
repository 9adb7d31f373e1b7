"""A digest of the batchscore code that this process runs, so that a worker can prove that it is the driver's.

A local worker has the working folder first on its path, and a stray `scoring/` there would silently be imported
instead of the shipped archive.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
from typing import TYPE_CHECKING

from scoring.errors import CodeSkew

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable

__all__ = ["check_code", "code_digest"]

_PACKAGES = ("etl", "jobs", "scoring")


@functools.cache
def code_digest() -> str:
    """SHA-256 over the names and bytes of all modules, first 16 hexadecimal digits; the same in a folder and a zip."""
    total = hashlib.sha256()
    for package in _PACKAGES:
        for name, module in sorted(_modules(importlib.resources.files(package), package)):
            total.update(f"{name}\0".encode())
            total.update(module.read_bytes())
    return total.hexdigest()[:16]


def _modules(folder: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _modules(entry, f"{prefix}/{entry.name}")
        elif entry.name.endswith(".py"):
            yield f"{prefix}/{entry.name}", entry


def check_code(expected: str) -> None:
    """Refuse to work for a driver that runs other code.

    Raises:
        CodeSkew: naming both digests and where this process found its code.
    """
    if code_digest() != expected:
        place = importlib.resources.files("scoring")
        message = (
            f"This worker runs batchscore {code_digest()} from {place}, the driver runs {expected}. "
            "Ship the code with spark-submit.sh, and keep folders called etl, scoring or jobs out of the way."
        )
        raise CodeSkew(message)
