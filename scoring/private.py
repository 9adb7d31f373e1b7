"""A folder of this host that is one user's alone, wherever it lies: in /tmp, too, where others may have been first."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from etl.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["private_folder"]

_OTHERS_WRITE = 0o022
_OTHERS = 0o077


def private_folder(folder: Path, *, instead: str) -> Path:
    """Make the folder, and those above it that are missing, so that nobody else may look inside, whatever the umask.

    Who may write in it could exchange a file between its check and its use, or lay a link where one will be written.

    Raises:
        StorageError: it is a link, another user's, or others may write in it; `instead` says what to do.
        OSError: it cannot be made.
    """
    # Path.mkdir gives its mode to the last folder alone.
    for missing in reversed([above for above in (folder, *folder.parents) if not above.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & _OTHERS_WRITE:
        message = f"{folder}: belongs to another user, is a link, or may be written to by others. {instead}"
        raise StorageError(message)
    if facts.st_mode & _OTHERS:
        folder.chmod(0o700)
    return folder
