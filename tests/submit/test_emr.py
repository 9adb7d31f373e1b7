"""What is told to EMR is of the form that AWS's own models of its services have."""

from __future__ import annotations

import itertools
import json
import shlex

import botocore.session
import pytest
import yaml
from botocore.validate import ParamValidator
from typer.testing import CliRunner

from jobs.cli import app
from tests.submit.conftest import ROOT


def problems(service, operation, told):
    """What botocore finds wrong with the input of an operation."""
    model = botocore.session.get_session().get_service_model(service).operation_model(operation)
    unknown = sorted(set(told) - set(model.input_shape.members))
    report = ParamValidator().validate(told, model.input_shape)
    return [*unknown, *([report.generate_report()] if report.has_errors() else [])]


@pytest.fixture
def job(tmp_path):
    """A job of which all lies in a store."""
    path = tmp_path / "nightly.yaml"
    places = {"input": {"files": "s3://b/in"}, "model": {"bundle": "s3://b/m"}, "output": {"uri": "s3://b/out"}}
    path.write_text(yaml.safe_dump({"api_version": "batchscore/1", "name": "nightly", **places}), encoding="utf-8")
    return path


def options_of(job, *words):
    """Option → value of the command that is printed for people."""
    places = {
        "stage": "s3://b/stage",
        "cluster": "j-1",
        "application": "a1",
        "role": "arn:aws:iam::123456789012:role/s",
    }
    given = [word for name, value in places.items() for word in ("--place", f"{name}={value}")]
    paths = ["--home", str(ROOT), "--code", f"code-{'0' * 64}.zip", "--run-id", "r", "--show", "words"]
    done = CliRunner().invoke(app, ["submit", str(job), *paths, *given, *words])
    assert done.exit_code == 0, done.output
    return dict(itertools.pairwise(done.stdout.split("\0")))


@pytest.mark.parametrize(
    ("file", "service", "operation"),
    [
        ("cluster-gpu.json", "emr", "RunJobFlow"),
        ("serverless-application.json", "emr-serverless", "CreateApplication"),
    ],
)
def test_a_document_of_conf_is_what_its_operation_takes(file, service, operation):
    """Each key is known, each value of its type, and nothing that is needed is missing but the client's token."""
    told = json.loads((ROOT / "conf" / "emr" / file).read_text(encoding="utf-8"))
    token = {"clientToken": "t" * 32} if operation == "CreateApplication" else {}
    assert problems(service, operation, {**told, **token}) == []


def test_a_wrong_document_is_found_out():
    """The oracle tells an unknown key, a wrong type, and what is missing."""
    assert problems("emr", "RunJobFlow", {"Name": "x", "Instances": {}, "Nonsense": 1}) != []
    assert problems("emr", "RunJobFlow", {"Name": 1, "Instances": {}}) != []
    assert problems("emr", "RunJobFlow", {}) != []


def test_a_step_is_one_of_emr(job):
    """As aws hands it on: its own shorthand names the jar's words beside the step's."""
    [step] = json.loads(options_of(job, "--target", "emr")["--steps"])
    assert step.pop("Type") == "CUSTOM_JAR"
    jar = {key: step.pop(key) for key in ("Jar", "Args")}
    told = {"JobFlowId": "j-1", "Steps": [{**step, "HadoopJarStep": jar}]}
    assert problems("emr", "AddJobFlowSteps", told) == []


def test_a_run_is_one_of_emr_serverless(job):
    """Driver, role and name are of the operation's form, and its parameters are words of a shell."""
    found = options_of(job, "--target", "emr-serverless")
    driver = json.loads(found["--job-driver"])
    assert shlex.split(driver["sparkSubmit"]["sparkSubmitParameters"])
    told = {
        "applicationId": found["--application-id"],
        "executionRoleArn": found["--execution-role-arn"],
        "name": found["--name"],
        "jobDriver": driver,
        "clientToken": "t" * 32,
    }
    assert problems("emr-serverless", "StartJobRun", told) == []
