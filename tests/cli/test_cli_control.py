"""``watch``, ``resume``, ``cancel``, ``logs`` and ``clean``: real runs, looked at and ended from other processes."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_help import environment, lambdaml, printed, write_job
from held_runs import held

from lambdaml_core.provider.processes import send, state_of
from lambdaml_core.run.driver.finishing import registered
from lambdaml_core.run.driver.remote import clean
from lambdaml_core.run.records.attempts import claim_key
from lambdaml_core.run.spec import DEPLOYMENT, run_store
from lambdaml_core.storage import open_storage

LONG = ("--set", "provider=local", "--set", "epochs=1000000", "--set", "workers=3")


class Trained:
    """A run that a process of its own drives, seen from outside."""

    def __init__(self, home: Path, *settings: str, **env: str) -> None:
        self.home = home
        command = [sys.executable, "-u", "-m", "lambdaml_core", "train", "job.toml", "--set", "evaluate=50", *settings]
        pipe = subprocess.PIPE
        env = environment(home) | env
        self.driver = subprocess.Popen(command, cwd=home, env=env, stdout=pipe, stderr=pipe, text=True)
        assert self.driver.stdout is not None
        said = self.driver.stdout.readline()
        assert said.startswith("run "), self.driver.communicate()
        self.run = said.split()[1].rstrip(":")
        self.driver.stdout.readline()  # the first look: rounds are done

    def workers(self) -> list[str]:
        """The handles of all processes that have begun."""
        store = open_storage(f"file://{self.home}/store")
        try:
            return registered(run_store(store, self.run))
        finally:
            store.close()

    def process_of(self, rank: int) -> str:
        """The handle of a rank's first process."""
        claim = self.home / "store" / "runs" / self.run / claim_key(0, rank, 0)
        return str(json.loads(claim.read_text())["handle"])

    def logs(self) -> Path:
        """The folder of its workers' logs."""
        deployment = self.home / "store" / "runs" / self.run / DEPLOYMENT
        return Path(json.loads(deployment.read_text())["logs"])

    def lose_driver(self) -> None:
        self.driver.kill()
        self.driver.communicate()

    def show(self) -> Any:
        return printed(lambdaml(self.home, "show", self.run, "--json"))

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return lambdaml(self.home, words[0], self.run, *words[1:])


Train = Callable[..., Trained]


@pytest.fixture
def train(tmp_path: Path) -> Iterator[Train]:
    """Begins runs of which, whatever a test does, nothing is left."""
    runs: list[Trained] = []

    def begin(*settings: str, **env: str) -> Trained:
        runs.append(Trained(write_job(tmp_path), *settings, **env))
        return runs[-1]

    yield begin
    for run in runs:
        with run.driver:
            run.driver.kill()
        if files_of(run):
            for handle in run.workers():
                if state_of(handle) == "running":
                    end(handle)
            clean(f"file://{run.home}/store", run.run)


def end(handle: str, number: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal that a process ends by, and wait for that."""
    fd = os.pidfd_open(int(handle.split("/")[1]))
    try:
        assert send(handle, number)
        select.select([fd], [], [])
    finally:
        os.close(fd)


def wait_for_end(handle: str) -> None:
    """Of a process that ends by itself, however long that takes."""
    with contextlib.suppress(ProcessLookupError):
        fd = os.pidfd_open(int(handle.split("/")[1]))
        try:
            if state_of(handle) == "running":  # and not another that has its number now
                select.select([fd], [], [])
        finally:
            os.close(fd)
    assert state_of(handle) == "ended"


def gone(run: Trained) -> bool:
    return all(state_of(handle) == "ended" for handle in run.workers())


def files_of(run: Trained) -> list[Path]:
    scratch = Path(f"/dev/shm/lambdaml-{os.getuid()}") / run.run  # noqa: S108
    return [path for top in (run.home / "store", scratch) for path in top.rglob("*") if path.is_file()]


# --- with a driver ----------------------------------------------------------------------------------------------


def test_watch_follows_to_the_end(train: Train) -> None:
    run = train("--set", "provider=local", "--set", "epochs=300")
    done = run.command("watch")
    assert (done.returncode, done.stderr) == (0, "")
    said = done.stdout.splitlines()
    assert said[0] == f"run {run.run}: 2 workers, 1500 rounds"
    assert any(line.startswith("epoch ") for line in said)
    assert f"{run.run}: succeeded" in done.stdout
    out, _ = run.driver.communicate()
    assert run.driver.returncode == 0
    told, shown = (printed(lambdaml(run.home, what, run.run, "--json")) for what in ("watch", "show"))
    assert told == shown
    assert told["model_sha256"] in out


def test_left_off_watching(train: Train) -> None:
    run = train(*LONG)
    command = [sys.executable, "-u", "-m", "lambdaml_core", "watch", run.run]
    pipe = subprocess.PIPE
    watcher = subprocess.Popen(command, cwd=run.home, env=environment(run.home), stdout=pipe, stderr=pipe, text=True)
    assert watcher.stdout is not None
    watcher.stdout.readline()
    watcher.send_signal(signal.SIGINT)
    _, said = watcher.communicate()
    assert watcher.returncode == 130
    assert said == f"error: left off watching; the run {run.run} goes on\nhint: lambdaml cancel {run.run} ends it\n"
    assert run.show()["status"] == "running"
    assert run.driver.poll() is None
    done = run.command("clean")
    assert done.returncode == 1
    assert "still going on" in done.stderr
    assert f"lambdaml cancel {run.run}" in done.stderr
    assert printed(lambdaml(run.home, "clean", "--all", "--json"))["removed"] == []


def test_cancel_by_the_driver(train: Train) -> None:
    run = train(*LONG)
    told = printed(run.command("cancel", "--json"))
    assert (told["status"], told["stop_reason"]) == ("cancelled", "by lambdaml cancel")
    assert gone(run)
    _, said = run.driver.communicate()
    assert run.driver.returncode == 130
    assert "cancelled" in said
    assert run.show()["status"] == "cancelled"
    done = run.command("cancel")
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        1,
        f"error: the run {run.run} has ended already: cancelled",
    )
    done = run.command("watch", "--json")
    assert done.returncode == 130
    assert json.loads(done.stdout)["error"]["code"] == "cancelled"
    assert run.command("clean").returncode == 0
    assert files_of(run) == []


# --- without a driver ---------------------------------------------------------------------------------------------


def test_cancel_without_a_driver(train: Train) -> None:
    run = train(*LONG)
    run.lose_driver()
    shown = run.show()
    assert (shown["status"], shown["stop_reason"]) == ("running", None)  # its workers go on
    assert not gone(run)
    done = run.command("cancel")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"cancelled {run.run}\n", "")
    assert gone(run)
    assert run.show()["status"] == "cancelled"
    assert run.command("clean").returncode == 0
    assert files_of(run) == []


def test_workers_out_of_reach_end_when_they_are_told_to(train: Train) -> None:
    """As from another machine, whose processes nobody here can find."""
    run = train(*LONG, "--set", "recovery.heartbeat_s=0.2")
    run.lose_driver()
    workers, folder = run.workers(), run.home / "store" / "runs" / run.run
    logs = run.logs()
    for path in [folder / DEPLOYMENT, *(folder / claim_key(0, rank, 0) for rank in range(3))]:
        there = json.loads(path.read_text())
        path.write_text(json.dumps(there | {name: f"x{there[name]}" for name in ("token", "handle") if name in there}))
    assert run.show()["status"] == "running"
    assert run.command("cancel").returncode == 0
    for handle in workers:  # who cancels can see no more than their silence, and they may be slow
        wait_for_end(handle)
    assert run.show()["status"] == "cancelled"
    assert run.command("clean").returncode == 0
    assert files_of(run) == []
    assert not logs.exists()


def test_a_run_that_needs_its_driver_is_resumed(train: Train, tmp_path: Path) -> None:
    """And comes to the model that it would have come to."""
    rounds = ("--set", "provider=local", "--set", "epochs=60")
    with held(tmp_path / "held", 250) as gate:  # it must not end by itself before
        run = train(*rounds, *gate.words)
        run.lose_driver()
        end(run.process_of(1))
        shown = run.show()
        assert shown["status"] == "stalled"
        assert "has ended" in shown["stop_reason"]
        listed = printed(lambdaml(run.home, "runs", "--json"))["runs"]
        assert [(r["run"], r["status"]) for r in listed] == [(run.run, "stalled")]
        done = run.command("watch")
        assert done.returncode == 1
        assert done.stderr.splitlines()[1] == f"hint: lambdaml resume {run.run}"
        gate.let_go()
        told = printed(run.command("resume", "--json"))
    assert (told["run"], told["status"], told["attempts"], told["restarts"]) == (run.run, "succeeded", 3, 1)
    quiet = printed(lambdaml(run.home, "train", "job.toml", "--json", *rounds))
    assert told["model_sha256"] == quiet["model_sha256"]
    assert (quiet["attempts"], quiet["restarts"], quiet["successions"]) == (2, 0, 0)
    page = lambdaml(run.home, "report", run.run, "--out", "-")
    assert "3; restarts 1, successions 0" in page.stdout
    done = run.command("resume")
    assert done.returncode == 1
    assert "succeeded" in done.stderr


def test_clean_ends_what_is_left_of_a_stalled_run(train: Train) -> None:
    run = train(*LONG)
    run.lose_driver()
    workers = run.workers()
    end(workers[0])
    assert run.show()["status"] == "stalled"
    assert printed(lambdaml(run.home, "clean", "--all", "--json"))["removed"] == []  # somebody may resume it
    assert not all(state_of(handle) == "ended" for handle in workers)
    logs = run.logs()
    assert logs.is_dir()
    assert printed(run.command("clean", "--json"))["removed"] == [run.run]
    assert all(state_of(handle) == "ended" for handle in workers)
    assert files_of(run) == []
    assert not logs.exists()


# --- logs -----------------------------------------------------------------------------------------------------


def test_logs_by_rank(train: Train) -> None:
    """Those of a run that goes on, by the provider, and those of one that has ended, by the store."""
    run = train(*LONG, PYTHONFAULTHANDLER="1")
    run.lose_driver()
    done = run.command("logs")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "nothing was printed\n")
    end(run.process_of(1), signal.SIGABRT)
    alone = run.command("logs", "--rank", "1").stdout
    assert alone.startswith("Fatal Python error: Aborted\n")
    everything = run.command("logs").stdout
    assert everything == "".join(f"1: {line}\n" for line in alone.splitlines())
    assert run.command("cancel").returncode == 0
    told = printed(run.command("logs", "--json"))
    assert told["run"] == run.run
    assert [line for line in told["lines"] if line["rank"] == 1] == [
        {"rank": 1, "text": line} for line in alone.splitlines()
    ]
    done = run.command("logs", "--rank", "7")
    assert done.returncode == 2
    assert done.stderr == f"error: the run {run.run} has no worker 7\nhint: its workers are 0 to 2\n"


@pytest.mark.parametrize("command", ["watch", "resume", "cancel", "logs"])
def test_a_run_that_is_not_there(tmp_path: Path, command: str) -> None:
    done = lambdaml(tmp_path, command, "nobody")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[0] == "error: there is no run nobody in the store"
    done = lambdaml(tmp_path, command, "nobody", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "run_not_found"
