"""Where progress is shown: a bar on a terminal, a line now and then in a log, or a document a line for programs."""

from __future__ import annotations

import contextlib
import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from rich.constrain import Constrain
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn

from etl.printable import counted
from jobs.progress import PHASES

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.status import Status

    from jobs.progress import Display, Tally

__all__ = ["Displays", "LogFormat", "display_for", "json_line"]

_LOG_SECONDS = 10.0


LogFormat = Literal["text", "json"]


def display_for(console: Console, log_format: LogFormat = "text") -> Display:
    """A bar where there is a terminal, else lines; with `json` a document a line, wherever it goes."""
    if log_format == "json":
        return _JsonLines(console)
    return _Bar(console) if console.is_terminal else _Lines(console)


class Displays:
    """Several, each told of all; what one of them raises is not another one's business."""

    def __init__(self, *displays: Display) -> None:
        self._displays = displays

    def phase(self, name: str) -> None:
        """See `jobs.progress.Display`."""
        for one in self._displays:
            with contextlib.suppress(Exception):
                one.phase(name)

    def tally(self, tally: Tally) -> None:
        """See `jobs.progress.Display`."""
        for one in self._displays:
            with contextlib.suppress(Exception):
                one.tally(tally)

    def close(self) -> None:
        """See `jobs.progress.Display`."""
        for one in self._displays:
            with contextlib.suppress(Exception):
                one.close()


class _Bar:
    """The phase beside a spinner; while the run scores, a bar with pace and time left. Both vanish at the end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Status | Progress | None = None

    def phase(self, name: str) -> None:
        self.close()
        if name != "score":
            self._live = self._console.status(PHASES.get(name, name))
            self._live.start()
            return
        self._live = _NarrowProgress(
            TextColumn("scoring"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[facts]}"),
            console=self._console,
        )
        self._live.add_task("score", total=1.0, facts="")
        self._live.start()

    def tally(self, tally: Tally) -> None:
        if isinstance(self._live, Progress):
            facts = [f"{tally.splits_done:,}/{counted(tally.splits, 'split')}"]
            if tally.rows_per_second is not None and tally.seconds_left is not None:
                facts += [f"{_short(tally.rows_per_second)} rows/s", f"{_clock(tally.seconds_left)} left"]
            if tally.quarantined_share:
                facts.append(f"{tally.quarantined_share:.2%} set aside")
            self._live.update(self._live.task_ids[0], completed=tally.share, facts=" · ".join(facts))

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


class _NarrowProgress(Progress):
    """Leaves room for the ^C that a terminal echoes behind it; else the line folds, and cannot be wiped."""

    def __init__(self, *columns: ProgressColumn, console: Console) -> None:
        self._room = console
        super().__init__(*columns, console=console, transient=True, expand=True)

    def get_renderable(self) -> RenderableType:
        return Constrain(super().get_renderable(), self._room.width - 3)


class _Lines:
    """A line a phase, and while the run scores one in ten seconds, each with its time."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = 0.0

    def phase(self, name: str) -> None:
        self._say(name)
        self._next = time.monotonic() + _LOG_SECONDS

    def tally(self, tally: Tally) -> None:
        if time.monotonic() >= self._next:
            self._say(f"score: {tally}")
            self._next = time.monotonic() + _LOG_SECONDS

    def close(self) -> None:
        pass

    def _say(self, text: str) -> None:
        self._console.out(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text}", highlight=False)


class _JsonLines:
    """A document a line: the time, the phase, and while the run scores how far it is."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = 0.0

    def phase(self, name: str) -> None:
        self._say({"event": "phase", "phase": name})
        self._next = time.monotonic() + _LOG_SECONDS

    def tally(self, tally: Tally) -> None:
        if time.monotonic() >= self._next:
            self._say({"event": "progress", "phase": "score", **tally._asdict()})
            self._next = time.monotonic() + _LOG_SECONDS

    def close(self) -> None:
        pass

    def _say(self, told: dict[str, object]) -> None:
        self._console.out(json_line(told), highlight=False)


def json_line(told: dict[str, object]) -> str:
    """A document for programs, with the time."""
    return json.dumps({"time": datetime.now(UTC).isoformat(), **told})


def _short(number: float) -> str:
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= limit:
            return f"{number / limit:.1f}{unit}"
    return f"{number:.0f}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
