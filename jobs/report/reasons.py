"""Why rows were set aside: the record's counts, with some rows of each reason from a bounded part of the quarantine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from etl.errors import BatchscoreError
from etl.printable import counted
from etl.redaction import redacted
from etl.runs.layout import model_folder
from jobs.history.quarantine import groups_of, private_of
from jobs.history.replaying import MASK
from scoring.bundles.bundle import BUNDLE_FILE, Bundle

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from etl.runs.storage import Storage
    from jobs.history.quarantine import Group, SetAside
    from jobs.planning.destination import Target
    from jobs.planning.plan import Plan
    from jobs.report.work import Quarantined

__all__ = ["Reason", "Reasons", "Sample", "reasons_of"]

_SAMPLES = 3
"""Rows that are shown of a reason."""
_FILES = 16
_ROWS = 10_000
"""Rows that are read of a file; a reason that first comes behind them is shown without samples."""
_REASONS = 30
_VALUES = 40
_LONGEST = 120
"""Characters of a value that are shown."""
_LARGE = 512 << 20
"""Bytes of a bundle above which its contract is not read again: all of its files are hashed for that."""


class Sample(NamedTuple):
    """A row that was set aside."""

    column: str
    message: str
    file: str
    row: int
    """Index in the file."""
    values: tuple[tuple[str, str], ...]
    """By input column; personal data is masked."""


class Reason(NamedTuple):
    """Rows that were set aside for one reason."""

    name: str
    """`stage/CODE`"""
    rows: int
    """As the record has it."""
    samples: tuple[Sample, ...]


class Reasons(NamedTuple):
    """All of a run, the most frequent first."""

    reasons: tuple[Reason, ...] = ()
    notes: tuple[str, ...] = ()
    """What is missing, and why; each a sentence."""


def reasons_of(
    target: Target, plan: Plan | None, counts: Mapping[str, int], *, files: Sequence[Quarantined], until: float
) -> Reasons:
    """The counts of a record with samples; no further file is opened after the time `until`, of `time.monotonic`."""
    ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:_REASONS]
    notes = [f"{len(counts) - _REASONS:,} rarer reasons are left out."] if len(counts) > _REASONS else []
    tables, problems = _read(target.storage, _choose(files, [name for name, _ in ordered]), until)
    notes += problems
    samples: dict[str, list[Sample]] = {}
    if tables and plan is not None:
        private = private_of(target) if _is_light(target.storage, plan) else frozenset[str]()
        for group in groups_of(pa.concat_tables(tables), _SAMPLES):
            known = samples.setdefault(f"{group.stage}/{group.code}", [])
            known += [_sample(group, one, private) for one in group.samples[: _SAMPLES - len(known)]]
    return Reasons(tuple(Reason(name, rows, tuple(samples.get(name, ()))) for name, rows in ordered), tuple(notes))


def _choose(files: Iterable[Quarantined], wanted: Sequence[str]) -> list[Quarantined]:
    """A few files that have enough rows of as many reasons as may be."""
    missing = dict.fromkeys(wanted, _SAMPLES)
    chosen: list[Quarantined] = []
    for file in files:
        if len(chosen) < _FILES and any(missing.get(name, 0) > 0 for name in file.reasons):
            missing = {name: rows - file.reasons.get(name, 0) for name, rows in missing.items()}
            chosen.append(file)
    return chosen


def _read(storage: Storage, files: Sequence[Quarantined], until: float) -> tuple[list[pa.Table], list[str]]:
    tables, notes = [], []
    for number, file in enumerate(files):
        if time.monotonic() > until:
            left = counted(len(files) - number, "file with samples was", "files with samples were")
            notes.append(f"{left} not read for want of time.")
            break
        try:
            tables.append(_head(storage, file.path))
        except (BatchscoreError, OSError):
            notes.append(f"{file.path} cannot be read any more.")
    return tables, notes


def _head(storage: Storage, path: str) -> pa.Table:
    """The first rows of a file, in whole batches."""
    with storage.open_input(path) as source:
        file = pa.ipc.open_file(source)
        batches, rows = [], 0
        for number in range(file.num_record_batches):
            batches.append(file.get_batch(number))
            rows += batches[-1].num_rows
            if rows >= _ROWS:
                break
        return pa.Table.from_batches(batches, file.schema).slice(0, _ROWS)


def _is_light(storage: Storage, plan: Plan) -> bool:
    """Whether the contracts of the models can be read again in no time. What is personal is null in any case."""
    size = 0
    for model in plan.order.models:
        path = f"{model_folder(plan.order.root, model.bundle_sha256)}/{BUNDLE_FILE}"
        text = storage.read_bytes(path)
        size += sum(file.bytes for file in Bundle.from_bytes(text, where=path).files.values()) if text else 0
    return size <= _LARGE


def _sample(group: Group, one: SetAside, private: frozenset[str]) -> Sample:
    values = [(name, MASK if name in private else _text(value)) for name, value in list(one.values.items())[:_VALUES]]
    return Sample(group.column, redacted(group.message), redacted(one.file), one.row, tuple(values))


def _text(value: Any) -> str:
    if value is None:
        return "null"
    text = redacted(f"{value:.7g}" if isinstance(value, float) else str(value))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
