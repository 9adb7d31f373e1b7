"""What can be known of a run before it: a plan that is shown and not stored, and a list of checks. Starts no Spark."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple

import pyarrow as pa

from etl.errors import BatchscoreError, ContractError
from etl.printable import counted
from etl.references import pin_references
from etl.runs.manifest import latest_manifest
from etl.runs.read import open_parquet
from etl.runs.splits import group_splits
from etl.runs.storage import storage_for
from etl.runs.store_settings import configure
from jobs.errors import NoPlanYet, Refused, refusing
from jobs.history.runs import RunView, look_at
from jobs.identity import new_run_id
from jobs.monitoring.hooks import hook_problems
from jobs.planning.model import bare_signature
from jobs.planning.models import Known, audited_models
from jobs.planning.plan import Plan, check_asked, target_of
from jobs.planning.preparation import TableWork, bundle_of, work_on_table
from jobs.planning.resolving import list_inputs, make_plan
from jobs.request import RunRequest
from jobs.settling.decisions import check_not_discarded
from jobs.settling.receipts import live_receipts, splits_of
from scoring.bundles.golden import replay
from scoring.engine.chaining import chained_columns
from scoring.errors import DeviceError
from scoring.runtimes import load

if TYPE_CHECKING:
    from collections.abc import Callable

    from etl.contract import Contract
    from etl.references import PinnedReference
    from etl.runs.splits import InputFile
    from jobs.config.job import JobConfig
    from jobs.config.spark import Spark
    from scoring.bundles.bundle import AuditedBundle

__all__ = ["Check", "Preview", "cores_of", "preview", "validate"]

_THREADS = 16


class Preview(NamedTuple):
    """What a run would do."""

    config: JobConfig
    plan: Plan
    """The stored plan of an earlier try, or what would be stored."""
    view: RunView
    """What storage knows of this run id."""
    cores: int | None
    """Tasks that run at once; None where only the cluster knows."""
    tasks: int
    """Spark tasks that would score what is left; on a cluster of unknown size, at least so many."""

    @property
    def splits_left(self) -> int:
        """Splits without a receipt."""
        return len(self.plan.splits) - self.view.splits_done


class Check(NamedTuple):
    """One thing that was looked at."""

    name: str
    state: Literal["ok", "failed", "unchecked"]
    detail: str
    """What was found, or why it was not looked at."""


def preview(request: RunRequest) -> Preview:
    """Resolve a request as `run` would, but write nothing and start nothing.

    Raises:
        NoPlanYet: only a run can make one.
        Refused: anything is known that would make the run fail.
    """
    config = request.config
    configure(config.storage)
    target = target_of(config, request.run_id, scratch=request.is_scratch)
    view = look_at(target)
    with refusing():
        if view.plan is not None:
            check_asked(view.plan, config, request.part)
            check_not_discarded(target)
            plan = view.plan
        else:
            latest = latest_manifest(target.storage, target.layout.root)
            inputs = list_inputs(_patterns(config))
            audited = bundle_of(config)
            _need_no_spark(config, audited)
            known = Known(audited)
            plan = make_plan(target, config, inputs, latest=latest, part=request.part, known=known).plan
    there = live_receipts(target)
    left = tuple(split for split in splits_of(target, plan) if f"{split.name}.json" not in there)
    cores = cores_of(config.spark)
    tasks = group_splits(left, task_bytes=int(config.splits.task_bytes), parallelism=cores or 1) if left else ()
    return Preview(config, plan, view, cores, len(tasks))


def validate(config: JobConfig) -> list[Check]:
    """Check a job as far as that goes without scoring: input, model, contract, references, golden rows, plan."""
    job = _Job(config)
    steps: dict[str, Callable[[], str]] = {
        "input": job.list_files,
        "format": job.open_first_file,
        "model": job.audit_model,
        "contract": job.compare_columns,
        "references": job.read_references,
        "golden rows": job.replay_golden_rows,
        "hooks": job.find_variables,
        "plan": job.plan,
    }
    return [_check(name, step) for name, step in steps.items()]


def _check(name: str, step: Callable[[], str]) -> Check:
    try:
        return Check(name, "ok", step())
    except (_NotPossible, DeviceError) as error:
        # A device that is not here may be where the job runs.
        return Check(name, "unchecked", str(error))
    except BatchscoreError as error:
        return Check(name, "failed", str(error))


class _NotPossible(Exception):
    """A check lacks what an earlier one would have found."""


class _Job:
    """What the checks have found so far; each tells what it found in a few words."""

    def __init__(self, config: JobConfig) -> None:
        self.config = config
        self.files: tuple[InputFile, ...] = ()
        self.schema: pa.Schema | None = None
        self.models: tuple[AuditedBundle, ...] = ()

    def list_files(self) -> str:
        if not self.config.input.patterns:
            raise _NotPossible("it is a table, which Spark opens when a run begins")
        self.files = list_inputs(self.config.input.patterns)
        return f"{counted(len(self.files), 'file')}, {sum(file.bytes for file in self.files):,} bytes"

    def open_first_file(self) -> str:
        if not self.files:
            raise _NotPossible("there is no file to open")
        storage, _ = storage_for(self.files[0].path)
        self.schema = open_parquet(storage, self.files[0]).schema_arrow
        return f"Parquet, {counted(len(self.schema), 'column')} in {self.files[0].path}"

    def audit_model(self) -> str:
        bare = [entry.model for entry in self.config.entries if entry.model.bundle is None]
        if self.schema is None and bare:
            inputs = ", ".join(str(tensor) for model in bare for tensor in bare_signature(model).inputs)
            raise _NotPossible(f"it loads; its inputs ({inputs}) are bound to columns once Spark has opened the table")
        self.models = audited_models(self.config, self.schema or pa.schema([]))
        found = [
            f"{model.bundle.name}:{model.bundle.version}, {counted(len(model.files), 'file')}" for model in self.models
        ]
        return f"{'; '.join(found)} with their digests"

    def compare_columns(self) -> str:
        contracts = [model.spec.input for model in self._models]
        if self.schema is None:
            raise _NotPossible("there is no file to compare with")
        names = [entry.name for entry in self.config.entries]
        made = [column.field for n in range(len(names)) for column in chained_columns(names, self._models, n)]
        others = (*self.config.output.passthrough, *self.config.combine.chosen_by)
        with ThreadPoolExecutor(_THREADS) as threads:
            look = partial(_fault, contracts, made=made, others=others)
            faults = [fault for fault in threads.map(look, self.files) if fault is not None]
        if faults:
            more = f" {counted(len(faults) - 1, 'more file has', 'more files have')} faults." if len(faults) > 1 else ""
            raise ContractError(f"{faults[0]}{more}")
        read = {field.name for contract in contracts for field in contract.fields} - {field.name for field in made}
        columns = counted(len(read), "column is there with its type", "columns are there with their types")
        return f"{columns}, in {'the one file' if len(self.files) == 1 else f'all {len(self.files):,} files'}"

    def read_references(self) -> str:
        work = work_on_table(self.config, self._models[0])
        large = work.large if work is not None else {}
        pinned: dict[str, PinnedReference] = {}
        for model in self._models:
            pinned |= pin_references(model.spec, self.config.references, elsewhere=large)
        told = [f"{name}, {len(table.data):,} bytes" for name, table in pinned.items()]
        told += [f"{name}, {found.bytes:,} bytes, which Spark joins" for name, found in large.items()]
        return ", ".join(told) or "the spec joins none"

    def replay_golden_rows(self) -> str:
        return "; ".join(self._replayed(model) for model in self._models)

    def _replayed(self, model: AuditedBundle) -> str:
        runtime = load(
            model.bundle.model,
            model.files,
            self.config.scoring.runtime_options(),
            kind=model.bundle.runtime,
            where=model.bundle.name,
        )
        try:
            deviation = replay(model, runtime, model.tolerance(runtime.device))
        finally:
            runtime.close()
        if deviation is None:
            return f"the bundle has none; the model loads on {runtime.provider}"
        features = f"features off by {deviation.features_ulp} units in the last place"
        return f"reproduced on {runtime.provider}: {features}, outputs by {deviation.outputs_abs:.1g}"

    def find_variables(self) -> str:
        hooks = self.config.hooks
        if hooks is None:
            return "the config names none"
        problems = hook_problems(hooks)
        if problems:
            raise Refused("\n".join(problems))
        return "the environment has the variables that they name"

    def plan(self) -> str:
        if not self.files or self.schema is None or not self.models:
            raise _NotPossible("the checks above come first")
        work = work_on_table(self.config, self.models[0])
        if work is not None:
            raise _NotPossible(_before(work))
        plan = preview(RunRequest(config=self.config, run_id=new_run_id(self.config.name))).plan
        return f"{counted(len(plan.splits), 'split')}, {counted(len(plan.columns), 'output column')}"

    @property
    def _models(self) -> tuple[AuditedBundle, ...]:
        if not self.models:
            raise _NotPossible("there is no model to look at")
        return self.models


def _fault(contracts: list[Contract], file: InputFile, *, made: list[pa.Field], others: tuple[str, ...]) -> str | None:
    """What is wrong with a file, as far as its footer tells; `made` is what models give each other."""
    storage, _ = storage_for(file.path)
    try:
        schema = open_parquet(storage, file).schema_arrow
        for field in made:
            schema = schema.append(field)
        for contract in contracts:
            contract.check_schema(schema, file.path, others)
    except BatchscoreError as error:
        return str(error)
    return None


def _patterns(config: JobConfig) -> tuple[str, ...]:
    if not config.input.patterns:
        message = "the input is a table or a query: Spark freezes it when a run begins; before, there is no plan."
        raise NoPlanYet(message)
    return config.input.patterns


def _need_no_spark(config: JobConfig, audited: AuditedBundle | None) -> None:
    """Refuse a job of which only a run can tell what is scored."""
    work = work_on_table(config, audited)
    if work is not None:
        raise NoPlanYet(_before(work))


def _before(work: TableWork) -> str:
    """Why there is no plan before a run."""
    return f"{work.reason}, when a run begins; before, there is no plan."


def cores_of(spark: Spark) -> int | None:
    """Tasks that run at once, as far as the config says; spark-submit's options may say otherwise."""
    local = re.fullmatch(r"local(?:\[(\*|\d+)(?:,\d+)?\])?", spark.master)
    if local is not None:
        return (os.cpu_count() or 1) if local[1] == "*" else int(local[1] or 1)
    cluster = re.fullmatch(r"local-cluster\[(\d+),(\d+),\d+\]", spark.master.replace(" ", ""))
    if cluster is not None:
        return int(cluster[1]) * int(cluster[2])
    executors, cores = (spark.conf.get(f"spark.executor.{key}", "") for key in ("instances", "cores"))
    return int(executors) * int(cores) if executors.isdigit() and cores.isdigit() else None
