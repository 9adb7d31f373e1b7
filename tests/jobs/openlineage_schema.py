"""JSON Schema of events of OpenLineage, made of the client's classes, which OpenLineage generates from its own schemas.

Closed where a class takes no further keys. Texts that are dates, UUIDs and URIs are looked at apart.
"""

from __future__ import annotations

import enum
import sys
import types
import typing
import uuid
from datetime import datetime
from typing import Any
from urllib.parse import urlparse

import attr
import jsonschema
from openlineage.client import facet_v2
from openlineage.client.event_v2 import RunEvent
from openlineage.client.generated import base

__all__ = ["problems"]

FACETS: dict[str, dict[str, Any]] = {
    "run": {
        "processing_engine": facet_v2.processing_engine_run.ProcessingEngineRunFacet,
        "errorMessage": facet_v2.error_message_run.ErrorMessageRunFacet,
        "nominalTime": facet_v2.nominal_time_run.NominalTimeRunFacet,
        "batchscore": base.RunFacet,
    },
    "job": {"jobType": facet_v2.job_type_job.JobTypeJobFacet},
    "dataset": {
        "version": facet_v2.dataset_version_dataset.DatasetVersionDatasetFacet,
        "datasetType": facet_v2.dataset_type_dataset.DatasetTypeDatasetFacet,
        "schema": facet_v2.schema_dataset.SchemaDatasetFacet,
        "columnLineage": facet_v2.column_lineage_dataset.ColumnLineageDatasetFacet,
        "batchscore_model": base.DatasetFacet,
    },
    "input": {"inputStatistics": facet_v2.input_statistics_input_dataset.InputStatisticsInputDatasetFacet},
    "output": {"outputStatistics": facet_v2.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet},
}
OWN = {base.RunFacet, base.DatasetFacet}
"""Facets of these classes are ours, and may have any keys."""


def problems(event: dict[str, Any]) -> list[str]:
    """All that is wrong with an event."""
    found = _errors(RunEvent, event)
    facets = [("run", event["run"]["facets"]), ("job", event["job"]["facets"])]
    for side in ("input", "output"):
        for dataset in event[f"{side}s"]:
            facets += [("dataset", dataset["facets"]), (side, dataset[f"{side}Facets"])]
    for kind, named in facets:
        for name, facet in named.items():
            if name not in FACETS[kind]:
                found.append(f"{name} is no facet of a {kind}")
                continue
            cls = FACETS[kind][name]
            found += [f"{name}{told}" for told in _errors(cls, facet)]
            found += [] if facet["_schemaURL"] == cls._get_schema() else [f"{name}: is of another schema"]
            found += [] if urlparse(facet["_producer"]).scheme else [f"{name}: its producer is no URI"]
    uuid.UUID(event["run"]["runId"])
    assert datetime.fromisoformat(event["eventTime"]).tzinfo is not None
    return found


def _errors(cls: Any, value: Any) -> list[str]:
    defs: dict[str, Any] = {}
    schema = {**_of(cls, defs), "$defs": defs}
    return [
        f"{list(one.absolute_path)}: {one.message}"
        for one in jsonschema.Draft202012Validator(schema).iter_errors(value)
    ]


def _define(cls: Any, defs: dict[str, Any]) -> None:
    """Put the schema of a class among those that others refer to."""
    schema: dict[str, Any] = {"type": "object", "properties": {}, "required": [], "additionalProperties": cls in OWN}
    defs[cls.__name__] = schema
    for field in attr.fields(cls):
        owner = next(one for one in cls.__mro__ if field.name in vars(one).get("__annotations__", {}))
        known = {**vars(typing), **vars(sys.modules[owner.__module__])}
        hint = typing.get_type_hints(
            types.SimpleNamespace(__annotations__={"it": owner.__annotations__[field.name]}), known
        )
        schema["properties"][field.name] = _of(hint["it"], defs)
        if field.default is attr.NOTHING or field.name in {"_producer", "_schemaURL", "producer", "schemaURL"}:
            schema["required"].append(field.name)


def _of(hint: Any, defs: dict[str, Any]) -> dict[str, Any]:
    """The schema of a type; what is None the client leaves out."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in {types.UnionType, typing.Union}:
        [kind] = [one for one in args if one is not type(None)]
        return _of(kind, defs)
    if origin is list:
        return {"type": "array", "items": _of(args[0], defs)}
    if origin is dict:
        is_facets = issubclass(args[1], base.BaseFacet)
        return {"type": "object", "additionalProperties": {"type": "object"} if is_facets else _of(args[1], defs)}
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return {"enum": [one.value for one in hint]}
    if attr.has(hint):
        if hint.__name__ not in defs:
            _define(hint, defs)
        return {"$ref": f"#/$defs/{hint.__name__}"}
    return {"type": {str: "string", int: "integer", float: "number", bool: "boolean"}[hint]}
