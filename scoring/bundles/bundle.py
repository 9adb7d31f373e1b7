"""A model as a bundle: a folder whose `bundle.json` names every file with its digest. Audited before anything loads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field, FiniteFloat

from etl.documents import Document, Strict, sha256_hex
from etl.errors import BatchscoreError, SpecError, StorageError
from etl.spec import Spec, read_spec
from scoring.bundles.misfits import misfits
from scoring.errors import BundleError
from scoring.outputs.columns import OutputColumn
from scoring.runtimes.base import Device, Kind
from scoring.signature import Signature

if TYPE_CHECKING:
    import pyarrow as pa

    from etl.runs.storage import Storage

__all__ = [
    "AuditedBundle",
    "Bundle",
    "FileDigest",
    "Golden",
    "Tolerance",
    "audit",
    "copy_bundle",
    "output_schema",
]

BUNDLE_FILE = "bundle.json"
_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")


class FileDigest(Strict):
    """A file of a bundle."""

    bytes: int = Field(ge=0)
    sha256: str


class Tolerance(Strict):
    """How far a golden output may be off: |found − expected| ≤ atol + rtol · |expected|."""

    atol: FiniteFloat = Field(ge=0)
    rtol: FiniteFloat = Field(ge=0)


DEFAULT_TOLERANCES: dict[Device, Tolerance] = {
    "cpu": Tolerance(atol=1e-5, rtol=1e-4),
    "cuda": Tolerance(atol=1e-4, rtol=1e-3),
}
"""By device, for float32 models."""


class Golden(Strict):
    """Rows that the bundle must reproduce wherever it is loaded; each a file of Arrow IPC."""

    rows: str = Field(description="Raw input rows, without personal data.")
    features: str = Field(description="One list column a tensor.")
    outputs: str = Field(description="The published output columns.")
    references: dict[str, str] = Field(default_factory=dict, description="Excerpts of the reference tables, by name.")


class Bundle(Document):
    """What `bundle.json` says."""

    format: Literal["batchscore.bundle/1"] = "batchscore.bundle/1"
    name: str = Field(pattern=r"^[a-z][a-z0-9_.-]{0,99}$")
    version: str = Field(min_length=1, max_length=100)
    runtime: Kind = Field(default="onnx", description="What runs the model.")
    model: str = Field(description="The model's file; of a pyfunc its MLmodel, whose folder is the model.")
    spec: str = Field(description="The fitted ETL spec.")
    files: dict[str, FileDigest] = Field(description="Every file of the bundle but this one.")
    signature: Signature
    columns: tuple[OutputColumn, ...] = Field(min_length=1, description="What is published, in this order.")
    tolerances: dict[Device, Tolerance] = Field(default_factory=DEFAULT_TOLERANCES.copy)
    golden: Golden | None = None
    facts: dict[str, str] = Field(
        default_factory=dict, description="Free text, e.g. how it was trained and how good it is."
    )


class AuditedBundle(NamedTuple):
    """A bundle whose every file is there with its digest, and whose parts fit together."""

    bundle: Bundle
    spec: Spec
    files: dict[str, bytes]
    """Contents by name, without `bundle.json`."""
    text: bytes
    """`bundle.json` as it was read."""
    sha256: str
    """Digest of `bundle.json`, which names the digest of everything else: the identity of the model."""

    def tolerance(self, device: Device) -> Tolerance:
        """How far a golden output may be off on a device."""
        return self.bundle.tolerances.get(device, DEFAULT_TOLERANCES[device])

    @property
    def model(self) -> bytes:
        """The ONNX file."""
        return self.files[self.bundle.model]


def audit(storage: Storage, folder: str) -> AuditedBundle:
    """Read a bundle and check all of it before any part is used.

    Raises:
        BundleError: with every violation.
        SpecError: all that is wrong is that its spec is malformed or not fitted.
    """
    text = storage.read_bytes(f"{folder}/{BUNDLE_FILE}")
    if text is None:
        message = f"{folder}: there is no {BUNDLE_FILE} here. Give the folder of a bundle, or an .onnx file."
        raise BundleError(message)
    try:
        bundle = Bundle.from_bytes(text, where=f"{folder}/{BUNDLE_FILE}")
    except BatchscoreError as error:
        raise BundleError(str(error)) from error
    files, problems = _read_files(storage, folder, bundle)
    problems.extend(_unlisted(bundle))
    spec = None
    if bundle.spec in files:
        try:
            written = files[bundle.spec].decode(errors="replace")
            spec = read_spec(written, f"{folder}/{bundle.spec}", artifacts=files.get)
            problems.extend(misfits(bundle, spec))
        except SpecError as error:
            if not problems:
                raise
            problems.append(str(error))
    if spec is None or problems:
        raise BundleError(f"{folder}: {'; '.join(problems)}. Nothing was loaded.")
    return AuditedBundle(bundle, spec, files, text, sha256_hex(text))


def _read_files(storage: Storage, folder: str, bundle: Bundle) -> tuple[dict[str, bytes], list[str]]:
    files: dict[str, bytes] = {}
    problems: list[str] = []
    for name, expected in bundle.files.items():
        if not _SAFE_NAME.fullmatch(name):
            problems.append(f"file name {name!r} leaves the bundle or is hidden")
            continue
        try:
            if problem := _unlike(storage, folder, name, expected=expected):
                problems.append(problem)
                continue
            data = storage.read_bytes(f"{folder}/{name}")
        except (OSError, StorageError) as error:
            problems.append(f"file {name} cannot be read ({error})")
            continue
        if data is None:
            problems.append(f"file {name} is missing")
        elif sha256_hex(data) != expected.sha256:
            problems.append(f"file {name} was changed: its SHA-256 is not the one in {BUNDLE_FILE}")
        else:
            files[name] = data
    return files, problems


def _unlike(storage: Storage, folder: str, name: str, *, expected: FileDigest) -> str | None:
    """What is wrong with a file before it is read: another one may be of any size, and from any place."""
    path = Path(f"{folder}/{name}")
    # What a mounted folder links to within itself, as Kubernetes does, is in the bundle.
    if not path.resolve().is_relative_to(Path(folder).resolve()):
        return f"file {name} is a link that leaves the bundle; put the file itself there"
    found = storage.stat(f"{folder}/{name}")
    if found is not None and found.bytes != expected.bytes:
        return f"file {name} was changed: it has {found.bytes:,} bytes, and {expected.bytes:,} by {BUNDLE_FILE}"
    return None


def _unlisted(bundle: Bundle) -> list[str]:
    named = [bundle.model, bundle.spec]
    if bundle.golden:
        named += [bundle.golden.rows, bundle.golden.features, bundle.golden.outputs, *bundle.golden.references.values()]
    return [f"file {name} is used but has no digest in {BUNDLE_FILE}" for name in named if name not in bundle.files]


def output_schema(bundle: Bundle) -> list[pa.Field]:
    """The published columns of the model, in order."""
    given = {tensor.name: tensor for tensor in bundle.signature.outputs}
    return [column.field(given[column.tensor]) for column in bundle.columns]


def copy_bundle(audited: AuditedBundle, storage: Storage, folder: str) -> None:
    """Copy the audited bytes, `bundle.json` last; a copy that is there is left alone, since its name is its digest."""
    if storage.stat(f"{folder}/{BUNDLE_FILE}") is not None:
        return
    for name, data in audited.files.items():
        storage.create_if_absent(f"{folder}/{name}", data)
    storage.create_if_absent(f"{folder}/{BUNDLE_FILE}", audited.text)
