"""Models of a real MLflow server: found by every kind of URI, pinned when a run is planned, logged with their ETL."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner

from jobs import cli
from jobs.config.budgets import Budget
from jobs.config.job import read_config
from jobs.planning.plan import load_plan, target_of
from jobs.planning.preview import preview
from jobs.run import RunRequest, run
from scoring.bundles.bundle import audit, copy_bundle
from scoring.bundles.served import _load_pyfunc
from scoring.bundles.sources import audited_source, locate
from scoring.errors import BundleError
from scoring.scorer import loads_so_far
from tests.jobs.outputs import write_bad_input, write_job
from tests.numbers_job import published_scores
from tests.scoring.workshop import (
    LOGISTIC_SPEC,
    STORE,
    P,
    Work,
    logistic_bundle,
    logistic_model,
    logistic_scores,
    model_of,
    numbers,
    parts_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyspark.sql import SparkSession
    from typer.testing import Result

    from scoring.bundles.bundle import AuditedBundle

# The first test waits for the server, which imports much.
pytestmark = [pytest.mark.timeout(300), pytest.mark.servers]

BIN = Path(sys.executable).parent
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
SECONDS = 100
OTHER = np.array([[1.0], [2.0], [-1.0], [0.5]], dtype=np.float32)
"""Weights of the second version."""


def batchscore(*words: object) -> Result:
    """Run a command in this process, without a terminal."""
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def serving(
    command: list[str], health: str, folder: Path, meanwhile: Callable[[], object] = lambda: None
) -> Iterator[None]:
    """A server that answers; its whole process group is ended behind it. `meanwhile` is done while it starts."""
    with (folder / "server.log").open("wb") as log:
        # `mlflow models serve` starts what it finds on the path.
        env = {**os.environ, **QUIET, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
        server = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        meanwhile()
        until = time.monotonic() + SECONDS
        while not answers(health):
            assert server.poll() is None, (folder / "server.log").read_text()
            assert time.monotonic() < until, (folder / "server.log").read_text()
            time.sleep(0.1)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def answers(url: str) -> bool:
    """Whether a server is there."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  our own server
            return bool(answer.status == 200)
    except OSError:
        return False


class Registry(NamedTuple):
    """What the server holds."""

    bundle: AuditedBundle
    """Version 1 of the registered model `late`, with the alias `champion`."""
    run_id: str
    """Of the run that logged it, under the name `numbers`."""
    flavour: str
    """URI of the model `plain`, which MLflow itself logged in its onnx flavour."""
    log: Callable[[np.ndarray, str], AuditedBundle]
    """Log and register another version of `late`, with weights and an alias."""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A real `mlflow server` on this machine, with a logged bundle and a model of the onnx flavour."""
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    store = ["--backend-store-uri", "sqlite:///db.sqlite", "--artifacts-destination", "./artifacts"]
    command = [str(BIN / "mlflow"), "server", *store, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    health = f"http://127.0.0.1:{port}/health"
    with pytest.MonkeyPatch.context() as patch, serving(command, health, folder, import_mlflow):
        patch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        for name, value in QUIET.items():
            patch.setenv(name, value)
        made = logistic_bundle(folder / "bundle")
        words = ["--registered-name", "late", "--alias", "champion", "--json"]
        done = batchscore("bundle", "log", folder / "bundle", *words)
        assert done.exit_code == 0, done.output
        logged = json.loads(done.stdout.splitlines()[-1])
        assert (logged["uri"], logged["version"]) == ("models:/late/1", "1")
        yield Registry(made, logged["run_id"], log_plain(), lambda weights, alias: log_other(folder, weights, alias))


def import_mlflow() -> None:
    """Load MLflow, whose own type hints make it warn."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*type hint is inferred as AnyType", category=UserWarning)
        import mlflow.onnx
        import mlflow.pyfunc  # noqa: F401  it is what warns


def log_plain() -> str:
    """A model with weights of more than a kilobyte, which MLflow's onnx flavour stores in a file beside."""
    import_mlflow()
    import mlflow.onnx

    with mlflow.start_run():
        mlflow.onnx.log_model(onnx.load_from_string(wide_model()), name="plain", registered_model_name="plain")
    return "models:/plain/1"


def wide_model() -> bytes:
    """X · W with 4 × 100 weights."""
    weights = np.random.default_rng(8).normal(size=(4, 100)).astype(np.float32)
    outputs = {"p": (TensorProto.FLOAT, [None, 100])}
    node = helper.make_node("MatMul", ["X", "W"], ["p"])
    return model_of([node], {"X": (TensorProto.FLOAT, [None, 4])}, outputs, W=weights)


def log_other(folder: Path, weights: np.ndarray, alias: str) -> AuditedBundle:
    """Another version."""
    from scoring.bundles.create import create_bundle
    from scoring.bundles.mlflow import Registration, log_bundle

    place = folder / alias / str(time.monotonic_ns())
    made = create_bundle(STORE, str(place), parts_of(LOGISTIC_SPEC, logistic_model(weights), numbers(5), [P]))
    log_bundle(made, {}, registration=Registration("late", alias))
    return made


def bundle_job(folder: Path, uri: str, table: pa.Table) -> str:
    """A job over the bundle at a URI."""
    (folder / "in").mkdir(parents=True)
    pq.write_table(table, folder / "in" / "rows.parquet")
    return str(write_job(folder, folder, model={"bundle": uri}))


def test_every_uri_gives_the_bundle_that_was_logged(registry: Registry) -> None:
    """By alias, by version and by run, the bundle is the same to the byte, and its origin names the version."""
    for uri in ("models:/late@champion", "models:/late/1", f"runs:/{registry.run_id}/numbers"):
        found = audited_source(uri)
        assert (found.sha256, dict(found.files)) == (registry.bundle.sha256, dict(registry.bundle.files))
        assert found.origin["uri"] == uri
        assert found.origin["run_id"] == registry.run_id
    assert audited_source("models:/late@champion").origin["resolved"] == "models:/late/1"
    assert audited_source("models:/late@champion").origin["registry"] == os.environ["MLFLOW_TRACKING_URI"]


def test_a_model_of_the_onnx_flavour_is_a_bare_model(registry: Registry, tmp_path: Path) -> None:
    """What MLflow logged itself is bound to columns like a file, with the weights that lie beside it."""
    source = locate(registry.flavour)
    assert source.kind == "onnx"
    assert len(list(Path(source.path).parent.glob("*.data"))) == 1
    (tmp_path / "in").mkdir()
    pq.write_table(numbers(10), tmp_path / "in" / "rows.parquet")
    job = write_job(tmp_path, tmp_path, model={"onnx": registry.flavour, "inputs": {"X": ["f0", "f1", "f2", "f3"]}})
    plan = preview(RunRequest(config=read_config(str(job)), run_id="r")).plan
    assert plan.model.source["resolved"] == "models:/plain/1"
    done = batchscore("bundle", "inspect", registry.flavour)
    assert "X float32[rows, 4]" in done.stdout
    assert f"from MLflow: models:/plain/1 of {os.environ['MLFLOW_TRACKING_URI']}" in done.stdout


def test_an_alias_means_what_it_meant_when_the_run_was_planned(
    registry: Registry, spark: SparkSession, tmp_path: Path
) -> None:
    """A plan records the version; moved behind it, the alias changes the next run, and never this one."""
    registry.log(logistic_weights(), "moving")
    table = numbers(50)
    job = read_config(bundle_job(tmp_path, "models:/late@moving", table))
    record = run(RunRequest(config=job, run_id="first"))
    planned = load_plan(target_of(job, "first", scratch=False))
    assert planned is not None
    version = planned.model.source["version"]
    assert planned.model.source["uri"] == "models:/late@moving"
    assert record.model is not None
    assert record.model.source == planned.model.source
    found = published_scores(tmp_path / "out" / "run_id=first")
    np.testing.assert_allclose([found[row] for row in range(50)], logistic_scores(table), rtol=1e-6)

    other = registry.log(OTHER, "moving")
    again = preview(RunRequest(config=job, run_id="first")).plan
    assert again.model == planned.model
    fresh = preview(RunRequest(config=job, run_id="second")).plan
    assert int(fresh.model.source["version"]) == int(version) + 1
    assert fresh.model.bundle_sha256 == other.sha256


def logistic_weights() -> np.ndarray:
    """Of the model that `logistic_scores` is the oracle of."""
    from tests.numbers_job import WEIGHTS

    return WEIGHTS


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("models:/late@nobody", "cannot give it"),
        ("models:/late/99", "cannot give it"),
        ("models:/none/1", "cannot give it"),
        ("models:/late/latest", "names no version of a model"),
        ("models:/late", "names no version of a model"),
        ("models:/late/Production", "names no version of a model"),
    ],
)
def test_what_is_not_there_or_not_pinned_is_refused(registry: Registry, uri: str, told: str) -> None:
    """An alias, a version or a model that is not there is told with the server; so is a name that is no version."""
    done = batchscore("bundle", "inspect", uri)
    assert done.exit_code == 2
    assert told in done.stderr


def test_the_wrong_key_is_told(registry: Registry, tmp_path: Path) -> None:
    """A bundle under `onnx`, and a bare model under `bundle`, are refused with the key that is right."""
    for model, key in (({"onnx": "models:/late/1"}, "model.bundle"), ({"bundle": registry.flavour}, "model.onnx")):
        (tmp_path / key).mkdir()
        (tmp_path / key / "in").mkdir()
        pq.write_table(numbers(3), tmp_path / key / "in" / "rows.parquet")
        done = batchscore("plan", write_job(tmp_path / key, tmp_path, model=model))
        assert done.exit_code == 2
        assert f"`{key}`" in done.stderr


def test_a_server_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a server the URI and its address are named, without the password that is in it, and soon."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{free_port()}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(BundleError) as caught:
        locate("models:/late/1")
    assert "models:/late/1: MLflow at http://127.0.0.1:" in str(caught.value)
    assert "secret" not in str(caught.value).partition("cannot give it")[0]


def test_a_uri_of_mlflow_needs_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where MLflow is not installed, that and what to install is told."""
    monkeypatch.setitem(sys.modules, "scoring.bundles.mlflow", None)
    with pytest.raises(BundleError, match=r"pip install 'batchscore\[mlflow\]'"):
        locate("models:/late/1")


def test_mlflow_stays_out_of_what_does_not_ask_for_it(tmp_path: Path) -> None:
    """To look into a bundle by its path, with all commands loaded, imports no MLflow."""
    logistic_bundle(tmp_path / "bundle")
    program = (
        "import sys\nfrom typer.testing import CliRunner\nfrom jobs import cli\n"
        f"done = CliRunner().invoke(cli.app, ['bundle', 'verify', {str(tmp_path / 'bundle')!r}])\n"
        "print(done.exit_code, 'mlflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "False"]


def test_mlflow_is_not_waited_for_where_a_run_begins() -> None:
    """To import it takes seconds, which the thread that tells spends, and not the driver."""
    code = (
        "import sys; from jobs.monitoring.settings import SinkSettings; from jobs.monitoring.telling import sinks_of; "
        "sinks_of(SinkSettings.model_validate({'mlflow': {'uri': 'http://127.0.0.1:1'}})); "
        "assert 'mlflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_folder_that_mlflow_saved_needs_no_server(registry: Registry, tmp_path: Path) -> None:
    """A model's folder on a disk is read by its MLmodel file, whose paths may not lead out of it."""
    source = locate(registry.flavour)
    copy = tmp_path / "saved"
    shutil.copytree(Path(source.path).parent, copy)
    assert locate(str(copy)).path == str(copy / "model.onnx")
    told = (copy / "MLmodel").read_text()
    (copy / "MLmodel").write_text(told.replace("data: model.onnx", "data: ../model.onnx"))
    with pytest.raises(BundleError, match="names data that is not in the model"):
        locate(str(copy))
    (copy / "MLmodel").write_text("flavors: {sklearn: {}}")
    with pytest.raises(BundleError, match="is a model of flavour sklearn"):
        locate(str(copy))


def test_what_mlflow_serves_are_the_same_scores(registry: Registry, tmp_path: Path) -> None:
    """`mlflow models serve` answers with the scores of onnxruntime, and says of each bad row why it has none."""
    port = free_port()
    command = [str(BIN / "mlflow"), "models", "serve", "-m", "models:/late@champion", "--env-manager", "local"]
    rows = numbers(8).to_pylist()
    rows[2]["f1"] = None
    rows[3]["f3"] = "x"
    rows[4]["f2"] = 1000.0
    body = json.dumps({"dataframe_records": rows}).encode()
    with serving([*command, "-p", str(port), "-h", "127.0.0.1"], f"http://127.0.0.1:{port}/health", tmp_path):
        asked = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(asked, timeout=60) as answer:  # noqa: S310  as above
            found = json.loads(answer.read())["predictions"]
    expected = logistic_scores(numbers(8))
    good = [0, 1, 5, 6, 7]
    np.testing.assert_array_equal(np.array([found[row]["p"] for row in good], np.float32), expected[good])
    assert [found[row]["rejected"] for row in good] == [None] * 5
    assert [found[row]["p"] for row in (2, 3, 4)] == [None] * 3
    assert [found[row]["rejected"].partition(":")[0] for row in (2, 3, 4)] == [
        "MISSING",
        "NOT_CASTABLE",
        "OUT_OF_RANGE",
    ]


def test_options_of_a_served_model_count_or_are_refused(registry: Registry, tmp_path: Path) -> None:
    """What `model_config` says is in the loaded model, zero is no default, and a key that is none is an error."""
    import mlflow.pyfunc

    loaded = mlflow.pyfunc.load_model("models:/late/1", model_config={"batch_rows": 3, "threads": 2})
    order = loaded._model_impl._order
    assert (order.batch_rows, order.models[0].runtime.intra_op_threads) == (3, 2)
    table = numbers(10)
    np.testing.assert_array_equal(loaded.predict(table.to_pandas())["p"], logistic_scores(table))
    copy_bundle(registry.bundle, STORE, str(tmp_path / "bundle"))
    for wrong, told in (({"threads": 0}, "threads"), ({"batchrows": 3}, "batchrows")):
        with pytest.raises(BundleError, match=told):
            _load_pyfunc(str(tmp_path), wrong)


@pytest.mark.parametrize("trial", [{}, {"limit": 5}, {"sample": 0.5}])
def test_the_settings_of_a_job_reach_the_worker_on_every_path(tmp_path: Path, trial: dict[str, Any]) -> None:
    """Options of the runtime and of batching stand in the order of a run and of both kinds of trials (trap 3)."""
    logistic_bundle(tmp_path / "bundle")
    job = Path(bundle_job(tmp_path, str(tmp_path / "bundle"), numbers(20)))
    job.write_text(job.read_text() + "scoring: {device: auto, on_missing_gpu: cpu, threads: 3, batch_rows: 7}\n")
    order = preview(RunRequest(config=read_config(str(job)), run_id="r", **trial)).plan.order
    runtime = order.models[0].runtime
    told = (runtime.device, runtime.on_missing_gpu, runtime.intra_op_threads, order.batch_rows)
    assert told == ("auto", "cpu", 3, 7)


def test_zero_is_a_value() -> None:
    """A budget of no row allows none, whatever share is allowed beside it (trap 4)."""
    assert not Budget(max_rows=0, max_ratio=1.0).allows(1, 10)
    assert not Budget(max_ratio=0.0).allows(1, 10)
    assert Budget(max_rows=0).allows(0, 10)


def test_a_model_is_known_by_its_content(tmp_path: Path) -> None:
    """The same bundle at two places is loaded once, and another one at the first place is loaded anew (trap 5)."""
    weights = np.array([[0.1], [0.2], [0.3], [0.41]], np.float32)
    parts = parts_of(LOGISTIC_SPEC, logistic_model(weights), numbers(5), [P])
    from scoring.bundles.create import create_bundle

    def bundle(folder: Path) -> AuditedBundle:
        return create_bundle(STORE, str(folder), parts)

    before = loads_so_far()
    for name in ("a", "b"):
        Work(tmp_path / name, numbers(20), bundle=bundle).score()
    assert loads_so_far() == before + 1
    assert audit(STORE, str(tmp_path / "a" / "bundle")).sha256 == audit(STORE, str(tmp_path / "b" / "bundle")).sha256


def test_a_run_is_told_to_tracking(
    spark: SparkSession, registry: Registry, tmp_path: Path, logistic_onnx: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each try at a run is a run of MLflow, with the counts, the seconds, the record and the tasks that it left.

    MLflow's own client prints nothing among the results.
    """
    from mlflow.tracking import MlflowClient

    write_bad_input(tmp_path)
    uri = os.environ["MLFLOW_TRACKING_URI"]
    sinks = {"mlflow": {"uri": uri, "experiment": "nightly"}, "timeout": 60}
    records = []
    for budgets in ({}, {"contract": {"max_rows": 4}}):
        job = write_job(tmp_path, logistic_onnx, sinks=sinks, budgets=budgets)
        records.append(run(RunRequest(config=read_config(str(job)), run_id="r")))
    assert capsys.readouterr().out == ""
    client = MlflowClient()
    experiment = client.get_experiment_by_name("nightly")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], order_by=["start_time ASC"])
    assert [one.data.tags["batchscore.state"] for one in runs] == ["HELD_BACK", "PARTIALLY_SUCCEEDED"]
    for told, record in zip(runs, records, strict=True):
        assert (told.info.run_name, told.info.status) == ("r", "FINISHED")
        assert told.info.end_time == int(record.ended_at.timestamp() * 1000)
        metrics = told.data.metrics
        assert metrics["rows_in"] == record.account.rows_in.rows
        assert (metrics["scored"], metrics["quarantined"]) == (record.account.scored.rows, 4)
        assert metrics["seconds"] == record.seconds
        for phase, seconds in record.worker_seconds.items():
            assert metrics[f"worker_seconds/{phase}"] == seconds
        assert record.model is not None
        assert told.data.params["bundle_sha256"] == record.model.bundle_sha256
        kept = Path(client.download_artifacts(told.info.run_id, "record.json", str(tmp_path)))
        assert kept.read_bytes() == record.to_bytes()
        tasks = pq.read_table(client.download_artifacts(told.info.run_id, "tasks.parquet", str(tmp_path)))
        assert tasks["rows_in"].to_pylist() == [record.account.rows_in.rows // 2] * 2
