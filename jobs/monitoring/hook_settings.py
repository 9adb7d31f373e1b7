"""Config of hooks: webhooks and commands that are told of a run."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, FiniteFloat, StringConstraints, model_validator

from etl.documents import Strict
from etl.redaction import Uri, has_secret, secret_fault

__all__ = ["Hook", "HookSettings"]

_SECRET_PATHS = re.compile(
    r"https?://(?:hooks\.slack\.com|(?:\w+\.)?discord(?:app)?\.com/api/webhooks|[^/]*\.webhook\.office\.com"
    r"|chat\.googleapis\.com|[^/]*\.logic\.azure\.com)(?:/|$)",
    re.IGNORECASE,
)
"""Services whose URLs are secrets as a whole."""


def _no_secret_path(url: str) -> str:
    if _SECRET_PATHS.match(url):
        raise secret_fault(
            "is a secret as a whole; put it into a variable of the environment and name that in `url_env`"
        )
    return url


def _no_secret_words(command: tuple[str, ...]) -> tuple[str, ...]:
    if any(has_secret(word) for word in command) or has_secret(" ".join(command)):
        raise secret_fault("has a secret in it, which every user of the host can see; let the command read it")
    return command


_Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""The name of a variable of the environment."""


class Hook(Strict):
    """Somebody who is told by a JSON document. Exactly one of `url`, `url_env` and `command`."""

    url: Annotated[Uri, StringConstraints(pattern=r"^https?://[^\s/]"), AfterValidator(_no_secret_path)] | None = Field(
        default=None, description="Gets the document by POST."
    )
    url_env: _Variable | None = Field(
        default=None, description="A variable of the environment that has the URL, where that is a secret."
    )
    signing_key_env: _Variable | None = Field(
        default=None,
        description="A variable that has a key: the header X-Batchscore-Signature is then `sha256=` and the HMAC of "
        "the document in hexadecimal.",
    )
    command: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_no_secret_words)] | None = Field(
        default=None, description="A program and its arguments, without a shell; it reads the document from its input."
    )

    @model_validator(mode="after")
    def _one_way(self) -> Hook:
        if sum(way is not None for way in (self.url, self.url_env, self.command)) != 1:
            message = "give exactly one of `url`, `url_env` and `command`"
            raise ValueError(message)
        if self.signing_key_env is not None and self.command is not None:
            message = "`signing_key_env` goes with `url` and `url_env`"
            raise ValueError(message)
        return self


class HookSettings(Strict):
    """Who is told of what happens to a run. What cannot be told is recorded, and fails nothing."""

    start: tuple[Hook, ...] = Field(default=(), description="A try at a run begins.")
    finish: tuple[Hook, ...] = Field(default=(), description="It has ended, in whatever state.")
    failure: tuple[Hook, ...] = Field(default=(), description="It has ended and published nothing.")
    sla: tuple[Hook, ...] = Field(
        default=(), description="A limit of `sla` or `cost.budget` is passed, or expected to be; each is told once."
    )
    timeout: FiniteFloat = Field(
        default=10.0, gt=0, le=600, description="Seconds for one try, and that the end of a run waits for all of them."
    )
    tries: int = Field(default=3, ge=1, le=10, description="How often each of them is asked.")
