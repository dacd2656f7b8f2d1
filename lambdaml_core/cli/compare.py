"""``lambdaml compare``: runs side by side."""

from __future__ import annotations

import math

import click

from lambdaml_core.cli.output import json_option, print_json, print_table
from lambdaml_core.cli.page.compare import columns, compare_page, compare_runs
from lambdaml_core.cli.page.output import write_page
from lambdaml_core.cli.report import check_outputs
from lambdaml_core.cli.runs import store_option, store_url
from lambdaml_core.errors import UsageError
from lambdaml_core.run.records.history import read_history


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--target-loss", type=float, metavar="LOSS", help="Tell what it took until the loss was this.")
@click.option("--out", metavar="FILE", help="Draw the curves of all runs into this HTML file; - is standard output.")
@store_option
@json_option
def compare(
    runs: tuple[str, ...], target_loss: float | None, out: str | None, store: str | None, as_json: bool
) -> None:
    """Put the figures of each RUN side by side: losses, times, bytes, requests and cost.

    Without --target-loss, what it took is told for the lowest loss that all runs got to. It is the validation loss
    where all runs have validation rows. Bytes and dollars up to a round are those of all workers, taken to be in the
    proportions of rank 0. With --json, each run has its curve: the loss against rounds, seconds, bytes and dollars.
    """
    check_outputs(out, as_json)
    if target_loss is not None and not math.isfinite(target_loss):
        raise UsageError(f"--target-loss cannot be {target_loss}", hint="give a number")
    url = store_url(store)
    comparison = compare_runs([read_history(url, run) for run in dict.fromkeys(runs)], target_loss)
    if out is not None:
        write_page(out, compare_page(comparison))
    if as_json:
        loss, target = comparison.loss, comparison.target
        print_json({"store": url, "loss": loss, "target_loss": target, "runs": comparison.runs})
    elif out != "-":
        print_table(["", *(f["run"] for f in comparison.runs)], columns(comparison))
        if out is not None:
            click.echo(f"wrote {out}")
