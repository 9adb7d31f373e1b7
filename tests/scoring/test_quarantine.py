"""What quarantine shows of rows with lists, structs, vectors and decimals."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pyarrow as pa

from scoring.bundles.create import create_bundle
from tests.scoring.workshop import (
    LOGISTIC_SPEC,
    STORE,
    P,
    Work,
    logistic_model,
    numbers,
    parts_of,
    predictions,
    quarantined,
)

if TYPE_CHECKING:
    from pathlib import Path

    from scoring.bundles.bundle import AuditedBundle

SPEC = LOGISTIC_SPEC.replace(
    "  - {name: name, type: string, pii: true}\n",
    """
  - {name: name, type: string, pii: true}
  - {name: ids, type: "int64[2]"}
  - {name: tags, type: list<string>, max_length: 2}
  - {name: aliases, type: list<string>, pii: true}
  - {name: place, type: "struct<zip: int64, city: string>"}
  - {name: price, type: float64, range: {max: 10}, on_invalid: {flag: dear}, outlier: {high: 5}, on_outlier: reject}
  - {name: count, type: int64}
""",
)
ROWS = 6


def nested() -> pa.Table:
    """Rows of which the first is fine and each other one breaks one rule."""
    place = {"city": "x", "zip": 1, "more": 1}
    prices = [Decimal("1.50"), None, Decimal("0.10"), Decimal(2), Decimal("5.01"), Decimal(3)]
    counts = [*map(Decimal, "12345"), Decimal("0.5")]
    columns = {
        "ids": pa.array([[1, 2], [1, 2**63], *[[1, 2]] * 4], pa.list_(pa.uint64())),
        "tags": pa.array([["a"], ["b"], ["c", "d", "e"], ["f"], ["g"], ["h"]]),
        "aliases": pa.array([["secret"]] * ROWS),
        "place": pa.array(
            [*[place] * 3, {**place, "zip": 2**63}, *[place] * 2],
            pa.struct([("city", pa.string()), ("zip", pa.uint64()), ("more", pa.int8())]),
        ),
        "price": pa.array(prices, pa.decimal128(9, 2)),
        "count": pa.array(counts, pa.decimal128(9, 1)),
    }
    table = numbers(ROWS)
    for name, column in columns.items():
        table = table.append_column(name, column)
    return table


def bundle(folder: Path) -> AuditedBundle:
    """A bundle whose contract has fields of every nested type."""
    return create_bundle(STORE, str(folder), parts_of(SPEC, logistic_model(), nested().slice(0, 1), [P]))


def test_nested_values_are_previewed_and_masked(tmp_path: Path) -> None:
    """Each row is set aside under its rule and shown as its contract reads it; what has no form, and pii, is null."""
    work = Work(tmp_path, nested(), bundle, order={"passthrough": ("id", "ids", "tags", "dear")})
    receipts = work.score()
    found = predictions(receipts).to_pylist()
    assert [{name: row[name] for name in ("id", "ids", "tags", "dear")} for row in found] == [
        {"id": 0, "ids": [1, 2], "tags": ["a"], "dear": False}
    ]
    bad = quarantined(receipts).to_pylist()
    assert [(row["row"], row["code"], row["rule"]) for row in bad] == [
        (1, "OUT_OF_RANGE", "/input/fields/6/type"),
        (2, "TOO_LONG", "/input/fields/7/max_length"),
        (3, "OUT_OF_RANGE", "/input/fields/9/type"),
        (4, "OUTLIER", "/input/fields/10/outlier"),
        (5, "OUT_OF_RANGE", "/input/fields/11/type"),
    ]
    assert {row["stage"] for row in bad} == {"contract"}
    shown = [row["preview"] for row in bad]
    assert [preview["ids"] for preview in shown] == [None, *[[1, 2]] * 4]
    assert [preview["tags"] for preview in shown] == nested().column("tags").to_pylist()[1:]
    place = {"city": "x", "zip": 1}
    assert [preview["place"] for preview in shown] == [place, place, None, place, place]
    assert [preview["price"] for preview in shown] == [None, 0.1, 2.0, 5.01, 3.0]
    assert [preview["count"] for preview in shown] == [2, 3, 4, 5, None]
    assert {(preview["name"], preview["aliases"]) for preview in shown} == {(None, None)}
