"""Requests to an S3 object store, and what goes wrong with them said in words.

botocore finds the endpoint, the region and the credentials where AWS tools do (environment, profile, role of the
machine) and repeats requests that fail with growing pauses. It does not repeat an answer whose body breaks off, and
its messages do not name the bucket: both are done here.
"""

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from components.errors import UserError

ATTEMPTS = 6  # of a request, the first included
FIRST_PAUSE = 0.25  # seconds; doubles with every attempt
LONGEST_PAUSE = 20.0
# of silence; less than `runtime.item_seconds`, so that another attempt fits
CONNECT_SECONDS, READ_SECONDS = (10, 20)
CONNECTIONS = 64
CHUNK_BYTES = 1 << 18
SETTINGS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or a role of this machine"
PAUSING = {"InternalError", "ServiceUnavailable", "SlowDown", "RequestTimeout", "500", "502", "503", "504"}
MISSING = {"NoSuchKey", "404", "NotFound"}
# error code of the store -> what is wrong and the way out; {bucket} and {endpoint} are filled in
REFUSALS = {
    "NoSuchBucket": "there is no bucket `{bucket}` at {endpoint}; check its name, and AWS_ENDPOINT_URL",
    "InvalidAccessKeyId": "{endpoint} does not know this access key; set other credentials ("
    + SETTINGS
    + ")",
    "SignatureDoesNotMatch": "the secret key does not belong to the access key; set both again ("
    + SETTINGS
    + ")",
    "ExpiredToken": "the credentials have expired; log in again (`aws sso login`), or set others ("
    + SETTINGS
    + ")",
    "InvalidToken": "the session token is not valid; set AWS_SESSION_TOKEN anew, or unset it",
    "TokenRefreshRequired": "the credentials have expired; log in again (`aws sso login`)",
    "RequestTimeTooSkewed": "the clock of this machine is wrong; set it (`timedatectl`)",
    "AuthorizationHeaderMalformed": "the bucket lies in another region; set AWS_REGION to the one it was made in",
    "PermanentRedirect": "the bucket lies in another region; set AWS_REGION to the one it was made in",
    "InvalidBucketName": "`{bucket}` is not a valid name of a bucket",
}
DENIED = {"AccessDenied", "403", "Forbidden", "AllAccessDisabled"}


class ObjectError(OSError):
    """One object could not be read or written, after all attempts; others may be fine."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the store says of an object. Another content has another ETag."""

    st_size: int  # bytes, named as in `os.stat`
    etag: str


@cache
def client(attempts: int = ATTEMPTS) -> Any:
    """The connection of this process. Raises `UserError` where the library or the profile is missing."""
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise UserError("s3:// needs boto3: `pip install 'reelforge[cluster]'`") from None
    # else each process says where it found its settings
    logging.getLogger("botocore").setLevel(logging.WARNING)
    settings = Config(
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        max_pool_connections=CONNECTIONS,
    )
    try:
        return boto3.session.Session().client("s3", config=settings)
    except (BotoCoreError, ValueError) as error:
        raise UserError(
            f"the settings for S3 cannot be used: {error}; see AWS_PROFILE and AWS_ENDPOINT_URL"
        ) from None


def endpoint() -> str:
    """Where requests go."""
    return str(client().meta.endpoint_url)


def settings() -> dict[str, str]:
    """Endpoint and region, as libraries that do not use botocore want them; they find the credentials themselves."""
    return {
        "aws_endpoint": endpoint(),
        "aws_region": str(client().meta.region_name),
        "allow_http": str(endpoint().startswith("http://")).lower(),
    }


@contextmanager
def said_in_words(doing: str, bucket: str, key: str = "", attempts: int = ATTEMPTS) -> Iterator[None]:
    """Errors of the block as `FileNotFoundError`, `ObjectError` (this object) or `UserError` (all of the bucket)."""
    from botocore.exceptions import BotoCoreError, ClientError

    name = f"s3://{bucket}/{key}" if key else f"s3://{bucket}"
    try:
        yield
    except ClientError as error:
        raise _of_answer(error, doing, name, bucket, has_key=bool(key)) from None
    except BotoCoreError as error:
        raise _of_connection(error, doing, name, attempts, has_key=bool(key)) from None


def _of_answer(error: Any, doing: str, name: str, bucket: str, *, has_key: bool) -> Exception:
    answer = error.response.get("Error", {})
    code, message = str(answer.get("Code", "")), str(answer.get("Message", ""))
    if code in REFUSALS:
        reason = REFUSALS[code].format(bucket=bucket, endpoint=endpoint())
        return UserError(f"{doing} {name} was refused ({code}): {reason}")
    if code in MISSING and has_key:
        return FileNotFoundError(2, "no such object", name)
    if code in DENIED and not has_key:
        return UserError(
            f"{doing} {name} was refused ({code}): these credentials lack the permission"
            f" (s3:ListBucket, s3:GetObject; s3:PutObject and s3:DeleteObject to write); ask for it, or set"
            f" others ({SETTINGS})"
        )
    if code in MISSING:
        return UserError(
            f"{doing} {name}: {REFUSALS['NoSuchBucket'].format(bucket=bucket, endpoint=endpoint())}"
        )
    if code in {"PreconditionFailed", "412"}:
        return ObjectError(f"{name} was changed while it was read")
    tried = f" after {ATTEMPTS} attempts" if code in PAUSING else ""
    said = f"{doing} {name} failed{tried}: {code} {message}".rstrip()
    return (
        ObjectError(said)
        if has_key
        else UserError(f"{said}; the store at {endpoint()} answers so, try later")
    )


def _of_connection(error: Any, doing: str, name: str, attempts: int, *, has_key: bool) -> Exception:
    from botocore import exceptions as failures

    if isinstance(
        error,
        failures.NoCredentialsError
        | failures.PartialCredentialsError
        | failures.CredentialRetrievalError
        | failures.TokenRetrievalError
        | failures.UnauthorizedSSOTokenError,
    ):
        return UserError(f"{doing} {name}: no credentials were found ({error}); set {SETTINGS}")
    if isinstance(error, failures.ParamValidationError):
        return UserError(f"{doing} {name}: {error}")
    said = f"{doing} {name}: {endpoint()} was not reached after {attempts} attempts: {error}"
    if has_key:
        return ObjectError(said)
    return UserError(f"{said}. Check the network, the proxy, and AWS_ENDPOINT_URL")


def facts_of(bucket: str, key: str) -> Facts:
    """Raises `FileNotFoundError`."""
    with said_in_words("looking at", bucket, key):
        answer = client().head_object(Bucket=bucket, Key=key)
    return Facts(answer["ContentLength"], answer["ETag"].strip('"'))


def list_keys(bucket: str, prefix: str) -> Iterator[tuple[str, Facts]]:
    """All objects whose key begins with `prefix`, a thousand per request. Raises `UserError`."""
    with said_in_words("listing", bucket):
        for page in client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for entry in page.get("Contents", ()):
                yield entry["Key"], Facts(entry["Size"], entry["ETag"].strip('"'))


def has_keys(bucket: str, prefix: str, *, attempts: int = ATTEMPTS) -> bool:
    """True when there is an object whose key begins with `prefix`. Raises `UserError`."""
    with said_in_words("listing", bucket, attempts=attempts):
        answer = client(attempts).list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)
    return bool(answer["KeyCount"])


def read_range(
    bucket: str, key: str, etag: str, span: tuple[int, int], write: Callable[[bytes], object]
) -> None:
    """Hand the bytes [first, end) to `write`; where a connection breaks off, go on behind what has arrived.

    Raises `FileNotFoundError`, and `ObjectError` when another content has come in between or all attempts failed.
    """
    from botocore.exceptions import ConnectionError as BrokenConnection
    from botocore.exceptions import HTTPClientError, IncompleteReadError

    at, end = span
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with said_in_words("reading", bucket, key):
                answer = client().get_object(
                    Bucket=bucket, Key=key, Range=f"bytes={at}-{end - 1}", IfMatch=f'"{etag}"'
                )
            for chunk in answer["Body"].iter_chunks(CHUNK_BYTES):
                write(chunk)
                at += len(chunk)
            if at >= end:
                return
        except (BrokenConnection, HTTPClientError, IncompleteReadError) as error:
            if attempt == ATTEMPTS:
                name = f"s3://{bucket}/{key}"
                raise ObjectError(
                    f"reading {name}: broke off {ATTEMPTS} times, last at byte {at}: {error}"
                ) from None
        time.sleep(pause_after(attempt))
    raise ObjectError(f"reading s3://{bucket}/{key}: it ends at byte {at}, {end} were expected")


def pause_after(attempt: int) -> float:
    """Seconds to wait after the attempt of that number: they double, and are spread so that processes part."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)


def read_bytes(bucket: str, key: str, facts: Facts | None = None) -> bytes:
    """A whole small object, as it is now, or as `facts` say it was. Raises `FileNotFoundError`, `ObjectError`."""
    facts = facts or facts_of(bucket, key)
    found = bytearray()
    if facts.st_size:
        read_range(bucket, key, facts.etag, (0, facts.st_size), found.extend)
    return bytes(found)


def download(bucket: str, key: str, path: Path) -> None:
    """An object as a new local file. Raises `FileNotFoundError`, `ObjectError`."""
    facts = facts_of(bucket, key)
    with path.open("wb") as file:
        if facts.st_size:
            read_range(bucket, key, facts.etag, (0, facts.st_size), file.write)


def upload(path: Path, bucket: str, key: str) -> None:
    """A file as an object, large ones in parts: it is there as a whole, or not at all. Raises `ObjectError`."""
    with said_in_words("writing", bucket, key), path.open("rb") as stream:
        client().upload_fileobj(stream, bucket, key)


def delete(bucket: str, key: str) -> None:
    """Remove an object, if it is there."""
    with said_in_words("deleting", bucket, key):
        client().delete_object(Bucket=bucket, Key=key)
