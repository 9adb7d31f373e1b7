"""How often the driver loads a model to learn what it takes and gives; see docs/TRAPS.md, 37."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnxruntime as ort
import pyarrow.parquet as pq
import pytest

from jobs.config.job import read_config
from jobs.planning.preview import preview
from jobs.run import RunRequest
from tests.jobs.outputs import write_job
from tests.scoring.workshop import logistic_bundle, logistic_model, numbers

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("kind", "sessions"), [("bundle", 0), ("onnx", 1)])
def test_to_plan_a_job_asks_a_model_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, sessions: int
) -> None:
    """What a model takes and gives is read in `bundle.json`; a bare model is loaded for it once, whatever is asked."""
    (tmp_path / "in").mkdir()
    pq.write_table(numbers(20), tmp_path / "in" / "a.parquet")
    logistic_bundle(tmp_path / "bundle")
    (tmp_path / "m.onnx").write_bytes(logistic_model())
    of_kind = {
        "bundle": {"bundle": str(tmp_path / "bundle")},
        "onnx": {"onnx": str(tmp_path / "m.onnx"), "inputs": {"X": ["f0", "f1", "f2", "f3"]}},
    }
    job = read_config(str(write_job(tmp_path, tmp_path / "m.onnx", model=of_kind[kind])))
    made: list[Any] = []
    make = ort.InferenceSession

    def counted(*arguments: Any, **options: Any) -> Any:
        made.append(make(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(ort, "InferenceSession", counted)
    plan = preview(RunRequest(config=job, run_id="r")).plan
    assert plan.order.models[0].bundle_sha256
    assert len(made) == sessions
