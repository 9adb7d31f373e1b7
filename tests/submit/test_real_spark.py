"""One job on the real Spark: whose code runs, in the driver and in a worker, and what the terminal shows."""

from __future__ import annotations

import json
import sys

CLI = """
import json, os, sys

def here():
    import scoring
    return {"code": scoring.CODE, "file": scoring.__file__, "path": sys.path, "safe": os.environ["PYTHONSAFEPATH"],
            "python": sys.executable}

def score(batches):
    import pyarrow as pa
    for batch in batches:
        yield pa.record_batch({"place": [json.dumps(here())]})

def main():
    from pyspark.sql import SparkSession

    session = SparkSession.builder.config("spark.ui.enabled", "false").getOrCreate()
    [row] = session.range(1, numPartitions=1).mapInArrow(score, "place string").collect()
    print(json.dumps([sys.argv[1:], here(), json.loads(row.place)]))
    sys.exit(4)
"""


def test_driver_and_worker_run_the_shipped_code(project):
    """Driver and worker import from the zip, though a decoy lies in the working folder; the terminal stays quiet."""
    project.write("scoring/__init__.py", "CODE = 'shipped'\n")
    project.write("jobs/cli.py", CLI)
    decoy = project.cwd / "scoring" / "__init__.py"
    decoy.parent.mkdir()
    decoy.write_text("CODE = 'decoy'\n", encoding="utf-8")
    done = project.submit("a.yaml", "--master", "local[1,4]", "--set", "a=b c", SPARK_HOME=None)
    assert (done.returncode, done.stderr) == (4, "")
    [line] = done.stdout.splitlines()
    arguments, *places = json.loads(line)
    assert arguments == ["run", "a.yaml", "--set", "a=b c"]
    for place in places:
        assert (place["code"], place["safe"], place["python"]) == ("shipped", "1", sys.executable)
        assert ".zip/scoring/" in place["file"]
        assert not {"", str(project.cwd), str(project.root / "jobs")} & set(place["path"])
