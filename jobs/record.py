"""The run record: what happened, for people and for history. Written at every ending, failures included."""

from __future__ import annotations

import os
import platform
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, Field

from etl.checks import Checked
from etl.documents import Document, Strict
from etl.redaction import redacted
from etl.runs.damage import DamagedFile
from etl.runs.receipt import SplitAccount
from jobs.errors import Refused, exit_code
from jobs.monitoring.cost import CostFacts
from jobs.monitoring.drift import DriftFacts
from jobs.monitoring.limits import Breach
from jobs.planning.models import ModelFacts
from jobs.planning.plan import Increment
from jobs.planning.preparation import RowCounts
from jobs.planning.sources import Source

if TYPE_CHECKING:
    from collections.abc import Iterable

    from etl.runs.storage import Storage

__all__ = [
    "ErrorFacts",
    "RunRecord",
    "RunState",
    "Snapshot",
    "Stretch",
    "load_record",
    "machine",
    "versions",
    "wall_seconds",
]


class RunState(StrEnum):
    """How a run ended."""

    SUCCEEDED = "SUCCEEDED"
    """Published, and every row was scored or filtered."""
    PARTIALLY_SUCCEEDED = "PARTIALLY_SUCCEEDED"
    """Published, with quarantined rows within the budgets."""
    HELD_BACK = "HELD_BACK"
    """Scored and not published: over a budget, or short of an expectation. Waits for `publish` or `discard`."""
    DISCARDED = "DISCARDED"
    """Scored and thrown away by a person."""
    FAILED = "FAILED"
    """Not published. What is scored is kept for the next try under the same id."""
    CANCELLED = "CANCELLED"
    """Stopped by a signal; as FAILED."""

    @property
    def is_published(self) -> bool:
        """Whether the predictions can be read."""
        return self in {RunState.SUCCEEDED, RunState.PARTIALLY_SUCCEEDED}


class ErrorFacts(Strict):
    """Why a run failed."""

    kind: str
    message: Annotated[str, AfterValidator(redacted)]
    exit_code: int = Field(
        default=1, description="What the driver ended with: platforms that run it tell only whether it failed."
    )

    @classmethod
    def of(cls, error: Exception) -> ErrorFacts:
        """Of a refusal the kind is that of its cause, which says more."""
        cause = error.__cause__ if isinstance(error, Refused) and error.__cause__ is not None else error
        return cls(kind=type(cause).__name__, message=str(error), exit_code=exit_code(error))


class Snapshot(Strict):
    """The input as it was pinned; the files are in the plan."""

    files: int = Field(ge=0)
    bytes: int = Field(ge=0)
    digest: str = Field(description="SHA-256 over paths, sizes and etags.")


class Stretch(Strict):
    """A phase of the driver, or a piece of one."""

    phase: str
    started_at: AwareDatetime
    seconds: float = Field(ge=0)


class EngineFacts(Strict):
    """What workers did besides reading and writing rows."""

    waiting: dict[str, float] = Field(
        default_factory=dict, description="Seconds in which a phase of the workers waited for another one, by phase."
    )
    batch_rows: dict[str, tuple[int, ...]] = Field(
        default_factory=dict,
        description="Rows of a call, one number for each that workers ended with; by model and padded lengths.",
    )
    calls: int = Field(default=0, ge=0, description="Calls of the models.")
    out_of_memory: int = Field(default=0, ge=0, description="Calls that were too large, halved and tried again.")
    contained_rows: int = Field(
        default=0, ge=0, description="Rows that were scored in a process of their own, after a worker had died."
    )
    non_finite: dict[str, int] = Field(
        default_factory=dict, description="Published rows whose score was NaN or ±inf, by column."
    )
    by_model: dict[str, int] = Field(
        default_factory=dict, description="Of several models: published rows with a score of each."
    )
    unscored: dict[str, int] = Field(
        default_factory=dict, description="Published rows that an optional model could not score, by `model/CODE`."
    )


class RunRecord(Document):
    """What happened in a run; of a resumed one, the last try, with the counts of all of them."""

    format: Literal["batchscore.record/1"] = "batchscore.record/1"
    run_id: str
    job: str
    state: RunState
    error: ErrorFacts | None = None
    who: str = Field(description="user@host of the driver.")
    started_at: AwareDatetime
    ended_at: AwareDatetime
    recorded_at: AwareDatetime = Field(
        description="When this was written: after the end, later still where a person decided on the run."
    )
    logical_date: AwareDatetime | None = Field(
        default=None, description="The moment that a schedule meant, for which the config was read."
    )
    resumed: bool = Field(description="Whether an earlier try had left a plan.")
    code: str = Field(description="Digest of the batchscore modules.")
    config: str = Field(description="SHA-256 of the resolved config.")
    output: str = Field(description="Folder of the predictions.")
    manifest: int | None = Field(default=None, description="Version of the output root that first held the run.")
    inputs: tuple[Source, ...] = Field(default=(), description="What it reads: rows, reference tables, models.")
    missing_keys: str | None = Field(
        default=None,
        description="Of a run of the rows that were not published yet, as a resubmission is: the key's column. It is "
        "no night like others.",
    )
    snapshot: Snapshot | None = None
    increment: Increment | None = Field(default=None, description="Of an incremental run: what it left out, and why.")
    model: ModelFacts | None = Field(default=None, description="What scored; the first of several models.")
    models: tuple[ModelFacts, ...] = Field(default=(), description="All of them, where there are several.")
    splits: int = Field(default=0, ge=0)
    splits_scored_now: int = Field(default=0, ge=0, description="Splits scored by this try; the others had receipts.")
    void_receipts: int = Field(
        default=0, ge=0, description="Receipts whose files were gone, so that their splits were scored again."
    )
    account: SplitAccount = SplitAccount()
    reasons: dict[str, int] = Field(default_factory=dict, description="Quarantined rows by `stage/CODE`.")
    damaged: tuple[DamagedFile, ...] = Field(
        default=(),
        description="Input files that cannot be read. Where the run was published, none of their rows was; those that "
        "footers tell are in `account`, as quarantined.",
    )
    expectations: tuple[Checked, ...] = Field(default=(), description="What became of the spec's expectations.")
    wall_seconds: dict[str, float] = Field(
        default_factory=dict, description="Of the driver, by phase; they add up to the run."
    )
    timeline: tuple[Stretch, ...] = Field(default=(), description="Of the driver, its phases in order, in pieces.")
    worker_seconds: dict[str, float] = Field(
        default_factory=dict, description="Summed over all splits' winning attempts."
    )
    engine: EngineFacts = EngineFacts()
    bytes_read: int = Field(default=0, ge=0, description="Compressed column chunks that were read.")
    bytes_written: int = Field(default=0, ge=0, description="Prediction files.")
    relational: RowCounts | None = Field(
        default=None, description="Rows of the table before relational steps in Spark, and those that they left out."
    )
    golden_features_ulp: int | None = Field(
        default=None, ge=0, description="Largest deviation of a golden feature on any worker, units in the last place."
    )
    golden_outputs_abs: float | None = Field(
        default=None, ge=0, description="Largest deviation of a golden output on any worker."
    )
    provider: str | None = Field(
        default=None, description="The execution provider that ran the model; all of them, where it was not one."
    )
    fell_back: dict[str, int] = Field(
        default_factory=dict, description="Splits that ran on the CPU though a GPU was asked for, by the reason."
    )
    workers: int = Field(default=0, ge=0, description="Worker processes that scored.")
    model_loads: int = Field(default=0, ge=0, description="Times the model was loaded, over all workers.")
    projected_task_bytes: int | None = Field(default=None, description="Peak memory of a worker as planned.")
    peak_task_bytes: int | None = Field(default=None, description="Largest resident size of a worker, measured.")
    drift: DriftFacts | None = Field(default=None, description="How far columns have moved, where that was asked for.")
    cost: CostFacts | None = Field(default=None, description="What this try used of machines, and what that cost.")
    breaches: tuple[Breach, ...] = Field(
        default=(), description="Limits of `sla` and `cost.budget` that the run passed, or was expected to pass."
    )
    accepted: str | None = Field(default=None, description="Why a person published a run that was held back.")
    decided_by: str | None = Field(default=None, description="user@host of who published or discarded it, held back.")
    versions: dict[str, str] = Field(default_factory=dict)
    machine: dict[str, str] = Field(default_factory=dict)

    @property
    def busy(self) -> dict[str, float]:
        """Share of its time that each phase of the workers worked, and did not wait for another one."""
        return {
            phase: work / (work + self.engine.waiting[phase])
            for phase, work in self.worker_seconds.items()
            if work > 0 and phase in self.engine.waiting
        }

    @property
    def all_models(self) -> tuple[ModelFacts, ...]:
        """What scored, be it one; none of a run that ended before that was known."""
        return self.models or ((self.model,) if self.model is not None else ())

    @property
    def root(self) -> str:
        """The output root that holds the folder of the predictions."""
        return self.output.removesuffix(f"/run_id={self.run_id}").removesuffix("/_runs")

    @property
    def seconds(self) -> float:
        """Wall clock from start to end."""
        return (self.ended_at - self.started_at).total_seconds()


def wall_seconds(timeline: Iterable[Stretch]) -> dict[str, float]:
    """Seconds by phase, to the millisecond, in the order in which phases began."""
    found: dict[str, float] = {}
    for one in timeline:
        found[one.phase] = found.get(one.phase, 0.0) + one.seconds
    return {phase: round(seconds, 3) for phase, seconds in found.items()}


def load_record(storage: Storage, path: str) -> RunRecord | None:
    """A stored record, or None."""
    data = storage.read_bytes(path)
    return RunRecord.from_bytes(data, where=path) if data is not None else None


def versions() -> dict[str, str]:
    """Versions of what decides a run's behaviour."""
    found = {"python": platform.python_version()}
    for package in ("batchscore", "pyarrow", "numpy", "onnxruntime", "pyspark"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed as a package"
    return found


def machine() -> dict[str, str]:
    """The driver's machine."""
    return {"system": platform.platform(), "cores": str(os.cpu_count()), "processor": platform.machine()}
