"""What Hadoop's S3A is told, so that Spark reaches a store as our own clients do. No secret: it finds those by itself.

S3A knows buckets, not folders. Where a job says how a folder is reached and nothing of its bucket, the bucket is
reached as the folder of the shortest name; while rows are stored in a folder, its bucket is reached as that folder.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from etl.runs.store_settings import StoreSettings, configured, settings_for

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["hadoop_advice", "s3a_options", "s3a_uri"]

_AUTH = "org.apache.hadoop.fs.s3a.auth"
_SOURCES = ",".join(
    (
        "org.apache.hadoop.fs.s3a.SimpleAWSCredentialsProvider",
        # S3A of Hadoop 3.4 knows the name of the older SDK, that of 3.3 knows no other.
        "com.amazonaws.auth.EnvironmentVariableCredentialsProvider",
        f"{_AUTH}.IAMInstanceCredentialsProvider",
    )
)
"""Where S3A looks for credentials by itself, in Hadoop 3.3 and 3.4."""
_PROFILE = f"{_AUTH}.ProfileAWSCredentialsProvider"
_UNSAID = {
    "aws.credentials.provider": f"org.apache.hadoop.fs.s3a.TemporaryAWSCredentialsProvider,{_SOURCES}",
    "encryption.algorithm": "",
    "encryption.key": "",
    "endpoint": "",
    "path.style.access": "false",
}
"""What a bucket is told that says nothing itself, where all buckets are told something: entries are not mixed."""
_ALGORITHMS = {"AES256": "AES256", "aws:kms": "SSE-KMS"}
_HADOOP = {"3.5": "3.3.4", "4.0": "3.4.1", "4.1": "3.4.2"}
"""Of the Spark that is on PyPI; vendors build theirs with others."""
_NO_S3A = re.compile(
    r"S3AFileSystem not found|No FileSystem for scheme \"?s3|"
    r"(?:NoClassDefFound|ClassNotFound|NoSuchMethod|NoSuchField)\w*: .*(?:amazon|hadoop[./]fs[./]s3a|hadoop[./]util)"
)


def s3a_uri(path: str) -> str:
    """The path as every Hadoop knows it."""
    return re.sub(r"^s3://", "s3a://", path)


def s3a_options(folder: str = "") -> dict[str, str]:
    """Hadoop's options for all that is configured in this process; those of a folder's bucket are the folder's."""
    entries = {_bucket(one.uri): one for one in sorted(configured(), key=lambda one: -len(one.uri))}
    if folder.startswith(("s3://", "s3a://")):
        entries[_bucket(folder)] = settings_for(folder)
    general = _options(entries[""]) if "" in entries else _of_environment()
    told = {f"fs.s3a.{key}": value for key, value in general.items()}
    for bucket in sorted(entries.keys() - {""}):
        unsaid = {key: value for key, value in _UNSAID.items() if key in general}
        told |= {f"fs.s3a.bucket.{bucket}.{key}": value for key, value in (unsaid | _options(entries[bucket])).items()}
    return told


def _bucket(uri: str) -> str:
    return uri.partition("://")[2].partition("/")[0]


def _environment(names: Iterable[str]) -> str | None:
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


def _of_environment() -> dict[str, str]:
    """Where the driver's environment names a server, that is where S3A must go, which does not look there."""
    return _options(StoreSettings(uri="s3://")) if _endpoint(None) else {}


def _endpoint(said: str | None) -> str | None:
    return said or _environment(("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"))


def _options(settings: StoreSettings) -> dict[str, str]:
    """What was said, and the server and region that the environment says; what was not is left to the cluster."""
    endpoint = _endpoint(settings.endpoint)
    found = {
        "endpoint": endpoint,
        "endpoint.region": settings.region or _environment(("AWS_REGION", "AWS_DEFAULT_REGION")),
        # Our other clients do so wherever an endpoint is named.
        "path.style.access": "true" if settings.path_style or endpoint else None,
        "encryption.algorithm": _ALGORITHMS.get(settings.encryption or ""),
        "encryption.key": settings.kms_key,
        **_credentials(settings),
    }
    said = settings.model_fields_set
    if "connect_timeout" in said:
        found["connection.establish.timeout"] = _milliseconds(settings.connect_timeout)
    if "read_timeout" in said:
        found["connection.timeout"] = _milliseconds(settings.read_timeout)
    if "attempts" in said:
        found |= dict.fromkeys(("attempts.maximum", "retry.limit"), str(settings.attempts))
    return {key: value for key, value in found.items() if value is not None}


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))


def _credentials(settings: StoreSettings) -> dict[str, str | None]:
    profile: dict[str, str | None] = {} if settings.profile is None else {"auth.profile.name": settings.profile}
    sources = _SOURCES if settings.profile is None else _PROFILE
    if settings.role is None:
        return {**profile, "aws.credentials.provider": _PROFILE} if profile else {}
    return {
        **profile,
        "aws.credentials.provider": f"{_AUTH}.AssumedRoleCredentialProvider",
        "assumed.role.arn": settings.role,
        "assumed.role.external.id": settings.external_id,
        "assumed.role.session.name": "batchscore",
        "assumed.role.credentials.provider": sources,
    }


def hadoop_advice(error: str, *, spark: str = "", hadoop: str | None = None) -> str | None:
    """What to do where Spark failed because it has no S3A, or one that does not fit; None where it failed otherwise.

    Without the versions the package that is named has none.
    """
    if "ProfileAWSCredentialsProvider" in error:
        return "`profile` of `storage` needs Hadoop 3.4.2. Set AWS_PROFILE where Spark runs, and no `profile`"
    if not _NO_S3A.search(error):
        return None
    version = hadoop or _HADOOP.get(".".join(spark.split(".")[:2]), "of the same version as Spark's hadoop-client-api")
    return (
        "Spark has no S3A, or one that is not of its own Hadoop. Give it the package "
        f"org.apache.hadoop:hadoop-aws:{version} (spark-submit --packages, or spark.jars.packages under spark.conf)"
    )
