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
# # Explore scores
#
# What did a run publish, how are its scores distributed, and where do they fail? Opens the newest published run of the
# flights demo (`make demo` makes it), joins the predictions to the very files that were scored, and looks for the
# carriers that the model serves worst, and for what changed since another run.
#
# The place is a config file or an output's URI: `EXPLORE_WHERE`, and `EXPLORE_RUN` and `EXPLORE_BEFORE` name the runs.
#
# The text of this notebook is `explore_scores.py`; `jupytext --sync notebooks/explore_scores.py` keeps both alike.

# %%
import os
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd

from jobs.history.runs import history
from jobs.monitoring.runs import Asked, compare_runs, open_run
from jobs.results import open_results

# Paths of a config are relative to the folder that it is used from.
os.chdir(next(folder for folder in (Path.cwd(), *Path.cwd().parents) if (folder / "conf").is_dir()))

WHERE = os.environ.get("EXPLORE_WHERE", "conf/flights.yaml")
RUN = os.environ.get("EXPLORE_RUN") or None  # a run id; None is the newest
BEFORE = os.environ.get("EXPLORE_BEFORE") or None  # the run to compare it with; None is the one published before it
LATE_MINUTES = 15
FEWEST_FLIGHTS = 50  # of a carrier that is judged
WARN = 0.3  # from this score on a traveller would be warned

# %% [markdown]
# ## The run
#
# `open_results` gives one whole version; `run()` narrows it to one run. What the run is, is in its record.

# %%
results = open_results(WHERE).run(RUN)
record = results.record()
account = record.account

pd.Series(
    {
        "run": record.run_id,
        "state": str(record.state),
        "model": f"{record.model.name}:{record.model.version}" if record.model else "",
        "rows in": f"{account.rows_in.rows:,}",
        "scored": f"{account.scored.rows:,}",
        "set aside": f"{account.quarantined.rows:,}",
        "seconds": f"{record.seconds:.1f}",
    },
    name="the run",
).to_frame()

# %% [markdown]
# ## How are the scores distributed?
#
# Counted here and drawn from forty numbers, so that it looks the same for a thousand rows and for a hundred million.

# %%
scores = results.pandas(columns=["flight_id", "carrier", "p_late"])
counts, edges = np.histogram(scores["p_late"], bins=40, range=(0, 1))
histogram = pd.DataFrame({"from": edges[:-1], "to": edges[1:], "flights": counts})

alt.Chart(histogram, title="Scores", width=620, height=200).mark_bar().encode(
    x=alt.X(
        "from:Q", bin="binned", title="predicted probability of being late", axis=alt.Axis(format="%", tickCount=10)
    ),
    x2="to:Q",
    y=alt.Y("flights:Q", title="flights"),
    tooltip=["from", "to", "flights"],
)

# %% [markdown]
# ## What happened?
#
# `inputs` reads columns of the files that the run pinned, also those that the model never saw, and refuses a file that
# was replaced since. A flight that never arrived has no outcome, and is left out of what follows.

# %%
outcome = results.inputs(["flight_id", "arr_delay"]).to_pandas()
joined = scores.merge(outcome, on="flight_id", how="left", validate="one_to_one")
arrived = joined.dropna(subset=["arr_delay"]).assign(late=lambda table: table["arr_delay"] > LATE_MINUTES)
print(
    f"{len(joined):,} scored, {len(arrived):,} arrived, {arrived['late'].mean():.1%} more than {LATE_MINUTES} min late"
)


# %% [markdown]
# ## Do the probabilities mean what they say?
#
# Flights in ten groups of equal size by score. On the diagonal as many are late as was predicted.

# %%
tenth = pd.qcut(arrived["p_late"].rank(method="first"), 10, labels=False)
reliability = arrived.groupby(tenth).agg(
    predicted=("p_late", "mean"), observed=("late", "mean"), flights=("late", "size")
)
most = float(reliability[["predicted", "observed"]].max().max()) * 1.05
diagonal = alt.Chart(pd.DataFrame({"predicted": [0, most], "observed": [0, most]})).mark_line(
    strokeDash=[4, 4], color="gray"
)
points = alt.Chart(reliability, title="Calibration", width=320, height=320).mark_line(point=True)

diagonal.encode(x="predicted:Q", y="observed:Q") + points.encode(
    x=alt.X("predicted:Q", title="predicted, mean of the group", axis=alt.Axis(format="%")),
    y=alt.Y("observed:Q", title="late in fact", axis=alt.Axis(format="%")),
    tooltip=["predicted", "observed", "flights"],
)

# %% [markdown]
# ## Which carriers does the model serve worst?
#
# Two ways to fail: the probabilities are off (*gap*: predicted minus observed), or they do not tell late flights from
# others (*AUC*: how often a late flight scores above one that is not; 0.5 is chance). A gap is judged against two
# standard errors of the observed share, since a small carrier is off by chance alone.


# %%
def auc(late: pd.Series, score: pd.Series) -> float:
    """Chance that a late flight scores above another; ties count half. By ranks, as Mann and Whitney do."""
    positives = int(late.sum())
    if positives in {0, len(late)}:
        return float("nan")
    ranks = score.rank()[late].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * (len(late) - positives)))


def describe(group: pd.DataFrame) -> pd.Series:
    """How one segment fares."""
    observed, predicted = group["late"].mean(), group["p_late"].mean()
    error = 2 * np.sqrt(max(observed * (1 - observed), 1e-9) / len(group))
    facts = {"flights": len(group), "observed": observed, "predicted": predicted, "gap": predicted - observed}
    return pd.Series({**facts, "error": error, "AUC": auc(group["late"], group["p_late"])})


segments = arrived.groupby("carrier")[["late", "p_late"]].apply(describe).reset_index()
segments = segments[segments["flights"] >= FEWEST_FLIGHTS]
segments["beyond chance"] = segments["gap"].abs() > segments["error"]
segments = segments.sort_values("gap", key=np.abs, ascending=False, ignore_index=True)
segments.style.format(
    {"flights": "{:,.0f}", **dict.fromkeys(["observed", "predicted", "gap", "error"], "{:.1%}"), "AUC": "{:.3f}"}
)

# %%
order = segments["carrier"].tolist()
bars = (
    alt.Chart(segments.assign(low=segments["gap"] - segments["error"], high=segments["gap"] + segments["error"]))
    .properties(title="Predicted minus observed", width=300, height=alt.Step(18))
    .encode(y=alt.Y("carrier:N", sort=order, title=None))
)
gaps = bars.mark_bar().encode(
    x=alt.X("gap:Q", title="gap, with two standard errors", axis=alt.Axis(format="+%")),
    color=alt.Color("beyond chance:N", scale=alt.Scale(domain=[False, True], range=["#b8c4d0", "#c8553d"])),
    tooltip=["carrier", "flights", "observed", "predicted", "gap", "AUC"],
) + bars.mark_rule().encode(x="low:Q", x2="high:Q")
ranking = (
    alt.Chart(segments.dropna(subset=["AUC"]), title="Telling late from not late", width=260, height=alt.Step(18))
    .mark_circle(size=70)
    .encode(
        x=alt.X("AUC:Q", scale=alt.Scale(zero=False), title="AUC"),
        y=alt.Y("carrier:N", sort=order, title=None),
        tooltip=["carrier", "flights", "AUC"],
    )
)
chance = alt.Chart(pd.DataFrame({"AUC": [0.5]})).mark_rule(strokeDash=[4, 4], color="gray").encode(x="AUC:Q")

gaps | (ranking + chance)

# %% [markdown]
# ## What was set aside?
#
# Rows that broke a rule are neither scored nor lost: each is here with its place, its reason and a preview.

# %%
quarantine = results.quarantine().to_pandas()
reasons = quarantine.groupby(["stage", "code"]).size().rename("rows").reset_index()

alt.Chart(reasons, title="Rows set aside", width=300, height=alt.Step(24)).mark_bar().encode(
    x=alt.X("rows:Q", axis=alt.Axis(format="d", tickCount=int(min(5, reasons["rows"].max())) if len(reasons) else 1)),
    y=alt.Y("code:N", sort="-x", title=None),
    color="stage:N",
)

# %%
quarantine[["file", "row", "code", "message"]].assign(file=quarantine["file"].str.rsplit("/", n=1).str[-1]).head(10)

# %% [markdown]
# ## What changed since another run?
#
# The same rows by another model, or the same model after a fix: rows are joined on their key, and a change is this run
# minus the one before. `EXPLORE_BEFORE` names that one: a run id, or `PLACE#RUN` for a run of another config, such as
# the one that `first_model` writes. `batchscore compare` tells the same on the terminal and holds it against limits.

# %%
PUBLISHED = {"SUCCEEDED", "PARTIALLY_SUCCEEDED"}
earlier = [line for line in history(WHERE, record.job) if line.started_at < record.started_at]
before = BEFORE or next((line.run_id for line in earlier if line.state in PUBLISHED), None)
change, sides = None, None
if before is None:
    print(f"{record.run_id} is the first run here. Score again by `./spark-submit.sh {WHERE}`, and start anew.")
else:
    asked = Asked(keys=("flight_id",), columns=("p_late",), threshold=WARN, by=("carrier",))
    comparison = compare_runs(WHERE, (before, record.run_id), asked)
    [change] = comparison.columns
    sides = pd.DataFrame([comparison.before, comparison.now], index=[before, record.run_id])
    if change.shift is not None:
        print(
            f"{change.rows:,} flights have a score in both; it moved by {change.shift.mean:+.4f} in the mean and by "
            f"{change.shift.largest:.4f} at most; {change.flips.rows:,} crossed {WARN:.0%}."
        )
sides

# %% [markdown]
# On the diagonal nothing changed. Counted in squares, so it looks the same for any number of rows.

# %%
squares = None
if change is not None:
    old = open_run(WHERE, before).pandas(["flight_id", "p_late"]).drop_duplicates("flight_id", keep=False)
    new = scores[["flight_id", "p_late"]].drop_duplicates("flight_id", keep=False)
    both = old.merge(new, on="flight_id", suffixes=("_before", "_now")).dropna()
    top = float(both[["p_late_before", "p_late_now"]].max().max())
    squared, edges, _ = np.histogram2d(both["p_late_before"], both["p_late_now"], bins=40, range=[(0, top)] * 2)
    x, y = np.nonzero(squared)
    grid = {"before": edges[x], "before_to": edges[x + 1], "now": edges[y], "now_to": edges[y + 1]}
    share = alt.Axis(format="%", tickCount=5)
    heat = (
        alt.Chart(pd.DataFrame({**grid, "flights": squared[x, y]}), title="Both runs", width=320, height=320)
        .mark_rect()
        .encode(
            x=alt.X("before:Q", bin="binned", title=f"p_late in {before}", axis=share),
            x2="before_to:Q",
            y=alt.Y("now:Q", bin="binned", title=f"p_late in {record.run_id}", axis=share),
            y2="now_to:Q",
            color=alt.Color("flights:Q", scale=alt.Scale(type="log", scheme="viridis"), title="flights"),
            tooltip=["before", "now", "flights"],
        )
    )
    line = (
        alt.Chart(pd.DataFrame({"at": [0, top]})).mark_line(strokeDash=[4, 4], color="gray").encode(x="at:Q", y="at:Q")
    )
    squares = heat + line
squares

# %% [markdown]
# ## For whom did it change?
#
# Mean change by carrier, and the share of its flights that crossed the threshold.

# %%
moved = None
if change is not None:
    moves = pd.DataFrame(
        [
            {"carrier": one.value or "null", "flights": one.rows, "change": one.mean, "crossed": one.flips.share}
            for one in change.segments["carrier"]
            if one.rows >= FEWEST_FLIGHTS
        ]
    )
    by_carrier = alt.Chart(moves, width=260, height=alt.Step(18)).encode(
        y=alt.Y("carrier:N", sort=moves["carrier"].tolist(), title=None),
        tooltip=["carrier", "flights", "change", "crossed"],
    )
    moved = by_carrier.mark_bar(color="#0072b2").encode(
        x=alt.X("change:Q", title="mean change of p_late, points", axis=alt.Axis(format="+.1%", tickCount=5))
    ).properties(title="Change by carrier") | by_carrier.mark_bar(color="#e69f00").encode(
        x=alt.X("crossed:Q", title=f"share that crossed {WARN:.0%}", axis=alt.Axis(format=".1%", tickCount=5))
    ).properties(title="Crossed the threshold")
moved

# %%
change.worst.to_pandas() if change is not None else None
