"""Which options each target takes and needs: what says nothing, or contradicts, is told before anybody is asked."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from jobs.deploying.submission import Target, python_of, settings_of, ships_gpu_script
from jobs.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobs.deploying.submission import Submission

__all__ = ["check_options"]


class _Takes(NamedTuple):
    """The options of a target that not all have."""

    needs: dict[str, str]
    """Option → how it is written."""
    may: frozenset[str] = frozenset()
    """Options that may be left out."""
    master: str = ""
    """How its masters begin, as a pattern; empty where it has none."""
    stage: str = r"\w+://."
    """How its stages begin, as a pattern."""


_S3, _GS, _REGION = "--stage s3://…", "--stage gs://…", "--region REGION"
_TAKES = {
    Target.STANDALONE: _Takes({"master": "--master spark://HOST:7077"}, master="spark://."),
    Target.YARN: _Takes({}, master="yarn$"),
    Target.K8S: _Takes(
        {"master": "--master k8s://https://HOST:PORT", "image": "--image IMAGE"}, frozenset({"namespace"}), "k8s://."
    ),
    Target.EMR: _Takes({"stage": _S3, "cluster": "--cluster j-…"}, frozenset({"role", "region"}), stage="s3://."),
    Target.EMR_SERVERLESS: _Takes(
        {"stage": _S3, "application": "--application ID", "role": "--role ARN"}, frozenset({"region"}), stage="s3://."
    ),
    Target.DATAPROC: _Takes({"stage": _GS, "cluster": "--cluster NAME", "region": _REGION}, stage="gs://."),
    Target.DATAPROC_SERVERLESS: _Takes({"stage": _GS, "region": _REGION}, frozenset({"image", "role"}), stage="gs://."),
}


def check_options(asked: Submission) -> None:
    """See that the options are those of the target, and go together.

    Raises:
        Refused: they are not; all that is wrong, a line each.
    """
    found = [*_of_the_target(asked), *_of_the_driver(asked), *_of_files(asked), *_of_settings(asked)]
    if found:
        raise Refused("\n".join(found))


def _of_the_target(asked: Submission) -> Iterator[str]:
    target, takes = asked.target, _TAKES[asked.target]
    needs = dict(takes.needs)
    stage = asked.places.stage
    if target is Target.K8S and asked.is_remote:
        needs["stage"] = "--stage s3a://…"
    elif target is Target.K8S and stage:
        yield f"a driver here needs no --stage {stage}: leave it out, or use --deploy-mode cluster."
    given = {**vars(asked.places), "master": asked.driver.master}
    missing = [option for name, option in needs.items() if not given[name]]
    if missing:
        yield f"{target} needs {' and '.join(missing)}."
    known = {*needs, *takes.may, *(["master"] if takes.master else [])}
    known |= {"stage"} if target is Target.K8S else set()
    foreign = [f"--{name} {value}" for name, value in given.items() if value and name not in known]
    if foreign:
        yield f"{target} takes no {', '.join(foreign)}."
    master = asked.driver.master
    if master and takes.master and not re.match(takes.master, master):
        yield f"{target} has no --master {master}: {takes.needs.get('master', '--master yarn, or none')}."
    if stage and "stage" in needs and not re.match(takes.stage, stage):
        yield f"{target} reads no --stage {stage}: {needs['stage']}."


def _of_the_driver(asked: Submission) -> Iterator[str]:
    if asked.target is Target.STANDALONE and asked.is_remote:
        yield "Spark runs no Python driver inside a standalone cluster: use --deploy-mode client."
    if asked.target.is_cloud and not asked.is_remote:
        yield f"{asked.target} runs the driver itself: use --deploy-mode cluster."
    if asked.verb == "doctor" and asked.is_remote:
        yield "a doctor whose driver runs on the cluster would write into its log: use --deploy-mode client."
    if asked.target.is_cloud and python_of(asked) is None and not asked.places.image:
        yield (
            f"{asked.target} has a Python of its own, without our libraries: give the one that `batchscore pack` made "
            "(--environment), an image that has them (Dataproc Serverless: --image), or name one that its hosts have "
            "(--conf spark.executorEnv.PYSPARK_PYTHON=…)."
        )


def _of_files(asked: Submission) -> Iterator[str]:
    files, environment = asked.files, asked.files.environment
    if environment and "://" not in environment and not Path(environment).is_file():
        yield f"--environment {environment}: there is no such file. `batchscore pack` makes one."
    sent = [files.code, *([environment] if environment else []), *([files.config] if asked.is_remote else [])]
    sent += [files.gpu_script] if ships_gpu_script(asked) else []
    for path in sent:
        # A service gets them in its stage, by their names alone.
        named = PurePosixPath(path).name if asked.target.is_cloud else path
        if "," in named:
            yield f"{path}: Spark parts the files that it sends at commas. Rename it, or its folder."
    if asked.is_remote and re.search(r"[\s#?%]", asked.shipped_config):
        yield f"{files.config}: Spark sends it by its name, in which white space, #, ? and % do not arrive. Rename it."


def _of_settings(asked: Submission) -> Iterator[str]:
    for setting in asked.resources.settings:
        if not re.match(r"[^=\s]+=", setting):
            yield f"--conf {setting}: KEY=VALUE, please."
    try:
        settings_of(asked)
    except Refused as error:
        yield str(error)
