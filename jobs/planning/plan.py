"""Claim a run id and resolve a config into a plan: pinned inputs, splits, model, output schema. Starts no scoring.

The plan is created if absent, so two drivers with one id work from one plan, and a resume lists and resolves nothing
anew. It binds the id: a later request that would score otherwise is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import AwareDatetime, Field

from etl.documents import Document, Strict, sha256_hex
from etl.expectations import AnyExpectation
from etl.runs.commit import Terms
from etl.runs.layout import Layout, scratch_root
from etl.runs.manifest import ColumnEntry
from etl.runs.splits import InputFile, Split
from etl.runs.storage import storage_for
from jobs.errors import Refused, refusing
from jobs.identity import whoami
from jobs.monitoring.hook_settings import HookSettings
from jobs.monitoring.settings import SinkSettings
from jobs.planning.destination import Target
from jobs.planning.lineage import Lineage
from jobs.planning.models import ModelFacts
from jobs.planning.preparation import Preparation
from scoring.order import Order

if TYPE_CHECKING:
    from jobs.config.job import JobConfig

__all__ = [
    "Claim",
    "Increment",
    "Part",
    "Plan",
    "asked",
    "check_asked",
    "claim_run",
    "load_claim",
    "load_last_try",
    "load_plan",
    "target_of",
]

Freeze = Callable[[str], str]
"""Freezes the config's table or query as Parquet in a folder; gives the folder."""


class Part(NamedTuple):
    """Which part of the input is asked for."""

    limit: int | None = None
    """The first so many rows."""
    sample: float | None = None
    """A share of the rows, chosen by hash."""
    missing_keys: str | None = None
    """Rows whose value of this column is not published yet."""

    @property
    def is_trial(self) -> bool:
        """Whether it is published in a place of its own."""
        return self.limit is not None or self.sample is not None

    @property
    def is_all(self) -> bool:
        """Whether it is all that the job scores, so that its rows tell what a usual night is like."""
        return not self.is_trial and self.missing_keys is None


class Increment(Strict):
    """What an incremental run found in its input."""

    listed: int = Field(ge=0, description="Files that are there.")
    scored_before: int = Field(ge=0, description="Of these, files that runs of the newest version scored as they are.")
    changed: tuple[str, ...] = Field(default=(), description="Files that were scored before, when they were others.")
    deleted: tuple[str, ...] = Field(default=(), description="Files that were scored before and are gone.")


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
    asked: dict[str, str] = Field(description="SHA-256 of each part of the config that changes scores.")
    inputs: tuple[InputFile, ...]
    splits: tuple[Split, ...]
    increment: Increment | None = Field(default=None, description="Of an incremental run: what it left out, and why.")
    order: Order
    models: tuple[ModelFacts, ...] = Field(min_length=1, description="In the order's order.")
    columns: tuple[ColumnEntry, ...] = Field(description="The published table.")
    filters: bool = Field(default=False, description="Whether the spec leaves rows out; else only a trial may.")
    expectations: tuple[AnyExpectation, ...] = Field(default=(), description="The spec's own.")
    projected_task_bytes: int = Field(ge=0, description="Peak memory of a worker, from the footer of the largest file.")
    terms: Terms = Field(default=Terms(), description="How the run goes into the next version.")
    lineage: Lineage = Field(default=Lineage(), description="Where the published columns come from.")
    metrics_uri: str | None = Field(default=None, description="Where a decision on the run is told, too.")
    sinks: SinkSettings = Field(default=SinkSettings(), description="Who is told of it.")
    hooks: HookSettings | None = Field(default=None, description="Webhooks and commands that are told of it.")
    prepared: Preparation | None = Field(
        default=None, description="Where the inputs come from, if Spark ran relational steps to make them."
    )

    @property
    def model(self) -> ModelFacts:
        """The first of its models, which is the only one of most jobs."""
        return self.models[0]

    @property
    def bundles(self) -> tuple[str, ...]:
        """SHA-256 of each of its models' bundles."""
        return tuple(model.bundle_sha256 for model in self.models)

    @property
    def sources(self) -> tuple[InputFile, ...]:
        """The input files as the job named them; `inputs` are what Spark made of them, where it did."""
        return self.prepared.source if self.prepared is not None else self.inputs

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


def check_asked(plan: Plan, config: JobConfig, part: Part) -> None:
    """Refuse a request that would score otherwise than the plan under the same id.

    Raises:
        Refused: naming the settings that differ.
    """
    now = asked(config, part)
    differing = [part for part in sorted(plan.asked.keys() | now.keys()) if plan.asked.get(part) != now.get(part)]
    if differing:
        message = (
            f"run id {plan.run_id} was planned on {plan.planned_at:%Y-%m-%d %H:%M} UTC with other settings: "
            f"{', '.join(differing)}. Use another --run-id, or restore those settings."
        )
        raise Refused(message)


def asked(config: JobConfig, part: Part) -> dict[str, str]:
    """The parts of a config that change scores; budgets and resources do not, so that they may change for a resume.

    Digests, since a query may hold what a variable of the environment has put there.
    """
    found = {
        "job": config.model_dump_json(include={"name"}),
        "input": config.input.model_dump_json(exclude={"on_damaged"}),
        "references": config.model_dump_json(include={"references"}),
        "model": config.model_dump_json(include={"model"}),
        "models": config.model_dump_json(include={"models", "combine"}),
        "output.passthrough": config.output.model_dump_json(include={"passthrough"}),
        "output.stamps": config.output.model_dump_json(include={"stamps"}),
        "output.partition_by, sort_by": config.output.model_dump_json(include={"partition_by", "sort_by"}),
        # Without what is not said: runs were planned before it could be.
        "output.mode": config.output.model_dump_json(
            include={"mode", "on_schema_change", "replaces"}, exclude_none=True
        ),
        "scoring.device": config.scoring.model_dump_json(include={"device"}),
        "--limit": str(part.limit),
        "--sample": str(part.sample),
        "--missing-keys": str(part.missing_keys),
    }
    return {name: sha256_hex(text.encode()) for name, text in found.items()}


def load_plan(target: Target) -> Plan | None:
    """The run's plan, or None before it has one."""
    data = target.storage.read_bytes(target.layout.plan)
    return Plan.from_bytes(data, where=target.layout.plan) if data is not None else None
