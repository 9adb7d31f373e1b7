"""Folders that last as long as a process."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

__all__ = ["folder_of_process"]


def folder_of_process(prefix: str) -> str:
    """A new folder that is removed at the end of this process, and not at that of one that was forked from it."""
    folder = tempfile.mkdtemp(prefix=prefix)
    atexit.register(_remove, folder, os.getpid())
    return folder


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
