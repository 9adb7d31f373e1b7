"""What requirements/check-java.sh says of the Java that Spark would start."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

CHECK = Path(__file__).resolve().parents[2] / "requirements" / "check-java.sh"


def check(**variables):
    """Run the check in an environment of these variables alone."""
    return subprocess.run(
        [str(CHECK)], env={"PATH": "/usr/bin:/bin", **variables}, check=False, capture_output=True, text=True
    )


@pytest.fixture
def java_home(program):
    """A function that makes a JAVA_HOME whose java says this of its version."""

    def make(line):
        return str(program("bin/java", f"#!/bin/sh\necho '{line}' >&2\n").parents[1])

    return make


@pytest.mark.parametrize(
    "line",
    ['openjdk version "17.0.15" 2025-04-15', 'java version "21" 2023-09-19 LTS', 'openjdk version "25-ea" 2025-09-16'],
)
def test_java_17_and_newer_will_do(java_home, line):
    """Java 17 and newer pass without a word."""
    done = check(JAVA_HOME=java_home(line))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ('openjdk version "11.0.2" 2019-01-15', "Java 11.0.2"),
        ('java version "1.8.0_292"', "Java 1.8.0_292"),
        ("Unable to locate a Java Runtime.", "Java that does not tell its version"),
    ],
)
def test_an_older_java_is_named_with_its_place(java_home, line, version):
    """An older Java, or one that does not run, fails with its version, its path and what to install."""
    home = java_home(line)
    done = check(JAVA_HOME=home)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Spark needs Java 17 or newer: found {version} at {home}/bin/java.\n")
    assert "apt-get install openjdk-17-jre-headless" in done.stderr
    assert "JAVA_HOME" in done.stderr


def test_a_java_home_without_java_is_not_passed_over(tmp_path):
    """A JAVA_HOME that has no Java fails even where PATH has one, for Spark would not look there."""
    done = check(JAVA_HOME=str(tmp_path))
    assert done.returncode == 1
    assert f"JAVA_HOME is {tmp_path}, which has no bin/java" in done.stderr


def test_no_java_at_all_is_said(tmp_path):
    """Without any Java the message says where it was looked for."""
    for name in ("bash", "cat", "env"):
        (tmp_path / name).symlink_to(f"/bin/{name}" if Path(f"/bin/{name}").exists() else f"/usr/bin/{name}")
    done = check(PATH=str(tmp_path))
    assert done.returncode == 1
    assert "no java on PATH and JAVA_HOME is not set" in done.stderr
