"""The ``lambdaml`` command. Subcommands are imported when they are called, so that ``--help`` is quick."""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys
import traceback
from collections.abc import Sequence

import click

from lambdaml_core import __version__
from lambdaml_core.cli.output import print_json
from lambdaml_core.errors import Interrupted, LambdaMLError, UsageError
from lambdaml_core.options import nearest

# name -> (module, attribute, help): the help stands here because `lambdaml --help` imports none of the modules.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "quickstart": ("lambdaml_core.cli.quickstart", "quickstart", "Train on bundled real data, in under a minute."),
    "partition": ("lambdaml_core.cli.partition", "partition", "Turn a data file into shuffled binary shards."),
    "plan": ("lambdaml_core.cli.plan", "plan", "Predict what a job takes and costs, and needs; start nothing."),
    "deploy": ("lambdaml_core.cli.deploy", "deploy", "Make once what the runs of a job need."),
    "teardown": ("lambdaml_core.cli.deploy", "teardown", "Remove what has been deployed."),
    "train": ("lambdaml_core.cli.train", "train", "Run a training job."),
    "runs": ("lambdaml_core.cli.runs", "runs", "List the runs of a store."),
    "show": ("lambdaml_core.cli.runs", "show", "Show one run."),
    "watch": ("lambdaml_core.cli.control", "watch", "Follow a run that another process has started."),
    "resume": ("lambdaml_core.cli.control", "resume", "Go on with a run that has lost its driver, or did not succeed."),
    "cancel": ("lambdaml_core.cli.control", "cancel", "End a run and all of its workers."),
    "logs": ("lambdaml_core.cli.control", "logs", "Print what the workers of a run have printed."),
    "report": ("lambdaml_core.cli.report", "report", "Draw how a run went, as one HTML page."),
    "compare": ("lambdaml_core.cli.compare", "compare", "Put runs side by side."),
    "predict": ("lambdaml_core.cli.predict", "predict", "Predict on raw files with a trained model."),
    "evaluate": ("lambdaml_core.cli.predict", "evaluate", "Show how well a trained model does on raw files."),
    "clean": ("lambdaml_core.cli.runs", "clean", "Remove what runs have left in a store."),
    "bench": ("lambdaml_core.cli.bench", "bench", "Measure how fast a storage carries collectives."),
    "doctor": ("lambdaml_core.cli.doctor", "doctor", "Look for what keeps runs from working here, and say what to do."),
    "plugins": ("lambdaml_core.cli.plugins", "plugins", "List what is installed, and what is wrong with it."),
}


class _Commands(click.Group):
    """A group that knows its commands by name and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            raise UsageError(f"there is no command {cmd_name}", hint=nearest(cmd_name, COMMANDS))
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


@click.group(cls=_Commands, no_args_is_help=True)
@click.version_option(__version__, prog_name="lambdaml", message="%(prog)s %(version)s")
def cli() -> None:
    """Train models on workers that communicate through storage."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the words after ``lambdaml``; ``sys.argv[1:]`` if None.

    Returns:
        The exit code: 0 good, 1 the run failed, 2 usage or configuration, 130 interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    _open_streams()
    try:
        code = _guarded(words)
        sys.stdout.flush()
    except OSError as e:  # standard output takes no more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(e, BrokenPipeError):  # else whoever read it has seen enough
            click.echo(f"error: standard output cannot be written: {e.strerror}", err=True)
        return 1
    return code


def _open_streams() -> None:
    """Have all three standard streams, and print any name of a file.

    Those that whoever called has closed lead nowhere: a file that is opened later must not get the number of one, to
    which children print.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w"))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as standard error is


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def _guarded(words: list[str]) -> int:
    as_json = "--json" in words
    try:
        result = cli.main(words, prog_name="lambdaml", standalone_mode=False)
        return result if type(result) is int else 0  # what ctx.exit gives
    except LambdaMLError as e:
        error = e
    except click.exceptions.NoArgsIsHelpError as e:
        if not as_json:
            e.show()
            return 2
        error = UsageError("a command is missing", hint="lambdaml --help lists them")
    except click.UsageError as e:
        path = e.ctx.command_path if e.ctx else "lambdaml"
        error = UsageError(e.format_message(), hint=f"{path} --help")
    except click.ClickException as e:
        error = UsageError(e.format_message())
    except (click.Abort, KeyboardInterrupt):
        error = Interrupted("interrupted")
    except BrokenPipeError:
        raise
    except Exception as e:  # the last resort: no traceback reaches a user
        if isinstance(e, OSError) and e.filename is None and e.errno in _FULL:
            raise  # standard output: what is written elsewhere has a name, or is an error of ours
        error = _unexpected(e)
        error.__cause__ = e
    _report(error, as_json)
    return error.exit_code


_REPORT = "this is a fault of LambdaML: please report it, with what LAMBDAML_DEBUG=1 prints"


class _Unexpected(LambdaMLError):
    code = "internal"


def _unexpected(e: Exception) -> LambdaMLError:
    if isinstance(e, ModuleNotFoundError):
        return UsageError(str(e), hint=f"pip install {e.name}; lambdaml doctor looks at all that is needed")
    return _Unexpected("unexpected " + _line("".join(traceback.format_exception_only(e))), hint=_REPORT)


def _report(error: LambdaMLError, as_json: bool) -> None:
    if os.environ.get("LAMBDAML_DEBUG") == "1":
        traceback.print_exception(error)
    if as_json:
        print_json(error.to_json())
        return
    click.echo(f"error: {_line(error.message)}", err=True)
    if error.hint:
        click.echo(f"hint: {_line(error.hint)}", err=True)


def _line(text: str) -> str:
    return " ".join(text.split())
