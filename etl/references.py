"""Pin the reference tables of a spec: read once by the driver, stored with the run, loaded once per worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from etl.documents import sha256_hex
from etl.errors import ContractError, InputMissing, ReadError
from etl.format.problems import nearest
from etl.ops.lookup import LookupJoin, ReferenceTable
from etl.runs.read import open_parquet, read_whole
from etl.runs.storage import storage_for

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from etl.runs.splits import InputFile
    from etl.runs.storage import Storage
    from etl.spec import Spec

__all__ = ["PinnedReference", "ReferenceFiles", "pin_references", "reference_files"]


class PinnedReference(NamedTuple):
    """A reference table as a run will use it."""

    data: bytes
    """Arrow IPC, with the columns that the spec uses."""
    sha256: str
    """Of `data`."""


class ReferenceFiles(NamedTuple):
    """A reference table where it lies."""

    files: tuple[InputFile, ...]
    """As they are now."""
    columns: tuple[str, ...]
    """Those that the spec uses."""
    bytes: int
    """Uncompressed size of these columns, as the footers tell it."""


def reference_files(spec: Spec, uris: Mapping[str, str]) -> dict[str, ReferenceFiles]:
    """Every reference table that the spec joins, by name; only footers are read.

    Raises:
        ContractError: a table is not given, or is given in vain.
        InputMissing: nothing is at a URI.
        ReadError: it is no Parquet.
    """
    return {name: _described(uris[name], steps) for name, steps in sorted(_wanted(spec, uris).items())}


def _described(uri: str, steps: list[LookupJoin]) -> ReferenceFiles:
    storage, files = _files_of(uri)
    columns = _columns_of(steps)
    total = 0
    for file in files:
        footer = open_parquet(storage, file).metadata
        for group in range(footer.num_row_groups):
            chunks = [footer.row_group(group).column(at) for at in range(footer.num_columns)]
            total += sum(c.total_uncompressed_size for c in chunks if c.path_in_schema.split(".")[0] in columns)
    return ReferenceFiles(tuple(files), columns, total)


def pin_references(
    spec: Spec, uris: Mapping[str, str], *, elsewhere: Collection[str] = ()
) -> dict[str, PinnedReference]:
    """Read, check and index every reference table that the spec joins, but those that are joined elsewhere.

    Raises:
        ContractError: a table is not given, is given in vain, or is not as the spec declares it.
        InputMissing: nothing is at a URI.
        ReadError: it is no Parquet.
    """
    wanted = _wanted(spec, uris)
    return {name: _pin(uris[name], steps) for name, steps in sorted(wanted.items()) if name not in elsewhere}


def _wanted(spec: Spec, uris: Mapping[str, str]) -> dict[str, list[LookupJoin]]:
    wanted: dict[str, list[LookupJoin]] = {}
    for step in spec.relational:
        if isinstance(step, LookupJoin):
            wanted.setdefault(step.params.reference, []).append(step)
    for name in sorted(wanted.keys() - uris.keys()):
        hint = f"say where it is: --reference {name}=URI, in a job under `references`.{nearest(name, uris)}"
        message = f"reference table {name!r} is joined by the spec; {hint}"
        raise ContractError(message)
    for name in sorted(uris.keys() - wanted.keys()):
        message = f"reference table {name!r} is given, but the spec joins no such table.{nearest(name, wanted)}"
        raise ContractError(message)
    return wanted


def _files_of(uri: str) -> tuple[Storage, list[InputFile]]:
    storage, path = storage_for(uri)
    files = list(storage.list_files(path))
    if not files:
        message = f"{uri}: no reference table is there. Check --reference, in a job `references`."
        raise InputMissing(message)
    return storage, files


def _columns_of(steps: list[LookupJoin]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(column.name for step in steps for column in (*step.params.keys, *step.params.columns)))


def _pin(uri: str, steps: list[LookupJoin]) -> PinnedReference:
    storage, files = _files_of(uri)
    columns = _columns_of(steps)
    tables = []
    for file in files:
        table = read_whole(storage, file)
        tables.append(table.select([name for name in table.column_names if name in columns]))
    try:
        table = pa.concat_tables(tables).combine_chunks()
    except pa.ArrowInvalid as error:
        message = f"{uri}: the files of this reference table differ in their columns: {error}. Give one table."
        raise ReadError(message) from error
    for step in steps:
        ReferenceTable.index(step, table, uri)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    data = sink.getvalue().to_pybytes()
    return PinnedReference(data, sha256_hex(data))
