"""The digest of our own code, by which a worker proves that it runs the driver's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from scoring.code import check_code, code_digest
from scoring.errors import CodeSkew

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("etl", "jobs", "scoring")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages in another folder."""
    folder = tmp_path_factory.mktemp("code")
    for package in PACKAGES:
        shutil.copytree(REPOSITORY / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def digest_in(place: Path) -> str:
    """The digest that a process computes whose code comes from a folder or zip."""
    program = "import scoring.code; print(scoring.code.__file__, scoring.code.code_digest(), sep='|')"
    environment = {**os.environ, "PYTHONPATH": str(place), "PYTHONSAFEPATH": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True)
    file, _, digest = done.stdout.strip().partition("|")
    assert file.startswith(str(place))
    return digest


def test_folder_and_zip_have_one_digest(copy: Path, tmp_path: Path) -> None:
    """The same modules have the same digest in this folder, in a copy, and in a zip with its entries in any order."""
    paths = sorted(path for package in PACKAGES for path in (copy / package).rglob("*.py"))
    with zipfile.ZipFile(tmp_path / "code.zip", "w") as archive:
        for path in reversed(paths):
            archive.write(path, path.relative_to(copy))
    assert digest_in(copy) == digest_in(tmp_path / "code.zip") == code_digest()


def test_any_change_of_code_changes_the_digest(copy: Path, tmp_path: Path) -> None:
    """A changed byte, an added module and a renamed one each change the digest; a file that is no module does not."""
    changes = {
        "changed": lambda folder: (folder / "jobs" / "main.py").write_text("# other"),
        "added": lambda folder: (folder / "scoring" / "new.py").touch(),
        "renamed": lambda folder: (folder / "jobs" / "cli.py").rename(folder / "jobs" / "cli2.py"),
        "noted": lambda folder: (folder / "etl" / "note.txt").touch(),
    }
    digests = {}
    for name, change in changes.items():
        shutil.copytree(copy, tmp_path / name)
        change(tmp_path / name)
        digests[name] = digest_in(tmp_path / name)
    assert digests.pop("noted") == code_digest()
    assert len({code_digest(), *digests.values()}) == 4


def test_a_worker_with_other_code_refuses_to_work() -> None:
    """A worker whose digest is not the driver's says both digests and where its code comes from."""
    check_code(code_digest())
    with pytest.raises(CodeSkew, match=r"the driver runs 0123456789abcdef\. Ship the code") as caught:
        check_code("0123456789abcdef")
    assert code_digest() in str(caught.value)
    assert str(REPOSITORY) in str(caught.value)
