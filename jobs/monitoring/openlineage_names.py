"""What OpenLineage calls the datasets of a run: by where they are, as its naming specification says.

`s3://bucket` + key, `hdfs://host:port` + path, `gs://bucket` + key, `abfss://container@account` + path, `file` + path.
A table is known by its name alone, for the catalogue that Spark finds it in has no name here: `spark` + name. A query
is `spark` + `query/<digest>`. A model in a store is named as a dataset there, one of MLflow `mlflow` + name.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, NamedTuple

from etl.runs.globs import has_magic, stem_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobs.planning.sources import Source

__all__ = ["DatasetName", "data_names", "name_of_place", "name_of_source"]

_DIGITS = 12
_MLFLOW = re.compile(r"(?:models:/+(?P<name>[^/@]+).*|(?P<run>runs):/+(?P<path>.+))")


class DatasetName(NamedTuple):
    """Two datasets of the same name are one."""

    namespace: str
    name: str


def name_of_place(place: str) -> DatasetName:
    """A path in its store's naming, such as `s3://bucket/key` or `/a/b`."""
    scheme, separator, rest = place.partition("://")
    if not separator:
        return DatasetName("file", place)
    authority, _, path = rest.partition("/")
    # Object stores have keys, which begin with no slash.
    return DatasetName(f"{scheme}://{authority}", (f"/{path}" if scheme == "hdfs" else path) or "/")


def name_of_source(source: Source) -> DatasetName:
    """A table, a query, a reference table or a model; of files, the folder in which all lie that a pattern finds."""
    if source.kind == "table":
        return DatasetName("spark", source.place)
    if source.kind == "query":
        return DatasetName("spark", f"query/{source.place.removeprefix('sha256:')[:_DIGITS]}")
    if source.kind == "model" and (found := _MLFLOW.fullmatch(source.place)):
        return DatasetName("mlflow", found["name"] or f"runs/{found['path']}")
    place = source.place
    if source.kind == "files" and has_magic(place):
        place = stem_of(place).rpartition("/")[0] or "/"
    return name_of_place(place)


def data_names(sources: Iterable[Source]) -> tuple[DatasetName, ...]:
    """The datasets that a run's rows come from: one where its patterns have a folder in common, else one each."""
    names = tuple(dict.fromkeys(name_of_source(one) for one in sources if one.kind in {"files", "table", "query"}))
    if len(names) > 1 and len({name.namespace for name in names}) == 1:
        common = posixpath.commonpath([name.name for name in names])
        if common not in {"", "/"}:
            return (DatasetName(names[0].namespace, common),)
    return names
