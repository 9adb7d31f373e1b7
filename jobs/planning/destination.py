"""Where the predictions of a run go, and whether they may: asked when it is planned, before any work."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from etl.format.problems import nearest
from etl.printable import counted
from etl.runs.commit import Terms, check_replaced, check_terms
from etl.runs.layout import Layout
from etl.runs.manifest import schema_entries
from etl.runs.partitions import is_partition_type
from jobs.errors import Refused

if TYPE_CHECKING:
    from etl.runs.manifest import Manifest
    from etl.runs.storage import Storage
    from jobs.config.output import Output

__all__ = ["Target", "terms_at", "terms_now"]

_RUN_FOLDER = "run_id"
"""The key in the name of a run's folder; see `Layout.data`."""


class Target(NamedTuple):
    """Where a run lies."""

    storage: Storage
    layout: Layout


def terms_at(target: Target, output: Output, published: pa.Schema, *, latest: Manifest | None) -> Terms:
    """How a run with these columns goes into the version after `latest`.

    Raises:
        Refused, Superseded: publication would refuse it.
    """
    _check_names(published.names)
    _check_folder_name(published.names[: len(published.names) - len(output.stamps)])
    _check_shape(output, published)
    if output.mode == "error" and (latest is None or not latest.runs):
        _check_empty(target)
    terms = Terms(
        mode=output.mode,
        replaces=output.replaces,
        base=latest.seq if latest is not None else 0,
        on_schema_change=output.on_schema_change,
        partition_by=output.partition_by,
        keep_versions=output.keep_versions,
        symlinks=output.symlink_manifest,
    )
    check_terms(target.layout, latest, columns=schema_entries(published), terms=terms)
    if output.replaces is not None:
        check_replaced(target.storage, target.layout, latest, partitions=None, terms=terms)
    return terms


def terms_now(planned: Terms, output: Output) -> Terms:
    """What a resume may say otherwise than the plan does: not how it is published, or two drivers could disagree."""
    return planned.model_copy(update={"keep_versions": output.keep_versions, "symlinks": output.symlink_manifest})


def _check_names(names: list[str]) -> None:
    """Spark does not tell upper from lower case in names of columns, and could not read what pyarrow can."""
    folded = [name.casefold() for name in names]
    twice = sorted({name for name in names if folded.count(name.casefold()) > 1})
    if twice:
        message = (
            f"output columns collide: {', '.join(twice)} would be published under one name. "
            "Rename the model's column, or leave it out of output.passthrough or output.stamps."
        )
        raise Refused(message)


def _check_folder_name(names: list[str]) -> None:
    """Readers make a column of the folder `run_id=…`, and show it in the place of one of that name.

    The stamp says the same as the folder; any other column would be lost.
    """
    lost = [name for name in names if name.casefold() == _RUN_FOLDER]
    if lost:
        message = (
            f"output column {lost[0]!r}: readers take {_RUN_FOLDER} from the name of the run's folder, so this column "
            "would be lost. Rename the model's column, or leave it out of output.passthrough."
        )
        raise Refused(message)


def _check_shape(output: Output, published: pa.Schema) -> None:
    """Refuse columns that no file or folder can be made by."""
    for key in ("partition_by", "sort_by"):
        for name in getattr(output, key):
            if name not in published.names:
                raise Refused(f"output.{key}: there is no published column {name!r}.{nearest(name, published.names)}")
            type_ = published.field(name).type
            if key == "partition_by" and not is_partition_type(type_):
                raise Refused(
                    f"output.partition_by: {name} is {type_}, and a folder can be named by texts, integers, dates and "
                    "booleans only. Publish it in such a form, too."
                )
            if key == "partition_by" and name.startswith(("_", ".")):
                raise Refused(
                    f"output.partition_by: {name} would name folders that begin with {name[0]!r}, which many readers "
                    "pass over. Publish it under another name."
                )
            if pa.types.is_nested(type_):
                raise Refused(f"output.{key}: {name} is {type_}, which has no order. Choose another column.")
    if len(output.partition_by) == len(published):
        raise Refused("output.partition_by: names every published column, so the files would have none.")


def _check_empty(target: Target) -> None:
    """Refuse visible files of others, which plain readers would take for predictions."""
    own = f"{target.layout.data}/"
    others = [file.path for file in target.storage.list_files(target.layout.root) if not file.path.startswith(own)]
    if not others:
        return
    name = others[0].removeprefix(f"{target.layout.root}/{_RUN_FOLDER}=").partition("/")[0]
    if target.storage.stat(Layout(target.layout.root, name).claim) is not None:
        message = (
            f"{target.layout.root}: output.mode is `error`, and run {name} is being published here, or died while it "
            "was. Wait for it, or run its id again; then use another output.uri."
        )
        raise Refused(message)
    files = counted(len(others), "file that no run published lies", "files that no run published lie")
    message = (
        f"{target.layout.root}: output.mode is `error`, and {files} here, "
        f"{others[0]} among them. Remove them, or use another output.uri."
    )
    raise Refused(message)
