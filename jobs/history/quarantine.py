"""The rows that a run set aside: by reason, as a table for a file, and what scores them again after a fix.

They are scored again by a run of its own over the files in which they lie, which leaves out every row whose key is
published (`--missing-keys`). So a row is never published twice, whether the fix was one of the files, whose rows then
have other etags and may have other places, or one of the model or the config.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from etl.errors import BatchscoreError
from etl.runs.layout import model_folder
from etl.runs.manifest import latest_manifest
from etl.runs.storage import storage_for
from jobs.errors import Refused
from jobs.history.runs import config_of, find_run, look_at, quarantined_rows, record_of
from jobs.planning.plan import load_plan
from jobs.request import RunRequest
from scoring.bundles.bundle import audit
from scoring.tracing import private_columns

if TYPE_CHECKING:
    from jobs.config.job import JobConfig
    from jobs.planning.destination import Target
    from jobs.planning.plan import Plan

__all__ = ["Group", "SetAside", "flat", "groups_of", "private_of", "resubmission"]

_KEYS = ("stage", "code", "column", "message")


class SetAside(NamedTuple):
    """One row."""

    file: str
    row: int
    """Index in the file."""
    values: dict[str, Any]
    """As its contract read it; what is personal is null."""


class Group(NamedTuple):
    """Rows that were set aside for one reason."""

    stage: str
    code: str
    column: str
    message: str
    rows: int
    samples: tuple[SetAside, ...]
    """The first of them."""


def groups_of(quarantine: pa.Table, samples: int) -> list[Group]:
    """By reason, the most frequent first, and what is equally frequent by name."""
    found: dict[tuple[str, ...], list[int]] = {}
    reasons = zip(*(quarantine.column(name).to_pylist() for name in _KEYS), strict=True)
    for number, key in enumerate(reasons):
        found.setdefault(key, []).append(number)
    ordered = sorted(found.items(), key=lambda entry: (-len(entry[1]), entry[0]))
    return [
        Group(stage, code, column, message, len(rows), _rows(quarantine, rows[:samples]))
        for (stage, code, column, message), rows in ordered
    ]


def _rows(quarantine: pa.Table, numbers: list[int]) -> tuple[SetAside, ...]:
    taken = quarantine.take(pa.array(numbers, pa.int64()))
    return tuple(SetAside(row["file"], row["row"], row["preview"]) for row in taken.to_pylist())


def flat(quarantine: pa.Table) -> pa.Table:
    """The same with a column for each value of the preview, `preview.<column>`, as files of text have them, too."""
    return quarantine.flatten()


def private_of(target: Target) -> frozenset[str]:
    """The input columns that the run's models call personal, as far as its copies of them are there."""
    plan = load_plan(target)
    if plan is None:
        return frozenset()
    shown = plan.order.routed.shown if plan.order.routed is not None else ()
    named = {field.name for field in shown if field.pii}
    for model in plan.order.models if plan.order.routed is None else ():
        try:
            named |= private_columns(audit(target.storage, model_folder(plan.order.root, model.bundle_sha256)).spec)
        except BatchscoreError:  # gone with `gc`, say; the values were never kept
            continue
    return frozenset(named)


def resubmission(where: str, run_id: str | None, key: str | None, *, as_run: str) -> RunRequest:
    """What scores the rows that a run set aside again, as the config says now.

    Raises:
        Refused: no row was set aside, or they cannot be scored again beside what is published.
    """
    target = find_run(where, run_id)
    record = record_of(target)
    config = config_of(where, record.logical_date if record is not None else None)
    if config is None:
        raise Refused(f"{where}: to score rows again takes the job's YAML file; give it in place of the output's URI.")
    plan, name = load_plan(target), target.layout.run_id
    table = quarantined_rows(target)
    if plan is None or not table.num_rows:
        raise Refused(f"run {name} has set no row aside, so there is none to score again.")
    _check(config, target, plan)
    column = key or next(iter(config.output.passthrough), None)
    if column is None or column not in config.output.passthrough:
        raise Refused(
            "rows are scored again by their key, which has to be published: name one of output.passthrough by --key "
            f"({', '.join(config.output.passthrough) or 'there is none'})."
        )
    files = tuple(sorted(set(table.column("file").to_pylist())))
    told = {"files": files, "incremental": False, "on_changed": "fail", "on_deleted": "ignore"}
    changed = config.model_copy(update={"input": config.input.model_copy(update=told)})
    date = record.logical_date if record is not None else None
    return RunRequest(config=changed, run_id=as_run, missing_keys=column, logical_date=date)


def _check(config: JobConfig, target: Target, plan: Plan) -> None:
    """Refuse what would publish something else than the rows that are missing."""
    name, (storage, layout) = target.layout.run_id, target
    if config.input.files is None or plan.prepared is not None:
        what = "Spark made its rows of a whole table, and other rows decide what a row is told"
        raise Refused(f"run {name}: {what}. Run the job again as a whole, with `output.mode: overwrite`.")
    if layout.root != storage_for(config.output.uri)[1]:
        raise Refused(f"run {name} is a trial, or lies elsewhere: nothing of it is published in {config.output.uri}.")
    if config.output.mode != "append":
        what = f"output.mode is `{config.output.mode}`, and these rows alone would take the place of what is published"
        raise Refused(f"{what}. Run the job again as a whole.")
    latest = latest_manifest(storage, layout.root)
    if latest is None or name not in latest.run_ids:
        state = look_at(target).state
        what = f"run {name} ({state}) is not in the newest version of {layout.root}, so its other rows are missing, too"
        raise Refused(f"{what}. Publish it first (`batchscore publish`), or run the job again as a whole.")
