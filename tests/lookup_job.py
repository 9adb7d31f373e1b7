"""A job with all that a job can have: a reference table, three ops on rows, bad rows; with an oracle in numpy."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from etl.runs.local import LocalStorage
from etl.spec import read_spec
from scoring.bundles.create import BundleParts, create_bundle
from scoring.outputs.columns import OutputColumn
from tests.numbers_job import WEIGHTS

if TYPE_CHECKING:
    from pathlib import Path

WORDS = 10
SPEC = {
    "format": "scorespec/1",
    "spec_id": "lookup",
    "input": {
        "fields": [
            {"name": "id", "type": "int64", "role": "id"},
            {"name": "f0", "type": "float32", "nullable": False, "range": {"max": 100}},
            {"name": "f1", "type": "float32"},
            {"name": "f2", "type": "float32", "nullable": False},
            {"name": "word", "type": "string", "nullable": False},
        ]
    },
    "relational": [
        {
            "id": "weigh",
            "op": "lookup_join",
            "in": ["word"],
            "out": ["weight"],
            "params": {
                "reference": "words",
                "keys": [{"name": "word", "type": "string"}],
                "columns": [{"name": "weight", "type": "float32"}],
                "on_no_match": "reject",
            },
        },
    ],
    "steps": [
        {
            "id": "fill",
            "op": "impute",
            "in": ["f1"],
            "out": ["f1_full"],
            "params": {"strategy": "constant", "value": 0.5},
        },
        {"id": "z", "op": "standardize", "in": ["f2"], "out": ["f2_z"], "state": {"mean": 1.0, "std": 2.0, "n": 9}},
        {"id": "bound", "op": "clip", "in": ["f0"], "out": ["f0_low"], "params": {"upper": 1.5}},
    ],
    "outputs": {"tensors": [{"tensor": "X", "from": ["f0_low", "f1_full", "f2_z", "weight"]}]},
    "expectations": [{"id": "once", "batch": {"unique": ["id", "word"]}, "severity": "fail"}],
}


def write_lookup_job(folder: Path, model: Path, *, files: int, rows: int, row_group: int, **sections: Any) -> Path:
    """Input files, reference table, bundle and config of the job; three rows of 5,000 are bad, within the budgets,
    and no row repeats another.
    """  # noqa: D205  one sentence
    rng = np.random.default_rng(11)
    (folder / "in").mkdir(parents=True)
    for number in range(files):
        ids = np.arange(number * rows, (number + 1) * rows)
        f0, f1, f2 = (rng.normal(size=rows).astype(np.float32) for _ in range(3))
        f0[ids % 5000 == 8] = 200
        table = pa.table(
            {
                "id": ids,
                "f0": pa.array(f0, mask=ids % 5000 == 7),
                "f1": pa.array(f1, mask=ids % 11 == 0),
                "f2": f2,
                "word": ["unheard of" if id_ % 5000 == 9 else f"word {id_ % WORDS}" for id_ in ids],
            }
        )
        pq.write_table(table, folder / "in" / f"part-{number}.parquet", row_group_size=row_group)
    words = pa.table({"word": [f"word {k}" for k in range(WORDS)], "weight": np.arange(WORDS, dtype=np.float32) / 4})
    pq.write_table(words, folder / "words.parquet")
    parts = BundleParts(
        name="lookup",
        version="1",
        model=model.read_bytes(),
        spec=read_spec(json.dumps(SPEC), "spec"),
        columns=(OutputColumn(column="p", tensor="p", type="float32"),),
        golden_rows=pq.read_table(folder / "in" / "part-0.parquet").slice(0, 5),
        references={"words": words},
        facts={},
    )
    create_bundle(LocalStorage(), str(folder / "bundle"), parts)
    return write_config(folder, folder / "out", **sections)


def write_config(folder: Path, out: Path, **sections: Any) -> Path:
    """The job's config with this output; keyword arguments replace its sections."""
    job = {
        "api_version": "batchscore/1",
        "name": "lookup",
        "input": {"files": str(folder / "in")},
        "references": {"words": str(folder / "words.parquet")},
        "model": {"bundle": str(folder / "bundle")},
        "output": {"uri": str(out), "passthrough": ["id"]},
        "budgets": {"contract": {"max_ratio": 0.01}, "transform": {"max_ratio": 0.01}},
        **sections,
    }
    path = out.with_name(f"{out.name}.yaml")
    path.write_text(yaml.safe_dump(job), encoding="utf-8")
    return path


def lookup_scores(table: pa.Table) -> dict[int, float]:
    """Score by id of the rows that are good, in numpy."""
    ids = table.column("id").to_numpy()
    good = ~np.isin(ids % 5000, [7, 8, 9])
    f0, f1, f2 = (table.column(name).to_numpy()[good].astype(np.float64) for name in ("f0", "f1", "f2"))
    features = [np.minimum(f0, 1.5), np.where(ids[good] % 11 == 0, 0.5, f1), (f2 - 1.0) / 2.0, ids[good] % WORDS / 4]
    matrix = np.stack(features, axis=1).astype(np.float32)
    scores = 1 / (1 + np.exp(-(matrix @ WEIGHTS)[:, 0]))
    return dict(zip(ids[good].tolist(), scores.tolist(), strict=True))
