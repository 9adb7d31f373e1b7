"""Score splits: the data flow of a worker, in pure Arrow and numpy. It runs without Spark.

read → contract → transform → score → write → receipt
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import time
import uuid
from collections import Counter, defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from etl.arrivals import ORIGIN, check_entry
from etl.errors import PendingLost, StorageError, TransformError
from etl.expectations import unique_columns
from etl.keys import key_digests
from etl.runs.digest import file_seed, row_hashes
from etl.runs.keys import KeyWriter
from etl.runs.layout import Layout
from etl.runs.read import ROW, SplitReader
from etl.runs.receipt import Receipt, RowTally, SplitAccount, Tally, WorkerFacts
from etl.runs.storage import storage_for
from etl.runs.write import ArrowWriter, ParquetWriter
from scoring.batching import rebatch
from scoring.code import code_digest
from scoring.inference import Fed, infer
from scoring.predictions import assemble_predictions, prediction_schema
from scoring.quarantine import quarantine_batch, quarantine_schema, rows_read
from scoring.scorer import Scorer, loads_so_far, resident_scorer

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from etl.frame import Frame, Rejection
    from etl.pipeline import Features
    from etl.runs.splits import Split
    from etl.runs.storage import Storage
    from scoring.order import Order

__all__ = ["receipt_of", "score_split"]

_LINUX_RSS_UNIT = 1024


def score_split(order: Order, split: Split) -> Receipt:
    """Score one split and commit its receipt; a split that has one is not scored again.

    To be sure that it is the driver's code that does this, call `scoring.code.check_code` first.

    Raises:
        BatchscoreError: the split cannot be scored, and trying again would not help.
    """
    storage, _ = storage_for(order.root)
    layout = Layout(order.root, order.run_id)
    done = receipt_of(storage, layout, split)
    return done or _Attempt(storage=storage, layout=layout, order=order, split=split).run()


def receipt_of(storage: Storage, layout: Layout, split: Split) -> Receipt | None:
    """The split's receipt, or None while nobody has committed one."""
    path = layout.receipt(split.name)
    data = storage.read_bytes(path)
    return Receipt.from_bytes(data, where=path) if data is not None else None


class _Attempt:
    """One attempt at one split: owns its clocks, tallies and pending files."""

    def __init__(self, *, storage: Storage, layout: Layout, order: Order, split: Split) -> None:
        self.storage = storage
        self.layout = layout
        self.order = order
        self.split = split
        self.name = uuid.uuid4().hex[:12]
        self.started_at = datetime.now(UTC)
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.reasons: Counter[str] = Counter()
        self.expectations: defaultdict[str, Tally] = defaultdict(Tally)
        self.account = SplitAccount()
        self.bytes_read = 0
        self.seed = file_seed(split.file.path)

    def run(self) -> Receipt:
        """Read, transform, score and write the split, then commit."""
        with self._clock("load"):
            scorer = resident_scorer(self.storage, self.order, self.order.models[0])
        schema = prediction_schema(self.order, scorer.audited)
        self.predictions = ParquetWriter(self.storage, self.layout.part(self.split.name, self.name), schema)
        path = self.layout.quarantine(self.split.name, self.name)
        self.quarantine = ArrowWriter(self.storage, path, quarantine_schema(scorer.pipeline.spec.input))
        self.unique = unique_columns(scorer.pipeline.spec.expectations)
        places = {name: self.layout.keys(name, self.split.name, self.name) for name in self.unique}
        self.keys = {name: KeyWriter(self.storage, place) for name, place in places.items()}
        try:
            for batch in rebatch(self._read(scorer), self.order.rows_at_once):
                self._score(scorer, batch)
            receipt = self._finish(scorer)
        except BaseException:
            self.predictions.abort()
            self.quarantine.abort()
            for writer in self.keys.values():
                writer.abort()
            raise
        return self._commit(receipt)

    @contextlib.contextmanager
    def _clock(self, phase: str) -> Generator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] += time.perf_counter() - start

    def _read(self, scorer: Scorer) -> Iterator[pa.RecordBatch]:
        """The split's rows that are to be scored; every row is counted as in, the others as filtered."""
        with self._clock("read"):
            self.reader = SplitReader(self.storage, self.split)
            pipeline = scorer.pipeline
            origin = [ORIGIN] if self.order.sources else []
            check_entry(pipeline.spec, self.reader.schema, self.split.file.path, others=origin, moved=pipeline.moved)
            columns = [*pipeline.columns, *origin]
            self.bytes_read = self.reader.compressed_bytes(columns)
            batches = self.reader.batches(columns, self.order.rows_at_once)
        remaining = self.order.row_limits.get(self.split.index, self.reader.rows)
        while True:
            with self._clock("read"):
                batch = next(batches, None)
                if batch is None:
                    return
                hashes = self._hashes(batch)
                self._add(rows_in=RowTally.of_hashes(hashes))
                keep = self._kept(hashes, remaining)
                remaining -= batch.num_rows
                if keep is not None:
                    self._add(filtered=RowTally.of_hashes(hashes[~keep]))
                    batch = batch.filter(pa.array(keep))
            yield batch

    def _kept(self, hashes: np.ndarray, remaining: int) -> np.ndarray | None:
        """Which rows `sample` and `limit` leave; None for all."""
        keep = None
        if self.order.sample is not None:
            keep = hashes < np.uint64(min(self.order.sample * 2**64, 2**64 - 1))
        if remaining < hashes.size:
            within = np.arange(hashes.size) < remaining
            keep = within if keep is None else keep & within
        return keep

    def _hashes(self, batch: pa.RecordBatch) -> np.ndarray:
        return row_hashes(self.seed, batch.column(ROW).to_numpy())

    def _tally(self, index: np.ndarray) -> RowTally:
        return RowTally.of_hashes(row_hashes(self.seed, index))

    def _add(self, **tallies: RowTally) -> None:
        self.account = self.account + SplitAccount(**tallies)

    def _score(self, scorer: Scorer, batch: pa.RecordBatch) -> None:
        """Some model batches, from contract to buffered output."""
        with self._clock("transform"):
            frame = scorer.pipeline.contract(batch, self.split.file.path)
            features = self._transform(scorer, batch, frame)
            for name, tally in features.tallies.items():
                self.expectations[name] += tally
            for name, columns in self.unique.items():
                digests = key_digests(frame, columns)
                self.keys[name].write(digests if features.kept is None else digests[:, features.kept])
        with self._clock("infer"):
            rows = features.kept if features.kept is not None else np.arange(batch.num_rows)
            outputs, rows, failed = infer(scorer, Fed(features.tensors, rows), self.order.batch_rows)
        with self._clock("write"):
            if features.filtered.size:
                self._add(filtered=self._tally(batch.column(ROW).to_numpy()[features.filtered]))
            if features.rejections or failed:
                self._quarantine(scorer, batch, [*features.rejections, *failed])
            if rows.size:
                scored = assemble_predictions(self.order, scorer, frame=frame, outputs=outputs, rows=rows)
                self.predictions.write(scored)
                index = batch.column(ROW).to_numpy()
                self._add(scored=self._tally(index if rows.size == index.size else index[rows]))

    def _transform(self, scorer: Scorer, batch: pa.RecordBatch, frame: Frame) -> Features:
        try:
            return scorer.pipeline.transform(frame)
        except TransformError as error:
            place = f"{self.split.file.path}, in the batch that begins at row {batch.column(ROW)[0]}"
            raise TransformError(f"{place}: {error}") from error

    def _quarantine(self, scorer: Scorer, batch: pa.RecordBatch, rejections: list[Rejection]) -> None:
        """Set rows aside, each once, under the first rule that rejected it."""
        contract, sources = scorer.pipeline.spec.input, self.order.sources
        bad = quarantine_batch(
            batch, rejections, reader=self.reader, split=self.split, contract=contract, sources=sources
        )
        self.quarantine.write(bad)
        self._add(quarantined=self._tally(rows_read(bad)))
        for stage, code in zip(bad.column("stage").to_pylist(), bad.column("code").to_pylist(), strict=True):
            self.reasons[f"{stage}/{code}"] += 1

    def _finish(self, scorer: Scorer) -> Receipt:
        """Make the files durable; the receipt that names them."""
        with self._clock("write"):
            predictions, quarantine = self.predictions.finish(), self.quarantine.finish()
            finished = {name: writer.finish() for name, writer in self.keys.items()}
            keys = {name: written for name, written in finished.items() if written is not None}
            for written in filter(None, (quarantine, *keys.values())):
                self.storage.complete(written.pending)
        return Receipt(
            run_id=self.order.run_id,
            split=self.split.index,
            attempt=self.name,
            account=self.account,
            predictions=predictions,
            quarantine=quarantine,
            reasons=dict(self.reasons),
            expectations=dict(self.expectations),
            keys=keys,
            seconds={phase: round(seconds, 6) for phase, seconds in self.seconds.items()},
            bytes_read=self.bytes_read,
            started_at=self.started_at,
            ended_at=datetime.now(UTC),
            worker=_facts(scorer),
        )

    def _commit(self, mine: Receipt) -> Receipt:
        """Create the receipt; if another attempt was first, undo this one.

        Our files are thrown away only when our receipt certainly did not land. When the store's answer is lost, or a
        signal comes between, it may have, and a receipt without its files is void.
        """
        path = self.layout.receipt(self.split.name)
        lost: OSError | None = None
        try:
            if self.storage.create_if_absent(path, mine.to_bytes()):
                return mine
        except StorageError:
            self._throw_away(mine)
            raise
        except OSError as error:
            lost = error
        winner = receipt_of(self.storage, self.layout, self.split)
        if winner is None:
            message = f"{path}: the receipt was there and is gone. Nobody may delete receipts."
            raise lost or PendingLost(message)
        if winner.attempt != mine.attempt:
            self._throw_away(mine)
        return winner

    def _throw_away(self, mine: Receipt) -> None:
        if mine.predictions is not None:
            self.storage.abort(mine.predictions.pending)
        for written in filter(None, (mine.quarantine, *mine.keys.values())):
            self.storage.delete(written.pending.path)


def _facts(scorer: Scorer) -> WorkerFacts:
    found = scorer.deviation
    return WorkerFacts(
        host=socket.gethostname(),
        pid=os.getpid(),
        code=code_digest(),
        provider=scorer.runtime.provider,
        loads=loads_so_far(),
        peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _LINUX_RSS_UNIT,
        golden_features_ulp=None if found is None else found.features_ulp,
        golden_outputs_abs=None if found is None else found.outputs_abs,
    )
