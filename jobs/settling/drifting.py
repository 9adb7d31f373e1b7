"""Drift of a run, measured by its driver: sketches are merged, compared and told.

Only a value beyond a limit of `fail` holds a run back. What is missing, damaged or cannot be read is noted, and warned
of.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, wait
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from etl.errors import BatchscoreError
from etl.printable import counted
from etl.runs.layout import Layout, model_folder
from etl.runs.manifest import latest_manifest
from etl.runs.storage import storage_for
from etl.sketches.measures import portrait_of, profiled
from etl.sketches.sketch import Sketch, merge
from jobs.monitoring.drift import DriftCost, DriftFacts, DriftReport, column_facts, drift_values
from jobs.record import load_record
from scoring.bundles.bundle import spec_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from etl.runs.receipt import Receipt
    from etl.runs.storage import Storage
    from etl.sketches.measures import Portrait
    from etl.spec import Spec
    from jobs.monitoring.drift_settings import DriftSettings
    from jobs.planning.destination import Target
    from jobs.planning.plan import Plan

__all__ = ["drift_of", "forget_sketches", "load_report"]

FoundT = TypeVar("FoundT")

_THREADS = 16
_PATIENCE = 30.0
"""Seconds that the run waits for the sketches of its splits, all together, and again for what it is compared with:
stores may not answer.
"""


class _Reference(NamedTuple):
    """Something to compare with."""

    told: str
    """What it is, for people."""
    columns: dict[str, Portrait]


def load_report(target: Target) -> DriftReport | None:
    """What was measured of a run, or None."""
    data = target.storage.read_bytes(target.layout.drift)
    return DriftReport.from_bytes(data, where=target.layout.drift) if data is not None else None


def drift_of(
    target: Target, settings: DriftSettings, plan: Plan, *, receipts: Collection[Receipt], is_committed: bool
) -> DriftFacts:
    """Measure the drift of a run whose splits are all scored, and store it; of a committed run, what was stored.

    It fails nothing: where it cannot be done, that is warned of, and told in the notes.
    """
    try:
        if is_committed:
            stored = load_report(target)
            return stored.facts if stored is not None else _without("it was not measured before the run was published")
        if plan.order.sketch is None:
            return _without("the run was planned without `drift`")
        if not receipts:
            return DriftFacts(notes=("no row was read",))
        return _Comparison(target, plan, settings).report(receipts).facts
    except Exception as error:  # noqa: BLE001  whatever it is, the run does not depend on it
        return _without(f"{type(error).__name__}: {error}")


def forget_sketches(target: Target, plan: Plan) -> None:
    """Remove the sketches of splits, of a run that is published or discarded; the one of the run stays."""
    if plan.order.sketch is None:
        return
    try:
        target.storage.remove(target.layout.sketches)
    except (BatchscoreError, OSError) as error:
        warnings.warn(f"{target.layout.sketches}: sketches are not removed: {error}", stacklevel=2)


def _without(reason: str) -> DriftFacts:
    warnings.warn(f"drift is not measured: {reason}", stacklevel=3)
    return DriftFacts(notes=(f"not measured: {reason}",))


class _Comparison:
    """Of one run with all that it is compared with."""

    def __init__(self, target: Target, plan: Plan, settings: DriftSettings) -> None:
        self._target = target
        self._plan = plan
        self._settings = settings
        self._notes: list[str] = []

    def report(self, receipts: Collection[Receipt]) -> DriftReport:
        """Merge, compare and store."""
        start = time.perf_counter()
        sketch = self._merged(receipts)
        self._target.storage.replace(self._target.layout.run_sketch, sketch.to_bytes())
        references = self._references()
        columns = {name: reference.columns for name, reference in references.items()}
        values, notes = drift_values(sketch, columns, self._settings.limit)
        report = DriftReport(
            run_id=self._plan.run_id,
            measured_at=datetime.now(UTC),
            rows=max((counts.rows for counts in sketch.counts.values()), default=0),
            sampled=sketch.hashes.size,
            columns=column_facts(sketch),
            references={name: reference.told for name, reference in references.items()},
            values=tuple(values),
            notes=(*self._notes, *notes),
            cost=_cost(receipts, time.perf_counter() - start),
        )
        self._target.storage.replace(self._target.layout.drift, report.to_bytes())
        return report

    def _merged(self, receipts: Collection[Receipt]) -> Sketch:
        gaps: Counter[str] = Counter()
        sketches = self._sketches(receipts, gaps)
        try:
            merged = merge(sketches, self._settings.rows)
        except ValueError as error:
            without = ", ".join(f"{splits} of {counted(len(receipts), 'split')} {why}" for why, splits in gaps.items())
            message = f"{error} ({without})" if gaps else str(error)
            raise ValueError(message) from error
        for why, splits in gaps.items():
            self._warn(f"{splits} of {counted(len(receipts), 'split')} {why}, and their rows are not counted here")
        return merged

    def _sketches(self, receipts: Iterable[Receipt], gaps: Counter[str]) -> Iterator[Sketch]:
        """A few at a time: all of them may be more than a driver can hold."""
        left, patience = iter(receipts), _PATIENCE
        asked: dict[Future[Sketch | None], Receipt] = {}
        while True:
            for receipt in islice(left, _THREADS - len(asked)):
                asked[_begun(partial(_stored, self._target.storage, receipt.sketch))] = receipt
            start = time.monotonic()
            answers = wait(asked, max(0.0, patience), FIRST_COMPLETED).done
            patience -= time.monotonic() - start
            if not answers:
                break
            for found in answers:
                receipt = asked.pop(found)
                sketch = self._sketch_of(receipt, found)
                if sketch is not None:
                    yield sketch
                elif receipt.account.scored.rows:
                    gaps["have no sketch"] += 1
        late = sum(receipt.account.scored.rows > 0 for receipt in (*asked.values(), *left))
        if late:
            gaps[f"have a sketch that was not read within {_PATIENCE:g} s"] += late

    def _sketch_of(self, receipt: Receipt, found: Future[Sketch | None]) -> Sketch | None:
        try:
            return found.result()
        except (BatchscoreError, OSError) as error:
            self._warn(f"the sketch of split {receipt.split} cannot be read: {error}")
            return None

    def _references(self) -> dict[str, _Reference]:
        """What there is of what is asked for."""
        known: dict[str, Callable[[], _Reference | None]]
        known = {"training": self._training, "previous": self._previous}
        asked = {str(name): known[name] for name in self._settings.reference}
        if self._settings.baseline is not None:
            asked["baseline"] = self._baseline
        found: dict[str, _Reference] = {}
        until = time.monotonic() + _PATIENCE
        for name, look in asked.items():
            try:
                reference = _by(until, look)
            except (BatchscoreError, OSError) as error:
                self._warn(f"{name}: {error}")
                continue
            if reference is not None:
                found[name] = reference
        return found

    def _training(self) -> _Reference | None:
        assert self._plan.order.sketch is not None  # noqa: S101  without it nothing is compared
        wanted = {column.model for column in self._plan.order.sketch.columns if column.model is not None}
        specs = {number: self._spec(self._plan.order.models[number].bundle_sha256) for number in wanted}
        columns: dict[str, Portrait] = {}
        for column in self._plan.order.sketch.columns:
            profile = specs[column.model].reference.get(column.field) if column.model is not None else None
            portrait = profiled(profile) if profile is not None else None
            if portrait is not None:
                columns[column.name] = portrait
        if not columns:
            self._warn(
                "training: the model's spec has no profile (`reference`) of any of these columns; `fit` makes it"
            )
            return None
        return _Reference("the rows that the model's spec was fitted to", columns)

    def _spec(self, bundle_sha256: str) -> Spec:
        return spec_of(self._target.storage, model_folder(self._plan.order.root, bundle_sha256), bundle_sha256)

    def _previous(self) -> _Reference | None:
        storage, layout = self._target
        latest = latest_manifest(storage, layout.root)
        for entry in reversed(latest.runs if latest is not None else ()):
            place = Layout(layout.root, entry.run_id)
            record = load_record(storage, place.record) if entry.run_id != layout.run_id else None
            if record is None or record.job != self._plan.job or record.missing_keys is not None:
                continue
            if tuple(model.bundle_sha256 for model in record.models or (record.model,) if model) != self._plan.bundles:
                self._notes.append(f"previous: run {entry.run_id} was scored by other models")
            return self._of_run(entry.run_id, "previous")
        self._notes.append("previous: no run of this job is published yet")
        return None

    def _baseline(self) -> _Reference | None:
        baseline = str(self._settings.baseline)
        if "/" not in baseline:
            return self._of_run(baseline, "baseline")
        storage, path = storage_for(baseline)
        return self._of_sketch(_stored(storage, path), f"the sketch {baseline}", "baseline")

    def _of_run(self, run_id: str, name: str) -> _Reference | None:
        storage, layout = self._target
        path = Layout(layout.root, run_id).run_sketch
        return self._of_sketch(_stored(storage, path), f"run {run_id}", name)

    def _of_sketch(self, sketch: Sketch | None, told: str, name: str) -> _Reference | None:
        if sketch is None:
            self._warn(f"{name}: {told} is not there, or has no sketch")
            return None
        return _Reference(told, {column: portrait_of(sketch, column) for column in sketch.kinds})

    def _warn(self, note: str) -> None:
        self._notes.append(note)
        warnings.warn(f"drift: {note}", stacklevel=4)


def _by(until: float, look: Callable[[], _Reference | None]) -> _Reference | None:
    """What a look gives by a time of the monotonic clock.

    Raises:
        TimeoutError: it has given nothing by then, and is left alone.
    """
    told = _begun(look)
    try:
        return told.result(max(0.0, until - time.monotonic()))
    except TimeoutError:
        if told.done():
            raise
        message = f"it was not read within {_PATIENCE:g} s"
        raise TimeoutError(message) from None


def _begun(look: Callable[[], FoundT]) -> Future[FoundT]:
    """Look in a daemon thread: the process may end while a store does not answer."""
    told: Future[FoundT] = Future()

    def work() -> None:
        try:
            told.set_result(look())
        except Exception as error:  # noqa: BLE001  raised again where it is waited for
            told.set_exception(error)

    threading.Thread(target=work, name="batchscore-drift", daemon=True).start()
    return told


def _stored(storage: Storage, path: str | None) -> Sketch | None:
    data = storage.read_bytes(path) if path is not None else None
    return Sketch.from_bytes(data, where=str(path)) if data is not None else None


def _cost(receipts: Iterable[Receipt], driver_seconds: float) -> DriftCost:
    of_sketches = of_all = 0.0
    for receipt in receipts:
        of_sketches += receipt.seconds.get("sketch", 0.0)
        of_all += sum(receipt.seconds.values())
    share = of_sketches / of_all if of_all else 0.0
    return DriftCost(
        worker_seconds=round(of_sketches, 3), worker_share=round(share, 4), driver_seconds=round(driver_seconds, 3)
    )
