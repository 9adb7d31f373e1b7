from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import yaml
from pydantic import ValidationError

from jobs.config.spark import Spark
from tests.scoring.workshop import logistic_bundle, logistic_scores, numbers, with_values

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.servers, pytest.mark.connect, pytest.mark.timeout(300)]

HERE = Path(__file__).parent
CHECKOUT = HERE.parent.parent
ROWS = 60
BAD = {0: 1000.0, 33: None}


def free_port() -> str:
    """A port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return str(taken.getsockname()[1])


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What clients saw of a server whose workers do not find our code beside them."""
    folder, port = tmp_path_factory.mktemp("connect"), free_port()
    bare = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "SPARK_REMOTE"}}
    log = folder / "server.log"
    command = [sys.executable, str(HERE / "connect_server.py"), port, str(folder)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with log.open("w") as stderr, subprocess.Popen(command, cwd=folder, env=bare, stderr=stderr, **pipes) as server:
        try:
            logistic_bundle(folder / "bundle")
            pq.write_table(with_values(numbers(ROWS), "f2", BAD), folder / "rows.parquet")
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n", log.read_text()
            # A client needs no Java.
            environment = {**bare, "PYTHONPATH": str(CHECKOUT), "PATH": "/nowhere", "JAVA_HOME": "/nowhere"}
            yield {**asked(folder, port, environment), "folder": folder, "port": port, "environment": environment}
        finally:
            server.communicate(timeout=30)


def asked(folder: Path, port: str, environment: dict[str, str]) -> dict[str, Any]:
    """What a client prints that runs in a process of its own, since one cannot have both kinds of session."""
    command = [sys.executable, str(HERE / "connect_client.py"), port, str(folder)]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def expected() -> dict[int, float]:
    """By id what onnxruntime alone says of the rows that the contract takes."""
    return {row: float(score) for row, score in enumerate(logistic_scores(numbers(ROWS))) if row not in BAD}


def test_connect_gives_what_onnxruntime_gives(told: dict[str, Any]) -> None:
    """On Spark Connect `score` and `score_udf` give each row its score, and refused ones null and a reason."""
    assert told["kind"] == "pyspark.sql.connect.session"
    for way in ("frame", "function"):
        assert {row["id"]: row["p"] for row in told[way] if row["p"] is not None} == pytest.approx(expected(), abs=1e-6)
        assert {row["id"] for row in told[way] if row["rejected"] is not None} == set(BAD)
        assert len(told[way]) == ROWS


def test_connect_knows_the_function_in_sql(told: dict[str, Any]) -> None:
    """A registered function is called from SQL on the server, and its result filtered there."""
    wanted = {row: score for row, score in expected().items() if score > 0.5}
    assert {row["id"]: row["p"] for row in told["sql"]} == pytest.approx(wanted, abs=1e-6)


def test_connect_brings_the_code(told: dict[str, Any]) -> None:
    """The workers run the client's code out of the archive that was sent, though they may have other code."""
    assert told["code"]["digest"] == told["own"]
    assert all("batchscore-code-" in place for place in told["code"]["places"])


def test_connect_tells_our_errors(told: dict[str, Any]) -> None:
    """A row that was refused is told to the client in our words, without its value."""
    assert told["failure"].startswith("scoring.errors.RowsRefused: the DataFrame: 1 of 1 row of a batch has no score")


def test_connect_gives_the_features_of_a_spec(told: dict[str, Any]) -> None:
    """`etl.spark.transform` makes on the server what the spec makes in memory; rejected rows stay, with a reason."""
    given = with_values(numbers(ROWS), "f2", BAD)
    expected_rows = {
        row["id"]: [row[f"f{number}"] for number in range(4)] for row in given.to_pylist() if row["id"] not in BAD
    }
    found = {row["id"]: row for row in told["features"]}
    made = {key: row["X"] for key, row in found.items() if row["X"] is not None}
    assert made.keys() == expected_rows.keys()
    assert all(made[key] == pytest.approx(values) for key, values in expected_rows.items())
    assert {key for key, row in found.items() if row["rejection"] is not None} == set(BAD)


def test_what_a_server_cannot_do_is_told(told: dict[str, Any]) -> None:
    """A fit needs a folder that the server's workers reach, too: nobody knows that they are on this machine."""
    assert told["refusal"] == "a fit on a cluster needs scratch, a folder that the driver and all workers reach."


def job(told: dict[str, Any], name: str, **sections: Any) -> Path:
    """The config of a job over the server's rows."""
    folder: Path = told["folder"]
    path = folder / f"{name}.yaml"
    document = {
        "api_version": "batchscore/1",
        "name": name,
        "input": {"files": str(folder / "rows.parquet")},
        "model": {"bundle": str(folder / "bundle")},
        "output": {"uri": str(folder / name), "passthrough": ["id"]},
        "budgets": {"contract": {"max_rows": len(BAD)}},
        "spark": {"remote": f"sc://127.0.0.1:{told['port']}"},
        **sections,
    }
    path.write_text(yaml.safe_dump(document))
    return path


def command(told: dict[str, Any], *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What our command line says in a process of its own."""
    line = [sys.executable, "-m", "jobs.main", *words]
    environment = {**told["environment"], **variables}
    return subprocess.run(
        line, cwd=told["folder"], env=environment, capture_output=True, text=True, timeout=100, check=False
    )


@pytest.mark.parametrize("source", ["files", "sql"])
def test_a_job_runs_on_connect(told: dict[str, Any], source: str) -> None:
    """`plan` and `run` work over Spark Connect, from files and from a query: what is published is what onnxruntime
    gives, and the rows that were refused are in quarantine."""  # noqa: D205, D209  one sentence
    given = {"files": str(told["folder"] / "rows.parquet")}
    if source == "sql":
        given = {"sql": f"select * from parquet.`{told['folder']}/rows.parquet`"}  # noqa: S608  the path is ours
    config = job(told, f"job-{source}", input=given)
    planned = command(told, "plan", str(config))
    assert planned.returncode == 0, planned.stderr
    done = command(told, "run", str(config), "--run-id", "r")
    assert done.returncode == 0, done.stderr
    published = ds.dataset(told["folder"] / f"job-{source}" / "run_id=r", format="parquet").to_table(["id", "p"])
    assert dict(zip(*published.to_pydict().values(), strict=True)) == pytest.approx(expected(), abs=1e-6)
    record = json.loads((told["folder"] / f"job-{source}" / "_batchscore" / "runs" / "r" / "record.json").read_text())
    assert record["account"]["quarantined"]["rows"] == len(BAD)


def test_the_server_may_be_named_by_the_environment(told: dict[str, Any]) -> None:
    """SPARK_REMOTE says the server, as everywhere in Spark; settings that only a server can make are told as unused."""
    config = job(told, "by-environment", spark={"conf": {"spark.executor.memory": "3g"}})
    done = command(told, "run", str(config), "--run-id", "r", SPARK_REMOTE=f"sc://127.0.0.1:{told['port']}")
    assert done.returncode == 0, done.stderr
    assert "not used with Spark Connect (spark.executor.memory); set it where the server is started" in done.stderr


def test_a_server_that_is_not_there_is_told_at_once(told: dict[str, Any]) -> None:
    """Nobody listens: one line with the place and what to look at, and never the token that was given with it."""
    port = free_port()
    remote = f"sc://127.0.0.1:{port}/;token=hush-hush-hush"
    done = command(told, "run", str(job(told, "nowhere", spark={})), "--run-id", "r", SPARK_REMOTE=remote)
    assert done.returncode == 1
    assert f"no session of Spark Connect at sc://127.0.0.1:{port}: [Errno 111] Connection refused" in done.stderr
    assert "Traceback" not in done.stderr
    assert "hush" not in done.stderr + done.stdout


@pytest.mark.parametrize(
    ("remote", "reason"),
    [
        ("sc://h:1/;token=hush-hush", "may have no parameters but grpc_max_message_size"),
        ("sc://h:1/;user_id=u;x-api-key=hush-hush", "any other is a header, such as a token or a key"),
        ("sc://h:port", "is no address of a server: write sc://HOST:PORT"),
        ("sc://me:hush-hush@h", "is no address of a server"),
        ("http://h:1", "is no address of a server"),
    ],
)
def test_an_address_has_no_secret(remote: str, reason: str) -> None:
    """A config is stored with the run and shown: what only the environment may say is refused, and not repeated."""
    with pytest.raises(ValidationError, match=re.escape(reason)) as caught:
        Spark.model_validate({"remote": remote})
    assert all("hush" not in fault["msg"] for fault in caught.value.errors())
    assert Spark.model_validate({"remote": "sc://h:15002/;use_ssl=true;user_id=u"}).remote is not None
