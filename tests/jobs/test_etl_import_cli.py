"""`batchscore etl import …`: a process of another system becomes a spec on disk, with a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from etl.spec import read_spec
from jobs import cli

if TYPE_CHECKING:
    from typer.testing import Result

PROCESS = Path(__file__).parents[1] / "etl" / "datavec" / "chains" / "texts_to_categories.json"
KIND = "org.datavec.api.transform.transform"


def batchscore(*words: object) -> Result:
    """Run a command in this process, without a terminal."""
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def test_a_process_becomes_a_spec(tmp_path: Path) -> None:
    """Import writes a fitted spec that validate takes, and prints what each action became."""
    out = tmp_path / "spec.json"
    done = batchscore("etl", "import", "datavec", PROCESS, "--out", out)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["place", "source", "became", "note"]
    hot = next(line for line in lines if line.startswith("/actionList/5/transform"))
    assert hot.split()[1:4] == ["CategoricalToOneHotTransform", "step", "a5_1_one_hot"]
    assert "DataVec fails on a category that it does not know" in hot
    assert lines[-1] == f"written: {out}"
    spec = read_spec(out.read_text(encoding="utf-8"), "spec.json")
    assert spec.is_fitted
    assert [step.op for step in spec.steps][-1] == "one_hot"
    assert spec.widths() == {"features": 8}
    assert batchscore("etl", "validate", out).exit_code == 0


def test_programs_read_the_report_as_json(tmp_path: Path) -> None:
    """With --json the report is JSON: place, source, what it became, and a note where the meaning differs."""
    out = tmp_path / "spec.json"
    found = json.loads(batchscore("etl", "import", "datavec", PROCESS, "--out", out, "--json").stdout)
    assert found["written"] == [str(out)]
    assert len(found["report"]) == 7 + 6 + 1
    assert found["report"][7]["pointer"] == "/actionList/0/transform"
    assert found["report"][7]["source"] == "ChangeCaseStringTransform"
    assert found["report"][6]["note"] is None


def test_all_that_cannot_be_expressed_is_refused_at_once(tmp_path: Path) -> None:
    """Import exits 2 with a line for each action without a counterpart, by file and place, and writes nothing."""
    process = json.loads(PROCESS.read_text(encoding="utf-8"))
    process["actionList"] += [
        {"calculateSortedRank": {"newColumnName": "rank"}},
        {"transform": {"@class": f"{KIND}.nlp.TextToTermIndexSequenceTransform", "columnName": "s"}},
    ]
    file, out = tmp_path / "process.json", tmp_path / "spec.json"
    file.write_text(json.dumps(process, indent=1), encoding="utf-8")
    done = batchscore("etl", "import", "datavec", file, "--out", out)
    assert done.exit_code == 2
    lines = [line for line in done.stderr.splitlines() if "E-UNSUPPORTED-IMPORT" in line]
    assert len(lines) == 2
    assert f"{file}:" in lines[0]
    assert "/actionList/6/calculateSortedRank: " in lines[0]
    assert "/actionList/7/transform: " in lines[1]
    assert not out.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "the process cannot be read: No such file"), (b"\xff", "is not UTF-8"), (b"{", "process.json:1:")],
)
def test_what_is_no_process_is_refused(tmp_path: Path, content: bytes | None, said: str) -> None:
    """A file that is not there, is no text, or is no JSON is refused with its name."""
    file = tmp_path / "process.json"
    if content is not None:
        file.write_bytes(content)
    done = batchscore("etl", "import", "datavec", file, "--out", tmp_path / "spec.json")
    assert done.exit_code == 2
    assert str(file) in done.stderr
    assert said in done.stderr


def test_no_command_loads_a_pickle() -> None:
    """The help says that scikit-learn is imported from Python, and there is a command for DataVec alone."""
    told = " ".join(batchscore("etl", "import", "--help").stdout.replace("│", " ").split())
    assert "A scikit-learn pipeline is imported from Python, by etl.importing.sklearn_pipeline.import_sklearn" in told
    assert batchscore("etl", "import", "sklearn", "model.pkl").exit_code == 2
