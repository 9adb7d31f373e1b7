"""A run as events of OpenLineage (https://openlineage.io, specification 2-0-2): START, then what it ended in.

| state | event |
| --- | --- |
| SUCCEEDED, PARTIALLY_SUCCEEDED | COMPLETE |
| FAILED | FAIL |
| CANCELLED, DISCARDED | ABORT |
| HELD_BACK | OTHER: a person will decide, and then it is COMPLETE or ABORT; nothing failed, and nothing can be read |

All tries at a run, and a decision on it, are one run of OpenLineage, whose UUID is made of the output, the job and the
id: a try behind one that failed is a second START of it.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import NAMESPACE_URL, uuid5

from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent
from openlineage.client.event_v2 import RunState as EventType
from openlineage.client.facet_v2 import (
    DatasetFacet,
    RunFacet,
    column_lineage_dataset,
    dataset_type_dataset,
    dataset_version_dataset,
    error_message_run,
    input_statistics_input_dataset,
    job_type_job,
    nominal_time_run,
    output_statistics_output_dataset,
    processing_engine_run,
    schema_dataset,
)

from jobs.monitoring.openlineage_names import DatasetName, data_names, name_of_place, name_of_source
from jobs.record import RunState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from etl.inspection.origins import Bearing, Origin
    from jobs.monitoring.sinks import Ended
    from jobs.planning.lineage import Published
    from jobs.planning.models import ModelFacts
    from jobs.planning.plan import Plan
    from jobs.record import RunRecord

__all__ = ["event_of_end", "event_of_start", "run_uuid"]

FacetT = TypeVar("FacetT")

_TYPES = {
    RunState.SUCCEEDED: EventType.COMPLETE,
    RunState.PARTIALLY_SUCCEEDED: EventType.COMPLETE,
    RunState.FAILED: EventType.FAIL,
    RunState.CANCELLED: EventType.ABORT,
    RunState.DISCARDED: EventType.ABORT,
    RunState.HELD_BACK: EventType.OTHER,
}
_BEARINGS: dict[Bearing, tuple[str, str]] = {
    "identity": ("DIRECT", "IDENTITY"),
    "transformation": ("DIRECT", "TRANSFORMATION"),
    "aggregation": ("DIRECT", "AGGREGATION"),
    "conditional": ("INDIRECT", "CONDITIONAL"),
    "join": ("INDIRECT", "JOIN"),
    "group_by": ("INDIRECT", "GROUP_BY"),
    "window": ("INDIRECT", "WINDOW"),
    "filter": ("INDIRECT", "FILTER"),
}
_LOGICAL_DATE = re.compile(r".*[^0-9](\d{4}-\d{2}-\d{2})")


def run_uuid(record: RunRecord) -> str:
    """The same for all tries at a run, for its decision, and wherever it is asked for."""
    return str(uuid5(NAMESPACE_URL, f"batchscore:{record.output}?job={record.job}&run={record.run_id}"))


def event_of_start(begun: RunRecord, namespace: str) -> RunEvent:
    """What is known of a run that begins: its inputs and its model by where they are, and where its output will be."""
    sources = _Sources(begun)
    return RunEvent(
        eventType=EventType.START,
        eventTime=_time(begun.started_at),
        producer=_producer(begun),
        run=Run(run_uuid(begun), _run_facets(begun, state="STARTED")),
        job=_job(begun, namespace),
        inputs=[InputDataset(*name, facets=dict(facets)) for name, facets in sources.datasets()],
        outputs=[OutputDataset(*name_of_place(begun.root))],
    )


def event_of_end(ended: Ended, namespace: str) -> RunEvent:
    """What a run ended in, with what it read, made and counted."""
    record, plan = ended.record, ended.plan
    sources = _Sources(record)
    inputs = [InputDataset(*name, facets=dict(facets)) for name, facets in sources.datasets()]
    for one in inputs:
        if (one.namespace, one.name) in sources.rows and len(sources.rows) == 1:
            one.inputFacets = _statistics(record)
    return RunEvent(
        eventType=_TYPES[record.state],
        eventTime=_time(record.recorded_at),
        producer=_producer(record),
        run=Run(run_uuid(record), _run_facets(record, state=str(record.state), seal=ended.seal)),
        job=_job(record, namespace),
        inputs=inputs,
        outputs=[_output(record, plan, sources)],
    )


class _Sources:
    """What a run reads, as datasets."""

    def __init__(self, record: RunRecord) -> None:
        self._record = record
        self.rows = data_names(record.inputs)
        """Where its rows come from."""
        self._references = {one.name: (name_of_source(one),) for one in record.inputs if one.kind == "reference"}

    def datasets(self) -> Iterator[tuple[DatasetName, dict[str, DatasetFacet]]]:
        """Each once, with its facets."""
        found: dict[DatasetName, dict[str, DatasetFacet]] = {name: {} for name in self.rows}
        snapshot = self._record.snapshot
        if snapshot is not None and len(self.rows) == 1:
            found[self.rows[0]] = {"version": self._version(snapshot.digest)}
        models = {
            model.alias: model for model in self._record.models or ([self._record.model] if self._record.model else [])
        }
        for one in self._record.inputs:
            if one.kind == "reference":
                found[name_of_source(one)] = {"version": self._version(one.sha256)} if one.sha256 else {}
            elif one.kind == "model":
                found[name_of_source(one)] = self._of_model(models.get(one.name))
        yield from found.items()

    def fields(self, origins: Iterable[Origin]) -> Iterator[column_lineage_dataset.InputField]:
        """Columns of these datasets that others come from, each once with all that it does."""
        by_column: dict[tuple[DatasetName, str], list[Bearing]] = {}
        for origin in origins:
            for name in self._references.get(origin.table, ()) if origin.table else self.rows:
                by_column.setdefault((name, origin.column), []).append(origin.how)
        for (name, column), bearings in by_column.items():
            kinds = [column_lineage_dataset.Transformation(*_BEARINGS[how]) for how in bearings]
            yield column_lineage_dataset.InputField(*name, column, kinds)

    def _version(self, version: str) -> DatasetFacet:
        return _facet(self._record, dataset_version_dataset.DatasetVersionDatasetFacet, datasetVersion=version)

    def _of_model(self, model: ModelFacts | None) -> dict[str, DatasetFacet]:
        """That it is a model, and which, once that is known."""
        kind = _facet(self._record, dataset_type_dataset.DatasetTypeDatasetFacet, datasetType="MODEL")
        found: dict[str, DatasetFacet] = {"datasetType": kind}
        if model is not None:
            told = model.model_dump(mode="json", exclude={"facts"})
            found["version"] = self._version(model.version)
            found["batchscore_model"] = _own(self._record, DatasetFacet, told)
        return found


def _output(record: RunRecord, plan: Plan | None, sources: _Sources) -> OutputDataset:
    facets: dict[str, DatasetFacet] = {}
    if plan is not None:
        fields = [schema_dataset.SchemaDatasetFacetFields(one.name, one.type) for one in plan.columns]
        facets["schema"] = _facet(record, schema_dataset.SchemaDatasetFacet, fields=fields)
        lineage = plan.lineage
        facets["columnLineage"] = _facet(
            record,
            column_lineage_dataset.ColumnLineageDatasetFacet,
            fields={name: _fields(one, sources) for one in lineage.published for name in one.columns},
            dataset=list(sources.fields(lineage.rows)),
        )
    found = OutputDataset(*name_of_place(record.root), facets=facets)
    if record.state.is_published:
        version = str(record.manifest)
        facets["version"] = _facet(record, dataset_version_dataset.DatasetVersionDatasetFacet, datasetVersion=version)
        statistics = _facet(
            record,
            output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet,
            rowCount=_published_rows(record, plan),
            size=record.bytes_written,
        )
        found.outputFacets = {"outputStatistics": statistics}
    return found


def _published_rows(record: RunRecord, plan: Plan | None) -> int:
    """Where rows are one model's each, one of the input may be published several times."""
    combination = plan.order.combination if plan is not None else None
    if combination is not None and combination.is_variant:
        return sum(record.engine.by_model.values())
    return record.account.scored.rows


def _fields(one: Published, sources: _Sources) -> column_lineage_dataset.Fields:
    made = f"scored by {', '.join(one.made_by)}" if one.made_by else None
    return column_lineage_dataset.Fields(list(sources.fields(one.origins)), transformationDescription=made)


def _statistics(record: RunRecord) -> dict[str, Any]:
    snapshot = record.snapshot
    counted = _facet(
        record,
        input_statistics_input_dataset.InputStatisticsInputDatasetFacet,
        rowCount=record.account.rows_in.rows,
        size=snapshot.bytes if snapshot is not None else None,
        fileCount=snapshot.files if snapshot is not None else None,
    )
    return {"inputStatistics": counted}


def _job(record: RunRecord, namespace: str) -> Job:
    kind = _facet(record, job_type_job.JobTypeJobFacet, processingType="BATCH", integration="BATCHSCORE", jobType="JOB")
    return Job(namespace, record.job, {"jobType": kind})


def _run_facets(record: RunRecord, *, state: str, seal: str | None = None) -> dict[str, RunFacet]:
    versions = record.versions
    facets: dict[str, RunFacet] = {
        "processing_engine": _facet(
            record,
            processing_engine_run.ProcessingEngineRunFacet,
            version=versions.get("pyspark", "unknown"),
            name="spark",
            openlineageAdapterVersion=versions.get("batchscore"),
        ),
        "batchscore": _own(record, RunFacet, {**_told(record), "state": state, "seal": seal}),
    }
    if record.error is not None:
        message = f"{record.error.kind}: {record.error.message}"
        facets["errorMessage"] = _facet(
            record, error_message_run.ErrorMessageRunFacet, message=message, programmingLanguage="python"
        )
    if found := _LOGICAL_DATE.fullmatch(record.run_id):
        facets |= _nominal(record, found[1])
    return facets


def _nominal(record: RunRecord, date: str) -> dict[str, RunFacet]:
    """Of a run that is named after a date, when it was meant to be."""
    try:
        at = datetime.fromisoformat(f"{date}T00:00:00+00:00")
    except ValueError:
        return {}
    return {"nominalTime": _facet(record, nominal_time_run.NominalTimeRunFacet, nominalStartTime=_time(at))}


def _told(record: RunRecord) -> dict[str, Any]:
    """The run facet `batchscore`; what is not known yet is left out."""
    shown = {"run_id", "who", "decided_by", "accepted", "resumed", "code", "config", "reasons", "worker_seconds"}
    account = record.account
    rows = {"in": account.rows_in, "scored": account.scored, "quarantined": account.quarantined}
    rows["filtered"] = account.filtered
    return {
        **record.model_dump(mode="json", include=shown, exclude_none=True),
        "rows": {name: tally.rows for name, tally in rows.items()},
        "seconds": record.seconds,
        "driver_seconds": record.wall_seconds,
        "output": record.output,
    }


def _producer(record: RunRecord) -> str:
    return f"pkg:pypi/batchscore@{record.versions.get('batchscore', 'unknown').replace(' ', '-')}"


def _facet(record: RunRecord, kind: Callable[..., FacetT], **facts: Any) -> FacetT:
    """A facet that says who made it, whatever others in this process have told the client."""
    return kind(producer=_producer(record), **facts)


def _own(record: RunRecord, kind: type[Any], facts: dict[str, Any]) -> Any:
    """A facet of ours: of the general schema, which allows further keys."""
    return _facet(record, kind).with_additional_properties(**facts)


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
