"""What a bad model has left in the newest version of an output, and the runs that put another one's scores there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import pyarrow.compute as pc
import yaml

from etl.errors import BatchscoreError
from etl.printable import counted
from etl.runs.layout import Layout
from etl.runs.manifest import latest_manifest, published_files
from etl.runs.store_settings import configure
from jobs.config.job import read_config
from jobs.config.variables import ANY_DATE
from jobs.errors import Refused, refusing
from jobs.history.runs import history, record_of
from jobs.identity import check_run_id
from jobs.monitoring.auditing import is_named
from jobs.planning.destination import Target
from jobs.planning.model import VERSION_DIGITS, digest_of
from jobs.planning.plan import load_plan, target_of
from jobs.scheduling.errands import errand_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from etl.runs.manifest import RunEntry
    from jobs.config.job import JobConfig
    from jobs.planning.models import ModelFacts
    from jobs.scheduling.errands import Asked, Errand

__all__ = ["NewModel", "Touched", "errands_with", "look_back", "new_model", "touched_by"]

_THREADS = 16
_SUFFIX_DIGITS = 8
_SHOWN = 5


class Touched(NamedTuple):
    """A run that the bad model scored, and of which the newest version holds something."""

    run_id: str
    models: str
    """That scored it, `name:version`."""
    folders: tuple[str, ...]
    """What the version holds of it; an empty text where the output has no folders."""
    rows: int
    """In these folders."""
    date: datetime | None
    """Its logical date."""
    problem: str
    """Why it cannot be scored again as it was scored; empty where it can."""


class NewModel(NamedTuple):
    """What is to score in the bad model's stead."""

    key: str
    """Of the config: `model.bundle` or `model.onnx`."""
    uri: str
    """Where it is; of an alias the version that it stands for now."""
    digest: str
    """Of its bundle, or its files."""

    @property
    def suffix(self) -> str:
        """What ids of runs with it end with."""
        return f"-with-{self.digest[:_SUFFIX_DIGITS]}"

    def is_same(self, facts: ModelFacts) -> bool:
        """Whether a run was scored with it."""
        if self.key == "model.bundle":
            return facts.bundle_sha256 == self.digest
        return facts.version == self.digest[:VERSION_DIGITS]


def look_back(asked: Asked) -> JobConfig:
    """The config with which runs of all dates are looked for.

    Raises:
        ConfigError: the output differs by date, say.
        Refused: its mode replaces nothing, or it has several models.
    """
    config = read_config(asked.config, asked.sets, date=ANY_DATE)
    configure(config.storage)
    if not config.output.is_hidden:
        raise Refused(
            f"output.mode is `{config.output.mode}`, which replaces nothing: rows would stand there twice. Score with "
            "the new model into another output.uri, and let readers go there. An output whose mode is "
            "`overwrite_partitions`, in folders by the date, can be re-scored in place."
        )
    if config.model is None:
        raise Refused(
            "the job has several models, so nobody can tell which of them the new one replaces. Name it in a copy of "
            "the config, and run each date with --logical-date, a --run-id and --set output.replaces=RUN."
        )
    return config


def new_model(config: JobConfig, uri: str) -> NewModel:
    """What a URI names, in the place of the config's model.

    Raises:
        Refused: it cannot be used.
    """
    assert config.model is not None  # noqa: S101  see `look_back`
    key = "bundle" if config.model.bundle is not None else "onnx"
    with refusing():
        digest, pinned = digest_of(config.model.model_copy(update={key: uri}))
    return NewModel(f"model.{key}", pinned, digest)


def touched_by(asked: Asked, config: JobConfig, bad: str, *, new: NewModel) -> tuple[Touched, ...]:
    """What the newest version holds of runs that a bad model scored, and the new one did not; by date.

    Raises:
        Refused: no run was ever scored by it, or it is the new one itself.
    """
    target = target_of(config, "look", scratch=False)
    with refusing():
        latest = latest_manifest(target.storage, target.layout.root)
        runs = latest.runs if latest is not None else ()
        with ThreadPoolExecutor(_THREADS) as threads:
            looked = threads.map(lambda run: _look(target, run, config.name, bad=bad, new=new), runs)
            found = [one for one in looked if one is not None]
        if not found and not any(run.run_id.endswith(new.suffix) for run in runs):
            _check_known(asked.config, bad, new)
    return tuple(sorted(found, key=lambda one: (one.date is None, one.date and one.date.isoformat(), one.run_id)))


def _look(target: Target, run: RunEntry, job: str, *, bad: str, new: NewModel) -> Touched | None:
    place = Target(target.storage, Layout(target.layout.root, run.run_id, is_hidden=target.layout.is_hidden))
    plan = load_plan(place)
    if plan is None:
        raise Refused(f"{place.layout.plan}: is gone, so nobody knows what scored run {run.run_id}.")
    named = [facts for facts in plan.models if is_named(bad, facts)]
    if not named or all(new.is_same(facts) for facts in named):
        return None
    files = published_files(target.storage, run)
    date, problem = None, f"is of job {plan.job}: give its config" if plan.job != job else ""
    try:
        record = record_of(place)
        date = record.logical_date if record is not None else None
    except BatchscoreError as error:
        problem = str(error)
    if run.replaced:
        folders = counted(len(run.replaced), "folder", "folders")
        problem = (
            f"later runs replaced {folders} of it, {run.replaced[0]} among them, which must not come back. Score the "
            "others by a config that reads their rows alone"
        )
    elif date is None:
        problem = problem or (
            "has no logical date, so nobody can tell what it read. Score it by hand, with --set output.replaces="
            f"{run.run_id}"
        )
    return Touched(
        run.run_id,
        ", ".join(f"{facts.name}:{facts.version}" for facts in plan.models),
        tuple(sorted(set(files.column("partition").to_pylist()))),
        pc.sum(files.column("rows")).as_py() or 0,
        date,
        problem,
    )


def _check_known(where: str, bad: str, new: NewModel) -> None:
    """Nothing is left of it; but was there ever anything, or is the name a slip, or that of the new one?"""
    used = [facts for line in history(where) if line.record is not None for facts in line.record.all_models]
    named = [facts for facts in used if is_named(bad, facts)]
    if named and all(new.is_same(facts) for facts in named):
        raise Refused(
            f"{new.uri} is {named[0].name}:{named[0].version}, so the new model is the one that is to be replaced. "
            "Give another to --rescore-with, or to --touched-by the one whose scores are to go."
        )
    if named:
        return
    names = sorted({f"{facts.name}:{facts.version}" for facts in used})
    told = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    raise Refused(f"no run of this job was scored by {bad!r}. Its runs were scored by: {told or 'nothing yet'}.")


def errands_with(asked: Asked, new: NewModel, touched: Sequence[Touched]) -> tuple[Errand, ...]:
    """The runs that score again what can be.

    Raises:
        Refused: an id would be too long.
    """
    found = []
    for one in touched:
        if one.date is None or one.problem:
            continue
        run_id = f"{one.run_id}{new.suffix}"
        check_run_id(run_id)
        sets = (*asked.sets, f"{new.key}={_quoted(new.uri)}", f"output.replaces={one.run_id}")
        found.append(errand_of(asked._replace(sets=sets), one.date, run_id))
    return tuple(found)


def _quoted(uri: str) -> str:
    """A URI as a value of YAML."""
    return uri if yaml.safe_load(uri) == uri else yaml.safe_dump(uri, default_style='"').strip()
