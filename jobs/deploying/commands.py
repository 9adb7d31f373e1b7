"""The command that submits a job, of each target: words for a shell, made without asking anybody."""

from __future__ import annotations

import itertools
import json
import re
import secrets
from typing import TYPE_CHECKING

from jobs.deploying.submission import Target, settings_of, ships_gpu_script

if TYPE_CHECKING:
    from jobs.deploying.submission import Submission

__all__ = ["command_of", "is_digested", "spark_submit", "staged"]


def staged(asked: Submission) -> dict[str, str]:
    """Where what lies on this machine is put for a service: file here → URI. What has a URI already stays there."""
    if not asked.target.is_cloud:
        return {}
    stage = (asked.places.stage or "").rstrip("/")
    here = [
        asked.files.main,
        asked.files.code,
        asked.files.config,
        *([asked.files.gpu_script] if ships_gpu_script(asked) else []),
    ]
    here += [asked.files.environment] if asked.files.environment else []
    folder = f"{stage}/{asked.run_id}"
    return {
        path: f"{stage if is_digested(path) else folder}/{path.rsplit('/', 1)[-1]}"
        for path in here
        if "://" not in path
    }


def is_digested(path: str) -> bool:
    """Whether a file's name says what it holds, so that runs can share it."""
    return re.search(r"-[0-9a-f]{16,64}\.(zip|tar\.gz)$", path) is not None


def command_of(asked: Submission) -> list[str]:
    """The words of the command that submits the job, whose options are those of its target.

    Raises:
        Refused: there is no such profile, or the target has no GPUs.
    """
    return _COMMANDS.get(asked.target, _on_spark)(asked)


def _on_spark(asked: Submission) -> list[str]:
    return spark_submit(asked, asked.driver.master or "yarn")


def spark_submit(asked: Submission, master: str | None) -> list[str]:
    """`spark-submit …` of a job; without a master, where the service says it."""
    at = staged(asked)

    def place(path: str) -> str:
        return at.get(path, path)

    files = [
        *([asked.files.config] if asked.is_remote else []),
        *([asked.files.gpu_script] if ships_gpu_script(asked) else []),
    ]
    words = ["spark-submit", *(["--master", master] if master else []), "--deploy-mode", asked.driver.deploy_mode]
    words += ["--name", asked.name, "--py-files", place(asked.files.code)]
    words += ["--archives", f"{place(asked.files.environment)}#environment"] if asked.files.environment else []
    words += ["--files", ",".join(map(place, files))] if files else []
    for setting in settings_of(asked):
        words += ["--conf", setting]
    return [*words, place(asked.files.main), *asked.job]


def _on_emr(asked: Submission) -> list[str]:
    step = {
        "Type": "CUSTOM_JAR",
        "Name": asked.name,
        # A failed job must not end the cluster, which others may use.
        "ActionOnFailure": "CONTINUE",
        "Jar": "command-runner.jar",
        "Args": spark_submit(asked, None),
    }
    words = ["aws", "emr", "add-steps", "--cluster-id", str(asked.places.cluster), "--steps", json.dumps([step])]
    words += ["--execution-role-arn", asked.places.role] if asked.places.role else []
    return [*words, *_region(asked), "--query", "StepIds[0]", "--output", "text"]


def _on_emr_serverless(asked: Submission) -> list[str]:
    at = staged(asked)
    settings = [
        *settings_of(asked),
        f"spark.submit.pyFiles={at[asked.files.code]}",
        f"spark.files={at[asked.files.config]}",
    ]
    if asked.files.environment:
        settings.append(f"spark.archives={at.get(asked.files.environment, asked.files.environment)}#environment")
    driver = {
        "sparkSubmit": {
            "entryPoint": at[asked.files.main],
            "entryPointArguments": list(asked.job),
            "sparkSubmitParameters": " ".join(f"--conf {_quoted(setting)}" for setting in settings),
        }
    }
    words = ["aws", "emr-serverless", "start-job-run", "--application-id", str(asked.places.application)]
    words += ["--execution-role-arn", str(asked.places.role), "--name", asked.name, "--job-driver", json.dumps(driver)]
    return [*words, *_region(asked), "--query", "jobRunId", "--output", "text"]


def _quoted(setting: str) -> str:
    """A word of `sparkSubmitParameters`, which is split at spaces and loses its quotes, as a shell's."""
    if re.search(r"[\s\"'\\]", setting):
        return '"' + setting.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return setting


def _region(asked: Submission) -> list[str]:
    return ["--region", asked.places.region] if asked.places.region else []


def _gcloud(asked: Submission, kind: list[str]) -> list[str]:
    at = staged(asked)
    words = ["gcloud", "dataproc", *kind, "submit", "pyspark", at[asked.files.main], *_region(asked)]
    words += ["--py-files", at[asked.files.code], "--labels", f"batchscore-run={_label(asked.run_id)}"]
    files = [at[asked.files.config], *([at[asked.files.gpu_script]] if ships_gpu_script(asked) else [])]
    words += ["--files", ",".join(files)]
    if asked.files.environment:
        words += ["--archives", f"{at.get(asked.files.environment, asked.files.environment)}#environment"]
    return [*words, "--properties", _properties(settings_of(asked))]


def _properties(settings: list[str]) -> str:
    """Settings as gcloud reads them: parted at commas, unless a mark between two ^ says where. One that none holds."""
    marks = itertools.chain(";|~!@", (f"-{number}-" for number in itertools.count()))
    mark = next(mark for mark in marks if mark.join(settings).split(mark) == settings)
    return f"^{mark}^{mark.join(settings)}"


def _label(run_id: str) -> str:
    """A run id as a label of Google's: up to 63 of a-z 0-9 _ -."""
    return re.sub(r"[^a-z0-9_-]", "_", run_id)[:63]


def _on_dataproc(asked: Submission) -> list[str]:
    words = _gcloud(asked, ["jobs"])
    # No second driver by itself: who submits decides, with the same run id.
    return [*words, "--cluster", str(asked.places.cluster), "--max-failures-per-hour", "0", "--", *asked.job]


def _on_dataproc_serverless(asked: Submission) -> list[str]:
    # A batch's name is used once and for all, a run id is not: the same run goes on under another batch.
    batch = f"{re.sub(r'[^a-z0-9-]', '-', asked.run_id)[:50].rstrip('-')}-{secrets.token_hex(3)}"
    words = [*_gcloud(asked, ["batches"]), "--batch", batch, "--deps-bucket", str(asked.places.stage)]
    words += ["--container-image", asked.places.image] if asked.places.image else []
    words += ["--service-account", asked.places.role] if asked.places.role else []
    return [*words, "--", *asked.job]


_COMMANDS = {
    Target.EMR: _on_emr,
    Target.EMR_SERVERLESS: _on_emr_serverless,
    Target.DATAPROC: _on_dataproc,
    Target.DATAPROC_SERVERLESS: _on_dataproc_serverless,
}
