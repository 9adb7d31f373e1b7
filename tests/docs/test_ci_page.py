from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_lane_has_a_row():
    """docs/CI.md has a row for each lane that .ci/run runs, in its order, and their minutes add up to less than 60."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    named = " ".join(re.findall(r"^ *targets\+?=\((.*)\)$", script, re.MULTILINE))
    lanes = [quoted or word for quoted, word in re.findall(r'"([^"]+)"|(\S+)', named)]
    page = (ROOT / "docs" / "CI.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `make ([^`]+)` \| ~?([\d.]+) \|", page, re.MULTILINE)
    assert [lane for lane, _ in rows] == [lane for lane in lanes if lane != "env"]
    [total] = map(float, re.findall(r"^\| together \| ~?([\d.]+) \|", page, re.MULTILINE))
    assert abs(total - sum(float(minutes) for _, minutes in rows)) < 1.5
    assert total < 60


def test_every_spark_of_the_page_is_one_that_is_locked():
    """docs/SPARK.md names the very releases that the environments have."""
    page = (ROOT / "docs" / "SPARK.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| (\d\.\d\.\d) \|", page, re.MULTILINE)
    locks = [
        (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8") for name in ("dev", "spark40", "spark35")
    ]
    assert [[release] for release in shown] == [re.findall(r"^pyspark==(\S+)", lock, re.MULTILINE) for lock in locks]
