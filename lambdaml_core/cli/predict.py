"""``lambdaml predict`` and ``evaluate``: a trained model and raw files."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from lambdaml_core.cli.output import json_option, print_json, print_table, whole_file
from lambdaml_core.cli.runs import store_option, store_url
from lambdaml_core.errors import (
    ModelError,
    OptionError,
    OutputExists,
    RunNotFound,
    StorageDenied,
    StorageFull,
    UsageError,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lambdaml_core.run.saved import Predictions, SavedModel
    from lambdaml_core.specs import Reference

format_option = click.option("--format", "name", help="How files are read.  [default: by the ending of their names]")
options_option = click.option(
    "--option",
    "options",
    multiple=True,
    metavar="KEY=VALUE",
    help="An option of the format, such as delimiter=';'. May be given several times.",
)


@click.command()
@click.argument("model")
@click.argument("data")
@click.option(
    "--out", type=click.Path(path_type=Path), help="New file for the predictions; - prints them, as does the default."
)
@click.option("--proba", is_flag=True, help="The probability of each class too, as columns p_LABEL.")
@format_option
@options_option
@store_option
@json_option
def predict(
    model: str,
    data: str,
    out: Path | None,
    proba: bool,
    name: str | None,
    options: tuple[str, ...],
    store: str | None,
    as_json: bool,
) -> None:
    """Say what MODEL takes each row of DATA for, in its order, as CSV.

    MODEL is a directory, a URL, or the name of a run. DATA is a file, a folder or a pattern, raw as in training, with
    or without labels. It is read in pieces. With --json and without --out, the object has all predictions.
    """
    out = None if out == Path("-") else out
    saved = open_model(model, store)
    blocks = saved.predict_blocks(data, format=format_named(data, name, options), probabilities=proba)
    if as_json and out is None:
        print_json(_collected(blocks))
        return
    header = ["prediction", *(f"p_{label}" for label in saved.labels if proba)]
    quiet = as_json or out is None
    with _output(out) as file, _progress(quiet=quiet) as progress:
        rows = _write(file, header, progress(blocks))
    if as_json:
        print_json({"rows": rows, "out": str(out)})
    elif out is not None:
        click.echo(f"{rows:,} predictions: {out}")


@click.command()
@click.argument("model")
@click.argument("data")
@format_option
@options_option
@store_option
@json_option
def evaluate(
    model: str, data: str, name: str | None, options: tuple[str, ...], store: str | None, as_json: bool
) -> None:
    """Show how well MODEL does on the labelled rows of DATA.

    MODEL is a directory, a URL, or the name of a run. DATA is a file, a folder or a pattern, raw as in training.
    """
    figures = open_model(model, store).evaluate_file(data, format=format_named(data, name, options))
    if as_json:
        print_json(figures)
    else:
        print_table(["figure", "value"], list(figures.items()))


def open_model(model: str, store: str | None) -> SavedModel:
    """The model of a directory, of a URL, or of a run of the store.

    Raises:
        ModelError, PluginError: as :func:`lambdaml_core.load`; or it is none of these.
    """
    from lambdaml_core.run.records.records import model_files
    from lambdaml_core.run.saved import decode, load

    if "://" in model or os.path.exists(model):  # noqa: PTH110 - Path.exists raises where a name is too long
        return load(model)
    url = store_url(store)
    try:
        return decode(model_files(url, model), where=f"the run {model}")
    except RunNotFound as e:
        raise ModelError(f"{model!r:.99} is no directory, and no run in {url}", hint=e.hint) from e


def format_named(source: str, name: str | None, options: Iterable[str]) -> Reference | None:
    """The format that options of the command line choose; None where they say nothing.

    Raises:
        OptionError, PluginError: as ``Registry.resolve``; or a word is not KEY=VALUE.
        DataError: the format cannot be told by the names of the files.
    """
    from lambdaml_core.data.sources import format_of
    from lambdaml_core.registry import default_registry

    values = {}
    for word in options:
        key, equals, value = word.partition("=")
        if not equals:
            raise OptionError(f"--option {word} is not KEY=VALUE", hint="such as --option delimiter=';'")
        values[key.strip()] = value
    if name is not None:
        return default_registry().resolve("data_format", name, values, where="format")
    return format_of(source, values) if values else None


def _collected(blocks: Iterable[Predictions]) -> dict[str, Any]:
    values: list[Any] = []
    probabilities: list[Any] | None = None
    for block in blocks:
        values += block.values.tolist()
        if block.probabilities is not None:
            probabilities = (probabilities or []) + block.probabilities.tolist()
    found: dict[str, Any] = {"rows": len(values), "predictions": values}
    return found if probabilities is None else found | {"probabilities": probabilities}


def _write(file: IO[str], header: list[str], blocks: Iterable[Predictions]) -> int:
    """Write predictions as CSV as they come. Returns how many."""
    writer = csv.writer(file, lineterminator="\n")
    blocks = iter(blocks)
    first = list(itertools.islice(blocks, 1))  # what cannot be read is said before anything is written
    writer.writerow(header)
    rows = 0
    for block in itertools.chain(first, blocks):
        columns = [_texts(block.values)]
        if block.probabilities is not None:
            columns += map(_texts, block.probabilities.T)
        writer.writerows(zip(*columns, strict=True))
        rows += len(block.values)
    return rows


def _texts(values: NDArray[Any]) -> list[Any]:
    """Values as they are to be read again: numbers with the nine digits that tell float32 apart."""
    return [f"{v:.9g}" for v in values.tolist()] if values.dtype.kind == "f" else values.tolist()


@contextlib.contextmanager
def _output(out: Path | None) -> Iterator[IO[str]]:
    """Standard output, or a new file that is there once all is in it."""
    try:
        if out is None:
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(errors="strict")  # these are data: no label may become another
            yield sys.stdout
        else:
            with _new_file(out) as file:
                yield file
    except UnicodeEncodeError as e:
        wrong = e.object[e.start : e.end]
        hint = "set PYTHONIOENCODING=utf-8, or use --json"
        raise UsageError(f"a label has {wrong!a}, which {e.encoding} cannot write", hint=hint) from e


@contextlib.contextmanager
def _new_file(out: Path) -> Iterator[IO[str]]:
    if out.exists() or out.is_symlink():
        raise OutputExists(f"{out} exists already", hint="choose another file, or remove it first")
    try:
        with whole_file(out) as beside, beside.open("x", encoding="utf-8", newline="") as file:
            yield file
    except PermissionError as e:
        raise StorageDenied(f"no permission to write {out}", hint="choose another file") from e
    except OSError as e:
        raise StorageFull(f"{out} cannot be written: {e.strerror}", hint="make room, or choose another file") from e


@contextlib.contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[Iterable[Predictions]], Iterator[Predictions]]]:
    """Counts rows on a terminal; nothing where nobody looks."""
    if quiet or not sys.stderr.isatty():
        yield iter
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), TextColumn("{task.completed:,} rows"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("rows", total=None)

        def counted(blocks: Iterable[Predictions]) -> Iterator[Predictions]:
            for block in blocks:
                yield block
                bar.advance(task, len(block.values))

        yield counted
