"""A proxy before the stand-in: every request of drivers and functions goes through it, and some fare ill."""

from __future__ import annotations

import http.client
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from lambdaml_aws_lambda.testing import AwsServer, aws_server

_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}  # of one connection


class Request(NamedTuple):
    """One request, as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def launches(self) -> bool:
        """Whether it is an asynchronous invocation."""
        kind = {name.lower(): value for name, value in self.headers.items()}.get("x-amz-invocation-type")
        return self.path.endswith("/invocations") and kind == "Event"


class Answer(NamedTuple):
    """What comes back."""

    status: int
    headers: dict[str, str]
    body: bytes


class Proxy(ThreadingHTTPServer):
    """Hands each request to ``meddle``, with what passes a request on; signatures hold, since nothing is changed.

    Attributes:
        endpoint: where it listens.
        origin: of the stand-in, known once that has started.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, meddle: Callable[[Request, Callable[[Request], Answer]], Answer]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"
        self.origin = ""
        self._meddle = meddle

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A function that was killed hears no answer."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def answer(self, request: Request) -> Answer:
        return self._meddle(request, self._forward)

    def _forward(self, request: Request) -> Answer:
        connection = http.client.HTTPConnection(self.origin.partition("://")[2], timeout=60)
        try:
            connection.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.items():
                connection.putheader(name, value)
            connection.endheaders(request.body)
            got = connection.getresponse()
            return Answer(got.status, dict(got.getheaders()), got.read())
        finally:
            connection.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Proxy

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, headers, content = self.server.answer(
            Request(self.command, self.path, dict(self.headers.items()), body)
        )
        self.send_response(status)
        length = {name.lower(): value for name, value in headers.items()}.get("content-length")
        for name, value in headers.items():
            if name.lower() not in _HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = _answer


@contextmanager
def behind(
    meddle: Callable[[Request, Callable[[Request], Answer]], Answer], *, early: bool = False
) -> Iterator[AwsServer]:
    """A stand-in all of whose requests go through a proxy; ``early`` as of :class:`AwsServer`."""
    with Proxy(meddle) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.01,))
        thread.start()
        try:
            with aws_server(front=proxy.endpoint, early=early) as server:
                proxy.origin = server.origin
                yield server
        finally:
            proxy.shutdown()
            thread.join()
