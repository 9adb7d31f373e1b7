"""Make small data for the example specs: the same bytes each time, with holes, odd values and a few broken rows.

    python examples/specs/data.py FOLDER

writes FOLDER/credit.parquet, FOLDER/merchant_region.parquet and FOLDER/tickets.parquet.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 5_000
ROW_GROUP = 1_000
_PHRASE = """the a my your invoice order refund password login error page late parcel broken charger screen please help
thanks twice charged wrong address never arrived app crashes update reset account cannot open file attached see below"""
WORDS = _PHRASE.split()


def credit(rng: np.random.Generator) -> tuple[pa.Table, pa.Table]:
    """Applications, and the risk of the merchants' regions."""
    income = np.exp(rng.normal(10.7, 0.8, ROWS)).round(2)
    debt = np.exp(rng.normal(9.0, 1.5, ROWS)).round(2)
    merchants = np.array([f"merchant {number}" for number in range(400)])
    weights = 1 / np.arange(1, merchants.size + 1)
    opened = rng.integers(1_200_000_000, 1_700_000_000, ROWS) * 1_000_000
    ages = rng.integers(18, 90, ROWS)
    ages[::997] = 7
    applications = pa.table(
        {
            "app_id": pa.array(np.arange(ROWS)),
            "income": pa.array(income, mask=rng.random(ROWS) < 0.06),
            "debt": pa.array(np.where(rng.random(ROWS) < 0.001, -1.0, debt), mask=rng.random(ROWS) < 0.02),
            "age": pa.array(ages, pa.int32()),
            "grade": pa.array(rng.choice(["A", "B", "C", "D", " A", "B "], ROWS), mask=rng.random(ROWS) < 0.01),
            "merchant": pa.array(rng.choice(merchants, ROWS, p=weights / weights.sum()), mask=rng.random(ROWS) < 0.01),
            "opened_at": pa.array(opened, pa.timestamp("us", "UTC")),
            "scored_at": pa.array(np.full(ROWS, 1_704_067_200_000_000), pa.timestamp("us", "UTC")),
        }
    )
    known = merchants[:300]
    return applications, pa.table({"merchant": known, "region_risk": rng.random(known.size).round(3)})


def tickets(rng: np.random.Generator) -> pa.Table:
    """Tickets of few words and of many, some of them empty."""
    weights = 1 / np.arange(1, len(WORDS) + 1)
    weights /= weights.sum()

    def text(most: int) -> str:
        words = rng.choice(WORDS, rng.integers(0, most), p=weights)
        return " ".join(
            word.upper() if upper else word for word, upper in zip(words, rng.random(words.size) < 0.1, strict=True)
        )

    bodies = [f"{text(180)} {rng.integers(0, 10_000)}! naïve café №5" for _ in range(ROWS)]
    return pa.table(
        {
            "ticket_id": pa.array(np.arange(ROWS)),
            "subject": pa.array([text(8) for _ in range(ROWS)], mask=rng.random(ROWS) < 0.02),
            "body": pa.array(bodies, mask=rng.random(ROWS) < 0.01),
        }
    )


def main(folder: Path) -> None:
    """Write the three files."""
    rng = np.random.default_rng(20_240_202)
    applications, regions = credit(rng)
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in (("credit", applications), ("merchant_region", regions), ("tickets", tickets(rng))):
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=ROW_GROUP)


if __name__ == "__main__":
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("folder", type=Path, help="where the three files go")
    main(asked.parse_args().folder)
