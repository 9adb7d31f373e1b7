"""Run a scoring job: read → contract → transform → score → publish → record."""

from __future__ import annotations

import contextlib
import getpass
import logging
import re
import secrets
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from etl.account import settle
from etl.documents import canonical_json, sha256_hex
from etl.errors import BatchscoreError
from etl.manifest import latest_manifest
from etl.publish import publish
from etl.splits import group_splits
from etl.storage import storage_for
from etl.tables import freeze
from jobs.config import RUN_ID_PATTERN, Budget
from jobs.decisions import check_not_discarded, published_schema, receipts_of
from jobs.errors import Cancelled, JobError, Refused, SplitsFailed
from jobs.history import collect_record
from jobs.plan import Plan, Target, check_asked, claim_run, list_inputs, load_plan, make_plan, store_plan, target_of
from jobs.record import ErrorFacts, RunRecord, RunState, Snapshot, load_record, machine, versions
from jobs.session import parallelism, start_session
from scoring.code import code_digest
from scoring.spark import run_tasks

if TYPE_CHECKING:
    from collections.abc import Generator

    from pyspark.sql import SparkSession

    from etl.receipt import Receipt, SplitAccount
    from jobs.config import JobConfig

__all__ = ["OnPhase", "RunRequest", "check_run_id", "new_run_id", "run"]

OnPhase = Callable[[str], None]
"""Told the name of each phase before it begins."""

_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What to run."""

    config: JobConfig
    run_id: str
    """Idempotency key: the same id goes on where an earlier try ended."""
    limit: int | None = None
    """Score the first so many rows only, into a scratch output."""
    sample: float | None = None
    """Score this share of the rows only, chosen by hash, into a scratch output."""

    @property
    def is_scratch(self) -> bool:
        """Whether the run publishes into a root of its own."""
        return self.limit is not None or self.sample is not None


def new_run_id(job: str) -> str:
    """An id for a run by hand: job, UTC, four random hexadecimal digits."""
    return f"{job}-{datetime.now(UTC):%Y%m%dt%H%M%S}-{secrets.token_hex(2)}"


def check_run_id(run_id: str) -> None:
    """Refuse an id that is no safe name.

    Raises:
        Refused: with the rule.
    """
    if re.fullmatch(RUN_ID_PATTERN, run_id) is None:
        message = (
            f"run id {run_id!r} is not valid: a lower-case letter, then up to 99 of a-z 0-9 _ . - "
            "(Spark would read a folder named like a date or a number as one). Choose another --run-id."
        )
        raise Refused(message)


def run(request: RunRequest, on_phase: OnPhase = lambda _: None) -> RunRecord:
    """Score a job's input and publish the predictions; again with the same id goes on where it stopped.

    Returns the record of the run: published, or held back over a budget.

    Raises:
        BatchscoreError: it failed or was refused; the record says so too, unless nothing had been claimed.
    """
    check_run_id(request.run_id)
    with _refusing():
        job = _Run(request, on_phase)
        done = job.already_published()
    if done is not None:
        return done
    with job.recording():
        plan = job.read()
        receipts = job.transform_and_score(plan)
        account = job.settle(plan, receipts)
        job.publish(plan, receipts, account)
    return job.record()


@contextlib.contextmanager
def _refusing() -> Generator[None]:
    """Before work starts, every error is a refusal."""
    try:
        yield
    except JobError:
        raise
    except BatchscoreError as error:
        raise Refused(str(error)) from error


@dataclass
class _Run:
    """The state of one try: clocks and what is known for the record so far."""

    request: RunRequest
    on_phase: OnPhase
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    wall: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    claimed: bool = False

    def __post_init__(self) -> None:
        self.target: Target = target_of(self.request.config, self.request.run_id, scratch=self.request.is_scratch)

    @contextlib.contextmanager
    def phase(self, name: str) -> Generator[None]:
        """Announce a phase and clock it."""
        self.on_phase(name)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.wall[name] = self.wall.get(name, 0.0) + time.perf_counter() - start

    def already_published(self) -> RunRecord | None:
        """The record of a published run with this id over the same input; None when there is something to do.

        Raises:
            Refused: the id is bound to other settings, was published over other input, or was discarded.
        """
        plan = load_plan(self.target)
        if plan is None:
            return None
        check_asked(plan, self.request.config, limit=self.request.limit, sample=self.request.sample)
        check_not_discarded(self.target)
        record = load_record(self.target.storage, self.target.layout.record)
        manifest = latest_manifest(self.target.storage, self.target.layout.root)
        if record is None or manifest is None or plan.run_id not in manifest.run_ids or not record.state.is_published:
            return None
        if self.request.config.input.patterns:
            _refuse_other_input(plan, self.request.config)
        return record

    def read(self) -> Plan:
        """Claim the id; pin and resolve everything, or take up the plan of an earlier try.

        Raises:
            Refused: anything is known that would make the run fail.
        """
        with _refusing():
            with self.phase("claim"):
                claim_run(self.target, self.request.config.name)
                self.claimed = True
                plan = load_plan(self.target)
            self.facts["resumed"] = plan is not None
            plan = plan or self._plan()
        listing = canonical_json([file.model_dump() for file in plan.inputs])
        self.facts["snapshot"] = Snapshot(files=len(plan.inputs), bytes=plan.bytes_in, digest=sha256_hex(listing))
        self.facts["model"] = plan.model
        self.facts["splits"] = len(plan.splits)
        self.facts["projected_task_bytes"] = plan.projected_task_bytes
        return plan

    def _plan(self) -> Plan:
        request = self.request
        patterns = request.config.input.patterns or (self._freeze(),)
        with self.phase("list"):
            inputs = list_inputs(patterns)
        with self.phase("plan"):
            made = make_plan(self.target, request.config, inputs, limit=request.limit, sample=request.sample)
            plan = store_plan(self.target, made)
        check_asked(plan, request.config, limit=request.limit, sample=request.sample)
        return plan

    def _freeze(self) -> str:
        """Write the table or query as Parquet outside the output root, in a folder of this try's own."""
        config = self.request.config
        _, scratch = storage_for(config.scratch or f"{config.output.uri.rstrip('/')}.scratch")
        folder = f"{scratch}/run_id={self.request.run_id}/frozen-{secrets.token_hex(4)}"
        spark = self._spark()
        with self.phase("freeze"):
            freeze(spark, table=config.input.table, sql=config.input.sql, folder=folder)
        return folder

    def _spark(self) -> SparkSession:
        with self.phase("start_spark"):
            return start_session(f"batchscore {self.request.run_id}", self.request.config.spark)

    def transform_and_score(self, plan: Plan) -> list[Receipt]:
        """Score every split that has no receipt; contract and transform happen in the same worker pass.

        Raises:
            SplitsFailed: with every distinct cause.
        """
        there = set(self.target.storage.names(self.target.layout.receipts))
        missing = tuple(split for split in plan.splits if f"{split.name}.json" not in there)
        self.facts["splits_scored_now"] = len(missing)
        if missing:
            spark = self._spark()
            with self.phase("score"):
                task_bytes = int(self.request.config.splits.task_bytes)
                tasks = group_splits(missing, task_bytes=task_bytes, parallelism=parallelism(spark))
                failures = run_tasks(spark, plan.order, tasks)
            if failures:
                causes = list(dict.fromkeys(f"{failure.kind}: {failure.message}" for failure in failures))
                more = [f"… and {len(causes) - _SHOWN} more"] if len(causes) > _SHOWN else []
                scored = len(plan.splits) - len({failure.split for failure in failures})
                head = (
                    f"{len(plan.splits) - scored} of {len(plan.splits)} splits cannot be scored; nothing was published."
                )
                raise SplitsFailed("\n".join([head, *causes[:_SHOWN], *more]))
        receipts = receipts_of(self.target, plan)
        self._note(receipts)
        return receipts

    def _note(self, receipts: list[Receipt]) -> None:
        seconds: dict[str, float] = {}
        reasons: Counter[str] = Counter()
        for receipt in receipts:
            for phase, spent in receipt.seconds.items():
                seconds[phase] = seconds.get(phase, 0.0) + spent
            reasons.update(receipt.reasons)
        workers = {(receipt.worker.host, receipt.worker.pid): 0 for receipt in receipts}
        for receipt in receipts:
            key = (receipt.worker.host, receipt.worker.pid)
            workers[key] = max(workers[key], receipt.worker.loads)
        self.facts.update(
            worker_seconds={phase: round(total, 3) for phase, total in seconds.items()},
            reasons=dict(reasons),
            bytes_read=sum(receipt.bytes_read for receipt in receipts),
            bytes_written=sum(r.predictions.pending.bytes for r in receipts if r.predictions is not None),
            provider=receipts[0].worker.provider if receipts else None,
            workers=len(workers),
            model_loads=sum(workers.values()),
            peak_task_bytes=max((receipt.worker.peak_rss_bytes for receipt in receipts), default=None),
        )

    def settle(self, plan: Plan, receipts: list[Receipt]) -> SplitAccount:
        """Prove that every row of the input went to exactly one place."""
        with self.phase("settle"):
            account = settle(self.target.storage, plan.splits, receipts)
        if not plan.order.row_limits and plan.order.sample is None and account.filtered.rows:
            message = f"{account.filtered.rows} rows were filtered, but the run asked for no filter."
            raise SplitsFailed(message)
        self.facts["account"] = account
        return account

    def publish(self, plan: Plan, receipts: list[Receipt], account: SplitAccount) -> None:
        """Publish, unless a budget holds the run back."""
        over = over_budget(self.request.config, self.facts["reasons"], account)
        if over:
            self.facts["state"] = RunState.HELD_BACK
            self.facts["error"] = ErrorFacts(kind="HeldBack", message="; ".join(over))
            return
        with self.phase("publish"):
            manifest = publish(
                self.target.storage,
                self.target.layout,
                receipts,
                schema=published_schema(self.target.storage, plan),
                mode=self.request.config.output.mode,
                on_step=self.on_phase,
            )
        self.facts["manifest"] = manifest.seq
        quarantined = account.quarantined.rows > 0
        self.facts["state"] = RunState.PARTIALLY_SUCCEEDED if quarantined else RunState.SUCCEEDED

    @contextlib.contextmanager
    def recording(self) -> Generator[None]:
        """Write the record at every ending, once the id is ours."""
        try:
            yield
            self.on_phase("record")
        except KeyboardInterrupt as error:
            message = f"run {self.request.run_id} was stopped by a signal. Run the same id again to go on."
            self._store_ending(RunState.CANCELLED, Cancelled(message))
            raise Cancelled(message) from error
        except Exception as error:
            self._store_ending(RunState.FAILED, error)
            raise
        self._store()

    def _store_ending(self, state: RunState, error: Exception) -> None:
        """Record an ending that is none of ours to publish; before the id is claimed there is nothing to record."""
        cause = error.__cause__ if isinstance(error, Refused) and error.__cause__ is not None else error
        self.facts.update(state=state, error=ErrorFacts(kind=type(cause).__name__, message=str(error)))
        if self.claimed:
            self._store()

    def record(self) -> RunRecord:
        """The record as it stands."""
        config = self.request.config
        return RunRecord(
            run_id=self.request.run_id,
            job=config.name,
            who=f"{getpass.getuser()}@{socket.gethostname()}",
            started_at=self.started_at,
            ended_at=self.facts.get("ended_at", datetime.now(UTC)),
            code=code_digest(),
            config=sha256_hex(config.model_dump_json().encode()),
            output=self.target.layout.data,
            wall_seconds={phase: round(seconds, 3) for phase, seconds in self.wall.items()},
            versions=versions(),
            machine=machine(),
            **{"resumed": False, **{key: value for key, value in self.facts.items() if key != "ended_at"}},
        )

    def _store(self) -> None:
        self.facts["ended_at"] = datetime.now(UTC)
        record = self.record()
        self.target.storage.replace(self.target.layout.record, record.to_bytes())
        if self.request.config.metrics is not None and not self.request.is_scratch:
            self._collect(self.request.config.metrics.uri, record)

    @staticmethod
    def _collect(uri: str, record: RunRecord) -> None:
        """Copy the record to where history looks. The run itself is decided; a copy that fails is told, no more."""
        try:
            collect_record(uri, record)
        except (BatchscoreError, OSError) as error:
            logging.getLogger(__name__).warning("the record was not copied to metrics.uri: %s", error)


def _refuse_other_input(plan: Plan, config: JobConfig) -> None:
    planned = {file.path: file.etag for file in plan.inputs}
    now = {file.path: file.etag for file in list_inputs(config.input.patterns)}
    added = [f"{path} is new" for path in sorted(now.keys() - planned.keys())]
    gone = [f"{path} is gone" for path in sorted(planned.keys() - now.keys())]
    changed = [f"{path} was changed" for path in sorted(planned.keys() & now.keys()) if planned[path] != now[path]]
    differences = [*added, *gone, *changed]
    if differences:
        more = f" and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        message = (
            f"run id {plan.run_id} was published with other input: {'; '.join(differences[:_SHOWN])}{more}. "
            "Use another --run-id to score the input as it is now."
        )
        raise Refused(message)


def over_budget(config: JobConfig, reasons: dict[str, int], account: SplitAccount) -> list[str]:
    """A sentence for each stage that set more rows aside than its budget allows."""
    by_stage: Counter[str] = Counter()
    for reason, rows in reasons.items():
        by_stage[reason.partition("/")[0]] += rows
    sentences = []
    for stage, rows in sorted(by_stage.items()):
        budget = getattr(config.budgets, stage)
        if not budget.allows(rows, account.rows_in.rows):
            allowed = budget.model_dump_json(exclude_none=True) if budget != Budget() else "0 rows"
            sentences.append(f"{rows} rows were quarantined by stage {stage}, its budget is {allowed}")
    return sentences
