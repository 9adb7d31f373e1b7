"""`batchscore audit`: who scored what with what, by the collected records."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from etl.printable import counted, printable
from jobs.display.summary import Column, Screen, Sheet, count_text
from jobs.errors import ExitCode, Refused, refusing
from jobs.history.runs import UNREADABLE, config_of
from jobs.monitoring.auditing import Question, audit
from jobs.monitoring.collected import Collected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobs.monitoring.auditing import Audit, Entry
    from jobs.record import RunRecord

__all__ = ["audits"]

_SHORT = 12
"""Digits of a digest that are shown."""

_Text = str | None


def audits(  # noqa: PLR0913  each option is a part of the question
    *,
    metrics: Annotated[
        _Text, typer.Option(metavar="URI", help="Where records are collected: metrics.uri of the jobs.")
    ] = None,
    config: Annotated[_Text, typer.Option(metavar="CONFIG", help="A job's YAML file that names it.")] = None,
    job: Annotated[_Text, typer.Option(metavar="NAME", help="Of one job.")] = None,
    model: Annotated[
        _Text, typer.Option(metavar="NAME[:VERSION]|DIGEST", help="Scored with this model, or bundle.")
    ] = None,
    data: Annotated[
        _Text, typer.Option(metavar="URI", help="Read, or wrote, what begins so; or read this very file.")
    ] = None,
    user: Annotated[_Text, typer.Option(metavar="USER[@HOST]", help="Started, or decided on, by them.")] = None,
    since: Annotated[_Text, typer.Option(metavar="TIME", help="Ended then or later; in UTC, 2026-11-26 say.")] = None,
    until: Annotated[_Text, typer.Option(metavar="TIME", help="Begun before.")] = None,
    seal: Annotated[
        _Text, typer.Option(metavar="SHA256", help="See that a seal that was told before is still there.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Tell who scored what with what, by the collected records alone; exits with 1 where they are not as sealed.

    All records of the jobs that are asked about are held against their seals.
    """
    question = Question(job, model, data, user, _time("--since", since), _time("--until", until), seal)
    collected = _collected(metrics, config)
    with refusing():
        found = audit(collected, question)
    if as_json:
        typer.echo(json.dumps(_document(found)))
    else:
        _print(Screen(Console(highlight=False)), found)
    if found.findings:
        raise typer.Exit(ExitCode.FAILED)


def _collected(metrics: str | None, config: str | None) -> Collected:
    if (metrics is None) == (config is None):
        raise Refused("give one of --metrics and --config, so that the records can be found.")
    uri = metrics
    if config is not None:
        found = config_of(config)
        if found is None or found.metrics is None:
            raise Refused(f"{config}: no config with metrics.uri, so no records are collected.")
        uri = found.metrics.uri
    with refusing():
        return Collected.at(uri or "")


def _time(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise Refused(f"{option} {text!r} is no time: give 2026-11-26 or 2026-11-26T14:30, in UTC.") from error
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _print(screen: Screen, found: Audit) -> None:
    if found.entries:
        # A log keeps whole places, which grep finds.
        above = _above(found.entries) if screen.is_terminal else ""
        screen.sheet(_sheet(found.entries, above))
        if above:
            screen.line(f"inputs are below {above}", "dim")
    else:
        screen.line("No record is of such a run.")
    if not found.findings and all(entry.seal == "ok" for entry in found.entries):
        screen.line("all seals are ok" if found.newest else "there are no seals")
    unsealed = sum(entry.seal == "unsealed" for entry in found.entries)
    if unsealed:
        told = counted(unsealed, "of these endings is", "of these endings are")
        screen.line(f"{told} from before the first seal; that it is as it was nobody knows.")
    for entry in found.entries:
        if entry.ending.problem is not None:
            told = f"{entry.ending.job}: {entry.ending.name}: {entry.ending.problem}"
            screen.line(printable(told), "bold yellow")
    for job, finding in found.findings:
        where = ": ".join(part for part in (job, finding.ending) if part)
        told = f"{finding.what}: {where}{': ' if where else ''}{finding.told.removesuffix('.')}."
        screen.line(printable(told), "bold red")
    for job, digest in found.newest.items():
        screen.line(f"newest seal of {job}: {digest}", "dim")


def _sheet(entries: Sequence[Entry], above: str) -> Sheet:
    """Who scored what with what, and when, is never left out; of inputs not what is `above` all of them."""
    columns: tuple[Column, ...] = (
        Column("when (UTC)"),
        Column("who"),
        Column("state"),
        Column("model", "fold"),
        Column("input", "fold"),
        Column("run", rank=1),
        Column("rows", "right", rank=2),
        Column("job", rank=3),
        Column("version", "right", rank=4),
        Column("bundle", rank=5),
        Column("output", rank=6),
        Column("etl", rank=7),
        Column("files", "right", rank=8),
    )
    rows = [_row(entry, above) for entry in entries]
    if any(entry.seal != "ok" for entry in entries):
        columns = (Column("seal"), *columns)
        rows = [(entry.seal, *row) for entry, row in zip(entries, rows, strict=True)]
    return Sheet(columns, rows)


def _row(entry: Entry, above: str) -> tuple[str, ...]:
    ending, record = entry.ending, entry.ending.record
    if record is None:
        return (_minute(ending.when), "", UNREADABLE, "", "", ending.run_id, "", ending.job, *[""] * 5)
    models = record.all_models
    return (
        _minute(record.recorded_at),
        record.decided_by or record.who,
        str(record.state),
        ", ".join(f"{model.name}:{model.version}" for model in models) or "-",
        ", ".join(place.removeprefix(above) for place in _inputs(record)) or "-",
        record.run_id,
        count_text(record.account.rows_in.rows),
        record.job,
        "-" if record.manifest is None else str(record.manifest),
        ", ".join(model.bundle_sha256[:_SHORT] for model in models),
        record.output,
        ", ".join(dict.fromkeys(model.spec_digest[:_SHORT] for model in models)),
        count_text(record.snapshot.files if record.snapshot is not None else None),
    )


def _minute(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"


def _inputs(record: RunRecord) -> list[str]:
    return [source.place for source in record.inputs if source.is_data]


def _above(entries: Sequence[Entry]) -> str:
    """The folder that all inputs are below, with its slash; empty where they have none in common."""
    places = [place for entry in entries if entry.ending.record is not None for place in _inputs(entry.ending.record)]
    folder = os.path.commonprefix(places).rpartition("/")[0]  # noqa: RUF071  cut at a slash
    # Of `s3://a/x` and `s3://b/x` the scheme alone is no folder.
    return f"{folder}/" if folder and not folder.endswith((":", ":/")) else ""


def _document(found: Audit) -> dict[str, Any]:
    return {
        "endings": [_entry(entry) for entry in found.entries],
        "findings": [{"job": job, **finding._asdict()} for job, finding in found.findings],
        "newest_seals": found.newest,
    }


def _entry(entry: Entry) -> dict[str, Any]:
    ending = entry.ending
    told = {"job": ending.job, "run_id": ending.run_id, "when": ending.when.isoformat(), "seal": entry.seal}
    if ending.record is None:
        return {**told, "state": UNREADABLE, "problem": ending.problem}
    return {**told, **_of_record(ending.record)}


def _of_record(record: RunRecord) -> dict[str, Any]:
    shown = {"who", "decided_by", "accepted", "state", "code", "config", "inputs", "snapshot", "output", "manifest"}
    return {
        **record.model_dump(mode="json", include=shown),
        "began": record.started_at.isoformat(),
        "models": [model.model_dump(mode="json", exclude={"facts"}) for model in record.all_models],
        "rows": {
            "in": record.account.rows_in.rows,
            "scored": record.account.scored.rows,
            "quarantined": record.account.quarantined.rows,
            "filtered": record.account.filtered.rows,
        },
    }
