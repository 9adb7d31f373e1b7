"""What a run may take and cost: lengths of time, deadlines, prices and limits, each against arithmetic by hand."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from jobs.monitoring.cost import Meter, Used, amount_of, cost_facts
from jobs.monitoring.durations import Duration, deadline_after, seconds_of
from jobs.monitoring.limit_settings import Cost, Sla
from jobs.monitoring.limits import Breach, LimitName, Limits, Moment
from jobs.record import RunRecord
from jobs.session import Cluster, counted
from tests.jobs.nights import night

DURATION = TypeAdapter(Duration)
SPAN = (datetime.fromisoformat("2020-01-01"), datetime.fromisoformat("2035-01-01"))
BEGAN = datetime(2026, 11, 26, 1, 0, tzinfo=UTC)
PRICES = {
    "currency": "EUR",
    "prices": {"m5.xlarge": 0.192, "g5.2xlarge": 1.212},
    "driver": {"instance": "m5.xlarge"},
    "executors": {"instance": "g5.2xlarge", "per_instance": 2},
}


@given(st.integers(0, 9), st.integers(0, 99), st.integers(0, 99), st.integers(0, 99))
def test_a_length_of_time_is_the_same_in_all_its_forms(days: int, hours: int, minutes: int, seconds: int) -> None:
    """Days, hours, minutes and seconds give what timedelta makes of them, short or as ISO 8601, whole or in part."""
    exact = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds).total_seconds()
    assert seconds_of(f"{days}d{hours}h{minutes}m{seconds}s") == exact
    assert seconds_of(f"{hours}h{minutes}m") == timedelta(hours=hours, minutes=minutes).total_seconds()
    assert seconds_of(f"P{days}DT{hours}H{minutes}M{seconds}S") == exact
    if exact:
        assert DURATION.validate_python(exact) == exact


@pytest.mark.parametrize("text", ["2", "h", "", "2h30", "-1h", "1h 2d", "two hours", "PT", "02:30", "P1X"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    """Numbers without unit, units in another order, signs and clocks are no length, and the message has examples."""
    with pytest.raises(ValidationError, match="1h30m"):
        DURATION.validate_python(text)


@pytest.mark.parametrize("value", [0, -1, "0s", float("inf"), float("nan"), None, []])
def test_a_length_of_time_is_above_nothing(value: Any) -> None:
    """Nothing, less than nothing and no number at all are refused."""
    with pytest.raises(ValidationError):
        DURATION.validate_python(value)


@pytest.mark.parametrize(
    ("text", "begun", "deadline"),
    [
        # Winter: Berlin is an hour ahead.
        ("06:00 Europe/Berlin", "2026-11-26T01:00+00:00", "2026-11-26T05:00+00:00"),
        ("06:00 Europe/Berlin", "2026-11-26T05:00+00:00", "2026-11-27T05:00+00:00"),
        ("06:00 Europe/Berlin", "2026-11-26T23:30+00:00", "2026-11-27T05:00+00:00"),
        # The night of 2026-03-29 has no 02:30, and 06:00 comes an hour early.
        ("06:00 Europe/Berlin", "2026-03-28T22:00+00:00", "2026-03-29T04:00+00:00"),
        ("02:30 Europe/Berlin", "2026-03-28T23:00+00:00", "2026-03-29T01:30+00:00"),
        # The night of 2026-10-25 has 02:30 twice, and 06:00 comes an hour late.
        ("06:00 Europe/Berlin", "2026-10-24T22:00+00:00", "2026-10-25T05:00+00:00"),
        ("02:30 Europe/Berlin", "2026-10-24T22:00+00:00", "2026-10-25T00:30+00:00"),
        ("02:30 Europe/Berlin", "2026-10-25T00:45+00:00", "2026-10-26T01:30+00:00"),
        ("06:00:30 UTC", "2026-11-26T06:00:29+00:00", "2026-11-26T06:00:30+00:00"),
        ("2026-11-27T06:00:00+01:00", "2026-11-26T01:00+00:00", "2026-11-27T05:00+00:00"),
        ("2026-11-25T06:00:00Z", "2026-11-26T01:00+00:00", "2026-11-25T06:00+00:00"),
    ],
)
def test_a_deadline_is_the_next_one_of_its_clock(text: str, begun: str, deadline: str) -> None:
    """A time of day is told by the clock of its zone, through both changes of the clock; a moment is itself."""
    assert deadline_after(text, datetime.fromisoformat(begun)) == datetime.fromisoformat(deadline)


@given(st.datetimes(*SPAN), st.integers(0, 23), st.integers(0, 59))
def test_a_deadline_lies_ahead_by_a_day_at_most(begun: datetime, hour: int, minute: int) -> None:
    """It is after the beginning, and by no more than a day and the hour of a clock that goes back."""
    at = begun.replace(tzinfo=UTC)
    found = deadline_after(f"{hour:02}:{minute:02} America/New_York", at)
    assert timedelta(0) < found - at <= timedelta(hours=25)


@pytest.mark.parametrize(
    "text", ["06:00", "25:00 UTC", "06:60 UTC", "06:00 Mars/Olympus", "2026-11-27T06:00:00", "soon", "06:00 ../etc"]
)
def test_a_deadline_without_zone_or_sense_is_refused(text: str) -> None:
    """A time whose zone is left out, or that no clock shows, is refused."""
    with pytest.raises(ValidationError):
        Sla(finish_by=text)


def test_an_amount_is_that_of_the_hours() -> None:
    """Driver and executors cost their hours, two executors that share an instance half of one each."""
    prices = Cost.model_validate(PRICES)
    used = Used(driver=3600 * 2, executors=3600 * 7.5, gpus=3600 * 7.5, most_executors=5, most_cores=20)
    by_hand = 2 * 0.192 + 7.5 / 2 * 1.212
    assert amount_of(prices, used) == pytest.approx(by_hand)
    facts = cost_facts(prices, used, earlier=1.5, rows=30_000_000)
    assert facts.amount == pytest.approx(by_hand)
    assert facts.total == pytest.approx(by_hand + 1.5)
    assert facts.per_million_rows == pytest.approx((by_hand + 1.5) / 30)
    assert (facts.driver_hours, facts.executor_hours, facts.gpu_hours) == (2.0, 7.5, 7.5)
    local = Used(driver=1800, executors=1700, most_executors=1, is_local=True)
    assert amount_of(prices, local) == pytest.approx(1.212 / 2), "one machine, for as long as the driver was there"
    assert cost_facts(prices, used, rows=9_999).per_million_rows is None
    assert cost_facts(None, used, rows=30_000_000).amount is None


def test_executors_are_counted_over_time() -> None:
    """Between two looks there were the mean of both; a look that fails leaves what was there."""
    now, seen = [100.0], [Cluster(0, 0)]
    meter = Meter(lambda: now[0])
    meter.count()
    now[0] = 110.0

    def probe() -> Cluster:
        if seen[0].executors > 50:
            message = "the session is gone"
            raise ConnectionError(message)
        return seen[0]

    meter.attach(probe)
    for moment, executors in ((120.0, 4), (150.0, 4), (160.0, 10), (170.0, 99)):
        now[0], seen[0] = moment, Cluster(executors, 2 * executors, gpus=float(executors))
        meter.count()
    used = meter.used()
    assert used.driver == 70
    assert used.executors == 10 * 2 + 30 * 4 + 10 * 7 + 10 * 10
    assert used.gpus == used.executors
    assert used.spark == 60
    assert (used.most_executors, used.most_cores) == (10, 20)


@pytest.mark.parametrize(
    ("master", "conf", "cores", "cluster"),
    [
        ("local[*,4]", {}, 2, Cluster(1, 2, is_local=True)),
        ("local", {"spark.driver.resource.gpu.amount": "2"}, 1, Cluster(1, 1, 2.0, is_local=True)),
        ("local-cluster[3,2,1024]", {}, 6, Cluster(3, 6)),
        ("yarn", {"spark.executor.cores": "4"}, 40, Cluster(10, 40)),
        # While none has registered, Spark tells of two cores.
        ("yarn", {"spark.executor.cores": "4"}, 2, Cluster(0, 2)),
        ("k8s://https://host:443", {}, 7, Cluster(7, 7)),
        ("yarn", {"spark.executor.cores": "8", "spark.executor.resource.gpu.amount": "1"}, 24, Cluster(3, 24, 3.0)),
        ("yarn", {"spark.default.parallelism": "200", "spark.executor.instances": "5"}, 200, Cluster(5, 200)),
        ("spark://host:7077", {"spark.executor.cores": "2"}, 6, Cluster(3, 6)),
        ("spark://host:7077", {}, 6, Cluster(0, 6)),
    ],
)
def test_executors_are_those_that_the_cores_make(
    master: str, conf: dict[str, str], cores: int, cluster: Cluster
) -> None:
    """Cores by those of an executor, with each manager's default; a standalone cluster that does not say has none."""
    assert counted(master, conf, cores) == cluster


def test_records_of_before_are_read() -> None:
    """A record that was written before runs had a cost is read, and has neither cost nor breaches."""
    written = json.loads(night().to_bytes())
    for name in ("cost", "breaches"):
        del written[name]
    read = RunRecord.from_bytes(json.dumps(written).encode(), where="record")
    assert (read.cost, read.breaches) == (None, ())
    assert read == night()


def limits(**sections: Any) -> Limits:
    """Limits of a run that began at BEGAN, and was first claimed then."""
    cost = {**PRICES, "budget": sections["budget"]} if "budget" in sections else None
    sla = Sla.model_validate(sections.get("sla", {}))
    found = Cost.model_validate(cost) if cost is not None else None
    return Limits.of(sla, found, started_at=BEGAN, claimed_at=BEGAN)


def test_a_limit_is_passed_or_expected() -> None:
    """What is over now is passed; what will be at the pace so far is expected, with the number that is expected."""
    held = limits(
        sla={"max_duration": "2h", "finish_by": "04:00 Europe/Berlin"},
        budget={"run": 10.0, "per_million_rows": 0.5},
    )
    # At 01:40 UTC with an hour to go: 100 minutes in all, 3.4 + 0.002 · 3600 of money, for 20 million rows.
    moment = Moment(BEGAN + timedelta(minutes=40), 2400.0, 3600.0, spent=3.4, spending=0.002, rows=20e6)
    found = {one.limit: one for one in held.expected(moment)}
    assert set(found) == {"cost.budget.run", "cost.budget.per_million_rows"}
    assert held.passed(moment) == []
    assert found["cost.budget.run"].value == pytest.approx(10.6)
    assert found["cost.budget.per_million_rows"].value == pytest.approx(10.6 / 20)
    # At 03:05 UTC, which is 04:05 in Berlin, the run is over both of the clock's.
    late = Moment(BEGAN + timedelta(minutes=125), 7500.0, spent=9.0, rows=20e6)
    over = {one.limit: one for one in held.passed(late)}
    assert set(over) == {"sla.max_duration", "sla.finish_by"}
    assert over["sla.finish_by"].allowed == 7200
    assert over["sla.finish_by"].deadline == BEGAN + timedelta(hours=2)
    assert str(over["sla.finish_by"]) == "it was 300 s later than 2026-11-26 03:00:00 UTC (sla.finish_by)"
    assert str(over["sla.max_duration"]) == "it took 7,500 s; sla.max_duration is 7,200 s"


def test_a_few_rows_are_not_held_to_a_price_a_million() -> None:
    """A run of less than 10,000 rows is not: it would be held to Spark's start."""
    held = limits(budget={"per_million_rows": 0.5})
    moment = Moment(BEGAN, 60.0, spent=1.0, rows=9_999)
    assert held.passed(moment) == []
    assert [one.limit for one in held.passed(moment._replace(rows=10_000))] == ["cost.budget.per_million_rows"]


@given(st.floats(0, 1e5), st.floats(0, 1e5), st.floats(1, 1e5))
def test_a_passed_limit_stays_passed(seconds: float, left: float, allowed: float) -> None:
    """What is passed is expected too, and a later moment is over every limit that an earlier one was over."""
    held = limits(sla={"max_duration": allowed})
    now = Moment(BEGAN, seconds, left)
    assert {one.limit for one in held.passed(now)} <= {one.limit for one in held.expected(now)}
    assert bool(held.passed(now)) == (seconds > allowed)
    assert bool(held.expected(now)) == (seconds + left > allowed)


def test_a_price_that_is_missing_is_refused() -> None:
    """An instance type without a price, and a table of prices that is used for nothing, are no cost."""
    with pytest.raises(ValidationError, match=r"`prices` has none of p5\.48xlarge"):
        Cost.model_validate({**PRICES, "driver": {"instance": "p5.48xlarge"}})
    with pytest.raises(ValidationError, match="of `driver`, of `executors`, or of both"):
        Cost.model_validate({"prices": PRICES["prices"]})


@given(
    allowed=st.floats(1e-3, 1e6), over=st.floats(1e-6, 1e6), unit=st.sampled_from(["s", "EUR"]), expected=st.booleans()
)
def test_what_passed_a_limit_does_not_read_as_the_limit(
    allowed: float, over: float, unit: str, *, expected: bool
) -> None:
    """The two numbers of a breach never read the same, and the larger one reads as the larger."""
    limit: LimitName = "sla.max_duration" if unit == "s" else "cost.budget.run"
    at = datetime(2026, 11, 26, tzinfo=UTC)
    told = str(Breach(limit=limit, allowed=allowed, value=allowed + over, unit=unit, at=at, is_projected=expected))
    value, most = (float(number.replace(",", "")) for number in re.findall(r"[\d,.]+(?:e-?\d+)?(?= |$)", told))
    assert value > most


def test_a_second_late_is_told_in_parts() -> None:
    """Both would be rounded to 12 s, 1.00 EUR and no second."""
    at = datetime(2026, 11, 26, 6, tzinfo=UTC)
    facts: dict[str, Any] = {"at": at, "is_projected": False}
    assert str(Breach(limit="sla.max_duration", allowed=12, value=12.3, unit="s", **facts)) == (
        "it took 12.3 s; sla.max_duration is 12.0 s"
    )
    assert str(Breach(limit="cost.budget.run", allowed=1, value=1.004, unit="EUR", **facts)) == (
        "it cost 1.004 EUR; cost.budget.run is 1.000"
    )
    late = Breach(limit="sla.finish_by", allowed=60, value=60.25, unit="s", deadline=at, **facts)
    assert str(late) == "it was 0.2 s later than 2026-11-26 06:00:00 UTC (sla.finish_by)"
