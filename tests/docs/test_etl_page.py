"""What docs/ETL.md shows is what happens."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from etl.inspection.op_reference import ops_page

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "ETL.md").read_text(encoding="utf-8")


NOTEBOOK = """
import json, sys
names = {}
for cell in sys.stdin:
    exec(json.loads(cell), names)
    print("\\0", flush=True)
"""


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a reader who did everything that the page shows, block by block."""
    folder = tmp_path_factory.mktemp("reader")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with (
        (folder / "stderr").open("wb") as stderr,
        subprocess.Popen(
            [sys.executable, "-c", NOTEBOOK],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            cwd=folder,
            env={**os.environ, "PATH": path},
        ) as notebook,
    ):
        for language, block in re.findall(r"^```(yaml|python|sh)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
            if language == "yaml" and block.startswith("# "):
                (folder / block.splitlines()[0].removeprefix("# ")).write_text(block)
            elif language == "python":
                _run_cell(notebook, block, folder)
            elif language == "sh":
                for line in block.splitlines():
                    _run(["bash", "-c", line], folder, path)
    return folder


def _run_cell(notebook: subprocess.Popen[str], block: str, folder: Path) -> None:
    """A notebook remembers what earlier cells made."""
    assert notebook.stdin is not None
    assert notebook.stdout is not None
    notebook.stdin.write(f"{json.dumps(block)}\n")
    notebook.stdin.flush()
    assert "\0\n" in notebook.stdout, f"{block}\n{(folder / 'stderr').read_text()}"


def _run(command: list[str], folder: Path, path: str) -> None:
    environment = {**os.environ, "PATH": path, "COLUMNS": "100"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout}{done.stderr}"


@pytest.mark.servers
def test_every_block_of_the_page_runs(reader: Path) -> None:
    """Each recipe, program and command of the page works, in their order, and leaves what it says."""
    assert {"people.yaml", "people.parquet", "people.json", "people.md"} <= {file.name for file in reader.iterdir()}
    assert (reader / "people.md").read_text().startswith("# people\n")


@pytest.mark.servers
def test_the_mistakes_of_the_page_are_told_as_it_shows(reader: Path) -> None:
    """The messages that the page shows are what `validate` prints for those mistakes."""
    text = (reader / "people.yaml").read_text()
    text = text.replace("op: missing_flag", "op: missing_flg").replace("impute, in: [income]", "impute, in: [incom]")
    shown = re.search(r"^```\n(people\.yaml:.*?)```", PAGE, re.MULTILINE | re.DOTALL)
    assert shown is not None
    (reader / "broken").mkdir()
    (reader / "broken" / "people.yaml").write_text(text)
    command = [str(Path(sys.executable).parent / "batchscore"), "etl", "validate", "people.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=reader / "broken")
    assert done.returncode == 2
    assert done.stderr.removeprefix("error: ") == shown[1]


def test_the_reference_of_ops_is_the_one_of_the_code() -> None:
    """docs/ETL-OPS.md is what `make docs` makes of the ops as they are now."""
    assert (REPOSITORY / "docs" / "ETL-OPS.md").read_text(encoding="utf-8") == ops_page()


def test_the_readme_counts_the_ops() -> None:
    """The README's number of ops is the number of ops that `batchscore etl ops` prints."""
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"([0-9]+) ops", readme) == [str(ops_page().count("\n### "))]


def test_every_code_is_explained() -> None:
    """Each error code that the code raises for a spec is in the page's table."""
    sources = [path.read_text(encoding="utf-8") for path in (REPOSITORY / "etl").rglob("*.py")]
    raised = {code for text in sources for code in re.findall(r'"(E-[A-Z-]+)"', text)}
    assert raised
    assert raised <= set(re.findall(r"E-[A-Z-]+", PAGE))
