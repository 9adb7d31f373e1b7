"""Submit a job whose driver runs elsewhere, wait until it has ended, and tell how."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from etl.runs.storage import storage_for
from jobs.deploying.commands import is_digested, staged
from jobs.deploying.packing import upload
from jobs.deploying.submission import Target
from jobs.errors import NotAwaited, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobs.deploying.submission import Submission

__all__ = ["Ended", "stage", "submit"]

_PAUSE = 20.0
"""Seconds between two questions to a service."""
_SERVICES_OF_AWS = {Target.EMR, Target.EMR_SERVERLESS}
_SAID = 2000
"""Characters of what a program said that are told."""
_LOOKS = 10
"""Looks in a row that may fail before nobody waits any more."""
_LOST = re.compile(
    r"timeout|timed out|connection (was closed|aborted|broken|reset)|remote end closed|"
    r"\((InternalServer|InternalFailure|ServiceUnavailable)",
    re.IGNORECASE,
)
"""What aws says where a request was sent and no answer came that tells whether it was taken."""


class Ended(NamedTuple):
    """What the platform says of a job, which is less than its record does."""

    state: str
    hint: str
    """Where its log is, or what stops a job that goes on."""


def stage(asked: Submission) -> None:
    """Put what lies on this machine where the service finds it; what a digest names and is there is not sent again.

    Raises:
        Refused: a file is not there, or the store does not answer.
        StorageError: the store does not take it.
    """
    for path, uri in staged(asked).items():
        storage, there = storage_for(uri)
        try:
            if not is_digested(uri):
                storage.replace(there, Path(path).read_bytes())
            elif storage.stat(there) is None:
                upload(Path(path), storage, there)
        except OSError as error:
            raise Refused(f"{path} cannot be sent to {uri}: {error}.") from error


def submit(asked: Submission, words: Sequence[str], tell: Callable[[str], None]) -> Ended:
    """Submit what is staged by these words and wait; `tell` gets lines for people.

    Raises:
        Refused: the program that submits is not here, or the service did not take the job.
        NotAwaited: the job is on its way, runs, or may: a signal came, or nobody could be asked any more. Says how to
            look at it, and how to stop it.
    """
    job = ""
    try:
        if asked.target in _SERVICES_OF_AWS:
            job = _begin(asked, words)
            tell(f"submitted to {asked.target} as {job}: run {asked.run_id}")
            return _wait(asked, job, words, tell=tell)
        tell(f"submitted to {asked.target}: run {asked.run_id}")
        code = _run(words, quiet=False).returncode
    except KeyboardInterrupt as error:
        why = f"a signal ended the waiting for run {asked.run_id}, and nothing else"
        raise NotAwaited(_how_to_go_on(asked, job, words, why=why)) from error
    if not asked.target.is_cloud:
        log = "Its log is the cluster's: `yarn logs`, `kubectl logs`, or the web page."
        return Ended(f"spark-submit ended with {code}", log)
    return Ended(f"gcloud ended with {code}", "Its log is on the job's page of Dataproc.")


def _how_to_go_on(asked: Submission, job: str, words: Sequence[str], *, why: str) -> str:
    """What to type in order to look at a job that nobody waits for any more, and to stop it."""
    # Only AWS gives an id when it has taken a job: the others' programs may still have been sending it.
    taker = "service" if asked.target.is_cloud else "cluster"
    begun = "the job goes on" if job else f"the {taker} may have taken the job, which then goes on"
    return (
        f"{why}: {begun}.\n"
        f"  look at it: {shlex.join(['batchscore', 'status', asked.where, asked.run_id])} --follow\n"
        f"  stop it: {_stop(asked, job, words)}"
    )


def _stop(asked: Submission, job: str, words: Sequence[str]) -> str:
    places, job = asked.places, job or "ID"
    region = f" --region {places.region}" if places.region else ""
    if asked.target is Target.EMR:
        option = "--step-cancellation-option TERMINATE_PROCESS"
        return f"aws emr cancel-steps --cluster-id {places.cluster} --step-ids {job} {option}{region}"
    if asked.target is Target.EMR_SERVERLESS:
        return f"aws emr-serverless cancel-job-run --application-id {places.application} --job-run-id {job}{region}"
    if asked.target is Target.DATAPROC_SERVERLESS:
        return f"gcloud dataproc batches cancel {words[words.index('--batch') + 1]}{region}"
    if asked.target is Target.DATAPROC:
        label = next(word for word in words if word.startswith("batchscore-run="))
        found = f"gcloud dataproc jobs list{region} --filter labels.{label} --state-filter active"
        return f"gcloud dataproc jobs kill ID{region}, with the ID of `{found}`"
    if asked.target is Target.K8S:
        namespace = f" -n {places.namespace}" if places.namespace else ""
        return (
            f"kubectl delete pod NAME{namespace}, with the NAME of `kubectl get pods{namespace} -l spark-role=driver`"
        )
    return f"yarn application -kill ID, with the ID of `yarn application -list`, where it is called {asked.name!r}"


def _begin(asked: Submission, words: Sequence[str]) -> str:
    """Have a service of AWS take the job; its id there."""
    done = _run(words, quiet=True)
    if not done.returncode:
        return done.stdout.strip()
    failure = _failure(words, done)
    if done.returncode < 0 or _LOST.search(done.stderr):
        raise NotAwaited(_how_to_go_on(asked, "", words, why=failure))
    raise Refused(failure)


def _wait(asked: Submission, job: str, words: Sequence[str], *, tell: Callable[[str], None]) -> Ended:
    """Ask AWS until the job has ended: its own waiters give up after half an hour."""
    look, running = _look_of(asked, job)
    told: set[str] = set()
    failed = 0
    while True:
        failure, state = _look(look)
        if not failure and state not in running:
            return Ended(f"{asked.target} says {state}", f"Its log is that of {job}.")
        failed = failed + 1 if failure else 0
        if failed == _LOOKS:
            why = f"nobody waits for run {asked.run_id} any more, since {failed} looks in a row failed, {failure}"
            raise NotAwaited(_how_to_go_on(asked, job, words, why=why))
        if failure and failure not in told:
            told.add(failure)
            tell(f"asking again: {failure}")
        time.sleep(_PAUSE)


def _look_of(asked: Submission, job: str) -> tuple[list[str], set[str]]:
    """The words that ask for a job's state, and the states in which it has not ended."""
    places = asked.places
    if asked.target is Target.EMR:
        words = ["aws", "emr", "describe-step", "--cluster-id", str(places.cluster), "--step-id", job]
        query, running = "Step.Status.State", {"PENDING", "CANCEL_PENDING", "RUNNING"}
    else:
        words = ["aws", "emr-serverless", "get-job-run", "--application-id", str(places.application)]
        words += ["--job-run-id", job]
        query = "jobRun.state"
        running = {"SUBMITTED", "PENDING", "SCHEDULED", "QUEUED", "RUNNING", "CANCELLING"}
    region = ["--region", places.region] if places.region else []
    return [*words, *region, "--query", query, "--output", "text"], running


def _look(words: Sequence[str]) -> tuple[str, str]:
    """Why a look failed, or nothing; and the state that it found."""
    try:
        done = _run(words, quiet=True)
    except Refused as error:  # the job runs, whatever became of the program that asks
        return str(error), ""
    return (_failure(words, done), "") if done.returncode else ("", done.stdout.strip())


def _failure(words: Sequence[str], done: subprocess.CompletedProcess[str]) -> str:
    return f"`{' '.join(words[:3])}` ended with {done.returncode}: {done.stderr.strip()[-_SAID:]}"


def _run(words: Sequence[str], *, quiet: bool) -> subprocess.CompletedProcess[str]:
    """Run a program; what it prints of itself is no result of ours, and goes where our own words go."""
    try:
        if quiet:
            return subprocess.run(words, check=False, capture_output=True, text=True)  # noqa: S603  ours
        return subprocess.run(words, check=False, stdout=sys.stderr, text=True)  # noqa: S603  ours
    except FileNotFoundError as error:
        raise Refused(f"{words[0]} is not on PATH. Install it, or print the command with --dry-run.") from error
    except OSError as error:
        raise Refused(f"{words[0]} cannot be started: {error.strerror}.") from error
