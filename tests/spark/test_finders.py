"""What a task leaves behind in its Python worker for the next one."""

from __future__ import annotations

import importlib
import sys
import zipfile
import zipimport
from typing import TYPE_CHECKING

from scoring.spark.finders import forget_zip_finders

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_zip_files_are_not_read_at_each_task_and_can_be_imported_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No finder of a zip file stays in the cache; modules are found in the file before, after, and when it changed."""
    path = tmp_path / "code.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("zipped_one.py", "value = 1")
        archive.writestr("zipped_two.py", "value = 2")
    monkeypatch.syspath_prepend(str(path))
    assert importlib.import_module("zipped_one").value == 1
    assert any(isinstance(finder, zipimport.zipimporter) for finder in sys.path_importer_cache.values())
    forget_zip_finders()
    assert not any(isinstance(finder, zipimport.zipimporter) for finder in sys.path_importer_cache.values())
    assert importlib.import_module("zipped_two").value == 2
    assert sys.modules["zipped_one"].value == 1
    for name in ("zipped_one", "zipped_two"):
        monkeypatch.delitem(sys.modules, name)
