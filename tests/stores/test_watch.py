"""The reader that looks while tests disturb a run finds what may not be there."""

from __future__ import annotations

import io
import json
import time
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.faults.watch import Watch
from tests.stores.places import LocalPlace

if TYPE_CHECKING:
    from pathlib import Path

WANTED = {1: 0.25, 2: 0.5}


def parquet(scores: list[tuple[int, float]]) -> bytes:
    """A file of predictions."""
    sink = io.BytesIO()
    pq.write_table(pa.table({"id": [key for key, _ in scores], "p": [score for _, score in scores]}), sink)
    return sink.getvalue()


def arrow(paths: list[str]) -> bytes:
    """A table of files."""
    sink = pa.BufferOutputStream()
    table = pa.table({"path": pa.array(paths, pa.string())})
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data


@pytest.fixture
def place(tmp_path: Path) -> LocalPlace:
    """A root with a run that is being published."""
    made = LocalPlace(tmp_path)
    made.put("out/run_id=r/part-0.parquet", parquet([(1, 0.25)]))
    return made


def commit(place: LocalPlace, *names: str) -> None:
    """Make a version of the run that has these files."""
    place.put("out/_batchscore/files.arrow", arrow([f"{place.uri}/out/{name}" for name in names]))
    entry = {"run_id": "r", "files": f"{place.uri}/out/_batchscore/files.arrow"}
    place.put("out/_batchscore/manifests/000000000001.json", json.dumps({"runs": [entry]}).encode())


def watched(place: LocalPlace) -> None:
    """Look for a while."""
    with Watch(place, {"r": WANTED}) as watch:
        while watch.looks < 2:
            time.sleep(0.01)


def test_what_is_whole_or_not_published_passes(place: LocalPlace) -> None:
    """Files that no version names are nothing, and a whole version is its run."""
    watched(place)
    place.put("out/run_id=r/part-1.parquet", parquet([(2, 0.5)]))
    commit(place, "run_id=r/part-0.parquet", "run_id=r/part-1.parquet")
    watched(place)
    assert Watch(place, {"r": WANTED}).published() == {"r"}


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([(1, 0.25), (2, 0.5)], "an id of r twice"),
        ([(2, 0.75)], "1 scores are others"),
        ([(2, 0.5), (3, 0.5)], "1 are nobody's"),
        ([], "1 ids are missing"),
    ],
)
def test_a_row_that_may_not_be_there_is_found(place: LocalPlace, rows: list[tuple[int, float]], told: str) -> None:
    """A row that is there twice, with another score, for nobody, or not at all, is found in a version."""
    place.put("out/run_id=r/part-1.parquet", parquet(rows))
    commit(place, "run_id=r/part-0.parquet", "run_id=r/part-1.parquet")
    with pytest.raises(AssertionError, match=told):
        watched(place)


def test_a_file_that_a_version_names_and_nobody_has_is_found(place: LocalPlace) -> None:
    """A version of which a file is gone is no version."""
    commit(place, "run_id=r/part-0.parquet", "run_id=r/part-1.parquet")
    with pytest.raises(AssertionError, match="is gone"):
        watched(place)


def test_a_mark_on_a_half_folder_is_found(place: LocalPlace) -> None:
    """A folder that has its mark and not all rows is found, whatever the versions say."""
    place.put("out/run_id=r/_SUCCESS", b"")
    with pytest.raises(AssertionError, match="1 ids are missing"):
        watched(place)
