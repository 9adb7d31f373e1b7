"""Resolve a config into a plan: pinned inputs, splits, model, output schema. Starts no scoring."""

from __future__ import annotations

import fnmatch
import itertools
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from etl.documents import sha256_hex
from etl.errors import FileDamaged, InputMissing
from etl.runs.damage import first_readable
from etl.runs.layout import model_folder
from etl.runs.manifest import schema_entries
from etl.runs.read import RangeReader, open_parquet
from etl.runs.splits import InputFile, Split, cut_splits
from etl.runs.storage import storage_for
from jobs.errors import Refused
from jobs.monitoring.sketched import InputSize, sketch_order
from jobs.planning.destination import Target, terms_at
from jobs.planning.increment import increment_of, published_keys, scored_files
from jobs.planning.lineage import lineage_of
from jobs.planning.models import Known, Models, audited_models, resolve_models
from jobs.planning.plan import Increment, Part, Plan, asked, load_plan
from scoring.bundles.bundle import BUNDLE_FILE, AuditedBundle, copy_bundle
from scoring.memory import projected_task_bytes, table_rows
from scoring.order import MissingKeys, Order, SketchOrder
from scoring.predictions import Predictions

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow.parquet as pq

    from etl.runs.manifest import Manifest
    from etl.runs.splits import FileRange
    from jobs.config.job import JobConfig

__all__ = ["Resolved", "check_input", "list_inputs", "make_plan", "restore_models", "store_plan"]


class Resolved(NamedTuple):
    """A plan and the bytes that it names."""

    plan: Plan
    bundles: tuple[AuditedBundle, ...]
    """Of its models, in their order."""
    references: dict[str, bytes]
    published_keys: bytes | None
    """Keys whose rows are left out."""


_NOTHING = Known()
_ALL = Part()


def store_plan(target: Target, resolved: Resolved) -> Plan:
    """Store the plan after everything that it names; if another driver was first, its plan is ours."""
    for audited in resolved.bundles:
        copy_bundle(audited, target.storage, model_folder(target.layout.root, audited.sha256))
    for name, data in resolved.references.items():
        target.storage.create_if_absent(target.layout.reference(name, sha256_hex(data)), data)
    if resolved.published_keys is not None:
        path = target.layout.published_keys(sha256_hex(resolved.published_keys))
        target.storage.create_if_absent(path, resolved.published_keys)
    target.storage.create_if_absent(target.layout.plan, resolved.plan.to_bytes())
    return load_plan(target) or resolved.plan


def restore_models(target: Target, config: JobConfig, plan: Plan) -> None:
    """Put back the run's copies of its models where they are gone: `gc` may have met the run when it was planned.

    Raises:
        Refused: the config's model is another by now.
    """
    storage, root = target.storage, target.layout.root
    shas = [model.bundle_sha256 for model in plan.order.models]
    gone = {sha for sha in shas if storage.stat(f"{model_folder(root, sha)}/{BUNDLE_FILE}") is None}
    if not gone or not plan.inputs:
        return
    for audited in audited_models(config, _schema_of(plan.inputs[0])):
        if audited.sha256 in gone:
            copy_bundle(audited, storage, model_folder(root, audited.sha256))
            gone.remove(audited.sha256)
    if gone:
        folder = model_folder(root, min(gone))
        raise Refused(
            f"{folder}: the run's copy of its model is gone, and the job's model is another. Use a new run id."
        )


def list_inputs(patterns: tuple[str, ...]) -> tuple[InputFile, ...]:
    """The input files as they are now, by path.

    Raises:
        InputMissing: a pattern matches nothing.
    """
    files: dict[str, InputFile] = {}
    for pattern in patterns:
        storage, path = storage_for(pattern)
        found = list(storage.list_files(path))
        if not found:
            message = f"{pattern}: no input file is there. Check the path; it is relative to the working folder."
            raise InputMissing(message)
        files.update((file.path, file) for file in found)
    return tuple(files[path] for path in sorted(files))


def make_plan(
    target: Target,
    config: JobConfig,
    inputs: tuple[InputFile, ...],
    *,
    latest: Manifest | None,
    part: Part = _ALL,
    known: Known = _NOTHING,
) -> Resolved:
    """Resolve a config over pinned inputs, which are the prepared rows where there are any. Nothing is stored.

    `latest` is the newest version from before the inputs were listed: what came since, the run has not seen.

    Raises:
        BatchscoreError: anything that can be known to fail before work starts.
    """
    check_input(config, inputs)
    models = _models(config, _first(config, inputs), known)
    wanted, increment = _increment(target, config, inputs, models=models, latest=latest)
    splits, row_limits = _cut(config, wanted, part.limit)
    footer = _largest_footer(config, wanted, inputs)
    keys = _published_keys(target, config, part, latest=latest)
    told: dict[str, Any] = {"row_limits": row_limits, "sample": part.sample, "missing_keys": _pinned(part, keys)}
    told["sketch"] = _sketch(config, models, part, size=InputSize(wanted, footer.num_rows, keys is None))
    at_once = table_rows(footer, models.carried, models.bundles, is_one_each=bool(models.chosen_by))
    order = _order(target, config, {**models.told, **told, "sources": known.sources}, table_rows=at_once)
    plan = Plan(
        run_id=target.layout.run_id,
        job=config.name,
        planned_at=datetime.now(UTC),
        inputs=wanted,
        increment=increment,
        splits=splits,
        order=order,
        columns=schema_entries(published := Predictions(order, models.bundles).schema),
        **_told_by(models, order),
        **_told_of(config, part),
        projected_task_bytes=_projected(footer, splits, order, models=models) if splits else 0,
        terms=terms_at(target, config.output, published, latest=latest),
        prepared=known.prepared.preparation if known.prepared else None,
    )
    return Resolved(plan, models.bundles, {name: pinned.data for name, pinned in models.references.items()}, keys)


def _models(config: JobConfig, first: InputFile, known: Known) -> Models:
    return resolve_models(config, _schema_of(first), where=first.path, known=known)


def _sketch(config: JobConfig, models: Models, part: Part, *, size: InputSize) -> SketchOrder | None:
    """What workers note of the rows; nothing of a trial, and of rows that are late or scored again: a few, and odd."""
    return sketch_order(config, models, size) if part.is_all else None


def _told_by(models: Models, order: Order) -> dict[str, Any]:
    """The fields of a plan that models and their specs decide."""
    filters = any(audited.spec.filters for audited in models.bundles)
    lineage = lineage_of(order, models.bundles)
    return {"models": models.facts, "filters": filters, "expectations": models.expectations, "lineage": lineage}


def _increment(
    target: Target, config: JobConfig, inputs: tuple[InputFile, ...], *, models: Models, latest: Manifest | None
) -> tuple[tuple[InputFile, ...], Increment | None]:
    """The files that are to be scored: all, or those that were not before."""
    if not config.input.incremental:
        return inputs, None
    bundles = [model.bundle_sha256 for model in models.facts]
    runs = latest.runs if latest is not None else ()
    return increment_of(config, inputs, scored_files(target, runs, job=config.name, models=bundles))


def _pinned(part: Part, keys: bytes | None) -> MissingKeys | None:
    """How workers are told of the keys."""
    if part.missing_keys is None or keys is None:
        return None
    return MissingKeys(column=part.missing_keys, sha256=sha256_hex(keys))


def _published_keys(target: Target, config: JobConfig, part: Part, *, latest: Manifest | None) -> bytes | None:
    """The keys whose rows are left out, as they are pinned."""
    if part.missing_keys is None:
        return None
    if part.missing_keys not in config.output.passthrough:
        message = (
            f"--missing-keys: output.passthrough does not publish {part.missing_keys!r}, so later runs would miss it."
        )
        raise Refused(message)
    if config.output.on_schema_change == "new_version":
        raise Refused(
            "--missing-keys: output.on_schema_change is `new_version`, and a version of this run alone would lose the "
            "keys that are published. Set it to `fail`."
        )
    table = published_keys(target, part.missing_keys, latest=latest, most_bytes=int(config.scoring.reference_bytes))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _told_of(config: JobConfig, part: Part) -> dict[str, Any]:
    """What is asked for, and who is told of the run; of a trial nobody."""
    told: dict[str, Any] = {"asked": asked(config, part)}
    if not part.is_trial:
        uri = config.metrics.uri if config.metrics is not None else None
        told |= {"metrics_uri": uri, "sinks": config.sinks, "hooks": config.hooks}
    return told


def _first(config: JobConfig, files: Iterable[InputFile]) -> InputFile:
    """The first file, or where damaged ones may be set aside the first that can be read."""
    return first_readable(files) if config.input.on_damaged == "quarantine" else next(iter(files))


def _largest_footer(config: JobConfig, wanted: tuple[InputFile, ...], inputs: tuple[InputFile, ...]) -> pq.FileMetaData:
    """That of the largest file that is scored, for what a worker will need; of any, where none of them can be read."""
    by_size = (sorted(files, key=lambda file: -file.bytes) for files in (wanted, inputs))
    largest = _first(config, itertools.chain.from_iterable(by_size))
    return open_parquet(storage_for(largest.path)[0], largest).metadata


def _projected(footer: pq.FileMetaData, splits: tuple[Split, ...], order: Order, *, models: Models) -> int:
    """Peak memory of a worker on the largest file, with the reference tables that it joins."""
    together = max(len(split.ranges) for split in splits)
    held = {name: models.references[name] for model in order.models for name in model.references}
    file = splits[0].ranges[0].file
    is_remote = storage_for(file.path)[0].local_path(file.path) is None
    return projected_task_bytes(footer, order, models.bundles, references=held, files=together, is_remote=is_remote)


def _order(target: Target, config: JobConfig, found: dict[str, Any], *, table_rows: int) -> Order:
    """What config, model and input decide together; `found` is what the latter two do."""
    return Order(
        run_id=target.layout.run_id,
        root=target.layout.root,
        passthrough=config.output.passthrough,
        stamps=config.output.stamps,
        scored_at=datetime.now(UTC).replace(microsecond=0),
        combination=config.combine if config.models else None,
        shape=config.output.shape,
        batch_rows=config.scoring.batch_rows,
        batch_bytes=int(config.scoring.batch_bytes),
        overlap=config.scoring.overlap,
        call_timeout=config.scoring.call_timeout,
        table_rows=table_rows,
        **found,
    )


def _cut(
    config: JobConfig, files: tuple[InputFile, ...], limit: int | None
) -> tuple[tuple[Split, ...], dict[int, int]]:
    """All splits; with `limit` the first that hold so many rows, and how many rows of the last one are scored."""
    splits = cut_splits(files, config.splits.target_bytes, config.splits.max_files)
    if limit is None:
        return splits, {}
    kept: list[Split] = []
    remaining = limit
    for split in splits:
        rows = sum(_rows(config, part) for part in split.ranges)
        kept.append(split)
        if rows >= remaining:
            return tuple(kept), {split.index: remaining}
        remaining -= rows
    return splits, {}


def _rows(config: JobConfig, part: FileRange) -> int:
    """Rows of a range by its footer; of a damaged file that is to be set aside, none."""
    try:
        return RangeReader(storage_for(part.file.path)[0], part).rows
    except FileDamaged:
        if config.input.on_damaged == "fail":
            raise
        return 0


def check_input(config: JobConfig, inputs: tuple[InputFile, ...]) -> None:
    """Refuse an output that is, or with the next run would be, input; and columns that cannot be told apart."""
    _, root = storage_for(config.output.uri)
    inside = next((file.path for file in inputs if file.path.startswith(f"{root}/")), None)
    if inside is not None:
        raise Refused(f"output.uri {root} holds the input file {inside}. Use another output.uri.")
    for pattern in config.input.patterns:
        if _reads(storage_for(pattern)[1], root):
            raise Refused(f"output.uri {root} lies where input.files {pattern} would read it. Use another output.uri.")
    if not inputs:
        return
    first = _first(config, inputs)
    path, names = first.path, _schema_of(first).names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise Refused(f"{path}: has columns of equal names: {', '.join(twice)}. Write it with a name for each column.")


def _schema_of(file: InputFile) -> pa.Schema:
    return open_parquet(storage_for(file.path)[0], file).schema_arrow


def _reads(pattern: str, folder: str) -> bool:
    """Whether files below a folder are, or with `**` may be, among what a path or glob names."""
    parts, names = pattern.split("/"), folder.split("/")
    for part, name in zip(parts, names, strict=False):
        if part == "**":
            return True
        if part != name and not fnmatch.fnmatchcase(name, part):
            return False
    below = names[len(parts) :]
    return len(parts) <= len(names) and not any(name.startswith(("_", ".")) for name in below)
