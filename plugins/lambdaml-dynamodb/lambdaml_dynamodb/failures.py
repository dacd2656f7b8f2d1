"""What DynamoDB and its SDK say went wrong, as errors of LambdaML. No secret is in their messages."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from botocore.exceptions import (
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    SSLError,
    SSOError,
)
from botocore.exceptions import ConnectionError as NoConnectionError
from botocore.parsers import ResponseParserError

from lambdaml_core.errors import StorageDenied, StorageError, StorageUnavailable

_DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "KMSAccessDeniedException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "NotAuthorized",
        "OptInRequired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_PASSING = frozenset(
    {
        "InternalFailure",
        "InternalServerError",
        "LimitExceededException",  # too many tables are being made or changed
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestTimeout",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "Throttling",
        "ThrottlingException",
        "TransactionConflictException",
    }
)
_CREDENTIALS = "see that the AWS credentials are valid and not expired (aws sts get-caller-identity)"
_POLICY = "allow it in the IAM policy; the README of lambdaml-dynamodb has the one that is needed"
_CONFIGURATION = "see the URL, its endpoint_url above all, and the AWS configuration"
_LONGEST = 300


class ConditionFailed(StorageError):
    """A create found a value."""


class TableMissing(StorageError):
    """There is no such table."""


class TableInUse(StorageError):
    """The table to be created is there, or is being created or deleted."""


@contextlib.contextmanager
def failures(table: str) -> Iterator[None]:
    """Raise errors of LambdaML for those of the SDK.

    Raises:
        StorageDenied, StorageUnavailable, ConditionFailed, TableMissing, TableInUse, StorageError
    """
    try:
        yield
    except ClientError as e:
        # of a wrong signature AWS shows the whole request, with its session token
        raise _of_service(table, e) from None
    except (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError, SSOError) as e:
        hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile, or give the machine a role"
        raise StorageDenied(f"the table {table}: no AWS credentials: {_line(e)}", hint=hint) from None
    except NoRegionError as e:
        raise StorageError(f"the table {table} is in no region", hint="add ?region=... to the URL") from e
    except ProfileNotFound as e:
        raise StorageDenied(f"the table {table}: {_line(e)}", hint="see aws configure list-profiles") from e
    except SSLError as e:
        hint = "see that endpoint_url is right, and that AWS_CA_BUNDLE names who signed its certificate"
        raise StorageError(f"the table {table}: {_line(e)}", hint=hint) from e
    except (NoConnectionError, HTTPClientError, ResponseParserError) as e:
        raise StorageUnavailable(
            f"the table {table}: {_line(e)}", hint="see whether DynamoDB, or endpoint_url, can be reached"
        ) from e
    except Exception as e:
        raise StorageError(f"the table {table}: {type(e).__name__}: {_line(e)}", hint=_CONFIGURATION) from e


def _of_service(table: str, error: ClientError) -> StorageError:
    answer = error.response
    code = answer.get("Error", {}).get("Code", "")
    said = " ".join(answer.get("Error", {}).get("Message", "").partition("\n")[0].split())[:_LONGEST]
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    message = f"the table {table}: {code}: {said}"
    if code == "ConditionalCheckFailedException":
        return ConditionFailed(message)
    if code == "ResourceNotFoundException":
        return TableMissing(f"there is no table {table}", hint="make it by lambdaml doctor --fix with this --store")
    if code == "ResourceInUseException":
        return TableInUse(message)
    if code in _DENIED:
        return StorageDenied(message, hint=_POLICY if code.startswith("AccessDenied") else _CREDENTIALS)
    if code in _PASSING or status >= 500:
        return StorageUnavailable(message, hint="it takes less at a time than it is asked for")
    if code == "ValidationException" and "schema" in said.lower():
        return StorageError(message, hint="the table was made for something else: name another one")
    return StorageError(message, hint=_CONFIGURATION)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:_LONGEST]
