"""``lambdaml train --chaos N``: whether a run survives kills, shown."""

from __future__ import annotations

from collections.abc import Callable

import click

from lambdaml_core.cli.output import print_json
from lambdaml_core.cli.view import print_record, view
from lambdaml_core.errors import RunError
from lambdaml_core.run.driver.chaos import ChaosRecord, run_chaos
from lambdaml_core.run.driver.following import Event
from lambdaml_core.run.job import Job


def chaos(job: Job, kills: int, *, as_json: bool) -> None:
    """Run the job quietly and with so many kills, and print the record of the second run.

    Raises:
        RunError: the models differ, and nothing explains it; and as :func:`~lambdaml_core.run.driver.chaos.run_chaos`.
    """
    with view(quiet=as_json) as on_event:
        record = run_chaos(job, kills, on_event=on_event and _with_kills(on_event))
    if record["exact"] and not record["equal"]:
        raise RunError(
            f"the models differ: {record['quiet_sha256']} of the quiet run {record['quiet_run']}, "
            f"{record['model_sha256']} of {record['run']} after {record['kills']} kills",
            hint="this is a fault of LambdaML: please report it",
        )
    if as_json:
        print_json(record)
    else:
        print_record(record)
        _print(record)


def _with_kills(on_event: Callable[[Event], None]) -> Callable[[Event], None]:
    def listener(event: Event) -> None:
        if event["event"] == "killed":
            who = "driver" if event["rank"] is None else f"worker {event['rank']}, attempt {event['attempt']}"
            click.echo(f"{event['at_s']:7.2f} s  killed {who}")
        on_event(event)

    return listener


def _print(record: ChaosRecord) -> None:
    lines = {
        "kills": f"{record['kills']}, {record['driver_kills']} of them of the driver",
        "overhead": f"{100 * record['overhead']:.0f}% longer than the quiet run {record['quiet_run']}",
        "equal": "the models of both runs are the same bytes" if record["equal"] else _NOT_EXACT,
    }
    for name, text in lines.items():
        click.echo(f"{name:<11}{text}")


_NOT_EXACT = "no: the workers had different fingerprints, or the clock ended a run"
