"""Compile the hashed requirements locks, or tell whether they are current.

A lock ends in a digest of what it was compiled from and of its own lines, so the check needs neither network nor uv.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOOT = "# current with: sha256:"
CONSTRAINTS = "requirements/constraints.in"
OTHER_CONSTRAINTS = {
    "spark35": "requirements/constraints-spark35.in",
    "spark40": "requirements/constraints-spark40.in",
}
OPTIONS = [
    *("--generate-hashes", "--no-header", "--universal"),
    *("--python-version", "3.11"),
    *("--build-constraints", "requirements/build.txt"),
]
# What the tests need, on each Spark that is supported.
_DEV = [
    "pyproject.toml",
    "--extra=cpu",
    "--extra=spark",
    "--extra=s3",
    "--extra=hdfs",
    "--extra=gs",
    "--extra=mlflow",
    "--extra=notebooks",
    "--extra=openlineage",
    "--extra=prometheus",
    "--extra=sklearn",
    "--extra=dev",
    "requirements/browser.in",
    "requirements/mlflow.in",
    "requirements/connect.in",
    "requirements/deploy.in",
    "requirements/stores.in",
]
# The order matters: the others are built with what `build` pins.
SOURCES = {
    "uv": ["requirements/uv.in"],
    "build": ["requirements/build.in"],
    "dev": _DEV,
    "spark35": _DEV,
    "spark40": _DEV,
    # What `batchscore pack` sends to clusters, which have a Spark of their own.
    "cluster": [
        "pyproject.toml",
        "--extra=cpu",
        "--extra=s3",
        "--extra=hdfs",
        "--extra=gs",
        "--extra=openlineage",
        "--extra=prometheus",
        "requirements/cluster.in",
    ],
    "train": ["pyproject.toml", "--extra=cpu", "requirements/train.in"],
    "bench": ["pyproject.toml", "--extra=cpu", "--extra=spark", "requirements/bench.in"],
    "zoo": [
        "pyproject.toml",
        "--extra=cpu",
        "--extra=spark",
        "--extra=torch",
        "--extra=sklearn",
        "--extra=dev",
        "requirements/zoo.in",
    ],
    "airflow": ["requirements/airflow.in"],
}


def lock_of(name: str) -> Path:
    """Return the lock of one environment."""
    return ROOT / "requirements" / f"{name}.txt"


def asked(source: str) -> str:
    """Return what a source asks for: the text of a file, or of pyproject.toml the dependencies or those of an extra."""
    if source.endswith(".in"):
        return (ROOT / source).read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    if source.startswith("--extra="):
        return json.dumps(project["optional-dependencies"][source.removeprefix("--extra=")])
    return json.dumps([project["requires-python"], project["dependencies"]])


def foot(name: str, body: str) -> str:
    """Return the last line of a lock with this body."""
    constraints = asked(OTHER_CONSTRAINTS.get(name, CONSTRAINTS))
    parts = [json.dumps([SOURCES[name], OPTIONS]), constraints, *map(asked, SOURCES[name]), body]
    return FOOT + hashlib.sha256("\0".join(parts).encode()).hexdigest()


def is_current(name: str) -> bool:
    """Tell whether a lock is what its inputs, as they are now, were compiled to."""
    if not lock_of(name).exists():
        return False
    body, _, last = lock_of(name).read_text(encoding="utf-8").rstrip("\n").rpartition("\n")
    return last == foot(name, f"{body}\n")


def compile_lock(name: str, *, upgrade: bool) -> None:
    """Compile one lock; without `upgrade` a version that still fits stays."""
    options = [option for option in OPTIONS if name not in {"uv", "build"} or "build" not in option]
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "lock.txt"
        if lock_of(name).exists():
            output.write_bytes(lock_of(name).read_bytes())
        uv = [str(ROOT / ".tools" / "bin" / "uv"), "pip", "compile", "--quiet"]
        constraints = OTHER_CONSTRAINTS.get(name, CONSTRAINTS)
        uv += [*SOURCES[name], "--constraints", constraints, *options, f"--output-file={output}"]
        subprocess.run([*uv, *(["--upgrade"] if upgrade else [])], cwd=ROOT, check=True)
        body = output.read_text(encoding="utf-8")
    beside = lock_of(name).with_suffix(".new")
    beside.write_text(f"{body}{foot(name, body)}\n", encoding="utf-8")
    beside.replace(lock_of(name))


def main() -> int:
    """Compile or check all locks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only tell; exit 1 when a lock is stale")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    options = parser.parse_args()
    if options.check:
        stale = [f"requirements/{name}.txt" for name in SOURCES if not is_current(name)]
        if stale:
            print(f"Not current with their inputs: {', '.join(stale)}. Run `make lock`.", file=sys.stderr)
        return 1 if stale else 0
    for name in SOURCES:
        print(f"requirements/{name}.txt", flush=True)
        compile_lock(name, upgrade=options.upgrade)
    return 0


if __name__ == "__main__":
    sys.exit(main())
