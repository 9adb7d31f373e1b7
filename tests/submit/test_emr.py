"""What is told to EMR is of the form that AWS's own models of its services have."""

from __future__ import annotations

import fnmatch
import itertools
import json
import re
import shlex
import subprocess

import botocore.session
import pytest
import yaml
from botocore.validate import ParamValidator
from typer.testing import CliRunner

from jobs.cli import app
from tests.deploy.dry_run import DATE, ENVIRONMENT, STAGE, after, words_of
from tests.submit.conftest import ROOT

NIGHTLY = ["conf/nightly.yaml", "--logical-date", DATE, "--stage", STAGE, "--environment", ENVIRONMENT]


def document(name):
    """A document of conf/emr."""
    return json.loads((ROOT / "conf" / "emr" / name).read_text(encoding="utf-8"))


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
    del places["application" if words[1] == "emr" else "cluster"]
    given = [word for name, value in places.items() for word in ("--place", f"{name}={value}")]
    paths = ["--home", str(ROOT), "--code", f"code-{'0' * 64}.zip", "--run-id", "r", "--show", "words"]
    paths += ["--environment", "s3://b/environment.tar.gz"]
    done = CliRunner().invoke(app, ["submit", str(job), *paths, *given, *words])
    assert done.exit_code == 0, done.output
    return dict(itertools.pairwise(done.stdout.split("\0")))


@pytest.mark.parametrize(
    ("file", "service", "operation"),
    [
        ("cluster-gpu.json", "emr", "RunJobFlow"),
        ("serverless-application.json", "emr-serverless", "CreateApplication"),
        ("serverless-job.json", "emr-serverless", "StartJobRun"),
    ],
)
def test_a_document_of_conf_is_what_its_operation_takes(file, service, operation):
    """Each key is known, each value of its type, and nothing that is needed is missing but the client's token."""
    token = {} if operation == "RunJobFlow" else {"clientToken": "t" * 32}
    assert problems(service, operation, {**document(file), **token}) == []


def test_a_wrong_document_is_found_out():
    """The oracle tells an unknown key, a wrong type, and what is missing."""
    assert problems("emr", "RunJobFlow", {"Name": "x", "Instances": {}, "Nonsense": 1}) != []
    assert problems("emr", "RunJobFlow", {"Name": 1, "Instances": {}}) != []
    assert problems("emr", "RunJobFlow", {}) != []


def as_emr_takes_it(step):
    """As aws hands a step on: its own shorthand names the jar's words beside the step's."""
    assert step.pop("Type") == "CUSTOM_JAR"
    jar = {key: step.pop(key) for key in ("Jar", "Args")}
    return {**step, "HadoopJarStep": jar}


def test_a_step_is_one_of_emr(job):
    """The step of a command, and that of the document."""
    for [step] in (json.loads(options_of(job, "--target", "emr")["--steps"]), document("step.json")):
        assert problems("emr", "AddJobFlowSteps", {"JobFlowId": "j-1", "Steps": [as_emr_takes_it(step)]}) == []


def test_the_documents_of_jobs_are_what_is_submitted():
    """A step and a job run of conf/emr are, word by word, those that spark-submit.sh makes for the same night."""
    gpu = ["--target", "emr", "--cluster", "j-CLUSTER", "--gpus", "1", "--profile", "gpu"]
    assert document("step.json") == json.loads(after(words_of(*NIGHTLY, *gpu), "--steps"))
    run = document("serverless-job.json")
    place = ["--application", run["applicationId"], "--role", run["executionRoleArn"]]
    words = words_of(*NIGHTLY, "--target", "emr-serverless", *place)
    assert run == {
        "applicationId": after(words, "--application-id"),
        "executionRoleArn": after(words, "--execution-role-arn"),
        "name": after(words, "--name"),
        "jobDriver": json.loads(after(words, "--job-driver")),
    }


def test_yarn_looks_for_gpus_where_the_bootstrap_action_mounts_them():
    """One folder in the script, in YARN's configuration and in its executor's; it lies where the action is fetched."""
    cluster = document("cluster-gpu.json")
    found = {one["Classification"]: one for one in cluster["Configurations"]}
    mount = found["yarn-site"]["Properties"]["yarn.nodemanager.linux-container-executor.cgroups.mount-path"]
    groups = {one["Classification"]: one["Properties"] for one in found["container-executor"]["Configurations"]}
    assert groups["cgroups"]["root"] == mount
    [action] = cluster["BootstrapActions"]
    script = ROOT / "conf" / "emr" / action["ScriptBootstrapAction"]["Path"].rpartition("/")[2]
    assert f"cgroupv1-devices {mount}/devices\n" in script.read_text(encoding="utf-8")


def test_the_policy_of_the_stage_covers_what_the_documents_name():
    """Each file that a step, a job run or a node fetches may be read, logs may be written, and nothing else is open."""
    read, write = document("stage-policy.json")["Statement"]
    assert (read["Action"], write["Action"]) == ("s3:GetObject", "s3:PutObject")
    names = ("step.json", "serverless-job.json", "cluster-gpu.json")
    text = "".join((ROOT / "conf" / "emr" / name).read_text(encoding="utf-8") for name in names)
    found = set(re.findall(r"s3://([^\s\",#]+)", text))
    fetched = {f"arn:aws:s3:::{place}" for place in found if not place.endswith("/")}
    assert len(fetched) == 6
    assert all(fnmatch.fnmatchcase(arn, read["Resource"]) for arn in fetched)
    assert {f"arn:aws:s3:::{place}*" for place in found if place.endswith("/")} == {write["Resource"]}


def test_a_bootstrap_action_mounts_the_devices_and_fails_loudly(tmp_path):
    """Its words, by a sudo that writes them down; a mount that fails ends it, so that EMR gives the node up."""
    sudo = tmp_path / "sudo"
    sudo.write_text('#!/bin/sh\necho "$@" >>"$0.log"\n[ "$1" != "$REFUSED" ]\n', encoding="utf-8")
    sudo.chmod(0o755)
    script = ["bash", str(ROOT / "conf" / "emr" / "bootstrap-gpu.sh")]
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    assert subprocess.run(script, check=False, env=environment).returncode == 0
    assert (tmp_path / "sudo.log").read_text(encoding="utf-8").splitlines() == [
        "mkdir -p /spark-rapids-cgroup/devices",
        "mount -t cgroup -o devices cgroupv1-devices /spark-rapids-cgroup/devices",
        "chmod -R a+rwx /spark-rapids-cgroup",
    ]
    assert subprocess.run(script, check=False, env={**environment, "REFUSED": "mount"}).returncode != 0


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
