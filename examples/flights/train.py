"""Train the model that says whether a flight will arrive more than 15 minutes late, and write its bundle.

The ETL spec is fitted on January to September 2013 by the code that will run it when scoring. The number of trees is
chosen on August and September, and the result is tested on October to December, which nothing has seen before. Flights
that never arrived have no label, so they are left out of training and test; the spec is fitted on them too, because
nobody knows before departure which ones they will be.

    make train                                         writes examples/flights/bundle
"""

from __future__ import annotations

import importlib.metadata
import runpy
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from onnx import TensorProto, helper
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from etl.learning.fitting import fit
from etl.pipeline import Pipeline
from etl.runs.local import LocalStorage
from etl.spec import Spec, read_spec
from scoring.bundles.create import BundleParts, create_bundle
from scoring.outputs.columns import OutputColumn
from scoring.runtimes.base import RuntimeOptions
from scoring.runtimes.onnx import Session

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt

HERE = Path(__file__).parent
DATA = HERE.parents[1] / "demo" / "data"
BUNDLE = HERE / "bundle"
TRAIN, CHOOSE, TEST = range(1, 8), range(8, 10), range(10, 13)
LATE_MINUTES = 15
GOLDEN_ROWS = 64
MOST_TREES = 400
TREES: Mapping[str, Any] = {
    "learning_rate": 0.06,
    "max_leaf_nodes": 15,
    "min_samples_leaf": 300,
    "l2_regularization": 1.0,
    "random_state": 0,
}
LIBRARIES = ("batchscore", "numpy", "onnx", "onnxruntime", "pyarrow", "scikit-learn")


class Flights(NamedTuple):
    """Flights that arrived, as the model sees them."""

    features: npt.NDArray[np.float32]
    late: npt.NDArray[np.bool_]


def main() -> None:
    """Prepare, fit, choose, train, test, write."""
    runpy.run_path(str(HERE / "prepare.py"), run_name="__main__")
    references = {name: pq.read_table(DATA / f"{name}.parquet") for name in ("weather", "planes")}
    learned_from = [*TRAIN, *CHOOSE]
    recipe = read_spec((HERE / "recipe.yaml").read_text(encoding="utf-8"), "recipe.yaml", fitted=False)
    spec = fit(recipe, lambda: batches_of(recipe, learned_from), references)
    pipeline = Pipeline(spec, references)
    trees, chosen_auc = choose_trees(flights_of(pipeline, TRAIN), flights_of(pipeline, CHOOSE))

    learned, test = flights_of(pipeline, learned_from), flights_of(pipeline, TEST)
    model = HistGradientBoostingClassifier(**TREES, max_iter=trees, early_stopping=False)
    model.fit(learned.features, learned.late)
    exported = to_onnx(model, spec.widths()["features"])
    p_late = Session(exported, RuntimeOptions(), "trees").predict({"features": test.features})["p_late"][:, 0]
    np.testing.assert_allclose(p_late, model.predict_proba(test.features)[:, 1], rtol=0, atol=1e-6)
    facts = {
        "predicts": f"probability that a flight arrives more than {LATE_MINUTES} minutes late",
        "trained_on": f"2013-01 to 2013-09, {learned.late.size:,} flights that arrived",
        "algorithm": f"{trees} boosted trees, their number chosen on 2013-08 and 2013-09",
        "chosen_auc": f"{chosen_auc:.4f}",
        "tested_on": f"2013-10 to 2013-12, {test.late.size:,} flights that arrived",
        "test_auc": f"{roc_auc_score(test.late, p_late):.4f}",
        "test_late": f"{test.late.mean():.4f}",
        "libraries": ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES),
    }
    write_bundle(exported, pipeline, references=references, facts=facts)


def batches_of(spec: Spec, months: Sequence[int]) -> Iterator[pa.RecordBatch]:
    """The columns of the spec, row group by row group."""
    for month in months:
        file = pq.ParquetFile(DATA / "flights" / f"2013-{month:02}" / "flights.parquet")
        for group in range(file.num_row_groups):
            yield from (
                file.read_row_group(group, [field.name for field in spec.input.fields]).combine_chunks().to_batches()
            )


def flights_of(pipeline: Pipeline, months: Sequence[int]) -> Flights:
    """Features and labels of the flights that arrived."""
    parts = []
    for month in months:
        table = pq.read_table(DATA / "flights" / f"2013-{month:02}" / "flights.parquet")
        made = pipeline.transform(pipeline.contract(table, f"2013-{month:02}"))
        kept = table if made.kept is None else table.take(pa.array(made.kept))
        delay = kept["arr_delay"].to_numpy()
        arrived = ~np.isnan(delay)
        parts.append(Flights(made.tensors["features"][arrived], delay[arrived] > LATE_MINUTES))
    return Flights(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def choose_trees(train: Flights, later: Flights) -> tuple[int, float]:
    """How many trees predict the months after training best, and their AUC there."""
    model = HistGradientBoostingClassifier(**TREES, max_iter=MOST_TREES, early_stopping=True, n_iter_no_change=30)
    model.fit(train.features, train.late, X_val=later.features, y_val=later.late)
    trees = int(np.argmax(model.validation_score_))  # entry k is of k trees
    scores = list(model.staged_predict_proba(later.features))[trees - 1][:, 1]
    return trees, float(roc_auc_score(later.late, scores))


def to_onnx(model: HistGradientBoostingClassifier, width: int) -> bytes:
    """The trees as ONNX with one output, the probability, and the very decisions of scikit-learn.

    Thresholds are float64 and features float32: each threshold becomes the largest float32 that is not above it. With
    the nearest one, as skl2onnx takes it, one flight in 80,000 turned into another branch and got another score.
    """
    nodes = [predictor.nodes for (predictor,) in model._predictors]  # noqa: SLF001  there is no public way to the trees
    flat, sizes = np.concatenate(nodes), [len(tree) for tree in nodes]
    leaf, tree_ids = flat["is_leaf"].astype(bool), np.repeat(np.arange(len(nodes)), sizes)
    node_ids = np.concatenate([np.arange(size) for size in sizes])
    trees = helper.make_node(
        "TreeEnsembleRegressor",
        ["features"],
        ["log_odds"],
        domain="ai.onnx.ml",
        n_targets=1,
        base_values=model._baseline_prediction.ravel().tolist(),  # noqa: SLF001  as above
        nodes_treeids=tree_ids.tolist(),
        nodes_nodeids=node_ids.tolist(),
        nodes_featureids=flat["feature_idx"].tolist(),
        nodes_modes=np.where(leaf, "LEAF", "BRANCH_LEQ").tolist(),
        nodes_values=_not_above(flat["num_threshold"]).tolist(),
        nodes_truenodeids=flat["left"].tolist(),
        nodes_falsenodeids=flat["right"].tolist(),
        nodes_missing_value_tracks_true=flat["missing_go_to_left"].tolist(),
        target_treeids=tree_ids[leaf].tolist(),
        target_nodeids=node_ids[leaf].tolist(),
        target_ids=[0] * int(leaf.sum()),
        target_weights=flat["value"][leaf].tolist(),
    )
    return _model_of([trees, helper.make_node("Sigmoid", ["log_odds"], ["p_late"])], width)


def _not_above(thresholds: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    nearest = thresholds.astype(np.float32)
    return np.where(nearest > thresholds, np.nextafter(nearest, np.float32(-np.inf)), nearest)


def _model_of(nodes: list[onnx.NodeProto], width: int) -> bytes:
    graph = helper.make_graph(
        nodes,
        "flights_late",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info("p_late", TensorProto.FLOAT, [None, 1])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="batchscore")
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def write_bundle(
    model: bytes, pipeline: Pipeline, *, references: Mapping[str, pa.Table], facts: dict[str, str]
) -> None:
    """Replace the bundle, and say what is in it."""
    rows = golden_rows(pipeline)
    excerpts = {
        "weather": excerpt(references["weather"], rows, ["origin", "time_hour"]),
        "planes": excerpt(references["planes"], rows, ["tailnum"]),
    }
    rows, excerpts["planes"] = without_tail_numbers(rows, excerpts["planes"])
    columns = (OutputColumn(column="p_late", tensor="p_late", type="float32"),)
    shutil.rmtree(BUNDLE, ignore_errors=True)
    parts = BundleParts("flights-late", "1", model, pipeline.spec, columns, rows, excerpts, facts, ["tailnum"])
    audited = create_bundle(LocalStorage(), str(BUNDLE), parts)
    size = len(audited.text) + sum(file.bytes for file in audited.bundle.files.values())
    print(*(f"{name}: {fact}" for name, fact in facts.items()), sep="\n")
    print(f"bundle: {BUNDLE.relative_to(HERE.parents[1])}, {size / 1024:.0f} KiB")


def golden_rows(pipeline: Pipeline) -> pa.Table:
    """Rows that between them take every turn of the spec, three of each kind, and then any others."""
    table = pa.Table.from_batches(batches_of(pipeline.spec, range(1, 13))).combine_chunks()
    frame = pipeline.contract(table, "2013")
    pipeline.run_steps(frame)
    day, distance = (
        pc.strftime(table["time_hour"], "%Y-%m-%d").to_numpy(zero_copy_only=False),
        frame.float64("distance"),
    )
    carrier, wind = table["carrier"].to_numpy(), frame.float64("wind_speed")
    no_plane, good = frame.missing("plane_seats"), ~frame.rejected
    kinds = [
        frame.missing("temp"),
        frame.missing("pressure") & ~frame.missing("temp"),
        frame.missing("wind_dir") & ~frame.missing("temp"),
        ~frame.missing("wind_gust"),
        wind == 0,
        wind > 30,
        frame.missing("tailnum"),
        no_plane & ~frame.missing("tailnum"),
        frame.missing("plane_year") & ~no_plane,
        *(carrier == rare for rare in ("OO", "HA", "YV")),
        frame.float64("dest_id") == 2,  # an unknown destination
        *(day == turn for turn in ("2013-03-10", "2013-11-03", "2014-01-01")),  # clocks change, the year ends in UTC
        distance == distance[good].max(),
        distance == distance[good].min(),
    ]
    chosen = {int(row) for kind in kinds for row in np.flatnonzero(kind & good)[:3]}
    others = np.random.default_rng(0).permutation(table.num_rows)[: 2 * GOLDEN_ROWS].tolist()
    chosen.update([row for row in others if good[row] and row not in chosen][: GOLDEN_ROWS - len(chosen)])
    return table.take(pa.array(sorted(chosen)))


def excerpt(reference: pa.Table, rows: pa.Table, keys: list[str]) -> pa.Table:
    """The entries of a reference table that the rows find."""
    found = reference.join(rows.select(keys), keys, join_type="left semi")
    return found.sort_by([(key, "ascending") for key in keys]).combine_chunks()


def without_tail_numbers(rows: pa.Table, planes: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Other names for the planes, the same in both tables: personal data has no place in a bundle."""
    known = pa.array(sorted(set(rows["tailnum"].drop_null().to_pylist())))
    names = pa.array([f"P{number:03}" for number in range(len(known))])
    renamed = []
    for table in (rows, planes):
        column = names.take(pc.index_in(table["tailnum"], value_set=known).combine_chunks())
        renamed.append(table.set_column(table.schema.get_field_index("tailnum"), "tailnum", column))
    return renamed[0], renamed[1]


if __name__ == "__main__":
    main()
