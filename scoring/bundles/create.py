"""Make a bundle: model, fitted spec and golden rows in one folder, with the digest of every file.

A bundle holds no personal data in its golden rows: a field that the spec calls `pii` is missing in each of them, so is
what a step on the table made of it, and a reference table that is joined by it is stored without rows. A golden row
that the spec rejects or filters without its personal data is left out. Where values are invented, say so: they stay.
"""

from __future__ import annotations

import os
import posixpath
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
from pydantic import ValidationError

from etl.arrivals import check_entry
from etl.documents import canonical_json
from etl.errors import ContractError, TransformError
from etl.format.artifacts import stored
from etl.golden import personal_columns
from etl.ops.lookup import LookupJoin
from etl.pipeline import Pipeline
from scoring.bundles.bundle import BUNDLE_FILE, AuditedBundle, Bundle, Golden, audit
from scoring.bundles.features import feature_table
from scoring.bundles.files import FileDigest, is_safe_name, read_file, sha256_of
from scoring.bundles.golden import arrow_bytes, golden_outputs, golden_run
from scoring.bundles.misfits import misfits
from scoring.bundles.weights import external_files
from scoring.errors import BundleError
from scoring.runtimes import load
from scoring.runtimes.base import RuntimeOptions

if TYPE_CHECKING:
    import mmap
    from collections.abc import Collection, Mapping

    from etl.pipeline import Features
    from etl.runs.storage import Storage
    from etl.spec import Spec
    from scoring.outputs.columns import OutputColumn
    from scoring.runtimes.base import Kind, Runtime

__all__ = ["BundleParts", "create_bundle"]


_RULES = {
    "name": "begins with a lower-case letter, and has at most 100 of a to z, 0 to 9, `_`, `.` and `-`",
    "version": "has 1 to 100 characters",
}
"""What a person is told of a field, in the place of its pattern."""


class BundleParts(NamedTuple):
    """What a bundle is made of."""

    name: str
    """Lower-case name of the model."""
    version: str
    """Its version, for people."""
    model: bytes
    """The ONNX file."""
    spec: Spec
    """The fitted ETL spec that makes the model's inputs."""
    columns: tuple[OutputColumn, ...]
    """What is published."""
    golden_rows: pa.Table
    """Raw input rows that exercise the spec: missing values, rare categories, extremes. Personal data is not stored."""
    references: Mapping[str, pa.Table]
    """The reference tables that the golden rows need, by name; an excerpt will do."""
    facts: Mapping[str, str]
    """Free text about the model."""
    invented: Collection[str] = ()
    """Fields of personal data whose golden values stand for no person, such as other names for the keys of a join; they
    are stored."""
    weights: Mapping[str, str | os.PathLike[str]] = MappingProxyType({})
    """Files of this host that the model takes beside its own, by name relative to it. For an ONNX file `weights_beside`
    finds them."""
    runtime: Kind = "onnx"
    """What runs the model."""
    model_file: str = "model.onnx"
    """The model's name in the bundle."""
    options: RuntimeOptions = RuntimeOptions()
    """What the model is loaded with to compute the golden outputs."""


def create_bundle(storage: Storage, folder: str, parts: BundleParts) -> AuditedBundle:
    """Write a bundle and read it back through the audit.

    Raises:
        BundleError: the folder has a bundle, the parts do not fit, or a golden row is rejected by the spec.
        ContractError: the golden rows lack a column, or have one of another type.
    """
    if storage.stat(f"{folder}/{BUNDLE_FILE}") is not None:
        message = f"{folder}: there is a bundle here, and bundles are not changed. Choose another folder or remove it."
        raise BundleError(message)
    model = _model_files(parts)
    runtime = load(parts.model_file, model, parts.options, where=parts.name, kind=parts.runtime)
    draft = _draft(parts, runtime)
    problems = misfits(draft, parts.spec)
    if problems:
        raise BundleError(f"{parts.name}: {'; '.join(problems)}. Nothing was written.")
    golden, golden_files = _golden(parts, runtime)
    spec_files = stored(parts.spec)
    own = {"etl.json": spec_files.text, **spec_files.artifacts, **golden_files}
    if taken := sorted(own.keys() & model.keys()):
        message = f"{parts.name}: the bundle has a file {taken[0]} of its own. Give the model's another name."
        raise BundleError(message)
    files: dict[str, bytes | mmap.mmap] = {**model, **own}
    digests = {name: FileDigest(bytes=len(data), sha256=sha256_of(data)) for name, data in files.items()}
    bundle = draft.model_copy(update={"files": digests, "golden": golden})
    for name, data in files.items():
        storage.replace(f"{folder}/{name}", data)
    storage.create_if_absent(f"{folder}/{BUNDLE_FILE}", canonical_json(bundle.model_dump(mode="json", by_alias=True)))
    return audit(storage, folder)


def _draft(parts: BundleParts, runtime: Runtime) -> Bundle:
    """The document before the files are known."""
    try:
        return Bundle(
            name=parts.name,
            version=parts.version,
            runtime=parts.runtime,
            model=parts.model_file,
            spec="etl.json",
            files={},
            signature=runtime.signature,
            columns=parts.columns,
            facts=dict(parts.facts),
        )
    except ValidationError as error:
        found = [(".".join(map(str, each["loc"])), each["msg"]) for each in error.errors(include_url=False)]
        problems = "; ".join(f"{field}: {_RULES.get(field, said)}" for field, said in found)
        message = (
            f"no bundle can be made as {parts.name!r}, version {parts.version!r}: {problems}. Nothing was written."
        )
        raise BundleError(message) from error


def _model_files(parts: BundleParts) -> dict[str, bytes | mmap.mmap]:
    """The model and what it takes beside its own file, by name in the bundle."""
    missing = (
        [name for name in external_files(parts.model) if name not in parts.weights] if parts.runtime == "onnx" else []
    )
    wrong = [name for name in (parts.model_file, *parts.weights) if not is_safe_name(name)]
    problems = [f"the model has weights in the file {name!r}, which is not among `weights`" for name in missing]
    problems += [f"file name {name!r} leaves the bundle or is hidden" for name in wrong]
    if problems:
        raise BundleError(f"{parts.name}: {'; '.join(problems)}. Nothing was written.")
    folder = posixpath.dirname(parts.model_file)
    try:
        beside = {posixpath.join(folder, name): read_file(os.fspath(path)) for name, path in parts.weights.items()}
    except OSError as error:
        message = f"{parts.name}: a file of the model cannot be read: {error}. Nothing was written."
        raise BundleError(message) from error
    return {parts.model_file: parts.model, **beside}


class _Rows(NamedTuple):
    """Golden rows, the reference tables that they need, and what the spec makes of them."""

    table: pa.Table
    references: Mapping[str, pa.Table]
    features: Features


def _rows_of(spec: Spec, table: pa.Table, references: Mapping[str, pa.Table]) -> _Rows:
    pipeline = Pipeline(spec, references)
    return _Rows(table, references, pipeline.transform(pipeline.contract(table, "golden rows")))


def _checked(parts: BundleParts) -> _Rows:
    """The rows as they were given, of which the spec leaves none out."""
    check_entry(parts.spec, parts.golden_rows.schema, "golden rows")
    names = Pipeline(parts.spec, parts.references).columns
    rows = _rows_of(parts.spec, parts.golden_rows.select(list(names)).combine_chunks(), parts.references)
    features = rows.features
    if features.filtered.size:
        message = f"golden row {features.filtered[0]} is left out by a filter of the spec. Choose another."
        raise BundleError(message)
    if features.kept is not None:
        rejection = features.rejections[0]
        why = f"is rejected by {rejection.pointer}: {rejection.message}"
        message = f"golden row {rejection.rows[0]} {why}. Leave it out."
        raise BundleError(message)
    return rows


def _without_personal_data(parts: BundleParts, rows: _Rows) -> _Rows | None:
    """The rows without it that the spec still keeps; None if there is none."""
    spec = parts.spec
    personal = personal_columns(spec, parts.invented)
    hidden = [name for name in rows.table.column_names if name in personal]
    joins = [s for s in spec.relational if isinstance(s, LookupJoin) and not personal.isdisjoint(s.inputs)]
    if not hidden:
        return rows
    if any(step.params.sha256 is not None for step in joins):
        # Such a table is whole or refused, and its keys are personal data.
        return None
    emptied = {step.params.reference for step in joins}
    references = {name: t.schema.empty_table() if name in emptied else t for name, t in rows.references.items()}
    table = rows.table
    for name in hidden:
        place, field = table.schema.get_field_index(name), table.schema.field(name)
        table = table.set_column(place, name, pa.nulls(table.num_rows, field.type))
    try:
        kept = _rows_of(spec, table, references).features.kept
    except (ContractError, TransformError):
        return None
    table = table if kept is None else table.take(pa.array(kept)).combine_chunks()
    return _rows_of(spec, table, references) if table.num_rows else None


def _golden(parts: BundleParts, runtime: Runtime) -> tuple[Golden | None, dict[str, bytes]]:
    rows = _without_personal_data(parts, _checked(parts))
    if rows is None:
        return None, {}
    outputs = golden_run(runtime, rows.features.tensors)
    made = golden_outputs(parts.columns, runtime.signature, outputs, rows=rows.table.num_rows)
    files = {
        "golden/rows.arrow": arrow_bytes(rows.table),
        "golden/features.arrow": arrow_bytes(feature_table(rows.features.tensors)),
        "golden/outputs.arrow": arrow_bytes(made),
    }
    references = {name: f"golden/reference-{name}.arrow" for name in rows.references}
    files.update((references[name], arrow_bytes(table.combine_chunks())) for name, table in rows.references.items())
    rows_file, features_file, outputs_file = list(files)[:3]
    golden = Golden(rows=rows_file, features=features_file, outputs=outputs_file, references=references)
    return golden, files
