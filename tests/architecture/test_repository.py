"""What the files of the repository say, and what is built from them."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys

import pytest

# In pieces, so that this file does not name them either.
HOSTS = [
    ("pypi", "org"),
    ("pythonhosted", "org"),
    ("repo1", "maven", "org"),
    ("repo", "maven", "apache", "org"),
    ("proxy", "golang", "org"),
    ("registry", "npmjs", "org"),
    ("conda", "anaconda", "org"),
    ("docker", "io"),
    ("ghcr", "io"),
    ("quay", "io"),
]
FOLDERS = ["work", "root", "home", "Users"]
FOREIGN = re.compile(
    "|".join(
        [
            *(re.escape(".".join(host)) for host in HOSTS),
            r"(?<![\w.:/$}*-])/(?:" + "|".join(FOLDERS) + r")/\w",
        ]
    )
)
SKIPPING = {"skip", "skipif", "skipIf", "skipUnless", "importorskip", "SkipTest"}


def files_of(root):
    """Return all files that are or would be committed."""
    git = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(git, cwd=root, check=True, capture_output=True, text=True).stdout.split("\0")
    return [root / name for name in names if name and (root / name).is_file()]


def skips_in(path, root):
    """Yield the place of each skip: the file, or the function of the file that it is in or on."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    name = path.relative_to(root).as_posix()
    pending = [(tree, name)]
    while pending:
        node, place = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and place == name:
            place = f"{name}::{node.name}"
        if isinstance(node, ast.Attribute) and node.attr in SKIPPING:
            yield place
        pending += [(child, place) for child in ast.iter_child_nodes(node)]


def test_no_file_names_a_registry_or_somebodys_machine(root):
    """No text file of the repository names the host of a package registry or a path of somebody's machine."""
    found = []
    for path in files_of(root):
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        found += [
            f"{path.relative_to(root)}:{number} {match[0]}"
            for number, line in enumerate(lines, 1)
            for match in FOREIGN.finditer(line)
        ]
    assert not found, "\n".join(found)


def test_the_pattern_of_foreign_names_finds_them():
    """The pattern above finds a registry's host and a home folder, and lets paths in a store pass."""
    assert FOREIGN.search("https://" + ".".join(HOSTS[0]) + "/simple")
    assert FOREIGN.search(f"uri: /{FOLDERS[2]}/ann/flights")
    assert not FOREIGN.search("s3://bucket/home/flights, $HOME/work/x, ./work/x")


def test_every_skip_is_listed(root):
    """tests/SKIPS.md lists every place where a test may be skipped, and no other."""
    listed = re.findall(r"^\| `([^`]+)` \|", (root / "tests" / "SKIPS.md").read_text(encoding="utf-8"), re.MULTILINE)
    found = {place for path in (root / "tests").rglob("*.py") for place in skips_in(path, root)}
    assert found == set(listed)


def test_help_names_every_target(root):
    """`make help` names every target of the Makefile."""
    rules = re.findall(r"^([a-z][a-z-]*):(?!=)", (root / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    printed = subprocess.run(["make", "help"], cwd=root, check=True, capture_output=True, text=True).stdout
    assert re.findall(r"^  ([a-z-]+) ", printed, re.MULTILINE) == list(dict.fromkeys(rules))


@pytest.fixture(scope="module")
def wheel(root, tmp_path_factory):
    """The distribution, built."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    [path] = folder.glob("*.whl")
    return path


def test_the_packages_come_from_one_distribution(wheel):
    """The wheel holds etl, scoring and jobs, and no other installed distribution claims these names."""
    program = """
from importlib.metadata import entry_points, packages_distributions
owners = packages_distributions()
print(*(f"{name}={owners[name]}" for name in ("etl", "scoring", "jobs")), sep=";")
print({entry.value for entry in entry_points(group="console_scripts", name="batchscore")})
"""
    environment = {**os.environ, "PYTHONPATH": str(wheel)}
    command = [sys.executable, "-c", program]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.splitlines()
    assert printed == ["etl=['batchscore'];scoring=['batchscore'];jobs=['batchscore']", "{'jobs.cli:main'}"]
