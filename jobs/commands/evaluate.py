"""`batchscore evaluate`: how good runs were, once it is known what was true."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from etl.printable import counted
from jobs.commands.compare import number_text, plain
from jobs.display.summary import Column, Screen, Sheet, count_text, when_text
from jobs.monitoring.evaluating import Classified
from jobs.monitoring.labels import Asked, evaluate_runs
from jobs.monitoring.trend import sparkline

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jobs.monitoring.evaluating import Regressed, ScoreQuality
    from jobs.monitoring.labels import RunQuality
    from jobs.monitoring.measures import Bin

__all__ = ["evaluate"]

_SEGMENTS = 20
_CLASSIFIED = ("auc", "log_loss", "brier", "calibration_error", "score", "rate")
_REGRESSED = ("rmse", "mae", "bias", "r2", "rank_correlation")
_NAMES = {
    "auc": "AUC",
    "log_loss": "log loss",
    "brier": "Brier",
    "calibration_error": "calib. error",
    "score": "mean score",
    "rate": "positive",
    "rmse": "RMSE",
    "mae": "MAE",
    "bias": "bias",
    "r2": "R²",
    "rank_correlation": "rank corr.",
}
_Where = Annotated[str, typer.Argument(metavar="WHERE", help="The job's YAML file, or the URI of its output.")]
_Runs = Annotated[
    list[str] | None,
    typer.Argument(metavar="[RUN]...", help="Run ids, or PLACE#ID of another place; else those of the newest version."),
]
_Labels = Annotated[str, typer.Option(metavar="URI", help="Parquet or CSV: a file, a folder or a glob.")]
_Keys = Annotated[
    list[str] | None,
    typer.Option("--key", metavar="COLUMN", help="Column that tells rows apart; repeatable. Else the only one."),
]
_Label = Annotated[str | None, typer.Option(metavar="COLUMN", help="What was true; else the only other column.")]
_Positive = Annotated[
    str | None, typer.Option(metavar="VALUE", help="The label of the positive class, where it is not true or 1.")
]
_Columns = Annotated[
    list[str] | None, typer.Option("--column", metavar="NAME", help="Score; repeatable. Else all that are numbers.")
]
_By = Annotated[
    list[str] | None, typer.Option("--by", metavar="COLUMN", help="Segments, of the run or the labels; repeatable.")
]


def evaluate(  # noqa: PLR0913  each option is a part of the question
    where: _Where,
    runs: _Runs = None,
    *,
    labels: _Labels,
    key: _Keys = None,
    label: _Label = None,
    positive: _Positive = None,
    column: _Columns = None,
    by: _By = None,
    bins: Annotated[int, typer.Option(min=2, max=1000, metavar="N", help="Bins of the calibration.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Hold published scores against labels that came later: by run, by segment and over time.

    Labels of true and false, or 1 and 0, give AUC, log loss, Brier score and calibration; numbers give RMSE, MAE, bias
    and R².
    """
    asked = Asked(
        labels=labels,
        keys=tuple(key or ()),
        label=label,
        positive=positive,
        columns=tuple(column or ()),
        by=tuple(by or ()),
        bins=bins,
    )
    found = evaluate_runs(where, runs or (), asked)
    if as_json:
        typer.echo(json.dumps(plain(found), default=str))
        return
    screen = Screen(Console(highlight=False))
    screen.sheet(_rows_sheet(found))
    for name in dict.fromkeys(score.name for one in found for score in one.evaluation.scores):
        _print_score(screen, found, name)


def _print_score(screen: Screen, found: Sequence[RunQuality], name: str) -> None:
    """A score by run, over time, by segment, and the calibration of the newest run."""
    scores = [(one.run_id, score) for one in found for score in one.evaluation.scores if score.name == name]
    qualities = [(run_id, score.quality) for run_id, score in scores]
    screen.line()
    screen.line(f"score {name}")
    screen.sheet(_quality_sheet(("run",), [((run_id,), quality) for run_id, quality in qualities]))
    for note in _notes([score for _, score in scores]):
        screen.line(note, "yellow")
    if len(scores) > 1:
        screen.line()
        screen.sheet(_trend_sheet([quality for _, quality in qualities]))
    for column in scores[-1][1].segments:
        _print_segments(screen, column, scores)
    run_id, newest = qualities[-1]
    if isinstance(newest, Classified) and newest.bins:
        screen.line()
        screen.line(f"calibration of run {run_id}")
        screen.sheet(_bins_sheet(newest.bins))


def _print_segments(screen: Screen, column: str, scores: Sequence[tuple[str, ScoreQuality]]) -> None:
    """Each segment run by run, in the order of its rows in all of them."""
    found: dict[str | None, list[tuple[str, Classified | Regressed]]] = {}
    for run_id, score in scores:
        for segment in score.segments[column]:
            found.setdefault(segment.value, []).append((run_id, segment.quality))
    ordered = sorted(found.items(), key=lambda one: -sum(quality.rows for _, quality in one[1]))
    lines = [
        (("null" if value is None else value, run_id), quality)
        for value, qualities in ordered[:_SEGMENTS]
        for run_id, quality in qualities
    ]
    screen.line()
    screen.sheet(_quality_sheet((column, "run"), lines))
    if len(ordered) > _SEGMENTS:
        screen.line(f"{len(ordered) - _SEGMENTS:,} smaller segments are not shown; --json has them.", "dim")


def _rows_sheet(found: Sequence[RunQuality]) -> Sheet:
    """What could be held against labels, and what not."""
    columns = (
        Column("run"),
        Column("published", rank=4),
        Column("rows", "right"),
        Column("labelled", "right"),
        Column("no label", "right"),
        Column("labels differ", "right", rank=1),
        Column("label null", "right", rank=1),
        Column("without key", "right", rank=2),
        Column("labels unused", "right", rank=3),
    )
    rows = []
    for one in found:
        side, labels = one.evaluation.rows, one.evaluation.labels
        labelled = side.matched - one.evaluation.unknown
        counts = (side.rows, labelled, side.alone, side.repeated, one.evaluation.unknown, side.keyless, labels.alone)
        rows.append((one.run_id, when_text(one.published_at), *map(count_text, counts)))
    return Sheet(columns, rows)


def _quality_sheet(names: tuple[str, ...], lines: Sequence[tuple[tuple[str, ...], Classified | Regressed]]) -> Sheet:
    measures = _measures(lines[0][1]) if lines else ()
    columns = (
        *(Column(name) for name in names),
        Column("rows", "right"),
        *(Column(_NAMES[name], "right", rank) for rank, name in enumerate(measures)),
    )
    rows = [
        (*told, count_text(quality.rows), *(number_text(getattr(quality, name)) for name in measures))
        for told, quality in lines
    ]
    return Sheet(columns, rows)


def _trend_sheet(qualities: Sequence[Classified | Regressed]) -> Sheet:
    """Measures over time."""
    columns = (
        Column("over time"),
        Column("oldest → newest"),
        Column("oldest", "right", rank=2),
        Column("newest", "right", rank=1),
    )
    rows = []
    for name in _measures(qualities[0]):
        values = [getattr(quality, name) for quality in qualities]
        rows.append((_NAMES[name], sparkline(values), number_text(values[0]), number_text(values[-1])))
    return Sheet(columns, rows)


def _bins_sheet(bins: Sequence[Bin]) -> Sheet:
    columns = (Column("scores"), *(Column(name, "right") for name in ("rows", "mean score", "positive", "off by")))
    rows = [
        (
            f"{one.lowest:.4g} to {one.highest:.4g}",
            count_text(one.rows),
            number_text(one.score),
            number_text(one.rate),
            f"{one.score - one.rate:+.4g}",
        )
        for one in bins
    ]
    return Sheet(columns, rows)


def _measures(quality: Classified | Regressed) -> tuple[str, ...]:
    return _CLASSIFIED if isinstance(quality, Classified) else _REGRESSED


def _notes(scores: Sequence[ScoreQuality]) -> Iterator[str]:
    """Why something has no number."""
    unscored = sum(score.unscored for score in scores)
    if unscored:
        yield f"{counted(unscored, 'row with a label has', 'rows with a label have')} no score: null, NaN or infinite."
    classified = [score.quality for score in scores if isinstance(score.quality, Classified) and score.quality.rows]
    if any(quality.auc is None for quality in classified):
        yield "AUC is not defined where all labels are of one class."
    if any(quality.log_loss is None for quality in classified):
        yield "Log loss, Brier score and calibration are those of probabilities, and a score is not between 0 and 1."
