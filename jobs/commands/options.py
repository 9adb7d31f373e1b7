"""Options of the command line that say what is to be run."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated

import typer

from jobs.config.variables import logical_date

__all__ = ["AsJson", "ConfigFile", "Limit", "LogicalDate", "MissingKeys", "RunId", "Sample", "Sets", "share_option"]


def share_option(text: str) -> float:
    """A share, as `1%` or `0.01`: both are the same number, so that both name the same trial.

    Raises:
        typer.BadParameter: it is none above 0 and at most 1.
    """
    try:
        # In decimals, since 0.7 / 100 is not the float that 0.007 is.
        share = float(Decimal(text.removesuffix("%")).scaleb(-2 if text.endswith("%") else 0))
    except (ArithmeticError, ValueError):
        share = 0.0
    if not 0 < share <= 1:
        message = f"{text} is no share above 0 and at most 1; give one as 1% or 0.01."
        raise typer.BadParameter(message)
    return share


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
    datetime | None,
    typer.Option(
        parser=logical_date,
        metavar="DATE",
        help="The date that a schedule means, in UTC: fills in ${LOGICAL_DATE}, and names the run JOB-DATE, unless "
        "--run-id does.",
    ),
]
Limit = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="A trial: score the first N rows, into an output of its own.")
]
Sample = Annotated[
    float | None,
    typer.Option(
        parser=share_option, metavar="1%", help="A trial: score this share of the rows, chosen by hash; 1% or 0.01."
    ),
]
MissingKeys = Annotated[
    str | None, typer.Option(metavar="KEY", help="Score only rows whose value of this column is not published yet.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
