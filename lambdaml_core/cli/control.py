"""``lambdaml watch``, ``resume``, ``cancel`` and ``logs``: a run, from any process that can reach its store."""

from __future__ import annotations

import click

from lambdaml_core.cli.output import json_option, print_json
from lambdaml_core.cli.runs import store_option, store_url
from lambdaml_core.cli.train import limit_options
from lambdaml_core.cli.view import print_record, view
from lambdaml_core.errors import Interrupted
from lambdaml_core.run.driver.remote import cancel_run, read_logs, watch_run
from lambdaml_core.run.records.records import RunRecord


@click.command()
@click.argument("run")
@store_option
@json_option
def watch(run: str, store: str | None, as_json: bool) -> None:
    """Follow RUN to its end. Ctrl-C leaves off watching, and the run alone."""
    url = store_url(store)
    try:
        with view(quiet=as_json) as on_event:
            record = watch_run(url, run, on_event=on_event)
    except KeyboardInterrupt as e:
        raise Interrupted(f"left off watching; the run {run} goes on", hint=f"lambdaml cancel {run} ends it") from e
    _print(record, as_json)


@click.command()
@click.argument("run")
@store_option
@limit_options
@json_option
def resume(run: str, store: str | None, max_cost: float | None, max_time: float | None, as_json: bool) -> None:
    """Go on with RUN, whose driver is gone, or which has failed or was cancelled, and wait for it.

    Limits are those of its job, unless others are given: a cost of all of it, and a time from now on.
    """
    from lambdaml_core.run.driver.resume import resume_run

    url = store_url(store)
    with view(quiet=as_json) as on_event:
        record = resume_run(url, run, on_event=on_event, cost_usd=max_cost, seconds=max_time)
    _print(record, as_json)


@click.command()
@click.argument("run")
@store_option
@json_option
def cancel(run: str, store: str | None, as_json: bool) -> None:
    """End RUN and all of its workers. Asks nothing."""
    record = cancel_run(store_url(store), run)
    if as_json:
        print_json(record)
    else:
        click.echo(f"cancelled {run}")


@click.command()
@click.argument("run")
@click.option("--rank", type=int, metavar="N", help="Of worker N alone.")
@store_option
@json_option
def logs(run: str, rank: int | None, store: str | None, as_json: bool) -> None:
    """Print what the workers of RUN have printed."""
    url = store_url(store)
    lines = read_logs(url, run, rank)
    if as_json:
        print_json({"store": url, "run": run, "lines": [{"rank": n, "text": text} for n, text in lines]})
        return
    silent = True
    for n, text in lines:
        click.echo(text if rank is not None else f"{n}: {text}")
        silent = False
    if silent:
        click.echo("nothing was printed", err=True)


def _print(record: RunRecord, as_json: bool) -> None:
    if as_json:
        print_json(record)
    else:
        print_record(record)
