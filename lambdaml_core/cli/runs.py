"""``lambdaml runs``, ``show`` and ``clean``: what runs have left in a store."""

from __future__ import annotations

import click

from lambdaml_core.cli.output import json_option, print_json, print_table
from lambdaml_core.cli.view import print_record
from lambdaml_core.errors import UsageError
from lambdaml_core.run.job import default_store, storage_url
from lambdaml_core.run.records.records import list_runs, read_run

store_option = click.option(
    "--store", metavar="URL", help="Store of the runs; default: LAMBDAML_STORE, else a directory in the data home."
)


@click.command()
@store_option
@json_option
def runs(store: str | None, as_json: bool) -> None:
    """List the runs of a store, oldest first."""
    url = store_url(store)
    records = list_runs(url)
    if as_json:
        print_json({"store": url, "runs": records})
    elif records:
        headers = ["run", "status", "model", "workers", "rounds", "loss", "accuracy", "auc", "seconds"]
        rows = [{**r, "seconds": r["seconds"]["total"]} for r in records]
        print_table(headers, [[row[name] for name in headers] for row in rows])
    else:
        click.echo(f"no runs in {url}")


@click.command()
@click.argument("run")
@store_option
@json_option
def show(run: str, store: str | None, as_json: bool) -> None:
    """Show the figures of RUN."""
    record = read_run(store_url(store), run)
    if as_json:
        print_json(record)
    else:
        print_record(record)


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@click.option("--all", "everything", is_flag=True, help="Remove every run that has ended.")
@store_option
@json_option
def clean(runs: tuple[str, ...], everything: bool, store: str | None, as_json: bool) -> None:
    """Remove each RUN, with its model, from its store and its channel. Asks nothing.

    What is left of one whose driver is gone is ended first; one that goes on is refused.
    """
    from lambdaml_core.run.driver.remote import clean as clean_runs

    if bool(runs) == everything:
        raise UsageError("say which runs to remove", hint="lambdaml clean RUN..., or lambdaml clean --all")
    url = store_url(store)
    removed = clean_runs(url, *dict.fromkeys(runs))
    if as_json:
        print_json({"store": url, "removed": removed})
        return
    for name in removed:
        click.echo(f"removed {name}")
    if not removed:
        click.echo(f"nothing to remove in {url}")


def store_url(store: str | None) -> str:
    """The store that an option names, or the default one.

    Raises:
        URLError, JobError: no storage URL, or one with a password in it.
    """
    return storage_url(store or default_store(), "--store")
