"""Zip the packages etl, scoring and jobs, so that driver and workers run the same code.

    code_zip.py ROOT CACHE

Prints the path of the zip, then that of pyspark's own spark-submit, if this Python has one. spark-submit.sh starts it
before anybody knows what is installed, so it takes the standard library alone.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import tempfile
import zipfile
from pathlib import Path

__all__: list[str] = []

_PACKAGES = ("etl", "scoring", "jobs")


def _contents(root: Path) -> dict[str, bytes]:
    """All files of the packages, by their names in the zip."""
    found = {}
    for path in sorted(path for package in _PACKAGES for path in (root / package).rglob("*")):
        name = path.relative_to(root)
        if path.is_file() and path.suffix != ".pyc" and not any(part.startswith(".") for part in name.parts):
            found[name.as_posix()] = path.read_bytes()
    return found


def _zip_of(contents: dict[str, bytes], cache: Path) -> Path:
    """The zip, which is named for what it holds, and made where it is not there."""
    digest = hashlib.sha256()
    for name, data in contents.items():
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    code = cache / f"code-{digest.hexdigest()}.zip"
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    if cache.stat().st_uid != os.getuid():
        sys.exit(f"spark-submit.sh: {cache} belongs to another user. Set XDG_CACHE_HOME to a folder of your own.")
    cache.chmod(0o700)
    if not code.exists():
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            draft = Path(scratch) / code.name
            with zipfile.ZipFile(draft, "w") as archive:
                for name, data in contents.items():
                    archive.writestr(zipfile.ZipInfo(name), data)  # dated 1980: the same code, the same bytes
            draft.replace(code)
    return code


def _main(root: Path, cache: Path) -> None:
    try:
        print(_zip_of(_contents(root), cache))  # noqa: T201  spark-submit.sh reads it
    except OSError as error:
        sys.exit(f"spark-submit.sh: cannot keep the code's zip: {error}. Set XDG_CACHE_HOME to a folder of your own.")
    pyspark = importlib.util.find_spec("pyspark")
    if pyspark and pyspark.origin:
        print(Path(pyspark.origin).parent / "bin" / "spark-submit")  # noqa: T201  as above


if __name__ == "__main__":
    if sys.version_info < (3, 11):  # noqa: UP036  whatever Python is there starts this file
        version = sys.version.split()[0]
        sys.exit(f"spark-submit.sh: {sys.executable} is Python {version}; 3.11 is needed. Set PYSPARK_PYTHON.")
    _main(*map(Path, sys.argv[1:]))
