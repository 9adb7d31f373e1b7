"""A loaded bundle: contract, ETL and runtime together, made once per worker process and kept."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING, NamedTuple

from etl.contract import Contract
from etl.documents import canonical_json
from etl.pipeline import Pipeline
from etl.runs.layout import model_folder
from scoring.bundles.bundle import AuditedBundle, audit
from scoring.bundles.cache import content_of
from scoring.bundles.files import FileDigest
from scoring.bundles.golden import arrow_table, replay
from scoring.errors import BundleError
from scoring.memory import loaded_bytes
from scoring.resident import Loaded, Resident
from scoring.runtimes import load
from scoring.runtimes.base import HERE

if TYPE_CHECKING:
    import mmap
    from collections.abc import Generator, Mapping

    from etl.runs.storage import Storage
    from scoring.bundles.golden import Deviation
    from scoring.engine.batch_rows import BatchRows, SizeKey
    from scoring.order import ModelOrder, Order
    from scoring.runtimes.base import Placement, Runtime

__all__ = [
    "Scorer",
    "borrowed_bundle",
    "borrowed_scorer",
    "load_scorer",
    "loads_so_far",
    "make_scorer",
    "resident_bytes",
    "resident_scorer",
]

BUDGET = "BATCHSCORE_RESIDENT_BYTES"
"""Variable of the worker's environment: bytes that loaded bundles may take of a process's memory."""
DEFAULT_BUDGET = 2 << 30

_INHERITED: list[object] = []
"""Kept from the collector: to end a session waits for its threads, and a fork leaves them behind."""


class Scorer(NamedTuple):
    """Everything that scoring a batch needs."""

    audited: AuditedBundle
    pipeline: Pipeline
    runtime: Runtime
    deviation: Deviation | None
    """What the golden replay found on this device; None when the bundle has no golden rows."""
    sizes: dict[SizeKey, BatchRows]
    """How many rows a call gets, as found so far; the one thing here that changes."""
    bytes: int
    """What it takes of the process's memory, about."""
    lock: threading.Lock
    """Held by whoever calls the model."""


def _budget() -> int:
    given = os.environ.get(BUDGET, str(DEFAULT_BUDGET))
    if not given.isdecimal():
        message = f"{BUDGET} is {given!r}, and should be a number of bytes, e.g. {DEFAULT_BUDGET}."
        raise BundleError(message)
    return int(given)


# In an imported module on purpose: a cache in `__main__` would be pickled by value and rebuilt in every task.
_resident: Resident[Scorer] = Resident(_budget)


def loads_so_far() -> int:
    """Bundles that this process has loaded."""
    return _resident.loads


def resident_bytes() -> int:
    """What this process keeps loaded takes so much of its memory, about: above the bound where what is in use does."""
    return _resident.bytes


def resident_scorer(storage: Storage, order: Order, model: ModelOrder, *, placement: Placement = HERE) -> Scorer:
    """The process's scorer for one model of an order: loaded on first use, after the fork, and kept for later tasks.

    Keyed by content, device and options: a later run of the same job finds what an earlier one loaded. A bundle that is
    loaded later may take its place, though it stays usable; `borrowed_scorer` keeps it in its place.
    """
    key = _key(order, model, placement)
    return _resident.get(key, lambda: _loaded(load_scorer(storage, order, model, placement=placement)))


@contextlib.contextmanager
def borrowed_scorer(
    storage: Storage, order: Order, model: ModelOrder, *, placement: Placement = HERE
) -> Generator[Scorer]:
    """The same for the length of a block: whatever is loaded meanwhile takes the place of what nobody uses."""
    key = _key(order, model, placement)
    with _resident.borrow(key, lambda: _loaded(load_scorer(storage, order, model, placement=placement))) as scorer:
        yield scorer


@contextlib.contextmanager
def borrowed_bundle(
    audited: AuditedBundle, pinned: Mapping[str, bytes], order: Order, *, placement: Placement = HERE
) -> Generator[Scorer]:
    """The same for a bundle that is in memory; a process that has loaded the same content elsewhere uses that."""
    [model] = order.models
    key = _key(order, model, placement)
    with _resident.borrow(
        key, lambda: _loaded(make_scorer(audited, pinned, order, model=model, placement=placement))
    ) as scorer:
        yield scorer


def _key(order: Order, model: ModelOrder, placement: Placement) -> tuple[str, ...]:
    return (
        model.bundle_sha256,
        canonical_json(model.references).decode(),
        model.runtime.model_dump_json(),
        ",".join(field.model_dump_json() for field in order.carried),
        ",".join(model.moved),
        str(placement),
    )


def _loaded(scorer: Scorer) -> Loaded[Scorer]:
    return Loaded(scorer, scorer.bytes, scorer.runtime.close)


def _begin_anew() -> None:
    """A forked child has neither its parent's loads, nor the threads of its sessions, nor a lock that it could get."""
    global _resident  # noqa: PLW0603  the process's own
    _INHERITED.append(_resident)
    _resident = Resident(_budget)


os.register_at_fork(after_in_child=_begin_anew)


def load_scorer(storage: Storage, order: Order, model: ModelOrder, *, placement: Placement = HERE) -> Scorer:
    """Audit, load, replay and warm up the run's copy of its bundle, and load its pinned reference tables.

    Raises:
        BundleError: a file is not what was planned.
        GoldenError: the bundle does not reproduce its golden rows here.
    """
    folder = model_folder(order.root, model.bundle_sha256)
    audited = audit(storage, folder)
    if audited.sha256 != model.bundle_sha256:
        message = f"{folder}: is not the bundle that was planned ({audited.sha256} found)."
        raise BundleError(message)
    layout = order.layout
    pinned = {
        name: _reference(storage, layout.reference(name, sha256), sha256) for name, sha256 in model.references.items()
    }
    return make_scorer(audited, pinned, order, model=model, placement=placement)


def make_scorer(
    audited: AuditedBundle,
    pinned: Mapping[str, bytes | mmap.mmap],
    order: Order,
    *,
    model: ModelOrder,
    placement: Placement = HERE,
) -> Scorer:
    """Load, replay and warm up a bundle, with reference tables as Arrow IPC.

    Raises:
        BundleError: the model cannot be loaded, or is not what `bundle.json` says.
        GoldenError: the bundle does not reproduce its golden rows here.
    """
    references = {name: arrow_table(data) for name, data in pinned.items()}
    bundle, where = audited.bundle, f"{audited.bundle.name} {audited.bundle.version}"
    runtime = load(bundle.model, audited.files, model.runtime, kind=bundle.runtime, where=where, placement=placement)
    audited.settle()
    if not runtime.signature.agrees(bundle.signature):
        message = f"{where}: the model's tensors are not the ones that bundle.json declares."
        raise BundleError(message)
    # Either is a first call of the model: what only that costs is part of loading it.
    deviation = replay(audited, runtime, audited.tolerance(runtime.device))
    if deviation is None:
        runtime.warm_up()
    spec = audited.spec.model_copy(update={"input": _carrying(audited.spec.input, order)})
    held = loaded_bytes(audited.model_bytes, sum(map(len, pinned.values())))
    return Scorer(
        audited, Pipeline(spec, references, moved=model.moved), runtime, deviation, {}, held, threading.Lock()
    )


def _reference(storage: Storage, path: str, sha256: str) -> bytes | mmap.mmap:
    found = storage.stat(path)
    content = None if found is None else content_of(storage, path, FileDigest(bytes=found.bytes, sha256=sha256))
    if content is None:
        message = f"{path}: the pinned reference table is missing or was changed."
        raise BundleError(message)
    return content


def _carrying(declared: Contract, order: Order) -> Contract:
    """The contract with the columns that are published and not read by the spec; a label may be one of them."""
    carried = {field.name for field in order.carried}
    labels = tuple(label for label in declared.labels if label.name not in carried)
    known = declared.columns()
    fields = (*declared.fields, *(field for field in order.carried if field.name not in known))
    return Contract(fields=fields, labels=labels, extra_columns=declared.extra_columns)
