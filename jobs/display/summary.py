"""What people see: facts and tables, in colour and fitted to a terminal, or plain lines that grep finds in a log."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, get_args

import pyarrow as pa
from rich import box
from rich.table import Table
from rich.text import Text

from etl.learning.fitting import passes
from etl.printable import counted, distinct, printable
from etl.training import Provenance
from jobs.config.variables import date_text
from jobs.display.cost import cost_facts_of
from jobs.display.drift import drift_facts, planned_drift
from jobs.display.engine import engine_facts
from jobs.display.folding import Folding
from jobs.history.runs import UNFINISHED, RunView
from jobs.monitoring.trend import RunLine
from jobs.progress import PHASES
from jobs.record import RunState
from jobs.settling.damage import damage_facts
from scoring.order import Stamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from rich.console import Console

    from etl.spec import Spec
    from jobs.config.budgets import Budget
    from jobs.planning.preview import Check, Preview
    from jobs.record import RunRecord
    from jobs.settling.decisions import Decision
    from scoring.order import Order

__all__ = [
    "Column",
    "Facts",
    "Screen",
    "Sheet",
    "checks_sheet",
    "count_text",
    "duration_text",
    "fit_facts",
    "preview_facts",
    "reasons_sheet",
    "record_facts",
    "rows_sheet",
    "size_text",
    "view_facts",
    "when_text",
]

KeyT = TypeVar("KeyT", str, tuple[str, ...])

Facts = list[tuple[str, str]]
"""Labels and values, in order."""

_LOG_WIDTH = 160
"""A log has no width of its own; longer tables lose columns, longer lines stay whole."""
_CELL = 40
_FOLDED = 24
"""Width that a column of sentences is sure to have."""
_NAMED = 5
_SHORT_SECONDS = 0.05
_STYLES = {
    RunState.SUCCEEDED: "bold green",
    RunState.PARTIALLY_SUCCEEDED: "bold yellow",
    RunState.HELD_BACK: "bold magenta",
    RunState.FAILED: "bold red",
    RunState.CANCELLED: "bold red",
    RunState.DISCARDED: "dim",
    UNFINISHED: "bold cyan",
    **dict.fromkeys(("ok", "published"), "bold green"),
    **dict.fromkeys(("failed", "refused", "unknown"), "bold red"),
    "unchecked": "bold yellow",
}
_SHORT_STATES = {"PARTIALLY_SUCCEEDED": "PARTIAL"}
"""In a table on a terminal, where the longest word would push out a column."""


class Column(NamedTuple):
    """A column of a table."""

    name: str
    align: Literal["left", "right", "fold"] = "left"
    """`right` for numbers; `fold` for sentences, which may take several lines on a terminal."""
    rank: int = 0
    """Where space is short, the highest goes first; 0 stays."""


class Sheet(NamedTuple):
    """A table as text."""

    columns: tuple[Column, ...]
    rows: Sequence[tuple[str, ...]]


class Screen:
    """Where results are printed."""

    def __init__(self, console: Console) -> None:
        """Use the console as it is: a terminal, or anything else."""
        self._console = console
        self.is_terminal = console.is_terminal
        self.width = console.width if self.is_terminal else _LOG_WIDTH

    def line(self, text: str = "", style: str = "") -> None:
        """Text, control characters written out; a terminal folds it at words."""
        self._console.print(Text(printable(text, lines=True), style), soft_wrap=not self.is_terminal)

    def facts(self, facts: Facts) -> None:
        """Labels and values: in two columns on a terminal, `label: value` in a log."""
        if not self.is_terminal:
            for label, value in facts:
                self.line(f"{label}: {value}".replace("\n", "\n  "))
            return
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
        for label, value in facts:
            grid.add_row(Text(printable(label)), Text(printable(value, lines=True), _STYLES.get(value, "")))
        self._console.print(grid)

    def sheet(self, sheet: Sheet) -> None:
        """A table; what does not fit loses its columns of the highest rank."""
        columns = tuple(column._replace(name=distinct(column.name)) for column in sheet.columns)
        sheet = Sheet(columns, [tuple(map(distinct, row)) for row in sheet.rows])
        fitted = self._fitted(sheet)
        if self.is_terminal:
            self._print_table(fitted)
        else:
            for line in _aligned(fitted):
                self.line(line)
        left_out = [column.name for column in sheet.columns if column not in fitted.columns]
        if left_out:
            more = f" and {len(left_out) - _NAMED} more" if len(left_out) > _NAMED else ""
            self.line(f"left out for want of width: {', '.join(left_out[:_NAMED])}{more}", "dim")

    def _print_table(self, fitted: Sheet) -> None:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for column in fitted.columns:
            table.add_column(Text(column.name), justify="right" if column.align == "right" else "left", overflow="fold")
        for row in fitted.rows:
            table.add_row(
                *(
                    Folding(cell)
                    if column.align == "fold"
                    else Text(_SHORT_STATES.get(cell, cell), _STYLES.get(cell, ""))
                    for column, cell in zip(fitted.columns, row, strict=True)
                )
            )
        self._console.print(table)

    def next_steps(self, steps: Iterable[tuple[str, str]]) -> None:
        """Commands to try, each with what it is good for."""
        if not self.is_terminal:
            for what, command in steps:
                self.line(printable(f"next: {command}  # {what}"))
            return
        self.line()
        for what, command in steps:
            self._console.print(Text(f"{what}:", "dim"))
            self._console.print(Text(f"  {printable(command)}"), soft_wrap=True)

    def _fitted(self, sheet: Sheet) -> Sheet:
        kept = list(range(len(sheet.columns)))
        gap = 3 if self.is_terminal else 2
        while sum(_column_width(sheet, index) + gap for index in kept) - gap > self.width:
            last = max(kept, key=lambda index: sheet.columns[index].rank)
            if sheet.columns[last].rank == 0:
                break
            kept.remove(last)
        return Sheet(tuple(sheet.columns[i] for i in kept), [tuple(row[i] for i in kept) for row in sheet.rows])


def record_facts(record: RunRecord, decision: Decision | None = None) -> Facts:
    """A run in a dozen lines."""
    account = record.account
    facts: Facts = [("state", str(record.state)), ("run", record.run_id)]
    facts += [("logical date", date_text(record.logical_date))] if record.logical_date is not None else []
    if record.error is not None:
        is_held = record.error.kind == "HeldBack"
        facts.append(("held back", record.error.message) if is_held else ("error", _told(record.error)))
    if decision is not None:
        facts.append(
            (f"{decision.verdict}ed", f"by {decision.decided_by}, {when_text(decision.decided_at)}: {decision.reason}")
        )
    if record.state.is_published:
        facts += [("predictions", record.output), ("version", f"{record.manifest} of the output")]
    if record.relational is not None:
        counts = record.relational
        left_out = f"{counts.filtered:,} filtered, {counts.deduplicated:,} deduplicated"
        facts.append(("prepared", f"{counted(counts.rows_in, 'row')} of the table, of which {left_out}"))
    if account.rows_in.rows or record.state.is_published:
        facts.append(("rows", _account(record)))
    if record.reasons:
        facts.append(("quarantined", ", ".join(f"{n:,} {reason}" for reason, n in _most_first(record.reasons))))
    facts += [*damage_facts(record), *_expectation_facts(record), *drift_facts(record)]
    if record.model is not None:
        model = record.model
        facts.append(
            ("model", f"{model.name}:{model.version}, bundle {model.bundle_sha256[:12]}, spec {model.spec_digest[:12]}")
        )
    if record.snapshot is not None:
        files, splits = counted(record.snapshot.files, "file"), counted(record.splits, "split")
        facts.append(("input", f"{files}, {size_text(record.snapshot.bytes)}, {splits}"))
    facts += [*_increment_facts(record), ("seconds", _phases(record)), *cost_facts_of(record)]
    return [*facts, *_worker_facts(record), ("by", f"{record.who}, {when_text(record.started_at)}, code {record.code}")]


def view_facts(view: RunView) -> Facts:
    """A run as storage knows it; one that left no record may be at work."""
    if view.record is not None:
        return record_facts(view.record, view.decision)
    facts: Facts = [("state", view.state), ("run", view.target.layout.run_id)]
    if view.plan is not None:
        splits = counted(len(view.plan.splits), "split is", "splits are")
        done = f"{view.splits_done:,} of {splits} scored; the run is at work, or it died"
        facts += [("progress", done), ("model", f"{view.plan.model.name}:{view.plan.model.version}")]
    else:
        facts.append(("progress", "it has no plan yet; it is at work, or it died"))
    if view.claim is not None:
        facts.append(("by", f"{view.claim.claimed_by}, {when_text(view.claim.claimed_at)}"))
    return facts


def _calls(order: Order) -> str:
    if order.batch_rows == "auto":
        return "as many rows a call of the model as are quickest"
    return f"{counted(order.batch_rows, 'row')} a call of the model"


def preview_facts(shown: Preview) -> Facts:
    """What a run would read, split, score and write."""
    plan, order, done = shown.plan, shown.plan.order, shown.view.splits_done
    files = f"{counted(len(plan.inputs), 'file')}, {size_text(plan.bytes_in)}"
    each = size_text(plan.bytes_in / max(1, len(plan.splits)))
    facts: Facts = [
        ("run", plan.run_id),
        ("input", f"{files}: {_first_and_last([file.path for file in plan.inputs])}"),
        ("splits", f"{len(plan.splits):,} of {each} on average, {done:,} are scored already"),
        ("tasks", _tasks(shown)),
        ("model", f"{plan.model.name}:{plan.model.version}, bundle {plan.model.bundle_sha256[:12]}"),
        ("etl", f"spec {plan.model.spec_digest[:12]}, references: {', '.join(order.models[0].references) or 'none'}"),
        ("device", f"{order.models[0].runtime.device}, {_calls(order)}"),
    ]
    if order.row_limits or order.sample is not None:
        facts.insert(1, ("trial", "into an output of its own"))
    if shown.view.record is not None:
        facts.insert(1, ("state", shown.view.state))
    facts.append(("memory", f"{size_text(plan.projected_task_bytes)} for a worker at its peak, as projected"))
    budgets, drift = shown.config.budgets, shown.config.drift
    limits = [f"{stage} {_budget(getattr(budgets, stage))}" for stage in type(budgets).model_fields if stage != "read"]
    if shown.config.input.on_damaged == "quarantine":
        limits.append(f"of damaged files {budgets.read.model_dump_json(exclude_none=True)}")
    return [
        *facts,
        ("columns", ", ".join(f"{column.name} {column.type}" for column in plan.columns)),
        ("output", shown.view.target.layout.data),
        ("budgets", f"rows that may be set aside: {', '.join(limits)}"),
        *(planned_drift(drift, order.sketch) if drift is not None and order.sketch is not None else ()),
    ]


def rows_sheet(table: pa.Table, scores: Sequence[str]) -> Sheet:
    """Rows of a table. Where they do not fit, the key and the scores stay, and stamps and other columns go."""

    def rank(index: int, name: str) -> int:
        if name in scores:
            return scores.index(name)
        stamp = name in get_args(Stamp)
        return 0 if index == 0 else len(table.schema) * (2 if stamp else 1) + index

    fields = enumerate(table.schema)
    columns = tuple(
        Column(field.name, "right" if _is_number(field.type) else "left", rank(index, field.name))
        for index, field in fields
    )
    return Sheet(columns, [tuple(map(_cell, row.values())) for row in table.to_pylist()])


def reasons_sheet(quarantine: pa.Table) -> Sheet:
    """Quarantined rows by reason, the most frequent first, with one of each to look at."""
    keys = ("stage", "code", "column", "message")
    counts: Counter[tuple[str, ...]] = Counter()
    examples: dict[tuple[str, ...], str] = {}
    above = _common_folder(quarantine.column("file").unique().to_pylist())
    for row in quarantine.select([*keys, "file", "row"]).to_pylist():
        key = tuple(row[name] for name in keys)
        counts[key] += 1
        examples.setdefault(key, f"{row['file'].removeprefix(above)} row {row['row']}")
    columns = (
        Column("rows", "right"),
        Column("stage"),
        Column("code"),
        Column("column", rank=2),
        Column("message", "fold"),
        Column("for example", rank=1),
    )
    return Sheet(columns, [(f"{rows:,}", *key, examples[key]) for key, rows in _most_first(counts)])


def _most_first(counts: Mapping[KeyT, int]) -> list[tuple[KeyT, int]]:
    """By count, and what is equally frequent by name, so that no order changes from one look to the next."""
    return sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))


def _common_folder(paths: list[str]) -> str:
    """The folder that all paths are below, with its slash: what need not be shown of them."""
    return f"{os.path.commonpath([path.rpartition('/')[0] for path in paths])}/" if paths else ""


def checks_sheet(checks: Sequence[Check]) -> Sheet:
    """A list of checks; what one has found in several lines has a row for each."""
    rows = []
    for check in checks:
        first, *others = check.detail.splitlines() or [""]
        rows += [(check.name, check.state, first), *(("", "", line) for line in others)]
    return Sheet((Column("check"), Column("state"), Column("found", "fold")), rows)


def fit_facts(recipe: Spec, fitted: Spec) -> Facts:
    """What was learned, behind what else, in how many passes and from how many rows."""
    learned = [("learned" if not number else "then", ", ".join(steps)) for number, steps in enumerate(passes(recipe))]
    told = fitted.provenance or Provenance()
    rows = f"{told.rows:,}, of which {told.rejected:,} rejected and {told.filtered:,} filtered"
    before = [("table", told.notes["table"])] if "table" in told.notes else []
    found = told.notes["expectations"].splitlines() if recipe.expectations and "expectations" in told.notes else []
    further = [("exact quantiles", told.passes - bool(found) > max(1, len(learned))), ("expectations", bool(found))]
    why = " and ".join(what for what, is_so in further if is_so)
    count = f"{told.passes}, for {why} too" if why else f"{told.passes}"
    return [
        *(learned or [("learned", "nothing is to be learned")]),
        ("passes", count),
        *before,
        ("rows", rows),
        *(("training rows", line) for line in found),
        ("spec", fitted.digest[:12]),
    ]


def _expectation_facts(record: RunRecord) -> Facts:
    """How many are met, and each that is not."""
    if not record.expectations:
        return []
    broken = [found for found in record.expectations if not found.holds]
    met = len(record.expectations) - len(broken)
    return [
        ("expectations", f"{met:,} of {len(record.expectations):,} are met"),
        *((f"not met, {found.severity}", str(found)) for found in broken),
    ]


def _told(error: Any) -> str:
    return f"{error.kind}: {error.message}"


def _account(record: RunRecord) -> str:
    account = record.account
    parts = {"scored": account.scored, "quarantined": account.quarantined, "filtered": account.filtered}
    return f"{account.rows_in.rows:,} in = {' + '.join(f'{tally.rows:,} {name}' for name, tally in parts.items())}"


def _increment_facts(record: RunRecord) -> Facts:
    """How many files were left out, and why; how many splits were scored again."""
    facts = [("again", f"{counted(record.void_receipts, 'split')}, whose files were gone before they were published")]
    facts = facts if record.void_receipts else []
    increment = record.increment
    if increment is None:
        return facts
    parts = [
        f"{counted(increment.listed, 'file is', 'files are')} there",
        f"{increment.scored_before:,} were scored before",
    ]
    for what, paths in (("changed since", increment.changed), ("are gone", increment.deleted)):
        if paths:
            more = f" and {len(paths) - 1:,} more" if len(paths) > 1 else ""
            parts.append(f"{len(paths):,} {what} ({paths[0]}{more})")
    return [("new", ", ".join(parts)), *facts]


def _phases(record: RunRecord) -> str:
    """Wall clock by phase in their order, the short ones together."""
    order = list(PHASES)
    phases = sorted(record.wall_seconds, key=lambda name: order.index(name) if name in order else len(order))
    shown = [(name, record.wall_seconds[name]) for name in phases if record.wall_seconds[name] >= _SHORT_SECONDS]
    rest = record.seconds - sum(seconds for _, seconds in shown)
    if rest >= _SHORT_SECONDS:
        shown.append(("other", rest))
    return f"{record.seconds:.1f} = {' + '.join(f'{name} {seconds:.1f}' for name, seconds in shown)}"


def _worker_facts(record: RunRecord) -> Facts:
    facts: Facts = []
    scoring = record.wall_seconds.get("score", 0.0)
    if record.workers:
        spent = ", ".join(f"{name} {seconds:.1f}" for name, seconds in sorted(record.worker_seconds.items()))
        facts.append(
            (
                "workers",
                f"{record.workers}, {counted(record.model_loads, 'model load')}, {record.provider}; seconds: {spent}",
            )
        )
    facts.extend(engine_facts(record))
    for reason, splits in record.fell_back.items():
        facts.append(("fell back", f"{counted(splits, 'split')} ran on the CPU though a GPU was asked for: {reason}"))
    in_all = RunLine.of_record(record).seconds_per_million
    if scoring > 0 and in_all is not None and record.splits_scored_now == record.splits:
        pace = f"{record.account.rows_in.rows / scoring:,.0f} rows/s while scoring"
        facts.append(("pace", f"{pace}; {in_all:,.1f} s per million rows in all"))
    elif record.resumed:
        facts.append(
            (
                "resumed",
                f"{record.splits_scored_now:,} of {counted(record.splits, 'split was', 'splits were')} left to score",
            )
        )
    if record.peak_task_bytes:
        projected = f", {size_text(record.projected_task_bytes)} projected" if record.projected_task_bytes else ""
        facts.append(("memory", f"{size_text(record.peak_task_bytes)} at most in a worker{projected}"))
    return facts


def _tasks(shown: Preview) -> str:
    if shown.cores is None:
        return f"at least {shown.tasks:,}; how many run at once, the cluster knows"
    return f"{shown.tasks:,} of Spark, {min(shown.cores, max(1, shown.tasks)):,} at once"


def _budget(budget: Budget) -> str:
    limits = [f"{counted(budget.max_rows, 'row')}"] if budget.max_rows is not None else []
    if budget.max_ratio is not None:
        limits.append(f"{budget.max_ratio:.2%}")
    return " and ".join(limits) or "0 rows"


def _first_and_last(paths: Sequence[str]) -> str:
    """The first path, and of the last one what is different."""
    if len(paths) == 1:
        return paths[0]
    shared = os.path.commonprefix([paths[0], paths[-1]]).rpartition("/")[0]  # noqa: RUF071  cut at a slash
    return f"{paths[0]} … {paths[-1][len(shared) + 1 :]}"


def when_text(moment: datetime) -> str:
    """A moment to the minute."""
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def count_text(number: int | None) -> str:
    """A number with its thousands, or that there is none."""
    return "-" if number is None else f"{number:,}"


def duration_text(seconds: float | None) -> str:
    """Hours and minutes, minutes and seconds, or seconds; or that there are none."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} m"
    return f"{minutes} m {rest:02} s" if minutes else f"{seconds:.1f} s"


def size_text(size: float) -> str:
    """Bytes in the largest unit that they fill."""
    for limit, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= limit:
            return f"{size / limit:.1f} {unit}"
    return f"{size:.0f} B"


def _is_number(type_: pa.DataType) -> bool:
    return bool(pa.types.is_integer(type_) or pa.types.is_floating(type_))


def _cell(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, list):
        more = ", …" if len(value) > 3 else ""  # noqa: PLR2004  enough to see what it is
        return f"[{', '.join(map(_cell, value[:3]))}{more}]"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _CELL else f"{text[: _CELL - 1]}…"


def _column_width(sheet: Sheet, index: int) -> int:
    column = sheet.columns[index]
    texts = (column.name, *(row[index] for row in sheet.rows))
    width = max(len(_SHORT_STATES.get(text, text)) for text in texts)
    return min(width, _FOLDED) if column.align == "fold" else width


def _aligned(sheet: Sheet) -> list[str]:
    """Columns as plain text, two spaces apart."""
    widths = [
        max(len(text) for text in cells) for cells in zip([c.name for c in sheet.columns], *sheet.rows, strict=True)
    ]
    lines = [tuple(column.name for column in sheet.columns), *sheet.rows]
    return [
        "  ".join(
            cell.rjust(width) if column.align == "right" else cell.ljust(width)
            for cell, column, width in zip(line, sheet.columns, widths, strict=True)
        ).rstrip()
        for line in lines
    ]
