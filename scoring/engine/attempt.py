"""One attempt at one split: its files, its counts, its clocks, and the receipt that commits it."""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from etl.arrivals import ORIGIN
from etl.errors import PendingLost, StorageError
from etl.runs.digest import file_seed, row_hashes
from etl.runs.keys import KeyWriter
from etl.runs.parts import PartsWriter
from etl.runs.read import ROW, RowGroups, check_pinned, numbers_of, rows_of
from etl.runs.receipt import EMPTY, Receipt, RowTally, SplitAccount
from etl.runs.storage import storage_for
from etl.runs.write import ArrowWriter
from scoring.engine.owner import Owner
from scoring.engine.sketching import sketcher_of
from scoring.quarantine import places_read, quarantine_batch, quarantine_schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pyarrow as pa

    from etl.contract import Contract
    from etl.frame import Rejection
    from etl.runs.layout import Layout
    from etl.runs.receipt import BatchFacts, WorkerFacts
    from etl.runs.splits import Split
    from etl.runs.storage import Storage
    from scoring.order import Order

__all__ = ["Attempt", "receipt_of"]


def receipt_of(storage: Storage, layout: Layout, split: Split) -> Receipt | None:
    """The split's receipt, or None while nobody has committed one."""
    path = layout.receipt(split.name)
    data = storage.read_bytes(path)
    return Receipt.from_bytes(data, where=path) if data is not None else None


class Attempt(Owner):
    """What one attempt makes of a split. Each of its counts and files belongs to one stage, and so to one thread."""

    def __init__(self, *, storage: Storage, layout: Layout, order: Order, split: Split) -> None:
        """Nothing is written before there are rows."""
        super().__init__(split.where)
        self.storage = storage
        self.layout = layout
        self.order = order
        self.split = split
        self.name = uuid.uuid4().hex[:12]
        self.bytes_read = 0
        self.row_groups = RowGroups()
        """Those that were opened so far."""
        self.read_at_once: set[str] = set()
        """Files that nobody can have replaced while they were read."""
        self.keys: dict[str, KeyWriter] = {}
        self.sketcher = sketcher_of(order.sketch, split)
        """None where nothing is to be sketched."""
        self._seeds = np.array([file_seed(part.file.path) for part in split.ranges], dtype=np.uint64)
        self._started_at = datetime.now(UTC)
        self._tallies: defaultdict[tuple[str, str], RowTally] = defaultdict(lambda: EMPTY)
        self.contained_rows: Counter[str] = Counter()
        """Rows that were given to a model in a process of its own, by model."""
        self.unscored: Counter[str] = Counter()
        """Published rows without a score of a model that is not required, by `model/CODE`."""
        self._by_model: dict[str, RowTally] = {}
        self._reasons: Counter[str] = Counter()
        self._predictions: PartsWriter | None = None
        self._quarantine: ArrowWriter | None = None

    def open(self, *, published: pa.Schema, contract: Contract, unique: Iterable[str]) -> None:
        """Say what will be written."""
        self._contract = contract
        place = partial(self.layout.part, self.split.name, self.name)
        self._predictions = PartsWriter(self.storage, place, schema=published, shape=self.order.shape)
        aside = self.layout.quarantine(self.split.name, self.name)
        self._quarantine = ArrowWriter(self.storage, aside, quarantine_schema(contract))
        for name in unique:
            self.keys[name] = KeyWriter(self.storage, self.layout.keys(name, self.split.name, self.name))

    def place(self, batch: pa.RecordBatch, row: int | None = None) -> str:
        """File and index of a row of a batch, by its position, or of where the batch begins."""
        places = batch.column(ROW).slice(row or 0, 1).to_numpy()
        path, index = self.split.ranges[numbers_of(places)[0]].file.path, int(rows_of(places)[0])
        if self.order.sources:
            [origin] = batch.column(ORIGIN).slice(row or 0, 1).to_pylist()
            path, index = self.order.sources[origin["file"]].path, origin["row"]
        return f"{path}, {'in the batch that begins at ' if row is None else ''}row {index}"

    def note_keys(self, name: str, digests: np.ndarray) -> None:
        """They are compared when all splits are there."""
        self.keys[name].write(digests)

    def hashes(self, batch: pa.RecordBatch) -> np.ndarray:
        """Identities of rows of the split."""
        return self._hashes(batch.column(ROW).to_numpy())

    def _hashes(self, places: np.ndarray) -> np.ndarray:
        if self._seeds.size == 1:
            return row_hashes(int(self._seeds[0]), places)
        return row_hashes(self._seeds[numbers_of(places)], rows_of(places))

    def count(self, stage: str, outcome: str, hashes: np.ndarray) -> None:
        """Rows with these identities went in, or went somewhere."""
        self._tallies[stage, outcome] += RowTally.of_hashes(hashes)

    def unplaceable(self, rows: pa.RecordBatch) -> Iterator[tuple[str, np.ndarray]]:
        """Of predictions, by column, those whose value no folder can say."""
        assert self._predictions is not None  # noqa: S101  as below
        return self._predictions.partitioning.unplaceable(rows)

    def publish(self, rows: pa.RecordBatch) -> None:
        """Predictions, as they are to be read."""
        assert self._predictions is not None  # noqa: S101  `open` comes before
        self._predictions.write(rows)

    def set_aside(self, batch: pa.RecordBatch, rejections: list[Rejection]) -> None:
        """Rows that nobody can score, each once, under the first rule that rejected it."""
        assert self._quarantine is not None  # noqa: S101  as above
        bad = quarantine_batch(
            batch,
            rejections,
            split=self.split,
            row_groups=self.row_groups,
            contract=self._contract,
            sources=self.order.sources,
        )
        self._quarantine.write(bad)
        self.count("write", "quarantined", self._hashes(places_read(bad, self.split)))
        for stage, code in zip(bad.column("stage").to_pylist(), bad.column("code").to_pylist(), strict=True):
            self._reasons[f"{stage}/{code}"] += 1

    def count_model(self, model: str, hashes: np.ndarray) -> None:
        """Rows with these identities are published with scores of one of several models."""
        self._by_model[model] = self._by_model.get(model, EMPTY) + RowTally.of_hashes(hashes)

    @property
    def account(self) -> SplitAccount:
        """Where the rows went so far."""
        total = SplitAccount()
        for (_, outcome), tally in self._tallies.items():
            total += SplitAccount(**{outcome: tally})
        return total

    def finish(self, worker: WorkerFacts, batches: dict[str, BatchFacts]) -> Receipt:
        """Make the files durable and commit; the receipt is another attempt's where that was first.

        Raises:
            InputChanged: an input file was replaced while it was read. Put back, it would be taken for what was scored.
        """
        assert self._predictions is not None  # noqa: S101  as above
        assert self._quarantine is not None  # noqa: S101  as above
        self._check_input()
        with self.clock("write"):
            predictions, quarantine = self._predictions.finish(), self._quarantine.finish()
            keys = {name: made for name, writer in self.keys.items() if (made := writer.finish()) is not None}
            for written in filter(None, (quarantine, *keys.values())):
                self.storage.complete(written.pending)
        receipt = Receipt(
            run_id=self.order.run_id,
            split=self.split.index,
            attempt=self.name,
            account=self.account,
            predictions=predictions,
            quarantine=quarantine,
            reasons=dict(self._reasons),
            expectations=dict(self.expectations),
            non_finite=dict(self.non_finite),
            by_variant=self.order.combination is not None and self.order.combination.is_variant,
            by_model=self._by_model,
            unscored=dict(self.unscored),
            keys=keys,
            sketch=self._store_sketch(),
            seconds=_rounded(self.seconds.copy()),
            waiting=_rounded(self.waiting.copy()),
            batches=batches,
            contained_rows=self.contained_rows.total(),
            bytes_read=self.bytes_read,
            started_at=self._started_at,
            ended_at=datetime.now(UTC),
            worker=worker,
        )
        # From here on a receipt may name the files: `abort` is not to touch them.
        self._predictions, self._quarantine, self.keys = None, None, {}
        return self._commit(receipt)

    def _store_sketch(self) -> str | None:
        if self.sketcher is None:
            return None
        with self.clock("sketch"):
            return self.sketcher.store(self.storage, self.layout.sketch(self.split.name, self.name))

    def _check_input(self) -> None:
        for part in self.split.ranges:
            if part.file.path not in self.read_at_once:
                check_pinned(storage_for(part.file.path)[0], part.file)

    def abort(self) -> None:
        """Throw the files away, unless a receipt may name them."""
        for writer in (self._predictions, self._quarantine):
            if writer is not None:
                writer.abort()
        for key in self.keys.values():
            key.abort()

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
        for written in mine.predictions:
            self.storage.abort(written.pending)
        for written in filter(None, (mine.quarantine, *mine.keys.values())):
            self.storage.delete(written.pending.path)
        if mine.sketch is not None:
            self.storage.delete(mine.sketch)


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {stage: round(spent, 6) for stage, spent in seconds.items()}
