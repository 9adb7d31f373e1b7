"""Stored documents: the same value is the same bytes, and what this release cannot read is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from etl.contract import InputField
from etl.documents import Document, canonical_json, sha256_hex
from etl.errors import DocumentError
from etl.runs.layout import Layout
from etl.runs.manifest import ColumnEntry, Manifest, RunEntry
from etl.runs.receipt import Receipt, RowTally, SplitAccount, Tally
from etl.runs.splits import InputFile, cut_splits
from etl.types import ColumnType
from jobs.planning.models import ModelFacts
from jobs.planning.plan import Claim, Plan
from jobs.settling.uniqueness import Repeats
from scoring.order import ModelOrder, Order
from scoring.runtimes.base import RuntimeOptions
from tests.spine.builders import MASK, NOON, make_run
from tests.stores.site import sha256

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def a_receipt(folder: Path) -> Receipt:
    """A receipt with every part."""
    from tests.spine.builders import STORE

    return make_run(STORE, Layout(str(folder), "run"), files=1)[1]


def a_manifest(_: Path) -> Manifest:
    """A manifest of two runs."""
    runs = tuple(
        RunEntry(run_id=name, files=f"/out/{name}", files_sha256="0" * 64, folder=name, rows=5, bytes=7)
        for name in ("one", "two")
    )
    columns = (ColumnEntry(name="é", type="timestamp[us, tz=UTC]"),)
    return Manifest(seq=2, committed_at=NOON, committed_by="two", columns=columns, runs=runs)


def a_plan(_: Path) -> Plan:
    """A plan with every optional part of an order."""
    file = InputFile(path="/in/é.parquet", bytes=100, etag="e")
    order = Order(
        run_id="run",
        root="/out",
        models=(ModelOrder(bundle_sha256="0" * 64, references={"airports": "1" * 64}, runtime=RuntimeOptions()),),
        carried=(InputField(name="id", type=ColumnType("vector", 3), role="id"),),
        passthrough=("id",),
        stamps=("run_id", "scored_at"),
        scored_at=NOON,
        batch_rows=10,
        sample=0.1,
        row_limits={3: 5},
    )
    return Plan(
        run_id="run",
        job="job",
        planned_at=NOON,
        asked={"input": '{"files":"in"}'},
        inputs=(file,),
        splits=cut_splits((file,), 30),
        order=order,
        models=(ModelFacts(name="m", version="1", bundle_sha256="0" * 64, spec_digest="2" * 64, facts={"auc": "0.9"}),),
        columns=(ColumnEntry(name="id", type="int64"),),
        projected_task_bytes=1 << 30,
    )


def a_claim(_: Path) -> Claim:
    """A claim."""
    return Claim(run_id="run", job="job", claimed_at=NOON, claimed_by="me@here")


def some_repeats(_: Path) -> Repeats:
    """Counts of two expectations."""
    return Repeats(run_id="run", tallies={"once": Tally(hits=3, rows=10), "e": Tally()})


@pytest.fixture(params=[a_receipt, a_manifest, a_plan, a_claim, some_repeats])
def document(request: pytest.FixtureRequest, tmp_path: Path) -> Document:
    """One of each kind of stored document."""
    made: Document = request.param(tmp_path)
    return made


def changed(document: Document, **values: object) -> bytes:
    """A document's bytes with other values at the top."""
    return json.dumps({**json.loads(document.to_bytes()), **values}).encode()


def test_a_document_survives_storage(document: Document) -> None:
    """A document that was stored is read as an equal value, which is stored as equal bytes."""
    data = document.to_bytes()
    found = type(document).from_bytes(data, where="here")
    assert found == document
    assert found.to_bytes() == data


def test_a_document_has_one_form(document: Document) -> None:
    """A document's bytes are UTF-8 JSON with sorted keys and no blanks, so that its digest is that of its value."""
    data = document.to_bytes()
    value = json.loads(data)
    assert data == json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    reordered = json.dumps(dict(reversed(value.items())), indent=1).encode()
    assert type(document).from_bytes(reordered, where="here").to_bytes() == data


def test_a_document_says_its_format(document: Document) -> None:
    """Every stored document carries the name and version of its format."""
    assert json.loads(document.to_bytes())["format"] == f"batchscore.{type(document).__name__.lower()}/1"


@pytest.mark.parametrize(
    ("change", "pointer"),
    [({"surprise": 1}, "/surprise"), ({"format": "batchscore.x/1"}, "/format"), ({"format": None}, "/format")],
)
def test_what_a_release_does_not_know_is_refused(document: Document, change: dict[str, object], pointer: str) -> None:
    """An unknown key or format is a DocumentError with the file, the place and what to do."""
    with pytest.raises(DocumentError) as caught:
        type(document).from_bytes(changed(document, **change), where="/out/doc.json")
    message = str(caught.value)
    assert message.startswith(f"/out/doc.json: not a {type(document).__name__} this release can read: ")
    assert f" at {pointer}. If another release of batchscore wrote it, use that one" in message


OTHERS: dict[type, list[Any]] = {str: [7, True], int: ["4", True, 0.5], float: ["0.5", True], bool: [1, "no"]}
"""By the type of a value, values of other types that are not read as one of it."""


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], object]]:
    """Every scalar of a document's JSON, with its place."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, (*path, key))
    else:
        yield path, value


def test_nothing_in_a_document_is_coerced(document: Document) -> None:
    """A number written as text, a bool or a number of another kind, and a text written as number, are refused."""
    text = document.to_bytes()
    for path, value in leaves(json.loads(text)):
        for wrong in OTHERS.get(type(value), []):
            damaged = json.loads(text)
            node = damaged
            for part in path[:-1]:
                node = node[part]
            node[path[-1]] = wrong
            with pytest.raises(DocumentError, match="this release can read"):
                type(document).from_bytes(json.dumps(damaged).encode(), where="here")


def test_a_newer_format_is_refused(document: Document) -> None:
    """A document of the next version of its format is refused, not read as if it were of this one."""
    newer = json.loads(document.to_bytes())["format"].replace("/1", "/2")
    with pytest.raises(DocumentError, match="at /format"):
        type(document).from_bytes(changed(document, format=newer), where="/out/doc.json")


def test_a_damaged_document_is_refused(document: Document) -> None:
    """A document that was cut anywhere, or is empty, or no JSON object, is a DocumentError with the file."""
    data = document.to_bytes()
    for damaged in (data[:-1], data[: len(data) // 2], b"", b"[]", b"null", b"\xff" + data):
        with pytest.raises(DocumentError, match=r"^/out/doc\.json: "):
            type(document).from_bytes(damaged, where="/out/doc.json")


def test_a_document_cannot_be_changed(document: Document) -> None:
    """A document is a value: no part of it can be assigned."""
    with pytest.raises(ValueError, match="frozen"):
        document.format = "other"  # type: ignore[attr-defined]  # the base has none, each kind has one


def test_what_an_older_release_stored_is_read(tmp_path: Path) -> None:
    """A receipt from before there were expectations and keys of rows is read as one that has none."""
    receipt = a_receipt(tmp_path)
    old = json.loads(receipt.to_bytes())
    del old["expectations"], old["keys"]
    assert Receipt.from_bytes(json.dumps(old).encode(), where="here") == receipt


def test_an_unknown_key_deep_inside_is_refused(tmp_path: Path) -> None:
    """An unknown key is refused at any depth, with its place."""
    receipt = a_receipt(tmp_path)
    account = {**receipt.account.model_dump(mode="json"), "scored": {"rows": 1, "digest": "0" * 16, "rats": 2}}
    with pytest.raises(DocumentError, match="at /account/scored/rats"):
        Receipt.from_bytes(changed(receipt, account=account), where="here")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@settings(deadline=None)
@given(JSON.filter(lambda value: "\\ud" not in json.dumps(value)))
def test_canonical_json_says_the_value_again(value: object) -> None:
    """Canonical JSON is read as the value that was written, and the same value is written as the same bytes."""
    data = canonical_json(value)
    assert json.loads(data) == value
    assert canonical_json(json.loads(data)) == data


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [float("-inf")]])
def test_canonical_json_has_no_name_for_what_json_lacks(value: object) -> None:
    """NaN and infinity are refused, since no other reader of JSON would take them."""
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json(value)


@settings(deadline=None)
@given(st.binary())
def test_a_sha256_is_hexadecimal(data: bytes) -> None:
    """The digest of bytes is their SHA-256 in lower-case hexadecimal."""
    assert sha256_hex(data) == sha256(data)


TALLIES = st.builds(RowTally.of, st.integers(0, 10**12), st.integers(0, MASK))
ACCOUNTS = st.builds(SplitAccount, rows_in=TALLIES, scored=TALLIES, quarantined=TALLIES, filtered=TALLIES)


@settings(deadline=None)
@given(ACCOUNTS, ACCOUNTS, ACCOUNTS)
def test_accounts_add_in_any_order(one: SplitAccount, two: SplitAccount, three: SplitAccount) -> None:
    """Accounts of splits add up to the same total in any order, and the empty account adds nothing."""
    assert (one + two) + three == three + (two + one)
    assert one + SplitAccount() == one


@settings(deadline=None)
@given(TALLIES, TALLIES, TALLIES)
def test_an_account_adds_up_if_its_parts_are_what_came_in(a: RowTally, b: RowTally, c: RowTally) -> None:
    """An account adds up exactly when rows in equal the sum of the parts, by count and by digest modulo 2^64."""
    account = SplitAccount(rows_in=a + b + c, scored=a, quarantined=b, filtered=c)
    assert account.adds_up
    other = RowTally.of(account.rows_in.rows, int(account.rows_in.digest, 16) + 1)
    assert not account.model_copy(update={"rows_in": other}).adds_up


@pytest.mark.parametrize("digest", ["", "0" * 15, "0" * 17, "G" * 16, "A" * 16])
def test_a_digest_is_sixteen_digits(digest: str) -> None:
    """A digest is sixteen lower-case hexadecimal digits and nothing else."""
    with pytest.raises(ValueError, match="pattern"):
        TypeAdapter(RowTally).validate_python({"rows": 0, "digest": digest})
