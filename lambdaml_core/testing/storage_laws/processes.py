"""Laws of several processes, each of which opens the URL as a worker does."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from lambdaml_core.specs import Reference
from lambdaml_core.storage import storage_reference
from lambdaml_core.storage.layers import FullStorage
from lambdaml_core.testing.storage_laws.clients import Connect, TwoClients, need, pattern


class Peer:
    """Another process (``peer.py``), with a client of its own. It ends by itself when a call of it hangs."""

    def __init__(self, url: str, reference: Reference, prefix: str, limit_s: float) -> None:
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by kill
        self._process = subprocess.Popen(  # noqa: S603 - this Python, and a file of ours
            [sys.executable, "-P", Path(__file__).with_name("peer.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )
        job = {"url": url, "reference": asdict(reference), "prefix": prefix, "limit_s": limit_s, "path": sys.path}
        self._write(job)  # not on the command line, which anybody can read

    def ask(self, method: str, *arguments: Any) -> None:
        """Have it make a call, and do not wait for the answer."""
        self._write([method, *arguments])

    def answer(self) -> Any:
        """The answer to the oldest call that has none."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._fail()
        return json.loads(line)

    def call(self, method: str, *arguments: Any) -> Any:
        """Have it make a call; the answer."""
        self.ask(method, *arguments)
        return self.answer()

    def end(self) -> None:
        """Have it end as a program does that has nothing left to do."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._process.wait() != 0:
            self._fail()

    def kill(self) -> None:
        """End it as a power cut does, if it lives."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._said):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):  # what it was still to be told
                stream.close()

    def _write(self, line: Any) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(line) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._fail()

    def _fail(self) -> None:
        self._process.wait()
        self._said.seek(0)
        pytest.fail(f"another process that has opened the URL broke off or hung:\n{self._said.read()}")


Start: TypeAlias = Callable[[], Peer]


class ProcessLaws(TwoClients):
    """Laws that need other processes, and so a URL for these to open."""

    @pytest.fixture
    def start(self, url: str, prefix: str) -> Iterator[Start]:
        """Starts a process that opens the URL; all that were started are killed when the test ends."""
        reference, peers = storage_reference(url), list[Peer]()

        def started() -> Peer:
            peers.append(Peer(url, reference, prefix, self.patience_s))
            return peers[-1]

        yield started
        for peer in peers:
            peer.kill()

    def test_values_cross_processes(self, start: Start, storage: FullStorage) -> None:
        """What one process puts or deletes another process sees at once, where ``caps.scope`` is host or network.

        Workers are processes. Fix ``caps.scope``, or whatever of the storage lives in one process only: a cache, a
        connection's transaction, a file that is not flushed.
        """
        need_shared(storage)
        peer = start()
        _announce(storage, ["here", "there"])
        for size in (0, 5, 70_001):
            storage.put("here", [pattern(size, seed=1)])
            assert peer.call("get", "here") == pattern(size, seed=1).decode("latin-1")
            assert peer.call("put", "there", pattern(size, seed=2).decode("latin-1"), False) is True
            assert bytes(storage.get("there")) == pattern(size, seed=2)
        assert storage.put("there", [b"lost"], if_absent=True) is False
        storage.delete(["here"])
        assert peer.call("get", "here") is None
        peer.call("delete", ["there"])
        assert storage.get_many(["there"]) == {}

    def test_one_of_many_processes_creates(self, start: Start, storage: FullStorage) -> None:
        """Of processes that create one key at one moment exactly one is told True, and all read its bytes at once.

        A lock within one process, or a look before the write, keeps no other process out. Fix
        ``put(if_absent=True)``: let the service decide.
        """
        need_shared(storage)
        need(storage.caps.creates_once, "caps.creates_once")
        turns, peers = 15, [start() for _ in range(4)]
        _announce(storage, [f"race/{turn}" for turn in range(turns)])
        tokens = [f"{me} {'x' * 30_000 * me}" for me in range(len(peers))]
        _all(peers, "get", "race/0")  # by now all are connected
        for turn in range(turns):
            for peer, token in zip(peers, tokens, strict=True):
                peer.ask("put", f"race/{turn}", token, True)
            created = [peer.answer() for peer in peers]
            assert created.count(True) == 1, f"{created.count(True)} processes created the same key"
            values = _all(peers, "get", f"race/{turn}")
            assert values == [tokens[created.index(True)]] * len(peers), "a process did not read the winner's value"

    def test_a_wait_ends_when_another_process_puts(self, start: Start, storage: FullStorage) -> None:
        """A wait brings what another process puts, as soon as it is put.

        Fix ``get_many``: wait for the service's word and not for that of this process; or leave ``caps.blocks`` out.
        """
        need_shared(storage)
        need(storage.caps.blocks, "caps.blocks")
        peer, turns = start(), 15
        _announce(storage, [f"{which}/{turn}" for which in ("ping", "pong") for turn in range(turns)])
        assert peer.call("get", "ping/0") is None  # by now it is connected, however long that takes
        give_up = time.monotonic() + self.patience_s
        for turn in range(turns):
            assert time.monotonic() < give_up, "waits sleep on although the value has come"
            peer.ask("wait", [f"never/{turn}", f"ping/{turn}"], self.patience_s / 2)
            storage.put(f"ping/{turn}", [b"%d" % turn])
            assert peer.answer() == {f"ping/{turn}": str(turn)}
            peer.ask("put", f"pong/{turn}", str(turn), False)
            found = storage.get_many([f"pong/{turn}"], wait_s=self.patience_s / 2)
            assert {key: bytes(data) for key, data in found.items()} == {f"pong/{turn}": b"%d" % turn}
            assert peer.answer() is True

    def test_values_outlive_their_processes(self, start: Start, storage: FullStorage, client: Connect) -> None:
        """Where ``caps.durable`` is stated, a value that was put is there for good: after its clients are closed, and
        after its process is killed.

        A worker that is lost must not take its checkpoints with it. Fix ``put`` (return when the service has the
        value, not before), ``close`` (remove no values), or ``caps.durable``.
        """
        need_shared(storage)
        need(storage.caps.durable, "caps.durable")
        _announce(storage, ["by/killed", "by/ended"])
        storage.put("by/closed", [b"closed"])
        storage.close()
        killed, ended = start(), start()
        assert killed.call("put", "by/killed", "killed", True) is True
        killed.kill()
        assert ended.call("put", "by/ended", "ended", False) is True
        ended.call("close")
        ended.end()
        for each in ("closed", "killed", "ended"):
            assert bytes(client().get(f"by/{each}")) == each.encode()
        assert start().call("wait", ["by/closed", "by/killed"], 0.0) == {"by/closed": "closed", "by/killed": "killed"}

    @pytest.mark.parametrize("closed", [True, False], ids=["closed", "not closed"])
    def test_a_process_that_used_it_ends(self, start: Start, storage: FullStorage, closed: bool) -> None:
        """A process ends once it has nothing left to do, whether it has closed its clients or not.

        A worker that an error ends must be gone: whoever pays for it pays by the second. Fix threads of the client
        that go on for ever: make them daemons, and end them in ``close``.
        """
        peer = start()
        _announce(storage, ["k"])
        assert peer.call("put", "k", "v", True) is True
        assert peer.call("wait", ["k", "none"], 0.0) == {"k": "v"}
        assert peer.call("wait", ["none"], 0.01) == {}
        if closed:
            peer.call("close")
        peer.end()


def need_shared(storage: FullStorage) -> None:
    """Skip, visibly, a law about several processes for a storage of one process."""
    need(storage.caps.scope != "process", "caps.scope host or network")


def _announce(storage: FullStorage, keys: Sequence[str]) -> None:
    """Put and delete keys that other processes will use, so that what cleans up after this process knows them."""
    storage.put_many({key: [b""] for key in keys})
    storage.delete(keys)


def _all(peers: Sequence[Peer], method: str, *arguments: Any) -> list[Any]:
    for peer in peers:
        peer.ask(method, *arguments)
    return [peer.answer() for peer in peers]
