"""The features of the flights a second time, with pandas and none of our code. What was learned is plain JSON."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

BY_SINE = ("wind_north", "wind_east", "season_sin", "season_cos", "hour_sin", "hour_cos")


class Oracle:
    """What the recipe says, by hand."""

    def __init__(self, etl_json: Path, data: Path) -> None:
        spec = json.loads(etl_json.read_text(encoding="utf-8"))
        self.states: Mapping[str, Any] = {step["id"]: step.get("state") for step in spec["steps"]}
        self.order: list[str] = next(step["in"] for step in spec["steps"] if step["id"] == "features")
        self.weather = pd.read_parquet(data / "weather.parquet")
        self.planes = pd.read_parquet(data / "planes.parquet")

    def features(self, flights: pd.DataFrame) -> dict[str, np.ndarray]:
        """By column name, float64 of shape (rows,) or (rows, width)."""
        flights = flights.reset_index(drop=True).drop(columns="year")
        joined = flights.merge(self.weather, "left", ["origin", "time_hour"]).merge(self.planes, "left", "tailnum")
        assert joined.flight_id.equals(flights.flight_id)
        return {**self._weather(joined), **self._time(joined), **self._route(joined)}

    def matrix(self, flights: pd.DataFrame) -> tuple[np.ndarray, list[str]]:
        """The model's input, and the name of the column that each of its columns belongs to."""
        features = self.features(flights)
        parts = [np.asarray(features[name], dtype=np.float64).reshape(len(flights), -1) for name in self.order]
        names = [name for name, part in zip(self.order, parts, strict=True) for _ in range(part.shape[1])]
        return np.hstack(parts).astype(np.float32), names

    def _weather(self, rows: pd.DataFrame) -> dict[str, Any]:
        wind = self._fill("wind", rows.wind_speed.map(lambda speed: min(max(speed, 0.0), 30.0), na_action="ignore"))
        gust = rows.wind_gust.fillna(0.0)
        angle = rows.wind_dir * (2 * math.pi) / 360
        angle = angle.where(rows.wind_dir != 360, 0.0)
        return {
            "no_weather": rows.temp.isna(),
            "no_pressure": rows.pressure.isna(),
            **{f"{name}_scaled": self._scale(name, self._fill(name, rows[name])) for name in ("temp", "dewp", "humid")},
            "pressure_scaled": self._scale("pressure", self._fill("pressure", rows.pressure)),
            "precip_filled": self._fill("precip", rows.precip),
            "visib_filled": self._fill("visib", rows.visib),
            "wind_scaled": self._scale("wind", wind),
            "gust_filled": gust,
            "gustiness": (gust / wind.where(wind != 0)).fillna(0.0),
            "wind_north": angle.map(math.cos, na_action="ignore").fillna(0.0),
            "wind_east": angle.map(math.sin, na_action="ignore").fillna(0.0),
        }

    def _time(self, rows: pd.DataFrame) -> dict[str, Any]:
        season = (rows.time_hour.dt.dayofyear - 1) * (2 * math.pi) / 365.25
        hour = rows.hour * (2 * math.pi) / 24
        return {
            "season_sin": season.map(math.sin),
            "season_cos": season.map(math.cos),
            "weekday_hot": self._hot("weekday", rows.time_hour.dt.isocalendar().day.astype(str)),
            "hour_sin": hour.map(math.sin),
            "hour_cos": hour.map(math.cos),
            "departure_scaled": self._scale("departure", rows.sched_dep_time),
            "arrival_scaled": self._scale("arrival", rows.sched_arr_time),
        }

    def _route(self, rows: pd.DataFrame) -> dict[str, Any]:
        ids = {dest: number + 3 for number, dest in enumerate(self.states["dest_id"]["vocab"])}
        return {
            "no_year": rows.year.isna(),
            "built_scaled": self._scale("built", self._fill("built", rows.year)),
            "seats_scaled": self._scale("seats", self._fill("seats", rows.seats)),
            "distance_scaled": self._scale("distance", rows.distance),
            "carrier_hot": self._hot("carrier", rows.carrier),
            "origin_hot": self._hot("origin", rows.origin),
            "dest_id": rows.dest.map(lambda dest: ids.get(dest, 2)),
        }

    def _fill(self, name: str, values: pd.Series) -> pd.Series:
        return values.fillna(self.states[f"{name}_filled"]["value"])

    def _scale(self, name: str, values: pd.Series) -> pd.Series:
        state = self.states[f"{name}_scaled"]
        return (values.astype(np.float64) - state["mean"]) / state["std"]

    def _hot(self, name: str, values: pd.Series) -> np.ndarray:
        return np.array([[text == word for word in self.states[f"{name}_hot"]["vocab"]] for text in values])
