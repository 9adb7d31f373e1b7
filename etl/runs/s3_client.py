"""The requests to S3 that the protocol needs, and what is wrong when the store refuses one."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import re
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3
from botocore.config import Config
from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    FlexibleChecksumError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from pyarrow import fs

from etl.errors import StorageError
from etl.redaction import redacted, uri_problem

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from typing_extensions import Buffer

    from etl.runs.store_settings import StoreSettings

__all__ = ["S3Client", "S3Path", "Taken"]

_ABSENT = {"404", "NoSuchKey", "NotFound"}
_GONE = {"NoSuchUpload"}
_TAKEN = {"PreconditionFailed", "412"}
_RACING = {"ConditionalRequestConflict", "409"}
_TRANSIENT = 500
"""Statuses from this one on are the store's own trouble, and so is 429."""
_KNOWN = {"env", "shared-credentials-file", "config-file", "assume-role"}
"""Whose credentials Arrow is given: they do not end, or are a role's, which Arrow would assume by other rules. Those of
a host or a container it finds, and renews, by itself."""
_OF_FILES = {"shared-credentials-file", "config-file", "sso", "custom-process"}
"""Ways to credentials that a profile chooses."""
_BROKEN_OFF = (FlexibleChecksumError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError)
"""What happens to an answer on its way; a checksum may be of the bytes before a replacement, too."""
_LONGEST_PAUSE = 5.0
"""Seconds."""
_AMAZON = ".amazonaws.com"
_ADVICE = {
    "AccessDenied": "docs/iam has what each of driver, workers and readers needs.",
    "403": "docs/iam has what each needs; without s3:ListBucket a missing object is told so, too.",
    "NoSuchBucket": "Make the bucket, or mend its name.",
    "InvalidAccessKeyId": "The access key is not known to this store: look at the credentials and the endpoint.",
    "SignatureDoesNotMatch": "The secret key does not belong to the access key.",
    "ExpiredToken": "The credentials have ended: renew them.",
    "ExpiredTokenException": "The credentials have ended: renew them.",
    "PermanentRedirect": "The bucket is in another region: say which under `storage:`.",
    "RequestTimeTooSkewed": "The machine's clock is wrong: S3 refuses one that is 15 minutes off. Set it.",
    "NotImplemented": "This store lacks what publication needs.",
}


_DENIED = {"AccessDenied", "403", "AllAccessDisabled", "AccessDeniedException"}
_RIGHTS = {
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "ListObjectsV2": "s3:ListBucket",
    "HeadBucket": "s3:ListBucket",
    "PutObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "ListParts": "s3:ListMultipartUploadParts",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "DeleteObject": "s3:DeleteObject",
    "DeleteObjects": "s3:DeleteObject",
}
"""The right that an operation needs."""
_OPERATION = re.compile(r"during (\w+) operation")
"""How Arrow's client names it."""


class S3Path(NamedTuple):
    """A bucket and a key."""

    bucket: str
    key: str

    @classmethod
    def of(cls, uri: str) -> S3Path:
        """Of `s3://bucket/key`."""
        bucket, _, key = uri.partition("://")[2].partition("/")
        return cls(bucket, key)

    def __str__(self) -> str:
        """As a URI."""
        return f"s3://{self.bucket}/{self.key}"


class Taken(NamedTuple):
    """A name that is taken."""

    is_repeated: bool
    """Whether the request was sent more than once, so that it may be taken by an earlier try."""


@contextlib.contextmanager
def _explained(place: S3Path, verb: str, who: Callable[[], str]) -> Generator[None]:
    """Turn a store's refusals into errors that say what to do, and its silence into an OSError, to be tried again.

    `who` tells whom a store refuses.
    """
    try:
        yield
    except (NoCredentialsError, PartialCredentialsError) as error:
        message = f"{place}: cannot {verb}: no credentials. Set AWS_PROFILE or the keys, or give the host a role."
        raise StorageError(message) from error
    except ClientError as error:
        code, status, told = _code(error), _status(error), f"{place}: cannot {verb}: {redacted(str(error))}"
        if status >= _TRANSIENT or status == 429 or code in {"SlowDown", "RequestTimeout"}:  # noqa: PLR2004  too many requests
            raise ConnectionError(f"{told}. The store was asked several times.") from error
        refused = f" {_refused(error.operation_name, who())}" if code in _DENIED else ""
        raise StorageError(f"{told}.{refused} {_ADVICE.get(code, 'Nothing was changed.')}") from error
    except BotoCoreError as error:
        raise ConnectionError(f"{place}: cannot {verb}: {redacted(str(error))}") from error
    except OSError as error:  # Arrow's, which has a text for all but an object that is not there
        if isinstance(error, FileNotFoundError):
            raise
        told = f"{place}: cannot {verb}: {error}"
        if "ACCESS_DENIED" in str(error):
            operation = _OPERATION.search(str(error))
            refused = _refused(operation[1] if operation is not None else "", who())
            raise StorageError(f"{told}. {refused} {_ADVICE['AccessDenied']}") from error
        raise ConnectionError(told) from error


def _refused(operation: str, who: str) -> str:
    right = _RIGHTS.get(operation)
    return f"{who} has no right to it{f', which is {right}' if right else ''}."


@functools.cache
def _session_of(settings: StoreSettings, _process: int) -> Any:
    """Clients are safe for threads, not for forks."""
    session = boto3.session.Session(profile_name=settings.profile, region_name=settings.region)
    if settings.role is not None:
        extra = {"ExternalId": settings.external_id} if settings.external_id else {}
        fetcher = AssumeRoleCredentialFetcher(
            client_creator=session._session.create_client,  # noqa: SLF001  botocore's own way to assume a role
            source_credentials=session.get_credentials(),
            role_arn=settings.role,
            extra_args={"RoleSessionName": "batchscore", **extra},
        )
        credentials = DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")
        session._session._credentials = credentials  # noqa: SLF001  as above
    return session


@functools.cache
def _client_of(settings: StoreSettings, process: int) -> Any:
    config = Config(
        connect_timeout=settings.connect_timeout,
        read_timeout=settings.read_timeout,
        retries={"mode": "standard", "total_max_attempts": settings.attempts},
        s3={"addressing_style": "path" if settings.path_style else "auto"},
        max_pool_connections=64,
        user_agent_extra="batchscore",
    )
    client = _session_of(settings, process).client("s3", endpoint_url=settings.endpoint, config=config)
    problem = uri_problem(client.meta.endpoint_url)
    if problem is not None:
        message = f"the endpoint of S3 that the environment or a profile gives {problem}."
        raise StorageError(message)
    return client


class S3Client:
    """What is asked of one store. A client is made in each process when it is first needed."""

    def __init__(self, settings: StoreSettings) -> None:
        """Nothing is asked yet."""
        self._settings = settings
        self._files: tuple[Any, fs.S3FileSystem] | None = None
        self._lock = threading.Lock()

    def _session(self) -> Any:
        return _session_of(self._settings, os.getpid())

    def _boto(self) -> Any:
        return _client_of(self._settings, os.getpid())

    def explained(self, place: S3Path, verb: str) -> contextlib.AbstractContextManager[None]:
        """Turn a store's refusals of what is asked inside into errors that say what to do, and whom it refuses."""
        return _explained(place, verb, self._who)

    def _who(self) -> str:
        """Whom a store refuses, without asking anybody and without a secret: the name of a key is none."""
        if self._settings.role is not None:
            return f"The role {self._settings.role}"
        session = self._session()
        credentials = session.get_credentials()
        if credentials is None:
            return "Nobody"
        key = str(credentials.get_frozen_credentials().access_key)
        profile = f" of the profile {session.profile_name}" if credentials.method in _OF_FILES else ""
        return f"The access key …{key[-4:]}{profile} ({credentials.method})"

    @property
    def _encryption(self) -> dict[str, str]:
        settings = self._settings
        found = {} if settings.encryption is None else {"ServerSideEncryption": settings.encryption}
        return found | ({} if settings.kms_key is None else {"SSEKMSKeyId": settings.kms_key})

    def _raw(self, name: str, **arguments: Any) -> dict[str, Any]:
        found: dict[str, Any] = getattr(self._boto(), name)(**arguments)
        return found

    def call(self, name: str, place: S3Path, **arguments: Any) -> dict[str, Any]:
        """A request of boto3's, explained where it is refused."""
        with self.explained(place, name.replace("_", " ")):
            return self._raw(name, **arguments)

    def pages(self, name: str, place: S3Path, **arguments: Any) -> Iterator[dict[str, Any]]:
        """All pages of a listing."""
        with self.explained(place, "list"):
            yield from self._boto().get_paginator(name).paginate(**arguments)

    def head(self, place: S3Path) -> dict[str, Any] | None:
        """What is known of an object, or None where there is none."""
        if not place.key:
            return None
        with self.explained(place, "look at"):
            try:
                return self._raw("head_object", Bucket=place.bucket, Key=place.key)
            except ClientError as error:
                if _code(error) in _ABSENT:
                    return None
                raise

    def get(self, place: S3Path, *, etag: str | None = None) -> bytes | None:
        """All bytes of an object, or None where there is none, or none of this etag."""
        asked = {"Bucket": place.bucket, "Key": place.key, **({"IfMatch": f'"{etag}"'} if etag is not None else {})}
        with self.explained(place, "read"):
            attempt = 0
            while True:
                attempt += 1
                try:
                    data: bytes = self._raw("get_object", **asked)["Body"].read()
                except ClientError as error:
                    if _code(error) in _ABSENT or (etag is not None and _code(error) in _TAKEN):
                        return None
                    raise
                except _BROKEN_OFF as error:
                    # boto3 asks again until an answer begins, and no longer.
                    self._pause(attempt, error)
                else:
                    return data

    def _pause(self, attempt: int, error: Exception) -> None:
        """Wait before another try; after the last one raise what it ended with."""
        if attempt >= self._settings.attempts:
            raise error
        time.sleep(random.uniform(0, min(_LONGEST_PAUSE, 0.1 * 2**attempt)))  # noqa: S311  jitter

    def put(self, place: S3Path, data: Buffer, *, is_new: bool) -> Taken | None:
        """Write an object in one request; with `is_new` only where there is none."""
        said = {**({"IfNoneMatch": "*"} if is_new else {}), **self._encryption, "Body": bytes(data)}
        with self.explained(place, "write"):
            attempt = 0
            while True:
                attempt += 1
                try:
                    self._raw("put_object", Bucket=place.bucket, Key=place.key, **said)
                except ClientError as error:
                    if is_new and _code(error) in _TAKEN:
                        repeated = error.response["ResponseMetadata"].get("RetryAttempts", 0)
                        return Taken(is_repeated=attempt > 1 or repeated > 0)
                    if not is_new or _code(error) not in _RACING:
                        raise
                    # Somebody writes at the same time, and neither may have the name in the end.
                    self._pause(attempt, error)
                else:
                    return None

    def begin(self, place: S3Path, metadata: dict[str, str]) -> str:
        """Start a multipart upload; its id."""
        made = self.call(
            "create_multipart_upload", place, Bucket=place.bucket, Key=place.key, Metadata=metadata, **self._encryption
        )
        return str(made["UploadId"])

    def send(self, place: S3Path, upload: str, part: bytes, *, number: int) -> str:
        """A part of an upload, from number 1; its etag."""
        sent = self.call(
            "upload_part", place, Bucket=place.bucket, Key=place.key, UploadId=upload, PartNumber=number, Body=part
        )
        return str(sent["ETag"])

    def upload_bytes(self, place: S3Path, upload: str) -> int | None:
        """Bytes of an upload that is not completed; None where there is none."""
        total = 0
        with self.explained(place, "look at the upload of"):
            try:
                pages = self._boto().get_paginator("list_parts")
                for page in pages.paginate(Bucket=place.bucket, Key=place.key, UploadId=upload):
                    total += sum(part["Size"] for part in page.get("Parts", ()))
            except ClientError as error:
                if _code(error) in _GONE | _ABSENT:
                    return None
                raise
        return total

    def complete(self, place: S3Path, upload: str, etags: Sequence[str]) -> bool:
        """Make an upload an object, where there is none; False where somebody else did, or the upload is gone."""
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
        with self.explained(place, "complete"):
            try:
                self._raw(
                    "complete_multipart_upload",
                    Bucket=place.bucket,
                    Key=place.key,
                    UploadId=upload,
                    MultipartUpload={"Parts": parts},
                    IfNoneMatch="*",
                )
            except ClientError as error:
                if _code(error) in _GONE | _TAKEN | _RACING | _ABSENT or _status(error) >= _TRANSIENT:
                    return False  # moto answers 500 where an upload was aborted; the caller looks what is there
                raise
        return True

    def abort(self, place: S3Path, upload: str) -> None:
        """Throw an upload away; again is harmless."""
        with self.explained(place, "abort the upload of"):
            try:
                self._raw("abort_multipart_upload", Bucket=place.bucket, Key=place.key, UploadId=upload)
            except ClientError as error:
                if _code(error) not in _GONE | _ABSENT:
                    raise

    def files(self) -> fs.S3FileSystem:
        """Arrow's client, for bulk reads, made anew where credentials that boto3 found have changed."""
        settings, options = self._settings, dict[str, Any]()
        credentials = self._session().get_credentials()
        if credentials is not None and credentials.method in _KNOWN:
            found = credentials.get_frozen_credentials()
            options = {"access_key": found.access_key, "secret_key": found.secret_key, "session_token": found.token}
        scheme, _, host = str(self._boto().meta.endpoint_url).partition("://")
        if _AMAZON not in host:  # of `storage:`, of the environment, or of a profile
            options |= {"endpoint_override": host.rstrip("/"), "scheme": scheme}
        region = self._boto().meta.region_name
        options |= {"region": region} if region else {}
        key = (os.getpid(), tuple(sorted(options.items(), key=lambda item: item[0])))
        with self._lock:
            if self._files is None or self._files[0] != key:
                made = fs.S3FileSystem(
                    **{name: value for name, value in options.items() if value is not None},
                    connect_timeout=settings.connect_timeout,
                    request_timeout=settings.read_timeout,
                    retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=settings.attempts),
                    force_virtual_addressing=False,
                )
                self._files = (key, made)
            return self._files[1]


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
