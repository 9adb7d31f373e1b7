"""The flights example: data, recipe, bundle and job belong together, and a second implementation says the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnxruntime as ort
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from etl.learning.fitting import fit
from etl.pipeline import Pipeline
from etl.runs.local import LocalStorage
from etl.spec import read_spec
from jobs.config.job import read_config
from jobs.run import RunRequest, run
from scoring.bundles.bundle import audit
from scoring.bundles.golden import arrow_table, replay
from scoring.runtimes.base import RuntimeOptions
from scoring.runtimes.onnx import Session
from tests.examples.oracle import BY_SINE, Oracle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import SparkSession

    from jobs.record import RunRecord
    from scoring.bundles.bundle import AuditedBundle

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = REPOSITORY / "examples" / "flights"
BUNDLE = EXAMPLE / "bundle"
SCORED_MONTHS = (10, 11, 12)
REAL_ROWS = [27004, 24951, 28834, 28330, 28796, 28243, 29425, 29327, 27574, 28889, 27268, 28135]
PLANTED_ROWS = [0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 3]


def prepare(folder: Path) -> str:
    """What the script prints."""
    command = [sys.executable, str(EXAMPLE / "prepare.py"), str(folder)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """The prepared data, in a folder of the test's own."""
    folder: Path = tmp_path_factory.mktemp("flights")
    prepare(folder)
    return folder


@pytest.fixture(scope="module")
def audited() -> AuditedBundle:
    """The committed bundle."""
    return audit(LocalStorage(), str(BUNDLE))


class Published(NamedTuple):
    """What the demo's job left."""

    record: RunRecord
    predictions: pd.DataFrame


@pytest.fixture(scope="module")
def published(data, spark: SparkSession, tmp_path_factory) -> Published:
    """The demo's job, run over the prepared data."""
    out = tmp_path_factory.mktemp("published")
    places = {
        "input.files": [str(month_file(data, month).parent) for month in SCORED_MONTHS],
        "references": {name: str(data / f"{name}.parquet") for name in ("weather", "planes")},
        "model.bundle": str(BUNDLE),
        "output.uri": str(out / "predictions"),
        "metrics.uri": str(out / "metrics"),
    }
    config = read_config(
        str(REPOSITORY / "conf" / "flights.yaml"), tuple(f"{key}={json.dumps(value)}" for key, value in places.items())
    )
    record = run(RunRequest(config=config, run_id="demo"))
    parts = [pd.read_parquet(path) for path in Path(record.output).glob("*.parquet")]
    return Published(record, pd.concat(parts, ignore_index=True))


def month_file(data: Path, month: int) -> Path:
    """The flights of a month."""
    return data / "flights" / f"2013-{month:02}" / "flights.parquet"


def real_flights(data: Path) -> pa.Table:
    """The flights of October to December without the planted rows."""
    table = pa.concat_tables([pq.read_table(month_file(data, month)) for month in SCORED_MONTHS])
    return table.filter(pc.invert(pc.starts_with(table["flight_id"], "planted-")))


def sample_of(flights: pa.Table) -> pa.Table:
    """Some thousand flights, among them all to destinations that training did not know and of rare carriers."""
    rare = pc.is_in(flights["carrier"], pa.array(["OO", "HA"])).to_numpy() | (flights["dest"].to_numpy() == "LEX")
    return flights.filter(pa.array(rare | (np.arange(flights.num_rows) % 17 == 0))).combine_chunks()


def test_every_flight_is_there_and_seven_bad_rows(data):
    """The months hold the 336,776 flights of 2013 under ids of their own, and seven planted rows."""
    counts, ids = [], []
    for month in range(1, 13):
        found = pq.read_table(month_file(data, month), columns=["flight_id", "month"])
        assert set(found["month"].to_pylist()) == {month}
        names = [str(name) for name in found["flight_id"].to_pylist()]
        planted = sum(name.startswith("planted-") for name in names)
        counts.append((len(names) - planted, planted))
        ids += names

    assert counts == list(zip(REAL_ROWS, PLANTED_ROWS, strict=True))
    assert sum(REAL_ROWS) == 336_776
    assert len(set(ids)) == 336_776 + 7


def test_real_nulls_are_kept(data):
    """Cancelled flights, planes without a tail number and gaps in the weather are as in the source."""
    flights = pa.concat_tables([pq.read_table(month_file(data, month)) for month in range(1, 13)])
    flights = flights.filter(pc.invert(pc.starts_with(flights["flight_id"], "planted-")))
    weather = pq.read_table(data / "weather.parquet")

    nulls = {name: flights[name].null_count for name in ("dep_time", "arr_delay", "tailnum", "carrier", "time_hour")}
    assert nulls == {"dep_time": 8255, "arr_delay": 9430, "tailnum": 2512, "carrier": 0, "time_hour": 0}
    assert (weather.num_rows, weather["wind_gust"].null_count, weather["pressure"].null_count) == (26115, 20778, 2729)


def test_preparing_again_writes_nothing(data):
    """A second call leaves every file as it is, so that runs over them hold."""
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*") if path.is_file()}
    printed = prepare(data)
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*") if path.is_file()} == before
    assert "336,776 flights and 7 planted bad rows in 12 months, 26,115 hours of weather" in printed


def test_the_bundle_holds_and_is_small(audited):
    """The committed bundle passes its audit, reproduces its golden rows, and has at most 2 MB."""
    session = Session(audited.model, RuntimeOptions(), "flights")
    deviation = replay(audited, session, audited.bundle.tolerances["cpu"])

    assert deviation is not None
    assert deviation.features_ulp <= 1
    assert arrow_table(audited.files[audited.bundle.golden.rows]).num_rows == 64
    assert sum(path.stat().st_size for path in BUNDLE.rglob("*")) <= 2_000_000


def test_no_tail_number_is_in_the_bundle(audited, data):
    """Personal data stays out of the golden rows: no tail number of the register is among them."""
    golden = audited.bundle.golden
    kept = [arrow_table(audited.files[file]) for file in (golden.rows, golden.references["planes"])]
    found = {name for table in kept for name in table["tailnum"].drop_null().to_pylist()}
    assert found
    assert not found & set(pq.read_table(data / "planes.parquet")["tailnum"].to_pylist())


def test_the_committed_state_is_what_the_recipe_learns(audited, data):
    """Fitting the recipe on January to September gives the committed spec: moments to 1e-12, all else exactly."""
    recipe = read_spec((EXAMPLE / "recipe.yaml").read_text(encoding="utf-8"), "recipe.yaml", fitted=False)
    references = {name: pq.read_table(data / f"{name}.parquet") for name in ("weather", "planes")}

    def batches() -> Iterator[pa.RecordBatch]:
        for month in range(1, 10):
            yield from pq.ParquetFile(month_file(data, month)).iter_batches()

    learned = fit(recipe, batches, references)

    def without_moments(spec: Any) -> dict[str, Any]:
        document = json.loads(spec.to_bytes())
        for step in document["steps"]:
            if step["op"] == "standardize":
                step["state"] = {"n": step["state"]["n"]}
            elif step["op"] == "impute" and step["params"]["strategy"] == "mean":
                step["state"]["value"] = pytest.approx(step["state"]["value"], rel=1e-12)
        return document

    def moments(spec: Any) -> list[float]:
        states = [step.state for step in spec.steps if step.op == "standardize"]
        return [number for state in states for number in (state.mean, state.std)]

    assert without_moments(learned) == without_moments(audited.spec)
    assert moments(learned) == pytest.approx(moments(audited.spec), rel=1e-12)


def test_a_second_implementation_makes_the_same_features(audited, data):
    """With pandas the same float32 features come out, to the bit, or to its neighbour for sines and cosines."""
    flights = sample_of(real_flights(data))
    references = {name: pq.read_table(data / f"{name}.parquet") for name in ("weather", "planes")}
    pipeline = Pipeline(audited.spec, references)
    made = pipeline.transform(pipeline.contract(flights, "sample"))
    expected, names = Oracle(BUNDLE / "etl.json", data).matrix(flights.to_pandas())

    found = made.tensors["features"]
    assert made.kept is None
    assert flights.num_rows > 4_900
    assert found.shape == expected.shape == (flights.num_rows, 50)
    one_unit = np.where(np.isin(names, BY_SINE), np.spacing(np.abs(expected)), 0)
    assert [name for name, off in zip(names, (np.abs(found - expected) > one_unit).T, strict=True) if off.any()] == []


def test_published_scores_are_those_of_plain_onnxruntime(published, data):
    """What the job published for a flight is what onnxruntime says of the second implementation's features."""
    flights = sample_of(real_flights(data)).to_pandas()
    features, _ = Oracle(BUNDLE / "etl.json", data).matrix(flights)
    session = ort.InferenceSession(str(BUNDLE / "model.onnx"), providers=["CPUExecutionProvider"])
    [expected] = session.run(["p_late"], {"features": features})

    found = flights[["flight_id"]].merge(published.predictions, "left", "flight_id", validate="1:1")
    assert len(found) == len(flights)
    np.testing.assert_allclose(found.p_late.to_numpy(), expected[:, 0], rtol=0, atol=1e-6)


def test_the_quoted_auc_is_true(published, audited, data):
    """The AUC of the bundle's facts is that of the published scores, by the rank formula from the true delays."""
    flights = real_flights(data).select(["flight_id", "arr_delay"]).to_pandas().dropna()
    found = flights.merge(published.predictions, "left", "flight_id", validate="1:1")
    late = found.arr_delay.to_numpy() > 15
    values, place, counts = np.unique(found.p_late.to_numpy(), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    auc = (ranks[late].sum() - late.sum() * (late.sum() + 1) / 2) / (late.sum() * (~late).sum())

    facts = audited.bundle.facts
    assert len(values) > 10_000
    assert auc == pytest.approx(float(facts["test_auc"]), abs=6e-5)
    assert late.mean() == pytest.approx(float(facts["test_late"]), abs=6e-5)
    assert facts["tested_on"] == f"2013-10 to 2013-12, {late.size:,} flights that arrived"


def test_the_job_sets_the_planted_rows_aside(published):
    """The demo's job publishes all real flights of three months and sets the seven planted rows aside, with reasons."""
    record, account = published.record, published.record.account
    rows = sum(REAL_ROWS[month - 1] for month in SCORED_MONTHS)

    assert record.state == "PARTIALLY_SUCCEEDED"
    assert (account.rows_in.rows, account.scored.rows, account.quarantined.rows) == (rows + 7, rows, 7)
    assert record.reasons == {
        "contract/OUT_OF_RANGE": 2,
        "contract/MISSING": 2,
        "contract/TOO_LONG": 1,
        "contract/NOT_ALLOWED": 1,
        "transform/UNKNOWN_CATEGORY": 1,
    }
    assert record.splits >= 6
    assert published.predictions.flight_id.is_unique
    assert not published.predictions.flight_id.str.startswith("planted-").any()
