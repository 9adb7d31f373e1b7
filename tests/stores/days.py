"""Input of days, a file each, and what a version shows of them, as clients that are not ours read it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.results import open_results
from tests.numbers_job import logistic_scores, write_numbers
from tests.stores.places import scores_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.stores.places import Place

__all__ = ["put_days", "version_scores"]


def put_days(place: Place, tmp_path: Path, days: list[int], *, seed: int) -> dict[int, dict[int, float]]:
    """The input of these days, one file each; the oracle's scores by day and id."""
    found = {}
    for day in days:
        table = write_numbers(tmp_path / f"{seed}-{day}", files=1, rows=200, row_group=60, seed=seed + day)
        ids = pa.array([1000 * day + number for number in range(200)], pa.int64())
        table = table.set_column(0, "id", ids).append_column("day", pa.array([day] * 200, pa.int64()))
        sink = io.BytesIO()
        pq.write_table(table, sink, row_group_size=60)
        place.put(f"in/day-{day}.parquet", sink.getvalue())
        found[day] = logistic_scores(table)
    return found


def version_scores(place: Place, seq: int | None = None) -> dict[int, float]:
    """Scores by id of a version: its manifest's files, read by a client that is not ours."""
    files = place.files("out")
    named = open_results(f"{place.uri}/out", seq=seq).files.column("path").to_pylist()
    inside = {path[path.index("/out/") + len("/out/") :] for path in named}
    renamed = {f"{number}.parquet": files[name] for number, name in enumerate(sorted(inside))}
    return scores_of(renamed)
