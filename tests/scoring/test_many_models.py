"""Several models in one pass: what is published of each row, beside what each model gives alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from pydantic import ValidationError

import scoring.scorer
from etl.contract import InputField
from etl.runs.account import settle
from etl.runs.layout import model_folder
from etl.runs.receipt import EMPTY
from etl.types import ColumnType
from scoring.bundles.bundle import copy_bundle
from scoring.bundles.create import create_bundle
from scoring.combination import Combination, Ensemble
from scoring.order import ModelOrder, Routed
from scoring.resident import Resident
from scoring.runtimes.base import RuntimeOptions
from tests.numbers_job import FEATURES, WEIGHTS
from tests.scoring.workshop import (
    LOGISTIC_SPEC,
    STORE,
    P,
    Work,
    logistic_bundle,
    logistic_model,
    logistic_scores,
    model_of,
    numbers,
    parts_of,
    predictions,
    quarantined,
    with_values,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from scoring.bundles.bundle import AuditedBundle

ROWS = 250
OTHER = -2 * WEIGHTS
CHAIN_SPEC = """
format: scorespec/1
spec_id: chained
input:
  fields:
  - {name: champion_p, type: float32, nullable: false}
  - {name: f0, type: float32, nullable: false}
outputs: {tensors: [{tensor: X, from: [champion_p, f0]}]}
"""


def challenger(folder: Path, spec: str = LOGISTIC_SPEC) -> AuditedBundle:
    """A bundle of another logistic model over the same columns."""
    return create_bundle(STORE, str(folder), parts_of(spec, logistic_model(OTHER), numbers(5), [P]))


def doubled(folder: Path) -> AuditedBundle:
    """A bundle whose one column is 2 · champion_p + f0."""
    weights = np.array([[2.0], [1.0]], dtype=np.float32)
    model = model_of(
        [helper.make_node("MatMul", ["X", "W"], ["p"])],
        {"X": (TensorProto.FLOAT, [None, 2])},
        {"p": (TensorProto.FLOAT, [None, 1])},
        W=weights,
    )
    golden = pa.table({"champion_p": pa.array([0.5], pa.float32()), "f0": pa.array([1.0], pa.float32())})
    return create_bundle(STORE, str(folder), parts_of(CHAIN_SPEC, model, golden, [P]))


def orders(work: Work, others: dict[str, Callable[[Path], AuditedBundle]], **required: bool) -> tuple[ModelOrder, ...]:
    """The work's own bundle as champion, and others beside it."""
    bundles = {"champion": work.audited}
    for name, make in others.items():
        bundles[name] = make(work.folder / name)
        copy_bundle(bundles[name], STORE, model_folder(work.root, bundles[name].sha256))
    return tuple(
        ModelOrder(
            name=name,
            version=f"{bundle.bundle.name}:{bundle.bundle.version}",
            bundle_sha256=bundle.sha256,
            references={},
            runtime=RuntimeOptions(),
            required=required.get(name, True),
        )
        for name, bundle in bundles.items()
    )


def other_scores(table: pa.Table) -> np.ndarray:
    """Scores of the challenger by numpy."""
    matrix = np.stack([table.column(name).to_numpy() for name in FEATURES], axis=1).astype(np.float32)
    return np.asarray(1 / (1 + np.exp(-(matrix @ OTHER)[:, 0])))


def check(found: Any, wanted: np.ndarray) -> None:
    """Equal as far as a sigmoid may differ."""
    np.testing.assert_allclose(np.asarray(found.to_numpy(zero_copy_only=False)), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pieces", [1, 3])
def test_two_models_side_by_side_give_what_each_gives_alone(tmp_path: Path, pieces: int) -> None:
    """Champion and challenger each have their column, and rows are read, counted and published once."""
    work = Work(tmp_path, numbers(ROWS), pieces=pieces)
    models = orders(work, {"challenger": challenger})
    receipts = work.score(models=models, combination=Combination(), stamps=("model_version",))
    found = predictions(receipts)
    assert found.schema.names == ["id", "champion_p", "challenger_p", "model_version"]
    assert found["id"].to_pylist() == list(range(ROWS))
    check(found["champion_p"], logistic_scores(work.table))
    check(found["challenger_p"], other_scores(work.table))
    assert set(found["model_version"].to_pylist()) == {"numbers:1.2,numbers:1.2"}
    account = settle(work.splits, receipts)
    assert account.scored.rows == ROWS
    for name in ("champion", "challenger"):
        assert sum((receipt.by_model.get(name, EMPTY) for receipt in receipts), EMPTY) == account.scored


@pytest.mark.parametrize("required", [True, False])
def test_a_row_that_the_challenger_cannot_take(tmp_path: Path, *, required: bool) -> None:
    """A required model's rejection sets the row aside and says whose it is; another's only leaves its value out."""
    strict = LOGISTIC_SPEC.replace("range: {max: 100}", "range: {max: 0.5}")

    def golden(folder: Path) -> AuditedBundle:
        rows = with_values(numbers(5), "f2", dict.fromkeys(range(5), 0.25))
        return create_bundle(STORE, str(folder), parts_of(strict, logistic_model(OTHER), rows, [P]))

    work = Work(tmp_path, numbers(ROWS))
    models = orders(work, {"challenger": golden}, challenger=required)
    receipts = work.score(models=models, combination=Combination())
    high = np.flatnonzero(work.table["f2"].to_numpy() > 0.5)
    assert 0 < high.size < ROWS
    found, bad = predictions(receipts), quarantined(receipts)
    assert settle(work.splits, receipts).rows_in.rows == ROWS
    kept = np.setdiff1d(np.arange(ROWS), high)
    if required:
        assert bad["row"].to_pylist() == high.tolist()
        assert all(message.startswith("model challenger: ") for message in bad["message"].to_pylist())
        assert found["id"].to_pylist() == kept.tolist()
        check(found["challenger_p"], other_scores(work.table)[kept])
        return
    assert bad.num_rows == 0
    assert found["id"].to_pylist() == list(range(ROWS))
    check(found["champion_p"], logistic_scores(work.table))
    assert np.flatnonzero(found["challenger_p"].is_null().to_numpy()).tolist() == high.tolist()
    check(found["challenger_p"].drop_null(), other_scores(work.table)[kept])
    assert [receipt.unscored for receipt in receipts] == [{"challenger/OUT_OF_RANGE": high.size}]
    assert receipts[0].by_model["challenger"].rows == kept.size


def test_a_row_out_for_each_model(tmp_path: Path) -> None:
    """In the layout `variant` each row comes once for each model, beside each other, and is accounted for once."""
    work = Work(tmp_path, with_values(numbers(ROWS), "f1", {3: None}))
    models = orders(work, {"challenger": challenger})
    receipts = work.score(models=models, combination=Combination(layout="variant"), stamps=("run_id",))
    found = predictions(receipts)
    assert found.schema.names == ["id", "variant", "p", "run_id"]
    kept = [row for row in range(ROWS) if row != 3]
    assert found["id"].to_pylist() == [row for row in kept for _ in range(2)]
    assert found["variant"].to_pylist() == ["champion", "challenger"] * len(kept)
    check(found.filter(pc.field("variant") == "champion")["p"], logistic_scores(work.table)[kept])
    check(found.filter(pc.field("variant") == "challenger")["p"], other_scores(work.table)[kept])
    account = settle(work.splits, receipts)
    assert (account.scored.rows, account.quarantined.rows) == (ROWS - 1, 1)


def picky(folder: Path) -> AuditedBundle:
    """The challenger, which takes no row whose f2 is above 0.5."""
    strict = LOGISTIC_SPEC.replace("range: {max: 100}", "range: {max: 0.5}")
    rows = with_values(numbers(5), "f2", dict.fromkeys(range(5), 0.25))
    return create_bundle(STORE, str(folder), parts_of(strict, logistic_model(OTHER), rows, [P]))


@pytest.mark.parametrize("told", [{"layout": "variant"}, {"assign_by": ("id",), "shares": {"champion": 0, "other": 1}}])
def test_a_row_without_any_score_is_set_aside_though_its_model_is_optional(
    tmp_path: Path, told: dict[str, Any]
) -> None:
    """Where a row would be in no file, it is in quarantine: the account has each row once, in the place where it is."""
    work = Work(tmp_path, with_values(numbers(ROWS), "f1", {3: None}))
    models = orders(work, {"other": picky}, champion="layout" not in told, other=False)
    combination = Combination.model_validate(told)
    receipts = work.score(models=models, combination=combination, chosen_by=(ID,) if combination.chooses else ())
    found, bad = predictions(receipts), quarantined(receipts)
    high = set(np.flatnonzero(work.table["f2"].to_numpy() > 0.5).tolist())
    lost = {3} if combination.layout == "variant" and not combination.chooses else {3} | high
    assert bad["row"].to_pylist() == sorted(lost)
    assert set(found["id"].to_pylist()) == set(range(ROWS)) - lost
    account = settle(work.splits, receipts)
    assert (account.scored.rows, account.quarantined.rows) == (ROWS - len(lost), len(lost))


def test_what_an_optional_model_filters_is_counted(tmp_path: Path) -> None:
    """A row that the challenger's own filter leaves out is published without its score, and told as such."""
    where = "outputs: {tensors: [{tensor: X, from: [f0, f1, f2, f3]}]}"
    steps = 'relational:\n- {id: low, op: filter, params: {keep: {cmp: [f2, "<=", 0.5]}}}\n'

    def filtering(folder: Path) -> AuditedBundle:
        rows = with_values(numbers(5), "f2", dict.fromkeys(range(5), 0.25))
        spec = LOGISTIC_SPEC.replace(where, steps + where)
        return create_bundle(STORE, str(folder), parts_of(spec, logistic_model(OTHER), rows, [P]))

    work = Work(tmp_path, numbers(ROWS))
    receipts = work.score(models=orders(work, {"other": filtering}, other=False), combination=Combination())
    high = int((work.table["f2"].to_numpy() > 0.5).sum())
    assert predictions(receipts)["other_p"].null_count == high
    assert receipts[0].unscored == {"other/FILTERED": high}
    assert settle(work.splits, receipts).scored.rows == ROWS


@pytest.mark.parametrize("required", [True, False])
def test_one_model_under_a_name_is_one_model(tmp_path: Path, *, required: bool) -> None:
    """A list of one model scores as it does alone, and what it refuses is set aside, required or not."""
    work = Work(tmp_path, with_values(numbers(ROWS), "f1", {3: None}))
    models = orders(work, {}, champion=required)
    receipts = work.score(models=models, combination=Combination())
    assert predictions(receipts)["id"].to_pylist() == [row for row in range(ROWS) if row != 3]
    assert quarantined(receipts)["row"].to_pylist() == [3]
    by = (InputField(name="id", type=ColumnType("int64"), role="id"),)
    routed = Work(tmp_path / "routed", numbers(10))
    told = Combination(route_by="id", routes={"4": "champion"})
    receipts = routed.score(models=orders(routed, {}), combination=told, chosen_by=by)
    assert predictions(receipts)["id"].to_pylist() == [4]
    assert settle(routed.splits, receipts).quarantined.rows == 9


ID = InputField(name="id", type=ColumnType("int64"), role="id")


def assigned(work: Work, models: tuple[ModelOrder, ...], **told: Any) -> tuple[pa.Table, list[Any]]:
    """What is published where each key has one model."""
    combination = Combination(assign_by=("id",), **told)
    receipts = work.score(models=models, combination=combination, chosen_by=(ID,))
    return predictions(receipts), receipts


def test_shares_of_the_keys_are_as_asked_and_stay(tmp_path: Path) -> None:
    """Of 20,000 keys about the share goes to each, the same keys in any cut of the rows, others with another salt."""
    work = Work(tmp_path, numbers(20_000), row_group=5_000, pieces=2)
    models = orders(work, {"challenger": challenger})
    shares = {"champion": 0.9, "challenger": 0.1}
    found, receipts = assigned(work, models, shares=shares)
    assert found["id"].to_pylist() == list(range(20_000))
    is_other = np.array(found["variant"].to_pylist()) == "challenger"
    # Four standard deviations of a binomial of 20,000 and 0.1.
    assert abs(is_other.sum() - 2_000) < 4 * 42.5
    wanted = np.where(is_other, other_scores(work.table), logistic_scores(work.table))
    check(found["p"], wanted)
    account = settle(work.splits, receipts)
    parts = [sum((r.by_model.get(name, EMPTY) for r in receipts), EMPTY) for name in shares]
    assert parts[0] + parts[1] == account.scored
    assert parts[1].rows == is_other.sum()
    again, _ = assigned(
        Work(tmp_path / "again", numbers(300), row_group=70), orders_of(tmp_path / "again", models), shares=shares
    )
    assert again["variant"].to_pylist() == found["variant"].to_pylist()[:300]
    salted, _ = assigned(
        Work(tmp_path / "salted", work.table), orders_of(tmp_path / "salted", models), shares=shares, salt="2"
    )
    is_salted = np.array(salted["variant"].to_pylist()) == "challenger"
    # Independent draws: about 0.1 of those that were the challenger's are so again, as of all others.
    assert abs((is_salted & is_other).sum() - 200) < 4 * 14


def orders_of(folder: Path, models: tuple[ModelOrder, ...]) -> tuple[ModelOrder, ...]:
    """The same models, for another work: their bundles are copied when they are asked for."""
    for made in (logistic_bundle, challenger):
        bundle = made(folder / made.__name__)
        copy_bundle(bundle, STORE, model_folder(str(folder / "out"), bundle.sha256))
    return models


def test_each_segment_has_its_model(tmp_path: Path) -> None:
    """Rows go to the model of their value; those of no model are set aside, or go to the one for all others."""
    names = ["DE" if row % 3 == 0 else "FR" if row % 3 == 1 else None for row in range(ROWS)]
    names[5], names[6] = "IT", "IT"
    table = numbers(ROWS).drop_columns("name").append_column("name", pa.array(names))
    work = Work(tmp_path, table)
    models = orders(work, {"french": challenger})
    by = (InputField(name="name", type=ColumnType("string")),)
    routes = {"DE": "champion", "FR": "french"}
    receipts = work.score(models=models, combination=Combination(route_by="name", routes=routes), chosen_by=by)
    found, bad = predictions(receipts), quarantined(receipts)
    known = [row for row in range(ROWS) if names[row] in routes]
    assert found["id"].to_pylist() == known
    assert found["variant"].to_pylist() == [routes[str(names[row])] for row in known]
    is_french = np.array([names[row] == "FR" for row in known])
    wanted = np.where(is_french, other_scores(table)[known], logistic_scores(table)[known])
    check(found["p"], wanted)
    assert bad["row"].to_pylist() == [row for row in range(ROWS) if row not in known]
    told = {tuple(row[name] for name in ("stage", "code", "column")) for row in bad.to_pylist()}
    assert told == {("inference", "NO_MODEL", "name")}
    others = Work(tmp_path / "others", table)
    combined = Combination(route_by="name", routes={"FR": "french"}, otherwise="champion")
    receipts = others.score(models=orders_of(tmp_path / "others", models), combination=combined, chosen_by=by)
    wanted_names = ["french" if name == "FR" else "champion" for name in names]
    assert predictions(receipts)["variant"].to_pylist() == wanted_names


def test_a_chain_feeds_one_models_column_to_the_next(tmp_path: Path) -> None:
    """The second model reads what the first one published, row by row; what the first cannot score neither can it."""
    work = Work(tmp_path, with_values(numbers(ROWS), "f1", {7: None}))
    models = orders(work, {"final": doubled})
    receipts = work.score(models=models, combination=Combination())
    found = predictions(receipts)
    kept = [row for row in range(ROWS) if row != 7]
    assert found["id"].to_pylist() == kept
    first = logistic_scores(work.table)[kept]
    check(found["champion_p"], first)
    check(found["final_p"], 2 * first + work.table["f0"].to_numpy()[kept])
    assert quarantined(receipts)["row"].to_pylist() == [7]
    assert "champion_p" not in [field.name for field in quarantined(receipts).schema.field("preview").type]


MEAN = Ensemble(column="mean", of=("champion_p", "challenger_p"), how="mean")
WEIGHTED = Ensemble(column="weighted", of=("champion_p", "challenger_p"), how="weighted", weights=(3, 1))


def test_an_ensemble_is_a_column_of_the_others(tmp_path: Path) -> None:
    """Mean and weighted mean are float64 of the published columns; null where a member is."""
    strict = LOGISTIC_SPEC.replace("range: {max: 100}", "range: {max: 0.5}")

    def golden(folder: Path) -> AuditedBundle:
        rows = with_values(numbers(5), "f2", dict.fromkeys(range(5), 0.25))
        return create_bundle(STORE, str(folder), parts_of(strict, logistic_model(OTHER), rows, [P]))

    work = Work(tmp_path, numbers(ROWS))
    models = orders(work, {"challenger": golden}, challenger=False)
    found = predictions(work.score(models=models, combination=Combination(ensembles=(MEAN, WEIGHTED))))
    assert found.schema.names == ["id", "champion_p", "challenger_p", "mean", "weighted"]
    for row in found.to_pylist():
        left, right = row["champion_p"], row["challenger_p"]
        if right is None:
            assert row["mean"] is None
            assert row["weighted"] is None
        else:
            assert row["mean"] == (left + right) / 2
            assert row["weighted"] == pytest.approx((3 * left + right) / 4, rel=1e-15)


VOTES = st.lists(st.tuples(*[st.sampled_from(["a", "b", "c", None])] * 3), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(votes=VOTES)
def test_a_vote_is_the_most_frequent_value(votes: list[tuple[str | None, ...]]) -> None:
    """Of equally frequent values the one that comes first among the columns; null where a vote is missing."""
    from scoring.engine.ensembles import ensemble_column

    columns = {f"m{number}_c": pa.array([row[number] for row in votes], pa.string()) for number in range(3)}
    found = ensemble_column(Ensemble(column="c", of=tuple(columns), how="vote"), columns).to_pylist()
    for row, value in zip(votes, found, strict=True):
        wanted = None if None in row else max(row, key=lambda vote: (row.count(vote), -row.index(vote)))
        assert value == wanted


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"assign_by": ["id"]}, "`shares`"),
        ({"shares": {"a": 1.0}}, "`shares`"),
        ({"assign_by": ["id"], "shares": {"a": 0.5}}, "add up to 1, these to 0.5"),
        ({"assign_by": ["id"], "shares": {"a": 1.5, "b": -0.5}}, "of 0 or more, and 'b' has -0.5"),
        ({"assign_by": ["id"], "shares": {"a": 1.0}, "route_by": "x"}, "one of `assign_by` and `route_by`"),
        ({"routes": {"x": "a"}}, "`routes` and `otherwise` go with `route_by`"),
        ({"layout": "variant", "ensembles": [{"column": "c", "of": ["a_p", "b_p"], "how": "mean"}]}, "side by side"),
        ({"ensembles": [{"column": "c", "of": ["a_p", "b_p"], "how": "weighted"}]}, "`weights` go with"),
        ({"ensembles": [{"column": "c", "of": ["a_p", "b_p"], "how": "weighted", "weights": [0, 0]}]}, "not all 0"),
    ],
)
def test_what_does_not_go_together_is_refused(told: dict[str, Any], message: str) -> None:
    """A combination that means nothing is an error with the reason."""
    with pytest.raises(ValidationError, match=message):
        Combination.model_validate(told)


def test_a_mean_of_integers_beyond_float64_is_rounded() -> None:
    """Whole numbers beyond 2^53 are rounded once, and weights of any size are only ratios."""
    from scoring.engine.ensembles import ensemble_column

    columns = {"a": pa.array([2**53 + 1, None]), "b": pa.array([2**53 + 3, 1])}
    mean = ensemble_column(Ensemble(column="c", of=("a", "b"), how="mean"), columns)
    assert mean.to_pylist() == [float(2**53 + 2), None]
    heavy = Ensemble(column="c", of=("a", "b"), how="weighted", weights=(1e308, 1e308))
    assert ensemble_column(heavy, {"a": pa.array([1.0]), "b": pa.array([2.0])}).to_pylist() == [1.5]


def test_output_column_types(tmp_path: Path) -> None:
    """A vote over scores is refused, as is a mean of texts and a column that nobody publishes."""
    from scoring.engine.ensembles import ensemble_type
    from scoring.errors import BundleError

    types = {"a_p": pa.float32(), "b_p": pa.float32(), "a_c": pa.string(), "b_c": pa.string()}
    assert ensemble_type(Ensemble(column="c", of=("a_c", "b_c"), how="vote"), types) == pa.string()
    for told, message in [
        (Ensemble(column="c", of=("a_p", "b_p"), how="vote"), "one type, whole numbers"),
        (Ensemble(column="c", of=("a_c", "b_c"), how="mean"), "no number"),
        (Ensemble(column="c", of=("a_p", "x_p"), how="mean"), "'x_p', which no model publishes"),
    ]:
        with pytest.raises(BundleError, match=message):
            ensemble_type(told, types)


@pytest.mark.parametrize("room", ["1", "100000000000"])
def test_models_of_many_segments_are_loaded_as_their_rows_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: str
) -> None:
    """Where models do not fit side by side each row still has its segment's score, and no more stay loaded."""
    monkeypatch.setenv("BATCHSCORE_RESIDENT_BYTES", room)
    monkeypatch.setattr(scoring.scorer, "_resident", Resident(scoring.scorer._budget))
    segments = [f"s{number}" for number in range(5)]
    table = (
        numbers(ROWS).drop_columns("name").append_column("name", pa.array([segments[row % 5] for row in range(ROWS)]))
    )
    work = Work(tmp_path, table, row_group=60)
    weights = {name: WEIGHTS * (number - 2) for number, name in enumerate(segments)}

    def bundle(folder: Path) -> AuditedBundle:
        return create_bundle(
            STORE, str(folder), parts_of(LOGISTIC_SPEC, logistic_model(weights[folder.name]), numbers(5), [P])
        )

    models = orders(work, dict.fromkeys(segments, bundle))[1:]
    by = (InputField(name="name", type=ColumnType("string")),)
    contract = work.audited.spec.input
    routed = Routed(columns=tuple(field.name for field in contract.fields), shown=contract.fields)
    order = {"models": models, "combination": Combination(route_by="name"), "chosen_by": by, "routed": routed}
    receipts = work.score(**order, table_rows=50, stamps=("model_version",))
    found = predictions(receipts)
    assert found["id"].to_pylist() == list(range(ROWS))
    assert found["variant"].to_pylist() == table["name"].to_pylist()
    matrix = np.stack([table.column(name).to_numpy() for name in FEATURES], axis=1).astype(np.float32)
    wanted = [1 / (1 + np.exp(-(matrix[row] @ weights[segments[row % 5]])[0])) for row in range(ROWS)]
    check(found["p"], np.array(wanted))
    assert settle(work.splits, receipts).scored.rows == ROWS
    assert {name: tally.rows for name, tally in receipts[0].by_model.items()} == dict.fromkeys(segments, 50)
    resident = scoring.scorer._resident
    # The first one stays, for the form of the output; each of four batches of the reader has rows of the other four.
    assert len(resident._kept) == (2 if room == "1" else 5)
    assert resident.loads == (1 + 4 * 4 if room == "1" else 5)
