"""What is found under a name: models that MLflow wrote, and the folder that holds what was fetched."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scoring.bundles.sources import locate
from scoring.errors import BundleError


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("flavors: {1: {}, two: {}}", "is a model of flavour 1, two"),
        ("flavors: " + "[" * 2000, "its MLmodel file is not one that MLflow writes"),
        ("flavors: {[]: {}}", "its MLmodel file is not one that MLflow writes"),
        ("[]", "its MLmodel file is not one that MLflow writes"),
        ('flavors: {onnx: {data: "a\\0b"}}', "names data that is not in the model"),
        ("flavors: {onnx: {data: 5}}", "names data that is not in the model"),
    ],
)
def test_a_malformed_file_of_mlflow_is_refused(tmp_path: Path, written: str, said: str) -> None:
    """Whatever an MLmodel file holds, it is refused in words."""
    (tmp_path / "MLmodel").write_text(written)
    with pytest.raises(BundleError, match=said):
        locate(str(tmp_path))


def test_a_forked_process_leaves_the_folder_of_its_parent() -> None:
    """A folder of a process is there after the end of one that was forked from it, and not after its own."""
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from etl.folders import folder_of_process\n"
        "folder = folder_of_process('batchscore-test-')\n"
        "child = os.fork()\n"
        "if child == 0:\n    sys.exit(0)\n"
        "os.waitpid(child, 0)\n"
        "print(folder, Path(folder).is_dir())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    folder, is_left = done.stdout.split()
    assert is_left == "True"
    assert not Path(folder).exists()


def test_without_a_server_no_database_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody says where MLflow is, that is told, and the working folder is left as it was."""
    from scoring.bundles.mlflow import fetch

    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(BundleError, match="No MLflow server is named"):
        fetch("models:/flights@champion", str(tmp_path / "cache"))
    assert list(tmp_path.iterdir()) == []
