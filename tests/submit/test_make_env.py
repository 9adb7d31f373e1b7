"""What requirements/make-env.sh refuses, and that it does nothing twice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def make_env(tmp_path):
    """A function that calls a copy of the script in a project without any environment."""
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    shutil.copy2(ROOT / "pyproject.toml", tmp_path)

    def call(name, **variables):
        command = [str(tmp_path / "requirements" / "make-env.sh"), name]
        environment = {**os.environ, **variables}
        return subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=60)

    return call


@pytest.mark.parametrize("name", ["", "prod", "../dev"])
def test_an_unknown_environment_is_refused(make_env, name):
    """Any name but the known ones ends with code 2 and the usage."""
    done = make_env(name)
    usage = "usage: requirements/make-env.sh dev|train|bench|spark35|spark40|zoo|airflow|tools\n"
    assert (done.returncode, done.stderr) == (2, usage)


@pytest.mark.parametrize(("answer", "reason"), [("echo 3.13", "is Python 3.13"), ("exit 1", "does not run")])
def test_another_python_is_refused(make_env, program, answer, reason):
    """A PYTHON that is not 3.11 fails with what it is, and another one is not taken instead."""
    python = program("python", f"#!/bin/sh\n{answer}\n")
    done = make_env("dev", PYTHON=str(python))
    assert done.returncode == 1
    assert f"Python 3.11 is needed, and {python} {reason}." in done.stderr


def test_what_is_made_is_not_made_again(make_env, tmp_path):
    """An environment whose stamp equals its inputs is left alone, without so much as a Python started."""
    lines = [f"{tmp_path}\n".encode()]
    names = ["requirements/train.txt", "requirements/make-env.sh", "requirements/build.txt", "pyproject.toml"]
    lines += [(tmp_path / name).read_bytes() for name in names]
    made = tmp_path / ".venv-train"
    (made / "bin").mkdir(parents=True)
    (made / "bin" / "python").symlink_to(sys.executable)
    (made / "made-from").write_bytes(b"".join(lines))
    done = make_env("train", PYTHON="/nowhere/python")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_changed_lock_makes_it_again(make_env, tmp_path):
    """An environment whose lock changed is not left alone."""
    test_what_is_made_is_not_made_again(make_env, tmp_path)
    with (tmp_path / "requirements" / "train.txt").open("a", encoding="utf-8") as lock:
        lock.write("# another line\n")
    assert make_env("train", PYTHON="/nowhere/python").returncode == 1
