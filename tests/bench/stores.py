"""Measure runs over S3 beside the same on local files: `python -m tests.bench.stores`, as `make bench` does.

The server is versitygw over a folder of this disk, on the loopback, so what is measured is the protocol and our clients.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import platform
import shutil
import statistics
import tempfile
import time
import tracemalloc
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from etl.runs.commit import Terms
from etl.runs.layout import Layout
from etl.runs.publish import publish
from etl.runs.receipt import Written
from etl.runs.storage import storage_for
from etl.runs.store_settings import StoreSettings, configure
from jobs.config.job import JobConfig
from jobs.config.spark import Spark
from jobs.planning.plan import load_plan, target_of
from jobs.planning.resolving import list_inputs, make_plan, store_plan
from jobs.run import RunRequest, run
from jobs.session import start_session
from jobs.settling.receipts import receipts_of
from tests.bench.contender import CORES
from tests.bench.models import mlp
from tests.bench.workload import FEATURES
from tests.spine.builders import receipt_of
from tests.stores.servers import CREDENTIALS, versitygw

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import IO

    from etl.runs.receipt import Receipt

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "BENCHMARKS-STORES.md"
BUCKET = "bench"
SMALL_FILES = 10_000
SMALL_ROWS = 500
GROUP_ROWS = 1 << 17
LARGE_BYTES = 4_000_000_000
SCHEMA = pa.schema([("id", pa.int64()), ("score", pa.float32())])
_THREADS = 16
_ONCE = 24
"""Requests of a publication that it makes once, and a page of a listing for a thousand files."""


class Line(NamedTuple):
    """A row of the table."""

    what: str
    found: str
    aim: str
    is_met: bool | None
    """None where nothing was aimed at."""


class Place(NamedTuple):
    """Where files are, as the server has them on disk, and as it serves them."""

    disk: Path
    url: str
    log: Path
    """What the server was asked, a request a line."""

    @property
    def uri(self) -> str:
        """Of the bucket."""
        return f"s3://{BUCKET}"

    def requests(self) -> int:
        """How many there were so far."""
        return sum(1 for _ in self.log.open()) if self.log.exists() else 0


def main() -> None:
    """Measure one thing after the other, print the table, and write the page if that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--share", type=float, default=1.0, help="of the files and bytes: whether it works")
    parser.add_argument("--page", action="store_true", help="write docs/BENCHMARKS-STORES.md")
    asked = parser.parse_args()
    with _place() as place:
        lines = [*_throughput(place, asked), *_planning(place, asked), *_publication(place, asked)]
    table = "\n".join(_table(lines, asked))
    print(table)
    if asked.page:
        PAGE.write_text(table + "\n", encoding="utf-8")


@contextlib.contextmanager
def _place() -> Generator[Place]:
    os.environ.update(CREDENTIALS)
    with tempfile.TemporaryDirectory(dir=ROOT / ".cache") as folder:
        log = Path(folder) / "requests"
        with versitygw(Path(folder) / "served", "--keep-alive", "--access-log", str(log)) as url:
            configure([StoreSettings(uri=f"s3://{BUCKET}", endpoint=url)])
            boto3.client("s3", endpoint_url=url).create_bucket(Bucket=BUCKET)
            yield Place(Path(folder) / "served" / "data" / BUCKET, url, log)


def _rows(count: int, first: int, generator: np.random.Generator) -> pa.Table:
    columns = {name: generator.standard_normal(count, np.float32) for name in FEATURES}
    return pa.table({"id": np.arange(first, first + count), **columns})


def _write_large(folder: Path, size: int) -> int:
    """One file of about so many bytes; its rows."""
    generator = np.random.default_rng(7)
    folder.mkdir(parents=True)
    rows = 0
    with pq.ParquetWriter(folder / "part.parquet", _rows(1, 0, generator).schema, compression="zstd") as writer:
        while (folder / "part.parquet").stat().st_size < size:
            writer.write_table(_rows(GROUP_ROWS, rows, generator), row_group_size=GROUP_ROWS)
            rows += GROUP_ROWS
    return rows


def _write_small(folder: Path, files: int) -> int:
    folder.mkdir(parents=True)
    table = _rows(SMALL_ROWS * files, 0, np.random.default_rng(7))
    for number in range(files):
        part = table.slice(number * SMALL_ROWS, SMALL_ROWS)
        pq.write_table(part, folder / f"part-{number:05d}.parquet", compression="zstd")
    return table.num_rows


def _upload(place: Place, folder: Path) -> None:
    """What is put into the server's folder by hand has no etags."""
    client = boto3.client("s3", endpoint_url=place.url)
    files = list(folder.rglob("*.parquet"))
    with ThreadPoolExecutor(_THREADS) as threads:
        keys = [str(path.relative_to(folder)) for path in files]
        list(threads.map(lambda path, key: client.upload_file(str(path), BUCKET, key), files, keys))


def _job(onnx: Path, source: str, out: str, url: str) -> JobConfig:
    return JobConfig.model_validate(
        {
            "api_version": "batchscore/1",
            "name": "bench",
            "input": {"files": source},
            "model": {"onnx": str(onnx), "inputs": {"X": list(FEATURES)}},
            "output": {"uri": out, "passthrough": ["id"]},
            "storage": [{"uri": f"s3://{BUCKET}", "endpoint": url}],
        }
    )


def _throughput(place: Place, asked: argparse.Namespace) -> list[Line]:
    """Read, score and write: the same files by their paths, and from the server, in turn."""
    local = place.disk.parent / "local"
    spark = start_session("bench", Spark(master=f"local[{CORES},4]", conf={"spark.driver.memory": "2g"}))
    onnx = place.disk.parent / "model.onnx"
    onnx.write_bytes(mlp((28, 256, 256, 1)).onnx)
    kinds = {
        f"one file of {LARGE_BYTES * asked.share / 1e9:g} GB": (
            "large",
            _write_large(local / "large", int(LARGE_BYTES * asked.share)),
        ),
        f"{int(SMALL_FILES * asked.share):,} files of {SMALL_ROWS} rows": (
            "small",
            _write_small(local / "small", int(SMALL_FILES * asked.share)),
        ),
    }
    _upload(place, local)
    lines = []
    for what, (name, rows) in kinds.items():
        rates: dict[str, list[float]] = {"local": [], "server": []}
        for number in range(-1, asked.rounds):
            for where, source in (("local", str(local / name)), ("server", f"{place.uri}/{name}")):
                out = str(local / "out") if where == "local" else f"{place.uri}/out"
                start = time.perf_counter()
                record = run(RunRequest(config=_job(onnx, source, out, place.url), run_id=f"r{uuid.uuid4().hex[:8]}"))
                seconds = time.perf_counter() - start
                assert record.account.scored.rows == rows
                if number >= 0:
                    rates[where].append(rows / seconds)
                shutil.rmtree(local / "out", ignore_errors=True)
                storage_for(f"{place.uri}/out")[0].remove(f"{place.uri}/out")
        ratios = [ours / local for ours, local in zip(rates["server"], rates["local"], strict=True)]
        told = f"{statistics.median(ratios):.2f} ({statistics.median(rates['server']):,.0f} rows/s)"
        lines.append(
            Line(f"{what}: read, score, write on the server ÷ on local files", told, "≥ 0.8", min(ratios) >= 0.8)
        )
    spark.stop()
    return lines


def _planning(place: Place, asked: argparse.Namespace) -> list[Line]:
    """From the listing to the stored plan, and what the driver holds of each split."""
    onnx = place.disk.parent / "model.onnx"
    config = _job(onnx, f"{place.uri}/small", f"{place.uri}/planned", place.url)
    config = config.model_copy(update={"splits": config.splits.model_copy(update={"max_files": 1})})
    seconds = []
    for number in range(asked.rounds):
        target = target_of(config, f"p{number}", scratch=False)
        start = time.perf_counter()
        files = list_inputs(config.input.patterns)
        store_plan(target, make_plan(target, config, files, latest=None))
        seconds.append(time.perf_counter() - start)
    target = target_of(config, "p0", scratch=False)
    plan = load_plan(target)
    assert plan is not None
    for split in plan.splits:
        made = receipt_of(split, scored=range(100), quarantined=range(100, 103))
        target.storage.create_if_absent(target.layout.receipt(split.name), made.to_bytes())
    count = len(plan.splits)
    del plan, files
    gc.collect()
    tracemalloc.start()
    plan = load_plan(target)
    assert plan is not None
    receipts = receipts_of(target, plan)
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] / count
    tracemalloc.stop()
    assert len(receipts) == count
    return [
        Line(f"planning {count:,} files", f"{statistics.median(seconds):.1f} s", "≤ 5 s", max(seconds) <= 5),
        Line("memory of the driver: plan and receipts", f"{held:,.0f} bytes a split", "≤ 2,048", held <= 2048),
    ]


def _publication(place: Place, asked: argparse.Namespace) -> list[Line]:
    """Completing, checking and committing many files; and how quickly the server answers such requests."""
    files = int(SMALL_FILES * asked.share)
    storage, root = storage_for(f"{place.uri}/published")
    layout = Layout(root, "many")
    receipts = _pending(layout, files)
    before, start = place.requests(), time.perf_counter()
    publish(storage, layout, receipts, schema=SCHEMA, terms=Terms(), on_step=lambda _: None)
    seconds = time.perf_counter() - start
    asked_for = place.requests() - before
    rate = _rate(place, files)
    least = asked_for / rate
    times = seconds / least
    return [
        Line(
            f"publishing {files:,} files",
            f"{asked_for / files:.2f} requests a file",
            "≤ 4",
            asked_for <= 4 * files + _ONCE,
        ),
        Line(
            f"publishing {files:,} files: time ÷ (requests ÷ {rate:,.0f} a second that the server answers)",
            f"{times:.2f} ({seconds:.1f} s)",
            "≤ 1.5",
            times <= 1.5,
        ),
    ]


def _pending(layout: Layout, files: int) -> list[Receipt]:
    storage, _ = storage_for(layout.root)
    sources = list_inputs((f"s3://{BUCKET}/small",))
    from etl.runs.splits import cut_splits

    splits = cut_splits(sources, 1 << 30)[:files]
    table = pa.table({"id": range(100), "score": [0.5] * 100}, SCHEMA)

    def one(number: int) -> Receipt:
        split = splits[number]
        writer = storage.begin(layout.part(split.name, "abcdef"))
        pq.write_table(table, cast("IO[bytes]", writer))
        receipt = receipt_of(split, scored=range(100))
        return receipt.model_copy(update={"predictions": (Written(pending=writer.finish(), rows=100),)})

    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(one, range(files)))


def _rate(place: Place, files: int) -> float:
    """Requests a second of the four kinds that a publication makes, by boto3 alone in as many threads."""
    from botocore.config import Config

    client: Any = boto3.client("s3", endpoint_url=place.url, config=Config(max_pool_connections=_THREADS))
    count = min(files, 1_000)
    uploads = []
    for number in range(count):
        key = f"rate/{number}"
        upload = client.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
        part = client.upload_part(Bucket=BUCKET, Key=key, UploadId=upload, PartNumber=1, Body=b"x" * 2_000)
        uploads.append((key, upload, part["ETag"]))

    def four(item: tuple[str, str, str]) -> None:
        key, upload, etag = item
        client.list_parts(Bucket=BUCKET, Key=key, UploadId=upload)
        parts = {"Parts": [{"ETag": etag, "PartNumber": 1}]}
        client.complete_multipart_upload(
            Bucket=BUCKET, Key=key, UploadId=upload, MultipartUpload=parts, IfNoneMatch="*"
        )
        client.head_object(Bucket=BUCKET, Key=key)
        client.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    start = time.perf_counter()
    with ThreadPoolExecutor(_THREADS) as threads:
        list(threads.map(four, uploads))
    return 4 * count / (time.perf_counter() - start)


def _table(lines: list[Line], asked: argparse.Namespace) -> list[str]:
    words = {True: "met", False: "**not met**", None: ""}
    return [
        "# Runs over S3",
        "",
        f"versitygw 1.8.0 over a local disk, on the loopback, {CORES} cores for driver, workers and server together.",
        f"Medians of {asked.rounds} rounds, in turn. {platform.platform()}. Made by `make bench`.",
        "",
        "| | found | aim | |",
        "| --- | ---: | ---: | --- |",
        *(f"| {line.what} | {line.found} | {line.aim} | {words[line.is_met]} |" for line in lines),
    ]


if __name__ == "__main__":
    main()
