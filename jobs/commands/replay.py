"""`batchscore replay`: one row of a run through every step, beside what the run did with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from jobs.display.summary import Column, Screen, Sheet
from jobs.errors import ExitCode, Refused
from jobs.history.replaying import masked, replay_row
from jobs.history.row_places import ByKey, ByPlace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobs.history.replaying import Replay
    from scoring.tracing import ModelTrace, Value

__all__ = ["replays"]

_LONG = 60

replays = typer.Typer()


@replays.command()
def replay(
    where: Annotated[str, typer.Argument(metavar="WHERE", help="The job's YAML file, or the URI of its output.")],
    run_id: Annotated[str | None, typer.Argument(metavar="RUN", help="A run id; without it, the newest run.")] = None,
    *,
    row: Annotated[str | None, typer.Option(metavar="VALUE", help="The row that has this key.")] = None,
    key: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The key's column. Default: the first of output.passthrough.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(metavar="FILE:ROW", help="The row at this place of the input, from 0.")
    ] = None,
    show_pii: Annotated[bool, typer.Option("--show-pii", help="Show personal data.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Run one row through every step here, and compare with what the run did with it.

    The row is read again from the file that the run pinned, and scored on the CPU with the run's own copy of the model.

    Exit codes: 0 they agree, or there is nothing to compare with; 1 they differ; 2 refused.
    """
    found = replay_row(where, run_id, _named(row, key, at))
    if not show_pii:
        found = masked(found)
    if as_json:
        typer.echo(json.dumps(_document(found), default=str))
    else:
        _print(Screen(Console(highlight=False)), found)
    if found.agrees is False:
        raise typer.Exit(ExitCode.FAILED)


def _named(row: str | None, key: str | None, at: str | None) -> ByKey | ByPlace:
    if (row is None) == (at is None) or (at is not None and key is not None):
        raise Refused("name the row by --row VALUE, with --key COLUMN if need be, or by --at FILE:ROW.")
    if row is not None:
        return ByKey(row, key)
    file, _, number = str(at).rpartition(":")
    if not file or not number.isdecimal():
        raise Refused(f"--at {at}: give FILE:ROW, e.g. part-0.parquet:17; rows are counted from 0.")
    return ByPlace(file, int(number))


def _print(screen: Screen, found: Replay) -> None:
    models = [f"{model.version or model.name} on {model.provider}" for model in found.trace.models]
    screen.facts(
        [
            ("run", found.run_id),
            ("row", f"{found.row} of {found.file} (etag {found.etag})"),
            ("model", ", ".join(models) or "none"),
        ]
    )
    screen.line()
    columns = (Column("stage"), Column("column"), Column("type", rank=1), Column("value", "fold"))
    screen.sheet(Sheet(columns, list(_lines(found))))
    screen.line()
    if found.columns:
        screen.sheet(_outputs(found))
        screen.line()
    screen.facts([("here", _here(found)), ("the run", found.recorded.told)])
    screen.line(found.why, {True: "bold green", False: "bold red", None: "bold yellow"}[found.agrees])


def _lines(found: Replay) -> Iterator[tuple[str, ...]]:
    """A line a value, in the order in which they come to be."""
    for name, value in found.raw.items():
        yield "raw", name, "", _text(value)
    for model in found.trace.models:
        suffix = f" {model.name}" if model.name else ""
        for stage, one in _values(model):
            yield f"{stage}{suffix}", one.name, one.type, _text(one.value)


def _values(model: ModelTrace) -> Iterator[tuple[str, Value]]:
    for made in model.steps:
        yield from ((f"{made.step} ({made.op})" if made.op else made.step, value) for value in made.columns)
    yield from (("tensor", value) for value in model.tensors)
    yield from (("output", value) for value in model.outputs)


def _outputs(found: Replay) -> Sheet:
    """The columns that are published: here, and by the run where it published the row."""
    columns = (Column("published column"), Column("here", "fold"), Column("the run", "fold"), Column("agrees"))
    if found.compared:
        rows = [
            (one.column, _text(one.here), _text(one.published), "yes" if one.agrees else "NO") for one in found.compared
        ]
        return Sheet(columns, rows)
    return Sheet(columns[:2], [(name, _text(value)) for row in found.columns for name, value in row.items()])


def _here(found: Replay) -> str:
    if found.here:
        rule = f" by {found.here['rule']}" if found.here["rule"] else ""
        return f"it is set aside ({found.here['code']}{rule}): {found.here['message']}"
    if found.trace.error is not None:
        return f"it fails the run: {found.trace.error}"
    return f"it is {found.trace.outcome}"


def _text(value: Any) -> str:
    if value is None:
        return "·"
    if isinstance(value, float):
        return f"{value:.9g}"
    if isinstance(value, list | tuple):
        told = f"[{', '.join(map(_text, value))}]"
        return told if len(told) <= _LONG else f"{told[:_LONG]}… {len(value):,} values"
    return str(value)


def _document(found: Replay) -> dict[str, Any]:
    """All of it, for programs."""
    return {
        "run": found.run_id,
        "file": found.file,
        "etag": found.etag,
        "row": found.row,
        "raw": found.raw,
        "models": [_model_document(model) for model in found.trace.models],
        "outcome": found.trace.outcome,
        "reason": found.here or None,
        "error": str(found.trace.error) if found.trace.error is not None else None,
        "columns": found.columns,
        "recorded": {"outcome": found.recorded.outcome, "told": found.recorded.told, "reason": found.recorded.reason},
        "compared": [one._asdict() for one in found.compared],
        "agrees": found.agrees,
        "why": found.why,
    }


def _model_document(model: ModelTrace) -> dict[str, Any]:
    return {
        "name": model.name,
        "version": model.version,
        "provider": model.provider,
        "steps": [{"step": made.step, "op": made.op, "columns": _by_name(made.columns)} for made in model.steps],
        "tensors": _by_name(model.tensors),
        "outputs": _by_name(model.outputs),
    }


def _by_name(values: tuple[Value, ...]) -> dict[str, Any]:
    return {value.name: value.value for value in values}
