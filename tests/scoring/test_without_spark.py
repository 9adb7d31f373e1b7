"""The worker runs where there is no Spark and no Java."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from etl.runs.splits import SPLIT
from tests.scoring.workshop import Work, logistic_scores, numbers, predictions

REPOSITORY = Path(__file__).parents[2]

PROGRAM = """
import sys
for name in ("pyspark", "py4j", "jobs.session", "rich", "typer"):
    sys.modules[name] = None
from etl.runs.splits import SPLIT
from scoring.order import Order
from scoring.worker import score_split
order, split = sys.argv[1:]
print(score_split(Order.model_validate_json(order), SPLIT.validate_json(split)).account.scored.rows)
"""


def test_an_order_is_all_that_a_worker_needs(tmp_path: Path) -> None:
    """A process in which pyspark cannot be imported scores a split from its order and split, as JSON, alone."""
    work = Work(tmp_path, numbers(50))
    arguments = [work.make_order().model_dump_json(), SPLIT.dump_json(work.splits[0]).decode()]
    command = [sys.executable, "-W", "error", "-c", PROGRAM, *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True, env={"PATH": ""})
    assert done.stdout == "50\n"
    found = predictions(work.score()).column("p").to_numpy()
    assert abs(found - logistic_scores(work.table)).max() < 1e-6
