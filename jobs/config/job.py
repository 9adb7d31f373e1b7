"""The job config: YAML read into strict frozen models, every problem at once with its place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    ByteSize,
    Field,
    FiniteFloat,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from etl.documents import Strict
from etl.format.positions import escape
from etl.format.problems import Problem, Source, parse, problem_lines
from etl.outputs import RaggedRows
from etl.redaction import Uri, has_secret, redacted, secret_fault
from etl.runs.store_settings import StoreSettings
from jobs.config.budgets import Budgets
from jobs.config.output import Gc, Output
from jobs.config.spark import Spark
from jobs.config.variables import Variables, set_variables, yaml_value
from jobs.errors import ConfigError
from jobs.monitoring.drift_settings import DriftSettings
from jobs.monitoring.hook_settings import HookSettings
from jobs.monitoring.limit_settings import Cost, Sla
from jobs.monitoring.settings import Metrics, SinkSettings
from scoring.combination import Combination
from scoring.outputs.columns import OutputColumn
from scoring.runtimes.base import DeviceChoice, RuntimeOptions, Trusted

if TYPE_CHECKING:
    from datetime import datetime

__all__ = [
    "RUN_ID_PATTERN",
    "Gc",
    "Input",
    "JobConfig",
    "Model",
    "ModelEntry",
    "Output",
    "read_config",
]

RUN_ID_PATTERN = r"[a-z][a-z0-9_.-]{0,99}"
"""An idempotency key that is a safe folder name, and that Spark cannot read as a date or a number."""

_BY_COLUMN = "drift.by_column."
_FREE_KEYS = ("spark.conf.", "model.inputs.", "references.", _BY_COLUMN, "cost.prices.")
"""Mappings whose keys are names, which may have dots: what follows in `--set` is one key."""


def _without_secret(text: str) -> str:
    if has_secret(text):
        raise secret_fault("has a password or key in it, which Spark shows; name a table of a catalogue that knows it")
    return text


class Input(Strict):
    """Where the rows are. Exactly one of `files`, `table` and `sql`."""

    files: tuple[Uri, ...] | Uri | None = Field(
        default=None, description="Folders, files or globs of Parquet; `**` is any number of folders."
    )
    table: str | None = Field(default=None, description="A table that Spark knows; frozen as Parquet before scoring.")
    sql: Annotated[str, AfterValidator(_without_secret)] | None = Field(
        default=None, description="A query for Spark; its result is frozen as Parquet before scoring."
    )
    on_damaged: Literal["fail", "quarantine"] = Field(
        default="fail",
        description="What becomes of a run with `files` that cannot be read: it fails, or they are set aside, each as "
        "a whole, and the others are published, if `budgets.read` allows it.",
    )

    incremental: bool = Field(
        default=False,
        description="Score only those of `files` that no run of the newest version scored, of this job and its models; "
        "a file is known by its path and etag.",
    )
    on_changed: Literal["fail", "ignore", "score"] = Field(
        default="fail",
        description="Incrementally, a file that was scored and is another now: refuse the run, leave it, or score it "
        "again, beside what it had given.",
    )
    on_deleted: Literal["ignore", "fail"] = Field(
        default="ignore", description="Incrementally, a file that was scored and is gone."
    )

    @model_validator(mode="after")
    def _one_source(self) -> Input:
        if self.incremental and self.files is None:
            message = "`incremental` goes with `files`: of a table nobody can tell which rows are new"
            raise ValueError(message)
        if not self.incremental and not self.model_fields_set.isdisjoint({"on_changed", "on_deleted"}):
            message = "`on_changed` and `on_deleted` go with `incremental: true`"
            raise ValueError(message)
        if sum(source is not None for source in (self.files, self.table, self.sql)) != 1:
            message = "give exactly one of `files`, `table` and `sql`"
            raise ValueError(message)
        if self.on_damaged == "quarantine" and self.files is None:
            message = "`on_damaged: quarantine` goes with `files`"
            raise ValueError(message)
        return self

    @property
    def patterns(self) -> tuple[str, ...]:
        """The files asked for."""
        return (self.files,) if isinstance(self.files, str) else self.files or ()


class Model(Strict):
    """What scores. Exactly one of `bundle` and `onnx`; the other keys go with `onnx`."""

    bundle: Uri | None = Field(
        default=None,
        description="A bundle: its folder, or a URI of MLflow, models:/name@alias, models:/name/3 or runs:/id/path.",
    )
    onnx: Uri | None = Field(
        default=None, description="A bare .onnx file without ETL, or a URI of MLflow of a model of flavour onnx."
    )
    inputs: dict[str, tuple[str, ...] | str] | None = Field(
        default=None,
        description="By model input: an ordered list of columns, or one column. Default: the column of its own name.",
    )
    nulls: Literal["reject", "nan"] = Field(
        default="reject",
        description="A null in a float input: quarantined, or NaN. A list with a null inside is always quarantined.",
    )
    ragged: dict[str, RaggedRows] | None = Field(
        default=None,
        description="By model input that takes lists of several lengths, as a tensor of a spec says it. A mask feeds "
        "an input of its own.",
    )
    outputs: tuple[OutputColumn, ...] | None = Field(
        default=None, description="Default: one column an output, by its name."
    )

    @model_validator(mode="after")
    def _one_model(self) -> Model:
        if (self.bundle is None) == (self.onnx is None):
            message = "give exactly one of `bundle` and `onnx`"
            raise ValueError(message)
        if self.bundle is not None and (self.inputs or self.outputs or self.ragged or self.nulls != "reject"):
            message = "`inputs`, `outputs`, `ragged` and `nulls` go with `onnx`; a bundle has its own"
            raise ValueError(message)
        return self


class NamedModel(Model):
    """One of several models of a job."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,49}$")] = Field(
        description="What its columns begin with, or what `variant` says of its rows."
    )
    required: bool = Field(
        default=True,
        description="Whether a row that it cannot score is set aside. If not, the row is published without its score.",
    )


class ModelEntry(NamedTuple):
    """A model of a job, be it the only one."""

    name: str
    """Empty of the only one."""
    model: Model
    required: bool


class Scoring(Strict):
    """How the model runs."""

    device: DeviceChoice = Field(
        default="cpu", description="`auto` is cuda where the task has a GPU and the runtime can use it, else cpu."
    )
    on_missing_gpu: Literal["fail", "cpu"] = Field(
        default="fail",
        description="Where cuda or tensorrt cannot be had: fail, or run on the CPU and say so in the run record.",
    )
    gpu_memory_limit: ByteSize | None = Field(
        default=None, ge=1, description="Memory of one GPU that its tasks share. Default: all that it has."
    )
    tf32: bool = Field(default=False, description="Products on the GPU in TensorFloat-32: quicker and less exact.")
    tensorrt_fp16: bool = Field(default=False, description="TensorRT may compute in float16.")
    engine_cache: str | None = Field(
        default=None, description="Folder of each host for TensorRT's engines. Default: the user's folder for caches."
    )
    profile: str | None = Field(
        default=None, description="Folder of each host for the runtime's own profile, one file a worker and model."
    )
    log_severity: int = Field(
        default=4, ge=0, le=4, description="Least that the runtime logs: 0 verbose, 2 warning, 3 error, 4 fatal."
    )
    trust: tuple[Trusted, ...] = Field(
        default=(),
        description="Kinds of models that this job lets run code of their own, which is what loading them does. Give "
        "them where you know who made the bundle.",
    )
    threads: int | None = Field(
        default=None, ge=1, le=256, description="Threads of one operator. Default: as many as spark.task.cpus."
    )
    batch_rows: Annotated[int, Field(ge=1, le=10_000_000)] | Literal["auto"] = Field(
        default="auto", description="Rows of one call of the model; `auto` finds them by measuring the first calls."
    )
    overlap: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="Whether a worker reads, transforms, scores and writes side by side, in threads. `auto`: where the "
        "model runs on a GPU, the task has several cores, or the rows come from another machine.",
    )
    call_timeout: FiniteFloat = Field(
        default=600,
        gt=0,
        description="Seconds that one call of a model may take. A worker whose call takes longer is ended, and the "
        "next try of its task finds the rows on which the model hangs.",
    )
    batch_bytes: ByteSize = Field(
        default=ByteSize(64 << 20), ge=1, description="What one call of the model takes and gives at most, about."
    )
    reference_bytes: ByteSize = Field(
        default=ByteSize(256 << 20),
        ge=1,
        description="Size of a reference table, uncompressed, up to which workers join it; a larger one is joined by "
        "Spark, before.",
    )

    def runtime_options(self) -> RuntimeOptions:
        """What a worker loads the model with."""
        return RuntimeOptions(
            device=self.device,
            on_missing_gpu=self.on_missing_gpu,
            intra_op_threads=self.threads,
            gpu_memory_limit=self.gpu_memory_limit,
            tf32=self.tf32,
            tensorrt_fp16=self.tensorrt_fp16,
            engine_cache=self.engine_cache,
            profile=self.profile,
            log_severity=self.log_severity,
            trust=self.trust,
        )


class Splits(Strict):
    """How work is cut."""

    target_bytes: ByteSize = Field(default=ByteSize(128 << 20), ge=1, description="Size of a split in the input files.")
    task_bytes: ByteSize = Field(
        default=ByteSize(256 << 20), ge=1, description="Input of a Spark task; small files share one."
    )
    max_files: int = Field(
        default=16,
        ge=1,
        description="Small files that share a split, and so a file of predictions, at most. They do where 256 or more "
        "are read, up to 4 MiB of them.",
    )


def _fault(message: str, place: tuple[int | str, ...], given: Any) -> InitErrorDetails:
    """What is wrong at a place below the model that looks at several of its parts."""
    return {"type": PydanticCustomError("value_error", "{message}", {"message": message}), "loc": place, "input": given}


class JobConfig(Strict):
    """A scoring job."""

    api_version: Literal["batchscore/1"]
    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,49}$")]
    doc: str | None = None
    input: Input
    references: dict[str, Uri] = Field(
        default_factory=dict, description="Files of the spec's reference tables, by name."
    )
    model: Model | None = Field(default=None, description="The model; give this or `models`.")
    models: tuple[NamedModel, ...] = Field(
        default=(),
        description="Several models, which score the same rows, read once. A later one may read, as "
        "`<model>_<column>`, what an earlier one publishes.",
    )
    combine: Combination = Field(default=Combination(), description="With `models`: what becomes of their scores.")
    output: Output
    scratch: Uri | None = Field(
        default=None, description="Where tables are frozen. Default: the output root + `.scratch`."
    )
    scoring: Scoring = Scoring()
    splits: Splits = Splits()
    budgets: Budgets = Budgets()
    gc: Gc = Gc()
    metrics: Metrics | None = None
    sinks: SinkSettings = Field(default=SinkSettings(), description="Who is told of runs.")
    sla: Sla = Field(default=Sla(), description="When a run has to be done.")
    cost: Cost | None = Field(default=None, description="What machines cost, and what a run may.")
    hooks: HookSettings | None = Field(default=None, description="Webhooks and commands that are told of runs.")
    report: bool = Field(default=True, description="Whether each ending of a run leaves a page for people beside it.")
    drift: DriftSettings | None = Field(
        default=None, description="What is measured of how the columns move; without it nothing is."
    )
    storage: tuple[StoreSettings, ...] = Field(
        default=(), description="How stores are reached, by the beginning of their URIs; no credentials."
    )
    spark: Spark = Spark()

    @model_validator(mode="after")
    def _models_go_together(self) -> JobConfig:
        if (self.model is None) == (not self.models):
            message = "give exactly one of `model` and `models`"
            raise ValueError(message)
        names = tuple(model.name for model in self.models)
        wrong = self.combine.problems(names) if self.models else []
        if self.model is not None and self.combine != Combination():
            wrong.append("goes with `models`, and there is one `model`")
        problems = [_fault("; ".join(wrong), ("combine",), self.combine)] if wrong else []
        if self.input.incremental and self.output.mode != "append":
            told = f"goes with `output.mode: append`; {self.output.mode} would lose what was scored before"
            problems.append(_fault(told, ("input", "incremental"), self.input.incremental))
        if self.input.incremental and self.output.on_schema_change == "new_version":
            told = "goes with `output.on_schema_change: fail`; new_version would lose what was scored before"
            problems.append(_fault(told, ("input", "incremental"), self.input.incremental))
        for at, name in enumerate(names):
            if name in names[:at]:
                problems.append(_fault("another model has this name", ("models", at, "name"), name))
        uris = [one.uri.rstrip("/") for one in self.storage]
        for at, uri in enumerate(uris):
            if uri in uris[:at]:
                problems.append(_fault("another entry is for this URI", ("storage", at, "uri"), uri))
        if problems:
            raise ValidationError.from_exception_data(type(self).__name__, problems)
        return self

    @property
    def entries(self) -> tuple[ModelEntry, ...]:
        """What scores, in its order."""
        if self.model is not None:
            return (ModelEntry("", self.model, required=True),)
        return tuple(ModelEntry(model.name, model, model.required) for model in self.models)


def read_config(path: str, overrides: tuple[str, ...] = (), *, date: datetime | None = None) -> JobConfig:
    """Read a config file, apply `key.path=value`, and fill in `${NAME}` and `${NAME:-default}` from the environment.

    `${LOGICAL_DATE}` and `${LOGICAL_HOUR}` are those of `date`, in UTC. With `ANY_DATE` the config is one to look back
    with over the runs of all dates: what differs by date means nothing in it.

    Raises:
        ConfigError: with every problem, one a line, by file, line and column, or by the override. A variable's value is
            never shown: a message has the text as it was written, `${NAME}`. With `ANY_DATE` also
            where the places that runs write to differ by date.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        message = f"{path}: the config cannot be read: {reason}."
        raise ConfigError(message) from error
    try:
        source = Source.read(text, path)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    given, wrong = _override(source.value, overrides)
    source = source._replace(given=given)
    config, problems = _validated(source, frozenset(), date)
    if problems:
        # A variable's value is text. Where that does not fit, it may be a number: `threads: ${THREADS}`.
        config, problems = _validated(source, frozenset(problem.pointer for problem in problems), date)
    lines = [*wrong, *problem_lines(problems, source)]
    if config is None or lines:
        raise ConfigError(redacted("\n".join(lines)))
    return config


def variables_of(path: str, overrides: tuple[str, ...] = ()) -> dict[str, str]:
    """The variables of this process that a config is filled in with, as read_config does, and their values.

    Not those that are not set here, for which the config has a default.
    """
    source = Source.read(Path(path).read_text(encoding="utf-8"), path)
    _override(source.value, overrides)
    return set_variables(source.value)


def _validated(
    source: Source, scalars: frozenset[str], date: datetime | None
) -> tuple[JobConfig | None, list[Problem]]:
    variables = Variables(scalars, date)
    value = variables.fill(source.value, "")
    config, found = parse(JobConfig, source._replace(value=value), shown=source.value)
    unset = {problem.pointer for problem in variables.problems}
    return config, [*variables.problems, *(problem for problem in found if problem.pointer not in unset)]


def _override(value: Any, overrides: tuple[str, ...]) -> tuple[dict[str, str], list[str]]:
    """Apply overrides to a config's value; what gave each value, by pointer, and what is wrong with an override."""
    given: dict[str, str] = {}
    wrong = []
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals or not path:
            wrong.append(f"--set {override}: give key.path=value.")
            continue
        node = value
        *parents, last = _keys(path)
        for part in parents:
            node = node.setdefault(part, {}) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            wrong.append(f"--set {override}: {path} does not lead through mappings.")
            continue
        try:
            found = yaml_value(text)
        except ValueError:
            wrong.append(f"--set {override}: the value is not valid YAML.")
            continue
        if path.startswith(_BY_COLUMN) and not isinstance(found, dict):
            wrong.append(
                f"--set {override}: {last!r} is taken for a column. Give {_BY_COLUMN}COLUMN={{fail: {{psi: 1}}}}."
            )
            continue
        node[last] = found
        given["".join(f"/{escape(key)}" for key in (*parents, last))] = f"--set {override}"
    return given, wrong


def _keys(path: str) -> list[str]:
    free = next((prefix for prefix in _FREE_KEYS if path.startswith(prefix)), "")
    return [*free.split(".")[:-1], path.removeprefix(free)] if free else path.split(".")
