"""The ``lambdaml`` command itself: quick, one line per error, one JSON object with ``--json``, exit codes."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from lambdaml_core import __version__, cli
from lambdaml_core.cli import main
from lambdaml_core.cli.output import json_option, print_json, print_table
from lambdaml_core.errors import LambdaMLError, RunCancelled, UsageError, WorkerFailed

HEAVY = {"numpy", "scipy", "torch", "safetensors", "rich", "boto3", "redis", "sklearn"}


def lambdaml(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lambdaml_core", *words]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


def imported(*words: str) -> set[str]:
    """Packages imported by a ``lambdaml`` command, in a process of its own."""
    script = (
        "import sys; from lambdaml_core.cli import main; code = main(sys.argv[1:]);"
        "print(code, *{m.partition('.')[0] for m in sys.modules}, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=True)
    code, *modules = done.stderr.split()
    assert code == "0"
    return set(modules)


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["plugins"], ["plugins", "--json"], ["plugins", "--help"]]
)
def test_help_and_listing_import_nothing_heavy(words: list[str]) -> None:
    modules = imported(*words)
    assert "click" in modules
    assert not modules & HEAVY


def test_help_and_version_import_no_subcommand() -> None:
    script = (
        "import sys; from lambdaml_core.cli import main; main(['--help']);"
        "print([m for m in sys.modules if m.startswith('lambdaml_core.cli.')], 'pluggy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['lambdaml_core.cli.output'] False"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_listed_command_is_there_with_help(name: str) -> None:
    module, attribute, help_line = cli.COMMANDS[name]
    command = getattr(importlib.import_module(module), attribute)
    assert isinstance(command, click.Command)
    assert command.name == name
    assert command.help
    done = lambdaml("--help")
    assert f"  {name} " in done.stdout
    assert help_line in done.stdout


def test_version() -> None:
    done = lambdaml("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"lambdaml {__version__}\n", "")


# --- errors, through a command that fails as it is told -------------------------------------------------------


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
    """Installs a command ``probe`` that does what it is given."""

    def install(action: Callable[[], Any]) -> None:
        @click.command()
        @click.option("--number", type=int)
        @json_option
        def probe(number: int | None, as_json: bool) -> Any:
            """Fail as told."""
            return action()

        monkeypatch.setattr(sys.modules[__name__], "probe", probe, raising=False)
        monkeypatch.setitem(cli.COMMANDS, "probe", (__name__, "probe", "Fail as told."))

    return install


def raising(error: BaseException) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


ERRORS: list[tuple[BaseException, int, str, str, str | None]] = [
    (UsageError("no such thing", hint="try another"), 2, "usage", "no such thing", "try another"),
    (WorkerFailed("worker 3 ended"), 1, "worker_failed", "worker 3 ended", None),
    (RunCancelled("cancelled"), 130, "cancelled", "cancelled", None),
    (click.BadParameter("no good"), 2, "usage", "Invalid value: no good", "lambdaml probe --help"),
    (click.ClickException("no file"), 2, "usage", "no file", None),
    (
        ModuleNotFoundError("No module named 'numpy'", name="numpy"),
        2,
        "usage",
        "No module named 'numpy'",
        "pip install numpy; lambdaml doctor looks at all that is needed",
    ),
    (KeyboardInterrupt(), 130, "interrupted", "interrupted", None),
    (ValueError("odd"), 1, "internal", "unexpected ValueError: odd", cli._REPORT),
    (NotImplementedError(), 1, "internal", "unexpected NotImplementedError", cli._REPORT),
]


@pytest.mark.parametrize(("error", "exit_code", "code", "message", "hint"), ERRORS, ids=lambda v: type(v).__name__)
def test_errors_are_two_lines_or_one_object(
    fail: Callable[[Callable[[], Any]], None],
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    exit_code: int,
    code: str,
    message: str,
    hint: str | None,
) -> None:
    fail(raising(error))
    assert main(["probe"]) == exit_code
    plain = capsys.readouterr()
    lines = plain.err.strip().splitlines()  # an interrupt first ends the line that holds ^C
    assert plain.out == ""
    assert lines == [f"error: {message}"] + ([f"hint: {hint}"] if hint else [])
    assert main(["probe", "--json"]) == exit_code
    assert json.loads(capsys.readouterr().out) == {
        "error": {"code": code, "message": message, "hint": hint},
        "schema": 1,
    }


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_a_real_interrupt_exits_130(
    fail: Callable[[Callable[[], Any]], None], capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    fail(lambda: signal.raise_signal(signal.SIGINT))
    assert main(["probe", *words]) == 130
    captured = capsys.readouterr()
    assert "interrupted" in (captured.out if words else captured.err)
    assert "Traceback" not in captured.err


def test_an_error_of_many_lines_is_printed_as_one(
    fail: Callable[[Callable[[], Any]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    fail(raising(LambdaMLError("one\n  two", hint="three\nfour")))
    assert main(["probe"]) == 1
    assert capsys.readouterr().err == "error: one two\nhint: three four\n"


def test_debug_shows_the_traceback_and_its_cause(
    fail: Callable[[Callable[[], Any]], None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(lambda: int("x"))
    main(["probe"])
    assert "Traceback" not in capsys.readouterr().err
    monkeypatch.setenv("LAMBDAML_DEBUG", "1")
    assert main(["probe", "--json"]) == 1
    captured = capsys.readouterr()
    assert "Traceback" in captured.err
    assert "invalid literal for int()" in captured.err
    assert json.loads(captured.out)["error"]["code"] == "internal"


def test_exit_codes_of_commands(fail: Callable[[Callable[[], Any]], None], capsys: pytest.CaptureFixture[str]) -> None:
    fail(lambda: click.get_current_context().exit(1))
    assert main(["probe"]) == 1
    fail(lambda: True)  # what a command returns is no exit code
    assert main(["probe"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["plugin"], "there is no command plugin", "did you mean plugins?"),
        (["plugins", "shwo"], "No such command 'shwo'", "lambdaml plugins --help"),
        (["plugins", "show"], "Missing argument 'NAME'.", "lambdaml plugins show --help"),
        (["plugins", "--jsn"], "No such option '--jsn'", "lambdaml plugins --help"),
        (["--verbose"], "No such option '--verbose'", "lambdaml --help"),
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], words: list[str], message: str, hint: str) -> None:
    assert main(words) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"error: {message}")
    assert second == f"hint: {hint}"
    assert main([*words, "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.err == ""
    assert json.loads(captured.out)["error"]["code"] == "usage"


def test_no_command_shows_the_help_as_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "quickstart" in captured.err


def test_a_reader_that_leaves_early_gets_no_complaint() -> None:
    ours, theirs = os.pipe()
    os.close(ours)  # before there is anybody who could have written
    command = [sys.executable, "-m", "lambdaml_core", "plugins"]
    with os.fdopen(theirs, "wb") as out:
        done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("words", [["plugins"], ["plugins", "--json"], ["plugins", "show", "nobody", "--json"]])
def test_output_that_cannot_be_written_is_one_error(words: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "lambdaml_core", *words]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "No space left on device" in done.stderr
    assert "unexpected" not in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("words", [["plugins", "--json"], ["doctor"]])
def test_streams_that_are_closed_lead_nowhere(words: list[str], closed: str, tmp_path: Path) -> None:
    script = f'"$@" {closed}'
    command = ["bash", "-c", script, "bash", sys.executable, "-m", "lambdaml_core", *words]
    env = {**os.environ, "LAMBDAML_STORE": str(tmp_path / "store")}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert bool(done.stdout) == (closed == "2>&-")


def test_a_name_that_is_no_utf_8_can_be_printed(
    fail: Callable[[Callable[[], Any]], None], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    fail(lambda: click.echo(os.fsdecode(b"/data/\xff")))
    assert main(["probe"]) == 0
    assert capfdbinary.readouterr().out == b"/data/\\udcff\n"


# --- what commands print --------------------------------------------------------------------------------------


def test_json_has_a_schema_and_null_for_what_json_cannot_say(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"loss": float("nan"), "deep": [{"x": float("inf")}, (1, 2.5)], "name": "é"})
    text = capsys.readouterr().out
    assert text.count("\n") == 1
    assert json.loads(text) == {"loss": None, "deep": [{"x": None}, [1, 2.5]], "name": "é", "schema": 1}


def test_tables_align_numbers_to_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["name", "loss", "rows"], [["a", 0.123456, 5], ["long name", None, 12345]])
    assert capsys.readouterr().out.splitlines() == [
        "name         loss   rows",
        "a          0.1235      5",
        "long name       -  12345",
    ]


def test_an_empty_table_has_its_header(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["a", "b"], [])
    assert capsys.readouterr().out == "a  b\n"
