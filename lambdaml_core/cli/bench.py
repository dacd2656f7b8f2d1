"""``lambdaml bench``: measure a storage with the operations that training makes."""

from __future__ import annotations

import re

import click

from lambdaml_core.cli.output import json_option, print_json, print_table
from lambdaml_core.errors import OptionError

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}


@click.group()
def bench() -> None:
    """Measure a storage."""


@bench.command()
@click.option("--storage", default=None, help="URL of the channel; default: tmpfs on this machine.")
@click.option("--workers", default=4, show_default=True, type=click.IntRange(2), help="Processes on this machine.")
@click.option(
    "--sizes", default="1KB,1MB,40MB,100MB", show_default=True, help="Bytes of the message, with KB, MB or GB."
)
@click.option(
    "--aggregators", default="1,all", show_default=True, help="How many ranks fold the message: 1 to workers, or all."
)
@click.option(
    "--repeats", default=None, type=click.IntRange(1), help="Repetitions; default: more for smaller messages."
)
@json_option
def collectives(
    storage: str | None, workers: int, sizes: str, aggregators: str, repeats: int | None, as_json: bool
) -> None:
    """Time all_reduce over a storage, beside "raw": the same bytes with no coordination."""
    from lambdaml_core.run.bench import bench_collectives

    rows = bench_collectives(
        storage,
        workers=workers,
        sizes=[parse_size(word) for word in sizes.split(",")],
        aggregators=[_parse_aggregators(word, workers) for word in aggregators.split(",")],
        repeats=repeats,
    )
    if as_json:
        print_json({"rows": list(rows)})
        return
    print_table(
        ["bytes", "aggregators", "median ms", "raw ms", "median / raw"],
        [
            (r["bytes"], r["aggregators"], r["median_s"] * 1e3, r["raw_s"] * 1e3, r["median_s"] / r["raw_s"])
            for r in rows
        ],
    )


def parse_size(word: str) -> int:
    """Bytes of a size such as ``40MB`` (10^6 each).

    Raises:
        OptionError: it is none.
    """
    match = re.fullmatch(r"(\d+)\s*([A-Za-z]*)", word.strip())
    if not match or match[2].upper() not in _UNITS:
        raise OptionError(f"{word!r} is no size", hint="write it as 1KB, 40MB or a number of bytes")
    return int(match[1]) * _UNITS[match[2].upper()]


def _parse_aggregators(word: str, workers: int) -> int:
    number = workers if word == "all" else int(word) if word.isdigit() else 0
    if not 1 <= number <= workers:
        raise OptionError(f"--aggregators must be 1 to {workers} or all, not {word!r}")
    return number
