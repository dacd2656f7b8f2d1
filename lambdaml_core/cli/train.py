"""``lambdaml train``: run a job file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import click

from lambdaml_core.cli.output import json_option, print_json
from lambdaml_core.cli.view import print_record, view
from lambdaml_core.errors import JobError, UsageError
from lambdaml_core.run.driver import run_job
from lambdaml_core.run.job import Job
from lambdaml_core.run.template import JOB_TEMPLATE


@click.command()
@click.argument("job", required=False, type=click.Path(path_type=Path))
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Replace a key of the job, such as workers=2 or optimizer.learning_rate=0.5. May be given several times.",
)
@click.option("--template", is_flag=True, help="Print a job file to start from, with every key explained.")
@json_option
def train(job: Path | None, settings: tuple[str, ...], template: bool, as_json: bool) -> None:
    """Run the job of the TOML file JOB and wait for it."""
    if template:
        click.echo(JOB_TEMPLATE, nl=False)
        return
    if job is None:
        raise UsageError("a job file is missing", hint="lambdaml train --template > job.toml makes one")
    checked = Job.from_toml(job, parse_settings(settings))
    with view(quiet=as_json) as on_event:
        record = run_job(checked, on_event=on_event)
    if as_json:
        print_json(record)
    else:
        print_record(record)


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
