"""Published runs, as they are named and read to be compared or evaluated."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, get_args

import pyarrow as pa

from etl.format.problems import nearest
from etl.runs.manifest import latest_manifest, version_of
from jobs.errors import Refused
from jobs.history.runs import find_run, output_root
from jobs.monitoring.comparing import Question, compare
from jobs.results import open_results
from scoring.order import Stamp

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobs.monitoring.comparing import Comparison
    from jobs.results import Results

__all__ = ["Asked", "check_columns", "compare_runs", "keys_of", "open_run", "plain_scores"]


class Asked(NamedTuple):
    """What a person asks of two runs; what is left out is found in them."""

    keys: tuple[str, ...] = ()
    """Without any, the only column that came through from the input."""
    columns: tuple[str, ...] = ()
    """Scores, `NAME` or `OLD=NEW`; without any, all that both runs have by one name."""
    threshold: float | None = None
    by: tuple[str, ...] = ()
    worst: int = 10


def open_run(where: str, run: str) -> Results:
    """A run as it was published, also where later versions hold it no more, or less of it.

    `run` is the id of a run under `where`, or `PLACE#ID` for one of another config or output URI. Where `gc` has
    removed the version that published it, it is read as the newest version holds it.

    Raises:
        Refused: there is no such run, or it is not published.
        ReadError: a file of it is gone.
    """
    elsewhere, _, run_id = run.rpartition("#")
    place = elsewhere or where
    storage, root = output_root(place)
    target = find_run(place, run_id)
    version, newest = version_of(*target), latest_manifest(storage, root)
    if version is not None and newest is not None and target.layout.root == root and version.seq >= newest.kept_from:
        return open_results(place, run_id, version.seq)
    return open_results(place, run_id)


def keys_of(results: Results, named: Iterable[str]) -> tuple[str, ...]:
    """The columns that are the key: those that are named, or the only one that came through from the input.

    Raises:
        Refused: it has to be named, or there is no such column.
    """
    keys = tuple(named)
    if not keys:
        others = {*results.scores, *get_args(Stamp)}
        keys = tuple(name for name in results.schema.names if name not in others)
        if len(keys) != 1:
            there = f"{len(keys)} columns came through from the input" if keys else "no column came from the input"
            raise Refused(f"{results.root}: say what the key is, with --key: {there}.{_listed(results.schema.names)}")
    check_columns(results, keys, "--key")
    return keys


def check_columns(results: Results, names: Iterable[str], option: str) -> None:
    """See that a run has these columns.

    Raises:
        Refused: it lacks one.
    """
    known = results.schema.names
    for name in names:
        if name not in known:
            where = f"run {', '.join(results.run_ids)} of {results.root}"
            raise Refused(f"{option} {name}: {where} has no such column.{nearest(name, known)}")


def _listed(names: Iterable[str]) -> str:
    return f" It has {', '.join(names)}."


def compare_runs(where: str, runs: tuple[str, str], asked: Asked) -> Comparison:
    """Compare two published runs; see `open_run` for how they are named.

    Raises:
        Refused: a run is not there, a column neither, or nothing can be compared.
        ReadError: a published file is gone.
    """
    before, now = (open_run(where, run) for run in runs)
    if (before.root, before.run_ids) == (now.root, now.run_ids):
        raise Refused(f"run {runs[0]} is compared with itself; name another one.")
    keys = keys_of(before, asked.keys)
    check_columns(now, keys, "--key")
    columns = tuple(_pair(before, now, name) for name in asked.columns) or _shared_scores(before, now)
    for name in asked.by:
        if name not in before.schema.names:
            check_columns(now, [name], "--by")
    question = Question(keys, columns, asked.threshold, asked.by, asked.worst)
    tables = [
        results.arrow(_present(results, [*keys, *asked.by, *(pair[side] for pair in columns)]))
        for side, results in enumerate((before, now))
    ]
    return compare(tables[0], tables[1], question)


def _pair(before: Results, now: Results, name: str) -> tuple[str, str]:
    """A column that both runs have, or `OLD=NEW`."""
    old, equals, new = name.partition("=")
    if not equals or (name in before.schema.names and name in now.schema.names):
        old = new = name
    check_columns(before, [old], "--column")
    check_columns(now, [new], "--column")
    return old, new


def _shared_scores(before: Results, now: Results) -> tuple[tuple[str, str], ...]:
    shared = [name for name in plain_scores(before) if name in plain_scores(now)]
    if not shared:
        raise Refused(
            f"the runs have no score of one name: {', '.join(before.scores)} and {', '.join(now.scores)}. "
            "Name them with --column OLD=NEW."
        )
    return tuple((name, name) for name in shared)


def plain_scores(results: Results) -> list[str]:
    """What the model made, but lists and structs."""
    return [name for name in results.scores if not pa.types.is_nested(results.schema.field(name).type)]


def _present(results: Results, names: Iterable[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if name in results.schema.names]
