"""Variables of a config, where the driver that fills them in runs elsewhere and has not got those of this shell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.deploying.submission import DRIVERS, Target, settings_of
from jobs.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobs.deploying.submission import Submission

__all__ = ["check_variables"]

_OF_KUBERNETES = "spark.kubernetes.driverEnv"
_SECRETS = "spark.kubernetes.driver.secretKeyRef"
"""Kubernetes lets a driver have a variable out of a secret."""


def check_variables(asked: Submission, variables: Mapping[str, str]) -> None:
    """See that a driver elsewhere has the variables that the config was filled in with here, and as they are here.

    Raises:
        Refused: it has not; names them, and the setting by which it would. No value is shown.
    """
    given = dict(setting.split("=", 1) for setting in settings_of(asked) if "=" in setting)
    prefixes = (_OF_KUBERNETES,) if asked.target is Target.K8S else DRIVERS.get(asked.target, ())
    lacking, differing = [], []
    for name, value in variables.items():
        told = [given[f"{prefix}.{name}"] for prefix in prefixes[:1] if f"{prefix}.{name}" in given]
        if asked.target is Target.K8S and f"{_SECRETS}.{name}" in given:
            continue
        if not told:
            lacking.append(name)
        elif told != [value]:
            differing.append(name)
    if lacking:
        advice = f"--conf {prefixes[0]}.{lacking[0]}=VALUE" if prefixes else "--set"
        raise Refused(
            "the driver would run on the cluster, which has not got these variables of this shell, and the config is "
            f"filled in there:\n  {', '.join(lacking)}\nGive each by {advice}, which whoever sees the job can read, so "
            "no secret; or replace what it stands in, by --set KEY=VALUE or in the file."
        )
    if differing:
        raise Refused(
            f"{', '.join(differing)}: has another value in this shell than --conf gives to the driver, which would run "
            "another job than the one that is waited for. Set both alike."
        )
