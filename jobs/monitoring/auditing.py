"""Who scored what with what: questions to the collected records alone, and whether these are what was sealed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from etl.runs.globs import has_magic, matcher
from jobs.errors import Refused
from jobs.monitoring.collected import Collected
from jobs.monitoring.sealing import Finding, check_seals
from jobs.planning.sources import place_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from jobs.monitoring.collected import Ending
    from jobs.planning.models import ModelFacts
    from jobs.planning.sources import Source
    from jobs.record import RunRecord

__all__ = ["Audit", "Entry", "Question", "audit", "is_named"]

_DIGEST = re.compile(r"[0-9a-f]{8,64}")
"""What may be the beginning of a digest."""


class Question(NamedTuple):
    """Which endings are asked for: those to which all that is said applies."""

    job: str | None = None
    model: str | None = None
    """Name, `name:version`, or eight digits or more of the digest of a bundle."""
    data: str | None = None
    """The beginning of an input's or output's place; or a file that an input's pattern finds."""
    user: str | None = None
    """Who started the run or decided on it: `user` or `user@host`."""
    since: datetime | None = None
    """Ended then or later."""
    until: datetime | None = None
    """Begun before."""
    seal: str | None = None
    """A seal that is known to have been there, by its SHA-256."""


class Entry(NamedTuple):
    """An ending of a run, and what the seals say of it."""

    ending: Ending
    seal: str
    """`ok`, `unsealed`, or what is found to be wrong."""


class Audit(NamedTuple):
    """What was found."""

    entries: tuple[Entry, ...]
    """Those asked for, the newest first; among them those that cannot be read, of which nobody knows what they are."""
    findings: tuple[tuple[str, Finding], ...]
    """By job, all that is not as it was sealed, whatever was asked for."""
    newest: dict[str, str]
    """Of each job that has seals, the SHA-256 of the newest one."""


def audit(collected: Collected, question: Question) -> Audit:
    """Answer a question, and look at all records of the jobs that it is about.

    Raises:
        Refused: there is no record of the job, or no record at all.
    """
    jobs = collected.jobs()
    asked = [name for name in jobs if question.job in {None, name}]
    if not asked:
        raise Refused(f"{collected.folder}: {_nothing(collected, jobs, question.job)}")
    entries: list[Entry] = []
    findings: list[tuple[str, Finding]] = []
    newest: dict[str, str] = {}
    seals: set[str] = set()
    for job in asked:
        sealed = check_seals(collected.storage, f"{collected.folder}/{job}")
        findings += [(job, finding) for finding in sealed.findings]
        seals.update(sealed.digests.values())
        if sealed.digests:
            newest[job] = list(sealed.digests.values())[-1]
        wrong = {finding.ending: finding.what for finding in reversed(sealed.findings)}
        for ending in collected.every_ending(job):
            if _is_asked(ending, question):
                is_free = ending.name in sealed.unsealed
                entries.append(Entry(ending, wrong.get(ending.name, "unsealed" if is_free else "ok")))
    if question.seal is not None and question.seal not in seals:
        told = f"the seal {question.seal} is gone, and what was collected with it, or was changed"
        findings.append((question.job or "", Finding("", "missing", told)))
    entries.sort(key=lambda entry: (entry.ending.when, entry.ending.run_id), reverse=True)
    return Audit(tuple(entries), tuple(findings), newest)


def _nothing(collected: Collected, jobs: list[str], job: str | None) -> str:
    """Why there is no record that could be asked about, and what to do."""
    if jobs:
        return f"no record of job {job!r} is here. There are: {', '.join(jobs)}."
    above, _, name = collected.folder.rpartition("/")
    if above and name in Collected(collected.storage, above).jobs():
        return f"these are the records of job {name!r} alone. Give {above}, and --job {name}."
    return (
        "no record at all is here. Give the place that `metrics.uri` of the jobs names, or --config with a job's file; "
        "records are collected there from the first run on that ends with it."
    )


def _is_asked(ending: Ending, question: Question) -> bool:
    record = ending.record
    if record is None:
        # It ended when its name says. Whether the rest applies nobody knows, so it is not hidden.
        return question.since is None or ending.when >= question.since
    tests = (
        question.since is None or record.recorded_at >= question.since,
        question.until is None or record.started_at < question.until,
        question.user is None or _is_by(question.user, record),
        question.model is None or any(is_named(question.model, model) for model in record.all_models),
        question.data is None or _touches(question.data, record),
    )
    return all(tests)


def _is_by(user: str, record: RunRecord) -> bool:
    people = [who for who in (record.who, record.decided_by) if who is not None]
    return any(user in {who, who.partition("@")[0]} for who in people)


def is_named(asked: str, model: ModelFacts) -> bool:
    """Whether a model is meant by a name, `name:version`, or eight digits or more of the digest of its bundle."""
    is_digest = _DIGEST.fullmatch(asked) is not None and model.bundle_sha256.startswith(asked)
    return is_digest or asked in {model.name, f"{model.name}:{model.version}"}


def _touches(asked: str, record: RunRecord) -> bool:
    """Whether a place is the beginning of one that the run read or wrote, or lies in it."""
    forms = {asked, place_of(asked)}
    read = [source for source in record.inputs if source.is_data]
    return any(
        place.startswith(form) for form in forms for place in (*(one.place for one in read), record.output)
    ) or any(_finds(source, forms) for source in read)


def _finds(source: Source, forms: Iterable[str]) -> bool:
    """Whether a file, or what lies in a folder, is among what the run was told to read."""
    if source.kind not in {"files", "reference"}:
        return False
    if has_magic(source.place):
        matches = matcher(source.place)
        return any(matches("/".join(part for part in form.split("/") if part)) for form in forms)
    return any(form.startswith(f"{source.place}/") for form in forms)
