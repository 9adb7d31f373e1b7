"""Each night a job run of EMR Serverless: the one of conf/emr/serverless-job.json, named for its date.

A task that is tried again starts another job run with the same run id, which goes on where the first one stopped, or
finds that it is published. A run that was refused (exit code 2) or held back (4) ends the same when it is tried again.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.amazon.aws.operators.emr import EmrServerlessStartJobOperator
from airflow.sdk import DAG

APPLICATION = "APPLICATION"
ROLE = "arn:aws:iam::ACCOUNT:role/ROLE"
STAGE = "s3://BUCKET/batchscore"
CODE = f"{STAGE}/code-DIGEST.zip"
ENVIRONMENT = f"{STAGE}/environment-DIGEST.tar.gz"
RELEASE = f"{STAGE}/release"

RUN = "nightly-{{ ds }}"  # as spark-submit.sh --logical-date names it
PYTHON = "./environment/bin/python"
SETTINGS = {
    "spark.executorEnv.PYSPARK_PYTHON": PYTHON,
    "spark.executorEnv.PYTHONSAFEPATH": "1",
    "spark.emr-serverless.driverEnv.PYSPARK_PYTHON": PYTHON,
    "spark.emr-serverless.driverEnv.PYTHONSAFEPATH": "1",
    "spark.emr-serverless.driverEnv.PYSPARK_DRIVER_PYTHON": PYTHON,
    "spark.emr-serverless.executorEnv.PYSPARK_PYTHON": PYTHON,
    "spark.emr-serverless.executorEnv.PYTHONSAFEPATH": "1",
    "spark.emr-serverless.executorEnv.PYSPARK_DRIVER_PYTHON": PYTHON,
    "spark.submit.pyFiles": CODE,
    "spark.files": f"{RELEASE}/nightly.yaml",
    "spark.archives": f"{ENVIRONMENT}#environment",
}

with DAG(
    "batchscore_emr_serverless",
    schedule="0 4 * * *",
    start_date=datetime(2026, 11, 1, tzinfo=UTC),
    # The input is what lies there now, and not what lay there on the date: past nights have nothing of their own.
    catchup=False,
    # Two nights at once would find the same new files, and the later one would be superseded (exit code 4).
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=10)},
):
    EmrServerlessStartJobOperator(
        task_id="score",
        application_id=APPLICATION,
        execution_role_arn=ROLE,
        name=f"batchscore {RUN}",
        job_driver={
            "sparkSubmit": {
                "entryPoint": f"{RELEASE}/main.py",
                "entryPointArguments": ["run", "nightly.yaml", "--run-id", RUN, "--logical-date", "{{ ds }}"],
                "sparkSubmitParameters": " ".join(f"--conf {name}={value}" for name, value in SETTINGS.items()),
            }
        },
        # As long as EMR Serverless lets a job run; the operator's own 25 minutes would cancel it.
        waiter_delay=60,
        waiter_max_attempts=720,
    )
