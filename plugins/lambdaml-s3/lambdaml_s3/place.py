"""Where a bucket is: what a URL and its options say, checked, without any I/O."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lambdaml_core.errors import URLError
from lambdaml_core.storage import StorageURL, check_key
from lambdaml_s3.options import S3Options

if TYPE_CHECKING:
    from obstore.store import S3Config

LONGEST_KEY = 1024
"""Bytes of an object's name."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ENDPOINT = re.compile(r"https?://[^/@?#\s]+/?")
_EXPRESS = re.compile(r".+--([a-z0-9-]+)--x-s3")


@dataclass(frozen=True)
class Place:
    """A bucket, or the keys of it that start with a prefix.

    Attributes:
        name: for messages; what came from the environment does not show.
        bucket, options: as given.
        prefix: empty, or ends with a slash.
        zone: of a directory bucket (S3 Express One Zone); else empty.
        secrets: what messages may not show.
    """

    name: str
    bucket: str
    prefix: str
    zone: str
    options: S3Options
    secrets: frozenset[str]

    @classmethod
    def of(cls, url: StorageURL, options: S3Options) -> Place:
        """Read a URL.

        Raises:
            URLError: it names no bucket, has a user, a password or a port, or ``endpoint_url`` is no address.
            StorageError: its prefix cannot be part of a key.
        """
        if url.user or url.password:
            raise URLError(
                "an s3:// URL has no user and no password",
                hint="give credentials by the environment, a profile (?profile=...) or a role",
            )
        if url.port is not None:
            raise URLError("an s3:// URL has no port", hint="write s3://bucket/prefix?endpoint_url=http://host:port")
        name = str(replace(url, query={}))
        if not _BUCKET.fullmatch(url.host):
            raise URLError(
                f"{name} names no bucket", hint="write s3://bucket/prefix; a bucket is 3 to 63 of [a-z0-9.-]"
            )
        if options.endpoint_url is not None and not _ENDPOINT.fullmatch(options.endpoint_url):
            raise URLError(f"the endpoint_url of {name} cannot be read", hint="write it as https://host:port")
        path = url.path.strip("/")
        prefix = f"{check_key(path, LONGEST_KEY // 2)}/" if path else ""
        zone = _EXPRESS.fullmatch(url.host)
        return cls(name, url.host, prefix, zone[1] if zone else "", options, url.secrets)

    @property
    def is_aws(self) -> bool:
        """No other service has been named."""
        return self.options.endpoint_url is None

    @property
    def virtual(self) -> bool:
        """The bucket is named in the host; certificates are for hosts without further dots."""
        if self.zone and self.is_aws:
            return True
        path_style = self.options.path_style
        return not path_style if path_style is not None else self.is_aws and "." not in self.bucket

    def region(self, configured: str | None = None) -> str:
        """Of the URL, the environment, the AWS configuration (``configured``), or us-east-1."""
        given = self.options.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        return given or configured or "us-east-1"

    def server(self, region: str) -> str:
        """``https://host`` of the service."""
        if self.options.endpoint_url is not None:
            return self.options.endpoint_url.rstrip("/")
        suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        return f"https://s3express-{self.zone}.{region}.{suffix}" if self.zone else f"https://s3.{region}.{suffix}"

    def config(self, region: str) -> S3Config:
        """For obstore: everything is stated, so that no variable of the environment leads it elsewhere."""
        server = self.server(region)
        if self.virtual:
            scheme, host = urlsplit(server)[:2]
            server = f"{scheme}://{self.bucket}.{host}"
        return {
            "endpoint": server,
            "region": region,
            "virtual_hosted_style_request": self.virtual,
            "s3_express": bool(self.zone) and self.is_aws,
            "skip_signature": self.options.anonymous,
            "unsigned_payload": server.startswith("https:"),  # TLS looks after it already; a hash costs a worker's CPU
        }
