"""Where a model comes from: a path, a storage URI, a model of MLflow, or a plain .onnx file.

What a name means is settled once, and what was found says which version that was. Models of a registry are fetched into
a folder of this process, which goes when the process ends; a model is known by its content, never by that place.
"""

from __future__ import annotations

import functools
import re
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import yaml

from etl.folders import folder_of_process
from etl.runs.storage import storage_for
from scoring.bundles.bundle import BUNDLE_FILE, AuditedBundle, audit
from scoring.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from etl.runs.storage import Storage

__all__ = [
    "BUNDLE_INSIDE",
    "REFERENCES_INSIDE",
    "SERVED_BY",
    "Source",
    "audited_source",
    "is_of_mlflow",
    "locate",
]

SERVED_BY = "scoring.bundles.served"
"""The module by which MLflow loads a model that has a whole bundle inside."""

BUNDLE_INSIDE = "bundle"
"""The bundle's folder in such a model's data."""

REFERENCES_INSIDE = "references"
"""Beside it, the folder of the reference tables that its spec joins."""

_OF_MLFLOW = re.compile(r"(models|runs):/(?!$)")
_MLMODEL = "MLmodel"


class Source(NamedTuple):
    """A model that was found."""

    uri: str
    """As it was asked for."""
    storage: Storage
    path: str
    """Folder of a bundle, or an .onnx file, in the storage's naming."""
    kind: Literal["bundle", "onnx"]
    """What is there; where nothing is, what its name says."""
    origin: Mapping[str, str] = MappingProxyType({})
    """Of a model of MLflow: the `uri` that was asked for, the `registry`, what it was `resolved` to, and of that the
    `version` and the `run_id` where there are such."""

    @property
    def is_bundle(self) -> bool:
        """Whether a bundle is there."""
        return self.kind == "bundle" and _has(self.storage, self.path, BUNDLE_FILE)


def is_of_mlflow(uri: str) -> bool:
    """Whether a URI is one of MLflow's: `models:/…` or `runs:/…`."""
    return _OF_MLFLOW.match(uri) is not None


def locate(uri: str) -> Source:
    """Find out what a URI is, without loading it; an alias of a registry is resolved here, once.

    Raises:
        BundleError: MLflow cannot give it, or it is a model of MLflow with neither a bundle nor ONNX inside.
        StorageError: no store of this release has such a URI.
    """
    if not is_of_mlflow(uri):
        storage, path = storage_for(uri)
        return _found(uri, storage, path)
    try:
        from scoring.bundles.mlflow import fetch  # noqa: PLC0415  seconds, and only a URI of MLflow needs them
    except ImportError as error:
        message = f"{uri}: names a model of MLflow, which is not installed here: pip install 'batchscore[mlflow]'."
        raise BundleError(message) from error
    fetched = fetch(uri, _fetched_folder())
    storage, path = storage_for(fetched.folder)
    return _found(uri, storage, path)._replace(origin=MappingProxyType(dict(fetched.origin)))


def audited_source(uri: str) -> AuditedBundle:
    """The audited bundle at a URI.

    Raises:
        BundleError: there is none, or it is not sound.
        SpecError: all that is wrong is that its spec is malformed or not fitted.
    """
    source = locate(uri)
    if source.kind == "onnx":
        message = f"{uri}: is a bare model, without a bundle. A job takes it under `model.onnx`;"
        raise BundleError(f"{message} else make a bundle of it, as `batchscore bundle create` does.")
    return audit(source.storage, source.path)._replace(origin=source.origin)


@functools.cache
def _fetched_folder() -> str:
    """This process's folder for what was fetched; removed at its end, so that no run leaves models behind."""
    return folder_of_process("batchscore-models-")


def _found(uri: str, storage: Storage, path: str) -> Source:
    if _has(storage, path, BUNDLE_FILE):
        return Source(uri, storage, path, "bundle")
    described = storage.read_bytes(f"{path}/{_MLMODEL}") if _has(storage, path, _MLMODEL) else None
    if described is not None:
        inside, kind = _inside(uri, described)
        return Source(uri, storage, f"{path}/{inside}", kind)
    return Source(uri, storage, path, "onnx" if path.lower().endswith(".onnx") else "bundle")


def _has(storage: Storage, path: str, name: str) -> bool:
    return storage.stat(f"{path}/{name}") is not None


def _inside(uri: str, described: bytes) -> tuple[str, Literal["bundle", "onnx"]]:
    """Where the bundle or the ONNX file is in a model that MLflow wrote, as its MLmodel file says."""
    try:
        told = yaml.safe_load(described)
        flavours: dict[str, Any] = dict(told["flavors"])
        python: dict[str, Any] = dict(flavours.get("python_function") or {})
        onnx: dict[str, Any] = dict(flavours.get("onnx") or {})
    except (yaml.YAMLError, KeyError, TypeError, ValueError, RecursionError) as error:
        message = f"{uri}: its {_MLMODEL} file is not one that MLflow writes."
        raise BundleError(message) from error
    if python.get("loader_module") == SERVED_BY:
        return f"{_within(uri, python.get('data'))}/{BUNDLE_INSIDE}", "bundle"
    if onnx:
        return _within(uri, onnx.get("data")), "onnx"
    message = f"{uri}: is a model of flavour {', '.join(sorted(map(str, flavours))) or 'none'}"
    raise BundleError(f"{message}; batchscore takes onnx, and bundles that it logged. Export the model to ONNX.")


def _within(uri: str, name: Any) -> str:
    """A path that an MLmodel file names, which must not lead out of the model."""
    path = PurePosixPath(str(name))
    if not isinstance(name, str) or "\0" in name or path.is_absolute() or ".." in path.parts or not path.parts:
        message = f"{uri}: its {_MLMODEL} file names data that is not in the model."
        raise BundleError(message)
    return str(path)
