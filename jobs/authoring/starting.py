"""Begin: from a model and some data to a job that runs and a recipe to go on from, with every guess told."""

from __future__ import annotations

import re
import shlex
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import yaml

from etl.printable import counted
from etl.runs.read import open_parquet
from etl.runs.storage import storage_for
from jobs.authoring.binding import Bound, bind, guess_key
from jobs.authoring.bundling import find
from jobs.authoring.recipes import skeleton, spec_text
from jobs.config.job import JobConfig, Model
from jobs.errors import Refused, refusing
from jobs.identity import new_run_id
from jobs.planning.model import resolve_model
from jobs.planning.preview import preview
from jobs.planning.resolving import list_inputs
from jobs.request import RunRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from etl.spec import Spec
    from jobs.authoring.binding import Key
    from jobs.authoring.bundling import Found

__all__ = ["Started", "start"]

_SAMPLE_ROWS = 10_000
_SAMPLE_FILES = 100
"""Files that are opened for them at most: of a store, each takes a tenth of a second or more."""
_TRIAL_ROWS = 1000
_NULLS_ALLOWED = 2
"""How many times the share of rows with nulls in the sample a first run may set aside."""


class Started(NamedTuple):
    """What was written, and what a person should know of it."""

    files: tuple[str, ...]
    """Paths, the job first."""
    notes: tuple[str, ...]
    """What was guessed, and by what."""
    left: tuple[str, ...]
    """What could not be decided, and where to say it; empty where the job runs as it is."""
    commands: tuple[tuple[str, str], ...]
    """What to run, in this order, each with what it is good for."""


class _Given(NamedTuple):
    """What `start` was called with, and what it found there."""

    model: str
    data: tuple[str, ...]
    folder: str
    references: Mapping[str, str]
    found: Found
    sample: pa.Table


class _Draft(NamedTuple):
    """A job before it is written."""

    job: dict[str, Any]
    notes: list[str]
    left: list[str]
    recipe: str | None
    """Text of the recipe; None of a bundle, which has its ETL."""


def start(
    model: str, data: Sequence[str], out: str | None = None, *, references: Mapping[str, str] | None = None
) -> Started:
    """Write a job, and of a bare model a recipe, into a folder; nothing that is there is overwritten.

    Raises:
        Refused: model or data are not there, or a file that would be written is.
    """
    with refusing():
        found = find(model)
        sample, looked_at = _sample(tuple(data))
    folder = out if out is not None else f"{_name(found)}-job"
    given = _Given(model, tuple(data), folder, references or {}, found, sample)
    files = [f"{folder}/job.yaml"] + ([f"{folder}/recipe.yaml"] if found.audited is None else [])
    for file in files:
        if Path(file).exists():
            raise Refused(f"{file}: is there already, and is not overwritten. Give another --out.")
    draft = _of_bundle(given) if found.audited is not None else _of_bare(given)
    draft.notes.insert(0, looked_at)
    left = [*draft.left, *([] if draft.left else _checked(draft.job))]
    texts = [_job_text(draft.job, draft.notes, left)] + ([draft.recipe] if draft.recipe is not None else [])
    for file, text in zip(files, texts, strict=True):
        _write(file, text)
    commands = _commands(given, files, is_ready=not left)
    return Started(tuple(files), tuple(draft.notes), tuple(left), commands)


def _sample(data: tuple[str, ...]) -> tuple[pa.Table, str]:
    """The first rows of the first files, as many files as it takes, and how much that is of the data.

    Files with other columns than the first one with rows are left to the checks of the job.
    """
    files = list_inputs(data)
    parts: list[pa.Table] = []
    rows = opened = 0
    for file in files[:_SAMPLE_FILES]:
        parquet = open_parquet(storage_for(file.path)[0], file)
        opened += 1
        batch = next(parquet.iter_batches(_SAMPLE_ROWS - rows), None)
        if batch is None or not batch.num_rows or (parts and not batch.schema.equals(parts[0].schema)):
            continue
        parts.append(pa.Table.from_batches([batch]))
        rows += batch.num_rows
        if rows >= _SAMPLE_ROWS:
            break
    if not parts:
        raise Refused(
            f"{files[0].path}: has no row to look at, nor has another of the first {counted(opened, 'file')}."
        )
    # Distinct values are counted, and dictionaries of two files say the same by other codes.
    sample = pa.concat_tables(parts).unify_dictionaries().combine_chunks()
    first = counted(rows, "row, which is", "rows, which are")
    return sample, f"what follows is by the first {first} of {len(parts):,} of {counted(len(files), 'file')}"


def _name(found: Found) -> str:
    name = found.audited.bundle.name if found.audited is not None else PurePath(found.source.path).stem
    plain = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-_")
    return (plain if re.match(r"[a-z]", plain) else f"model-{plain}")[:50].rstrip("-")


def _job(given: _Given, model: dict[str, Any], key: str | None) -> dict[str, Any]:
    files = given.data[0] if len(given.data) == 1 else list(given.data)
    output: dict[str, Any] = {"uri": f"{given.folder}/predictions"}
    if key is not None:
        output["passthrough"] = [key]
    references = {"references": dict(given.references)} if given.references else {}
    return {
        "api_version": "batchscore/1",
        "name": _name(given.found),
        "input": {"files": files},
        **references,
        "model": model,
        "output": output,
    }


def _told(key: Key | None) -> list[str]:
    if key is None:
        return ["no column looks like the key of a row: name one under output.passthrough, to find scores again"]
    return [f"{key.column} is taken for the key of a row: {key.why}"]


def _of_bundle(given: _Given) -> _Draft:
    audited = given.found.audited
    assert audited is not None  # noqa: S101  the caller looked
    key = guess_key(given.sample)
    ids = [field.name for field in audited.spec.input.fields if field.role == "id"]
    if ids and ids[0] in given.sample.column_names:
        notes = [f"{ids[0]} is the key of a row, as the spec of the bundle says"]
        return _Draft(_job(given, {"bundle": given.model}, ids[0]), notes, [], None)
    return _Draft(_job(given, {"bundle": given.model}, key and key.column), _told(key), [], None)


def _of_bare(given: _Given) -> _Draft:
    key = guess_key(given.sample)
    bound = bind(given.found.signature, given.sample, key=key.column if key is not None else None)
    key = key or guess_key(given.sample, _columns(bound))
    notes = [*_told(key), *bound.notes]
    left = list(bound.problems)
    model: dict[str, Any] = {"onnx": given.model, "inputs": bound.inputs}
    if bound.ragged:
        model["ragged"] = bound.ragged
    spec = None
    if not left:
        try:
            spec = resolve_model(Model.model_validate(model), given.sample.schema).spec
        except Refused as error:
            left.append(str(error))
    if spec is None:
        recipe = skeleton(given.found.signature, given.sample, key and key.column)
        job = _job(given, {"bundle": f"{given.folder}/bundle"}, key and key.column)
        return _Draft(job, notes, [f"{problem}; say how in {given.folder}/recipe.yaml" for problem in left], recipe)
    job = _job(given, model, key and key.column)
    notes += _renamed(job, given)
    notes += _with_nulls(job, given.sample, _columns(bound))
    return _Draft(job, notes, [], _recipe(spec, given, key))


def _columns(bound: Bound) -> list[str]:
    return [name for one in bound.inputs.values() for name in ([one] if isinstance(one, str) else one)]


def _renamed(job: dict[str, Any], given: _Given) -> list[str]:
    """A score that has the name of the key is published under another."""
    passed = job["output"].get("passthrough", [])
    outputs = given.found.signature.outputs
    if not any(tensor.name in passed for tensor in outputs):
        return []
    names = {t.name: f"score_{t.name}" if t.name in passed else t.name for t in outputs}
    job["model"]["outputs"] = [{"column": column, "tensor": tensor} for tensor, column in names.items()]
    return [
        f"{tensor} is published as {column}: the key has its name"
        for tensor, column in names.items()
        if tensor != column
    ]


def _with_nulls(job: dict[str, Any], sample: pa.Table, columns: list[str]) -> list[str]:
    """A model alone has no rule for nulls: their rows are set aside, and the budget must allow for that."""
    masks = [sample.column(name).is_null().to_numpy() for name in columns]
    rows = int(np.logical_or.reduce(masks).sum()) if masks else 0
    if not rows:
        return []
    share = min(1.0, _NULLS_ALLOWED * max(0.01, rows / sample.num_rows))
    job["budgets"] = {"contract": {"max_ratio": round(share, 4)}}
    of_all = counted(sample.num_rows, "row has", "rows have")
    found = f"{rows:,} of {of_all} a null in an input: they are set aside, up to {share:.0%} of all"
    return [f"{found} (budgets.contract); where the model knows NaN as missing, say model.nulls: nan instead"]


def _recipe(spec: Spec, given: _Given, key: Key | None) -> str:
    """The same binding as a recipe."""
    plain = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    fields = list(plain["input"]["fields"])
    if key is not None and key.column not in {field["name"] for field in fields}:
        is_whole = pa.types.is_integer(given.sample.schema.field(key.column).type)
        fields.append({"name": key.column, "type": "int64" if is_whole else "string", "nullable": False, "role": "id"})
    return spec_text(_name(given.found), fields, plain["outputs"]["tensors"])


def _checked(job: dict[str, Any]) -> list[str]:
    """Why the job would not run; nothing where it would."""
    try:
        preview(RunRequest(config=JobConfig.model_validate(job), run_id=new_run_id(job["name"])))
    except Refused as error:
        return [str(error)]
    return []


def _job_text(job: dict[str, Any], notes: Sequence[str], left: Sequence[str]) -> str:
    lines = ["# Written by `batchscore init`. What was guessed:"]
    lines += [f"#   {_line(note)}" for note in notes]
    if left:
        lines += ["# What is left to you:", *(f"#   {_line(problem)}" for problem in left)]
    lines.append("# `batchscore schema job` prints what else can be said here.")
    return "\n".join(lines) + "\n" + yaml.safe_dump(job, sort_keys=False, allow_unicode=True, width=100)


def _line(text: str) -> str:
    return " ".join(text.split())


def _write(path: str, text: str) -> None:
    """Create a file, never over another."""
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with Path(path).open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise Refused(f"{path}: is there already, and is not overwritten. Give another --out.") from error
    except OSError as error:
        raise Refused(f"{path}: cannot be written: {error.strerror}.") from error


def _commands(given: _Given, files: Sequence[str], *, is_ready: bool) -> tuple[tuple[str, str], ...]:
    job, folder = files[0], given.folder
    run = ("score", shlex.join(["batchscore", "run", job]))
    trial = ("try the first rows", shlex.join(["batchscore", "run", job, "--limit", str(_TRIAL_ROWS)]))
    if given.found.audited is not None:
        return (trial, run) if is_ready else (("see what is wrong", shlex.join(["batchscore", "validate", job])),)
    fit = ["batchscore", "fit", f"{folder}/recipe.yaml", "--out", f"{folder}/etl.json"]
    fit += [word for uri in given.data for word in ("--data", uri)]
    make = ["batchscore", "bundle", "create", "--model", given.model, "--spec", f"{folder}/etl.json"]
    make += [word for uri in given.data for word in ("--rows", uri)]
    make += ["--name", _name(given.found), "--version", "1", "--out", f"{folder}/bundle"]
    learn = (("learn what the recipe's steps learn", shlex.join(fit)), ("make a bundle of both", shlex.join(make)))
    return (trial, run) if is_ready else (*learn, trial, run)
