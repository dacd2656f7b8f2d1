"""``lambdaml quickstart``: train on bundled real data with four workers, with one aggregator and with four."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from lambdaml_core.cli.output import json_option, print_json, print_table
from lambdaml_core.cli.runs import store_option, store_url
from lambdaml_core.cli.view import size, view
from lambdaml_core.data.partition import partition
from lambdaml_core.data.samples import CENSUS_INCOME
from lambdaml_core.errors import RunError
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.job import Job
from lambdaml_core.run.records.records import RunRecord

WORKERS = 4
VALIDATION = 0.2
SETTINGS: dict[str, Any] = {
    "name": "quickstart",
    "workers": WORKERS,
    "batch_size": 1000,
    "rounds": 400,
    "optimizer": {
        "name": "ga_sgd",
        "learning_rate": 0.1,
        "momentum": 0.97,
        "l2": 1e-4,
    },
}
"""The job of both runs, but for data, store and aggregators."""


@click.command()
@store_option
@json_option
def quickstart(store: str | None, as_json: bool) -> None:
    """Train logistic regression on bundled census data, with four workers on this machine, twice."""
    url = store_url(store)
    with tempfile.TemporaryDirectory(prefix="lambdaml-quickstart-") as folder:
        shards = partition_sample(Path(folder) / "shards")
        records = [_train(url, shards, aggregators, as_json) for aggregators in (1, WORKERS)]
    check_equal(records)
    if as_json:
        print_json({"runs": records})
    else:
        _print(records, store)


def partition_sample(folder: Path) -> str:
    """Partition the bundled sample into ``folder``; returns its URL."""
    url = folder.as_uri()
    partition(CENSUS_INCOME, url, shards=WORKERS, validation=VALIDATION)
    return url


def _train(store: str, shards: str, aggregators: int, as_json: bool) -> RunRecord:
    job = Job.from_mapping({**SETTINGS, "store": store, "data": shards, "aggregators": aggregators})
    if not as_json:
        click.echo(f"training with {WORKERS} workers, {aggregators} of them aggregating ...")
    with view(quiet=as_json or not sys.stdout.isatty()) as on_event:
        return run_job(job, on_event=on_event)


def check_equal(records: Sequence[RunRecord]) -> None:
    """Both ways to cut a reduction give one model.

    Raises:
        RunError: they did not.
    """
    sums = {record["model_sha256"] for record in records}
    if len(sums) != 1 or None in sums:
        raise RunError(
            f"the models differ: {', '.join(sorted(map(str, sums)))}",
            hint="this is a fault of LambdaML: please report it",
        )


def _print(records: Sequence[RunRecord], store: str | None) -> None:
    rows: list[list[Any]] = [
        [name, *(record[key] for record in records)]  # type: ignore[literal-required]
        for name, key in (
            ("validation loss", "loss"),
            ("AUC", "auc"),
            ("accuracy", "accuracy"),
            ("accuracy of the majority", "baseline_accuracy"),
            ("rounds", "rounds"),
        )
    ]
    rows += [[f"seconds: {part}", *(f"{r['seconds'][part]:.2f}" for r in records)] for part in records[0]["seconds"]]  # type: ignore[literal-required]
    rows += [[f"bytes {way}", *(size(r["bytes"][way]) for r in records)] for way in ("sent", "received")]
    click.echo()
    print_table(["", *(f"K = {r['aggregators']}" for r in records)], rows)
    where = f" --store {store}" if store else ""
    click.echo(
        f"\nBoth models are the same bytes: SHA-256 {records[0]['model_sha256']}\n"
        f"saved to {records[-1]['model_path']}\n"
        "\nNext:\n"
        f"  lambdaml show {records[-1]['run']}{where}\n"
        "  lambdaml plugins\n"
        "  lambdaml train --template > job.toml"
    )
