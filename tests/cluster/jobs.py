"""Jobs that are scored on a cluster, and what else they are held against."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from etl.runs.storage import storage_for
from jobs.config.job import read_config
from jobs.history.runs import find_run, look_at
from jobs.results import open_results
from jobs.run import RunRequest, run

if TYPE_CHECKING:
    import pyarrow as pa

    from jobs.record import RunRecord

ROOT = Path(__file__).parents[2]
MONTHS = ("2013-10", "2013-11", "2013-12")


def put(folder: Path, uri: str) -> None:
    """Copy a folder, or a file, into a store."""
    storage, root = storage_for(uri)
    files = [folder] if folder.is_file() else [path for path in folder.rglob("*") if path.is_file()]
    for path in files:
        there = root if folder.is_file() else f"{root}/{path.relative_to(folder)}"
        storage.replace(there, path.read_bytes())


def put_flights(data: Path, root: str) -> None:
    """The last quarter, reference tables, and the bundle of the example."""
    for month in MONTHS:
        put(data / "flights" / month, f"{root}/flights/{month}")
    for table in ("weather", "planes"):
        put(data / f"{table}.parquet", f"{root}/{table}.parquet")
    put(ROOT / "examples" / "flights" / "bundle", f"{root}/bundle")


def write_flights_job(path: Path, root: str, **sections: Any) -> Path:
    """The example's own job, over what lies below a root."""
    job = yaml.safe_load((ROOT / "conf" / "flights.yaml").read_text(encoding="utf-8"))
    job["input"] = {"files": [f"{root}/flights/{month}" for month in MONTHS]}
    job["references"] = {name: f"{root}/{name}.parquet" for name in ("weather", "planes")}
    job["model"] = {"bundle": f"{root}/bundle"}
    job["output"]["uri"] = f"{root}/predictions"
    job["metrics"]["uri"] = f"{root}/metrics"
    del job["spark"]
    path.write_text(yaml.safe_dump({**job, **sections}), encoding="utf-8")
    return path


def run_here(job: Path, run_id: str) -> RunRecord:
    """The same job on this machine."""
    return run(RunRequest(config=read_config(str(job)), run_id=run_id))


def published(job: Path, run_id: str, key: str, *columns: str) -> pa.Table:
    """What a run published, in the order of its key."""
    return open_results(str(job), run_id).arrow([key, *columns]).sort_by(key)


def told(record: RunRecord) -> tuple[dict[str, int], dict[str, int]]:
    """Rows by what became of them, and those that were set aside by reason; digests are of the place, too."""
    account = record.account
    parts = {"in": account.rows_in, "scored": account.scored, "set aside": account.quarantined}
    return {name: tally.rows for name, tally in parts.items()}, record.reasons


def record_of(job: Path, run_id: str) -> RunRecord:
    """What is known of a run."""
    record = look_at(find_run(str(job), run_id)).record
    assert record is not None
    return record
