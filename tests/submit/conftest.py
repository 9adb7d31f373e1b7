"""A small copy of the project to submit from, and a Spark that only writes down how it was called."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = (
    "spark-submit.sh",
    "jobs/deploying/code_zip.py",
    "requirements/check-java.sh",
    "conf/spark/log4j2.properties",
)
RECORDER = """#!/usr/bin/env bash
printf '%s\\0' "$@" >"$RECORDED/arguments"
env -0 >"$RECORDED/environment"
echo 'WARNING: Using incubator modules: jdk.incubator.vector' >&2
echo 'something else that Java says' >&2
exit "${EXIT_CODE:-0}"
"""


def executable(path, text):
    """Write a program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


class Project:
    """A copy of what spark-submit.sh needs, with a folder to call it from and a Spark that records its call."""

    def __init__(self, folder):
        """Lay it out; the root has a space in its name, as folders do."""
        self.folder = folder
        self.root = folder / "the project"
        self.cwd = folder / "cwd"
        self.spark = folder / "spark"
        self.cache = folder / "cache"
        self.cwd.mkdir()
        for name in SHIPPED:
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, self.root / name)
        for package in ("etl", "scoring", "jobs"):
            self.write(f"{package}/__init__.py", "")
        self.write("jobs/main.py", "from jobs.cli import main\n\nmain()\n")
        executable(self.spark / "bin" / "spark-submit", RECORDER)
        self.environment = {
            **{name: value for name, value in os.environ.items() if name in {"PATH", "JAVA_HOME", "TMPDIR"}},
            "HOME": str(folder),
            "PYSPARK_PYTHON": sys.executable,
            "RECORDED": str(folder),
            "SPARK_HOME": str(self.spark),
            "XDG_CACHE_HOME": str(self.cache),
        }

    def write(self, name, text):
        """Write a file below the root."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    @property
    def command(self):
        """The script, by its absolute path."""
        return str(self.root / "spark-submit.sh")

    def submit(self, *arguments, **variables):
        """Run the script to its end, with variables set or, by None, unset."""
        environment = {name: value for name, value in {**self.environment, **variables}.items() if value is not None}
        command = [self.command, *arguments]
        return subprocess.run(
            command, cwd=self.cwd, env=environment, check=False, capture_output=True, text=True, timeout=100
        )

    @property
    def arguments(self):
        """The arguments that spark-submit was called with."""
        return (self.folder / "arguments").read_text(encoding="utf-8").split("\0")[:-1]

    @property
    def seen(self):
        """The environment that spark-submit was called with."""
        entries = (self.folder / "environment").read_text(encoding="utf-8").split("\0")[:-1]
        return dict(entry.split("=", 1) for entry in entries)

    @property
    def was_started(self):
        """Whether spark-submit was called at all."""
        return (self.folder / "arguments").exists()

    @property
    def settings(self):
        """The values of --conf in order, without those that came to Spark by other options."""
        return [value for option, value in zip(self.arguments, self.arguments[1:], strict=False) if option == "--conf"]

    @property
    def job(self):
        """The arguments from the submitted file on."""
        return self.arguments[self.arguments.index(str(self.root / "jobs" / "main.py")) :]

    @property
    def zip(self):
        """The zip that was shipped."""
        return Path(self.arguments[self.arguments.index("--py-files") + 1])


@pytest.fixture
def project(tmp_path):
    """A small copy of the project."""
    return Project(tmp_path)


@pytest.fixture
def program(tmp_path):
    """A function that writes a program into a folder of its own and returns its path."""

    def write(name, text):
        return executable(tmp_path / "programs" / name, text)

    return write
