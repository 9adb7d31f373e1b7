"""The page of a run as a program reads it, and a job whose every text is hostile."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from etl.runs.local import LocalStorage
from etl.spec import read_spec
from scoring.bundles.create import BundleParts, create_bundle
from scoring.outputs.columns import OutputColumn
from tests.jobs.outputs import write_job
from tests.numbers_job import FEATURES

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["HOSTILE", "PERSONAL", "Page", "hostile_job"]

HOSTILE = '<script>alert("1")</script><img src=x onerror=alert(2)>'
"""Obeyed by a page that does not escape it."""
PERSONAL = "Ada Lovelace"
ROWS = 500
BAD = {3: HOSTILE, 70: "also wrong", 71: "wrong again", 72: "and again"}
"""By row of each file, the value of the hostile column that the contract refuses."""
FILES = ("a<b>&c.parquet", "d'e.parquet")


class Page(HTMLParser):
    """What a page holds."""

    def __init__(self, text: str) -> None:
        """Parse it."""
        super().__init__(convert_charrefs=True)
        self.facts: dict[str, list[str]] = {}
        """Values of elements that are named facts."""
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        """All that is shown, and the titles of what is not."""
        self._named: str | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """See HTMLParser."""
        found = dict(attrs)
        self.tags.append((tag, found))
        name = found.get("data-fact")
        if name is not None and tag == "data":
            self.facts.setdefault(name, []).append(str(found["value"]))
        elif name is not None:
            self._named = name

    def handle_data(self, data: str) -> None:
        """See HTMLParser."""
        if self._named is not None:
            self.facts.setdefault(self._named, []).append(data)
            self._named = None
        self.text += data

    def number(self, name: str) -> float:
        """The one value of a fact, however often it stands."""
        [value] = {float(one) for one in self.facts[name]}
        return value


def hostile_job(folder: Path, onnx: Path, **sections: Any) -> Path:
    """Two files, in each four rows with a value that the contract refuses; every row has a name that is personal."""
    fields: list[dict[str, Any]] = [
        {"name": "id", "type": "int64", "role": "id"},
        {"name": "person", "type": "string", "pii": True},
        {"name": HOSTILE, "type": "string", "nullable": False, "allowed": ["good"]},
        *({"name": name, "type": "float32", "nullable": False} for name in FEATURES),
    ]
    spec = {
        "format": "scorespec/1",
        "spec_id": "hostile",
        "input": {"fields": fields},
        "outputs": {"tensors": [{"tensor": "X", "from": list(FEATURES)}]},
    }
    rng = np.random.default_rng(5)
    (folder / "in").mkdir(parents=True)
    for number, name in enumerate(FILES):
        columns: dict[str, Any] = {
            "id": np.arange(number * ROWS, (number + 1) * ROWS),
            "person": [PERSONAL] * ROWS,
            HOSTILE: [BAD.get(row, "good") for row in range(ROWS)],
            **{feature: rng.normal(size=ROWS).astype(np.float32) for feature in FEATURES},
        }
        pq.write_table(pa.table(columns), folder / "in" / name)
    golden = pq.read_table(folder / "in" / FILES[0]).slice(0, 3)
    parts = BundleParts(
        name="hostile",
        version=HOSTILE,
        model=onnx.read_bytes(),
        spec=read_spec(json.dumps(spec), "spec"),
        columns=(OutputColumn(column="p<b>", tensor="p", type="float32"),),
        golden_rows=golden,
        references={},
        facts={HOSTILE: HOSTILE},
    )
    create_bundle(LocalStorage(), str(folder / "bundle"), parts)
    told = {
        "name": "hostile",
        "doc": HOSTILE,
        "model": {"bundle": str(folder / "bundle")},
        "budgets": {"contract": {"max_rows": 100}},
        "metrics": {"uri": str(folder / "metrics")},
        **sections,
    }
    return write_job(folder, onnx, **told)
