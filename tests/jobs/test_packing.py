"""What names an archive, and what is refused before anything is made; archives themselves run in tests/cluster."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.deploying import packing
from jobs.deploying.packing import Packing, interpreter_of, name_of, pack
from jobs.errors import ExitCode, Refused

LOCK = Path(__file__).parents[2] / "requirements" / "cluster.txt"


def asked(folder: Path, lock: Path = LOCK) -> Packing:
    """Of this Python."""
    return Packing(lock=lock, python=Path(sys.executable), folder=folder)


def test_a_name_is_that_of_the_lock_and_of_the_python(tmp_path: Path) -> None:
    """Another lock, and another Python, give other names; the same ones the same, and nothing is made."""
    here = interpreter_of(Path(sys.executable))
    name, digest = name_of(asked(tmp_path), here)
    other = tmp_path / "other.txt"
    other.write_bytes(LOCK.read_bytes() + b"# one more line\n")
    assert name == f"environment-{digest[:16]}.tar.gz"
    assert name_of(asked(tmp_path), here)[0] == name
    assert name_of(asked(tmp_path, other), here)[0] != name
    assert name_of(asked(tmp_path), here._replace(version="3.11.99"))[0] != name
    done = CliRunner().invoke(app, ["pack", "--name"])
    assert (done.exit_code, done.stdout) == (ExitCode.PUBLISHED, f"{name}\n")
    assert list(tmp_path.iterdir()) == [other]


def test_a_name_alone_is_not_sent() -> None:
    """Nothing would be uploaded, so who asks for both is told."""
    done = CliRunner().invoke(app, ["pack", "--name", "--upload", "s3://bucket/environments"])
    assert (done.exit_code, done.stdout) == (ExitCode.REFUSED, "")
    assert "leave one of them out" in done.stderr


def test_a_store_that_is_none_is_refused(tmp_path: Path) -> None:
    """Before anything is made."""
    done = CliRunner().invoke(app, ["pack", "--to", str(tmp_path / "to"), "--upload", "ftp://host/environments"])
    assert (done.exit_code, done.stdout) == (ExitCode.REFUSED, "")
    assert "ftp" in done.stderr
    assert not (tmp_path / "to").exists()


def test_an_archive_that_is_there_is_taken_and_sent_once(tmp_path: Path) -> None:
    """Nothing is made again; a store gets the same bytes, and a second time nothing."""
    name, _ = name_of(asked(tmp_path), interpreter_of(Path(sys.executable)))
    (tmp_path / name).write_bytes(b"packed before")
    assert not pack(asked(tmp_path)).is_new
    upload = asked(tmp_path)._replace(upload=str(tmp_path / "store"))
    first, second = pack(upload), pack(upload)
    assert (first.is_new, second.is_new) == (True, False)
    assert (tmp_path / "store" / name).read_bytes() == b"packed before"


def test_what_cannot_be_packed_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """No lock, one without hashes, no Python, one that fails, and one of another version."""
    bare = tmp_path / "bare.txt"
    bare.write_text("numpy==2.0\n", encoding="utf-8")
    here = interpreter_of(Path(sys.executable))
    with pytest.raises(Refused, match="`make lock` makes"):
        name_of(asked(tmp_path, tmp_path / "none.txt"), here)
    with pytest.raises(Refused, match="has no hashes"):
        name_of(asked(tmp_path, bare), here)
    with pytest.raises(Refused, match="No such file"):
        interpreter_of(tmp_path / "python")
    with pytest.raises(Refused, match="it ended with 1"):
        interpreter_of(Path("/bin/false"))
    old = tmp_path / "python3.9"
    old.write_text(
        '#!/bin/sh\necho \'{"executable": "", "stdlib": "", "library": null, "version": "3.9.1 x", "platform": ""}\'\n',
        encoding="utf-8",
    )
    old.chmod(0o755)
    with pytest.raises(Refused, match=r"is Python 3\.9\.1; the locks are for 3\.11"):
        interpreter_of(old)


def test_the_same_files_are_the_same_bytes(tmp_path: Path) -> None:
    """Whenever they were written, and in whatever order."""
    digests = set()
    for turn, names in enumerate((("a", "b"), ("b", "a"))):
        root = tmp_path / str(turn)
        root.mkdir()
        for name in names:
            (root / name).write_text(name, encoding="utf-8")
            os.utime(root / name, (turn, turn))
        packing._write(root, tmp_path / f"{turn}.tar.gz")
        digests.add(hashlib.sha256((tmp_path / f"{turn}.tar.gz").read_bytes()).hexdigest())
    assert len(digests) == 1
