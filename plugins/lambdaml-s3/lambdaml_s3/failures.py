"""What S3 and its clients say went wrong, as errors of LambdaML.

Messages of clients have whole requests in them, with a session's token, so nothing but code and message of the answer
is taken from them, and they are not chained.
"""

from __future__ import annotations

import re

from lambdaml_core.errors import (
    KeyNotFound,
    StorageDenied,
    StorageError,
    StorageFull,
    StorageUnavailable,
    ValueTooLarge,
)
from lambdaml_s3.place import Place

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>|\(code: (\w+)\)")
_MESSAGE = re.compile(r"<Message>([^<]+)</Message>")
_REGION = re.compile(r"expecting '([a-z0-9-]+)'|<Region>([a-z0-9-]+)</Region>")
_LONGEST = 300

_FULL = frozenset({"InsufficientStorage", "QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"})
_IDENTITY = frozenset(
    {
        "AuthFailure",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidSecurity",
        "InvalidToken",
        "MissingSecurityHeader",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    }
)
_PASSING = frozenset(
    {
        "BadDigest",
        "ConditionalRequestConflict",
        "IncompleteBody",
        "InternalError",
        "OperationAborted",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
    }
)
_PASSING_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504})

NEEDED = "s3:GetObject, s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload on the objects, s3:ListBucket on the "
NEEDED += "bucket, without which S3 denies a get of what is not there"


def failure(place: Place, error: Exception) -> StorageError:
    """The error of LambdaML for one of obstore."""
    text = str(error)  # which has the key in it
    found = _STATUS.search(text)
    status = int(found[1]) if found else 0
    code = next((match[1] or match[2] for match in _CODE.finditer(text)), "")
    if code or status:
        return _answered(place, status, code, text)
    if "redirect without LOCATION" in text:  # a redirect to nowhere, as S3's to another region is
        return _elsewhere(place, "it is in another region", text)
    if isinstance(error, FileNotFoundError):
        return KeyNotFound(f"there is no such key in {place.name}")
    if "credential provider" in text:
        return no_credentials(place, "those of this process cannot be renewed")
    return unreachable(place, text)


def unreachable(place: Place, text: str) -> StorageUnavailable:
    """No answer has come; ``text`` is what a client says, of which only the kind is told."""
    at = "AWS" if place.is_aws else "its endpoint_url"
    why = next((why for sign, why in _REASONS.items() if sign in text.lower()), "the connection failed")
    hint = "see whether the network is there, and that region and endpoint_url of the URL are right"
    return StorageUnavailable(f"{place.name}: {at} cannot be reached: {why}", hint=hint)


_REASONS = {
    "dns error": "its name is not known",
    "name or service": "its name is not known",
    "not connect to the endpoint": "nobody listens there",
    "connection refused": "nobody listens there",
    "certificate": "its certificate is not accepted",
    "kind: timeout": "no answer in time",
    "timeout on endpoint": "no answer in time",
    "timed out": "no answer in time",
}


def no_credentials(place: Place, why: str) -> StorageDenied:
    """Nobody has said who makes the requests."""
    hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile, or give the machine or function a role"
    return StorageDenied(f"{place.name}: no AWS credentials: {why}", hint=hint)


def _answered(place: Place, status: int, code: str, text: str) -> StorageError:
    match = _MESSAGE.search(text)
    said = shown(place, f"{code or status}{': ' + match[1] if match else ''}")
    message = f"{place.name}: {said}"
    if code == "NoSuchBucket":
        return StorageDenied(
            f"{place.name}: there is no such bucket",
            hint="make it by lambdaml doctor --fix with this --store, or see that its name and endpoint are right",
        )
    if code == "AuthorizationHeaderMalformed" or status in (301, 307) or code == "PermanentRedirect":
        return _elsewhere(place, said, text)
    if code == "RequestTimeTooSkewed":
        return StorageDenied(message, hint="set the clock of this machine: it is more than 15 minutes off")
    if code in _IDENTITY or status == 401:
        return StorageDenied(message, hint="see that the credentials are right (aws sts get-caller-identity)")
    if status == 403 or code == "AccessDenied":
        return StorageDenied(message, hint=f"have these allowed: {NEEDED}")
    if code in _FULL or status == 507:
        return StorageFull(message, hint="make room in the bucket, or raise its limit")
    if code == "EntityTooLarge" or status == 413:
        return ValueTooLarge(message)
    if code in _PASSING or status in _PASSING_STATUS:
        return StorageUnavailable(message, hint="it takes less at a time than it is asked for, or is not well")
    if status == 404:
        return KeyNotFound(f"there is no such key in {place.name}")
    return StorageError(message)


def _elsewhere(place: Place, said: str, text: str) -> StorageDenied:
    match = _REGION.search(text)
    region = (match[1] or match[2]) if match else "..."
    return StorageDenied(f"{place.name}: {said}", hint=f"say where the bucket is: add ?region={region} to the URL")


def shown(place: Place, text: str) -> str:
    """What a service says, in one line, without what came from the environment."""
    for secret in place.secrets:
        text = text.replace(secret, "***")
    return " ".join(text.split())[:_LONGEST]
