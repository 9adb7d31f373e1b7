"""Each night a step on an EMR cluster that is there: the one of conf/emr/step.json, named for its date.

A task that is tried again adds another step with the same run id, which goes on where the first one stopped, or finds
that it is published. A run that was refused (exit code 2) or held back (4) ends the same when it is tried again, after
a look at its receipts; nothing is scored twice.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.amazon.aws.operators.emr import EmrAddStepsOperator
from airflow.sdk import DAG

CLUSTER = "j-CLUSTER"
STAGE = "s3://BUCKET/batchscore"
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
    # conf/spark/profiles/gpu.conf, and a GPU an executor.
    "spark.executor.resource.gpu.amount": "1",
    "spark.task.resource.gpu.amount": "1",
    "spark.executor.resource.gpu.discoveryScript": "./gpus.sh",
    "spark.python.worker.reuse": "true",
    "spark.task.maxFailures": "4",
    "spark.speculation": "false",
    "spark.executor.cores": "1",
    "spark.task.cpus": "1",
    "spark.executor.memory": "2g",
    "spark.executor.memoryOverhead": "10g",
}
ARGUMENTS = [
    *("spark-submit", "--deploy-mode", "cluster", "--name", f"batchscore {RUN}"),
    *("--py-files", CODE, "--archives", f"{ENVIRONMENT}#environment"),
    *("--files", f"{RELEASE}/nightly.yaml,{RELEASE}/gpus.sh"),
    *(word for name, value in SETTINGS.items() for word in ("--conf", f"{name}={value}")),
    *(f"{RELEASE}/main.py", "run", "nightly.yaml", "--run-id", RUN, "--logical-date", "{{ ds }}"),
]

with DAG(
    "batchscore_emr",
    schedule="0 4 * * *",
    start_date=datetime(2026, 11, 1, tzinfo=UTC),
    # The input is what lies there now, and not what lay there on the date: past nights have nothing of their own.
    catchup=False,
    # Two nights at once would find the same new files, and the later one would be superseded (exit code 4).
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=10)},
):
    # It waits itself. A sensor that is tried again would look at the step that failed, and add no other one.
    EmrAddStepsOperator(
        task_id="score",
        job_flow_id=CLUSTER,
        steps=[
            {
                "Name": f"batchscore {RUN}",
                "ActionOnFailure": "CONTINUE",
                "HadoopJarStep": {"Jar": "command-runner.jar", "Args": ARGUMENTS},
            }
        ],
        wait_for_completion=True,
        # A day; the operator's own half an hour would fail, and leave the step running.
        waiter_delay=30,
        waiter_max_attempts=2880,
    )
