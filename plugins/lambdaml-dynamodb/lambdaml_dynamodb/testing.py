"""A stand-in of DynamoDB for tests and benchmarks: ministack, which checks signatures and permissions as AWS does.

It is a program on the ``PATH``, from an environment of its own, since it needs a botocore of its own::

    python3 -m venv servers && servers/bin/pip install ministack==1.5.33 && PATH=$PATH:$PWD/servers/bin pytest ...
"""

from __future__ import annotations

import contextlib
import tempfile
import urllib.request
from collections.abc import Iterator

from lambdaml_core.testing.servers import Server, environment, free_port, program
from lambdaml_dynamodb.checks import create_table
from lambdaml_dynamodb.client import Client
from lambdaml_dynamodb.options import DynamoDBOptions

REGION = "us-east-1"
TABLE = "lambdaml-test"

_PROGRAM = "ministack"
_REMEDY = "pip install ministack==1.5.33 in an environment of its own, with its bin folder on the PATH"
_OWNER = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test-secret"}


class DynamoDBServer(Server):
    """A stand-in that keeps nothing on disk, with one account whose owner the process is that has ``environment``.

    Attributes:
        endpoint: ``http://127.0.0.1:PORT``.
        environment: the owner's credentials, as boto3 reads them.
    """

    def __init__(self, folder: str) -> None:
        port = free_port()
        self.endpoint = f"http://127.0.0.1:{port}"
        self.environment = {**_OWNER, "AWS_EC2_METADATA_DISABLED": "true"}
        theirs = {
            "AUTH": "true",
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "AWS_ENDPOINT_URL": self.endpoint,
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "S3_DATA_DIR": folder,
            "LOG_LEVEL": "WARNING",
            **_OWNER,
        }
        super().__init__([program(_PROGRAM, _REMEDY)], self._is_up, environment=theirs)

    @property
    def url(self) -> str:
        """The table :data:`TABLE`."""
        return self.url_of(TABLE)

    def url_of(self, place: str) -> str:
        """A table, or ``table/prefix``."""
        return f"dynamodb://{place}?region={REGION}&endpoint_url={self.endpoint}"

    def _is_up(self) -> bool:
        with urllib.request.urlopen(f"{self.endpoint}/_ministack/health") as answer:  # noqa: S310  (http, on loopback)
            return bool(answer.status == 200)


@contextlib.contextmanager
def dynamodb_server() -> Iterator[DynamoDBServer]:
    """A stand-in with the table :data:`TABLE`; meanwhile this process, and what it starts, has its credentials.

    Raises:
        RuntimeError: ministack is not installed, or does not answer.
    """
    with (
        tempfile.TemporaryDirectory(prefix="lambdaml-dynamodb-", ignore_cleanup_errors=True) as folder,
        DynamoDBServer(folder) as server,
        environment("AWS_", server.environment),
    ):
        make_table(server.endpoint, TABLE)
        yield server


def make_table(endpoint: str, table: str) -> None:
    """Create a table as ``lambdaml doctor --fix`` does, if it is not there."""
    with contextlib.closing(Client(table, DynamoDBOptions(region=REGION, endpoint_url=endpoint))) as client:
        create_table(client)
