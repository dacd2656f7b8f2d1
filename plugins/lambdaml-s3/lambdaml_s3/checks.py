"""What ``lambdaml doctor`` looks at in S3 for a bucket, and how it makes one; workers do not import this."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from lambdaml_core.errors import LambdaMLError, StorageError
from lambdaml_core.findings import Finding
from lambdaml_s3.client import bucket_client, found_credentials
from lambdaml_s3.failures import NEEDED, shown, unreachable
from lambdaml_s3.place import Place

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_SKEW_S, _MOST_SKEW_S = 60.0, 900.0  # S3 refuses what is signed more than 15 minutes ago, or ahead
_MADE = frozenset({"BucketAlreadyOwnedByYou"})
_NO_RULES = frozenset({"NoSuchLifecycleConfiguration"})


def checks(place: Place) -> Iterator[Finding]:
    """Look at credentials, bucket, region, clock and lifecycle rules."""
    try:
        yield _credentials(place)
        client = bucket_client(place)
    except LambdaMLError as e:
        yield Finding(what="credentials", state="problem", said=e.message, remedy=e.hint or "see the AWS configuration")
        return
    except (BotoCoreError, ValueError) as e:
        said = shown(place, str(e))
        yield Finding(what="credentials", state="problem", said=said, remedy="see the AWS configuration")
        return
    try:
        headers, bucket = _bucket(place, client)
        yield bucket
        yield from _clock(headers)
        if bucket.state == "ok":
            yield _lifecycle(place, client)
    except BotoCoreError as e:
        error = unreachable(place, str(e))
        yield Finding(what="bucket", state="problem", said=error.message, remedy=error.hint)
    finally:
        client.close()


def create_bucket(place: Place) -> None:
    """Make the bucket where there is none. Idempotent.

    Raises:
        StorageDenied: there are no credentials.
        StorageError: it cannot be made: somebody else's has its name, or that is not allowed.
    """
    client = bucket_client(place)
    region = client.meta.region_name
    try:
        if place.is_aws and region != "us-east-1":
            client.create_bucket(
                Bucket=place.bucket,
                CreateBucketConfiguration={"LocationConstraint": region},  # type: ignore[typeddict-item]  # any region
            )
        else:
            client.create_bucket(Bucket=place.bucket)
    except ClientError as e:
        if _code(e) not in _MADE:
            hint = "choose another name, or have s3:CreateBucket allowed"
            raise StorageError(f"{place.name} cannot be made: {_said(place, e)}", hint=hint) from None
    except BotoCoreError as e:
        raise unreachable(place, str(e)) from None
    finally:
        client.close()


def _credentials(place: Place) -> Finding:
    if place.options.anonymous:
        return Finding(what="credentials", state="ok", said="none are used: anonymous")
    _, credentials = found_credentials(place)
    return Finding(what="credentials", state="ok", said=f"found by the way {credentials.method} of boto3")


def _bucket(place: Place, client: S3Client) -> tuple[Mapping[str, str], Finding]:
    """What became of the bucket; with the headers of the answer."""
    asked = client.meta.region_name
    try:
        answer: Any = client.head_bucket(Bucket=place.bucket)
    except ClientError as e:
        headers = _headers(e.response)
        return headers, _refused(place, e, headers.get("x-amz-bucket-region", asked), asked)
    headers = _headers(answer)
    region = headers.get("x-amz-bucket-region", asked)
    if region != asked:
        return headers, _other_region(place, region, asked)
    return headers, Finding(what="bucket", state="ok", said=f"{place.name} can be reached", values={"region": region})


def _refused(place: Place, error: ClientError, region: str, asked: str) -> Finding:
    """Answers to HEAD have a status and no words."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if region != asked or status == 301:
        return _other_region(place, region, asked)
    if status == 404 and place.zone:
        remedy = "make this directory bucket: aws s3api create-bucket, with its zone"
        return Finding(what="bucket", state="problem", said=f"{place.name}: there is no such bucket", remedy=remedy)
    if status == 404:
        return Finding(
            what="bucket",
            state="problem",
            said=f"{place.name}: there is no such bucket",
            remedy=f"lambdaml doctor --fix, or aws s3 mb s3://{place.bucket} --region {asked}",
            fix=lambda: create_bucket(place),
        )
    if status == 403:
        said = f"{place.name}: these credentials are refused, or may not look at the bucket"
        return Finding(what="bucket", state="problem", said=said, remedy=f"have these allowed: {NEEDED}")
    said = f"{place.name}: {_said(place, error)}"
    return Finding(what="bucket", state="problem", said=said, remedy="see that region and endpoint_url are right")


def _other_region(place: Place, region: str, asked: str) -> Finding:
    said = f"{place.name} is in another region than {asked}"
    remedy = f"add ?region={region if region != asked else '...'} to the URL, and have workers in that region"
    return Finding(what="bucket", state="problem", said=said, remedy=remedy)


def _clock(headers: Mapping[str, str]) -> Iterator[Finding]:
    try:
        theirs = parsedate_to_datetime(headers.get("date", ""))
    except ValueError:
        return
    skew_s = abs((datetime.now(UTC) - theirs).total_seconds())
    values = {"skew_s": skew_s}
    if skew_s < _SKEW_S:
        yield Finding(what="signatures", state="ok", said="this machine's clock is near the service's", values=values)
        return
    refused = skew_s > _MOST_SKEW_S
    yield Finding(
        what="signatures",
        state="problem" if refused else "warning",
        said=f"this machine's clock is {skew_s:.0f} s off: S3 refuses what is signed {_MOST_SKEW_S:.0f} s off",
        remedy="set the clock: timedatectl set-ntp true",
        values=values,
    )


def _lifecycle(place: Place, client: S3Client) -> Finding:
    """A worker that is killed leaves the parts of its upload, which nothing shows and which are paid for."""
    if place.zone:
        return Finding(what="lifecycle", state="ok", said="directory buckets give up uploads by themselves")
    try:
        answer: Any = client.get_bucket_lifecycle_configuration(Bucket=place.bucket)
        rules = [rule for rule in answer.get("Rules", []) if rule.get("Status") == "Enabled"]
    except ClientError as e:
        if _code(e) not in _NO_RULES:
            said = f"the rules of the bucket cannot be seen: {_said(place, e)}"
            remedy = "have s3:GetLifecycleConfiguration allowed, or see that uploads which nobody ends are given up"
            return Finding(what="lifecycle", state="warning", said=said, remedy=remedy)
        rules = []
    removing = [rule for rule in rules if "Expiration" in rule and _meets(place, rule)]
    if removing:
        said = (
            f"the rule {shown(place, removing[0].get('ID', 'without a name'))} removes values, a run's checkpoints too"
        )
        remedy = "exempt this prefix, or have it last longer than any run"
        return Finding(what="lifecycle", state="warning", said=said, remedy=remedy)
    if any("AbortIncompleteMultipartUpload" in rule for rule in rules):
        return Finding(what="lifecycle", state="ok", said="uploads that nobody ends are given up")
    return Finding(
        what="lifecycle",
        state="warning",
        said="uploads of large values that a killed worker leaves are kept, and charged, for ever",
        remedy="add the lifecycle rule AbortIncompleteMultipartUpload to the bucket; the README has it",
    )


def _meets(place: Place, rule: Mapping[str, Any]) -> bool:
    """Whether a rule is about keys of this place."""
    theirs = rule.get("Filter", {})
    prefix = rule.get("Prefix") or theirs.get("Prefix") or theirs.get("And", {}).get("Prefix") or ""
    return bool(place.prefix.startswith(prefix) or prefix.startswith(place.prefix))


def _headers(answer: Any) -> Mapping[str, str]:
    headers: Mapping[str, str] = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return headers


def _code(error: ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "")


def _said(place: Place, error: ClientError) -> str:
    return shown(place, f"{_code(error)}: {error.response.get('Error', {}).get('Message', '')}")
