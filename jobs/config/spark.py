"""Config of the Spark session that a job starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from etl.documents import Strict
from etl.redaction import has_secret, is_secret_name, secret_fault, uri_problem

if TYPE_CHECKING:
    from pydantic_core import InitErrorDetails

__all__ = ["Spark"]


def _conf_text(value: Any) -> Any:
    """Numbers and bools as Spark writes them: `spark.executor.cores: 4` is no mistake."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


_ConfText = Annotated[str, BeforeValidator(_conf_text, json_schema_input_type=str | bool | int | float)]
"""A value of Spark's configuration."""


_ON_COMMAND_LINE = (
    "has a secret, and every user of the host can see it on the command line of Spark's JVM: give S3 the environment's "
    "credentials or a role, others spark-defaults.conf or hadoop.security.credential.provider.path"
)


class Spark(Strict):
    """The Spark session, where batchscore starts one itself. Under spark-submit its options decide."""

    master: str = Field(default="local[*,4]", description="`local[*]` never retries a task; `local[*,4]` does.")
    conf: dict[str, _ConfText] = Field(
        default_factory=dict, description="No secrets: Spark puts all of it on the command line of its JVM."
    )

    @model_validator(mode="after")
    def _no_secrets(self) -> Spark:
        wrong: list[InitErrorDetails] = [
            {"type": secret_fault(_ON_COMMAND_LINE), "loc": ("conf", key), "input": key}
            for key, value in self.conf.items()
            if is_secret_name(key) or uri_problem(value) or has_secret(f"{key}={value}")
        ]
        if wrong:
            raise ValidationError.from_exception_data(type(self).__name__, wrong)
        return self
