"""A loaded bundle: contract, ETL and runtime together, made once per worker process and kept."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from etl.contract import Contract
from etl.documents import canonical_json, sha256_hex
from etl.pipeline import Pipeline
from etl.runs.layout import Layout, model_folder
from scoring.bundles.bundle import AuditedBundle, audit
from scoring.bundles.golden import arrow_table, replay
from scoring.errors import BundleError
from scoring.runtimes import load

if TYPE_CHECKING:
    from etl.runs.storage import Storage
    from scoring.bundles.golden import Deviation
    from scoring.order import ModelOrder, Order
    from scoring.runtimes.base import Runtime

__all__ = ["Scorer", "loads_so_far", "resident_scorer"]

_CAPACITY = 4
"""Loaded bundles that a process keeps; the one used longest ago goes first."""

# In an imported module on purpose: a cache in `__main__` would be pickled by value and rebuilt in every task.
_resident: OrderedDict[tuple[str, ...], Scorer] = OrderedDict()
_inherited: list[object] = []
"""Kept from the collector: to end a session waits for its threads, and a fork leaves them behind."""
_lock = threading.Lock()
_loads = 0


class Scorer(NamedTuple):
    """Everything that scoring a batch needs."""

    audited: AuditedBundle
    pipeline: Pipeline
    runtime: Runtime
    deviation: Deviation | None
    """What the golden replay found on this device; None when the bundle has no golden rows."""


def loads_so_far() -> int:
    """Bundles that this process has loaded."""
    return _loads


def resident_scorer(storage: Storage, order: Order, model: ModelOrder) -> Scorer:
    """The process's scorer for one model of an order: loaded on first use, after the fork, and kept for later tasks.

    Keyed by content, device and options: a later run of the same job finds what an earlier one loaded.
    """
    global _loads  # noqa: PLW0603  a count of this process, reported in receipts
    key = (
        model.bundle_sha256,
        canonical_json(model.references).decode(),
        model.runtime.model_dump_json(),
        ",".join(field.model_dump_json() for field in order.carried),
        ",".join(model.moved),
    )
    with _lock:
        if key in _resident:
            _resident.move_to_end(key)
            return _resident[key]
        scorer = load_scorer(storage, order, model)
        _loads += 1
        _resident[key] = scorer
        while len(_resident) > _CAPACITY:
            _resident.popitem(last=False)
        return scorer


def _begin_anew() -> None:
    """A forked child has neither its parent's loads, nor the threads of its sessions, nor a lock that it could get."""
    global _resident, _lock, _loads
    _inherited.append(_resident)
    _resident, _lock, _loads = OrderedDict(), threading.Lock(), 0


os.register_at_fork(after_in_child=_begin_anew)


def load_scorer(storage: Storage, order: Order, model: ModelOrder) -> Scorer:
    """Audit, load and replay the run's copy of its bundle, and load its pinned reference tables.

    Raises:
        BundleError: a file is not what was planned.
        GoldenError: the bundle does not reproduce its golden rows here.
    """
    folder = model_folder(order.root, model.bundle_sha256)
    audited = audit(storage, folder)
    if audited.sha256 != model.bundle_sha256:
        message = f"{folder}: is not the bundle that was planned ({audited.sha256} found)."
        raise BundleError(message)
    layout = Layout(order.root, order.run_id)
    references = {}
    for name, sha256 in model.references.items():
        data = storage.read_bytes(layout.reference(name, sha256))
        if data is None or sha256_hex(data) != sha256:
            message = f"{layout.reference(name, sha256)}: the pinned reference table is missing or was changed."
            raise BundleError(message)
        references[name] = arrow_table(data)
    bundle = audited.bundle
    runtime = load(bundle.model, audited.files, model.runtime, kind=bundle.runtime, where=folder)
    if not runtime.signature.agrees(audited.bundle.signature):
        message = f"{folder}: the model's tensors are not the ones that bundle.json declares."
        raise BundleError(message)
    deviation = replay(audited, runtime, audited.tolerance(model.runtime.device))
    spec = audited.spec.model_copy(update={"input": _carrying(audited.spec.input, order)})
    return Scorer(audited, Pipeline(spec, references, moved=model.moved), runtime, deviation)


def _carrying(declared: Contract, order: Order) -> Contract:
    """The contract with the columns that are published and not read by the spec; a label may be one of them."""
    carried = {field.name for field in order.carried}
    labels = tuple(label for label in declared.labels if label.name not in carried)
    fields = (*declared.fields, *order.carried)
    return Contract(fields=fields, labels=labels, extra_columns=declared.extra_columns)
