from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from tests.scoring.workshop import logistic_bundle, logistic_scores, numbers, with_values

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.servers

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
    """What a client saw of a server whose workers do not find our code beside them."""
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
            yield asked(folder, port, {**bare, "PYTHONPATH": str(CHECKOUT)})
        finally:
            server.communicate(timeout=30)


def asked(folder: Path, port: str, environment: dict[str, str]) -> dict[str, Any]:
    """What a client prints that runs in a process of its own, since one cannot have both kinds of session."""
    command = [sys.executable, str(HERE / "connect_client.py"), port, str(folder)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=90, check=False)
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
