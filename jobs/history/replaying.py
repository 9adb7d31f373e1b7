"""One row of a run again, on this machine: re-read from where the run pinned it, scored by the run's own models.

What comes of it is set beside what the run did with the row: published it, or set it aside.
"""

from __future__ import annotations

import math
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from etl.arrivals import ORIGIN
from etl.runs.manifest import is_kept, published_files, version_of
from etl.runs.read import ROW
from jobs.errors import Refused, refusing
from jobs.history.row_places import find_row, origin_of, place_of, read_row
from jobs.history.runs import find_run, look_at, quarantined_rows
from jobs.planning.plan import load_plan
from jobs.published import PublishedFile, schema_of
from scoring.bundles.bundle import Tolerance
from scoring.predictions import VARIANT
from scoring.quarantine import stage_of
from scoring.tracing import Scorers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from etl.runs.manifest import Manifest
    from jobs.history.row_places import ByKey, ByPlace, RowPlace
    from jobs.planning.destination import Target
    from jobs.planning.plan import Plan
    from scoring.tracing import ModelTrace, RowTrace, Value

__all__ = ["MASK", "Compared", "Recorded", "Replay", "is_same", "masked", "replay_row"]

MASK = "•••"
"""In the place of personal data."""


class Recorded(NamedTuple):
    """What the run did with the row."""

    outcome: Literal["published", "quarantined", "neither", "unknown"]
    told: str
    """In words."""
    rows: pa.Table | None = None
    """The published rows that have its passthrough values."""
    reason: dict[str, str] | None = None
    """Of a quarantined row: stage, code, rule, column, message."""


class Compared(NamedTuple):
    """A published column beside what was made of the row here."""

    column: str
    here: Any
    published: Any
    agrees: bool


class Replay(NamedTuple):
    """A row, then and now."""

    run_id: str
    file: str
    etag: str
    row: int
    """In the input file of the job."""
    raw: dict[str, Any]
    """The columns that are read, as the file has them."""
    private: frozenset[str]
    """Those of them that are personal."""
    trace: RowTrace
    here: dict[str, str]
    """Why it is set aside here, as `Recorded.reason`; empty where it is not."""
    recorded: Recorded
    columns: tuple[dict[str, Any], ...]
    """What would be published of it: a row, or one a model that scored it."""
    compared: tuple[Compared, ...] = ()
    """Column by column, where both are there."""
    agrees: bool | None = None
    """Whether the run did what is done here; None where nobody can tell."""
    why: str = ""
    """The verdict in a sentence."""


def replay_row(where: str, run_id: str | None, named: ByKey | ByPlace) -> Replay:
    """Read one row of a run again, score it again, and compare.

    Raises:
        Refused: there is no such run, row or file; the file is another now; the model cannot be loaded here.
    """
    target = find_run(where, run_id)
    with refusing():
        plan = load_plan(target)
        if plan is None:
            raise Refused(f"{target.layout.root}: run {target.layout.run_id} has no plan yet, so no row is its.")
        place = find_row(target, plan, named)
        with closing(Scorers(target.storage, plan.order)) as scorers:
            batch = read_row(place, scorers.columns)
            file, row = origin_of(plan, place, batch)
            trace = scorers.trace(batch, f"{file.path}, row {row}")
            private, tolerance = scorers.private(), _tolerance(scorers, plan)
        raw = batch if file == place.file else read_row(place_of(file, row), scorers.columns)
        found = Replay(
            run_id=target.layout.run_id,
            file=file.path,
            etag=file.etag,
            row=row,
            raw={name: raw.column(name).to_pylist()[0] for name in raw.schema.names if name not in {ROW, ORIGIN}},
            private=private,
            trace=trace,
            here=_reason(trace),
            columns=() if trace.published is None else tuple(trace.published.to_pylist()),
            recorded=_recorded(target, place, _keys(plan, trace, batch)),
        )
    return _judged(found, plan, tolerance)


def masked(found: Replay) -> Replay:
    """The same with `MASK` in the place of every value that is personal, or made of such."""

    def row(values: dict[str, Any]) -> dict[str, Any]:
        return {name: MASK if name in found.private else value for name, value in values.items()}

    compared = tuple(
        one._replace(here=MASK, published=MASK) if one.column in found.private else one for one in found.compared
    )
    trace = found.trace._replace(models=tuple(map(_masked, found.trace.models)))
    return found._replace(raw=row(found.raw), columns=tuple(map(row, found.columns)), compared=compared, trace=trace)


def _masked(model: ModelTrace) -> ModelTrace:
    def hide(values: tuple[Value, ...]) -> tuple[Value, ...]:
        return tuple(value._replace(value=MASK) if value.is_private else value for value in values)

    steps = tuple(made._replace(columns=hide(made.columns)) for made in model.steps)
    return model._replace(steps=steps, tensors=hide(model.tensors))


def _keys(plan: Plan, trace: RowTrace, batch: pa.RecordBatch) -> dict[str, Any]:
    """What the row is known by among the predictions: of lists nobody asks."""
    rows = batch if trace.published is None else trace.published
    names = [name for name in plan.order.passthrough if not pa.types.is_nested(rows.schema.field(name).type)]
    return {name: rows.column(name).to_pylist()[0] for name in names}


def _recorded(target: Target, place: RowPlace, values: dict[str, Any]) -> Recorded:
    """What the run did with the row."""
    aside = _set_aside(target, place)
    if aside is not None:
        return Recorded("quarantined", f"it was set aside ({aside['code']}): {aside['message']}", reason=aside)
    version = version_of(*target)
    if version is None:
        return Recorded("unknown", f"the run is {look_at(target).state}, and has published nothing")
    if not is_kept(target.storage, target.layout.root, version):
        return Recorded("unknown", f"version {version.seq}, in which the run was published, is kept no more")
    if not values:
        return Recorded("unknown", "the run publishes no column of its input, by which the row could be found")
    found = _predictions(target, version, place)
    for name, value in values.items():
        found = found.filter(pc.is_in(found.column(name), value_set=pa.array([value], found.schema.field(name).type)))
    if not found.num_rows:
        return Recorded("neither", f"version {version.seq} has no prediction of it, and it was not set aside")
    return Recorded("published", f"it is published in version {version.seq}", rows=found)


def _predictions(target: Target, version: Manifest, place: RowPlace) -> pa.Table:
    """All that was published of the row's split."""
    schema = schema_of(version)
    [entry] = [entry for entry in version.runs if entry.run_id == target.layout.run_id]
    files = published_files(target.storage, entry).to_pylist()
    folder = f"{target.layout.root}/{entry.folder}"
    tables = [
        PublishedFile(file["path"], folder, file["partition"]).table(target.storage, schema)
        for file in files
        if file["split"] == place.split.index
    ]
    return pa.concat_tables([schema.empty_table(), *tables])


def _set_aside(target: Target, place: RowPlace) -> dict[str, str] | None:
    """Why the run set the row aside; None where it did not."""
    table = quarantined_rows(target)
    if not table.num_rows:
        return None
    is_prepared = table.column("prepared_row").null_count < table.num_rows
    file, row = ("prepared_file", "prepared_row") if is_prepared else ("file", "row")
    found = table.filter(pc.and_(pc.equal(table.column(file), place.file.path), pc.equal(table.column(row), place.row)))
    reasons = found.select(["stage", "code", "rule", "column", "message"]).to_pylist()
    return reasons[0] if reasons else None


def _reason(trace: RowTrace) -> dict[str, str]:
    one = trace.rejection
    if one is None:
        return {}
    return {
        "stage": stage_of(one),
        "code": one.code,
        "rule": one.pointer,
        "column": one.column,
        "message": one.message,
    }


def _tolerance(scorers: Scorers, plan: Plan) -> Tolerance:
    """The loosest of the models that were loaded, on the CPU and on the device that the run asked for."""
    allowed = [
        audited.tolerance(device)
        for number, audited in scorers.loaded.items()
        for device in ("cpu", *(("cuda",) if plan.order.models[number].runtime.device != "cpu" else ()))
    ]
    return Tolerance(
        atol=max((one.atol for one in allowed), default=0), rtol=max((one.rtol for one in allowed), default=0)
    )


def _judged(found: Replay, plan: Plan, tolerance: Tolerance) -> Replay:
    """The same with the verdict."""
    outcome, recorded = found.trace.outcome, found.recorded
    if recorded.outcome == "unknown":
        return found._replace(why=f"There is nothing to compare with: {recorded.told}.")
    if outcome == "scored" and recorded.rows is not None:
        compared = tuple(_columns(found, plan, tolerance))
        agrees = all(one.agrees for one in compared)
        differing = ", ".join(dict.fromkeys(one.column for one in compared if not one.agrees))
        why = "What is published is what comes of the row here." if agrees else f"Other values in {differing}."
        return found._replace(compared=compared, agrees=agrees, why=why)
    if outcome == "quarantined" and recorded.reason is not None:
        parts = [name for name in ("code", "rule", "column") if found.here[name] != recorded.reason[name]]
        why = f"It is set aside here under another {', '.join(parts)}." if parts else "It is set aside here, too."
        return found._replace(agrees=not parts, why=why)
    if recorded.outcome == "neither" and plan.order.leaves_out:
        return found._replace(why="The run took only a part of its input, and this row may be none of it.")
    if recorded.outcome == "neither" and outcome == "filtered":
        return found._replace(agrees=True, why="The spec leaves it out, and nothing is published of it.")
    return found._replace(agrees=False, why=f"Here it is {outcome}; of the run: {recorded.told}.")


def _columns(found: Replay, plan: Plan, tolerance: Tolerance) -> Iterator[Compared]:
    """Each row that is made here beside the published one that is nearest to it."""
    assert found.recorded.rows is not None  # noqa: S101  and published
    exact = {*plan.order.passthrough, *plan.order.stamps}
    for row in found.columns:
        candidates = [
            [
                Compared(name, here, there[name], is_same(here, there[name], None if name in exact else tolerance))
                for name, here in row.items()
            ]
            for there in found.recorded.rows.to_pylist()
            if there.get(VARIANT) == row.get(VARIANT)
        ]
        absent = [Compared(name, here, None, agrees=False) for name, here in row.items()]
        yield from max(candidates, key=lambda columns: sum(one.agrees for one in columns), default=absent)


def is_same(here: Any, there: Any, tolerance: Tolerance | None) -> bool:
    """Whether two values agree: numbers with a fraction within the tolerance, all else exactly."""
    if isinstance(here, list) and isinstance(there, list):
        return len(here) == len(there) and all(map(partial(is_same, tolerance=tolerance), here, there))
    if isinstance(here, dict) and isinstance(there, dict):
        return here.keys() == there.keys() and all(is_same(here[name], there[name], tolerance) for name in here)
    if isinstance(here, float) and isinstance(there, float):
        if math.isnan(here) or math.isnan(there):
            return math.isnan(here) and math.isnan(there)
        if here == there or tolerance is None:
            return here == there
        return abs(here - there) <= tolerance.atol + tolerance.rtol * abs(there)
    return bool(here == there)
