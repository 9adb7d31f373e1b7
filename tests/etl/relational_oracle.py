"""What relational steps mean, in plain Python, row by row: it imports nothing of the package."""

from __future__ import annotations

import math
import statistics
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def is_missing(value):
    """Tell whether a value is none or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def sortable(value, *, zeros_differ=False):
    """Return what a value sorts by: missing first, null before NaN, texts by bytes."""
    if value is None:
        return (0,)
    if isinstance(value, float) and math.isnan(value):
        return (1,)
    if isinstance(value, str):
        return (2, value.encode())
    if zeros_differ and value == 0 and isinstance(value, float):
        return (2, value, math.copysign(1, value))
    return (2, value, 0)


def micros(value):
    """Return an instant or day as µs."""
    if isinstance(value, datetime):
        return (value - EPOCH) // timedelta(microseconds=1)
    return (value - date(1970, 1, 1)).days * 86_400_000_000


def in_order(rows, columns, fields):
    """Sort rows by columns, and where they are equal by all fields in order."""
    return sorted(
        rows,
        key=lambda row: (
            [sortable(row[name]) for name in columns],
            [sortable(row[name], zeros_differ=True) for name in fields],
        ),
    )


def aggregate(kind, values):  # noqa: PLR0911  one for each kind
    """Aggregate values, in order, of which some may be missing."""
    there = [value for value in values if not is_missing(value)]
    if kind == "count":
        return len(there)
    if kind == "nunique":
        return len({0.0 if value == 0 else value for value in there})
    if not there:
        return None
    if kind == "last":
        return there[-1]
    if kind in {"min", "max"}:
        ranked = sorted(there, key=lambda value: sortable(value, zeros_differ=True))
        return ranked[0 if kind == "min" else -1]
    if any(isinstance(value, float) and math.isinf(value) for value in there):
        infinite = {value for value in there if isinstance(value, float) and math.isinf(value)}
        return infinite.pop() if len(infinite) == 1 and kind != "std" else None
    if kind == "std":
        return float(statistics.pstdev([Fraction(value) for value in there]))
    total = sum(map(Fraction, there), Fraction(0)) / (len(there) if kind == "mean" else 1)
    try:
        return total.numerator / total.denominator
    except OverflowError:
        return math.inf if total > 0 else -math.inf


def seen_by(row, rows, step, fields):
    """Return the rows that a row is told of by an aggregate or a rolling window, in order."""
    params = step["params"]
    keys = params.get("keys") or params["partition_by"]
    if any(row[key] is None for key in keys):
        return []
    group = [other for other in rows if all(other[key] == row[key] for key in keys)]
    order, window = params.get("order_by", []), params.get("window", {})
    span = window.get("microseconds") or window.get("seconds", 0) * 1_000_000
    event = params.get("point_in_time", {}).get("event_time")
    time = event or (order[0] if span else None)
    if time is not None:
        if row[time] is None:
            return []
        group = [other for other in group if other[time] is not None]
    group = in_order(group, [name for name in (event, *order) if name], fields)
    here = next(place for place, other in enumerate(group) if other is row)
    if event:
        group = [other for other in group if micros(other[event]) < micros(row[event])]
    elif span:
        group = [other for other in group if micros(other[time]) <= micros(row[time])]
    elif "rows" in window or step["op"] == "window_lag":
        group = group[: here + 1]
    if span:
        group = [other for other in group if micros(other[time]) >= micros(row[time]) - span]
    return group[-window["rows"] :] if "rows" in window else group


def made(step, rows, fields):
    """Return the columns that a step makes, as lists in the order of the rows."""
    columns: dict[str, list[Any]] = {name: [] for name in step["out"]}
    for row in rows:
        group = seen_by(row, rows, step, fields)
        for place, (name, out) in enumerate(zip(step["in"], step["out"], strict=True)):
            values = [other[name] for other in group]
            if step["op"] == "window_lag":
                back = step["params"].get("offset", 1) + ("point_in_time" not in step["params"])
                value = values[-back] if len(values) >= back else None
            else:
                value = aggregate(step["params"]["aggregates"][place], values)
            columns[out].append(value)
    return columns


def kept(step, rows, fields):
    """Return the rows that dedupe keeps."""
    params = step["params"]
    event = params.get("point_in_time", {}).get("event_time")
    ranked = in_order(rows, [name for name in (event, *params.get("order_by", [])) if name], fields)
    first: dict[Any, Any] = {}
    for row in ranked if params.get("keep", "first") == "first" else ranked[::-1]:
        key = tuple(row[name] for name in params["keys"])
        if None not in key:
            first.setdefault(key, row)
    chosen = {id(row) for row in first.values()}
    return [row for row in rows if id(row) in chosen or any(row[name] is None for name in params["keys"])]
