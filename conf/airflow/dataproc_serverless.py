"""Each night a batch of Dataproc Serverless, named for its date.

A task that is tried again creates another batch with the same run id, which goes on where the first one stopped, or
finds that it is published. A run that was refused (exit code 2) or held back (4) ends the same when it is tried again.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.google.cloud.operators.dataproc import DataprocCreateBatchOperator
from airflow.sdk import DAG

PROJECT = "PROJECT"
REGION = "REGION"
ACCOUNT = "ACCOUNT"
STAGE = "gs://BUCKET/batchscore"
CODE = f"{STAGE}/code-DIGEST.zip"
ENVIRONMENT = f"{STAGE}/environment-DIGEST.tar.gz"
RELEASE = f"{STAGE}/release"

RUN = "nightly-{{ ds }}"  # as spark-submit.sh --logical-date names it
PYTHON = "./environment/bin/python"
SETTINGS = {
    "spark.executorEnv.PYSPARK_PYTHON": PYTHON,
    "spark.executorEnv.PYTHONSAFEPATH": "1",
    "spark.dataproc.driverEnv.PYSPARK_PYTHON": PYTHON,
    "spark.dataproc.driverEnv.PYTHONSAFEPATH": "1",
    "spark.dataproc.driverEnv.PYSPARK_DRIVER_PYTHON": PYTHON,
    # Those of conf/spark/profiles/cpu.conf.
    "spark.python.worker.reuse": "true",
    "spark.task.maxFailures": "4",
    "spark.speculation": "false",
}

with DAG(
    "batchscore_dataproc_serverless",
    schedule="0 4 * * *",
    start_date=datetime(2026, 11, 1, tzinfo=UTC),
    # The input is what lies there now, and not what lay there on the date: past nights have nothing of their own.
    catchup=False,
    # Two nights at once would find the same new files, and the later one would be superseded (exit code 4).
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=10)},
):
    DataprocCreateBatchOperator(
        task_id="score",
        project_id=PROJECT,
        region=REGION,
        # A batch's name is used once and for all, a run id is not: each try gets a name of its own.
        batch_id_prefix=RUN,
        batch={
            "labels": {"batchscore-run": RUN},
            "pyspark_batch": {
                "main_python_file_uri": f"{RELEASE}/main.py",
                "args": ["run", "nightly.yaml", "--run-id", RUN, "--logical-date", "{{ ds }}"],
                "python_file_uris": [CODE],
                "file_uris": [f"{RELEASE}/nightly.yaml"],
                "archive_uris": [f"{ENVIRONMENT}#environment"],
            },
            "runtime_config": {"properties": SETTINGS},
            "environment_config": {"execution_config": {"service_account": ACCOUNT}},
        },
    )
