"""Secrets in texts: where one may not stand it is refused, and from what is said to people and kept it is taken out.

A secret is known by its form, as a password in a URI or behind a key such as `secret.key=`, or because a variable of
the environment whose name says so has it as its value.
"""

from __future__ import annotations

import base64
import os
import re
from typing import Annotated
from urllib.parse import quote, unquote

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

__all__ = ["HIDDEN", "Uri", "has_secret", "is_secret_name", "redacted", "secret_fault", "uri_problem"]

HIDDEN = "hidden"
"""Kind of a fault whose value is not shown."""

_MASK = "***"
_LEAST = 8
"""Characters of a variable's value that is looked for: a shorter one would be found in any text."""
_STRONG = r"(?:passw(?:or)?d|passphrase|secret|secret[._-]?(?:access[._-]?)?key|access[._-]?key|session[._-]?token)"
"""Words that name nothing but secrets, wherever they stand: `account_key=7` may be a folder of a table."""
_NAME = re.compile(
    rf"(?:{_STRONG}|token|credentials?|(?:account|api|private|seal|shared|license)[._-]?key)$|account\.key\.|\.sas\.",
    re.IGNORECASE,
)
_REFERENCE = re.compile(r"\.secretKeyRef\.|^spark\.kubernetes\.\w+\.secrets\.", re.IGNORECASE)
"""Keys of Spark that say where in Kubernetes a secret is."""
_AUTHORITY = re.compile(
    r"""(?<![\w+.-])(?!abfss?://)([a-z][a-z0-9+.-]*://)(?:[^/\s"'<>]*|[^/\s"'<>:@]*:(?!\d+/)[^\s"'<>]*)@""",
    re.IGNORECASE,
)
"""In a text, a URI with a user and a password, which may have a slash or an `@` in it; `abfs://container@account` has
none."""
_USERINFO = re.compile(r"(?!abfss?://)[a-z][a-z0-9+.-]*://(?:[^/@]*|[^/@:]*:(?!\d+/).*)@", re.IGNORECASE | re.DOTALL)
"""The same of what is a URI as a whole, whatever the password is made of."""
_ASSIGNED = re.compile(
    rf"""((?:x-amz-(?:signature|security-token|credential)|(?<=[?&;])(?:sig|signature|token|awsaccesskeyid)|\.token"""
    rf"""|account\.key\.[\w.-]+|{_STRONG})["'`]?(?:\s*=\s*|\s*:\s*(?=["'])|\s+(?=["'])))"""
    r"""("[^"]*"|'[^']*'|[^\s&;,"')}\]]+)""",
    re.IGNORECASE,
)
"""A secret behind its name: in a query, an option of Spark or Java, JSON, or `OPTIONS (password 'x')` of SQL."""
_BEARER = re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{8,}")


def is_secret_name(name: str) -> bool:
    """Whether what has this name is a secret, as `fs.s3a.secret.key` or `DB_PASSWORD`."""
    return _NAME.search(name) is not None and _REFERENCE.search(name) is None


def has_secret(text: str) -> bool:
    """Whether a secret stands in a text, by its form."""
    return _by_form(text) != text


def redacted(text: str) -> str:
    """The text with `***` in the place of secrets."""
    for secret in _of_environment():
        text = text.replace(secret, _MASK)
    return _by_form(text)


def uri_problem(uri: str) -> str | None:
    """Why a URI may not be used: it would be kept in plans and records, and shown. Nothing of it is in the message."""
    scheme, _, rest = uri.partition("://")
    authority = rest.partition("/")[0]
    if "\0" in uri:
        return "has a NUL in it, which no name of a file may have"
    if (scheme in {"s3", "s3a"} and (set(authority) & {"@", ":"})) or _USERINFO.match(uri):
        return "has a user or a password in it; give credentials by the environment, a profile or a role"
    if _ASSIGNED.search(uri):
        return "has a signature, token or key in it; name the object, and give credentials by the environment"
    return None


def secret_fault(message: str) -> PydanticCustomError:
    """What a validator raises of a value that holds a secret."""
    return PydanticCustomError(HIDDEN, "{message}", {"message": message})


def _checked(uri: str) -> str:
    problem = uri_problem(uri)
    if problem is not None:
        raise secret_fault(problem)
    return uri


Uri = Annotated[str, AfterValidator(_checked)]
"""Where something is, without a secret."""


def _by_form(text: str) -> str:
    text = _AUTHORITY.sub(rf"\1{_MASK}@", text)
    text = _ASSIGNED.sub(rf"\1{_MASK}", text)
    return _BEARER.sub(rf"\1 {_MASK}", text)


def _of_environment() -> list[str]:
    """Values of variables that have a secret's name, and passwords in others' URIs, in each form; the longest first."""
    found = {value for name, value in os.environ.items() if is_secret_name(name)}
    for value in os.environ.values():
        if _USERINFO.match(value):
            user, _, password = value.partition("://")[2].rpartition("@")[0].partition(":")
            found |= {password or user, unquote(password or user)}
    forms = {form for secret in found if len(secret) >= _LEAST for form in _forms(secret)}
    return sorted(forms, key=len, reverse=True)


def _forms(secret: str) -> tuple[str, ...]:
    return secret, quote(secret, safe=""), quote(secret), base64.b64encode(secret.encode()).decode()
