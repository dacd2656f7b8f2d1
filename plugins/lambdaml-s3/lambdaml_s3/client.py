"""The client of one bucket: obstore's, which moves objects, and boto3's, which knows credentials and makes buckets.

boto3 takes a third of a second to import, which a function pays for at each cold start, so that it is left alone where
the environment has keys, as that of AWS's functions does.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from obstore.store import S3Store

from lambdaml_core.errors import StorageDenied
from lambdaml_s3.failures import no_credentials, shown
from lambdaml_s3.place import Place

if TYPE_CHECKING:
    import boto3
    from botocore.credentials import Credentials
    from mypy_boto3_s3 import S3Client
    from obstore.store import S3Config, S3Credential

_CONNECT_S = 5.0
_FRESH_S = 600.0  # obstore asks again when less than 300 s of it are left; boto3's are good for 600 s at least


def object_client(place: Place) -> S3Store:
    """Connects at its first request. It tries nothing again: the layer above does, within its deadline.

    Raises:
        StorageDenied: there are no credentials, or no such profile.
    """
    keys, provider, configured = _credentials(place)
    return S3Store(
        place.bucket,
        config={**place.config(place.region(configured)), **keys},
        client_options={
            "allow_http": True,  # else an endpoint_url that says http would not be taken at its word
            "connect_timeout": timedelta(seconds=min(_CONNECT_S, place.options.timeout_s)),
            "timeout": timedelta(seconds=place.options.timeout_s),
        },
        retry_config={"max_retries": 0, "retry_timeout": timedelta(0)},
        credential_provider=provider,
    )


def _credentials(place: Place) -> tuple[S3Config, _Provider | None, str | None]:
    """Keys of the environment, or who gives others; and the region that goes with them, if it says so."""
    if place.options.anonymous:
        return {}, None, None
    key, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    if place.options.profile is None and key and secret:
        keys: S3Config = {"access_key_id": key, "secret_access_key": secret}
        token = os.environ.get("AWS_SESSION_TOKEN")
        return {**keys, "session_token": token} if token else keys, None, None
    session, credentials = found_credentials(place)
    return {}, _Provider(credentials), session.region_name


def found_credentials(place: Place) -> tuple[boto3.Session, Credentials]:
    """By boto3's chain: environment, profile, single sign-on, process, container, machine.

    Raises:
        StorageDenied: there are none, or they cannot be had.
    """
    import boto3
    from botocore.exceptions import BotoCoreError

    try:
        session = boto3.Session(profile_name=place.options.profile)
        credentials = session.get_credentials()
        if credentials is not None:
            credentials.get_frozen_credentials()
            return session, credentials
    except BotoCoreError as e:
        raise no_credentials(place, shown(place, str(e))) from None
    raise no_credentials(place, "there are none in this process's environment, configuration and roles")


class _Provider:
    """Gives obstore what boto3 has found, renewed as long as it can be."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def __call__(self) -> S3Credential:
        keys = self._credentials.get_frozen_credentials()
        if keys.access_key is None or keys.secret_key is None:
            raise StorageDenied("AWS credentials without a key")
        return {
            "access_key_id": keys.access_key,
            "secret_access_key": keys.secret_key,
            "token": keys.token,
            "expires_at": datetime.now(UTC) + timedelta(seconds=_FRESH_S),
        }


def bucket_client(place: Place) -> S3Client:
    """For looking at the bucket and making it; never in a round.

    Raises:
        StorageDenied: there are no credentials.
    """
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    config = Config(
        connect_timeout=min(_CONNECT_S, place.options.timeout_s),
        read_timeout=place.options.timeout_s,
        retries={"total_max_attempts": 2},
        s3={"addressing_style": "virtual" if place.virtual else "path"},
    )
    session = boto3.Session() if place.options.anonymous else found_credentials(place)[0]
    if place.options.anonymous:
        config = config.merge(Config(signature_version=UNSIGNED))
    region = place.region(session.region_name)
    client: S3Client = session.client("s3", region_name=region, endpoint_url=place.options.endpoint_url, config=config)
    return client
