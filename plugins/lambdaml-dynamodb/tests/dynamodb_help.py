"""A proxy before the stand-in, which sees every request and may answer in its place; and who has which rights there."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import boto3
import pytest

from lambdaml_core.options import parse
from lambdaml_core.storage import StorageURL
from lambdaml_core.storage.layers import Complete
from lambdaml_dynamodb.options import DynamoDBOptions
from lambdaml_dynamodb.storage import DynamoDBStorage
from lambdaml_dynamodb.testing import REGION, DynamoDBServer

Answer: TypeAlias = tuple[int, Any]
"""An HTTP status, and JSON or bytes."""


@dataclass
class Proxy:
    """What is between.

    Attributes:
        server: what is behind.
        endpoint: where it listens.
        seen: all requests so far: operation and parameters.
        at_once: most requests that were under way at one moment.
        intercept: called with operation, parameters, and what forwards other parameters in their place; None leaves the
            request as it is; ``b""`` as an answer closes the connection without one.
    """

    server: DynamoDBServer
    endpoint: str = ""
    seen: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    at_once: int = 0
    intercept: Callable[[str, dict[str, Any], Callable[[Any], Answer]], Answer | None] = lambda *_: None
    _under_way: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def url(self, place: str, **options: object) -> str:
        """Of a table, or ``table/prefix``, through this proxy."""
        more = "".join(f"&{name}={value}" for name, value in options.items())
        return f"dynamodb://{place}?region={REGION}&endpoint_url={self.endpoint}{more}"

    def of(self, operation: str) -> list[dict[str, Any]]:
        """The parameters of all requests of a kind."""
        return [parameters for each, parameters in self.seen if each == operation]

    def fail(self, status: int, code: str, message: str = "no reason") -> None:
        """Answer every request with an error, as DynamoDB writes it."""
        error = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": message}
        self.intercept = lambda *_: (status, error)

    def answer(self, operation: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """The answer to one request."""
        parameters = json.loads(body)
        with self._lock:
            self.seen.append((operation, parameters))
            self._under_way += 1
            self.at_once = max(self.at_once, self._under_way)
        try:

            def forward(other: Any) -> Answer:
                return self._forward(json.dumps(other).encode(), headers)

            return self.intercept(operation, parameters, forward) or self._forward(body, headers)
        finally:
            with self._lock:
                self._under_way -= 1

    def _forward(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        there = urlsplit(self.server.endpoint)
        connection = http.client.HTTPConnection(there.hostname or "", there.port, timeout=60)
        with contextlib.closing(connection):
            connection.request("POST", "/", body, {**headers, "Content-Length": str(len(body))})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())


@contextlib.contextmanager
def proxy(server: DynamoDBServer) -> Iterator[Proxy]:
    """A proxy on the loopback interface."""
    ours = Proxy(server)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            operation = self.headers["X-Amz-Target"].partition(".")[2]
            status, said = ours.answer(operation, body, dict(self.headers.items()))
            if said == b"":
                self.close_connection = True
                return
            data = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    ours.endpoint = f"http://127.0.0.1:{listening.server_address[1]}"
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield ours
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


@contextlib.contextmanager
def opened(url: str) -> Iterator[Complete]:
    """The plugin's own storage, with no layer around it that would cut values or try again."""
    parsed = StorageURL.parse(url)
    with contextlib.closing(DynamoDBStorage(parsed, parse(DynamoDBOptions, parsed.query, where="dynamodb"))) as own:
        yield Complete(own)


def client_of(server: DynamoDBServer) -> Any:
    """The SDK's own client, past the plugin."""
    return boto3.client("dynamodb", region_name=REGION, endpoint_url=server.endpoint)


def become(monkeypatch: pytest.MonkeyPatch, server: DynamoDBServer, user: str, policy: Mapping[str, Any] | None) -> str:
    """Make a user with these rights, or with none, and have this process be that user; the user's secret."""
    iam = boto3.client("iam", region_name=REGION, endpoint_url=server.endpoint)
    iam.create_user(UserName=user)
    if policy is not None:
        iam.put_user_policy(UserName=user, PolicyName="only", PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName=user)["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    return str(key["SecretAccessKey"])
