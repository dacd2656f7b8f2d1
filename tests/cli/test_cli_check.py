"""``lambdaml plugins check``: verdicts, and that it leaves nothing, tells no secret and always ends."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import checked_storages
import pytest
from cli_help import ROOT, everything_in

from lambdaml_core.cli import check, checking, main
from lambdaml_core.registry import default_registry
from lambdaml_core.storage.base import StorageCaps
from lambdaml_core.testing.base import laws_of
from lambdaml_core.testing.storage import StorageLaws

SECRET = "open/sesame"  # noqa: S105  (nobody's)
LAW = {"suite", "law", "says", "outcome", "seconds", "reason", "failures"}


@pytest.fixture(autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The troublesome storages are a plugin of this environment."""
    site = tmp_path_factory.mktemp("site")
    checked_storages.install(site, "lambdaml-checked", "checked_storages")
    monkeypatch.syspath_prepend(site)
    default_registry.cache_clear()
    yield
    default_registry.cache_clear()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with values of somebody else."""
    folder = tmp_path / "place"
    (folder / "runs").mkdir(parents=True)
    (folder / "runs" / "mine").write_bytes(b"mine")
    (folder / "lambdaml-check-").write_bytes(b"mine too")
    return folder


def checked(capsys: pytest.CaptureFixture[str], *words: str, code: int) -> dict[str, Any]:
    assert main(["plugins", "check", *words, "--json"]) == code
    printed = capsys.readouterr()
    assert printed.err == ""
    assert SECRET not in printed.out
    assert "open%2Fsesame" not in printed.out
    found: dict[str, Any] = json.loads(printed.out)
    assert found["schema"] == 1
    return found


def outcomes(found: dict[str, Any]) -> dict[str, str]:
    return {law["law"]: law["outcome"] for law in found["laws"]}


def test_a_storage_that_keeps_all_laws(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    before = everything_in(place)
    found = checked(capsys, f"file://{place}?sync=false", code=0)
    assert everything_in(place) == before
    assert (found["verdict"], found["kind"], found["name"]) == ("keeps", "storage", "file")
    assert found["checked"] == f"file://{place}?sync=false"
    assert set(found["capabilities"]) == {field.name for field in fields(StorageCaps)}
    assert found["latency_s"] > 0
    assert (found["not_tried"], found["left"]) == (0, None)
    assert set(outcomes(found)) == set(laws_of(StorageLaws))
    for law in found["laws"]:
        assert set(law) == LAW
        assert "Fix" in law["says"]
        assert law["outcome"] == "ok" or (law["outcome"] == "not declared" and law["reason"])


def test_a_storage_that_loses_values_breaks_laws(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    before = everything_in(place)
    url = f"fault+deadly://host{place}?fault_truncate=1"
    assert main(["plugins", "check", url]) == 1
    assert everything_in(place) == before
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "\r" not in printed.out
    assert "\nnot declared  checks are findings  (SupportsChecks not implemented)\n" in printed.out
    assert "\nfailed        values cross processes\n" in printed.out
    details = printed.out.partition("\ntest_values_cross_processes of StorageLaws\n")[2]
    assert "What one process puts or deletes another process sees" in details
    assert "  assert " in details
    assert "at lambdaml_core.testing.storage_laws.processes:" in details
    assert printed.out.splitlines()[-1].startswith(f"{url}: breaks 2 of 3 laws, 1 not declared, ")


def test_errors_of_a_plugin_are_shown_without_its_password(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    monkeypatch.setenv("CHECKED_PASSWORD", "open/sesame")
    before = everything_in(place)
    found = checked(capsys, f"talkative://user:{{env:CHECKED_PASSWORD}}@host{place}", code=1)
    assert everything_in(place) == before
    assert found["checked"] == f"talkative://user:***@host{place}"
    (law,) = (law for law in found["laws"] if law["law"] == "test_values_cross_processes")
    assert law["outcome"] == "failed"
    assert "RuntimeError: talkative://user:***@host" in law["failures"][0]["said"]


def test_secrets_of_the_environment_are_not_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    monkeypatch.setenv("CHECKED_PASSWORD", SECRET)
    url = "away://user:{env:CHECKED_PASSWORD}@host" + str(place)
    error = checked(capsys, url, code=2)["error"]
    assert error["code"] == "not_checked"
    assert "cannot be checked: no answer to away://user:***@host" in error["message"]
    assert error["hint"] == "is *** right?"
    assert main(["plugins", "check", url]) == 2
    printed = capsys.readouterr()
    assert SECRET not in printed.out + printed.err
    assert "sesame" not in printed.out + printed.err


@pytest.mark.parametrize("url", ["away://user:%73esame@host/x", "away://host/x?api_key=sesame", "away://sesame:80:@h"])
def test_a_literal_password_is_refused_and_not_shown(capsys: pytest.CaptureFixture[str], url: str) -> None:
    assert main(["plugins", "check", url]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: the ")
    assert "sesame" not in printed.err


def test_a_place_where_nothing_can_be_put(capsys: pytest.CaptureFixture[str]) -> None:
    for url in ("file:///sys/kernel", "file:///proc/nothing"):
        error = checked(capsys, url, code=2)["error"]
        assert error["code"] == "not_checked"
        assert error["hint"]


def test_a_storage_that_answers_nothing_ends_as_a_failure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    monkeypatch.setattr(check, "_PROBE_S", 1.0)
    assert main(["plugins", "check", f"silent://host{place}"]) == 1
    printed = capsys.readouterr()
    assert "\nfailed        errors tell no password\n" in printed.out
    assert "no end within 1 s: something waits for ever" in printed.out
    assert 'checked_storages.py", line ' in printed.out
    assert "threading.py" not in printed.out
    assert "breaks 1 of 1 laws, " in printed.out.splitlines()[-1]


def test_a_law_that_cannot_be_ended_has_failed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    monkeypatch.setattr(check, "_PROBE_S", 5.0)  # it must be stuck by then, on a slow machine too
    before = everything_in(place)
    assert main(["plugins", "check", f"stuck://host{place}"]) == 1
    assert everything_in(place) == before
    printed = capsys.readouterr()
    assert "its process ended: Timeout (0:" in printed.out
    assert 'checked_storages.py", line ' in printed.out


def test_a_law_that_takes_its_process_with_it_has_failed(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    before = everything_in(place)
    found = checked(capsys, f"deadly://host{place}", code=1)
    assert everything_in(place) == before
    assert [*outcomes(found).values()] == ["ok", "ok", "ok", "failed"]
    assert found["laws"][-1]["failures"][0]["said"] == "its process was ended by SIGKILL"
    assert found["not_tried"] == len(laws_of(StorageLaws)) - 4


def test_keys_that_cannot_be_deleted_are_told(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    found = checked(capsys, f"keeping://host{place}", code=1)
    assert "keys that begin with lambdaml-check-" in found["left"]
    assert "still listed" in found["left"]
    assert (place / "runs" / "mine").read_bytes() == b"mine"


def started(place: Path) -> subprocess.Popen[str]:
    """A check of a folder, in a process of its own."""
    command = [sys.executable, "-m", "lambdaml_core", "plugins", "check", f"file://{place}?sync=false"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_check_leaves_nothing(place: Path, number: signal.Signals) -> None:
    before = everything_in(place)
    with started(place) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert any(line.startswith("ok ") for line in process.stdout)
        process.send_signal(number)
        assert process.stderr.read() == "error: interrupted; nothing is left behind\n"
        assert process.wait() == 130
    assert everything_in(place) == before


def test_a_reader_that_leaves_ends_it_and_nothing_is_left(place: Path) -> None:
    before = everything_in(place)
    with started(place) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 1
    assert everything_in(place) == before


# --- installed plugins ----------------------------------------------------------------------------------------


def test_an_installed_optimizer(capsys: pytest.CaptureFixture[str]) -> None:
    found = checked(capsys, "ma_sgd", "--set", "learning_rate=0.3", code=0)
    assert found["checked"].startswith("optimizer ma_sgd of lambdaml ")
    assert {law["suite"] for law in found["laws"]} == {"PluginLaws", "OptimizerLaws"}
    assert outcomes(found)["test_replay_from_every_round_gives_the_same_bytes"] == "ok"


@pytest.mark.parametrize(
    ("words", "suite"),
    [
        (["aggregate"], "PatternLaws"),
        (["least_squares"], "ModelLaws"),
        (["inline", "--launch"], "ProviderLaws"),
    ],
)
def test_the_suite_is_that_of_the_kind(capsys: pytest.CaptureFixture[str], words: list[str], suite: str) -> None:
    found = checked(capsys, *words, code=0)
    assert {law["suite"] for law in found["laws"]} == {"PluginLaws", suite}
    assert found["verdict"] == "keeps"


def test_what_only_its_author_can_prove(capsys: pytest.CaptureFixture[str]) -> None:
    found = checked(capsys, "csv", code=0)
    assert "proven by its author's tests" in found["advice"]
    assert {law["suite"] for law in found["laws"]} == {"PluginLaws"}
    assert found["capabilities"] is None


def test_a_plugin_that_is_broken_where_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    found = checked(capsys, "absent", code=1)
    assert outcomes(found)["test_implementations_keep_their_contracts"] == "failed"
    (law,) = (law for law in found["laws"] if law["law"] == "test_parameters_are_one_flat_array")
    assert "PluginBroken" in law["failures"][0]["said"]


def test_a_plugin_that_does_not_load_cannot_be_checked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    checked_storages.install(tmp_path, "lambdaml-worse", "lambdaml_worse")
    (tmp_path / "lambdaml_worse.py").write_text("raise RuntimeError('out of order')\n")
    monkeypatch.syspath_prepend(tmp_path)
    default_registry.cache_clear()
    error = checked(capsys, "worse", code=2)["error"]
    assert error["code"] == "not_checked"
    assert "RuntimeError: out of order" in error["message"]
    assert "pip install --upgrade lambdaml-worse" in error["hint"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nobody"], "plugin_unknown", "unknown plugin nobody"),
        (["redis"], "plugin_not_installed", "lambdaml-redis, which is not installed"),
        (["nobody://host"], "plugin_unknown", "unknown storage nobody"),
        (["file", "--kind", "model"], "plugin_unknown", "unknown model file"),
        (["away"], "usage", "away is the name of several: model, storage"),
        (["ga_sgd", "--launch"], "usage", "--launch is for providers"),
        (["ga_sgd", "--set", "learning_rate"], "usage", "--set 'learning_rate' is no option with a value"),
        (["ga_sgd", "--set", "learning_rate=fast"], "option", "option optimizer.learning_rate must be float"),
        (["csv", "--set", "label=x"], "usage", "--set is of no use here"),
        (["memory://x", "--kind", "storage"], "usage", "--kind, --set and --launch are for names"),
        (["away://user:{env:NO_SUCH_NAME}@host/x"], "url", "NO_SUCH_NAME is not set"),
    ],
)
def test_wrong_usage(
    capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest, words: list[str], code: str, said: str
) -> None:
    if code == "plugin_not_installed":
        request.getfixturevalue("core_alone")
    error = checked(capsys, *words, code=2)["error"]
    assert error["code"] == code
    assert said in error["message"]
    assert error["hint"]


@pytest.mark.parametrize("needed", ["pytest", "hypothesis", "pytest_timeout", "packaging"])
def test_what_the_laws_need_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, needed: str
) -> None:
    monkeypatch.setitem(sys.modules, needed, None)  # as Python has what it cannot import
    error = checked(capsys, "memory://x", code=2)["error"]
    assert error["code"] == "not_checked"
    assert needed.replace("_", "-") in error["message"]
    assert "pip install '.[testing]'" in error["hint"]


def test_suites_that_cannot_be_imported(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "xxhash.py").write_text("raise ImportError('libfoo.so: cannot open')\n")
    monkeypatch.syspath_prepend(tmp_path)
    error = checked(capsys, "ga_sgd", code=2)["error"]
    assert error["code"] == "not_checked"
    assert "libfoo.so: cannot open" in error["message"]
    assert "lambdaml doctor" in error["hint"]


class ReadLate:
    """Gives nothing, in its time, before all is there: as where the machine has stood still meanwhile."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._all, self._asked = threading.Event(), False

    def put(self, event: object) -> None:
        self._queue.put(event)
        if event is None:
            self._all.set()

    def get(self, timeout: float) -> object:
        if not self._asked:
            self._asked = True
            self._all.wait()
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
            raise queue.Empty
        return self._queue.get(timeout=timeout)


def test_what_a_process_said_before_its_end_is_read(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "queue", SimpleNamespace(SimpleQueue=ReadLate, Empty=queue.Empty))
    assert checked(capsys, "ga_sgd", code=0)["verdict"] == "keeps"


def test_a_terminal_is_told_which_law_is_tried() -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "lambdaml_core", "plugins", "check", "file"]
    with subprocess.Popen(command, cwd=ROOT, stdout=theirs, stderr=subprocess.STDOUT) as process:
        os.close(theirs)
        seen = b""
        with contextlib.suppress(OSError):  # the terminal's end
            while some := os.read(ours, 4096):
                seen += some
        assert process.wait() == 0
    os.close(ours)
    assert b"\r\033[K1/" in seen
    assert b"creates_once" in seen
    assert b"lambdaml plugins check file://... tries the storage where it is" in seen
    assert b"keeps all" in seen.splitlines()[-1]
