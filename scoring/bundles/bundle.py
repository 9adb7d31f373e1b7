"""A model as a bundle: a folder whose `bundle.json` names every file with its digest. Audited before anything loads."""

from __future__ import annotations

import contextlib
import posixpath
import stat
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import Field, FiniteFloat, SerializerFunctionWrapHandler, model_serializer

from etl.documents import Document, Strict, sha256_hex
from etl.errors import BatchscoreError, SpecError, StorageError
from etl.format.positions import read_text
from etl.spec import Spec, read_spec
from scoring.bundles.cache import content_of
from scoring.bundles.files import FileDigest, MappedFile, is_safe_name
from scoring.bundles.misfits import misfits
from scoring.bundles.weights import external_files
from scoring.errors import BundleError
from scoring.outputs.columns import OutputColumn
from scoring.runtimes.base import Device, Kind
from scoring.signature import Signature

if TYPE_CHECKING:
    import mmap
    from collections.abc import Mapping

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
    "spec_of",
]

BUNDLE_FILE = "bundle.json"


class Tolerance(Strict):
    """How far a golden output may be off: |found − expected| ≤ atol + rtol · |expected|."""

    atol: FiniteFloat = Field(ge=0)
    rtol: FiniteFloat = Field(ge=0)


DEFAULT_TOLERANCES: dict[Device, Tolerance] = {
    "cpu": Tolerance(atol=1e-5, rtol=1e-4),
    "cuda": Tolerance(atol=1e-4, rtol=1e-3),
}
"""By device, for float32 models, as they are written to a bundle."""
_TENSORRT = Tolerance(atol=1e-3, rtol=1e-2)
"""It fuses operators, and may compute in float16."""


class Golden(Strict):
    """Rows that the bundle must reproduce wherever it is loaded; each a file of Arrow IPC."""

    rows: str = Field(description="Raw input rows, without personal data.")
    features: str = Field(description="One list column a tensor.")
    outputs: str = Field(description="The published output columns.")
    references: dict[str, str] = Field(default_factory=dict, description="Excerpts of the reference tables, by name.")

    @property
    def files(self) -> tuple[str, ...]:
        """All of them."""
        return self.rows, self.features, self.outputs, *self.references.values()


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

    @model_serializer(mode="wrap")
    def _without_the_usual_runtime(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A bundle of an ONNX file is written as it was before there were others, so its digest stays."""
        plain: dict[str, Any] = dump(self)
        if self.runtime == "onnx":
            plain.pop("runtime", None)
        return plain


class AuditedBundle(NamedTuple):
    """A bundle whose every file is there with its digest, and whose parts fit together."""

    bundle: Bundle
    spec: Spec
    files: Mapping[str, bytes | mmap.mmap]
    """Contents by name, without `bundle.json`; a large file is mapped from a disk of this host."""
    text: bytes
    """`bundle.json` as it was read."""
    sha256: str
    """Digest of `bundle.json`, which names the digest of everything else: the identity of the model."""
    origin: Mapping[str, str] = MappingProxyType({})
    """Where it was found, of a model of MLflow; see `scoring.bundles.sources.Source.origin`."""

    def tolerance(self, device: Device) -> Tolerance:
        """How far a golden output may be off on a device."""
        return self.bundle.tolerances.get(device, DEFAULT_TOLERANCES.get(device, _TENSORRT))

    @property
    def model(self) -> bytes | mmap.mmap:
        """The model's file."""
        return self.files[self.bundle.model]

    @property
    def model_bytes(self) -> int:
        """Size of the model with its weights and whatever else it is loaded from."""
        return sum(facts.bytes for name, facts in self.bundle.files.items() if name not in self._beside)

    @property
    def _beside(self) -> set[str]:
        golden = self.bundle.golden
        return {self.bundle.spec, *(golden.files if golden else ())}

    def settle(self) -> None:
        """After the model was loaded: see that it is the audited one, and give the pages of large files back.

        Raises:
            BundleError: somebody wrote into a mapped file.
        """
        for name, content in self.files.items():
            if isinstance(content, MappedFile):
                content.let_go()
                if content.was_written():
                    message = f"file {name} was written to while it was loaded ({content.path}). Replace files whole."
                    raise BundleError(message)


def audit(storage: Storage, folder: str) -> AuditedBundle:
    """Read a bundle and check all of it before any part is used.

    Files above 16 MiB are mapped where they lie, or, of a store that is no local disk, in the cache of this host.

    Raises:
        BundleError: with every violation.
        SpecError: all that is wrong is that its spec is malformed or not fitted.
    """
    if _leaves(storage, folder, BUNDLE_FILE) or _is_irregular(storage, f"{folder}/{BUNDLE_FILE}"):
        message = f"{folder}: {BUNDLE_FILE} is no regular file; put the file itself there."
        raise BundleError(message)
    text = storage.read_bytes(f"{folder}/{BUNDLE_FILE}")
    if text is None:
        message = f"{folder}: there is no {BUNDLE_FILE} here. Give the folder of a bundle."
        raise BundleError(message)
    try:
        bundle = Bundle.from_bytes(text, where=f"{folder}/{BUNDLE_FILE}")
        read_text(text.decode(), f"{folder}/{BUNDLE_FILE}")  # of a key that stands twice, pydantic takes the last
    except BatchscoreError as error:
        raise BundleError(str(error)) from error
    files, problems = _read_files(storage, folder, bundle)
    problems.extend(_unlisted(bundle, files))
    spec = None
    if bundle.spec in files:
        try:
            spec = _read_spec(f"{folder}/{bundle.spec}", files[bundle.spec], files)
            problems.extend(misfits(bundle, spec))
        except SpecError as error:
            if not problems:
                raise
            problems.append(str(error))
    if spec is None or problems:
        raise BundleError(f"{folder}: {'; '.join(problems)}. Nothing was loaded.")
    return AuditedBundle(bundle, spec, files, text, sha256_hex(text))


def _read_spec(path: str, written: bytes | mmap.mmap, files: Mapping[str, bytes | mmap.mmap]) -> Spec:
    def artifact(name: str) -> bytes | None:
        return bytes(files[name]) if name in files else None

    return read_spec(bytes(written).decode(errors="replace"), path, artifacts=artifact)


def spec_of(storage: Storage, folder: str, sha256: str) -> Spec:
    """The spec of a bundle that was audited before, and has the digest `sha256`; none of its other files is read.

    Raises:
        BundleError: another bundle is there now, or a file of its spec is missing or was changed.
    """
    path = f"{folder}/{BUNDLE_FILE}"
    text = storage.read_bytes(path)
    if text is None or sha256_hex(text) != sha256:
        message = f"{path}: is missing or was changed: its SHA-256 was {sha256} when the run was planned."
        raise BundleError(message)
    bundle = Bundle.from_bytes(text, where=path)

    def content(name: str) -> bytes:
        found = None
        with contextlib.suppress(FileNotFoundError):
            found = content_of(storage, f"{folder}/{name}", bundle.files[name]) if name in bundle.files else None
        if found is None:
            message = f"{folder}/{name}: is missing or was changed: its SHA-256 is not the one in {BUNDLE_FILE}."
            raise BundleError(message)
        return bytes(found)

    return read_spec(content(bundle.spec).decode(), f"{folder}/{bundle.spec}", artifacts=content)


def _read_files(storage: Storage, folder: str, bundle: Bundle) -> tuple[dict[str, bytes | mmap.mmap], list[str]]:
    files: dict[str, bytes | mmap.mmap] = {}
    problems: list[str] = []
    for name, expected in bundle.files.items():
        if not is_safe_name(name):
            problems.append(f"file name {name!r} leaves the bundle or is hidden")
            continue
        try:
            if problem := _unlike(storage, folder, name, expected=expected):
                problems.append(problem)
                continue
            content = content_of(storage, f"{folder}/{name}", expected)
        except FileNotFoundError:
            problems.append(f"file {name} is missing")
        except (OSError, StorageError) as error:
            problems.append(f"file {name} cannot be read ({error})")
        else:
            if content is None:
                problems.append(f"file {name} was changed: its SHA-256 is not the one in {BUNDLE_FILE}")
            else:
                files[name] = content
    return files, problems


def _unlike(storage: Storage, folder: str, name: str, *, expected: FileDigest) -> str | None:
    """What is wrong with a file before it is read: another one may be of any size, and from any place."""
    if _leaves(storage, folder, name):
        return f"file {name} is a link that leaves the bundle; put the file itself there"
    if _is_irregular(storage, f"{folder}/{name}"):
        return f"file {name} is no regular file; put the file itself there"
    found = storage.stat(f"{folder}/{name}")
    if found is None and storage.local_path(f"{folder}/{name}") is None:
        raise FileNotFoundError(name)
    if found is not None and found.bytes != expected.bytes:
        return f"file {name} was changed: it has {found.bytes:,} bytes, and {expected.bytes:,} by {BUNDLE_FILE}"
    return None


def _leaves(storage: Storage, folder: str, name: str) -> bool:
    """Whether a link leads out of the bundle; those of a mounted folder, as Kubernetes makes them, stay within it."""
    place, above = storage.local_path(f"{folder}/{name}"), storage.local_path(folder)
    return place is not None and above is not None and not Path(place).resolve().is_relative_to(Path(above).resolve())


def _is_irregular(storage: Storage, path: str) -> bool:
    """Whether a pipe or a device is there: a pipe may be waited for without end, and a device have none."""
    place = storage.local_path(path)
    try:
        found = None if place is None else Path(place).stat()
    except (OSError, ValueError):  # who reads it says what it is
        return False
    return found is not None and not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode))


def _unlisted(bundle: Bundle, files: Mapping[str, bytes | mmap.mmap]) -> list[str]:
    """Files that are used without a digest, those that hold weights of the model too."""
    named = [bundle.model, bundle.spec, *(bundle.golden.files if bundle.golden else ())]
    problems = [f"file {name} is used but has no digest in {BUNDLE_FILE}" for name in named if name not in bundle.files]
    if bundle.runtime == "onnx" and bundle.model in files:
        beside = posixpath.dirname(bundle.model)
        weights = [posixpath.join(beside, name) for name in external_files(files[bundle.model])]
        problems += [
            f"the model has weights in the file {name!r}, which has no digest in {BUNDLE_FILE}"
            for name in weights
            if name not in bundle.files
        ]
    return problems


def output_schema(bundle: Bundle) -> list[pa.Field]:
    """The published columns of the model, in order."""
    given = {tensor.name: tensor for tensor in bundle.signature.outputs}
    return [column.field(given[column.tensor]) for column in bundle.columns]


def copy_bundle(audited: AuditedBundle, storage: Storage, folder: str) -> None:
    """Copy the audited bytes, `bundle.json` last; a copy that is there is left alone, since its name is its digest."""
    if storage.stat(f"{folder}/{BUNDLE_FILE}") is not None:
        return
    for name, content in audited.files.items():
        storage.create_if_absent(f"{folder}/{name}", content)
    audited.settle()
    storage.create_if_absent(f"{folder}/{BUNDLE_FILE}", audited.text)
