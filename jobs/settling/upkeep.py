"""What is done once a version is committed: lists for other engines, and what nobody needs any more.

The version stands by then, so what goes wrong here is told and ends nothing; the next publication makes it good.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from etl.errors import BatchscoreError
from etl.runs.retention import holdings, unneeded_files
from etl.runs.symlinks import has_symlinks, write_symlinks

if TYPE_CHECKING:
    from etl.runs.storage import Storage

__all__ = ["after_commit"]


def after_commit(storage: Storage, root: str, *, symlinks: bool = False, keep_versions: int | None = None) -> None:
    """Write the lists of files, where they are asked for or there already; remove what no kept version holds."""
    try:
        if symlinks or has_symlinks(storage, root):
            write_symlinks(storage, root)
        if keep_versions is not None:
            for one in unneeded_files(storage, root, holdings(storage, root)):
                one.remove(storage)
    except (BatchscoreError, OSError) as error:
        warnings.warn(f"{root}: the version is committed, but what comes after it is not done: {error}", stacklevel=2)
