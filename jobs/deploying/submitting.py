"""Submit a job whose driver runs elsewhere, wait until it has ended, and tell how."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from etl.runs.storage import storage_for
from jobs.deploying.commands import is_digested, staged
from jobs.deploying.submission import Target
from jobs.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobs.deploying.submission import Submission

__all__ = ["Ended", "stage", "submit"]

_PAUSE = 20.0
"""Seconds between two questions to a service."""
_SAID = 2000
"""Characters of what a program said that are told."""


class Ended(NamedTuple):
    """What the platform says of a job, which is less than its record does."""

    state: str
    hint: str
    """Where its log is, or what stops a job that goes on."""


def stage(asked: Submission) -> None:
    """Put what lies on this machine where the service finds it; what a digest names and is there is not sent again.

    Raises:
        Refused: a file is not there.
        StorageError: the store does not take it.
    """
    for path, uri in staged(asked).items():
        storage, there = storage_for(uri)
        if is_digested(uri) and storage.stat(there) is not None:
            continue
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise Refused(f"{path} cannot be sent to {uri}: {error.strerror}.") from error
        storage.replace(there, data)


def submit(asked: Submission, words: Sequence[str], tell: Callable[[str], None]) -> Ended:
    """Submit by these words and wait; `tell` gets a line for people when the job is on its way.

    Raises:
        Refused: the program that submits is not here, or did not take the job.
    """
    stage(asked)
    if not asked.target.is_cloud:
        tell(f"submitted to {asked.target}")
        code = _run(words, quiet=False).returncode
        return Ended(
            f"spark-submit ended with {code}", "Its log is the cluster's: `yarn logs`, `kubectl logs`, or the web page."
        )
    if asked.target is Target.DATAPROC or asked.target is Target.DATAPROC_SERVERLESS:
        tell(f"submitted to {asked.target}")
        code = _run(words, quiet=False).returncode
        return Ended(f"gcloud ended with {code}", "Its log is on the job's page of Dataproc.")
    job = _ask(words)
    tell(f"submitted to {asked.target} as {job}")
    return _wait(asked, job)


def _wait(asked: Submission, job: str) -> Ended:
    """Ask AWS until the job has ended: its own waiters give up after half an hour."""
    places = asked.places
    region = ["--region", places.region] if places.region else []
    if asked.target is Target.EMR:
        words = ["aws", "emr", "describe-step", "--cluster-id", str(places.cluster), "--step-id", job]
        query, running = "Step.Status.State", {"PENDING", "CANCEL_PENDING", "RUNNING"}
    else:
        words = [
            "aws",
            "emr-serverless",
            "get-job-run",
            "--application-id",
            str(places.application),
            "--job-run-id",
            job,
        ]
        query = "jobRun.state"
        running = {"SUBMITTED", "PENDING", "SCHEDULED", "QUEUED", "RUNNING", "CANCELLING"}
    while True:
        state = _ask([*words, *region, "--query", query, "--output", "text"])
        if state not in running:
            return Ended(f"{asked.target} says {state}", f"Its log is that of {job}.")
        time.sleep(_PAUSE)


def _ask(words: Sequence[str]) -> str:
    done = _run(words, quiet=True)
    if done.returncode:
        said = done.stderr.strip()[-_SAID:]
        raise Refused(f"`{' '.join(words[:3])}` ended with {done.returncode}: {said}")
    return done.stdout.strip()


def _run(words: Sequence[str], *, quiet: bool) -> subprocess.CompletedProcess[str]:
    """Run a program; what it prints of itself is no result of ours, and goes where our own words go."""
    try:
        if quiet:
            return subprocess.run(words, check=False, capture_output=True, text=True)  # noqa: S603  ours
        return subprocess.run(words, check=False, stdout=sys.stderr, text=True)  # noqa: S603  ours
    except FileNotFoundError as error:
        raise Refused(f"{words[0]} is not on PATH. Install it, or print the command with --dry-run.") from error
