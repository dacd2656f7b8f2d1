"""A service that gives the answers that a test has written down, one after another, and keeps what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from lambdaml_aws_lambda.client import Client
from lambdaml_aws_lambda.options import AwsLambdaOptions
from lambdaml_aws_lambda.testing import REGION
from lambdaml_core.testing.servers import environment


class Answer(NamedTuple):
    """One answer: ``body`` as JSON; ``error`` is AWS's word for what went wrong; ``request`` its number."""

    status: int = 200
    body: Any = None
    error: str = ""
    request: str = ""


class Asked(NamedTuple):
    """One question."""

    path: str
    headers: dict[str, str]
    body: Any


class Answers(ThreadingHTTPServer):
    """Listens on loopback.

    Attributes:
        endpoint: where that is.
        asked: all questions, in order.
    """

    daemon_threads = True

    def __init__(self, answers: Sequence[Answer]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"
        self.asked: list[Asked] = []
        self._answers = iter(answers)
        self._lock = threading.Lock()

    def client(self) -> Client:
        """One that asks here, and nothing twice."""
        return Client(AwsLambdaOptions(region=REGION, endpoint_url=self.endpoint), tries=1)

    def next(self, asked: Asked) -> Answer:
        with self._lock:
            self.asked.append(asked)
            return next(self._answers)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Answers

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"null")
        answer = self.server.next(Asked(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        content = b"" if answer.body is None else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("x-amzn-RequestId", answer.request)
        if answer.error:
            self.send_header("x-amzn-ErrorType", answer.error)
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def answering(*answers: Answer) -> Iterator[Answers]:
    """A service until the end of the block; meanwhile this process has credentials of nobody."""
    credentials = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing"}
    with Answers(answers) as service, environment("AWS_", credentials):
        thread = threading.Thread(target=service.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield service
        finally:
            service.shutdown()
            thread.join()
