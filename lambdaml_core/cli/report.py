"""``lambdaml report``: one page that shows how a run went."""

from __future__ import annotations

import click

from lambdaml_core.cli.output import json_option, print_json
from lambdaml_core.cli.page.output import write_page
from lambdaml_core.cli.page.report import report_page
from lambdaml_core.cli.runs import store_option, store_url
from lambdaml_core.errors import UsageError
from lambdaml_core.run.records.history import read_history


@click.command()
@click.argument("run")
@click.option("--out", metavar="FILE", help="Where the page goes; - is standard output.  [default: RUN.html]")
@store_option
@json_option
def report(run: str, out: str | None, store: str | None, as_json: bool) -> None:
    """Draw how RUN went: curves, a timeline of its workers, bytes, requests and cost, in one HTML file.

    A page that is there is replaced. With --json, print the history that the page is drawn from; then a page is
    written only where --out says so.
    """
    check_outputs(out, as_json)
    history = read_history(store_url(store), run)
    if out is not None or not as_json:
        out = out or f"{run}.html"
        write_page(out, report_page(history))
    if as_json:
        print_json(history)
    elif out != "-":
        click.echo(f"wrote {out}")


def check_outputs(out: str | None, as_json: bool) -> None:
    """Raises UsageError where two things would go to standard output."""
    if out == "-" and as_json:
        raise UsageError("the page and the JSON object cannot both go to standard output", hint="give --out FILE.html")
