"""Jobs of several models: from the config to what is published, beside plain onnxruntime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.config.job import read_config
from jobs.errors import ConfigError, Refused
from jobs.planning.preview import validate
from jobs.results import open_results
from jobs.run import RunRequest, run
from scoring.errors import BundleError
from tests.numbers_job import FEATURES, WEIGHTS
from tests.scoring.workshop import logistic_model, numbers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyspark.sql import SparkSession

    from jobs.record import RunRecord

ROWS = 300


@pytest.fixture
def models(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Two bare models over the same columns, as a config names them."""
    (tmp_path / "in").mkdir()
    pq.write_table(numbers(ROWS), tmp_path / "in" / "a.parquet", row_group_size=70)
    found = {}
    for name, weights in (("champion", WEIGHTS), ("challenger", -3 * WEIGHTS)):
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(logistic_model(weights))
        found[name] = {"name": name, "onnx": str(path), "inputs": {"X": list(FEATURES)}}
    return found


def plain(model: dict[str, Any]) -> np.ndarray:
    """Scores by onnxruntime alone."""
    matrix = np.stack([numbers(ROWS).column(name).to_numpy() for name in FEATURES], axis=1).astype(np.float32)
    session = ort.InferenceSession(model["onnx"], providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["p"], {"X": matrix})[0])[:, 0]


def scored(job: Path, run_id: str = "r") -> tuple[RunRecord, pa.Table]:
    """The record and what was published, by id."""
    config = read_config(str(job))
    record = run(RunRequest(config=config, run_id=run_id))
    return record, open_results(config.output.uri).arrow().sort_by("id")


def test_champion_and_challenger(
    spark: SparkSession, tmp_path: Path, job_file: Callable[..., Path], models: dict[str, dict[str, Any]]
) -> None:
    """Both score each row in one pass; the record names both, and a mean beside them is theirs."""
    ensemble = {"column": "mean", "of": ["champion_p", "challenger_p"], "how": "mean"}
    job = job_file(model=None, models=list(models.values()), combine={"ensembles": [ensemble]})
    assert {check.state for check in validate(read_config(str(job)))} == {"ok"}
    record, found = scored(job)
    assert found.column_names == ["id", "champion_p", "challenger_p", "mean"]
    for name, model in models.items():
        np.testing.assert_allclose(found[f"{name}_p"].to_numpy(), plain(model), rtol=1e-6, atol=1e-7)
    both = found["champion_p"].to_numpy().astype(np.float64) + found["challenger_p"].to_numpy()
    np.testing.assert_array_equal(found["mean"].to_numpy(), both / 2)
    assert [facts.alias for facts in record.models] == ["champion", "challenger"]
    assert record.engine.by_model == {"champion": ROWS, "challenger": ROWS}
    assert record.account.scored.rows == ROWS


def test_each_key_goes_to_one_model_and_stays_there(
    spark: SparkSession, tmp_path: Path, job_file: Callable[..., Path], models: dict[str, dict[str, Any]]
) -> None:
    """An A/B split by key publishes one score a row and whose it is; a second run assigns the same."""
    combine = {"assign_by": ["id"], "shares": {"champion": 0.7, "challenger": 0.3}}
    job = job_file(model=None, models=list(models.values()), combine=combine)
    record, first = scored(job)
    assert first.column_names == ["id", "variant", "p"]
    is_champion = np.array(first["variant"].to_pylist()) == "champion"
    wanted = np.where(is_champion, plain(models["champion"]), plain(models["challenger"]))
    np.testing.assert_allclose(first["p"].to_numpy(), wanted, rtol=1e-6, atol=1e-7)
    assert record.engine.by_model == {"champion": is_champion.sum(), "challenger": ROWS - is_champion.sum()}
    again = job_file(
        model=None,
        models=list(models.values()),
        combine=combine,
        output={"uri": str(tmp_path / "two"), "passthrough": ["id"]},
    )
    assert scored(again, "s")[1].equals(first)


def test_each_segment_goes_to_its_model(
    spark: SparkSession, tmp_path: Path, job_file: Callable[..., Path], models: dict[str, dict[str, Any]]
) -> None:
    """Rows go by their value; one without a model is set aside, which the budget has to allow."""
    table = numbers(ROWS).append_column("segment", pa.array([("a", "b", "x")[row % 3] for row in range(ROWS)]))
    pq.write_table(table, tmp_path / "in" / "a.parquet", row_group_size=70)
    combine = {"route_by": "segment", "routes": {"a": "champion", "b": "challenger"}}
    budgets = {"inference": {"max_ratio": 0.4}}
    job = job_file(model=None, models=list(models.values()), combine=combine, budgets=budgets)
    record, found = scored(job)
    rows = [row for row in range(ROWS) if row % 3 < 2]
    assert found["id"].to_pylist() == rows
    wanted = [plain(models["champion" if row % 3 == 0 else "challenger"])[row] for row in rows]
    np.testing.assert_allclose(found["p"].to_numpy(), wanted, rtol=1e-6, atol=1e-7)
    assert record.reasons == {"inference/NO_MODEL": ROWS // 3}


def test_a_bare_model_reads_what_one_before_it_publishes(
    spark: SparkSession, tmp_path: Path, job_file: Callable[..., Path], models: dict[str, dict[str, Any]]
) -> None:
    """The input of the second model is bound to the first one's column beside those of the file."""
    columns = ["champion_p", *FEATURES[1:]]
    second = {**models["challenger"], "name": "final", "inputs": {"X": columns}}
    job = job_file(model=None, models=[models["champion"], second])
    assert {check.state for check in validate(read_config(str(job)))} == {"ok"}
    _, found = scored(job)
    matrix = np.stack([numbers(ROWS).column(name).to_numpy() for name in FEATURES], axis=1).astype(np.float32)
    matrix[:, 0] = plain(models["champion"])
    session = ort.InferenceSession(second["onnx"], providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(found["final_p"].to_numpy(), session.run(["p"], {"X": matrix})[0][:, 0], rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": None}, "exactly one of `model` and `models`"),
        (
            {"combine": {"assign_by": ["id"], "shares": {"champion": 0.5, "other": 0.5}}},
            "/combine: 'other' is no model of the job",
        ),
        (
            {"combine": {"assign_by": ["id"], "shares": {"champion": 1}}},
            "/combine: model 'challenger' has no share; give it one, 0 if you like.$",
        ),
        ({"combine": {"route_by": "id", "otherwise": "other"}}, "/combine: 'other' is no model of the job"),
    ],
)
def test_what_names_no_model_is_a_config_error(
    job_file: Callable[..., Path], models: dict[str, dict[str, Any]], changes: dict[str, Any], message: str
) -> None:
    """A combination that does not fit the job's models is told with the config's other problems."""
    job = job_file(**{"model": None, "models": list(models.values()), **changes})
    with pytest.raises(ConfigError, match=message):
        read_config(str(job))


def test_a_name_of_two_models_is_told_where_it_stands_again(
    job_file: Callable[..., Path], models: dict[str, dict[str, Any]]
) -> None:
    """The line of the second model of a name is told, and that of a combination's other fault beside it."""
    twice = [models["champion"], {**models["challenger"], "name": "champion"}]
    combine = {"route_by": "id", "otherwise": "other"}
    job = job_file(model=None, models=twice, combine=combine)
    with pytest.raises(ConfigError) as error:
        read_config(str(job))
    lines = job.read_text().splitlines()
    again = [at for at, line in enumerate(lines, 1) if "name: champion" in line][-1]
    below = next(at for at, line in enumerate(lines, 1) if line.startswith("combine:"))
    told = dict(line.removeprefix(f"{job}:").split(":", 1) for line in str(error.value).splitlines())
    assert "/models/1/name: another model has this name" in told[str(again)]
    assert "/combine: 'other' is no model of the job" in told[str(below)]


def test_what_cannot_be_combined_is_refused_before_work(
    tmp_path: Path, job_file: Callable[..., Path], models: dict[str, dict[str, Any]]
) -> None:
    """Models that publish other columns have no common `variant`; an ensemble of a column that nobody makes is none."""
    other = {**models["challenger"], "outputs": [{"column": "score", "tensor": "p"}]}
    job = job_file(model=None, models=[models["champion"], other], combine={"layout": "variant"})
    with pytest.raises(Refused, match=r"champion and challenger publish \(p float\) and \(score float\)"):
        run(RunRequest(config=read_config(str(job)), run_id="r"))
    ensemble = {"column": "mean", "of": ["champion_p", "nobody_p"], "how": "mean"}
    job = job_file(model=None, models=list(models.values()), combine={"ensembles": [ensemble]})
    with pytest.raises((Refused, BundleError), match="'nobody_p', which no model publishes"):
        run(RunRequest(config=read_config(str(job)), run_id="r"))
    job = job_file(model=None, models=list(models.values()), combine={"route_by": "nowhere"})
    with pytest.raises(Refused, match="combine names column 'nowhere', which the input has not"):
        run(RunRequest(config=read_config(str(job)), run_id="r"))
