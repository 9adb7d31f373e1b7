"""Each night a job on a Dataproc cluster that is there, named for its date.

A task that is tried again submits another job with the same run id, which goes on where the first one stopped, or finds
that it is published. A run that was refused (exit code 2) or held back (4) ends the same when it is tried again.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.google.cloud.operators.dataproc import DataprocSubmitJobOperator
from airflow.sdk import DAG

PROJECT = "PROJECT"
REGION = "REGION"
CLUSTER = "CLUSTER"
STAGE = "gs://BUCKET/batchscore"
CODE = f"{STAGE}/code-DIGEST.zip"
ENVIRONMENT = f"{STAGE}/environment-DIGEST.tar.gz"
RELEASE = f"{STAGE}/release"

RUN = "nightly-{{ ds }}"  # as spark-submit.sh --logical-date names it
PYTHON = "./environment/bin/python"
SETTINGS = {
    "spark.executorEnv.PYSPARK_PYTHON": PYTHON,
    "spark.executorEnv.PYTHONSAFEPATH": "1",
    "spark.yarn.appMasterEnv.PYSPARK_PYTHON": PYTHON,
    "spark.yarn.appMasterEnv.PYTHONSAFEPATH": "1",
    "spark.yarn.appMasterEnv.PYSPARK_DRIVER_PYTHON": PYTHON,
    "spark.yarn.maxAppAttempts": "1",  # Airflow decides on another driver
    # conf/spark/profiles/gpu.conf, and a GPU an executor; the plugin of the image would take all of its memory.
    "spark.executor.resource.gpu.amount": "1",
    "spark.task.resource.gpu.amount": "1",
    "spark.executor.resource.gpu.discoveryScript": "./gpus.sh",
    "spark.plugins": "",
    "spark.python.worker.reuse": "true",
    "spark.task.maxFailures": "4",
    "spark.speculation": "false",
    "spark.executor.cores": "1",
    "spark.task.cpus": "1",
    "spark.executor.memory": "2g",
    "spark.executor.memoryOverhead": "10g",
}

with DAG(
    "batchscore_dataproc",
    schedule="0 4 * * *",
    start_date=datetime(2026, 11, 1, tzinfo=UTC),
    # The input is what lies there now, and not what lay there on the date: past nights have nothing of their own.
    catchup=False,
    # Two nights at once would find the same new files, and the later one would be superseded (exit code 4).
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=10)},
):
    DataprocSubmitJobOperator(
        task_id="score",
        project_id=PROJECT,
        region=REGION,
        job={
            "placement": {"cluster_name": CLUSTER},
            "labels": {"batchscore-run": RUN},
            # A driver that Dataproc started again by itself would be a second one.
            "scheduling": {"max_failures_per_hour": 0},
            "pyspark_job": {
                "main_python_file_uri": f"{RELEASE}/main.py",
                "args": ["run", "nightly.yaml", "--run-id", RUN, "--logical-date", "{{ ds }}"],
                "python_file_uris": [CODE],
                "file_uris": [f"{RELEASE}/nightly.yaml", f"{RELEASE}/gpus.sh"],
                "archive_uris": [f"{ENVIRONMENT}#environment"],
                "properties": SETTINGS,
            },
        },
    )
