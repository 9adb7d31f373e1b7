"""Large fitted state beside the spec: a Parquet file named by its step and content; the spec has its SHA-256 and rows.

In memory a spec always has its whole state, and its digest is that of the whole content: where the state lies changes
neither. A file is opened only once its SHA-256 is the one that the spec says. It does not end in `.parquet`, because a
bundle is copied below output roots, where readers take each such file for predictions.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from etl.documents import canonical_json, sha256_hex
from etl.problems import Problem

if TYPE_CHECKING:
    from etl.spec import Spec

__all__ = ["MOST_INLINE", "ReadArtifact", "Stored", "resolved", "stored"]

MOST_INLINE = 1000
"""Entries of a state that stand in the spec itself."""

ReadArtifact: TypeAlias = Callable[[str], bytes | None]
"""Gives the bytes of the file of a name beside the spec; None where there is none."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}-[0-9a-f]{12}\.pq")
_KEYS = {"$artifact", "sha256", "rows"}


class Stored(NamedTuple):
    """A spec as files."""

    text: bytes
    """The spec: canonical JSON."""
    artifacts: dict[str, bytes]
    """Contents by name, to lie beside the spec."""


def stored(spec: Spec) -> Stored:
    """The files of a spec: every state of more than `MOST_INLINE` entries is one of its own."""
    plain = spec.plain()
    artifacts: dict[str, bytes] = {}
    steps = []
    for step in plain.get("steps", ()):
        columns = {key: part for key, part in step.get("state", {}).items() if isinstance(part, list)}
        rows = max(map(len, columns.values()), default=0)
        if rows <= MOST_INLINE or any(len(part) != rows for part in columns.values()):
            steps.append(step)
            continue
        data = _as_parquet(columns)
        # By its content too: another fit in the same folder must not take this one's file.
        name = f"{step['id']}-{sha256_hex(data)[:12]}.pq"
        artifacts[name] = data
        rest = {key: part for key, part in step["state"].items() if key not in columns}
        told = {"$artifact": name, "sha256": sha256_hex(data), "rows": rows}
        steps.append({**step, "state": {**rest, **told}})
    return Stored(canonical_json({**plain, "steps": steps} if steps else plain), artifacts)


def resolved(value: Any, read: ReadArtifact) -> tuple[Any, list[Problem]]:
    """The JSON value of a spec with every state inside, and what is wrong with the files that it names."""
    steps = value.get("steps") if isinstance(value, dict) else None
    if not isinstance(steps, list):
        return value, []
    problems: list[Problem] = []
    whole = []
    for index, step in enumerate(steps):
        state = step.get("state") if isinstance(step, dict) else None
        if not isinstance(state, dict) or "$artifact" not in state:
            whole.append(step)
            continue
        try:
            whole.append({**step, "state": _state_of(state, read)})
        except _Unfit as error:
            problem = error.problem
            problems.append(problem._replace(pointer=f"/steps/{index}/state{problem.pointer}"))
    return {**value, "steps": whole}, problems


def _as_parquet(columns: dict[str, list[Any]]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data


class _Unfit(Exception):
    """What is wrong with a file, as a problem at a place below the state."""

    def __init__(self, pointer: str, message: str, code: str = "E-ARTIFACT") -> None:
        super().__init__(message)
        self.problem = Problem(pointer, message, code)


def _state_of(state: dict[str, Any], read: ReadArtifact) -> dict[str, Any]:
    """The state with the columns of its file.

    Raises:
        _Unfit: the file is not the one that the spec was fitted with.
    """
    rest = {key: part for key, part in state.items() if key not in _KEYS}
    table = _table_of(state, read)
    twice = sorted(rest.keys() & set(table.column_names))
    if twice:
        raise _Unfit(f"/{twice[0]}", f"is in file {state['$artifact']} already; a state has it once.")
    try:
        return {**rest, **table.to_pydict()}
    except UnicodeDecodeError as error:
        raise _Unfit("/$artifact", f"file {state['$artifact']} holds text that is not UTF-8.") from error


def _table_of(state: dict[str, Any], read: ReadArtifact) -> pa.Table:
    name, sha256, rows = (state.get(key) for key in ("$artifact", "sha256", "rows"))
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _Unfit(
            "/$artifact", f"the name of a file beside the spec is a step's id, a digest and `.pq`, found {name!r:.60}."
        )
    data = read(name)
    if data is None:
        raise _Unfit("/$artifact", f"file {name} is not beside the spec.")
    if sha256 != sha256_hex(data):
        message = f"file {name} has SHA-256 {sha256_hex(data)}: it is not the one that the spec was fitted with."
        raise _Unfit("/sha256", message, "E-HASH")
    try:
        table = pq.read_table(pa.BufferReader(data))
    except (pa.ArrowInvalid, OSError) as error:  # a damaged page is an OSError
        raise _Unfit("/$artifact", f"file {name} is no Parquet.") from error
    if table.num_rows != rows:
        raise _Unfit("/rows", f"file {name} has {table.num_rows} rows, found {rows!r:.60}.")
    return table
