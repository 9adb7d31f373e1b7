"""Input in a store that is damaged, replaced or does not answer: three things that must not be taken for each other."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl.errors import BatchscoreError, InputChanged
from etl.runs.damage import load_damaged
from jobs.config.job import read_config
from jobs.errors import InputUnfit
from jobs.history.runs import find_run
from jobs.record import RunState
from jobs.run import RunRequest, run
from scoring.errors import TasksFailed
from tests.numbers_job import logistic_scores, published_scores, write_numbers
from tests.stores.places import PLACES, Place, S3Place, scores_of
from tests.stores.proxy import Asked, Fault, proxied

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyspark.sql import SparkSession

    from tests.numbers_job import JobWriter

pytestmark = pytest.mark.stores

FILES, ROWS, GROUP, BAD = 3, 4_000, 1_000, 1


class Input(NamedTuple):
    """Files in a store, and what they were when they were whole."""

    place: Place
    tables: list[pa.Table]
    data: list[bytes]

    def name(self, number: int) -> str:
        """Of a file, below the place."""
        return f"in/part-{number}.parquet"


def filled(place: Place) -> Input:
    """Put files with checksums into a place."""
    found = Input(place, [], [])
    for number in range(FILES):
        ids = range(number * ROWS, (number + 1) * ROWS)
        columns = {
            f"f{at}": pa.array([(key * (at + 3)) % 17 / 10 - 0.7 for key in ids], pa.float32()) for at in range(4)
        }
        table = pa.table({"id": pa.array(ids, pa.int64()), **columns})
        sink = io.BytesIO()
        how: dict[str, Any] = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
        pq.write_table(table, sink, row_group_size=GROUP, **how)
        found.tables.append(table)
        found.data.append(sink.getvalue())
        place.put(found.name(number), sink.getvalue())
    return found


@pytest.fixture(params=["moto", "hdfs"])
def there(request: pytest.FixtureRequest) -> Input:
    """Input in two kinds of stores."""
    return filled(PLACES[request.param](request))


@pytest.fixture
def write_job(job_file: JobWriter) -> Callable[..., Path]:
    """Write a job over an input whose files are cut into several splits."""

    def write(found: Input, **sections: Any) -> Path:
        place = found.place
        given = {
            "input": {"files": f"{place.uri}/in", "on_damaged": "quarantine"},
            "output": {"uri": f"{place.uri}/out", "passthrough": ["id"]},
            "splits": {"target_bytes": "25KB", "task_bytes": 1},
            **sections,
        }
        return job_file(**given)

    return write


def start(job: Path, on_phase: Callable[[str], None] = lambda _: None) -> Any:
    """Run in this process."""
    return run(RunRequest(config=read_config(str(job)), run_id="r"), on_phase)


def flipped(data: bytes) -> bytes:
    """A bit of a value in another place than the first split's."""
    chunk = pq.ParquetFile(pa.BufferReader(data)).metadata.row_group(3).column(2)
    changed = bytearray(data)
    changed[chunk.data_page_offset + chunk.total_compressed_size - 100] ^= 1
    return bytes(changed)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {"cut": lambda data: data[: len(data) // 3], "flipped": flipped}


@pytest.mark.matrix(
    "A damaged input file in a store: {damage}; policy quarantine",
    "the others are published, and it is named",
    store="{there}",
)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_of_a_store_is_set_aside(
    spark: SparkSession, there: Input, write_job: Callable[..., Path], damage: str
) -> None:
    """Keys and scores are those of the other files, and of the damaged one nothing is visible or pending."""
    there.place.put(there.name(BAD), DAMAGE[damage](there.data[BAD]))
    record = start(write_job(there))
    assert record.state is RunState.PARTIALLY_SUCCEEDED
    assert [one.file.path.rpartition("/")[2] for one in record.damaged] == ["part-1.parquet"]
    wanted = pa.concat_tables([there.tables[0], there.tables[2]])
    assert scores_of(there.place.files("out")) == pytest.approx(logistic_scores(wanted), abs=1e-6)
    assert there.place.uploads() == []
    assert record.account.adds_up
    assert record.account.quarantined.rows == (ROWS if damage == "flipped" else 0)


@pytest.mark.matrix(
    "An input file in a store is replaced before the border of {phase}", "exits 1 and names it", store="{there}"
)
@pytest.mark.parametrize("phase", ["score", "settle"])
def test_a_file_of_a_store_that_is_replaced_is_named(
    spark: SparkSession, there: Input, write_job: Callable[..., Path], phase: str
) -> None:
    """Nothing is published. In S3 the same bytes have the same etag, and the same id goes on; in HDFS they do not."""

    def replace(name: str) -> None:
        if name == phase:
            there.place.put(there.name(BAD), there.data[0])

    job = write_job(there)
    with pytest.raises(
        (InputUnfit, InputChanged), match=r"in/part-1\.parquet: was replaced .* Put the planned one back"
    ):
        start(job, replace)
    assert scores_of(there.place.files("out")) == {}
    there.place.put(there.name(BAD), there.data[BAD])
    if there.place.uri.startswith("s3://"):
        assert start(job).state is RunState.SUCCEEDED
        wanted = logistic_scores(pa.concat_tables(there.tables))
        assert scores_of(there.place.files("out")) == pytest.approx(wanted, abs=1e-6)
    else:
        with pytest.raises((InputUnfit, InputChanged), match=r"with its time of modification"):
            start(job)


@pytest.mark.matrix(
    "A store does not give an input file: {fault}",
    "exits 1 and sets nothing aside; the same command publishes",
    store="moto",
)
@pytest.mark.parametrize("fault", ["error", "busy", "cut", "reset"])
def test_a_store_that_does_not_answer_damages_no_file(
    spark: SparkSession, bucket: str, tmp_path: Path, write_job: Callable[..., Path], fault: Fault
) -> None:
    """While a file cannot be fetched the run fails and sets nothing aside; once it can, the same id goes on."""
    found = filled(S3Place(bucket, None))
    is_ill = [False]

    def judge(asked: Asked) -> Fault | None:
        return fault if is_ill[0] and asked.method == "GET" and "/in/part-1.parquet" in asked.path else None

    def fall_ill(phase: str) -> None:
        is_ill[0] = phase == "score"

    with proxied(os.environ["AWS_ENDPOINT_URL_S3"], judge) as url:
        settings = [{"uri": found.place.uri, "endpoint": url, "attempts": 2, "read_timeout": 2.0}]
        job = write_job(found, storage=settings, output={"uri": str(tmp_path / "out"), "passthrough": ["id"]})
        with pytest.raises(BatchscoreError) as told:
            start(job, fall_ill)
        assert isinstance(told.value, TasksFailed)
        assert load_damaged(*find_run(str(job), "r")) == ()
        is_ill[0] = False
        assert start(job).state is RunState.SUCCEEDED
    wanted = logistic_scores(pa.concat_tables(found.tables))
    assert published_scores(tmp_path / "out" / "run_id=r") == pytest.approx(wanted, abs=1e-6)


def test_input_and_output_may_lie_in_different_stores(
    spark: SparkSession, bucket: str, tmp_path: Path, job_file: JobWriter
) -> None:
    """Rows of S3 are published on a disk, and those of a disk in S3: each is reached as its own URI says."""
    place = S3Place(bucket, None)
    table = write_numbers(tmp_path / "in", files=2, rows=200, row_group=100)
    for path in (tmp_path / "in").iterdir():
        place.put(f"in/{path.name}", path.read_bytes())
    assert start(job_file(input={"files": f"{place.uri}/in"})).state is RunState.SUCCEEDED
    assert published_scores(tmp_path / "out" / "run_id=r") == pytest.approx(logistic_scores(table), abs=1e-6)
    assert start(job_file(output={"uri": f"{place.uri}/out", "passthrough": ["id"]})).state is RunState.SUCCEEDED
    assert scores_of(place.files("out")) == pytest.approx(logistic_scores(table), abs=1e-6)
