"""What people decide on runs that are held back."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from etl.errors import AccountError, PublishError
from etl.runs.storage import storage_for
from jobs.config.job import read_config
from jobs.errors import Refused
from jobs.history.runs import find_run, quarantined_rows
from jobs.planning.preview import preview
from jobs.record import RunState, load_record
from jobs.results import open_results
from jobs.run import RunRequest
from jobs.settling.decisions import Decision, check_not_discarded, discard_run, load_decision, publish_run
from tests.jobs.outputs import ROWS, run_job, write_bad_input, write_input, write_job
from tests.numbers_job import logistic_scores, published_scores

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa
    from pyspark.sql import SparkSession

    from jobs.planning.destination import Target

BAD = 4
"""Rows that the runs here set aside."""


class SimulatedStop(BaseException):
    """A death at the border before a step."""


def stop_at(fatal: str):
    """A step listener that dies before one step."""

    def on_step(name: str) -> None:
        if name == fatal:
            raise SimulatedStop

    return on_step


@pytest.fixture
def table(tmp_path: Path, logistic_onnx: Path) -> pa.Table:
    """The rows that a job over four bad ones can score."""
    good = write_bad_input(tmp_path)
    write_job(tmp_path, logistic_onnx)
    return good


@pytest.fixture
def held(spark: SparkSession, table: pa.Table, tmp_path: Path) -> Target:
    """A run that is held back."""
    assert run_job(tmp_path / "job.yaml", "held").state is RunState.HELD_BACK
    return find_run(str(tmp_path / "job.yaml"), "held")


def visible(target: Target) -> list[str]:
    """Predictions that a reader of the folder would see."""
    storage, _ = storage_for(target.layout.root)
    return [name for name in storage.names(target.layout.data) if name.endswith(".parquet")]


def test_a_run_is_published_when_its_errors_are_accepted(held: Target, table: pa.Table, tmp_path: Path) -> None:
    """Publishing a run that is held back makes exactly its scored rows visible, and keeps who accepted what and why."""
    receipts = held.storage.names(held.layout.receipts)
    record = publish_run(held, accept_errors=BAD, reason="the sensor is known to fail")
    assert published_scores(tmp_path / "out" / "run_id=held") == pytest.approx(logistic_scores(table), abs=1e-6)
    assert (record.state, record.manifest, record.error) == (RunState.PARTIALLY_SUCCEEDED, 1, None)
    assert record.accepted == "the sensor is known to fail"
    decision = load_decision(held)
    assert decision is not None
    assert (decision.verdict, decision.accept_errors, decision.quarantined) == ("publish", BAD, BAD)
    assert load_record(held.storage, held.layout.record) == record
    assert held.storage.names(held.layout.receipts) == receipts


def test_more_errors_than_accepted_are_refused(held: Target) -> None:
    """With more quarantined rows than are accepted nothing is published and nothing is decided."""
    with pytest.raises(Refused, match="set 4 rows aside, more than the 3"):
        publish_run(held, accept_errors=BAD - 1, reason="r")
    assert load_decision(held) is None
    assert visible(held) == []


def test_a_reason_is_required(held: Target) -> None:
    """A decision without a reason is refused."""
    with pytest.raises(Refused, match="give a reason"):
        publish_run(held, accept_errors=BAD, reason=" ")
    with pytest.raises(Refused, match="give a reason"):
        discard_run(held, reason="")


@pytest.mark.parametrize("step", ["settle", "complete", "commit", "mark", "record"])
def test_a_publication_that_died_is_completed_by_the_same_decision(held: Target, tmp_path: Path, step: str) -> None:
    """Whatever step it died before, the same call publishes the run once."""
    with pytest.raises(SimulatedStop):
        publish_run(held, accept_errors=BAD, reason="r", on_step=stop_at(step))
    first = publish_run(held, accept_errors=BAD, reason="r")
    again = publish_run(held, accept_errors=BAD, reason="r")
    assert first == again
    results = open_results(str(tmp_path / "out"))
    assert (results.seq, results.run_ids, results.rows) == (1, ("held",), 2 * ROWS - BAD)


def test_a_discarded_run_leaves_no_predictions(held: Target, tmp_path: Path) -> None:
    """Discarding removes every prediction file, pending ones too, and keeps the record and the quarantined rows."""
    assert list((tmp_path / "out" / "run_id=held").iterdir())
    record = discard_run(held, reason="wrong month")
    assert record.state is RunState.DISCARDED
    assert list((tmp_path / "out" / "run_id=held").iterdir()) == []
    assert quarantined_rows(held).num_rows == BAD
    assert discard_run(held, reason="again") == record


def test_the_id_of_a_discarded_run_is_used_up(held: Target, tmp_path: Path) -> None:
    """A run under the id of a discarded one is refused, with who discarded it and why."""
    discard_run(held, reason="wrong month")
    with pytest.raises(Refused, match=r"run id held was discarded by .*: wrong month"):
        run_job(tmp_path / "job.yaml", "held")
    with pytest.raises(Refused, match=r"run id held was discarded by .*: wrong month"):
        preview(RunRequest(config=read_config(str(tmp_path / "job.yaml")), run_id="held"))


@pytest.mark.parametrize("step", ["withdraw", "record"])
def test_a_discarding_that_died_binds(held: Target, tmp_path: Path, step: str) -> None:
    """A run whose discarding was interrupted cannot be run or published any more; the same decision completes it."""
    with pytest.raises(SimulatedStop):
        discard_run(held, reason="r", on_step=stop_at(step))
    with pytest.raises(Refused, match="was discarded"):
        check_not_discarded(held)
    with pytest.raises(Refused, match="was discarded"):
        run_job(tmp_path / "job.yaml", "held")
    with pytest.raises(Refused, match="was discarded"):
        publish_run(held, accept_errors=BAD, reason="r")
    assert discard_run(held, reason="r").state is RunState.DISCARDED


def test_the_first_of_two_decisions_counts(held: Target) -> None:
    """Who decides otherwise than somebody before is told by whom, and changes nothing."""
    with pytest.raises(SimulatedStop):
        publish_run(held, accept_errors=BAD, reason="fine", on_step=stop_at("complete"))
    with pytest.raises(Refused, match=r"was accepted for publication by .*: fine"):
        discard_run(held, reason="not fine")
    assert publish_run(held, accept_errors=BAD, reason="fine").state is RunState.PARTIALLY_SUCCEEDED
    with pytest.raises(Refused, match="was accepted for publication"):
        discard_run(held, reason="not fine")


def test_a_decision_made_meanwhile_counts(held: Target) -> None:
    """Where somebody discards a run while another is about to publish it, it is not published."""

    def discard_meanwhile(name: str) -> None:
        if name == "settle":
            discard_run(held, reason="quicker")

    with pytest.raises(Refused, match=r"was discarded by .*: quicker"):
        publish_run(held, accept_errors=BAD, reason="slower", on_step=discard_meanwhile)
    assert visible(held) == []


def test_only_a_run_that_is_held_back_is_decided(spark: SparkSession, tmp_path: Path, logistic_onnx: Path) -> None:
    """A published run and an unknown one are refused, whatever the decision."""
    write_input(tmp_path)
    job = write_job(tmp_path, logistic_onnx)
    run_job(job, "done")
    target = find_run(str(job), "done")
    with pytest.raises(Refused, match="run done is SUCCEEDED, not HELD_BACK"):
        publish_run(target, accept_errors=0, reason="r")
    with pytest.raises(Refused, match="run done is SUCCEEDED, not HELD_BACK"):
        discard_run(target, reason="r")
    held_by_nobody = target._replace(layout=type(target.layout)(target.layout.root, "other"))
    with pytest.raises(Refused, match="run other has no record"):
        discard_run(held_by_nobody, reason="r")
    assert load_decision(target) is None


def test_a_larger_budget_publishes_without_a_decision(held: Target, tmp_path: Path, logistic_onnx: Path) -> None:
    """The same id with a budget that allows the errors publishes what is scored; discarding it then is refused."""
    job = write_job(tmp_path, logistic_onnx, budgets={"contract": {"max_rows": BAD}})
    record = run_job(job, "held")
    assert (record.state, record.splits_scored_now) == (RunState.PARTIALLY_SUCCEEDED, 0)
    with pytest.raises(Refused, match="not HELD_BACK"):
        discard_run(held, reason="r")


def test_a_discarding_bars_whoever_is_about_to_publish(held: Target, tmp_path: Path, logistic_onnx: Path) -> None:
    """A driver that had looked for a decision before there was one commits nothing once the discarding has begun."""
    job = write_job(tmp_path, logistic_onnx, budgets={"contract": {"max_rows": BAD}})

    def publish_meanwhile(name: str) -> None:
        if name == "withdraw":
            path = tmp_path / "out" / "_batchscore" / "runs" / "held" / "decision.json"
            kept = path.read_bytes()
            path.unlink()
            with pytest.raises(Refused, match=r"run id held was given up \(`discard`, or `gc`\)"):
                run_job(job, "held")
            path.write_bytes(kept)

    discard_run(held, reason="r", on_step=publish_meanwhile)
    assert visible(held) == []
    with pytest.raises(Refused, match="nothing is published"):
        open_results(str(tmp_path / "out"))


def test_a_publication_that_began_is_not_discarded(held: Target, tmp_path: Path, logistic_onnx: Path) -> None:
    """Where a publisher has got as far as the commit, discarding is refused, and the same id publishes."""
    job = write_job(tmp_path, logistic_onnx, budgets={"contract": {"max_rows": BAD}})

    with pytest.raises(SimulatedStop):
        run_job(job, "held", stop_at("mark"))
    manifest = tmp_path / "out" / "_batchscore" / "manifests" / "000000000001.json"
    manifest.unlink()  # as if it had died a moment earlier
    with pytest.raises(PublishError, match="a publication of this run has begun"):
        discard_run(held, reason="r")
    assert load_decision(held) is None
    assert run_job(job, "held").state is RunState.PARTIALLY_SUCCEEDED


def test_a_discarded_run_shows_nothing_that_a_dead_publisher_had_shown(
    held: Target, tmp_path: Path, logistic_onnx: Path
) -> None:
    """Files that a publisher had completed before it died are removed when the run is discarded."""
    job = write_job(tmp_path, logistic_onnx, budgets={"contract": {"max_rows": BAD}})

    with pytest.raises(SimulatedStop):
        run_job(job, "held", stop_at("commit"))
    assert visible(held) != []
    write_job(tmp_path, logistic_onnx)
    assert run_job(job, "held").state is RunState.HELD_BACK
    discard_run(held, reason="r")
    assert visible(held) == []


def test_a_run_whose_input_is_gone_can_be_published(held: Target, table: pa.Table, tmp_path: Path) -> None:
    """A run that was held back was settled then, so that its input need not be there any more."""
    shutil.rmtree(tmp_path / "in")
    publish_run(held, accept_errors=BAD, reason="r")
    assert published_scores(tmp_path / "out" / "run_id=held") == pytest.approx(logistic_scores(table), abs=1e-6)


def test_receipts_that_were_changed_are_not_published(held: Target) -> None:
    """Where the receipts are not those that were settled, publication is refused."""
    held.storage.delete(held.layout.receipt("000000"))
    with pytest.raises(AccountError, match="the receipts are not those that the run was settled with"):
        publish_run(held, accept_errors=BAD, reason="r")


def test_a_decision_is_published_in_the_mode_that_was_planned(
    spark: SparkSession, table: pa.Table, tmp_path: Path, logistic_onnx: Path
) -> None:
    """A run that may only go into an empty root is not published beside another one that came first."""
    job = write_job(
        tmp_path, logistic_onnx, output={"uri": str(tmp_path / "out"), "passthrough": ["id"], "mode": "error"}
    )
    run_job(job, "held")
    other = write_job(tmp_path, logistic_onnx, budgets={"contract": {"max_rows": BAD}})
    run_job(other, "quicker")
    with pytest.raises(Exception, match=r"output\.mode is `error`"):
        publish_run(find_run(str(tmp_path / "out"), "held"), accept_errors=BAD, reason="r")
    assert open_results(str(tmp_path / "out")).run_ids == ("quicker",)


def test_a_decision_survives_storage(held: Target) -> None:
    """A decision that is read back is the one that was stored."""
    discard_run(held, reason="größer als erlaubt")
    found = load_decision(held)
    assert found is not None
    assert Decision.from_bytes(found.to_bytes(), where="decision.json") == found
    assert found.reason == "größer als erlaubt"
