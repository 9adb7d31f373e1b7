"""`batchscore compare`: two runs beside each other, and whether the second one is acceptable."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from etl.printable import counted
from jobs.display.summary import Column, Screen, Sheet, rows_sheet
from jobs.errors import ExitCode, Refused
from jobs.monitoring.comparing import Gate
from jobs.monitoring.runs import Asked, compare_runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobs.monitoring.comparing import Breach, ColumnChange, Comparison, Flips, Segment

__all__ = ["compare", "number_text", "plain"]

_SEGMENTS = 20
_LIMITS = {
    "mean_delta": "--max-mean-delta",
    "delta": "--max-delta",
    "flips": "--max-flips",
    "rank_correlation": "--min-rank-correlation",
    "unmatched": "--max-unmatched",
}
_Where = Annotated[str, typer.Argument(metavar="WHERE", help="The job's YAML file, or the URI of its output.")]
_Before = Annotated[
    str,
    typer.Argument(metavar="RUN_A", help="The run before, or the champion's: its id, or PLACE#ID of another place."),
]
_Now = Annotated[str, typer.Argument(metavar="RUN_B", help="The run after, or the challenger's.")]
_Keys = Annotated[
    list[str] | None,
    typer.Option("--key", metavar="COLUMN", help="Column that tells rows apart; repeatable. Else the only one."),
]
_Columns = Annotated[
    list[str] | None,
    typer.Option("--column", metavar="NAME|A=B", help="Score to compare; repeatable. Else all that both runs have."),
]
_By = Annotated[list[str] | None, typer.Option("--by", metavar="COLUMN", help="Segments to tell; repeatable.")]
_Threshold = Annotated[
    float | None, typer.Option(metavar="X", help="Count rows that crossed it: a score of X or more is positive.")
]
_MeanDelta = Annotated[
    float | None, typer.Option(min=0, metavar="X", help="Exit with 4 where the mean of |B - A| is above.")
]
_Delta = Annotated[float | None, typer.Option(min=0, metavar="X", help="Exit with 4 where any |B - A| is above.")]
_Flips = Annotated[
    float | None, typer.Option(min=0, max=1, metavar="P", help="Exit with 4 where a larger share crossed --threshold.")
]
_Correlation = Annotated[
    float | None, typer.Option(min=-1, max=1, metavar="R", help="Exit with 4 where Spearman's is below.")
]
_Unmatched = Annotated[
    float | None, typer.Option(min=0, max=1, metavar="P", help="Exit with 4 where a larger share has no partner.")
]


def compare(  # noqa: PLR0913  each limit is an option
    where: _Where,
    run_a: _Before,
    run_b: _Now,
    *,
    key: _Keys = None,
    column: _Columns = None,
    threshold: _Threshold = None,
    by: _By = None,
    worst: Annotated[int, typer.Option(min=0, metavar="N", help="How many rows to show that moved most.")] = 10,
    max_mean_delta: _MeanDelta = None,
    max_delta: _Delta = None,
    max_flips: _Flips = None,
    min_rank_correlation: _Correlation = None,
    max_unmatched: _Unmatched = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Join two published runs on their key, and tell how their scores differ; exits with 4 where a limit does not hold.

    Each limit is held against each score. Deltas are B - A.
    """
    if threshold is not None and not math.isfinite(threshold):
        raise Refused(f"--threshold {threshold}: no score is on either side of it. Give a number.")
    asked = Asked(tuple(key or ()), tuple(column or ()), threshold, tuple(by or ()), worst)
    gate = Gate(max_mean_delta, max_delta, max_flips, min_rank_correlation, max_unmatched)
    found = compare_runs(where, (run_a, run_b), asked)
    if max_flips is not None and all(change.flips is None for change in found.columns):
        raise Refused("--max-flips counts rows that crossed a threshold. Say which, with --threshold.")
    breaches = found.breaches(gate)
    if as_json:
        typer.echo(json.dumps(plain(_document(found, gate, breaches)), default=str))
    else:
        _print(Screen(Console(highlight=False)), found, (run_a, run_b))
        _print_gate(Screen(Console(highlight=False)), gate, breaches)
    if breaches:
        raise typer.Exit(ExitCode.GATE_FAILED)


def _print(screen: Screen, found: Comparison, runs: tuple[str, str]) -> None:
    screen.sheet(_sides_sheet(found, runs))
    for change in found.columns:
        screen.line()
        screen.facts(_facts(change))
        for name, segments in change.segments.items():
            screen.line()
            screen.sheet(_segments_sheet(name, segments[:_SEGMENTS]))
            if len(segments) > _SEGMENTS:
                screen.line(f"{len(segments) - _SEGMENTS:,} smaller segments are not shown; --json has them.", "dim")
        if change.worst.num_rows:
            screen.line()
            screen.sheet(rows_sheet(change.worst, ("before", "now", "delta")))


def _print_gate(screen: Screen, gate: Gate, breaches: Sequence[Breach]) -> None:
    asked = [option for name, option in _LIMITS.items() if getattr(gate, name) is not None]
    if asked:
        screen.line()
    for breach in breaches:
        number = "is not defined" if breach.found is None else f"is {breach.found:.6g}"
        name = f"{breach.column}: " if breach.column is not None else ""
        screen.line(f"does not hold: {_LIMITS[breach.limit]} {breach.allowed:g}: {name}it {number}", "bold red")
    if asked and not breaches:
        screen.line(f"holds: {', '.join(asked)}", "bold green")


def _sides_sheet(found: Comparison, runs: tuple[str, str]) -> Sheet:
    columns = (
        Column("run"),
        Column("rows", "right"),
        Column("in both", "right"),
        Column("only here", "right"),
        Column("key repeated", "right"),
        Column("without key", "right"),
    )
    return Sheet(
        columns,
        [(run, *(f"{count:,}" for count in side)) for run, side in zip(runs, (found.before, found.now), strict=True)],
    )


def _facts(change: ColumnChange) -> list[tuple[str, str]]:
    facts = [("score", change.name), ("rows", f"{change.rows:,} have it in both runs")]
    missing = [
        (change.lost, "in the first only"),
        (change.gained, "in the second only"),
        (change.unscored, "in neither"),
    ]
    if any(count for count, _ in missing):
        facts.append(("no number", ", ".join(f"{count:,} have it {where}" for count, where in missing if count)))
    shift, flips = change.shift, change.flips
    if shift is not None:
        quantiles = ", ".join(f"{share:.0%} {value:+.4g}" for share, value in shift.quantiles.items())
        facts += [
            ("delta", f"mean {shift.mean:+.6g}, mean size {shift.mean_absolute:.6g}, largest {shift.largest:.6g}"),
            ("quantiles", quantiles),
            ("rank correlation", number_text(shift.rank_correlation, "not defined: all scores of a run are equal")),
        ]
    if flips is not None:
        ways = "to another value" if flips.up is None else f"{flips.up:,} up and {flips.down:,} down"
        facts.append(("flips", f"{counted(flips.rows, 'row')} ({_share(flips)}), {ways}"))
    return facts


def number_text(value: float | None, otherwise: str = "-") -> str:
    """A measure, or why there is none."""
    return otherwise if value is None else f"{value:.6g}"


def _segments_sheet(name: str, segments: Sequence[Segment]) -> Sheet:
    columns = (
        Column(name),
        Column("rows", "right"),
        Column("mean delta", "right"),
        Column("mean size", "right", rank=1),
        Column("flips", "right"),
        Column("share", "right"),
        Column("up", "right", rank=2),
        Column("down", "right", rank=3),
    )
    return Sheet(columns, [("null" if one.value is None else one.value, *_cells(one)) for one in segments])


def _cells(one: Segment) -> tuple[str, ...]:
    flips = ("-",) * 4 if one.flips is None else _flips(one)
    return (f"{one.rows:,}", number_text(one.mean), number_text(one.mean_absolute), *flips)


def _flips(one: Segment) -> tuple[str, ...]:
    assert one.flips is not None  # noqa: S101  the caller has looked
    ways = ("-" if count is None else f"{count:,}" for count in (one.flips.up, one.flips.down))
    return (f"{one.flips.rows:,}", _share(one.flips), *ways)


def _share(flips: Flips) -> str:
    return "-" if flips.share is None else f"{flips.share:.3%}"


def _document(found: Comparison, gate: Gate, breaches: Sequence[Breach]) -> dict[str, Any]:
    return {
        "before": found.before,
        "now": found.now,
        "unmatched": found.unmatched,
        "columns": found.columns,
        "gate": gate,
        "breaches": breaches,
        "holds": not breaches,
    }


def plain(value: Any) -> Any:
    """Tuples with names as objects, tables as lists of rows; JSON has no NaN."""
    if hasattr(value, "_asdict"):
        return plain(value._asdict())
    if hasattr(value, "to_pylist"):
        return plain(value.to_pylist())
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
