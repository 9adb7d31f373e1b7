"""The notes that a task leaves for the next try, on a disk that has no room for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from scoring.engine.breadcrumbs import Breadcrumb, RowRange

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("is_done", [True, False])
@pytest.mark.parametrize("calls", [0, 1])
def test_a_full_disk_hinders_no_task(tmp_path: Path, calls: int, is_done: bool) -> None:  # noqa: FBT001  a case
    """However a task ends, and whatever it wanted to note, a disk without room for the note raises nothing."""
    Breadcrumb(tmp_path, "out", "r", task=0).close(is_done=False)
    [path] = tmp_path.iterdir()
    path.unlink()
    path.symlink_to("/dev/full")
    crumb = Breadcrumb(tmp_path, "out", "r", task=0)
    for _ in range(calls):
        crumb.calling([RowRange(0, 0, 9)])
        crumb.returned()
    crumb.close(is_done=is_done)
    crumb.close(is_done=is_done)
