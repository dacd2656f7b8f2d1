"""One client of one table for all threads, connected at first use."""

from __future__ import annotations

import functools
import random
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import botocore.session
from boto3 import Session  # not of boto3.session, for another thread that imports boto3 would then find half of it
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import NoCredentialsError
from botocore.loaders import Loader, create_loader
from botocore.parsers import ResponseParserError

from lambdaml_core.errors import StorageUnavailable
from lambdaml_dynamodb.failures import failures
from lambdaml_dynamodb.options import DynamoDBOptions

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

T = TypeVar("T")

_CONNECT_S = 5.0
_TRIES = 8  # of a batch of which something was left
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0


class Client:
    """Makes requests, and raises LambdaML's errors."""

    def __init__(self, table: str, options: DynamoDBOptions) -> None:
        self.table = table
        self._options = options
        self._lock = threading.Lock()
        self._connected: DynamoDBClient | None = None

    def ask(self, request: Callable[[DynamoDBClient], T]) -> T:
        """Make one request.

        Raises:
            StorageDenied, StorageUnavailable, ConditionFailed, TableMissing, TableInUse, StorageError
        """
        with failures(self.table):
            return request(self._connect())

    def exhaust(self, send: Callable[[list[T]], list[T]], batch: list[T]) -> None:
        """Send a batch, and what DynamoDB leaves of it again, after pauses with full jitter.

        Args:
            send: makes one request; returns what was left.

        Raises:
            StorageUnavailable: something was left of every try.
        """
        longest_s = _FIRST_PAUSE_S
        for _ in range(_TRIES):
            batch = send(batch)
            if not batch:
                return
            time.sleep(random.uniform(0, longest_s))  # noqa: S311  (no secret)
            longest_s = min(2 * longest_s, _LONGEST_PAUSE_S)
        raise StorageUnavailable(
            f"the table {self.table} left {len(batch)} of a batch undone, {_TRIES} times",
            hint="more is asked of it than it gives: see its throughput, and how it is billed",
        )

    def credentials(self) -> str:
        """Where boto3 finds credentials, in its words.

        Raises:
            StorageDenied: nowhere.
        """
        with failures(self.table):
            found = self._session().get_credentials()
            if found is None:
                raise NoCredentialsError
            return str(found.method)

    def close(self) -> None:
        """Give back connections. Idempotent; a later request connects again."""
        with self._lock:
            connected, self._connected = self._connected, None
        if connected is not None:
            connected.close()

    def _connect(self) -> DynamoDBClient:
        connected = self._connected
        if connected is not None:
            return connected
        with self._lock:
            if self._connected is None:
                self._connected = self._client()
            return self._connected

    def _client(self) -> DynamoDBClient:
        """It tries nothing again: that is the Retry layer's, which knows the deadline."""
        o = self._options
        config = Config(
            connect_timeout=min(o.timeout_s, _CONNECT_S),
            read_timeout=o.timeout_s,
            max_pool_connections=o.connections,
            tcp_keepalive=True,
            retries={"total_max_attempts": 1},
            parameter_validation=False,
            user_agent="lambdaml-dynamodb",  # making the usual one takes a tenth of a request's time
        )
        made = self._session().client("dynamodb", region_name=o.region, endpoint_url=o.endpoint_url, config=config)
        made.meta.events.register("after-call.dynamodb", _check_answer)
        return made

    def _session(self) -> Session:
        """One of its own: building clients from the process's default one is not for several threads."""
        ours = botocore.session.Session(profile=self._options.profile)
        ours.register_component("data_loader", _loader())
        return Session(botocore_session=ours)


def _check_answer(http_response: AWSResponse, **_: object) -> None:
    """Refuse what is no JSON object: the SDK takes any page with status 200 for the answer that nothing was found."""
    body = http_response.content
    if http_response.status_code < 300 and body[:1] + body[-16:].rstrip()[-1:] != b"{}":
        raise ResponseParserError("what answers is not DynamoDB")


@functools.cache
def _loader() -> Loader:
    """The descriptions of AWS's services, read once: that takes ten times as long as the rest of a client."""
    return create_loader()
