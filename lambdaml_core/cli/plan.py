"""``lambdaml plan``: what a job will take and cost, its rounds for every number of aggregators, and what it needs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from lambdaml_core.cli.bench import parse_size
from lambdaml_core.cli.output import json_option, print_json, print_table
from lambdaml_core.cli.page.text import count, dollars, seconds
from lambdaml_core.cli.train import limit_options, parse_settings, set_option, with_limits
from lambdaml_core.cli.view import size
from lambdaml_core.run.driver.estimate import Asked, Estimate, Option, Whole, check_limits, estimate
from lambdaml_core.run.job import Job


@click.command()
@click.argument("job", type=click.Path(path_type=Path))
@set_option
@click.option("--measure", is_flag=True, help="Measure the channel from here, instead of taking what it states.")
@click.option("--rows", type=click.IntRange(1), metavar="N", help="Rows to train on, not partitioned yet.")
@click.option("--features", type=click.IntRange(1), metavar="N", help="Columns of data that are not partitioned yet.")
@click.option("--classes", type=click.IntRange(2), metavar="N", help="Labels that they have, if more than two.")
@click.option("--message-bytes", metavar="SIZE", help="Bytes of the model's parameters, with KB, MB or GB.")
@limit_options
@json_option
def plan(
    job: Path,
    settings: tuple[str, ...],
    measure: bool,
    rows: int | None,
    features: int | None,
    classes: int | None,
    message_bytes: str | None,
    max_cost: float | None,
    max_time: float | None,
    as_json: bool,
) -> None:
    """Predict what the job file JOB takes: requests, bytes, seconds and dollars, of a round and in all.

    Tells also what would be made for it, and who needs which permissions. Nothing is started. Unless it measures, it
    reads the manifest of a partition or small files, and asks nobody for anything else. Computing, looks at validation
    rows and polls of a channel that does not block come on top. Exits 2 where the prediction is above a limit.
    """
    nbytes = None if message_bytes is None else parse_size(message_bytes)
    checked = Job.from_toml(job, with_limits(parse_settings(settings), max_cost, max_time))
    estimated = estimate(checked, Asked(features, classes, nbytes, rows), measures=measure)
    if not as_json:
        _print(estimated)
    if estimated["whole"] is not None:
        check_limits(estimated["whole"], cost_usd=checked.limits.cost_usd, seconds=checked.limits.seconds)
    if as_json:
        print_json(estimated)


def _print(estimated: Estimate) -> None:
    _print_lines(_facts(estimated))
    click.echo()
    print_table(_HEADERS, [_row(estimated, option) for option in estimated["options"]])
    if estimated["whole"] is not None:
        click.echo()
        _print_lines(_in_all(estimated, estimated["whole"]))
    if estimated["resources"] or estimated["facts"]:
        click.secho(f"\nwould be made by {estimated['provider']}", bold=True)
        for line in estimated["resources"]:
            click.echo(line)
        _print_lines(estimated["facts"].items())
    for who, policy in estimated["permissions"].items():
        click.secho(f"\npermissions of the {who}", bold=True)
        click.echo(json.dumps(policy, indent=2))


def _print_lines(facts: Iterable[tuple[str, str]]) -> None:
    lines = list(facts)
    width = max([12, *(len(name) + 2 for name, _ in lines)])
    for name, text in lines:
        click.echo(f"{name:<{width}}{text}")


def _facts(e: Estimate) -> Iterator[tuple[str, str]]:
    yield "channel", e["channel"]
    latency = f"{e['latency_s'] * 1e3:.3g} ms a request" if e["latency_s"] else "latency not stated"
    bandwidth = f"{size(round(e['bytes_per_s']))}/s each" if e["bytes_per_s"] else "bandwidth not stated"
    source = "measured from here" if e["measured"] else "as it states"
    if not e["measured"] and not (e["latency_s"] and e["bytes_per_s"]):
        source += "; --measure measures"
    yield "speed", f"{latency}, {bandwidth}, {e['parallel']} at once ({source})"
    prices = [
        f"{name} {dollars(usd * 1e9)} a GB" if name in _BYTES else f"{name} {dollars(usd * 1000)} per 1,000"
        for name, usd in e["prices"].items()
        if usd
    ]
    yield "prices", ", ".join(prices) or "requests cost nothing"
    if e["usd_per_worker_s"]:
        yield "workers", f"{e['workers']}, {dollars(e['usd_per_worker_s'] * 3600)} an hour each"
    else:
        yield "workers", f"{e['workers']}, at no price"
    yield "message", f"{size(e['message_bytes'])} of parameters or gradients a round"
    yield "rounds", f"at most {count(e['rounds'])}" if e["rounds"] else "not known before the data are; --rows N tells"
    yield "auto", f"{e['best']}: {e['reason']}"
    yield "job", f"aggregators = {e['asked']}" + ("" if e["asked"] == e["aggregators"] else f": {e['aggregators']}")


def _in_all(e: Estimate, whole: Whole) -> Iterator[tuple[str, str]]:
    parts = [("to start", whole["start_s"]), ("to read rows", whole["load_s"]), ("to exchange", whole["exchange_s"])]
    said = ", ".join(f"{seconds(value)} {what}" for what, value in parts if value)
    yield "in all", f"{seconds(whole['seconds'])}{f' ({said})' if said else ''}, and what computing takes"
    if e["max_duration_s"] is not None:
        handed = f"{count(whole['successions'])} successions of each worker at {seconds(e['max_duration_s'])} a process"
        yield "launches", f"{count(whole['launches'])}: {handed}"
    yield (
        "dollars",
        f"{dollars(whole['usd'])}: {dollars(whole['worker_usd'])} for workers, "
        + (f"{dollars(whole['storage_usd'])} for requests"),
    )
    for name, other in e["elsewhere"].items():
        yield "elsewhere", f"{name}: {seconds(other['seconds'])}, {dollars(other['usd'])}; {other['said']}"


_BYTES = ("sent", "received")
_ROUND = ("seconds", "put", "get", "delete", "sent", "received", "dollars")
_HEADERS = ["", "K", *_ROUND, "seconds in all", "dollars in all"]


def _row(e: Estimate, option: Option) -> list[Any]:
    once, whole = option["round"], option["run"]
    return [
        "->" if option["aggregators"] == e["aggregators"] else "",
        option["aggregators"],
        once["seconds"],
        once["put"],
        once["get"],
        once["delete"],
        size(once["sent"]),
        size(once["received"]),
        once["usd"] + once["worker_usd"],
        None if whole is None else whole["seconds"],
        None if whole is None else whole["usd"] + whole["worker_usd"],
    ]
