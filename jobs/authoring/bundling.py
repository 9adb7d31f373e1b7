"""Bundles for people: make one from its parts, look into one, prove one on this machine, log one to MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
from pydantic import Field

from etl.documents import Strict
from etl.format.problems import Source as Text
from etl.format.problems import parse, problem_lines
from etl.references import pin_references
from etl.runs.read import open_parquet
from etl.runs.storage import storage_for
from jobs.authoring.specs import read_spec_file
from jobs.config.job import Model
from jobs.errors import Refused, refusing
from jobs.planning.model import bare_signature
from jobs.planning.resolving import list_inputs
from scoring.bundles.bundle import BUNDLE_FILE
from scoring.bundles.create import BundleParts, create_bundle
from scoring.bundles.golden import arrow_table, replay
from scoring.bundles.sources import audited_source, is_of_mlflow, locate
from scoring.bundles.weights import weights_beside
from scoring.outputs.columns import OutputColumn
from scoring.runtimes import load
from scoring.runtimes.base import RuntimeOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from etl.spec import Spec
    from scoring.bundles.bundle import AuditedBundle, Tolerance
    from scoring.bundles.golden import Deviation
    from scoring.bundles.mlflow import Logged
    from scoring.bundles.sources import Source
    from scoring.runtimes.base import Device, DeviceChoice
    from scoring.signature import Signature

__all__ = ["Found", "Making", "Verified", "default_columns", "find", "log", "make", "verify"]


class Making(NamedTuple):
    """What a bundle is to be made of, as a command is told."""

    name: str
    version: str
    model: str
    """Path or URI of an .onnx file; weights in files beside it are found."""
    spec: str
    """Path of a fitted spec."""
    rows: tuple[str, ...]
    """Parquet files with golden rows."""
    most_rows: int
    """How many of them are kept, from the first on."""
    outputs: str | None
    """A YAML or JSON file with the list of published columns; None for one a model output."""
    references: Mapping[str, str]
    """URIs of the reference tables that the spec joins, by name."""
    facts: Mapping[str, str]
    """Free text about the model."""


class Found(NamedTuple):
    """What is at a path or URI."""

    source: Source
    signature: Signature
    audited: AuditedBundle | None
    """None of a bare model."""


class Verified(NamedTuple):
    """A bundle that is sound and gives its golden rows here."""

    audited: AuditedBundle
    device: Device
    provider: str
    tolerance: Tolerance
    deviation: Deviation | None
    """None where the bundle has no golden rows."""


class _Outputs(Strict):
    """A file that says what is published: the same list as `model.outputs` of a job."""

    outputs: tuple[OutputColumn, ...] = Field(min_length=1)


def make(asked: Making, out: str) -> AuditedBundle:
    """Make a bundle in a new folder; the golden rows are scored here, and so become what others must reproduce.

    Raises:
        Refused: something is not there, or the parts do not fit; nothing was written.
    """
    with refusing():
        spec = read_spec_file(asked.spec, fitted=True)
        source = _bare(asked.model)
        data = source.storage.read_bytes(source.path)
        if data is None:
            raise Refused(f"{asked.model}: no model is there. Check --model.")
        signature = _signature(asked.model)
        columns = default_columns(signature) if asked.outputs is None else _read_columns(asked.outputs)
        pinned = pin_references(spec, asked.references)
        parts = BundleParts(
            name=asked.name,
            version=asked.version,
            model=data,
            spec=spec,
            columns=columns,
            golden_rows=_first_rows(asked.rows, asked.most_rows, spec),
            references={name: arrow_table(table.data) for name, table in pinned.items()},
            facts=asked.facts,
            weights=weights_beside(source.path),
        )
        storage, folder = storage_for(out)
        return create_bundle(storage, folder, parts)


def default_columns(signature: Signature) -> tuple[OutputColumn, ...]:
    """A column for each output of a model, by its name and of its own type."""
    return tuple(OutputColumn(column=tensor.name, tensor=tensor.name) for tensor in signature.outputs)


def find(uri: str) -> Found:
    """What is at a path or URI: a bundle, audited, or a bare model.

    Raises:
        Refused: nothing is there, or it is not sound.
    """
    with refusing():
        source = locate(uri)
        if source.kind == "onnx":
            return Found(source, _signature(uri), None)
        if not source.is_bundle and not is_of_mlflow(uri):
            is_file = source.storage.stat(source.path) is not None
            what = "is a file, and by its name no ONNX model" if is_file else f"there is no {BUNDLE_FILE} here"
            raise Refused(f"{uri}: {what}. Give the folder of a bundle, or an .onnx file.")
        audited = audited_source(uri)
        return Found(source._replace(origin=audited.origin), audited.bundle.signature, audited)


def verify(uri: str, device: DeviceChoice) -> Verified:
    """Audit a bundle and replay its golden rows on this machine.

    Raises:
        Refused: a file is missing or was changed, the parts do not fit, the device is not here, or a golden row comes
            out as something else.
    """
    with refusing():
        audited = audited_source(uri)
        bundle = audited.bundle
        runtime = load(bundle.model, audited.files, RuntimeOptions(device=device), where=uri, kind=bundle.runtime)
        audited.settle()
        if runtime.signature != bundle.signature:
            raise Refused(f"{uri}: the model's tensors are not the ones that bundle.json declares.")
        tolerance = audited.tolerance(runtime.device)
        deviation = replay(audited, runtime, tolerance)
    return Verified(audited, runtime.device, runtime.provider, tolerance, deviation)


def log(
    uri: str, references: Mapping[str, str], *, name: str | None, registered: str | None, alias: str | None
) -> Logged:
    """Log a bundle to MLflow as a model with its ETL inside.

    Raises:
        Refused: an alias without a registered name, the bundle is not sound, or MLflow does not take it.
    """
    if alias is not None and registered is None:
        raise Refused("--alias is of a registered model: give --registered-name, too.")
    with refusing():
        audited = audited_source(uri)
        pinned = pin_references(audited.spec, references)
        try:
            from scoring.bundles.mlflow import Registration, log_bundle  # noqa: PLC0415  seconds, only when asked for
        except ModuleNotFoundError as error:
            raise Refused("MLflow is not installed here: pip install 'batchscore[mlflow]'.") from error
        registration = None if registered is None else Registration(registered, alias)
        tables = {table: arrow_table(found.data) for table, found in pinned.items()}
        return log_bundle(audited, tables, name=name, registration=registration)


def _bare(uri: str) -> Source:
    source = locate(uri)
    if source.is_bundle:
        raise Refused(f"{uri}: is a bundle already. Give the .onnx file.")
    return source


def _signature(uri: str) -> Signature:
    return bare_signature(Model(onnx=uri))


def _read_columns(path: str) -> tuple[OutputColumn, ...]:
    """The list of published columns in a file, with every problem at once."""
    try:
        text = Text.read(Path(path).read_text(encoding="utf-8"), path)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise Refused(f"{path}: the outputs cannot be read: {reason}.") from error
    except ValueError as error:
        raise Refused(str(error)) from error
    if isinstance(text.value, list):
        # The list alone, as it stands under `outputs:` of a job.
        text = text._replace(
            value={"outputs": text.value}, places={f"/outputs{at}": place for at, place in text.places.items()}
        )
    read, problems = parse(_Outputs, text)
    if read is None or problems:
        raise Refused("\n".join(problem_lines(problems, text)))
    return read.outputs


def _first_rows(uris: Sequence[str], most: int, spec: Spec) -> pa.Table:
    """The first rows of Parquet files, with the columns that the spec reads."""
    names = {field.name for field in spec.input.fields}
    parts: list[Any] = []
    for file in list_inputs(tuple(uris)):
        parquet = open_parquet(storage_for(file.path)[0], file)
        columns = [name for name in parquet.schema_arrow.names if name in names]
        missing = most - sum(part.num_rows for part in parts)
        batch = next(parquet.iter_batches(missing, columns=columns), None)
        parts += [] if batch is None else [pa.Table.from_batches([batch])]
        if sum(part.num_rows for part in parts) >= most:
            break
    if not parts:
        raise Refused(f"{', '.join(uris)}: there is no row to prove the bundle by.")
    return pa.concat_tables(parts, promote_options="permissive").slice(0, most).combine_chunks()
