"""What AWS and its SDK say went wrong, as errors of LambdaML: no secret, no ARN and no account number in them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import ClassVar

from botocore.exceptions import (
    ClientError,
    CredentialRetrievalError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSLError,
    SSOError,
    WaiterError,
)
from botocore.exceptions import ConnectionError as NoConnectionError

from lambdaml_core.errors import LambdaMLError, LaunchFailed, UsageError


class CloudError(LaunchFailed):
    """AWS refused or failed."""

    code: ClassVar[str] = "cloud"


class CloudDenied(CloudError):
    """Credentials are wrong, missing or expired, or do not allow this."""

    code: ClassVar[str] = "cloud_denied"
    exit_code: ClassVar[int] = 2


class CloudBusy(CloudError):
    """A transient failure, throttling among them: the same request may succeed later."""

    code: ClassVar[str] = "cloud_busy"


class CloudQuota(CloudError):
    """A quota of the account is too low."""

    code: ClassVar[str] = "cloud_quota"
    exit_code: ClassVar[int] = 2


class NotThere(CloudError):
    """What is asked for does not exist."""

    code: ClassVar[str] = "cloud_missing"


class Taken(UsageError):
    """A name belongs to something that LambdaML has not made, or somebody makes it at this moment."""

    code: ClassVar[str] = "cloud_taken"


_CREDENTIALS = frozenset(
    {
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "InvalidToken",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_MISSING = frozenset(
    {"404", "NoSuchBucket", "NoSuchEntity", "NoSuchKey", "NotFound", "ResourceNotFoundException", "NoSuchTagSet"}
)
_TAKEN = frozenset({"EntityAlreadyExists", "ResourceAlreadyExistsException", "ResourceConflictException"})
_BUSY = frozenset(
    {
        "ConcurrentModification",
        "EC2ThrottledException",
        "ENILimitReachedException",
        "InternalFailure",
        "OperationAbortedException",
        "RequestLimitExceeded",
        "RequestTimeout",
        "ServiceException",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_QUOTA = frozenset({"CodeStorageExceededException", "LimitExceeded", "LimitExceededException"})
_TOO_LARGE = frozenset({"RequestEntityTooLargeException", "RequestTooLargeException"})
_DENIED = re.compile(r"perform:? ([a-z0-9-]+:[A-Za-z]+)(?: on resource:? (\S+))?")
_ARN = re.compile(r"arn:[a-z-]+:[a-z0-9-]*:[a-z0-9-]*:[0-9*]*:([^\s,;\"')]+)")
_ACCOUNT = re.compile(r"(?<![0-9])[0-9]{12}(?![0-9])")
_LONGEST = 300
_RENEW = "see that the AWS credentials are valid and not expired: aws sts get-caller-identity"


@contextlib.contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise errors of LambdaML for those of the SDK.

    Args:
        doing: what is being done, to start the message: ``making the role lambdaml-x``.

    Raises:
        CloudDenied, CloudBusy, CloudQuota, NotThere, Taken, CloudError
    """
    try:
        yield
    except LambdaMLError:
        raise
    except ClientError as e:
        # not chained: it holds ARNs, and of a wrong signature the whole request with its session token
        raise _of_service(doing, e) from None
    except WaiterError as e:
        raise CloudError(f"{doing}: it does not get ready: {plain(str(e))}", hint="look again in a minute") from e
    except (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError, SSOError) as e:
        raise CloudDenied(
            f"{doing}: no AWS credentials: {plain(str(e))}",
            hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile, or give the machine a role",
        ) from e
    except ProfileNotFound as e:
        raise CloudDenied(f"{doing}: {plain(str(e))}", hint="see aws configure list-profiles") from e
    except SSLError as e:
        hint = "see that provider.endpoint_url is right, and that AWS_CA_BUNDLE names who signed its certificate"
        raise CloudError(f"{doing}: {plain(str(e))}", hint=hint) from e
    except (EndpointConnectionError, NoConnectionError, HTTPClientError) as e:
        hint = "see that provider.region is a region of AWS, and that this machine reaches it"
        raise CloudBusy(f"{doing}: AWS cannot be reached: {plain(str(e))}", hint=hint) from e
    except Exception as e:
        hint = "see the table [provider] of the job and the AWS configuration"
        raise CloudError(f"{doing}: {type(e).__name__}: {plain(str(e))}", hint=hint) from e


def plain(text: str) -> str:
    """One line without ARNs and account numbers, which are shortened to what they name."""
    shorter = _ARN.sub(r"\1", " ".join(text.split()))
    return _ACCOUNT.sub("(account)", shorter)[:_LONGEST]


def _of_service(doing: str, error: ClientError) -> LambdaMLError:
    answer = error.response
    code = str(answer.get("Error", {}).get("Code", ""))
    raw = answer.get("Error", {}).get("Message", "")
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    message = f"{doing}: {plain(raw.partition(chr(10))[0])} ({code})"
    if code in _CREDENTIALS:
        return CloudDenied(f"{doing}: AWS does not take the credentials ({code})", hint=_RENEW)
    if status == 403 or "AccessDenied" in code or code == "UnauthorizedOperation":
        return _denied(doing, code, raw, error.operation_name)
    if "UnreservedConcurrentExecution" in raw:
        return CloudQuota(message, hint="ask AWS for more concurrent executions, or leave out reserved_concurrency")
    if "PermanentRedirect" in raw or code in ("PermanentRedirect", "AuthorizationHeaderMalformed"):
        return CloudError(message, hint="the bucket is in another region: name one in that of the functions")
    if code in _MISSING or (code == "" and status == 404):
        return NotThere(message, hint="see that the name is right, and the region")
    if code in _TAKEN:
        return Taken(message, hint="try again in a minute; or choose another name for the job")
    if code in _QUOTA:
        return CloudQuota(message, hint="remove what is not needed (lambdaml teardown --all), or ask AWS for more")
    if code in _TOO_LARGE:
        return CloudError(message, hint="the package is too large: take out requirements of the job")
    if code in _BUSY or status >= 500 or status == 429:
        return CloudBusy(message, hint="AWS takes less at a time than it is asked for: try again in a minute")
    return CloudError(message, hint="see the table [provider] of the job")


def _denied(doing: str, code: str, raw: str, operation: str) -> CloudDenied:
    """Name the permission: AWS does in most services; S3's HEAD answers carry no word of it."""
    found = _DENIED.search(raw)
    action = found[1] if found else operation
    where = f" on {plain(found[2])}" if found and found[2] else ""
    hint = f"allow {action}{where} in IAM: lambdaml plan JOB prints the whole policy that is needed"
    if action.startswith("s3:") or found is None:
        hint += "; a bucket of another account's lets in whom its owner lets in"
    return CloudDenied(f"{doing}: not allowed: {action}{where} ({code})", hint=hint)
