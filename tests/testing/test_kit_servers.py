"""Servers of tests: they answer, are killed and started again, and never outlive who has started them."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lambdaml_core.testing.servers import Server, free_port, program

LIMIT_S = 60.0


def http(port: int) -> Server:
    """A server that everybody has."""

    def ready() -> bool:
        with socket.create_connection(("127.0.0.1", port)):
            return True

    return Server([sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)], ready)


def answers(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def test_a_server_answers_as_long_as_the_block_lasts() -> None:
    port = free_port()
    with http(port) as server:
        assert answers(port)
        server.kill()
        server.kill()
        assert not answers(port)
        server.start()
        assert answers(port)
    assert not answers(port)


def test_what_a_server_says_before_it_ends_is_told() -> None:
    server = Server(["/bin/sh", "-c", "echo no such luck; exit 3"], ready=lambda: False)
    with pytest.raises(RuntimeError, match="sh does not answer: no such luck"), server:
        pytest.fail("it has ended")


def test_a_server_that_does_not_answer_is_killed(tmp_path: Path) -> None:
    pipe, pids = tmp_path / "pid", list[int]()
    os.mkfifo(pipe)

    def ready() -> bool:
        if not pids:
            pids.append(int(pipe.read_text()))  # waits until it runs, however long that takes
        return False

    server = Server(["/bin/sh", "-c", f"echo $$ > {pipe}; exec sleep 1000"], ready, limit_s=0.1)
    with pytest.raises(RuntimeError, match="sh does not answer"), server:
        pytest.fail("it does not answer")
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


STARTS_AND_DIES = """
import os, signal, sys
from pathlib import Path
from lambdaml_core.testing.servers import Server

pids = Path(sys.argv[1])
command = f"sleep 1000 & echo $$ $! > {pids}.new; mv {pids}.new {pids}; wait"
with Server(["/bin/sh", "-c", command], ready=pids.exists):
    print(pids.read_text(), flush=True)
    sys.stdin.readline()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_server_and_its_children_end_with_who_is_killed(tmp_path: Path) -> None:
    """As where a test run is killed for its time limit."""
    command = [sys.executable, "-c", STARTS_AND_DIES, str(tmp_path / "pids")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        watched = [os.pidfd_open(int(pid)) for pid in parent.stdout.readline().split()]
        assert len(watched) == 2
        assert select.select(watched, [], [], 0)[0] == [], "they run"
        parent.stdin.close()
        assert parent.wait() == -signal.SIGKILL
    for pid in watched:
        assert select.select([pid], [], [], LIMIT_S)[0] == [pid], "it goes on"
        os.close(pid)


def test_a_port_is_free_and_kept_for_a_server() -> None:
    """Others may ask for any port before it has started: the kernel gives them none that it would refuse by number."""
    port = free_port()
    assert not answers(port)
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))
    with socket.create_server(("127.0.0.1", port)):
        assert answers(port)


def test_a_program_that_is_not_there_fails_the_test() -> None:
    assert Path(program("sh", "")).name == "sh"
    with pytest.raises(RuntimeError, match="no-such-server is not installed: apt-get install it"):
        program("no-such-server", "apt-get install it")
