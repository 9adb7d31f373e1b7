"""Pin the reference tables of a spec: read once by the driver, stored with the run, loaded once per worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from etl.documents import sha256_hex
from etl.errors import ContractError, InputMissing, ReadError
from etl.ops.lookup import LookupJoin, ReferenceTable
from etl.problems import nearest
from etl.read import read_whole
from etl.storage import storage_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from etl.spec import Spec

__all__ = ["PinnedReference", "pin_references"]


class PinnedReference(NamedTuple):
    """A reference table as a run will use it."""

    data: bytes
    """Arrow IPC, with the columns that the spec uses."""
    sha256: str
    """Of `data`."""


def pin_references(spec: Spec, uris: Mapping[str, str]) -> dict[str, PinnedReference]:
    """Read, check and index every reference table that the spec joins.

    Raises:
        ContractError: a table is not given, is given in vain, or is not as the spec declares it.
        InputMissing: nothing is at a URI.
        ReadError: it is no Parquet.
    """
    wanted: dict[str, list[LookupJoin]] = {}
    for step in spec.relational:
        if isinstance(step, LookupJoin):
            wanted.setdefault(step.params.reference, []).append(step)
    for name in sorted(wanted.keys() - uris.keys()):
        hint = f"say where it is under `references`.{nearest(name, uris)}"
        message = f"reference table {name!r} is joined by the spec; {hint}"
        raise ContractError(message)
    for name in sorted(uris.keys() - wanted.keys()):
        message = f"reference table {name!r} is given, but the spec joins no such table.{nearest(name, wanted)}"
        raise ContractError(message)
    return {name: _pin(uris[name], steps) for name, steps in sorted(wanted.items())}


def _pin(uri: str, steps: list[LookupJoin]) -> PinnedReference:
    storage, path = storage_for(uri)
    files = list(storage.list_files(path))
    if not files:
        message = f"{uri}: no reference table is there. Check `references`."
        raise InputMissing(message)
    columns = {column.name for step in steps for column in (*step.params.keys, *step.params.columns)}
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
