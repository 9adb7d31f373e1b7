"""Run a scoring job: read → contract → transform → score → publish → record."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from etl.documents import canonical_json, sha256_hex
from etl.errors import AccountError, BatchscoreError, ReceiptsVoid, StorageError
from etl.expectations import unique_columns
from etl.printable import counted
from etl.runs.account import counting_rows, settle
from etl.runs.damage import account_of_damaged
from etl.runs.manifest import is_held, latest_manifest, version_of
from etl.runs.publish import publish
from etl.runs.splits import group_splits
from etl.runs.storage import storage_for
from etl.runs.store_settings import configure
from etl.spark.freeze import freeze
from etl.spark.sessions import parallelism
from jobs.errors import Cancelled, Refused, refusing
from jobs.identity import whoami
from jobs.monitoring.guard import Guard
from jobs.monitoring.telling import Telling
from jobs.planning.destination import Target, terms_now
from jobs.planning.increment import admit_of
from jobs.planning.models import Known
from jobs.planning.plan import Plan, check_asked, claim_run, load_plan, target_of
from jobs.planning.preparation import PreparedInput, TableWork, bundle_of, prepare_input, work_on_table
from jobs.planning.resolving import check_input, list_inputs, make_plan, restore_models, store_plan
from jobs.planning.sources import sources_of, with_digests
from jobs.record import (
    ErrorFacts,
    RunRecord,
    RunState,
    Snapshot,
    Stretch,
    load_record,
    machine,
    versions,
    wall_seconds,
)
from jobs.report.gathered import Ended
from jobs.report.leaving import leave_report
from jobs.request import RunRequest
from jobs.session import start_session
from jobs.settling.damage import Left, check_policy, find_damaged, over_file_budget, set_aside, what_is_left
from jobs.settling.decisions import check_not_discarded
from jobs.settling.drifting import drift_of, forget_sketches
from jobs.settling.receipts import account_of, live_receipts, published_schema, receipts_of, splits_of
from jobs.settling.totals import over_budget, totals_of
from jobs.settling.uniqueness import count_run, load_repeats
from jobs.settling.upkeep import after_commit
from jobs.settling.voiding import void_lost
from scoring.code import code_digest
from scoring.spark.tasks import run_tasks

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Mapping

    from pyspark.sql import SparkSession

    from etl.runs.damage import DamagedFile
    from etl.runs.manifest import Manifest
    from etl.runs.receipt import Receipt, RowTally, SplitAccount, Tally
    from etl.runs.splits import InputFile, Split
    from jobs.config.job import JobConfig
    from scoring.spark.tasks import Failure

__all__ = ["OnPhase", "RunRequest", "published_before", "run"]

OnPhase = Callable[[str], None]
"""Told the name of each phase before it begins."""

_SHOWN = 10


def run(request: RunRequest, on_phase: OnPhase = lambda _: None) -> RunRecord:
    """Score a job's input and publish the predictions; again with the same id goes on where it stopped.

    Returns the record of the run: published, or held back over a budget or an expectation.

    Raises:
        BatchscoreError: it failed or was refused; the record says so too, unless nothing had been claimed.
    """
    configure(request.config.storage)
    job = _Run(request, on_phase)
    done = job.already_published()
    if done is not None:
        return done
    with job.recording(), job.guard.watching():
        plan = job.read()
        while True:
            left = job.transform_and_score(plan)
            try:
                receipts, account = job.settle(left)
                job.publish(left, receipts, account)
                break
            except ReceiptsVoid as error:
                job.call_void(left, error)
    return job.record


def published_before(request: RunRequest) -> RunRecord | None:
    """The record of what `run` would find published, and leave as it is; None where it would begin, or go on.

    Raises:
        Refused: see `run`.
    """
    configure(request.config.storage)
    return _Run(request, lambda _: None).already_published()


class _Run:
    """One try at a run: its clocks, and the record as it grows."""

    def __init__(self, request: RunRequest, on_phase: OnPhase) -> None:
        self.request = request
        self.target: Target = target_of(request.config, request.run_id, scratch=request.is_scratch)
        self._on_phase = on_phase
        self._announced = ""
        self._session: SparkSession | None = None
        self._timeline: list[Stretch] = []
        self._claimed = False
        self._plan: Plan | None = None
        self._aside: tuple[DamagedFile, ...] = ()
        """Input files that were set aside."""
        self._counted: dict[int, RowTally] = {}
        """Rows of splits by the footers of the input, where they were counted while tasks ran."""
        self._receipts: Collection[Receipt] = ()
        """Those that the record sums up."""
        self.record = _begun(request, self.target)
        self._telling = Telling(request.config, self.target, is_trial=request.is_scratch)
        self.guard = Guard(
            request.config,
            self.target,
            is_trial=request.is_scratch,
            tell=lambda breach: self._telling.breached(self.record, breach),
        )

    @contextlib.contextmanager
    def phase(self, name: str) -> Generator[None]:
        """Announce a phase, once where it goes on in several pieces, and clock it."""
        if name != self._announced:
            self._announced = name
            self._on_phase(name)
        self.guard.phase(name)
        began, start = datetime.now(UTC), time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self._timeline.append(Stretch(phase=name, started_at=began, seconds=round(spent, 6)))

    def already_published(self) -> RunRecord | None:
        """The record of a published run with this id over the same input; None when there is something to do.

        Raises:
            Refused: the id is bound to other settings, was published over other input, or was discarded.
        """
        request, (storage, layout) = self.request, self.target
        with refusing():
            plan = load_plan(self.target)
            if plan is None:
                return None
            check_asked(plan, request.config, request.part)
            check_not_discarded(self.target)
            record = load_record(storage, layout.record)
            version = self._committed()
            if record is None or not record.state.is_published or version is None:
                return None
            if storage.stat(layout.success) is None and is_held(storage, layout, version):
                return None
            if request.config.input.patterns:
                _refuse_other_input(plan, request.config)
            return record

    def read(self) -> Plan:
        """Claim the id; pin and resolve everything, or take up the plan of an earlier try.

        Raises:
            Refused: anything is known that would make the run fail.
        """
        with refusing():
            places = [(self.target.storage, self.target.layout.root)]
            if self.request.config.metrics is not None:
                places.append(storage_for(self.request.config.metrics.uri))
            with self.phase("claim"):
                self._telling.prepare()
                claim_run(self.target, self.request.config.name)
                self._claimed = True
                self._telling.start(self.record)
                self.guard.begin(self.record)
                plan = load_plan(self.target)
                for storage, root in places if plan is None else ():
                    storage.prove(root)
            resumed = plan is not None
            plan = plan or self._make_plan()
            if not resumed or self._committed() is None:
                restore_models(self.target, self.request.config, plan)
        self._plan = plan
        listing = canonical_json([asdict(file) for file in plan.inputs])
        self._note(
            resumed=resumed,
            inputs=with_digests(self.record.inputs, plan),
            snapshot=Snapshot(files=len(plan.inputs), bytes=plan.bytes_in, digest=sha256_hex(listing)),
            model=plan.model,
            models=plan.models if len(plan.models) > 1 else (),
            splits=len(plan.splits),
            increment=plan.increment,
            projected_task_bytes=plan.projected_task_bytes,
            relational=plan.prepared.counts if plan.prepared else None,
        )
        return plan

    def _make_plan(self) -> Plan:
        request, config = self.request, self.request.config
        # Before the input is looked at: what is committed from here on may be of newer input, and is not replaced.
        latest = latest_manifest(self.target.storage, self.target.layout.root)
        inputs: tuple[InputFile, ...] = ()
        if config.input.patterns:
            with self.phase("list"):
                inputs = list_inputs(config.input.patterns)
        with self.phase("plan"):
            audited = bundle_of(config)
            work = work_on_table(config, audited)
        prepared = self._prepare(work, inputs) if work is not None else None
        if prepared is not None:
            with self.phase("prepare"):
                inputs = list_inputs((prepared.folder,))
        elif not inputs:
            inputs = self._freeze()
        with self.phase("plan"):
            known = Known(audited, prepared)
            resolved = make_plan(self.target, config, inputs, latest=latest, part=request.part, known=known)
            plan = store_plan(self.target, resolved)
        check_asked(plan, config, request.part)
        return plan

    def _prepare(self, work: TableWork, source: tuple[InputFile, ...]) -> PreparedInput:
        """Run the relational steps that need the whole table, and freeze what they give."""
        config = self.request.config
        if config.input.on_damaged == "quarantine":
            raise Refused(f"input.on_damaged is `quarantine`, which goes with rows that workers read: {work.reason}.")
        check_input(config, source)
        folder, spark = self._scratch_folder(), self._spark()
        with self.phase("prepare"):
            return prepare_input(spark, config, work, source=source, folder=folder)

    def _scratch_folder(self) -> str:
        """A folder of this try's own, outside the output root."""
        config = self.request.config
        _, scratch = storage_for(config.scratch or f"{config.output.uri.rstrip('/')}.scratch")
        return f"{scratch}/run_id={self.request.run_id}/frozen-{secrets.token_hex(4)}"

    def _freeze(self) -> tuple[InputFile, ...]:
        """The table or query as Parquet."""
        config, folder = self.request.config, self._scratch_folder()
        spark = self._spark()
        with self.phase("freeze"):
            source = config.input
            freeze(spark, table=source.table, sql=source.sql, folder=folder, limit=self.request.limit)
            return list_inputs((folder,))

    def _spark(self) -> SparkSession:
        if self._session is None:
            with self.phase("start_spark"):
                self._session = start_session(f"batchscore {self.request.run_id}", self.request.config.spark)
            self.guard.attach(self._session)
        return self._session

    def transform_and_score(self, plan: Plan) -> Plan:
        """Score every split that has no receipt; contract and transform happen in the same worker pass.

        Gives the plan of what is left where damaged files were set aside.

        Raises:
            SplitsFailed: with every distinct cause.
        """
        config = self.request.config
        plan = self._leave_out(what_is_left(self.target, plan))
        if self._aside and self._committed() is None:
            check_policy(config, self._aside)
        while missing := self._unscored(plan):
            failures = self._score(plan, missing)
            left = {split.index for split in self._unscored(plan)}
            self._note(splits_scored_now=self.record.splits_scored_now + len(missing) - len(left))
            # What failed here, and has a receipt, another try could read.
            failures = [failure for failure in failures if failure.split in left]
            if not failures:
                break
            found = find_damaged(self.target, plan, failures)
            self._note(damaged=(*self._aside, *found))
            plan = self._leave_out(set_aside(self.target, config, plan, found=found, failures=failures))
        return plan

    def _leave_out(self, left: Left) -> Plan:
        """Go on with what is left of the plan; footers that were counted may be of more."""
        self._plan, self._aside, self._counted = left.plan, left.damaged, {}
        self._note(damaged=left.damaged)
        return left.plan

    def _score(self, plan: Plan, missing: tuple[Split, ...]) -> list[Failure]:
        spark = self._spark()
        with self.phase("score"), counting_rows(plan.splits) as self._counted:
            task_bytes = int(self.request.config.splits.task_bytes)
            tasks = group_splits(missing, task_bytes=task_bytes, parallelism=parallelism(spark))
            return run_tasks(spark, plan.order, tasks)

    def _unscored(self, plan: Plan) -> tuple[Split, ...]:
        there = live_receipts(self.target)
        return tuple(split for split in splits_of(self.target, plan) if f"{split.name}.json" not in there)

    def settle(self, plan: Plan) -> tuple[Collection[Receipt], SplitAccount]:
        """Prove that every row of the input went to exactly one place.

        A run that was committed was settled before; by now its input may be gone.
        """
        with self.phase("settle"):
            receipts = receipts_of(self.target, plan)
            is_committed = self._committed() is not None
            if is_committed:
                account = account_of(receipts, self._aside)
            else:
                account = settle(plan.splits, receipts, counted=self._counted)
                account += account_of_damaged(self._aside)
        repeats: dict[str, Tally] = {}
        if unique_columns(plan.expectations):
            with self.phase("count"):
                repeats = count_run(self.target, plan, receipts)
        self._sum_up(receipts, plan, repeats)
        if (settings := self.request.config.drift) is not None and self.request.part.is_all:
            with self.phase("drift"):
                facts = drift_of(self.target, settings, plan, receipts=receipts, is_committed=is_committed)
            self._note(drift=facts)
        if account.filtered.rows and not (plan.filters or plan.order.leaves_out):
            raise AccountError(f"filtered: {counted(account.filtered.rows, 'row')}, but the run asked for no filter.")
        return receipts, account

    def _sum_up(self, receipts: Collection[Receipt], plan: Plan, repeats: Mapping[str, Tally]) -> None:
        self._receipts = receipts
        self._note(**totals_of(receipts, plan, repeats, damaged=self._aside))

    def publish(self, plan: Plan, receipts: Collection[Receipt], account: SplitAccount) -> None:
        """Publish, unless a budget or an expectation holds the run back."""
        broken = [str(found) for found in self.record.expectations if found.severity == "fail" and not found.holds]
        budgets, total = self.request.config.budgets, plan.bytes_in
        damaged = over_file_budget(budgets.read, self._aside, total)
        drifted = self.record.drift.failures if self.record.drift is not None else ()
        reasons = [*damaged, *over_budget(self.request.config, self.record.reasons, account), *broken, *drifted]
        reasons += self.guard.withheld(self.record)
        if reasons and self._committed() is None:
            self._note(state=RunState.HELD_BACK, error=ErrorFacts(kind="HeldBack", message="; ".join(reasons)))
            return
        with self.phase("publish"):
            manifest = publish(
                self.target.storage,
                self.target.layout,
                receipts,
                schema=published_schema(self.target.storage, plan),
                terms=terms_now(plan.terms, self.request.config.output),
                on_step=self._on_phase,
                admit=admit_of(self.target, plan),
            )
        self._note_published(manifest)
        output = self.request.config.output
        after_commit(
            self.target.storage,
            self.target.layout.root,
            symlinks=output.symlink_manifest,
            keep_versions=output.keep_versions,
        )
        forget_sketches(self.target, plan)

    def call_void(self, plan: Plan, error: ReceiptsVoid) -> None:
        """Give up receipts whose files are gone, so that their splits are scored again.

        Raises:
            ReceiptsVoid: that happened again and again.
        """
        lost = void_lost(self.target, plan, error)
        self._note(void_receipts=self.record.void_receipts + lost)

    @contextlib.contextmanager
    def recording(self) -> Generator[None]:
        """Write the record at every ending, once the id is ours."""
        try:
            yield
            self._on_phase("record")
        except KeyboardInterrupt as error:
            message = f"run {self.request.run_id} was stopped by a signal. Run the same id again to go on."
            cancelled = Cancelled(message)
            self._store_ending(RunState.CANCELLED, cancelled)
            raise cancelled from error
        except Exception as error:
            self._store_ending(RunState.FAILED, error)
            raise
        try:
            self._store()
        except (BatchscoreError, OSError) as error:
            done = "was published" if self.record.state.is_published else "is held back"
            message = (
                f"run {self.request.run_id} {done}, but its record cannot be stored: {error} Run the same id again."
            )
            raise StorageError(message) from error

    def _store_ending(self, state: RunState, error: Exception) -> None:
        """Record an ending that was not asked for, with what is known by then. It must not hide the error."""
        if not self._claimed:
            return
        self._on_phase("ending")
        self._note(state=state, error=ErrorFacts.of(error))
        try:
            if self._plan is not None:
                receipts, repeats = receipts_of(self.target, self._plan), load_repeats(self.target)
                self._sum_up(receipts, self._plan, repeats or {})
            manifest = self._committed()
            if manifest is not None:
                # What came between the commit and its marks changes nothing of what readers see.
                self._note_published(manifest)
                error.add_note(f"The run is published, as version {manifest.seq}.")
            self._store()
        except (BatchscoreError, OSError) as second:
            error.add_note(f"The record of the run cannot be stored either: {second}")

    def _committed(self) -> Manifest | None:
        """The version that published this run, which need not be in the newest one any more."""
        return version_of(self.target.storage, self.target.layout)

    def _note_published(self, manifest: Manifest) -> None:
        is_partial = self.record.account.quarantined.rows > 0 or self._aside
        state = RunState.PARTIALLY_SUCCEEDED if is_partial else RunState.SUCCEEDED
        self._note(state=state, manifest=manifest.seq)

    def _note(self, **facts: object) -> None:
        self.record = self.record.model_copy(update=facts)

    def _store(self) -> None:
        now = datetime.now(UTC)
        self._note(timeline=tuple(self._timeline), wall_seconds=wall_seconds(self._timeline))
        self._note(ended_at=now, recorded_at=now)
        self._note(**self.guard.facts(self.record, self._receipts))
        self.target.storage.replace(self.target.layout.record, self.record.to_bytes())
        self._telling.finish(self.record, self._receipts, self._plan)
        leave_report(Ended(self.target, self.record, self._plan, self._receipts), self.request.config)


def _begun(request: RunRequest, target: Target) -> RunRecord:
    """The record of a run that has done nothing yet; until it ends otherwise, it has failed."""
    now = datetime.now(UTC)
    return RunRecord(
        run_id=request.run_id,
        job=request.config.name,
        state=RunState.FAILED,
        who=whoami(),
        started_at=now,
        ended_at=now,
        recorded_at=now,
        logical_date=request.logical_date,
        resumed=False,
        code=code_digest(),
        config=sha256_hex(request.config.model_dump_json().encode()),
        output=target.layout.data,
        inputs=sources_of(request.config),
        missing_keys=request.missing_keys,
        versions=versions(),
        machine=machine(),
    )


def _refuse_other_input(plan: Plan, config: JobConfig) -> None:
    planned = {file.path: file.etag for file in plan.sources}
    now = {file.path: file.etag for file in list_inputs(config.input.patterns)}
    # Of an incremental run neither says that it was another input.
    is_whole = plan.increment is None
    added = [f"{path} is new" for path in sorted(now.keys() - planned.keys()) if is_whole]
    gone = [f"{path} is gone" for path in sorted(planned.keys() - now.keys()) if is_whole]
    changed = [f"{path} was changed" for path in sorted(planned.keys() & now.keys()) if planned[path] != now[path]]
    differences = [*added, *gone, *changed]
    if differences:
        more = f" and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        message = (
            f"run id {plan.run_id} was published with other input: {'; '.join(differences[:_SHOWN])}{more}. "
            "Use another --run-id to score the input as it is now."
        )
        raise Refused(message)
