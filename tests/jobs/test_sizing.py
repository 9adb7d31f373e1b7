"""What a run is said to take and cost is what nights of known rates give by hand, and a deadline is kept by it."""

from __future__ import annotations

import json
import math
import re
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from etl.runs.receipt import RowTally, SplitAccount
from jobs.cli import app
from jobs.commands.options import share_option
from jobs.monitoring.collected import collect
from jobs.monitoring.cost import CostFacts
from jobs.monitoring.limit_settings import Cost
from jobs.monitoring.sizing import Night, Work, night_of_sample, nights_of, size
from jobs.record import RunState, Snapshot
from tests.jobs.nights import night
from tests.jobs.outputs import run_job, write_job
from tests.numbers_job import write_numbers

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

    from jobs.record import RunRecord

GIB = 1 << 30
PRICES = Cost.model_validate(
    {
        "prices": {"driver": 0.5, "executor": 2.0},
        "driver": {"instance": "driver"},
        "executors": {"instance": "executor"},
        "budget": {},
    }
)
CLUSTER = Work(bytes=10 * GIB, splits=400, cores=8, executor_cores=4)


def known(
    number: int = 0, *, rate: float = 1_000.0, fixed: float = 60.0, cores: int = 8, size: int = GIB, **facts: Any
) -> RunRecord:
    """A night of a million rows a GiB, which scored `rate` rows a second and core."""
    rows = size // GIB * 1_000_000
    scoring = rows / (rate * cores)
    return night(
        number,
        rows=rows,
        seconds=fixed + scoring,
        wall_seconds={"plan": fixed, "score": scoring},
        snapshot=Snapshot(files=1, bytes=size, digest="0" * 64),
        cost=CostFacts(driver_hours=1, executor_hours=2, executors=cores // 4, cores=cores),
        **facts,
    )


def test_a_run_takes_what_its_rows_and_cores_say() -> None:
    """Ten times the bytes on the same cores take ten times the scoring, and what is outside of it once."""
    found = size(nights_of([known()]), CLUSTER, prices=PRICES)
    # 10 million rows at 1,000 a second and core, on 8 cores: 1,250 s, and 60 s beside it.
    assert found.rows == 10_000_000
    assert found.rows_per_core_second.median == pytest.approx(1_000)
    assert found.present is not None
    assert found.present.seconds.median == pytest.approx(1_310)
    assert (found.present.cores, found.present.executors) == (8, 2)
    assert found.present.amount is not None
    assert found.present.amount.median == pytest.approx(1_310 / 3600 * (0.5 + 2 * 2.0))


def test_executors_cost_while_they_are_there() -> None:
    """Executors that were not there for 30 of 185 seconds are not there for as long the next time."""
    there = CostFacts(driver_hours=1, executor_hours=2 * 155 / 3600, executors=2, cores=8)
    found = size(nights_of([known().model_copy(update={"cost": there})]), CLUSTER, prices=PRICES)
    assert found.present is not None
    assert found.present.amount is not None
    assert found.present.amount.median == pytest.approx((1_310 * 0.5 + 1_280 * 2 * 2.0) / 3600)


def test_a_deadline_gets_the_fewest_executors_that_keep_it() -> None:
    """10,000 core-seconds in 500 - 60 seconds need 22.7 cores, so six executors of four; five would be too late."""
    found = size(nights_of([known()]), CLUSTER, deadline=500)
    assert found.needed is not None
    assert (found.needed.executors, found.needed.cores) == (6, 24)
    assert found.needed.seconds.high == pytest.approx(60 + 10_000 / 24)
    assert 60 + 10_000 / 20 > 500


def test_a_deadline_that_nothing_keeps_says_why() -> None:
    """What passes outside of scoring is not made less by executors, nor are there more cores than splits to use."""
    fixed = size(nights_of([known()]), CLUSTER, deadline=60)
    assert fixed.needed is None
    assert fixed.problem == "60 s pass outside of scoring, which no executor makes less"
    few = size(nights_of([known()]), CLUSTER._replace(splits=10), deadline=500)
    assert few.needed is None
    # Twelve cores are three whole executors, of which ten have a split.
    assert few.problem is not None
    assert "there are 10 splits" in few.problem
    assert f"{60 + 10_000 / 10:,.0f} s" in few.problem


def test_nights_that_differ_give_a_range() -> None:
    """The range is numpy's quantiles of what each night would have taken, whatever cores it had itself."""
    rates = [800.0, 900.0, 1_000.0, 1_100.0, 1_200.0]
    nights = nights_of([known(n, rate=rate, cores=8 * (n + 1), fixed=10.0 * n) for n, rate in enumerate(rates)])
    found = size(nights, CLUSTER)
    by_hand = [10.0 * n + 10e6 / (rate * 8) for n, rate in enumerate(rates)]
    assert found.present is not None
    told = found.present.seconds
    assert [told.low, told.median, told.high] == pytest.approx(np.quantile(by_hand, [0.1, 0.5, 0.9]).tolist())


@given(
    st.lists(st.tuples(st.floats(50, 5_000), st.floats(0, 600)), min_size=1, max_size=10),
    st.integers(1, 16),
    st.floats(1, 1e5),
)
def test_the_fewest_are_the_fewest(nights: list[tuple[float, float]], each: int, deadline: float) -> None:
    """What is needed keeps the deadline in nine nights of ten, and one executor less would not; or none does."""
    work = CLUSTER._replace(executor_cores=each)
    known_nights = [Night(GIB, 10**6, 4, fixed, 10**6 / (rate * 4)) for rate, fixed in nights]
    found = size(known_nights, work, deadline=deadline)

    def late(executors: int) -> bool:
        seconds = [one.fixed + 10e6 * one.scoring * 4 / 1e6 / min(executors * each, 400) for one in known_nights]
        return bool(np.quantile(seconds, 0.9) > deadline * (1 + 1e-9))

    if found.needed is None:
        assert np.quantile([one.seconds(work, 10**9) for one in known_nights], 0.9) > deadline
        assert found.problem
    else:
        assert found.needed.executors is not None
        assert not late(found.needed.executors)
        assert (
            found.needed.executors == 1
            or late(found.needed.executors - 1)
            or math.isclose(found.needed.seconds.high, deadline, rel_tol=1e-6)
        )


def test_only_whole_nights_count() -> None:
    """A run that failed, went on from another, scored missing keys or does not say on how many cores tells nothing."""
    wrong = [
        known(1, state=RunState.FAILED),
        known(2, splits_scored_now=3),
        known(3).model_copy(update={"cost": None}),
        known(4).model_copy(update={"snapshot": None}),
        known(7, missing_keys="id"),
    ]
    assert nights_of(wrong) == []
    assert len(nights_of([*wrong, known(5), known(6).model_copy(update={"cost": None, "workers": 8})])) == 2
    assert len(nights_of([known(n) for n in range(40)])) == 30


def test_nights_of_the_same_model_are_preferred() -> None:
    """A model that takes longer is not reckoned with nights of the one before, unless there are no others."""
    slow = known(1, rate=100.0)
    assert slow.model is not None
    slow = slow.model_copy(update={"model": slow.model.model_copy(update={"version": "2"})})
    records = [slow, known(0)]
    assert [one.scoring for one in nights_of(records, model="late-flights:2")] == [1e6 / 800]
    assert [one.scoring for one in nights_of(records, model="late-flights:2026-11-01")] == [1e6 / 8_000]
    assert len(nights_of(records, model="late-flights:3")) == 2


def test_a_sample_tells_of_all_rows() -> None:
    """What workers did with a hundredth of the rows is done a hundred times, but reading and loading, done whole."""
    tally = [RowTally.of(count, count) for count in (1_000_000, 10_000, 990_000)]
    account = SplitAccount(rows_in=tally[0], scored=tally[1], filtered=tally[2])
    seconds = {"read": 30.0, "load": 4.0, "transform": 1.0, "infer": 6.0, "write": 1.0}
    sample = known(rate=12_500.0, account=account, worker_seconds=seconds)
    assert sample.wall_seconds["score"] == pytest.approx(10)
    found = night_of_sample(sample)
    assert found is not None
    assert found.scoring == pytest.approx(10 + 99 * 8.0 / 8)
    none = SplitAccount(rows_in=tally[0], filtered=tally[0])
    assert night_of_sample(sample.model_copy(update={"account": none})) is None


def plan(job: Path, *options: str) -> Any:
    """What the command gives."""
    done = CliRunner().invoke(app, ["plan", str(job), *options])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout) if "--json" in options else done.stdout


def test_the_plan_says_what_the_run_will_take(tmp_path: Path, logistic_onnx: Path) -> None:
    """Without history the plan says how to find out; with it the numbers of the nights, and what a deadline needs."""
    write_numbers(tmp_path / "in", files=4, rows=1_000, row_group=1_000)
    sections = {
        "metrics": {"uri": str(tmp_path / "metrics")},
        "spark": {"master": "yarn", "conf": {"spark.executor.instances": 2, "spark.executor.cores": 4}},
        "cost": PRICES.model_dump(mode="json", exclude_none=True),
    }
    job = write_job(tmp_path, logistic_onnx, **sections)
    assert "takes: not known" in plan(job)
    assert plan(job, "--json")["sizing"] is None
    refused = CliRunner().invoke(app, ["plan", str(job), "--deadline", "2h"])
    assert refused.exit_code == 2
    assert "--measure 1%" in refused.output
    for number in range(3):
        collect(str(tmp_path / "metrics"), known(number, job="numbers"))
    read = sum(path.stat().st_size for path in (tmp_path / "in").iterdir())
    scoring = read / GIB * 1e6 / 1_000  # core-seconds
    sizing = plan(job, "--deadline", "60.01", "--json")["sizing"]
    assert sizing["nights"] == 3
    assert sizing["bytes"] == read
    assert sizing["present"]["cores"] == 8
    # There are four splits, and so no use for more cores than that.
    assert sizing["present"]["seconds"]["median"] == pytest.approx(60 + scoring / 4)
    assert sizing["problem"] is not None
    assert sizing["needed"] is None
    shown = plan(job, "--deadline", "2h")
    assert "takes: 1 m 00 s (1 m 00 s to 1 m 00 s) and 0.075" in shown
    assert "for 2 h 00 m: 1 m 00 s" in shown
    assert "on 1 executor, 4 cores" in shown


@given(st.integers(1, 10**9), st.sampled_from(["", "%"]))
def test_a_share_is_the_same_number_in_both_forms(billionths: int, sign: str) -> None:
    """A share as a decimal, or in hundredths with a sign, is the float that is nearest to it, by exact fractions."""
    places = 9 - 2 * len(sign)
    whole, rest = divmod(billionths, 10**places)
    share = share_option(f"{whole}.{rest:0{places}}{sign}")
    assert share == billionths / 10**9 == float(Fraction(billionths, 10**9))


@pytest.mark.parametrize(
    "text", ["0", "0%", "-1%", "1.01", "100.1%", "%", "", "nan", "inf", "1e-400", "x", "1%%", "sNaN"]
)
@pytest.mark.parametrize("words", [("plan", "--measure"), ("plan", "--sample"), ("run", "--sample")])
def test_what_is_no_share_is_refused(tmp_path: Path, words: tuple[str, str], text: str) -> None:
    """Each option that takes a share refuses the same, by its name."""
    command, option = words
    done = CliRunner().invoke(app, [command, str(tmp_path / "job.yaml"), f"{option}={text}"])
    assert done.exit_code == 2
    assert option in done.output
    assert "no share above 0 and at most 1" in " ".join(re.sub("[│╭╮╰╯─]", " ", done.output).split())


def test_a_table_is_sized_by_the_runs_before(tmp_path: Path, logistic_onnx: Path) -> None:
    """Before a run there is no plan of a table; what it takes is that of the runs before, as large as the newest.

    Where no run tells it, the command says how to find out; a deadline is answered, too.
    """
    sections = {
        "input": {"table": "flights.today"},
        "metrics": {"uri": str(tmp_path / "metrics")},
        "spark": {"master": "yarn", "conf": {"spark.executor.instances": 2, "spark.executor.cores": 4}},
    }
    job = write_job(tmp_path, logistic_onnx, **sections)
    shown = plan(job)
    assert "plan: the input is a table or a query: Spark freezes it when a run begins" in shown
    assert "takes: not known: no run of this job" in shown
    assert "drift: " not in shown
    drifting = write_job(tmp_path, logistic_onnx, **sections, drift={"reference": ["previous"], "baseline": "monday"})
    told = "drift: what models publish, and the input fields that they read; against previous, baseline monday\n"
    assert told in plan(drifting)
    assert "drift: " not in plan(drifting, "--sample", "10%")
    drifting = write_job(tmp_path, logistic_onnx, **sections, drift={"columns": ["p", "f0"], "reference": []})
    assert "drift: p, f0; against nothing\n" in plan(drifting)
    write_job(tmp_path, logistic_onnx, **sections)
    unknown = plan(job, "--json")
    assert unknown["sizing"] is None
    assert unknown["no_plan"].startswith("the input is a table")
    assert CliRunner().invoke(app, ["plan", str(job), "--deadline", "2h"]).exit_code == 2
    for number, gibibytes in enumerate((4, 1, 2)):
        record = known(number, job="numbers", size=gibibytes * GIB, splits=16, splits_scored_now=16)
        collect(str(tmp_path / "metrics"), record)
    sizing = plan(job, "--json", "--deadline", "1h")["sizing"]
    assert (sizing["as_large_as"], sizing["bytes"], sizing["rows"]) == ("night-02", 2 * GIB, 2_000_000)
    # Two million rows at 1,000 rows a second and core, on the newest night's 8 cores, beside a minute.
    assert sizing["present"]["seconds"]["median"] == pytest.approx(60 + 2_000_000 / 8_000)
    assert sizing["needed"]["executors"] == 1
    told = plan(job)
    assert "by 3 runs before, which is not much, if the input is as large as that of run night-02" in told


def test_a_resubmission_sizes_no_table(tmp_path: Path, logistic_onnx: Path) -> None:
    """The newest run that scored all of its input is what a table is taken to be like, not one of missing keys."""
    job = write_job(tmp_path, logistic_onnx, input={"sql": "select 1"}, metrics={"uri": str(tmp_path / "metrics")})
    collect(str(tmp_path / "metrics"), known(0, job="numbers", size=2 * GIB))
    collect(str(tmp_path / "metrics"), known(1, job="numbers", size=GIB, missing_keys="id"))
    sizing = plan(job, "--json")["sizing"]
    assert (sizing["nights"], sizing["as_large_as"], sizing["bytes"]) == (1, "night-00", 2 * GIB)


@pytest.mark.parametrize(("option", "value"), [("--deadline", "soon"), ("--deadline", "0")])
def test_an_option_that_is_no_number_is_refused(tmp_path: Path, option: str, value: str) -> None:
    """What is no length of time is refused with the option's name."""
    done = CliRunner().invoke(app, ["plan", str(tmp_path / "job.yaml"), option, value])
    assert done.exit_code == 2
    assert option in done.output


def test_a_trial_measures(spark: SparkSession, tmp_path: Path, logistic_onnx: Path) -> None:
    """A tenth of the rows is scored into an output of its own, and the run is reckoned from it."""
    write_numbers(tmp_path / "in", files=2, rows=5_000, row_group=5_000)
    job = write_job(tmp_path, logistic_onnx)
    sizing = plan(job, "--measure", "10%", "--deadline", "1h", "--json")["sizing"]
    assert sizing["is_sample"]
    assert sizing["rows"] == 10_000
    assert sizing["present"]["cores"] == spark.sparkContext.defaultParallelism
    assert sizing["needed"]["executors"] is None
    assert not list((tmp_path / "out").glob("run_id=*"))
    # A run tells the same of itself later.
    record = run_job(job, "r")
    later = plan(job, "--json")["sizing"]
    assert later["nights"] == 1
    assert later["present"]["seconds"]["median"] == pytest.approx(record.seconds, abs=0.01)
