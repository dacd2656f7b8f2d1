"""A server in front of an S3 server, for tests and benchmarks: it counts requests, delays, and refuses some."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

_PIECE = 1 << 16
_NOT_PASSED_ON = frozenset({"connection", "transfer-encoding"})


class Answer(NamedTuple):
    """What a request is answered with instead of the server's own words."""

    status: int
    code: str
    message: str = "as the test asks for"
    more: str = ""

    def xml(self) -> bytes:
        """As S3 writes it."""
        said = f"<Code>{self.code}</Code><Message>{self.message}</Message>{self.more}"
        return f'<?xml version="1.0" encoding="UTF-8"?><Error>{said}</Error>'.encode()


class Seen(NamedTuple):
    """A request: ``kind`` is PUT, GET, HEAD, LIST, DELETE (of many), DELETE_ONE, or of a multipart upload START, PART,
    END, ABORT; ``keys`` those of a delete."""

    kind: str
    path: str
    status: int
    keys: int = 0


@dataclass
class Proxy:
    """What has been seen, and what shall happen.

    Attributes:
        endpoint: where it listens.
        latency_s: added to each request.
        bytes_per_s: of each connection; 0 = as quick as can be.
        refuse: given kind and path; an answer of its own, or None to pass it on. ``drop`` instead of an answer closes
            the connection.
        after: the same, once the server has carried the request out: its answer is lost.
        headers: of answers that are passed on, in place of the server's.
        in_turn: creates of one object are passed on one after the other. SeaweedFS, where several come at once, looks
            once a second whose turn it is.
        seen: all requests.
        most_at_once: requests that were under way together.
    """

    endpoint: str
    target: tuple[str, int]
    latency_s: float = 0.0
    bytes_per_s: float = 0.0
    refuse: Callable[[str, str], Answer | str | None] = lambda kind, path: None
    after: Callable[[str, str], Answer | str | None] = lambda kind, path: None
    headers: Mapping[str, str] = field(default_factory=dict)
    in_turn: bool = False
    turns: defaultdict[str, threading.Lock] = field(default_factory=lambda: defaultdict(threading.Lock))
    seen: list[Seen] = field(default_factory=list)
    most_at_once: int = 0
    now: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    ended: threading.Event = field(default_factory=threading.Event)

    def kinds(self) -> Counter[str]:
        """How many requests of each kind; a GET of what was not there is a MISS."""
        return Counter("MISS" if each.kind == "GET" and each.status == 404 else each.kind for each in self.seen)

    def forget(self) -> None:
        """Count from here."""
        with self.lock:
            self.seen, self.most_at_once = [], 0


@contextlib.contextmanager
def s3_proxy(endpoint: str) -> Iterator[Proxy]:
    """A proxy of the server at ``endpoint``, with whose signatures it does not interfere."""
    at = urlsplit(endpoint)
    proxy = Proxy("", (at.hostname or "127.0.0.1", at.port or 80))
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": proxy}))
    proxy.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # clients keep connections that they may use again
    request_queue_size = 256


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    proxy: Proxy
    upstream: http.client.HTTPConnection | None = None
    under_way = False

    def handle_any(self) -> None:
        proxy = self.proxy
        with proxy.lock:
            proxy.now += 1
            proxy.most_at_once = max(proxy.most_at_once, proxy.now)
        self.under_way = True
        try:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            proxy.ended.wait(proxy.latency_s + self._moving_s(len(body)))
            self._handle(body)
            if not self.close_connection:
                self.wfile.flush()
        finally:
            self._over()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

    def _over(self, *seen: Seen) -> None:
        """Before the answer leaves: who has it may look at once at what was seen, and make the next request."""
        with self.proxy.lock:
            self.proxy.now -= self.under_way
            self.proxy.seen += seen
        self.under_way = False

    def _handle(self, body: bytes) -> None:
        kind, keys = self._kind(), body.count(b"<Key>")
        said = self.proxy.refuse(kind, self.path)
        if said is not None:
            return self._say(said, keys)
        try:
            with self._turn():
                answer = self._passed_on(body)
                data = answer.read()
        except (OSError, http.client.HTTPException):  # it is gone, and so is this connection
            return self._say("drop", keys)
        said = self.proxy.after(kind, self.path)
        if said is not None:
            return self._say(said, keys)
        self.proxy.ended.wait(self._moving_s(len(data)))
        self.send_response_only(answer.status)
        ours = {} if self.command == "HEAD" else {"Content-Length": str(len(data))}
        ours |= self.proxy.headers
        for name, value in answer.getheaders():
            if name.lower() not in _NOT_PASSED_ON.union(map(str.lower, ours)):
                self.send_header(name, value)
        for name, value in ours.items():
            self.send_header(name, value)
        self._over(Seen(kind, self.path, answer.status, keys))
        self.end_headers()
        self.wfile.write(data)
        return None

    def _turn(self) -> contextlib.AbstractContextManager[object]:
        if not (self.proxy.in_turn and "If-None-Match" in self.headers):
            return contextlib.nullcontext()
        with self.proxy.lock:
            return self.proxy.turns[self.path]

    def _passed_on(self, body: bytes) -> http.client.HTTPResponse:
        """The server's answer, over a connection of this connection's own."""
        if self.upstream is None:
            self.upstream = http.client.HTTPConnection(*self.proxy.target)
        self.upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            self.upstream.putheader(name, value)
        self.upstream.endheaders(body)
        return self.upstream.getresponse()

    def _say(self, said: Answer | str, keys: int) -> None:
        """An answer of the proxy's own; or none."""
        self._over(Seen(self._kind(), self.path, 0 if isinstance(said, str) else said.status, keys))
        if isinstance(said, str):
            self.close_connection = True
            self.connection.close()
            return
        data = said.xml()
        self.send_response_only(said.status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _moving_s(self, size: int) -> float:
        return size / self.proxy.bytes_per_s if self.proxy.bytes_per_s else 0.0

    def _kind(self) -> str:
        asked = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        command = self.command
        if command == "POST":
            return "DELETE" if "delete" in asked else "START" if "uploads" in asked else "END"
        if "uploadId" in asked:
            return "PART" if command == "PUT" else "ABORT"
        if command == "GET" and ("list-type" in asked or "prefix" in asked):
            return "LIST"
        return "DELETE_ONE" if command == "DELETE" else command

    def finish(self) -> None:
        """The connection has ended."""
        if self.upstream is not None:
            self.upstream.close()
        with contextlib.suppress(OSError, ValueError):
            super().finish()

    def log_message(self, *_: object) -> None:
        """It is seen instead."""
