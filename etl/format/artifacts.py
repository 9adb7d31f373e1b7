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
from etl.errors import SpecError
from etl.format.problems import Problem
from etl.types import kernels

if TYPE_CHECKING:
    from etl.spec import Spec

__all__ = [
    "MOST_BYTES",
    "MOST_INLINE",
    "MOST_ROWS",
    "MOST_TEXT",
    "OWN_KEYS",
    "ReadArtifact",
    "Stored",
    "each_step",
    "resolved",
    "stored",
]

MOST_INLINE = 1000
"""Entries of a state that stand in the spec itself."""

MOST_TEXT = 16 * 2**20
"""Bytes of a spec itself."""

_MOST_INLINE_TEXT = 8 * 2**20
"""Bytes of a spec with states inside, above which the largest of them become files."""

MOST_BYTES = 512 * 2**20
"""Of a file, as it is stored and as it is in memory."""

MOST_ROWS = 10_000_000
"""Entries of a state that a file holds; and of all its lists, ten times as many."""

ReadArtifact: TypeAlias = Callable[[str], bytes | None]
"""Gives the bytes of the file of a name beside the spec; None where there is none.

It raises OSError, or a ValueError that says why the file may not be read.
"""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}-[0-9a-f]{12}\.pq")
_KEYS = {"$artifact", "sha256", "rows"}
OWN_KEYS = {"$rows": "rows"}
"""What a state of its own has by such a key (tfidf), and how that is written beside those of the file."""


class Stored(NamedTuple):
    """A spec as files."""

    text: bytes
    """The spec: canonical JSON."""
    artifacts: dict[str, bytes]
    """Contents by name, to lie beside the spec."""


def stored(spec: Spec) -> Stored:
    """The files of a spec: every state of more than `MOST_INLINE` entries is one of its own, and so are the largest of
    the others where all of them would be too much for the spec.

    Raises:
        SpecError: the spec, or a state, is larger than what may be read.
    """  # noqa: D205  one sentence
    plain = spec.plain()
    artifacts: dict[str, bytes] = {}
    steps = list(plain.get("steps", ()))

    def spill(place: int) -> None:
        name, data, state = _apart(steps[place], f"/steps/{place}/state")
        artifacts[name] = data
        steps[place] = {**steps[place], "state": state}

    inline = {place: _rows(step) for place, step in enumerate(steps) if _rows(step)}
    for place in [place for place, rows in inline.items() if rows > MOST_INLINE]:
        del inline[place]
        spill(place)
    text = canonical_json({**plain, "steps": steps} if steps else plain)
    if len(text) > _MOST_INLINE_TEXT:
        excess, sizes = len(text) - _MOST_INLINE_TEXT, {p: len(canonical_json(steps[p]["state"])) for p in inline}
        for place in sorted(inline, key=lambda place: (-sizes[place], place)):
            if excess <= 0 or sizes[place] <= _LEAST_APART:
                break
            try:
                spill(place)
            except (SpecError, pa.ArrowException):
                # No table can hold it; the others may be enough.
                continue
            excess -= sizes[place] - len(canonical_json(steps[place]["state"]))
        text = canonical_json({**plain, "steps": steps})
    if len(text) > MOST_TEXT:
        raise SpecError(_too_much(plain, len(text)))
    return Stored(text, artifacts)


_LEAST_APART = 400
"""Bytes of a state that is smaller than what would be told of its file."""


def _rows(step: dict[str, Any]) -> int:
    """Entries of a state that can be a table; 0 of another one."""
    lengths = {len(part) for part in step.get("state", {}).values() if isinstance(part, list)}
    return lengths.pop() if len(lengths) == 1 else 0


def _apart(step: dict[str, Any], pointer: str) -> tuple[str, bytes, dict[str, Any]]:
    """The name and content of the file of a step's state, and what stands in the spec in place of the state.

    Raises:
        SpecError: it is larger than what may be read.
    """
    columns = {key: part for key, part in step["state"].items() if isinstance(part, list)}
    table = pa.table(columns)
    data = _as_parquet(table)
    digest = sha256_hex(data)
    # By its content too: another fit in the same folder must not take this one's file.
    name = f"{step['id']}-{digest[:12]}.pq"
    texts = [kernels.binary_length(column).cast(pa.int64()) for column in table.columns if _is_text(column.type)]
    try:
        _check_footer(name, pq.ParquetFile(pa.BufferReader(data)), table.num_rows)
        if sum(kernels.sum(lengths).as_py() or 0 for lengths in texts) > MOST_BYTES:
            raise _too_large(name)
    except _Unfit as error:
        message = f"{pointer}: the state of step {step['id']!r} cannot be written: {error} [{error.problem.code}]"
        raise SpecError(message) from error
    ours = {key: written for written, key in OWN_KEYS.items()}
    rest = {ours.get(key, key): part for key, part in step["state"].items() if key not in columns}
    return name, data, {**rest, "$artifact": name, "sha256": digest, "rows": table.num_rows}


def _too_much(plain: dict[str, Any], size: int) -> str:
    """What is said of a spec that nothing could read."""
    part = max(plain, key=lambda key: len(canonical_json(plain[key])))
    told = f"it would be {size:,} bytes beside its large states, above {MOST_TEXT >> 20} MiB, the most of a spec"
    return f"/: the spec cannot be written: {told}; the largest part is {part}. Make two specs of it. [E-SIZE]"


def resolved(value: Any, read: ReadArtifact) -> tuple[Any, list[Problem]]:
    """The JSON value of a spec with every state inside, and what is wrong with the files that it names."""

    def whole(step: Any) -> Any | Problem:
        state = step.get("state") if isinstance(step, dict) else None
        if not isinstance(state, dict) or "$artifact" not in state:
            return step
        try:
            return {**step, "state": _state_of(state, read)}
        except _Unfit as error:
            return error.problem._replace(pointer=f"/state{error.problem.pointer}")

    return each_step(value, whole)


def each_step(value: Any, filled_in: Callable[[Any], Any | Problem]) -> tuple[Any, list[Problem]]:
    """The JSON value of a spec with each step as a function of it makes it, from files beside the spec; a step of which
    it tells a problem, by its place below the step, stays as it is.
    """  # noqa: D205  one sentence
    steps = value.get("steps") if isinstance(value, dict) else None
    if not isinstance(steps, list):
        return value, []
    problems: list[Problem] = []
    whole = []
    for index, step in enumerate(steps):
        found = filled_in(step)
        if isinstance(found, Problem):
            problems.append(found._replace(pointer=f"/steps/{index}{found.pointer}"))
            found = step
        whole.append(found)
    return {**value, "steps": whole}, problems


def _as_parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
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
    rest = {OWN_KEYS.get(key, key): part for key, part in state.items() if key not in _KEYS}
    try:
        table = _table_of(state, read)
        twice = sorted(rest.keys() & set(table.column_names))
        if twice:
            raise _Unfit(f"/{twice[0]}", f"is in file {state['$artifact']} already; a state has it once.")
        return {**rest, **table.to_pydict()}
    except UnicodeDecodeError as error:
        raise _Unfit("/$artifact", f"file {state['$artifact']} holds text that is not UTF-8.") from error


def _table_of(state: dict[str, Any], read: ReadArtifact) -> pa.Table:
    name, sha256, rows = (state.get(key) for key in ("$artifact", "sha256", "rows"))
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _Unfit(
            "/$artifact", f"the name of a file beside the spec is a step's id, a digest and `.pq`, found {name!r:.60}."
        )
    try:
        data = read(name)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise _Unfit("/$artifact", f"file {name} cannot be read: {reason}.") from error
    if data is None:
        raise _Unfit("/$artifact", f"file {name} is not beside the spec.")
    if sha256 != sha256_hex(data):
        message = f"file {name} has SHA-256 {sha256_hex(data)}: it is not the one that the spec was fitted with."
        raise _Unfit("/sha256", message, "E-HASH")
    try:
        file = pq.ParquetFile(pa.BufferReader(data), read_dictionary=_texts(pq.read_schema(pa.BufferReader(data))))
        _check_footer(name, file, rows)
        return _decoded(name, file.read())
    except (pa.ArrowException, OSError) as error:  # a damaged page is an OSError
        raise _Unfit("/$artifact", f"file {name} is no Parquet, or damaged.") from error


def _texts(schema: pa.Schema) -> list[str]:
    return [field.name for field in schema if _is_text(field.type)]


def _is_text(found: pa.DataType) -> bool:
    return bool(pa.types.is_string(found) or pa.types.is_large_string(found))


def _check_footer(name: str, file: pq.ParquetFile, rows: Any) -> None:
    """Refuse a file before its pages are read: of other rows or columns than a state has, or too large in memory."""
    footer, schema = file.metadata, file.schema_arrow
    if footer.num_rows != rows:
        raise _Unfit("/rows", f"file {name} has {footer.num_rows} rows, found {rows!r:.60}.")
    for field in schema:
        if not _is_plain(field.type):
            allowed = "texts, whole numbers, floats of 32 or 64 bits, true or false, and lists of these"
            raise _Unfit(
                "/$artifact", f"file {name} has column {field.name!r:.60} of {field.type}; a state has {allowed}."
            )
    if len(set(schema.names)) < len(schema.names):
        raise _Unfit("/$artifact", f"file {name} has two columns of one name.")
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    chunks = [group.column(number) for group in groups for number in range(group.num_columns)]
    size = sum(chunk.total_uncompressed_size for chunk in chunks)
    entries = max((sum(c.num_values for c in chunks if c.path_in_schema == path) for path in _paths(chunks)), default=0)
    if size > MOST_BYTES or footer.num_rows > MOST_ROWS or entries > 10 * MOST_ROWS:
        raise _too_large(name)


def _paths(chunks: list[Any]) -> set[str]:
    return {chunk.path_in_schema for chunk in chunks}


def _too_large(name: str) -> _Unfit:
    most = f"{MOST_ROWS:,} rows or {MOST_BYTES >> 20} MiB in memory"
    return _Unfit("/$artifact", f"file {name} has more than {most}, the most of a state.", "E-SIZE")


def _is_plain(found: pa.DataType) -> bool:
    """Whether its values are those of JSON."""
    if isinstance(found, pa.DictionaryType):
        return _is_plain(found.value_type)
    if isinstance(found, pa.ListType | pa.LargeListType):
        return _is_plain(found.value_type)
    is_float = pa.types.is_float32(found) or pa.types.is_float64(found)
    is_other = pa.types.is_integer(found) or pa.types.is_boolean(found) or pa.types.is_null(found)
    return bool(_is_text(found) or is_float or is_other)


def _decoded(name: str, table: pa.Table) -> pa.Table:
    """With texts written out: a dictionary of one long text may stand for millions, which no footer tells."""
    size = 0
    for column in table.columns:
        for chunk in column.chunks if isinstance(column.type, pa.DictionaryType) else ():
            lengths = kernels.binary_length(chunk.dictionary).cast(pa.int64()).take(chunk.indices)
            size += kernels.sum(lengths).as_py() or 0
    if size > MOST_BYTES:
        raise _too_large(name)
    plain = [
        field.with_type(field.type.value_type) if isinstance(field.type, pa.DictionaryType) else field
        for field in table.schema
    ]
    return table.cast(pa.schema(plain))
