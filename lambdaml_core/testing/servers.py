"""Servers that tests of storages start: real ones, each a process of its own that ends with the test."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_LOOK_S = 0.01
_GUARD = 'read -r line; kill -s KILL -- "-$1"'  # the other end of its input is this process's, and closes with it


class Server:
    """A server, to be used in a ``with`` statement; killed and started again for tests of what happens then.

    It ends with this process, and all that it has started, even where this process is killed.

    Args:
        command: what starts it, in the foreground.
        ready: whether it answers; may raise ``OSError`` as long as it does not.
        environment: variables that it has beside those of this process.
        limit_s: how long it may take to answer.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        ready: Callable[[], bool],
        *,
        environment: Mapping[str, str] | None = None,
        limit_s: float = 60.0,
    ) -> None:
        self._command, self._ready, self._limit_s = list(map(str, command)), ready, limit_s
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (closed in __exit__)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.kill()
        self._log.close()

    def start(self) -> None:
        """Start it, and wait until it answers.

        Raises:
            RuntimeError: it does not, or has ended; with what it printed.
        """
        self._process = subprocess.Popen(  # noqa: S603
            self._command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        self._guard = subprocess.Popen(  # noqa: S603
            ["/bin/sh", "-c", _GUARD, "sh", str(self._process.pid)], stdin=subprocess.PIPE, start_new_session=True
        )
        give_up = time.monotonic() + self._limit_s
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > give_up:
                self._log.seek(0)
                raise RuntimeError(f"{self._command[0]} does not answer: {self._log.read().decode(errors='replace')}")
            time.sleep(_LOOK_S)

    def kill(self) -> None:
        """SIGKILL for it and what it has started, if it runs."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.kill()  # before its input ends: another process may have the number by now
            self._guard.wait()
            self._guard.stdin.close()
            self._guard = None

    def _answers(self) -> bool:
        try:
            return self._ready()
        except OSError:
            return False


@contextlib.contextmanager
def environment(prefix: str, variables: Mapping[str, str]) -> Iterator[None]:
    """Meanwhile this process, and what it starts, has these variables, and no others whose names begin so."""
    before = {name: value for name, value in os.environ.items() if name.startswith(prefix)}
    _replace(prefix, variables)
    try:
        yield
    finally:
        _replace(prefix, before)


def _replace(prefix: str, variables: Mapping[str, str]) -> None:
    for name in [name for name in os.environ if name.startswith(prefix)]:
        del os.environ[name]
    os.environ.update(variables)


def free_port() -> int:
    """A port of this machine where nobody listens, and that nobody else is given within the next minute.

    It has had a connection, which the listening end has closed first: so the kernel keeps the port from all who ask for
    any, and gives it to a server that asks for this one (by SO_REUSEADDR, as servers do).
    """
    with socket.create_server(("127.0.0.1", 0)) as s, socket.socket() as client:
        address: tuple[str, int] = s.getsockname()
        client.connect(address)
        s.accept()[0].close()
        client.recv(1)  # the end has come
    return address[1]


def program(name: str, remedy: str) -> str:
    """The path of a program that a test needs.

    Raises:
        RuntimeError: it is not installed: the test fails, since one that is skipped would say nothing.
    """
    found = shutil.which(name)
    if found is None:
        raise RuntimeError(f"{name} is not installed: {remedy}")
    return found
