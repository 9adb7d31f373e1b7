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
# # The history of a job
#
# How long do the runs of a job take, where does the time go, and why was the last one slower? All of it is read from
# the records that runs leave; nothing is scored, and Spark does not start.
#
# `HISTORY_WHERE` is a config file, an output's URI, or a folder of collected records (`metrics.uri`); of several jobs
# `HISTORY_JOB` names one. `HISTORY_RUN` is the run to explain, and `HISTORY_AGAINST` the one to hold it against.
#
# The text of this notebook is `job_history.py`; `jupytext --sync notebooks/job_history.py` keeps both alike.

# %%
import os
from pathlib import Path

import altair as alt
import pandas as pd

from jobs.errors import Refused
from jobs.history.explaining import explain_run, tasks_of
from jobs.history.runs import history
from jobs.monitoring.trend import history_table

# Paths of a config are relative to the folder that it is used from.
os.chdir(next(folder for folder in (Path.cwd(), *Path.cwd().parents) if (folder / "conf").is_dir()))

WHERE = os.environ.get("HISTORY_WHERE", "conf/flights.yaml")
JOB = os.environ.get("HISTORY_JOB") or None  # None is the job of the newest run
RUN = os.environ.get("HISTORY_RUN") or None  # None is the newest that left a record
AGAINST = os.environ.get("HISTORY_AGAINST") or None  # None is the usual one, or where there are too few the one before
LAST = 30  # runs that are shown
SLOWEST = 10  # tasks that are shown
PHASES = ["claim", "list", "plan", "prepare", "freeze", "start_spark", "score", "count", "settle", "publish"]
PHASES += ["load", "read", "transform", "infer", "write"]  # of the workers; a phase that is not named here comes last
# Told apart by people who are colour-blind, too (Okabe and Ito).
COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999"]

# %% [markdown]
# ## The runs
#
# `history_table` is what `batchscore history --export` writes: a line a run, its columns explained by their names.

# %%
newest_first = history(WHERE, JOB)
if not newest_first:
    raise Refused(f"{WHERE}: there is no run here. `make demo` makes one.")
lines = [line for line in reversed(newest_first) if line.job == newest_first[0].job]
runs = history_table(lines[-LAST:]).to_pandas()
runs["set_aside"] = runs["quarantined"] / runs["rows_in"]
done = runs[runs["state"].isin(["SUCCEEDED", "PARTIALLY_SUCCEEDED", "HELD_BACK"])]
order = runs["run_id"].tolist()

told = ["run_id", "state", "started_at", "seconds", "rows_in", "set_aside", "seconds_per_million", "model"]
runs[told].iloc[::-1].style.hide().format(
    {
        "started_at": "{:%Y-%m-%d %H:%M}",
        "seconds": "{:,.1f}",
        "rows_in": "{:,.0f}",
        "set_aside": "{:.3%}",
        "seconds_per_million": "{:,.1f}",
    },
    na_rep="-",
)

# %% [markdown]
# ## Where did the time go?
#
# The wall clock of the driver by phase; the phases add up to the run. `score` is the work of the executors. A cross is
# a run that published nothing.

# %%
by_run = alt.X("run_id:N", scale=alt.Scale(domain=order), title=None, axis=alt.Axis(labelAngle=-45, labelLimit=160))
wide = max(360, 18 * len(runs))
bar = min(40, int(0.8 * wide / len(runs)))  # pixels


def in_order(phases: pd.Series) -> list[str]:
    """Phases, each once, in the order in which a run goes through them."""
    return sorted(phases.unique(), key=lambda name: PHASES.index(name) if name in PHASES else len(PHASES))


def by_phase(table: pd.DataFrame, prefix: str, suffix: str) -> pd.DataFrame:
    """Columns of phases as lines: `run_id`, `phase`, `seconds`, and the phase's `place` in the order."""
    names = [name for name in table.columns if name.startswith(prefix) and name.endswith(suffix)]
    found = table[["run_id", *names]].melt("run_id", var_name="phase", value_name="seconds").dropna()
    found["phase"] = found["phase"].str.removeprefix(prefix).str.removesuffix(suffix)
    return found.assign(place=found["phase"].map({name: at for at, name in enumerate(in_order(found["phase"]))}))


def colours_of(phases: pd.Series) -> alt.Color:
    """A colour for each phase."""
    names = in_order(phases)
    return alt.Color("phase:N", sort=names, scale=alt.Scale(domain=names, range=COLOURS), title="phase")


wall = by_phase(runs, "wall_", "_seconds")
bars = (
    alt.Chart(wall, title="Seconds of the wall clock, by phase", width=wide, height=240)
    .mark_bar(size=bar)
    .encode(
        x=by_run,
        y=alt.Y("seconds:Q", title="seconds"),
        color=colours_of(wall["phase"]),
        order="place:Q",
        tooltip=["run_id:N", "phase:N", alt.Tooltip("seconds:Q", format=",.1f")],
    )
)
failed = runs[~runs["state"].isin(["SUCCEEDED", "PARTIALLY_SUCCEEDED"])].fillna({"seconds": 0})
crosses = (
    alt.Chart(failed[["run_id", "state", "seconds"]])
    .mark_text(text="✕", dy=-8, size=14, color="#d55e00")
    .encode(x=by_run, y="seconds:Q", tooltip=["run_id:N", "state:N"])
)
bars + crosses

# %% [markdown]
# ## Is it slower, or is there more to do?
#
# Seconds for a million rows compare nights of any size. Above by the wall clock, below the workers' seconds by phase,
# which are more, for they work side by side. A dashed line marks the first run of another model or ETL spec. Left out
# are runs of less than 10,000 rows, which would show the start of Spark, and above those that went on from an earlier
# try, whose wall clock tells of a part.

# %%
pace = by_phase(done, "worker_", "_seconds_per_million")
versions = runs[["run_id", "model", "model_sha256", "spec_digest"]].dropna()
other = (versions[["model_sha256", "spec_digest"]] != versions[["model_sha256", "spec_digest"]].shift()).any(axis=1)
changes = versions[other].iloc[1:][["run_id", "model"]]
marks = alt.Chart(changes).mark_rule(strokeDash=[4, 4], color="gray").encode(x=by_run, tooltip=["run_id:N", "model:N"])
tries = done.loc[~done["resumed"].astype(bool), ["run_id", "seconds_per_million"]].dropna()
whole = (
    alt.Chart(tries, title="Seconds for a million rows, by the wall clock")
    .mark_line(point=True)
    .encode(
        color=alt.value(COLOURS[0]),
        x=by_run,
        y=alt.Y("seconds_per_million:Q", title="seconds"),
        tooltip=["run_id:N", alt.Tooltip("seconds_per_million:Q", format=",.1f")],
    )
    .properties(width=wide, height=140)
)
phases = (
    alt.Chart(pace, title="Worker-seconds for a million rows, by phase")
    .mark_line(point=True)
    .encode(
        x=by_run,
        y=alt.Y("seconds:Q", title="worker-seconds"),
        color=colours_of(pace["phase"]),
        tooltip=["run_id:N", "phase:N", alt.Tooltip("seconds:Q", format=",.1f")],
    )
    .properties(width=wide, height=220)
)

((whole + marks) & (phases + marks)).resolve_scale(color="independent")

# %% [markdown]
# ## How many rows, and how many were set aside?

# %%
amount = (
    alt.Chart(done[["run_id", "rows_in"]].dropna(), title="Rows in", width=wide, height=120)
    .mark_bar(size=bar, color=COLOURS[4])
    .encode(x=by_run, y=alt.Y("rows_in:Q", title="rows", axis=alt.Axis(format="~s")), tooltip=["run_id:N", "rows_in:Q"])
)
aside = (
    alt.Chart(done[["run_id", "set_aside", "quarantined"]].dropna(), title="Share of rows set aside")
    .mark_line(point=True)
    .encode(
        color=alt.value(COLOURS[5]),
        x=by_run,
        y=alt.Y("set_aside:Q", title="share of rows in", axis=alt.Axis(format="~%")),
        tooltip=["run_id:N", "quarantined:Q", alt.Tooltip("set_aside:Q", format=".3%")],
    )
    .properties(width=wide, height=120)
)

amount & aside

# %% [markdown]
# ## What did it cost?
#
# Where runs were told what their machines cost.

# %%
costs = None
if "cost" in runs and runs["cost"].notna().any():
    priced = runs[["run_id", "cost", "cost_per_million_rows", "currency"]].dropna(subset=["cost"])
    currency = ", ".join(priced["currency"].dropna().unique())
    base = alt.Chart(priced, width=wide, height=120).encode(
        x=by_run, tooltip=["run_id:N", "cost:Q", "cost_per_million_rows:Q", "currency:N"]
    )
    costs = base.mark_bar(size=bar, color=COLOURS[2]).encode(y=alt.Y("cost:Q", title=currency)).properties(
        title="Cost of a run"
    ) & base.mark_line(point=True).encode(
        color=alt.value(COLOURS[3]), y=alt.Y("cost_per_million_rows:Q", title=currency)
    ).properties(title="Cost of a million rows")
else:
    print("No run here has a price.")
costs

# %% [markdown]
# ## Which tasks were slowest?
#
# A run is scored in splits of its files. The bars are the work of those that took longest, by phase; the tick is how
# long a split took, in which phases overlap and may wait for each other. One that stands out is a file of another kind,
# or a slow machine. The first split of each worker has its `load` of the model, which comes before the split begins.

# %%
record = next((line.record for line in reversed(lines) if line.record and RUN in {None, line.run_id}), None)
if record is None:
    raise Refused(f"{WHERE}: {f'run {RUN} has' if RUN else 'these runs have'} left no record that can be read.")
tasks = tasks_of(WHERE, record).to_pandas()
tasks["took"] = (tasks["ended_at"] - tasks["started_at"]).dt.total_seconds()
tasks["file"] = [", ".join(path.rpartition("/")[2] for path in paths) for paths in tasks["files"]]
slow = tasks.nlargest(SLOWEST, "took")
pieces = pd.DataFrame(
    [
        {"split": task.split, "phase": phase, "seconds": seconds, "file": task.file, "host": task.host}
        for task in slow.itertuples()
        for phase, seconds in task.seconds
    ],
    columns=["split", "phase", "seconds", "file", "host"],
)
pieces["place"] = pieces["phase"].map({name: at for at, name in enumerate(in_order(pieces["phase"]))})

by_split = alt.Y("split:N", sort=slow["split"].tolist(), title="split")
work = (
    alt.Chart(pieces, title=f"Slowest splits of {record.run_id}", width=420, height=alt.Step(20))
    .mark_bar()
    .encode(
        x=alt.X("seconds:Q", title="seconds"),
        y=by_split,
        color=colours_of(pieces["phase"]),
        order="place:Q",
        tooltip=["split:N", "phase:N", alt.Tooltip("seconds:Q", format=",.2f"), "file:N", "host:N"],
    )
)
ends = alt.Chart(slow[["split", "took"]]).mark_tick(color="black", thickness=2)
work + ends.encode(x="took:Q", y=by_split, tooltip=["split:N", alt.Tooltip("took:Q", format=",.2f")])

# %%
slow[["split", "took", "rows_in", "quarantined", "host", "task_try", "file"]].style.hide().format(
    {"took": "{:,.2f} s", "rows_in": "{:,}"}
)

# %% [markdown]
# ## Why did it take longer than usual?
#
# `explain_run` splits the difference into causes that add up to it, as `batchscore explain-duration` does. The usual
# run is the one of the median duration of up to 30 before it.

# %%
before = [line.run_id for line in lines if line.record and line.started_at < record.started_at]
found, why = None, None
try:
    found = explain_run(WHERE, record.run_id, AGAINST or "median")
except Refused as refusal:
    if AGAINST is None and before:
        found = explain_run(WHERE, record.run_id, before[-1])
    else:
        print(refusal)
if found is not None:
    parts = pd.DataFrame([{"cause": part.cause, "change": part.change, "note": part.name} for part in found.parts])
    parts["note"] = parts["note"].map(found.notes).fillna("")
    parts["way"] = parts["change"].gt(0).map({True: "longer", False: "shorter"})
    parts = parts[parts["change"].abs() >= 0.005 * max(abs(found.change), parts["change"].abs().max())]
    print(
        f"{record.run_id} took {record.seconds:,.1f} s, {found.change:+,.1f} s against {found.before.record.run_id} "
        f"({found.before.record.seconds:,.1f} s)"
    )
    why = (
        alt.Chart(parts, title=f"{record.run_id} against {found.before.record.run_id}", width=420, height=alt.Step(22))
        .mark_bar()
        .encode(
            x=alt.X("change:Q", title="seconds longer (+) or shorter (-)", axis=alt.Axis(format="+,~r")),
            y=alt.Y("cause:N", sort=parts["cause"].tolist(), title=None, axis=alt.Axis(labelLimit=220)),
            color=alt.Color(
                "way:N",
                scale=alt.Scale(domain=["longer", "shorter"], range=[COLOURS[5], COLOURS[0]]),
                legend=None,
            ),
            tooltip=["cause:N", alt.Tooltip("change:Q", format="+,.2f"), "note:N"],
        )
    )
why

# %%
parts[["cause", "change", "note"]].style.hide().format({"change": "{:+,.2f} s"}) if found is not None else None
