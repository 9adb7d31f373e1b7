"""The DAGs of conf/airflow, by a real Airflow: they load, and ask for what spark-submit.sh asks for."""

from __future__ import annotations

import json
from datetime import timedelta
from types import SimpleNamespace
from unittest.mock import Mock

import botocore.session
import pytest
import yaml
from airflow.dag_processing.dagbag import DagBag
from airflow.exceptions import AirflowException
from airflow.providers.amazon.aws.hooks.emr import EmrHook
from airflow.providers.amazon.aws.operators.emr import EmrAddStepsOperator, EmrServerlessStartJobOperator
from airflow.providers.google.cloud.operators.dataproc import DataprocCreateBatchOperator, DataprocSubmitJobOperator
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import TimeRestriction
from botocore.validate import ParamValidator
from google.cloud.dataproc_v1 import Batch, Cluster, Job
from google.protobuf.json_format import ParseError

from tests.deploy.dry_run import DATE, ENVIRONMENT, ROOT, RUN, STAGE, after, words_of

FOLDER = ROOT / "conf" / "airflow"
ON_S3 = ["conf/nightly.yaml", "--logical-date", DATE, "--stage", STAGE, "--environment", ENVIRONMENT]
ON_GS = [word.replace("s3://", "gs://").replace("conf/", "conf/dataproc/") for word in ON_S3]
GPU = ["--gpus", "1", "--profile", "gpu"]


@pytest.fixture(scope="session")
def bag():
    """All DAGs of the folder."""
    return DagBag(str(FOLDER))


def rendered(bag, name):
    """The one task of a DAG, its templates filled in as on the date."""
    [task] = bag.dags[name].tasks
    task.render_template_fields({"ds": DATE, "dag": task.dag, "task": task})
    return task


def test_all_dags_load(bag):
    """Airflow finds no error, one DAG a file, and in each one task of the operator that the platform has."""
    assert bag.import_errors == {}
    found = {name: {task.task_id: type(task) for task in dag.tasks} for name, dag in bag.dags.items()}
    assert found == {
        "batchscore_emr": {"score": EmrAddStepsOperator},
        "batchscore_emr_serverless": {"score": EmrServerlessStartJobOperator},
        "batchscore_dataproc": {"score": DataprocSubmitJobOperator},
        "batchscore_dataproc_serverless": {"score": DataprocCreateBatchOperator},
    }


def test_a_broken_dag_is_found_out(tmp_path):
    """The oracle tells an argument that an operator does not have."""
    text = (FOLDER / "emr.py").read_text(encoding="utf-8").replace("waiter_delay", "waiter_pause")
    (tmp_path / "emr.py").write_text(text, encoding="utf-8")
    broken = DagBag(str(tmp_path))
    assert "waiter_pause" in "".join(broken.import_errors.values())


def test_one_run_at_a_time_and_no_nights_of_the_past(bag):
    """Nothing is made up for, no two runs at once, and tries follow each other in the same run."""
    for dag in bag.dags.values():
        assert (dag.catchup, dag.max_active_runs) == (False, 1)
        assert [task.retries for task in dag.tasks] == [2]


def test_the_date_is_that_of_the_night_itself(bag):
    """By the schedule as Airflow's scheduler reads it: what starts at four of a morning has that day's date."""
    for dag in bag.dags.values():
        timetable = DagSerialization.from_dict(DagSerialization.to_dict(dag)).timetable
        asked = TimeRestriction(earliest=dag.start_date, latest=None, catchup=True)
        first = timetable.next_dagrun_info(last_automated_data_interval=None, restriction=asked)
        assert first.run_after == first.logical_date == dag.start_date + timedelta(hours=4)


def test_a_step_of_emr_is_the_one_that_is_submitted(bag):
    """Word by word, and of the form that AWS's own model has."""
    task = rendered(bag, "batchscore_emr")
    words = words_of(*ON_S3, "--target", "emr", "--cluster", "j-CLUSTER", *GPU)
    [told] = json.loads(after(words, "--steps"))
    assert told.pop("Type") == "CUSTOM_JAR"
    jar = {"Jar": told.pop("Jar"), "Args": told.pop("Args")}
    assert task.steps == [{**told, "HadoopJarStep": jar}]
    assert task.job_flow_id == after(words, "--cluster-id")
    assert problems("emr", "AddJobFlowSteps", {"JobFlowId": task.job_flow_id, "Steps": task.steps}) == ""
    assert task.wait_for_completion
    assert task.waiter_delay * task.waiter_max_attempts == 24 * 3600


class Service:
    """EMR as botocore checks it: each step that is added ends in the state that is next."""

    def __init__(self, *states):
        """A client whose requests and answers are held against the model of the service."""
        self.states = list(states)
        self.steps = []
        keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
        self.client = botocore.session.get_session().create_client("emr", region_name="eu-west-1", **keys)
        self.client.meta.events.register("before-call.emr", self.answer)

    def answer(self, model, params, **_):
        """In the place of the network."""
        told = json.loads(params["body"])
        if model.name == "AddJobFlowSteps":
            self.steps.append(told["Steps"])
            found = {"StepIds": [f"s-{len(self.steps)}"]}
        elif model.name == "DescribeStep":
            found = {"Step": {"Id": told["StepId"], "Status": {"State": self.states[int(told["StepId"][2:]) - 1]}}}
        else:
            found = {"Cluster": {"Id": told["ClusterId"], "Name": "batchscore"}}
        return SimpleNamespace(status_code=200), {**found, "ResponseMetadata": {"HTTPStatusCode": 200}}


def test_a_try_again_adds_another_step_of_the_same_run(bag, monkeypatch):
    """The operator, against a stand-in of EMR whose first step fails: it fails, too, and tried again adds the same."""
    service = Service("FAILED", "COMPLETED")
    monkeypatch.setattr(EmrHook, "get_conn", lambda _: service.client)
    monkeypatch.setattr(EmrHook, "conn", service.client)
    monkeypatch.setattr(EmrHook, "conn_region_name", "eu-west-1")
    monkeypatch.setattr(EmrHook, "conn_partition", "aws")
    task = rendered(bag, "batchscore_emr")
    context = {"ti": Mock(), "task_instance": Mock()}
    with pytest.raises(AirflowException, match="EMR Steps failed"):
        task.execute(context)
    assert task.execute(context) == ["s-2"]
    first, second = service.steps
    assert first == second == task.steps


def test_a_run_of_emr_serverless_is_the_one_that_is_submitted(bag):
    """Word by word, and of the form that AWS's own model has; it is waited for as long as a job may take."""
    task = rendered(bag, "batchscore_emr_serverless")
    place = ["--application", task.application_id, "--role", task.execution_role_arn]
    words = words_of(*ON_S3, "--target", "emr-serverless", *place)
    assert task.job_driver == json.loads(after(words, "--job-driver"))
    assert task.name == after(words, "--name")
    told = {
        "applicationId": task.application_id,
        "executionRoleArn": task.execution_role_arn,
        "clientToken": task.client_request_token,
        "name": task.name,
        "jobDriver": task.job_driver,
    }
    assert problems("emr-serverless", "StartJobRun", told) == ""
    assert task.wait_for_completion
    assert task.waiter_delay * task.waiter_max_attempts == 12 * 3600


def problems(service, operation, told):
    """What botocore finds wrong with the input of an operation."""
    model = botocore.session.get_session().get_service_model(service).operation_model(operation)
    assert set(told) <= set(model.input_shape.members)
    return ParamValidator().validate(told, model.input_shape).generate_report()


def of_gcloud(words):
    """What a command of gcloud says, as the parts of a job or batch that have the same meaning."""
    split = words.index("--")
    properties = after(words, "--properties").removeprefix("^;^").split(";")
    return {
        "main_python_file_uri": next(word for word in words if word.endswith("main.py")),
        "args": words[split + 1 :],
        "python_file_uris": [after(words, "--py-files")],
        "file_uris": after(words, "--files").split(","),
        "archive_uris": [after(words, "--archives")],
        "properties": dict(one.split("=", 1) for one in properties),
        "labels": dict([after(words, "--labels").split("=")]),
    }


def test_a_job_of_dataproc_is_the_one_that_is_submitted(bag):
    """Part by part, and of the form that Google's own messages have."""
    task = rendered(bag, "batchscore_dataproc")
    words = words_of(*ON_GS, "--target", "dataproc", "--region", "REGION", "--cluster", "CLUSTER", *GPU)
    told = task.job
    assert {**told["pyspark_job"], "labels": told["labels"]} == of_gcloud(words)
    assert told["placement"]["cluster_name"] == after(words, "--cluster")
    assert str(told["scheduling"]["max_failures_per_hour"]) == after(words, "--max-failures-per-hour")
    assert task.region == after(words, "--region")
    assert Job(told).pyspark_job.args == [
        "run",
        "nightly.yaml",
        "--run-id",
        RUN,
        "--logical-date",
        RUN.removeprefix("nightly-"),
    ]


def test_a_batch_of_dataproc_is_the_one_that_is_submitted(bag):
    """Part by part, and of the form that Google's own messages have; each try is a batch of another name."""
    task = rendered(bag, "batchscore_dataproc_serverless")
    words = words_of(
        *ON_GS, "--target", "dataproc-serverless", "--region", "REGION", "--role", "ACCOUNT", "--profile", "cpu"
    )
    told = task.batch
    properties = told["runtime_config"]["properties"]
    assert {**told["pyspark_batch"], "labels": told["labels"], "properties": properties} == of_gcloud(words)
    account = told["environment_config"]["execution_config"]["service_account"]
    assert account == after(words, "--service-account")
    assert Batch(told).pyspark_batch.args == [
        "run",
        "nightly.yaml",
        "--run-id",
        RUN,
        "--logical-date",
        RUN.removeprefix("nightly-"),
    ]
    names = {task._resolve_requested_batch_id() for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith(f"{RUN}-") and len(name) <= 63 for name in names)


def test_the_cluster_of_dataproc_is_a_message_of_google():
    """Each key is known and each value of its type; it ends itself, and has GPUs and what installs their driver."""
    told = yaml.safe_load((ROOT / "conf" / "dataproc" / "cluster-gpu.yaml").read_text(encoding="utf-8"))
    found = Cluster.from_json(json.dumps(told)).config
    assert found.lifecycle_config.idle_delete_ttl.total_seconds() == 900
    assert [one.accelerator_count for one in found.worker_config.accelerators] == [1]
    assert len(found.initialization_actions) == 1
    told["config"]["workerConfig"]["acelerators"] = []
    with pytest.raises(ParseError):
        Cluster.from_json(json.dumps(told))


def test_a_wrong_message_of_google_is_found_out():
    """The oracle tells a key that there is not."""
    with pytest.raises(ValueError, match="Unknown field"):
        Job({"pyspark_job": {"main_python_uri": "x"}})
    with pytest.raises(ValueError, match="Unknown field"):
        Batch({"runtime_config": {"property": {}}})
