"""How a store is reached: what a job's `storage:` says, and no secret. Credentials come from the standard chains."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from etl.documents import Strict
from etl.redaction import Uri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["StoreSettings", "bound", "configure", "configured", "settings_for"]


class StoreSettings(Strict):
    """For all URIs that begin with one."""

    uri: Uri = Field(
        pattern="^s3a?://", description="A scheme, a bucket, or a folder: `s3://`, `s3://bucket`, `s3://bucket/folder`."
    )
    endpoint: Uri | None = Field(default=None, description="URL of a server that speaks S3; None for AWS's own.")
    region: str | None = Field(default=None, description="None: what the environment or the profile says.")
    profile: str | None = Field(default=None, description="Of the shared configuration files of AWS.")
    role: str | None = Field(default=None, description="ARN of a role to assume.")
    external_id: str | None = Field(default=None, description="What the role's trust asks for; no secret.")
    encryption: Literal["AES256", "aws:kms"] | None = Field(
        default=None, description="Of each object written; None: what the bucket does by itself."
    )
    kms_key: str | None = Field(default=None, description="Id or ARN of the key, with `aws:kms`.")
    path_style: bool = Field(default=False, description="http://host/bucket/key and not http://bucket.host/key.")
    connect_timeout: float = Field(default=10.0, gt=0, description="Seconds.")
    read_timeout: float = Field(default=60.0, gt=0, description="Seconds without a byte.")
    attempts: int = Field(default=8, ge=1, le=100, description="Of each request, the first one too; with jitter.")

    @field_validator("uri")
    @classmethod
    def _has_one_name(cls, uri: str) -> str:
        return f"s3://{uri.partition('://')[2]}"

    @model_validator(mode="after")
    def _fits_together(self) -> StoreSettings:
        if self.kms_key is not None and self.encryption != "aws:kms":
            message = "`kms_key` goes with `encryption: aws:kms`; without that nothing would be encrypted with it"
            raise ValueError(message)
        if self.endpoint is not None and not self.endpoint.startswith(("http://", "https://")):
            message = "`endpoint` is a URL that begins with http:// or https://"
            raise ValueError(message)
        return self


_CONFIGURED: list[StoreSettings] = []


def configure(settings: Iterable[StoreSettings]) -> None:
    """Use these settings in this process; the same URI said again is said anew."""
    for one in settings:
        _CONFIGURED[:] = [other for other in _CONFIGURED if other.uri != one.uri]
        _CONFIGURED.append(one)


def configured() -> tuple[StoreSettings, ...]:
    """What this process uses, to be told to another one."""
    return tuple(_CONFIGURED)


def bound(task: Callable[..., Any]) -> Callable[[Any], Any]:
    """A function of batches that a worker runs with the settings of this process."""
    return functools.partial(_configured, task=task, settings=configured())


def _configured(batches: Any, *, task: Callable[[Any], Any], settings: tuple[StoreSettings, ...]) -> Any:
    configure(settings)
    return task(batches)


def settings_for(uri: str) -> StoreSettings:
    """Those of the longest URI that this one begins with, or the defaults."""
    fitting = [one for one in _CONFIGURED if _covers(one.uri, uri)]
    return max(fitting, key=lambda one: len(one.uri), default=StoreSettings(uri=uri.partition("://")[0] + "://"))


def _covers(prefix: str, uri: str) -> bool:
    prefix, uri = (text.replace("s3a://", "s3://", 1) for text in (prefix, uri))
    return uri.startswith(prefix) and (prefix.endswith("/") or uri[len(prefix) : len(prefix) + 1] in {"", "/"})
