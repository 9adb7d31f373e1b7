"""`batchscore init`: parses, calls `jobs.authoring.starting`, and prints."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from jobs.authoring.starting import start
from jobs.commands.etl import named_uris
from jobs.display.summary import Screen

__all__ = ["init"]


def init(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="An .onnx file, a bundle, or a URI of MLflow.")],
    data: Annotated[list[str], typer.Argument(metavar="DATA...", help="Parquet: folders, files or globs.")],
    *,
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="Folder to write to. Default: named for the model.")
    ] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=URI", help="A reference table that the bundle joins. Repeatable."),
    ] = None,
) -> None:
    """Write a job that scores DATA with MODEL, and a recipe to go on from; ends with the command to run.

    Columns are bound to the model's inputs by name, type and number, and the key of a row is guessed; each guess is
    told. Nothing is overwritten.
    """
    started = start(model, data, out, references=named_uris(reference))
    screen = Screen(Console(highlight=False))
    facts = [("written", ", ".join(started.files)), *(("guessed", note) for note in started.notes)]
    facts += [("left to you", problem) for problem in started.left]
    screen.facts(facts)
    screen.next_steps(started.commands)
