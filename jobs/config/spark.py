"""Config of the Spark session that a job starts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

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


_REMOTE = re.compile(r"sc://[^/:;@\s]+(?::[0-9]{1,5})?(?:/(?:;[^\s]*)?)?")
_HARMLESS = {"grpc_max_message_size", "session_id", "use_ssl", "user_agent", "user_id"}
"""Parameters of an address of Spark Connect; any other is a header that is sent along, a key for example."""


class Spark(Strict):
    """The Spark session, where batchscore starts one itself. Under spark-submit its options decide."""

    remote: str | None = Field(
        default=None,
        description="A server of Spark Connect, sc://HOST:PORT, instead of a session of one's own; SPARK_REMOTE says "
        "the same, and is where a token belongs.",
    )
    master: str = Field(default="local[*,4]", description="`local[*]` never retries a task; `local[*,4]` does.")
    conf: dict[str, _ConfText] = Field(
        default_factory=dict, description="No secrets: Spark puts all of it on the command line of its JVM."
    )

    @model_validator(mode="after")
    def _one_place(self) -> Spark:
        if self.remote is not None and "master" in self.model_fields_set:
            message = "`remote` is a server that has a master of its own: leave out one of the two"
            raise ValueError(message)
        return self

    @field_validator("remote")
    @classmethod
    def _is_an_address(cls, remote: str | None) -> str | None:
        if remote is None:
            return None
        if not _REMOTE.fullmatch(remote):
            raise secret_fault("is no address of a server: write sc://HOST:PORT")
        parameters = remote.partition(";")[2].split(";")
        if {parameter.partition("=")[0] for parameter in parameters} - _HARMLESS - {""}:
            known = ", ".join(sorted(_HARMLESS))
            message = f"may have no parameters but {known}: any other is a header, such as a token or a key"
            raise secret_fault(f"{message}. Those are for SPARK_REMOTE, where the driver runs; then leave this out")
        return remote

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
