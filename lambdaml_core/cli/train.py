"""``lambdaml train``: run a job file."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from lambdaml_core.cli.output import json_option, print_json
from lambdaml_core.cli.view import print_record, view
from lambdaml_core.errors import JobError, UsageError
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.job import Job
from lambdaml_core.run.template import JOB_TEMPLATE

set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Replace a key of the job, such as workers=2 or optimizer.learning_rate=0.5. May be given several times.",
)
"""Decorator: adds ``--set`` to a command, which gets its words for :func:`parse_settings`."""

F = TypeVar("F", bound=Callable[..., Any])
_ABOVE_ZERO = click.FloatRange(min=0, min_open=True)


def limit_options(command: F) -> F:
    """Decorator: adds ``--max-cost`` and ``--max-time`` to a command, which gets them for :func:`with_limits`."""
    time = click.option("--max-time", type=_ABOVE_ZERO, metavar="SECONDS", help="What a run may take; it ends there.")
    cost = click.option("--max-cost", type=_ABOVE_ZERO, metavar="USD", help="What a run may cost; it ends there.")
    return cost(time(command))


@click.command()
@click.argument("job", required=False, type=click.Path(path_type=Path))
@set_option
@click.option(
    "--chaos",
    "kills",
    type=click.IntRange(min=1),
    metavar="N",
    help="Run the job twice, the second time with N processes killed on the way, and compare the models.",
)
@click.option("--template", is_flag=True, help="Print a job file to start from, with every key explained.")
@limit_options
@json_option
def train(
    job: Path | None,
    settings: tuple[str, ...],
    kills: int | None,
    template: bool,
    max_cost: float | None,
    max_time: float | None,
    as_json: bool,
) -> None:
    """Run the job of the TOML file JOB and wait for it.

    One that is predicted to pass a limit is not started, and one that passes it on the way is ended, and can be
    resumed.
    """
    if template:
        click.echo(JOB_TEMPLATE, nl=False)
        return
    if job is None:
        raise UsageError("a job file is missing", hint="lambdaml train --template > job.toml makes one")
    checked = Job.from_toml(job, with_limits(parse_settings(settings), max_cost, max_time))
    if kills is not None:
        from lambdaml_core.cli.chaos import chaos

        chaos(checked, kills, as_json=as_json)
        return
    with view(quiet=as_json) as on_event:
        record = run_job(checked, on_event=on_event)
    if as_json:
        print_json(record)
    else:
        print_record(record)


def with_limits(values: dict[str, Any], max_cost: float | None, max_time: float | None) -> dict[str, Any]:
    """Settings of a job, with what the options of :func:`limit_options` say.

    Raises:
        JobError: ``--set`` gives the limits, and gives no table.
    """
    given = {name: value for name, value in (("cost_usd", max_cost), ("seconds", max_time)) if value is not None}
    if not given:
        return values
    table = values.get("limits", {})
    if not isinstance(table, Mapping):
        raise JobError("limits must be a table", hint="such as --set limits.cost_usd=2")
    return {**values, "limits": {**table, **given}}


def parse_settings(settings: tuple[str, ...]) -> dict[str, Any]:
    """The nested mapping of ``key.path=value`` words. A value is TOML; what is no TOML is taken as text.

    Raises:
        JobError: no ``=``, or a key given twice.
    """
    values: dict[str, Any] = {}
    for setting in settings:
        path, equals, text = setting.partition("=")
        *tables, key = path.strip().split(".")
        if not (equals and key and all(tables)):
            raise JobError(f"--set {setting} is not KEY=VALUE", hint="such as --set optimizer.learning_rate=0.5")
        table = values
        for name in tables:
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                raise JobError(f"--set gives {name} whole and by its keys", hint=f"such as {name}.name=... instead")
        if key in table:
            raise JobError(f"--set gives {path} twice", hint="give it once")
        table[key] = _value(text.strip())
    return values


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
