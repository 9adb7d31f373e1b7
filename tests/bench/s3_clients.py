"""Measure clients of S3 side by side on one Parquet file: `python -m tests.bench.s3_clients`, or `make bench-s3`.

The server is versitygw, by loopback, so what is measured is the client. Each reads all columns, then two of them, with one
thread of decoding, and the bytes alone; every sum is compared with that of the file in memory. It prints the table of
docs/STORAGE.md.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import io
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import numpy as np
import obstore
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import s3fs
from obstore.store import S3Store
from pyarrow import fs

from tests.stores.servers import CREDENTIALS, versitygw

if TYPE_CHECKING:
    from collections.abc import Callable

COLUMNS = 28
FEW = ["f3", "f17"]
KEY, BUCKET = "numbers.parquet", "bench"


def parquet(rows: int) -> bytes:
    """Random float32 in four row groups."""
    made = np.random.default_rng(7)
    table = pa.table({f"f{number}": made.random(rows, dtype=np.float32) for number in range(COLUMNS)})
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", use_dictionary=False, row_group_size=-(-rows // 4))
    return sink.getvalue()


def read(source: Any, columns: list[str] | None, **options: Any) -> float:
    """Decode with one thread; the sum of all values."""
    table = pq.ParquetFile(source, **options).read(columns, use_threads=False)
    return sum(pc.sum(column).as_py() for column in table.columns)


def best(rounds: int, work: Callable[[], float | None], wanted: float | None) -> str:
    """The shortest time of a few, in words."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        found = work()
        times.append(time.perf_counter() - start)
        if wanted is not None and (found is None or abs(found - wanted) > 1e-6 * abs(wanted)):
            message = f"a client gave another sum: {found} and not {wanted}"
            raise RuntimeError(message)
    return f"{min(times):.2f} s"


def version(name: str) -> str:
    """A distribution with the first two numbers of its version."""
    return f"{name} {'.'.join(importlib.metadata.version(name).split('.')[:2])}"


class Clients:
    """All of them, connected to one server."""

    def __init__(self, url: str) -> None:
        """Connections are made here, and by a first request that is not measured."""
        keys = {"key": CREDENTIALS["AWS_ACCESS_KEY_ID"], "secret": CREDENTIALS["AWS_SECRET_ACCESS_KEY"]}
        region, path = CREDENTIALS["AWS_DEFAULT_REGION"], f"{BUCKET}/{KEY}"
        self.boto = boto3.client("s3", endpoint_url=url)
        self.arrow = fs.S3FileSystem(
            access_key=keys["key"],
            secret_key=keys["secret"],
            region=region,
            endpoint_override=url.partition("://")[2],
            scheme="http",
        )
        self.s3fs = s3fs.S3FileSystem(**keys, client_kwargs={"endpoint_url": url, "region_name": region})
        self.under = fs.PyFileSystem(fs.FSSpecHandler(self.s3fs))
        self.obstore = S3Store(BUCKET, endpoint=url, region=region, client_options={"allow_http": True})
        self.path = path

    def _by_boto(self) -> Any:
        return self.boto.get_object(Bucket=BUCKET, Key=KEY)["Body"]

    def rows(
        self, data: bytes
    ) -> dict[str, tuple[Callable[[list[str] | None], float] | None, Callable[[], Any] | None]]:
        """Name of a client to what reads columns, and to what reads the bytes alone."""
        return {
            "decoding from memory": (lambda columns: read(pa.BufferReader(data), columns), None),
            f"{version('pyarrow')}, chunks of a row group at once": (
                lambda columns: read(self.arrow.open_input_file(self.path), columns, pre_buffer=True),
                lambda: self.arrow.open_input_file(self.path).read(),
            ),
            f"{version('pyarrow')}, streamed, 256 KiB a request": (
                lambda columns: read(
                    self.arrow.open_input_file(self.path), columns, pre_buffer=False, buffer_size=256 << 10
                ),
                None,
            ),
            f"{version('s3fs')}, as a file": (
                lambda columns: read(self.s3fs.open(self.path), columns, pre_buffer=True),
                lambda: self.s3fs.cat_file(self.path),
            ),
            f"{version('s3fs')} under pyarrow, chunks at once": (
                lambda columns: read(self.under.open_input_file(self.path), columns, pre_buffer=True),
                None,
            ),
            version("obstore"): (None, lambda: obstore.get(self.obstore, KEY).bytes()),
            version("boto3"): (None, lambda: self._by_boto().read()),
        }


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_600_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    data = parquet(options.rows)
    os.environ.update(CREDENTIALS)
    sums = {columns: read(pa.BufferReader(data), list(columns) or None) for columns in ((), tuple(FEW))}
    with tempfile.TemporaryDirectory() as folder, versitygw(Path(folder)) as url:
        clients = Clients(url)
        clients.boto.create_bucket(Bucket=BUCKET)
        clients.boto.upload_fileobj(io.BytesIO(data), BUCKET, KEY)
        print(f"{len(data) / 1e6:.0f} MB, best of {options.rounds}\n")
        print(f"| | all columns | {len(FEW)} of {COLUMNS} | the bytes alone |\n| --- | ---: | ---: | ---: |")
        for name, (by_columns, whole) in clients.rows(data).items():
            cells = ["", "", ""]
            if by_columns is not None:
                by_columns(FEW)
                for at, columns in enumerate(sums):
                    cells[at] = best(options.rounds, lambda: by_columns(list(columns) or None), sums[columns])  # noqa: B023  called at once
            if whole is not None:
                cells[2] = best(options.rounds, whole, None)
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
