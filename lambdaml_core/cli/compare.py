"""``lambdaml compare``: runs side by side."""

from __future__ import annotations

import math

import click

from lambdaml_core.cli.output import json_option, print_json, print_table
from lambdaml_core.cli.page.compare import columns, compare_page, compared
from lambdaml_core.cli.page.output import write_page
from lambdaml_core.cli.report import check_outputs
from lambdaml_core.cli.runs import store_option, store_url
from lambdaml_core.errors import UsageError
from lambdaml_core.run.history import read_history


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--target-loss", type=float, metavar="LOSS", help="Tell what it took until the validation loss was this.")
@click.option("--out", metavar="FILE", help="Draw the curves of all runs into this HTML file; - is standard output.")
@store_option
@json_option
def compare(
    runs: tuple[str, ...], target_loss: float | None, out: str | None, store: str | None, as_json: bool
) -> None:
    """Put the figures of each RUN side by side: losses, times, bytes, requests and cost.

    Bytes and dollars up to a round are taken to be in proportion to the rounds done.
    """
    check_outputs(out, as_json)
    if target_loss is not None and not math.isfinite(target_loss):
        raise UsageError(f"--target-loss cannot be {target_loss}", hint="give a number")
    url = store_url(store)
    histories = [read_history(url, run) for run in dict.fromkeys(runs)]
    figures = [compared(history, target_loss) for history in histories]
    if out is not None:
        write_page(out, compare_page(histories, figures, target_loss))
    if as_json:
        print_json({"store": url, "target_loss": target_loss, "runs": figures})
    elif out != "-":
        print_table(["", *(f["run"] for f in figures)], columns(figures, target_loss))
        if out is not None:
            click.echo(f"wrote {out}")
