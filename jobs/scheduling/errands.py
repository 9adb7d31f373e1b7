"""The runs of a backfill: of each date the request, and the words of its `run`, as a schedule gives them."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from jobs.config.job import read_config
from jobs.config.variables import date_text
from jobs.errors import Refused
from jobs.identity import run_id_of_date
from jobs.request import RunRequest
from jobs.scheduling.dates import date_before

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from jobs.config.job import JobConfig

__all__ = ["Asked", "Errand", "errand_of", "errands_of"]


class Asked(NamedTuple):
    """What all runs of a backfill have in common."""

    config: str
    """The job's YAML file."""
    sets: tuple[str, ...] = ()
    """What replaces values of it, `key.path=value`."""
    limit: int | None = None
    sample: float | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """As options of `run`, but for the date."""
        found = [word for one in self.sets for word in ("--set", one)]
        found += ["--limit", str(self.limit)] if self.limit is not None else []
        found += ["--sample", str(self.sample)] if self.sample is not None else []
        return tuple(found)


class Errand(NamedTuple):
    """One run of a backfill."""

    date: datetime
    """Its logical date."""
    request: RunRequest
    words: tuple[str, ...]
    """Config and options, behind `batchscore run` or a command that takes the same."""

    @property
    def run_id(self) -> str:
        """Its name."""
        return self.request.run_id


def errand_of(asked: Asked, date: datetime, run_id: str | None = None) -> Errand:
    """The run of a date, as a schedule makes it; or under another id.

    Raises:
        ConfigError: the config cannot be read for this date.
    """
    config = read_config(asked.config, asked.sets, date=date)
    name = run_id or run_id_of_date(config.name, date)
    part: dict[str, Any] = {"limit": asked.limit, "sample": asked.sample}
    request = RunRequest(config=config, run_id=name, logical_date=date, **part)
    named = () if run_id is None else ("--run-id", run_id)
    return Errand(date, request, (asked.config, "--logical-date", date_text(date), *named, *asked.words))


def errands_of(asked: Asked, dates: Sequence[datetime], every: timedelta) -> tuple[Errand, ...]:
    """A run of each date.

    Raises:
        ConfigError: the config cannot be read.
        Refused: two dates would score the same rows, or one of them replace what the other published.
    """
    found = tuple(errand_of(asked, date) for date in dates)
    _check_place(found)
    # First those that are asked for: of the one before them nobody has heard.
    for one, other in (*pairwise(found), (errand_of(asked, date_before(dates[0], every)), found[0])):
        if _scored(one.request.config) == _scored(other.request.config):
            name = "${LOGICAL_HOUR}" if one.date.date() == other.date.date() else "${LOGICAL_DATE}"
            told = f"says the same for {date_text(one.date)} and {date_text(other.date)}"
            raise Refused(
                f"{asked.config} {told if one in found else f'does not say {name}'} in what chooses rows or where they "
                f"go, so each date would score the same rows. Write {name} where they differ: "
                "`files: s3://history/day=${LOGICAL_DATE}/`, say."
            )
    return found


def _scored(config: JobConfig) -> tuple[object, ...]:
    """Which rows are scored, by what, and where that goes: in what else two dates differ, the rows are the same."""
    return (config.input, config.references, config.entries, config.combine, config.output.uri)


def _check_place(errands: Sequence[Errand]) -> None:
    outputs = [errand.request.config.output for errand in errands]
    mode = outputs[0].mode
    if mode in {"overwrite", "error"} and len({output.uri for output in outputs}) < len(outputs):
        does = "replaces what the others publish" if mode == "overwrite" else "needs an empty root"
        raise Refused(
            f"output.mode is `{mode}`, so each date {does}: use `append`, or `overwrite_partitions` in folders by the "
            "date, or write ${LOGICAL_DATE} into output.uri."
        )
