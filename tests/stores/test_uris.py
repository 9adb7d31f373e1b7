"""Which store a URI names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from etl.errors import StorageError
from etl.runs.local import LocalStorage
from etl.runs.storage import storage_for

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("/data/in", "/data/in"),
        ("file:///data/in", "/data/in"),
        ("file:/data/in", "/data/in"),
        ("file:/data/./x/../in/", "/data/in"),
        ("/data/file:/in", "/data/file:/in"),
        ("/data/./x/../in/", "/data/in"),
        ("/data/in/*.parquet", "/data/in/*.parquet"),
    ],
)
def test_a_local_path_has_one_name(uri: str, path: str) -> None:
    """A local path is absolute and without detours, with and without its scheme."""
    storage, found = storage_for(uri)
    assert isinstance(storage, LocalStorage)
    assert found == path


def test_a_relative_path_starts_at_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path starts at the working folder, and `~` is the user's home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert storage_for("in")[1] == str(tmp_path / "in")
    assert storage_for("~/in")[1] == str(tmp_path / "me" / "in")


def test_links_stay_in_a_name(tmp_path: Path) -> None:
    """A path through a link keeps the link's name."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert storage_for(str(tmp_path / "link" / "x"))[1] == str(tmp_path / "link" / "x")


@pytest.mark.parametrize("uri", ["file://host/in", "file://localhost/in", "file:in", "file:", "file://", "file://~/in"])
def test_a_file_of_another_machine_is_refused(uri: str) -> None:
    """A `file:` URI with a host, or without an absolute path, is refused; it never becomes a folder named `file:`."""
    with pytest.raises(StorageError, match=f"^{uri}: names a host or a relative path.* Use file:///path"):
        storage_for(uri)


@pytest.mark.parametrize("uri", ["gopher://host/in", "://in", "ftp:/in"])
def test_an_unknown_scheme_is_refused(uri: str) -> None:
    """A URI of a store that is not supported is refused with the URI and its scheme."""
    with pytest.raises(StorageError, match="is not supported by this release") as caught:
        storage_for(uri)
    assert str(caught.value).startswith(f"{uri}: storage scheme {uri.partition(':')[0]!r}")
