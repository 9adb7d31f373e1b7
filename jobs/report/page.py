"""The page itself: `page.html`, filled in. Whatever comes from outside is escaped, and obeyed by nothing."""

from __future__ import annotations

import importlib.resources
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from etl.printable import printable
from jobs.display.summary import duration_text, size_text
from jobs.record import versions
from jobs.report import sections
from jobs.report.charts import percent

if TYPE_CHECKING:
    from jobs.report.gathered import Gathered

__all__ = ["page"]

_KINDS = {
    "SUCCEEDED": "good",
    "PARTIALLY_SUCCEEDED": "warn",
    "HELD_BACK": "held",
    "FAILED": "bad",
    "CANCELLED": "bad",
    "DISCARDED": "idle",
}
"""By state, what decides its colour."""
_THOUSAND, _HUGE = 1e3, 1e15
"""Between them a number is shown with its thousands and no fraction."""
_MILLISECOND = 1e-3
_DIGEST = 12
_LONGEST = 64
"""Characters of a path that are shown; the whole of it is its title."""


def page(gathered: Gathered) -> str:
    """The run as one HTML document: no script, no link to anything but itself, times in UTC."""
    record = gathered.record
    text = _template().render(
        it=gathered,
        record=record,
        kind=_KINDS[record.state],
        headline=sections.headline(gathered),
        next_steps=sections.next_steps(gathered),
        parts=sections.account_parts(record),
        driver=sections.driver_lines(record),
        workers=sections.worker_lines(record),
        rows_per_second=sections.rows_per_second(record),
        plot=sections.plotted(gathered.work),
        scores=sections.shown_scores(gathered),
        models=record.models or ((record.model,) if record.model is not None else ()),
        made_at=datetime.now(UTC),
        made_by=versions()["batchscore"],
    )
    # What is no Unicode, such as half of a pair, cannot be written as UTF-8.
    return text.encode(errors="backslashreplace").decode()


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown
    )
    environment.filters |= {
        "count": _count,
        "duration": _duration,
        "when": _when,
        "size": size_text,
        "number": _number,
        "short": _short,
        "digest": lambda text: text[:_DIGEST],
        "percent": percent,
    }
    environment.globals |= {"share": _share, "rough": _rough}
    return environment.from_string(importlib.resources.files("jobs.report").joinpath("page.html").read_text("utf-8"))


def _shown(value: Any) -> Any:
    """What is put into the page, with control characters and marks that turn the direction of writing written out."""
    return printable(value, lines=True) if isinstance(value, str) and not isinstance(value, Markup) else value


def _count(value: int, name: str = "") -> Markup:
    """A number of things with its thousands; exactly, for programs, as the element's value."""
    return _data(value, f"{value:,}", name)


def _duration(seconds: float, name: str = "") -> Markup:
    """Seconds for people, in milliseconds where they are few; exactly as the element's value."""
    if 0 < seconds < _MILLISECOND:
        return _data(seconds, "< 1 ms", name)
    text = f"{1000 * seconds:.0f} ms" if abs(seconds) < 1 else duration_text(seconds)
    return _data(seconds, text, name)


def _data(value: float, text: str, name: str) -> Markup:
    fact = Markup(' data-fact="{}"').format(name) if name else ""
    return Markup('<data value="{}"{}>{}</data>').format(value, fact, text)


def _when(moment: datetime) -> Markup:
    utc = moment.astimezone(UTC)
    return Markup('<time datetime="{}">{} UTC</time>').format(utc.isoformat(), f"{utc:%Y-%m-%d %H:%M:%S}")


def _number(value: float) -> str:
    """A measured number for people."""
    return f"{value:,.0f}" if _THOUSAND <= abs(value) < _HUGE else f"{value:.4g}"


def _share(part: float, whole: float) -> str:
    """In percent; what is more than nothing is never shown as nothing."""
    if not whole or not part:
        return "0 %"
    found = 100.0 * part / whole
    if part != whole and found > 99.9:  # noqa: PLR2004  what is less than all is never shown as all
        return f"{min(found, 99.9999):.4f} %"
    return f"{found:.3g} %" if found >= 0.001 else "< 0.001 %"  # noqa: PLR2004  three places


def _rough(part: float, whole: float) -> str:
    """In whole percent, beside a bar that shows the rest."""
    found = 100.0 * part / whole if whole else 0.0
    return "< 1 %" if 0 < found < 0.5 else f"{found:.0f} %"  # noqa: PLR2004  what would be shown as nothing


def _short(path: str) -> str:
    """The end of a path that is long."""
    return path if len(path) <= _LONGEST else f"…{path[-_LONGEST + 1 :]}"
