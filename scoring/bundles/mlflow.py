"""MLflow's registry and runs: a model is fetched by the version that it is now, a bundle is logged as a model.

Importing MLflow takes seconds, so this file is imported when a URI or a command asks for it. Tracking server and
registry are those of MLflow's own settings, such as MLFLOW_TRACKING_URI.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import mlflow
from mlflow.exceptions import MlflowException

from etl.documents import sha256_hex
from etl.ops.relations import joins, on_table
from etl.redaction import redacted
from etl.runs.local import LocalStorage
from scoring.bundles.bundle import copy_bundle
from scoring.bundles.golden import arrow_bytes
from scoring.bundles.served import REJECTED, ServedOptions
from scoring.bundles.sources import BUNDLE_INSIDE, REFERENCES_INSIDE, SERVED_BY
from scoring.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    import pyarrow as pa

    from scoring.bundles.bundle import AuditedBundle

__all__ = ["Fetched", "Logged", "Registration", "fetch", "log_bundle"]

_ALIAS = re.compile(r"models:/(?P<name>[^/@]+)@(?P<alias>[^/@]+)")
_VERSION = re.compile(r"models:/(?P<name>[^/@]+)/(?P<version>[0-9]+)")
_LOGGED = re.compile(r"models:/(?P<id>m-[0-9a-f]+)")
_RUN = re.compile(r"runs:/(?P<run_id>[^/]+)/(?P<path>.+)")
_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
_FORMS = "models:/name@alias, models:/name/3 or runs:/<run id>/path"


class Fetched(NamedTuple):
    """A model of MLflow on this machine."""

    folder: str
    origin: dict[str, str]
    """See `scoring.bundles.sources.Source.origin`."""


class Registration(NamedTuple):
    """Under which name a logged bundle is registered."""

    name: str
    alias: str | None = None
    """Moved to the new version."""


_DATABASE = "sqlite:///"
"""What MLflow's own default begins with."""


class Logged(NamedTuple):
    """A bundle that is a model of MLflow now."""

    uri: str
    run_id: str
    version: str | None
    """Of the registered model, where it was registered."""


def fetch(uri: str, folder: str) -> Fetched:
    """Resolve a URI to the version that it names now, and download that below a folder, once.

    Raises:
        BundleError: the URI has no such form, or MLflow cannot give the model.
    """
    _check_server()
    try:
        with _not_for_ever():
            origin = _resolved(uri)
        target = Path(folder) / sha256_hex(f"{origin['registry']} {origin['resolved']}".encode())
        done = target.with_suffix(".whole")
        if not done.exists():
            target.mkdir(parents=True, exist_ok=True)
            done.write_text(mlflow.artifacts.download_artifacts(origin["resolved"], dst_path=str(target)))
    except (MlflowException, OSError) as error:  # what requests raises is an OSError
        message = f"{uri}: MLflow at {_public(mlflow.get_tracking_uri())} cannot give it: {_first_line(error)}."
        raise BundleError(f"{message} Check the name, and MLFLOW_TRACKING_URI.") from error
    return Fetched(done.read_text(), origin)


def _resolved(uri: str) -> dict[str, str]:
    """What a URI is now; the version in `resolved` never means another model."""
    registry = _public(mlflow.get_registry_uri())
    if found := _ALIAS.fullmatch(uri):
        version = mlflow.MlflowClient().get_model_version_by_alias(found["name"], found["alias"])
    elif found := _VERSION.fullmatch(uri):
        version = mlflow.MlflowClient().get_model_version(found["name"], found["version"])
    elif _LOGGED.fullmatch(uri):
        return {"uri": uri, "registry": registry, "resolved": uri}
    elif found := _RUN.fullmatch(uri):
        tracking = _public(mlflow.get_tracking_uri())
        return {"uri": uri, "registry": tracking, "resolved": uri, "run_id": found["run_id"]}
    else:
        message = f"{uri}: names no version of a model. Give {_FORMS}; what is newest, or in a stage, is not pinned."
        raise BundleError(message)
    if version.status != "READY":
        message = f"{uri}: version {version.version} is {version.status}, not READY. Wait, or name another version."
        raise BundleError(message)
    pinned = f"models:/{version.name}/{version.version}"
    facts = {"uri": uri, "registry": registry, "resolved": pinned, "version": str(version.version)}
    return facts | ({"run_id": version.run_id} if version.run_id else {})


@contextlib.contextmanager
def _not_for_ever() -> Generator[None]:
    """By itself MLflow asks a server that is not there for four minutes, without a word."""
    if _RETRIES in os.environ:
        yield
        return
    os.environ[_RETRIES] = "2"
    try:
        yield
    finally:
        del os.environ[_RETRIES]


def _public(uri: str) -> str:
    """A server's address without a name and password in it, for plans and messages."""
    parts = urlsplit(uri)
    if not parts.netloc:
        return uri  # such as sqlite:////data/mlflow.db, of which it would take a slash
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _check_server() -> None:
    """Where none is named, MLflow makes an empty database in the working folder and looks there.

    Raises:
        BundleError: no server is named, and no such database is there.
    """
    uri, is_named = mlflow.get_tracking_uri(), mlflow.is_tracking_uri_set()  # type: ignore[no-untyped-call]
    is_named |= mlflow.get_registry_uri() != uri
    if not is_named and uri.startswith(_DATABASE) and not Path(uri[len(_DATABASE) :]).exists():
        message = "No MLflow server is named. Set MLFLOW_TRACKING_URI to its address."
        raise BundleError(message)


def _first_line(error: Exception) -> str:
    return redacted(next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip("."))


def log_bundle(
    audited: AuditedBundle,
    references: Mapping[str, pa.Table],
    *,
    name: str | None = None,
    registration: Registration | None = None,
) -> Logged:
    """Log a bundle as a model of MLflow, ETL and reference tables inside, in the active run or in a new one.

    What loads it is `scoring.bundles.served` of the code that is logged with it: nothing is pickled. `name` is that of
    the logged model; by default the bundle's.

    Raises:
        BundleError: its spec needs the whole table, a reference table is not given, or MLflow refuses.
    """
    _check_server()
    _check_servable(audited, references)
    target = LocalStorage()
    with tempfile.TemporaryDirectory(prefix="batchscore-log-") as folder:
        data, code = Path(folder) / "data", Path(folder) / "code"
        for package in ("etl", "scoring"):
            shutil.copytree(_package(package), code / package, ignore=shutil.ignore_patterns("__pycache__"))
        copy_bundle(audited, target, f"{data}/{BUNDLE_INSIDE}")
        for table, rows in references.items():
            target.replace(f"{data}/{REFERENCES_INSIDE}/{table}.arrow", arrow_bytes(rows.combine_chunks()))
        try:
            with _not_for_ever():
                return _logged(audited, Path(folder), name=name or audited.bundle.name, registration=registration)
        except (MlflowException, OSError) as error:
            message = f"{audited.bundle.name}: MLflow at {_public(mlflow.get_tracking_uri())} does not take it"
            raise BundleError(f"{message}: {_first_line(error)}. Check MLFLOW_TRACKING_URI.") from error


def _check_servable(audited: AuditedBundle, references: Mapping[str, pa.Table]) -> None:
    spec = audited.spec
    if on_table(spec.relational):
        message = f"{audited.bundle.name}: its spec has steps that need the whole table, and a server sees some rows."
        raise BundleError(f"{message} Freeze what they make, and log a bundle whose spec begins behind it.")
    joined = {step.params.reference for step in joins(spec.relational, ())[1].values()}
    if joined != set(references):
        given = ", ".join(sorted(references)) or "none"
        message = f"{audited.bundle.name}: its spec joins {', '.join(sorted(joined)) or 'no table'}, given is {given}."
        raise BundleError(message)


def _logged(audited: AuditedBundle, folder: Path, *, name: str, registration: Registration | None) -> Logged:
    bundle = audited.bundle
    model: dict[str, Any] = {
        "name": re.sub(r"[/:.%\"']", "-", name),
        "loader_module": SERVED_BY,
        "data_path": str(folder / "data"),
        "code_paths": [str(folder / "code" / "etl"), str(folder / "code" / "scoring")],
        # MLflow drops whatever a server is told later, unless options were logged.
        "model_config": ServedOptions().model_dump(),
        "pip_requirements": _requirements(),
        "metadata": {"batchscore_bundle": f"{bundle.name}:{bundle.version}", "bundle_sha256": audited.sha256},
        "registered_model_name": None if registration is None else registration.name,
    }
    active = mlflow.active_run()
    if active is not None:
        info, run_id = _log_model(audited, model), active.info.run_id
    else:
        with mlflow.start_run(run_name=f"{bundle.name} {bundle.version}") as run:
            info, run_id = _log_model(audited, model), run.info.run_id
    version = None if info.registered_model_version is None else str(info.registered_model_version)
    if registration is None or version is None:
        return Logged(info.model_uri, run_id, None)
    if registration.alias is not None:
        mlflow.MlflowClient().set_registered_model_alias(registration.name, registration.alias, version)
    return Logged(f"models:/{registration.name}/{version}", run_id, version)


def _log_model(audited: AuditedBundle, model: dict[str, Any]) -> Any:
    """What MLflow says of the logged model."""
    with warnings.catch_warnings():
        # To import pyfunc warns of type hints in MLflow's own code, which nobody here can mend.
        warnings.filterwarnings("ignore", message=".*type hint is inferred as AnyType", category=UserWarning)
        # A bundle has golden rows, which say more than an example.
        warnings.filterwarnings("ignore", message=".*An input example was not provided", category=UserWarning)
        import mlflow.pyfunc  # noqa: PLC0415  only who logs a model needs it

        return mlflow.pyfunc.log_model(**model, signature=_signature(audited))


def _package(name: str) -> str:
    """The folder of one of our packages."""
    found = importlib.util.find_spec(name)
    places = list(found.submodule_search_locations or ()) if found is not None else []
    if not places or not Path(places[0]).is_dir():
        message = f"the code of package {name} is not in a folder here, so it cannot be logged. Install batchscore."
        raise BundleError(message)
    return places[0]


def _requirements() -> list[str]:
    """What the logged code needs, in the versions that are installed here."""
    there = {found.name.lower() for found in importlib.metadata.distributions() if found.name}
    runtime = "onnxruntime-gpu" if "onnxruntime-gpu" in there else "onnxruntime"
    names = ("numpy", "pandas", "pyarrow", "pydantic", "pyyaml", runtime)
    return [f"{name}=={importlib.metadata.version(name)}" for name in names if name in there]


def _signature(audited: AuditedBundle) -> Any:
    """Names of columns in and out. Types are left to the contract: MLflow refuses a whole request for one bad row."""
    from mlflow.models import ModelSignature  # noqa: PLC0415  it loads pyfunc, whose import warns
    from mlflow.types.schema import AnyType, ColSpec, Schema  # noqa: PLC0415  as above

    given = {field.name: not field.nullable for field in audited.spec.input.fields}
    made = dict.fromkeys([*(column.column for column in audited.bundle.columns), REJECTED], False)
    any_type: Any = AnyType  # it has no types of its own
    inputs, outputs = (
        Schema([ColSpec(any_type(), name, required=needed) for name, needed in part.items()]) for part in (given, made)
    )
    return ModelSignature(inputs, outputs)
