"""``lambdaml deploy`` and ``lambdaml teardown``: what workers run on, made once for many runs, and removed again."""

from __future__ import annotations

from pathlib import Path

import click

from lambdaml_core.cli.output import json_option, print_json
from lambdaml_core.cli.page.text import setting
from lambdaml_core.cli.train import parse_settings, set_option
from lambdaml_core.errors import UsageError
from lambdaml_core.run.driver.deployments import deploy_job, teardown_all, teardown_job
from lambdaml_core.run.job import Job

_JOB = click.Path(path_type=Path)


@click.command()
@click.argument("job", type=_JOB)
@set_option
@json_option
def deploy(job: Path, settings: tuple[str, ...], as_json: bool) -> None:
    """Make what runs of the job file JOB need, so that they start without making it, and leave it at their end.

    May be given again: what is there and as it should be is left alone, and what differs is changed in place.
    """
    checked = Job.from_toml(job, parse_settings(settings))
    deployment = deploy_job(checked)
    if as_json:
        print_json({"provider": checked.provider.name, "deployment": deployment})
        return
    click.echo(f"deployed for {checked.provider.name}")
    for name, value in deployment.items():
        if value:
            click.echo(f"  {name:<12}{setting(value)}")
    click.echo(f"lambdaml teardown {job} removes it")


@click.command()
@click.argument("job", required=False, type=_JOB)
@click.option(
    "--all", "everything", is_flag=True, help="Remove all that the provider has ever made there, of runs too."
)
@click.option("--provider", metavar="NAME", help="Of this provider, with --all in place of JOB.")
@set_option
@json_option
def teardown(
    job: Path | None, everything: bool, provider: str | None, settings: tuple[str, ...], as_json: bool
) -> None:
    """Remove what lambdaml deploy has made for the job file JOB; with --all, everything of the provider.

    Says what is gone, and what had to be left and why. Runs and their models in stores are not touched: lambdaml clean
    removes those.
    """
    values = parse_settings(settings)
    if job is not None:
        if provider is not None:
            raise UsageError(
                "--provider cannot be given beside a job", hint="the job says which: --set provider.name=..."
            )
        checked = Job.from_toml(job, values)
    elif provider is None or not everything:
        raise UsageError(
            "what to tear down is missing", hint="give a job file, or --all --provider NAME, such as aws-lambda"
        )
    else:
        table = values.get("provider", {})
        if not isinstance(table, dict):
            raise UsageError("--set provider=... cannot be given beside --provider", hint="give one of them")
        checked = Job.from_mapping({**values, "provider": {**table, "name": provider}})
    done = teardown_all(checked.provider) if everything else teardown_job(checked)
    if as_json:
        print_json({"provider": checked.provider.name, "removed": list(done.removed), "left": list(done.left)})
        return
    for line in done.removed:
        click.echo(f"removed  {line}")
    for line in done.left:
        click.echo(f"left     {line}")
    if not done.removed and not done.left:
        more = "" if everything else f"; lambdaml teardown --all --provider {checked.provider.name} looks for all"
        click.echo(f"nothing was there{more}")
