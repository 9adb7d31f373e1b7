"""A digest of the code that this process runs, so that a worker can prove that it is the driver's.

A local worker has the working folder first on its path, and a stray `etl/` there would silently be imported instead of
the shipped archive.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable

__all__ = ["digest_of_packages"]


@functools.cache
def digest_of_packages(*packages: str) -> str:
    """SHA-256 over the names and bytes of all modules, first 16 hexadecimal digits; the same in a folder and a zip."""
    total = hashlib.sha256()
    for package in packages:
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
