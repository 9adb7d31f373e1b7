"""What a person decides on a run that is held back: publish it all the same, or throw it away. Scores nothing.

The decision is a document, created if absent, so two people cannot decide differently; the same decision again goes on
where the first was interrupted. What was decided is done from the receipts, so Spark is not needed.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from pydantic import AwareDatetime, Field

from etl.documents import Document
from etl.errors import AccountError, PublishError, ReceiptsVoid, Superseded
from etl.printable import counted
from etl.runs.manifest import version_of
from etl.runs.publish import bar, is_barred, publish, withdraw
from jobs.errors import Refused
from jobs.identity import whoami
from jobs.monitoring.telling import tell_decision
from jobs.planning.increment import admit_of
from jobs.planning.plan import Plan, load_plan
from jobs.record import ErrorFacts, RunRecord, RunState, load_record
from jobs.settling.damage import what_is_left
from jobs.settling.drifting import forget_sketches
from jobs.settling.receipts import account_of, live_receipts, published_schema, receipts_of, splits_of
from jobs.settling.upkeep import after_commit
from jobs.settling.voiding import void_lost

if TYPE_CHECKING:
    from collections.abc import Collection

    from etl.runs.manifest import Manifest
    from etl.runs.receipt import Receipt
    from jobs.planning.destination import Target

__all__ = [
    "Decision",
    "check_not_discarded",
    "discard_run",
    "load_decision",
    "publish_run",
]

OnStep = Callable[[str], None]
"""Told the name of each step before it begins."""


class Decision(Document):
    """Who decided what on a run that was held back, and why."""

    format: Literal["batchscore.decision/1"] = "batchscore.decision/1"
    run_id: str
    verdict: Literal["publish", "discard"]
    quarantined: int = Field(ge=0, description="Rows that were set aside, as the one who decided saw them.")
    accept_errors: int | None = Field(default=None, ge=0, description="Quarantined rows that were accepted.")
    reason: str = Field(min_length=1)
    decided_by: str = Field(description="user@host.")
    decided_at: AwareDatetime


def publish_run(target: Target, *, accept_errors: int, reason: str, on_step: OnStep = lambda _: None) -> RunRecord:
    """Publish a run that is held back, if it set no more than `accept_errors` rows aside; its new record.

    It is published as its config said when it was planned.

    Raises:
        Refused: the run is not held back, has more quarantined rows, or was discarded.
        BatchscoreError: publication failed; the same call goes on.
    """
    record, decided = _undecided(target, "publish", reason)
    if record.state.is_published:
        return record
    quarantined = record.account.quarantined.rows
    if accept_errors < quarantined:
        raise Refused(
            f"run {record.run_id} set {counted(quarantined, 'row')} aside, more than the {accept_errors} that you "
            f"accept. Look at them with `batchscore results {target.layout.root} {record.run_id} --quarantine`, "
            f"or publish with --accept-errors {quarantined}."
        )
    on_step("settle")
    plan = _plan_of(target)
    receipts = _settled_receipts(target, plan, record)
    decision = decided or _decide(target, record, verdict="publish", accept_errors=accept_errors, reason=reason)
    manifest = _published(target, plan, record, receipts=receipts, on_step=on_step)
    terms = plan.terms
    after_commit(target.storage, target.layout.root, symlinks=terms.symlinks, keep_versions=terms.keep_versions)
    forget_sketches(target, plan)
    on_step("record")
    return _store(
        target,
        record,
        plan,
        state=RunState.PARTIALLY_SUCCEEDED if quarantined or record.damaged else RunState.SUCCEEDED,
        error=None,
        manifest=manifest.seq,
        accepted=decision.reason,
        decided_by=decision.decided_by,
    )


def _published(
    target: Target, plan: Plan, record: RunRecord, *, receipts: Collection[Receipt], on_step: OnStep
) -> Manifest:
    """The version that the run is published by; where it cannot be any more, that is recorded."""
    try:
        return publish(
            target.storage,
            target.layout,
            receipts,
            schema=published_schema(target.storage, plan),
            terms=plan.terms,
            on_step=on_step,
            admit=admit_of(target, plan),
        )
    except ReceiptsVoid as error:
        lost = void_lost(target, plan, error)
        raise _unscored(lost, str(error)) from error
    except Superseded as error:
        told = ErrorFacts(kind=type(error).__name__, message=str(error))
        _store(target, record, plan, state=RunState.FAILED, error=told)
        raise


def _unscored(splits: int, why: str) -> PublishError:
    """Receipts are void."""
    lost = counted(splits, "split has lost its files", "splits have lost their files")
    return PublishError(f"{lost}: {why} Run the same id again, which scores them, then publish.")


def _settled_receipts(target: Target, plan: Plan, record: RunRecord) -> Collection[Receipt]:
    """The receipts that the run was settled with before it was held back; its input may be gone by now."""
    receipts = receipts_of(target, plan)
    there = live_receipts(target)
    void = [one for one in splits_of(target, plan) if one.generation and f"{one.name}.json" not in there]
    if void:
        raise _unscored(len(void), "their receipts are void.")
    if account_of(receipts, record.damaged) != record.account:
        message = f"{target.layout.receipts}: the receipts are not those that the run was settled with. Restore them."
        raise AccountError(message)
    return receipts


def discard_run(target: Target, *, reason: str, on_step: OnStep = lambda _: None) -> RunRecord:
    """Throw away the predictions of a run that is held back; its quarantined rows and its record stay.

    Raises:
        Refused: the run is not held back, or somebody decided to publish it.
    """
    record, decided = _undecided(target, "discard", reason)
    if record.state is RunState.DISCARDED:
        return record
    plan = _plan_of(target)
    _check_not_published(target)
    bar(target.storage, target.layout)
    decision = decided or _decide(target, record, verdict="discard", accept_errors=None, reason=reason)
    on_step("withdraw")
    withdraw(target.storage, target.layout, receipts_of(target, plan))
    forget_sketches(target, plan)
    on_step("record")
    return _store(target, record, plan, state=RunState.DISCARDED, decided_by=decision.decided_by)


def load_decision(target: Target) -> Decision | None:
    """What was decided on a run, or None."""
    path = target.layout.decision
    data = target.storage.read_bytes(path)
    return Decision.from_bytes(data, where=path) if data is not None else None


def check_not_discarded(target: Target) -> None:
    """Refuse to go on with a run that a person threw away, even where the throwing away was interrupted.

    Raises:
        Refused: it was discarded; says by whom, when and why.
    """
    decision = load_decision(target)
    if decision is not None and decision.verdict == "discard":
        raise Refused(f"run id {decision.run_id} {_told(decision)}. Use another --run-id.")
    if is_barred(target.storage, target.layout):
        run_id = target.layout.run_id
        raise Refused(
            f"run id {run_id} was given up (`discard`, or `gc`), and its files with it. Use another --run-id."
        )


def _undecided(target: Target, verdict: str, reason: str) -> tuple[RunRecord, Decision | None]:
    """The record of a run that may be decided so, with the same decision where it was taken before.

    Raises:
        Refused: it may not; says why.
    """
    run_id = target.layout.run_id
    if not reason.strip():
        raise Refused(f"run {run_id}: give a reason; it is kept with the run.")
    record = load_record(target.storage, target.layout.record)
    if record is None:
        raise Refused(f"run {run_id} has no record, so there is nothing to decide. If it died, run the same id again.")
    decision = load_decision(target)
    if decision is not None and decision.verdict != verdict:
        raise Refused(f"run {run_id} {_told(decision)}.")
    if decision is None and record.state is not RunState.HELD_BACK:
        hint = "" if record.state.is_published else " Run the same id again to go on with it."
        raise Refused(f"run {run_id} is {record.state}, not HELD_BACK, so there is nothing to decide.{hint}")
    return record, decision


def _told(decision: Decision) -> str:
    done = {"publish": "was accepted for publication", "discard": "was discarded"}[decision.verdict]
    return f"{done} by {decision.decided_by} on {decision.decided_at:%Y-%m-%d %H:%M} UTC: {decision.reason}"


def _decide(
    target: Target, record: RunRecord, *, verdict: Literal["publish", "discard"], accept_errors: int | None, reason: str
) -> Decision:
    """Write the decision down, unless somebody was quicker.

    Raises:
        Refused: somebody was, and decided otherwise.
    """
    decision = Decision(
        run_id=record.run_id,
        verdict=verdict,
        quarantined=record.account.quarantined.rows,
        accept_errors=accept_errors,
        reason=reason.strip(),
        decided_by=whoami(),
        decided_at=datetime.now(UTC),
    )
    if target.storage.create_if_absent(target.layout.decision, decision.to_bytes()):
        return decision
    found = load_decision(target) or decision
    if found.verdict != verdict:
        raise Refused(f"run {record.run_id} {_told(found)}.")
    return found


def _plan_of(target: Target) -> Plan:
    plan = load_plan(target)
    if plan is None:
        raise Refused(f"run {target.layout.run_id} has no plan, so there is nothing to decide.")
    return what_is_left(target, plan).plan


def _check_not_published(target: Target) -> None:
    if version_of(target.storage, target.layout) is not None:
        raise Refused(f"run {target.layout.run_id} is published, so it is not discarded.")


def _store(target: Target, record: RunRecord, plan: Plan, **changes: object) -> RunRecord:
    changed = record.model_copy(update={**changes, "recorded_at": datetime.now(UTC)})
    target.storage.replace(target.layout.record, changed.to_bytes())
    tell_decision(target, plan, changed)
    from jobs.report.leaving import renew_report  # noqa: PLC0415  it looks at runs, and so at what was decided on them

    renew_report(target)
    return changed
