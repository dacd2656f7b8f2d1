"""``lambdaml partition``: data files become shuffled binary shards."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from lambdaml_core.cli.output import json_option, print_json
from lambdaml_core.cli.predict import format_named, format_option, options_option
from lambdaml_core.errors import NotSupported

if TYPE_CHECKING:
    from lambdaml_core.data.spool import Progress
    from lambdaml_core.specs import Target


@click.command()
@click.argument("source", type=click.Path())
@click.option("--shards", type=int, required=True, help="Pieces to cut the rows into; one per worker is a good number.")
@click.option("--out", required=True, help="URL or directory to write to.")
@click.option("--validation", type=float, default=0.2, show_default=True, help="Share of rows kept for validation.")
@click.option("--seed", type=int, default=0, show_default=True, help="What the order of the rows comes from.")
@click.option(
    "--target",
    type=click.Choice(["class", "number", "none"]),
    default="class",
    show_default=True,
    help="What labels are: classes to tell apart, or numbers to come near to; none: they are left out.",
)
@format_option
@options_option
@click.option("--layout", type=click.Choice(["auto", "dense", "sparse"]), help="How rows are kept.  [default: auto]")
@click.option("--features", type=int, help="Number of columns.  [default: the largest index]")
@click.option("--processes", type=int, help="Processes that parse.  [default: one per core, if the file is large]")
@json_option
def partition(
    source: str,
    shards: int,
    out: str,
    validation: float,
    seed: int,
    target: Target,
    name: str | None,
    options: tuple[str, ...],
    layout: str | None,
    features: int | None,
    processes: int | None,
    as_json: bool,
) -> None:
    """Read SOURCE once, shuffle and split its rows, and write binary shards that workers load without parsing.

    SOURCE is a file, a folder of files, or a pattern such as 'folder/*.csv'.
    """
    from lambdaml_core.data.partition import partition as run
    from lambdaml_core.run.driver.places import look_at
    from lambdaml_core.run.job import storage_url
    from lambdaml_core.storage import StorageURL

    given = {"layout": layout, "features": features}
    words = [*options, *(f"{key}={value}" for key, value in given.items() if value is not None)]
    format = format_named(source, name, words)
    url = storage_url(out, "--out")
    if not look_at(url)[1].caps.durable:
        raise NotSupported(f"{StorageURL.parse(url)} is not durable", hint="write to file:// or s3://, say")
    started = time.perf_counter()
    with _sigterm_interrupts(), _progress(quiet=as_json) as progress:
        manifest = run(
            source,
            url,
            shards=shards,
            seed=seed,
            validation=validation,
            target=target,
            format=format,
            processes=processes,
            progress=progress,
        )
    report = {
        "out": str(StorageURL.parse(url)),
        "rows": manifest.rows,
        "validation_rows": manifest.validation_rows,
        "features": manifest.features,
        "classes": manifest.classes,
        "labels": list(manifest.labels),
        "counts": list(manifest.counts),
        "layout": manifest.layout,
        "shards": len(manifest.train),
        "bytes": manifest.nbytes,
        "seed": seed,
        "checksum": manifest.checksum,
        "seconds": time.perf_counter() - started,
    }
    if as_json:
        print_json(report)
    else:
        _print(report, target)


def _print(report: dict[str, Any], target: Target) -> None:
    click.echo(
        f"{report['rows']:,} rows to train on and {report['validation_rows']:,} for validation, "
        f"{report['features']:,} features ({report['layout']}), {_labels(target, report['labels'])}"
    )
    click.echo(
        f"{report['shards']} shards, {report['bytes'] / 1e6:,.1f} MB, in {report['seconds']:.1f} s: {report['out']}"
    )


def _labels(target: Target, labels: list[Any]) -> str:
    if not labels:
        return "labelled with numbers" if target == "number" else "labels left out"
    if len(labels) == 2:
        return f"labels {labels[0]} and {labels[1]}"
    return f"{len(labels):,} classes: {', '.join(map(str, labels[:4]))}" + (", ..." if labels[4:] else "")


@contextlib.contextmanager
def _progress(quiet: bool) -> Iterator[Progress | None]:
    """A bar on a terminal; nothing where nobody looks."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("reading"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Make SIGTERM clean up as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
