# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A first model
#
# From a table to scores on Spark that are the ones of your notebook: fit the preprocessing, train with scikit-learn,
# pack both into a bundle, score a sample as a job would, and see that nothing changed on the way.
#
# Will a flight arrive more than 15 minutes late? The data is that of `make demo`; without it,
# `python examples/flights/prepare.py` writes it. `FIRST_MODEL_DATA` names another folder of it, and `FIRST_MODEL_PLACE`
# the folder in which each execution makes one of its own. You need `pip install 'batchscore[cpu,notebooks,spark]'`, and
# Java 17 for the job at the end.
#
# The text of this notebook is `first_model.py`; `jupytext --sync notebooks/first_model.py` keeps both alike.

# %%
import os
from datetime import UTC, datetime
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import etl
from etl.runs.local import LocalStorage
from jobs.authoring.bundling import verify
from jobs.config.job import read_config
from jobs.request import RunRequest
from jobs.results import open_results
from jobs.run import run
from jobs.session import session_scope
from scoring import score_table
from scoring.bundles.create import BundleParts, create_bundle
from scoring.outputs.columns import OutputColumn

# Paths are relative to the folder of the repository.
os.chdir(next(folder for folder in (Path.cwd(), *Path.cwd().parents) if (folder / "conf").is_dir()))

DATA = Path(os.environ.get("FIRST_MODEL_DATA", "demo/data"))
PLACE = Path(os.environ.get("FIRST_MODEL_PLACE", "demo/first_model")) / f"{datetime.now(UTC):%Y%m%dt%H%M%S}"
TRAIN, TEST, SCORE = ("2013-06", "2013-07", "2013-08"), ("2013-09",), "2013-10"
LATE_MINUTES = 15
SAMPLE = 5_000  # rows that the job scores

# %% [markdown]
# ## The data
#
# Flights, and two tables that are joined to them: the hourly weather, and the planes.


# %%
def flights_of(*months: str) -> pa.Table:
    """All flights of some months, cancelled ones too."""
    return pa.concat_tables([pq.read_table(DATA / "flights" / month / "flights.parquet") for month in months])


references = {name: pq.read_table(DATA / f"{name}.parquet") for name in ("weather", "planes")}
train, test = flights_of(*TRAIN), flights_of(*TEST)
print(f"{train.num_rows:,} flights to learn from, {test.num_rows:,} to test on")
train.slice(0, 3).to_pandas()

# %% [markdown]
# ## Fit the preprocessing
#
# A recipe says how a row becomes numbers; `etl.fit` learns what it needs to know (means, vocabularies, filling values)
# and gives a spec. The workers on Spark run this very spec by this very code, so training and scoring cannot drift
# apart. To write a recipe of your own, see `docs/ETL.md`.

# %%
recipe = etl.load_spec("examples/flights/recipe.yaml", fitted=False)
spec = etl.fit(recipe, train, references)
made = spec.transform(train, references)
features = made.tensors["features"]
print(f"{features.shape[0]:,} rows of {features.shape[1]} features, {features.dtype}; {len(made.rejections)} rejected")
pd.DataFrame(features[:3], columns=spec.feature_names()["features"]).T.head(8)

# %% [markdown]
# ## Train
#
# On what the spec makes, and on nothing else. A flight that never arrived has no label and is left out; the spec has
# learned from it all the same, since nobody knows before departure which ones they will be.


# %%
def labelled(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels of the flights that arrived."""
    made = spec.transform(table, references)
    delay = table["arr_delay"].take(pa.array(made.rows)).to_pandas()
    arrived = delay.notna().to_numpy()
    return made.tensors["features"][arrived], (delay[arrived] > LATE_MINUTES).to_numpy()


model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=200))
model.fit(*labelled(train))
seen, late = labelled(test)
p_test = model.predict_proba(seen)[:, 1]
auc = roc_auc_score(late, p_test)
print(f"AUC on {', '.join(TEST)}: {auc:.3f}, on {len(late):,} flights of which {late.mean():.1%} were late")

# %%
counts, edges = np.histogram(p_test, bins=30, range=(0, p_test.max()))
late_counts, _ = np.histogram(p_test[late], bins=edges)
shares = pd.DataFrame(
    {"from": edges[:-1], "to": edges[1:], "late": late_counts, "on time": counts - late_counts},
).melt(["from", "to"], var_name="arrived", value_name="flights")

alt.Chart(shares, title="Scores of the test month", width=520, height=200).mark_bar().encode(
    x=alt.X("from:Q", bin="binned", title="predicted probability of being late", axis=alt.Axis(format="%")),
    x2="to:Q",
    y=alt.Y("flights:Q", title="flights"),
    color=alt.Color("arrived:N", scale=alt.Scale(domain=["on time", "late"], range=["#56b4e9", "#d55e00"])),
    tooltip=["from", "to", "arrived", "flights"],
)

# %% [markdown]
# ## Make a bundle
#
# The model as ONNX, the spec, and golden rows: raw rows with what the spec and the model make of them here. Every
# machine that scores replays them first, and refuses to score where it gets something else. Personal data (the tail
# numbers) does not go in.
#
# The input of the model has the name that the spec gives its tensor. Of the two probabilities the second is published.

# %%
tensor = FloatTensorType([None, features.shape[1]])
exported = convert_sklearn(
    model, "flights_late", [("features", tensor)], options={"zipmap": False}, target_opset={"": 17, "ai.onnx.ml": 3}
)
golden = train.take(pa.array(np.random.default_rng(0).choice(made.rows, size=64, replace=False)))
weather = references["weather"].join(
    golden.select(["origin", "time_hour"]), ["origin", "time_hour"], join_type="left semi"
)
BUNDLE, JOB = PLACE / "bundle", PLACE / "job.yaml"
parts = BundleParts(
    name="first-flights",
    version="1",
    model=exported.SerializeToString(),
    spec=spec,
    columns=(OutputColumn(column="p_late", tensor="probabilities", apply=[{"element": 1}], type="float32"),),
    golden_rows=golden,
    references={**references, "weather": weather},  # an excerpt will do
    facts={"predicts": f"arrival more than {LATE_MINUTES} minutes late", "test_auc": f"{auc:.4f}"},
)
create_bundle(LocalStorage(), str(BUNDLE.absolute()), parts)

verified = verify(str(BUNDLE), "cpu")
size = sum(file.stat().st_size for file in BUNDLE.rglob("*") if file.is_file())
print(f"{BUNDLE}: {size / 1024:,.0f} KiB, sound")
print(f"golden rows: features within {verified.deviation.features_ulp} ULP, outputs {verified.deviation.outputs_abs:g}")

# %% [markdown]
# ## Score a table here
#
# `score_table` is the engine of a job, in this process and without Spark. A row that breaks the contract has no score,
# and its reason in `rejected`: the month that we score has two planted ones.

# %%
unseen = flights_of(SCORE)
scored = score_table(unseen, str(BUNDLE), references, passthrough=["flight_id", "carrier"]).to_pandas()
scored[scored["rejected"].notna()]

# %% [markdown]
# ## Score a sample as a job
#
# A job is a file. `limit` scores its first rows into an output of its own, as `batchscore run --limit` does. Spark
# starts here, which takes a while.

# %%
job = {
    "api_version": "batchscore/1",
    "name": "first-flights",
    "input": {"files": str(DATA / "flights" / SCORE)},
    "references": {name: str(DATA / f"{name}.parquet") for name in references},
    "model": {"bundle": str(BUNDLE)},
    "output": {"uri": str(PLACE / "predictions"), "passthrough": ["flight_id", "carrier"]},
    "budgets": {"contract": {"max_rows": 10}},
}
JOB.write_text(yaml.safe_dump(job, sort_keys=False), encoding="utf-8")
with session_scope():
    record = run(RunRequest(config=read_config(str(JOB)), run_id="trial", limit=SAMPLE))
account = record.account
print(
    f"{record.state}: of the first {SAMPLE:,} rows {account.scored.rows:,} were scored and "
    f"{account.quarantined.rows:,} set aside, in {record.seconds:.0f} s"
)

# %% [markdown]
# ## Is it the same model?
#
# What the job published, row by row beside scikit-learn's own `predict_proba` on the spec's tensors. ONNX computes in
# float32 and scikit-learn in float64, so the last digits differ, and nothing else may.

# %%
published = open_results(str(JOB), record.run_id).pandas(["flight_id", "p_late"])
here = spec.transform(unseen, references)
ours = pd.DataFrame(
    {
        "flight_id": here.table["flight_id"].to_pandas(),
        "sklearn": model.predict_proba(here.tensors["features"])[:, 1],
    }
)
pairs = published.merge(ours, on="flight_id", validate="one_to_one")
deviation = np.abs(pairs["p_late"] - pairs["sklearn"])
most = float(deviation.max())
assert len(pairs) == account.scored.rows
assert most < 1e-5, f"the scores differ by up to {most:.2e}"
print(f"{len(pairs):,} rows, largest deviation {most:.1e}, mean {deviation.mean():.1e}")

# %%
size_of = pd.cut(deviation, [-1, 0, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5], labels=["0", "1e-9", "1e-8", "1e-7", "1e-6", "1e-5"])
digits = size_of.value_counts(sort=False).rename_axis("deviation").rename("rows").reset_index()

alt.Chart(digits, title="How far published scores are from scikit-learn's", width=420, height=alt.Step(24)).mark_bar(
    color="#0072b2"
).encode(
    x=alt.X("rows:Q", title="rows"),
    y=alt.Y("deviation:N", sort=None, title="deviation, at most"),
    tooltip=["deviation", "rows"],
)

# %% [markdown]
# ## What next?
#
# Everything is in one folder, and the job is ready to run as a whole:

# %%
print(f"""# all checks, without scoring
batchscore validate {JOB}
# the whole month, on Spark
./spark-submit.sh {JOB}
# what was published
batchscore results {JOB}
# what each step makes of a row
batchscore etl explain {BUNDLE}
# beside the model of `make demo`, row by row
batchscore compare conf/flights.yaml {JOB}#{record.run_id} flights-2013-q4 --key flight_id""")

# %% [markdown]
# With a model of your own, `batchscore init model.onnx data/rows.parquet --out first` writes a job and the beginnings
# of a recipe; `batchscore fit` fits it, and `batchscore bundle create` packs both on the command line. For trees see
# `examples/flights/train.py`: it made the model of `make demo`, and exports its thresholds so that no row changes its
# branch. More about bundles is in `docs/SCORING.md`, about watching runs in `docs/MONITORING.md`.
