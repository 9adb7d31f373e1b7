"""A sketch: exact counts of columns, and those of their rows that have the least hashes.

A row's hash is that of its identity, so it is random, and the same however rows are cut into batches and splits. Hence
the rows whose hash is below a bound are a random sample without replacement, and sketches of disjoint sets of rows are
merged without loss: below the lower of both bounds each knows all of its rows. It is the Theta sketch of A. Dasgupta,
K. Lang, L. Rhodes, J. Thaler, A Framework for Estimating Stream Expression Cardinalities (2016), with the columns kept
beside the hashes. Quantiles and frequent values are read off the sample: by the inequality of Dvoretzky, Kiefer and
Wolfowitz no share of rows up to some value is off by more than `error_of` of its rows, with 95 % confidence.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from etl.errors import DocumentError
from etl.sketches.counting import Counts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from etl.sketches.counting import Kind, Values

__all__ = ["EVERY", "LONGEST_TEXT", "Sampler", "Sketch", "error_of", "merge"]

LONGEST_TEXT = 256
"""Code points of a text that are kept: longer ones that begin alike are one."""
EVERY = 1 << 64
"""The bound of a sketch that has all rows."""
_CONFIDENCE = 0.95
_FORMAT = "batchscore.sketch/1"
_HEAD = b"batchscore"
_SLACK = 2
"""A sampler holds so many times the rows that it is to keep before it throws any away."""


def error_of(rows: int) -> float:
    """What a share of rows up to some value is off by at most, with 95 % confidence, in a sample of so many rows.

    √(ln(2/0.05) / 2n), as P. Massart, The Tight Constant in the Dvoretzky-Kiefer-Wolfowitz Inequality (1990).
    """
    return math.sqrt(math.log(2 / (1 - _CONFIDENCE)) / (2 * rows)) if rows else 1.0


@dataclass(frozen=True, slots=True)
class Sketch:
    """What is known of some rows."""

    kinds: Mapping[str, Kind]
    """The columns, by name, in their order."""
    counts: Mapping[str, Counts]
    """Of all rows, by column."""
    below: int
    """Bound of the hashes: the sample has each row whose hash is less, and no other. `EVERY`: it has all rows."""
    hashes: npt.NDArray[np.uint64]
    """Of the rows of the sample, ascending; shape (rows,)."""
    values: Mapping[str, Values]
    """Of the rows of the sample, by column."""

    @property
    def is_whole(self) -> bool:
        """Whether the sample has all rows."""
        return self.below == EVERY

    def to_bytes(self) -> bytes:
        """As a file of Arrow IPC; the same sketch always gives the same bytes."""
        columns = [{"name": name, "kind": kind, **_plain(self.counts[name])} for name, kind in self.kinds.items()]
        head = json.dumps({"format": _FORMAT, "below": str(self.below), "columns": columns}, sort_keys=True)
        arrays = [pa.array(self.hashes), *(pa.array(self.values[name]) for name in self.kinds)]
        fields = [pa.field(name, array.type) for name, array in zip(("", *self.kinds), arrays, strict=True)]
        schema = pa.schema(fields, metadata={_HEAD: head.encode()})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, schema) as writer:
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
        data: bytes = sink.getvalue().to_pybytes()
        return data

    @classmethod
    def from_bytes(cls, data: bytes, *, where: str) -> Sketch:
        """Read what `to_bytes` gave; `where` is the path that an error names.

        Raises:
            DocumentError: it is damaged, or of another release.
        """
        try:
            table = pa.ipc.open_file(data).read_all()
            head: dict[str, Any] = json.loads((table.schema.metadata or {})[_HEAD])
            _check_format(head["format"])
            arrays = [column.combine_chunks() for column in table.columns]
            told = head["columns"]
            return cls(
                kinds={one["name"]: one["kind"] for one in told},
                counts={one["name"]: _counts(one) for one in told},
                below=int(head["below"]),
                hashes=arrays[0].to_numpy(),
                values={
                    one["name"]: array.to_numpy() if one["kind"] == "number" else array
                    for one, array in zip(told, arrays[1:], strict=True)
                },
            )
        except (pa.ArrowException, LookupError, TypeError, ValueError) as error:
            message = f"{where}: not a sketch that this release can read: {error}."
            raise DocumentError(message) from error


def _check_format(found: object) -> None:
    if found != _FORMAT:
        message = f"its format is {found}, and that of this release {_FORMAT}"
        raise ValueError(message)


def _plain(counts: Counts) -> dict[str, Any]:
    """As JSON, which knows no infinity."""
    return {**counts._asdict(), "least": repr(counts.least), "most": repr(counts.most)}


def _counts(plain: dict[str, Any]) -> Counts:
    return Counts(int(plain["rows"]), int(plain["missing"]), float(plain["least"]), float(plain["most"]))


class Sampler:
    """Keeps the rows with the least hashes of all that flow by, `most_rows` or a few less."""

    def __init__(self, kinds: Mapping[str, Kind], most_rows: int, below: int = EVERY) -> None:
        """Start empty; with a bound, no row above it is ever looked at."""
        self.kinds = dict(kinds)
        self.most_rows = most_rows
        self.below = below
        self._rows = 0
        self._hashes: list[npt.NDArray[np.uint64]] = []
        self._values: dict[str, list[Values]] = {name: [] for name in self.kinds}

    def wanted(self, hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """The positions of those rows, of a batch with these hashes, that may be in the sample; ascending."""
        is_every = self.below == EVERY
        rows = np.arange(hashes.size) if is_every else np.flatnonzero(hashes < np.uint64(self.below))
        if rows.size > self.most_rows:
            bound = np.partition(hashes[rows], self.most_rows)[self.most_rows]
            self.below = int(bound)
            rows = rows[hashes[rows] < bound]
        return rows

    def add(self, hashes: npt.NDArray[np.uint64], values: Sequence[Values]) -> None:
        """Take in rows that were wanted, each column in its order."""
        self._rows += hashes.size
        self._hashes.append(hashes)
        for (name, kind), column in zip(self.kinds.items(), values, strict=True):
            self._values[name].append(_numbers(column) if kind == "number" else _texts(column))
        if self._rows > _SLACK * self.most_rows:
            self._compact()

    def lower(self, below: int) -> None:
        """Keep none with a hash of this or more."""
        self.below = min(self.below, below)

    def _compact(self) -> None:
        """Bring the rows into the order of their hashes, and throw away those above the bound."""
        if not self._hashes:
            return
        hashes = np.concatenate(self._hashes)
        order = np.argsort(hashes, kind="stable")
        if hashes.size > self.most_rows:
            self.lower(int(hashes[order[self.most_rows]]))
        if self.below < EVERY:
            order = order[: np.searchsorted(hashes[order], np.uint64(self.below))]
        self._hashes, self._rows = [hashes[order]], order.size
        self._values = {name: [_reordered(parts, order)] for name, parts in self._values.items()}

    def finish(self, counts: Mapping[str, Counts]) -> Sketch:
        """The sketch, with counts of all rows that flowed by."""
        self._compact()
        if not self._hashes:
            self.add(np.empty(0, np.uint64), [_none(kind) for kind in self.kinds.values()])
        values = {name: parts[0] for name, parts in self._values.items()}
        return Sketch(self.kinds, dict(counts), self.below, self._hashes[0], values)


def merge(sketches: Iterable[Sketch], most_rows: int) -> Sketch:
    """The sketch of disjoint sets of rows together, in any order, with `most_rows` in its sample at most.

    Raises:
        ValueError: there is none, or they are of other columns.
    """
    sampler: Sampler | None = None
    counts: dict[str, Counts] = {}
    for one in sketches:
        if sampler is None:
            sampler, counts = Sampler(one.kinds, most_rows), dict.fromkeys(one.kinds, Counts())
        if dict(one.kinds) != sampler.kinds:
            message = f"a sketch of {', '.join(one.kinds)} cannot be merged with one of {', '.join(sampler.kinds)}"
            raise ValueError(message)
        sampler.lower(one.below)
        counts = {name: known.merged(one.counts[name]) for name, known in counts.items()}
        rows = sampler.wanted(one.hashes)
        if rows.size:
            sampler.add(one.hashes[rows], [_at(column, rows) for column in one.values.values()])
    if sampler is None:
        message = "there is no sketch to merge"
        raise ValueError(message)
    return sampler.finish(counts)


def _numbers(column: Values) -> npt.NDArray[np.floating]:
    """In the type that holds what the column has: float32 as it is, all else as float64."""
    values = np.asarray(column)
    return values if values.dtype == np.float32 else values.astype(np.float64, copy=False)


def _texts(column: Values) -> pa.Array[Any]:
    return pc.utf8_slice_codeunits(cast("pa.StringArray", column).cast(pa.string()), 0, LONGEST_TEXT)


def _none(kind: Kind) -> Values:
    return np.empty(0, np.float64) if kind == "number" else pa.array([], pa.string())


def _at(column: Values, rows: npt.NDArray[np.int64]) -> Values:
    return column[rows] if isinstance(column, np.ndarray) else column.take(pa.array(rows))


def _reordered(parts: list[Values], order: npt.NDArray[np.int64]) -> Values:
    joined: Values
    if isinstance(parts[0], np.ndarray):
        joined = np.concatenate(cast("list[npt.NDArray[np.floating]]", parts))
    else:
        joined = pa.concat_arrays(cast("list[pa.StringArray]", parts))
    return _at(joined, order)
