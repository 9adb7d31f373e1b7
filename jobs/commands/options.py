"""Options of the command line that say what is to be run."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["AsJson", "ConfigFile", "Limit", "LogicalDate", "MissingKeys", "RunId", "Sample", "Sets"]


def _share(value: float | None) -> float | None:
    if value is not None and not 0 < value <= 1:
        message = f"{value:g} is no share; give one above 0 and at most 1."
        raise typer.BadParameter(message)
    return value


ConfigFile = Annotated[str, typer.Argument(metavar="CONFIG", help="The job's YAML file.")]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Replace one value of the config, e.g. scoring.threads=2. Repeatable."
    ),
]
RunId = Annotated[
    str | None,
    typer.Option(metavar="ID", help="Name the run. The same id again goes on, or says that it is published."),
]
LogicalDate = Annotated[
    str | None, typer.Option(metavar="DATE", help="Name the run for its job and this date, as a schedule does.")
]
Limit = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="A trial: score the first N rows, into an output of its own.")
]
Sample = Annotated[
    float | None,
    typer.Option(callback=_share, metavar="P", help="A trial: score a share of the rows, chosen by hash, 0 < P ≤ 1."),
]
MissingKeys = Annotated[
    str | None, typer.Option(metavar="KEY", help="Score only rows whose value of this column is not published yet.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
