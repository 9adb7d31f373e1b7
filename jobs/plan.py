"""Claim a run id and resolve a config into a plan: pinned inputs, splits, model, output schema. Starts no scoring.

The plan is created if absent, so two drivers with one id work from one plan, and a resume lists and resolves nothing
anew. It binds the id: a later request that would score otherwise is refused.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import AwareDatetime, Field

from etl.documents import Document, sha256_hex
from etl.errors import InputMissing
from etl.expectations import AnyExpectation
from etl.runs.commit import Terms
from etl.runs.layout import Layout, model_folder, scratch_root
from etl.runs.manifest import ColumnEntry, schema_entries
from etl.runs.read import RangeReader, open_parquet
from etl.runs.splits import InputFile, Split, cut_splits
from etl.runs.storage import storage_for
from jobs.destination import Target, terms_at
from jobs.errors import Refused, refusing
from jobs.identity import whoami
from jobs.models import Known, ModelFacts, Models, resolve_models
from jobs.preparation import Preparation
from scoring.bundles.bundle import AuditedBundle, copy_bundle
from scoring.memory import projected_task_bytes, table_rows
from scoring.order import Order
from scoring.predictions import Predictions

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from jobs.config import JobConfig

__all__ = [
    "Claim",
    "Plan",
    "Resolved",
    "Target",
    "check_asked",
    "check_input",
    "claim_run",
    "list_inputs",
    "load_claim",
    "load_last_try",
    "load_plan",
    "make_plan",
    "store_plan",
    "target_of",
]

Freeze = Callable[[str], str]
"""Freezes the config's table or query as Parquet in a folder; gives the folder."""


class Claim(Document):
    """Who was first to work on a run id."""

    format: Literal["batchscore.claim/1"] = "batchscore.claim/1"
    run_id: str
    job: str
    claimed_at: AwareDatetime
    claimed_by: str
    is_hidden: bool = Field(default=False, description="Whether the predictions lie below `_runs/`; see `Layout`.")


class Plan(Document):
    """What a run will do: everything that decides its scores, resolved once."""

    format: Literal["batchscore.plan/1"] = "batchscore.plan/1"
    run_id: str
    job: str
    planned_at: AwareDatetime
    asked: dict[str, str] = Field(description="JSON of each part of the config that changes scores.")
    inputs: tuple[InputFile, ...]
    splits: tuple[Split, ...]
    order: Order
    models: tuple[ModelFacts, ...] = Field(min_length=1, description="In the order's order.")
    columns: tuple[ColumnEntry, ...] = Field(description="The published table.")
    filters: bool = Field(default=False, description="Whether the spec leaves rows out; else only a trial may.")
    expectations: tuple[AnyExpectation, ...] = Field(default=(), description="The spec's own.")
    projected_task_bytes: int = Field(ge=0, description="Peak memory of a worker, from the footer of the largest file.")
    terms: Terms = Field(default=Terms(), description="How the run goes into the next version.")
    metrics_uri: str | None = Field(default=None, description="Where that decision is told, too.")
    prepared: Preparation | None = Field(
        default=None, description="Where the inputs come from, if Spark ran relational steps to make them."
    )

    @property
    def model(self) -> ModelFacts:
        """The first of its models, which is the only one of most jobs."""
        return self.models[0]

    @property
    def bytes_in(self) -> int:
        """Size of the input files."""
        return sum(file.bytes for file in self.inputs)


def target_of(config: JobConfig, run_id: str, *, scratch: bool) -> Target:
    """Where the run lies: under the output root, or for `--limit` and `--sample` under a root of its own inside it.

    Raises:
        Refused: no store of this release has such a URI.
    """
    with refusing():
        storage, root = storage_for(config.output.uri)
    if scratch:
        root = scratch_root(root, run_id)
    return Target(storage, Layout(root, run_id, is_hidden=config.output.is_hidden))


def claim_run(target: Target, job: str) -> None:
    """Say who works on a run id. It binds nobody; the plan does, and the first to create that wins."""
    claim = Claim(
        run_id=target.layout.run_id,
        job=job,
        claimed_at=datetime.now(UTC),
        claimed_by=whoami(),
        is_hidden=target.layout.is_hidden,
    )
    target.storage.create_if_absent(target.layout.claim, claim.to_bytes())
    # A sign of life: without it, `gc` would take a run that is resumed after long for one that died.
    target.storage.replace(target.layout.last_try, claim.to_bytes())


def load_claim(target: Target) -> Claim | None:
    """Who was first to work on a run, or None."""
    return _claim(target, target.layout.claim)


def load_last_try(target: Target) -> Claim | None:
    """Who was last to work on a run, or None."""
    return _claim(target, target.layout.last_try)


def _claim(target: Target, path: str) -> Claim | None:
    data = target.storage.read_bytes(path)
    return Claim.from_bytes(data, where=path) if data is not None else None


def check_asked(plan: Plan, config: JobConfig, *, limit: int | None, sample: float | None) -> None:
    """Refuse a request that would score otherwise than the plan under the same id.

    Raises:
        Refused: naming the settings that differ.
    """
    now = _asked(config, limit, sample)
    differing = [part for part in sorted(plan.asked.keys() | now.keys()) if plan.asked.get(part) != now.get(part)]
    if differing:
        message = (
            f"run id {plan.run_id} was planned on {plan.planned_at:%Y-%m-%d %H:%M} UTC with other settings: "
            f"{', '.join(differing)}. Use another --run-id, or restore those settings."
        )
        raise Refused(message)


def _asked(config: JobConfig, limit: int | None, sample: float | None) -> dict[str, str]:
    """The parts of a config that change scores; budgets and resources do not, so that they may change for a resume."""
    return {
        "job": config.model_dump_json(include={"name"}),
        "input": config.input.model_dump_json(),
        "references": config.model_dump_json(include={"references"}),
        "model": config.model_dump_json(include={"model"}),
        "models": config.model_dump_json(include={"models", "combine"}),
        "output.passthrough": config.output.model_dump_json(include={"passthrough"}),
        "output.stamps": config.output.model_dump_json(include={"stamps"}),
        "output.partition_by, sort_by": config.output.model_dump_json(include={"partition_by", "sort_by"}),
        "output.mode": "overwriting" if config.output.is_hidden else "adding",
        "scoring.device": config.scoring.model_dump_json(include={"device"}),
        "--limit": str(limit),
        "--sample": str(sample),
    }


def load_plan(target: Target) -> Plan | None:
    """The run's plan, or None before it has one."""
    data = target.storage.read_bytes(target.layout.plan)
    return Plan.from_bytes(data, where=target.layout.plan) if data is not None else None


def store_plan(target: Target, resolved: Resolved) -> Plan:
    """Store the plan after everything that it names; if another driver was first, its plan is ours."""
    for audited in resolved.bundles:
        copy_bundle(audited, target.storage, model_folder(target.layout.root, audited.sha256))
    for name, data in resolved.references.items():
        target.storage.create_if_absent(target.layout.reference(name, sha256_hex(data)), data)
    target.storage.create_if_absent(target.layout.plan, resolved.plan.to_bytes())
    return load_plan(target) or resolved.plan


def list_inputs(patterns: tuple[str, ...]) -> tuple[InputFile, ...]:
    """The input files as they are now, by path.

    Raises:
        InputMissing: a pattern matches nothing.
    """
    files: dict[str, InputFile] = {}
    for pattern in patterns:
        storage, path = storage_for(pattern)
        found = list(storage.list_files(path))
        if not found:
            message = f"{pattern}: no input file is there. Check the path; it is relative to the working folder."
            raise InputMissing(message)
        files.update((file.path, file) for file in found)
    return tuple(files[path] for path in sorted(files))


class Resolved(NamedTuple):
    """A plan and the bytes that it names."""

    plan: Plan
    bundles: tuple[AuditedBundle, ...]
    """Of its models, in their order."""
    references: dict[str, bytes]


_NOTHING = Known()


def make_plan(
    target: Target,
    config: JobConfig,
    inputs: tuple[InputFile, ...],
    *,
    limit: int | None,
    sample: float | None,
    known: Known = _NOTHING,
) -> Resolved:
    """Resolve a config over pinned inputs, which are the prepared rows where there are any. Nothing is stored.

    Raises:
        BatchscoreError: anything that can be known to fail before work starts.
    """
    check_input(config, inputs)
    models = resolve_models(config, _schema_of(inputs[0]), where=inputs[0].path, known=known)
    splits, row_limits = _limited(cut_splits(inputs, config.splits.target_bytes, config.splits.max_files), limit)
    footer = _largest_footer(splits)
    told = {**models.told, "row_limits": row_limits, "sample": sample, "sources": known.sources}
    at_once = table_rows(footer, models.carried, models.bundles, is_one_each=bool(models.chosen_by))
    order = _order(target, config, told, table_rows=at_once)
    terms = terms_at(target, config.output, published := Predictions(order, models.bundles).schema)
    plan = Plan(
        run_id=target.layout.run_id,
        job=config.name,
        planned_at=datetime.now(UTC),
        asked=_asked(config, limit, sample),
        inputs=inputs,
        splits=splits,
        order=order,
        models=models.facts,
        columns=schema_entries(published),
        filters=any(audited.spec.filters for audited in models.bundles),
        expectations=models.expectations,
        projected_task_bytes=_projected(footer, splits, order, models=models),
        terms=terms,
        metrics_uri=_metrics_uri(config, limit, sample),
        prepared=known.prepared.preparation if known.prepared else None,
    )
    return Resolved(plan, models.bundles, {name: pinned.data for name, pinned in models.references.items()})


def _metrics_uri(config: JobConfig, limit: int | None, sample: float | None) -> str | None:
    """Where the run is told; a trial is not."""
    is_trial = limit is not None or sample is not None
    return config.metrics.uri if config.metrics is not None and not is_trial else None


def _largest_footer(splits: tuple[Split, ...]) -> pq.FileMetaData:
    """That of the largest file, for what a worker will need."""
    largest = max((part.file for split in splits for part in split.ranges), key=lambda file: file.bytes)
    return open_parquet(storage_for(largest.path)[0], largest).metadata


def _projected(footer: pq.FileMetaData, splits: tuple[Split, ...], order: Order, *, models: Models) -> int:
    """Peak memory of a worker on the largest file, with the reference tables that it joins."""
    together = max(len(split.ranges) for split in splits)
    held = {name: models.references[name] for model in order.models for name in model.references}
    file = splits[0].ranges[0].file
    is_remote = storage_for(file.path)[0].local_path(file.path) is None
    return projected_task_bytes(footer, order, models.bundles, references=held, files=together, is_remote=is_remote)


def _order(target: Target, config: JobConfig, found: dict[str, Any], *, table_rows: int) -> Order:
    """What config, model and input decide together; `found` is what the latter two do."""
    return Order(
        run_id=target.layout.run_id,
        root=target.layout.root,
        passthrough=config.output.passthrough,
        stamps=config.output.stamps,
        scored_at=datetime.now(UTC).replace(microsecond=0),
        combination=config.combine if config.models else None,
        shape=config.output.shape,
        batch_rows=config.scoring.batch_rows,
        batch_bytes=int(config.scoring.batch_bytes),
        overlap=config.scoring.overlap,
        call_timeout=config.scoring.call_timeout,
        table_rows=table_rows,
        **found,
    )


def _limited(splits: tuple[Split, ...], limit: int | None) -> tuple[tuple[Split, ...], dict[int, int]]:
    """The first splits that hold `limit` rows, and how many rows of the last one are scored."""
    if limit is None:
        return splits, {}
    kept: list[Split] = []
    remaining = limit
    for split in splits:
        rows = sum(RangeReader(storage_for(part.file.path)[0], part).rows for part in split.ranges)
        kept.append(split)
        if rows >= remaining:
            return tuple(kept), {split.index: remaining}
        remaining -= rows
    return splits, {}


def check_input(config: JobConfig, inputs: tuple[InputFile, ...]) -> None:
    """Refuse an output that is, or with the next run would be, input; and columns that cannot be told apart."""
    _, root = storage_for(config.output.uri)
    inside = next((file.path for file in inputs if file.path.startswith(f"{root}/")), None)
    if inside is not None:
        raise Refused(f"output.uri {root} holds the input file {inside}. Use another output.uri.")
    for pattern in config.input.patterns:
        if _reads(storage_for(pattern)[1], root):
            raise Refused(f"output.uri {root} lies where input.files {pattern} would read it. Use another output.uri.")
    if not inputs:
        return
    path = inputs[0].path
    names = _schema_of(inputs[0]).names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise Refused(f"{path}: has columns of equal names: {', '.join(twice)}. Write it with a name for each column.")


def _schema_of(file: InputFile) -> pa.Schema:
    return open_parquet(storage_for(file.path)[0], file).schema_arrow


def _reads(pattern: str, folder: str) -> bool:
    """Whether files below a folder are, or with `**` may be, among what a path or glob names."""
    parts, names = pattern.split("/"), folder.split("/")
    for part, name in zip(parts, names, strict=False):
        if part == "**":
            return True
        if part != name and not fnmatch.fnmatchcase(name, part):
            return False
    below = names[len(parts) :]
    return len(parts) <= len(names) and not any(name.startswith(("_", ".")) for name in below)
