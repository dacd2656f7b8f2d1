"""What ``lambdaml train`` shows of a run: a live view on a terminal, plain lines when piped, a summary at the end."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import click

from lambdaml_core.run.driver.following import Event
from lambdaml_core.run.records.records import RunRecord

_PARTS = ("load", "compute", "communicate", "wait")


@contextlib.contextmanager
def view(*, quiet: bool) -> Iterator[Callable[[Event], None] | None]:
    """A callback for the events of a run that shows them on standard output, or None where ``quiet``."""
    if quiet:
        yield None
    elif sys.stdout.isatty():
        with _live() as on_event:
            yield on_event
    else:
        yield _plain()


def _plain() -> Callable[[Event], None]:
    """One line for the start, and one for an epoch at each twentieth of the way: a log stays short."""
    rounds, shown = 1, -1

    def on_event(event: Event) -> None:
        nonlocal rounds, shown
        if event["event"] == "launched":
            rounds, shown = event["rounds"], -1
            click.echo(f"run {event['run']}: {event['workers']} workers, {rounds} rounds")
            if event["aggregators_reason"]:
                click.echo(f"aggregators = {event['aggregators']}: {event['aggregators_reason']}")
        elif event["event"] in _LOST:
            click.echo(_lost(event))
        elif event["event"] == "epoch" and (twentieth := 20 * event["round"] // rounds) > shown:
            shown = twentieth
            figures = {name: value for name, value in event["figures"].items() if name != "baseline_accuracy"}
            said = _figures((figures or {"training loss": event["batch_loss"]}) | event.get("round_figures", {}))
            click.echo(f"epoch {event['epoch']:.4g}  round {event['round']}  {said}")

    return on_event


_LOST = ("restarted", "reopened")
"""Events that tell of processes which did not last."""


def _lost(event: Event) -> str:
    who = f"worker {event['rank']}" if event["event"] == "restarted" else "every worker"
    where = f" from round {event['round']}" if event["event"] == "reopened" else ""
    return f"{who} started again{where}: {event['reason']}"


@contextlib.contextmanager
def _live() -> Iterator[Callable[[Event], None]]:
    """A few lines that are drawn over themselves while the run goes on, and gone when it ends."""
    from rich.live import Live
    from rich.text import Text

    seen: dict[str, Any] = {}
    with Live(Text("preparing the data"), transient=True, refresh_per_second=4) as live:

        def on_event(event: Event) -> None:
            if event["event"] in ("partitioning", "partitioned", "launched", "progress", "restarted", "reopened"):
                seen.update({**event} | ({"lost": _lost(event)} if event["event"] in _LOST else {}))
                live.update(Text("\n".join(_status(seen))))

        yield on_event


def _status(seen: Mapping[str, Any]) -> Iterator[str]:
    """What is known of a run so far, in lines that fit 80 columns."""
    if seen["event"] == "partitioning":
        yield f"{seen['run']}  reading the data  {100 * seen['done'] / max(1, seen['total']):.0f}%"
        return
    round, rounds, speed = seen.get("round", 0), seen.get("rounds", "?"), _number(seen.get("rounds_per_s"))
    yield f"{seen['run']}  round {round}/{rounds}  {speed} rounds/s"
    figures = {name: value for name, value in seen.get("figures", {}).items() if name != "baseline_accuracy"}
    loss = {"train loss": seen.get("train_loss"), "validation loss": figures.pop("loss", None)}
    yield _figures(loss) + "  " + _figures(figures)
    if seen.get("round_figures"):
        yield _figures(seen["round_figures"])[:80]
    seconds = seen.get("seconds", {})
    whole = sum(seconds.get(part, 0.0) for part in _PARTS)
    if "lost" in seen:
        yield seen["lost"][:80]
    yield "  ".join(f"{part} {100 * seconds[part] / whole:.0f}%" if whole else f"{part} -" for part in _PARTS)


def print_record(record: RunRecord) -> None:
    """The summary of a run, for people."""
    r = record
    requests = r["requests"]["put"] + r["requests"]["get"] + r["requests"]["delete"] + r["requests"]["list"]
    status = r["status"] + (f" ({r['stop_reason']})" if r["stop_reason"] else "")
    lines = {
        "run": f"{r['run']}: {status}",
        "model": f"{r['model']} by {r['optimizer']}",
        "workers": f"{r['workers']} ({r['provider']}), {r['aggregators']} of them aggregating"
        + (f": {r['aggregators_reason']}" if r["aggregators_reason"] else ""),
        "rounds": f"{r['rounds']} ({r['epochs']:.4g} epochs)",
        "validation": _figures(r["metrics"]) or "-",
        "training": _figures({"loss": r["train_loss"]}),
        **({"last round": _figures(r["round_figures"])} if r["round_figures"] else {}),
        **recovered(r),
        "seconds": "  ".join(f"{part} {value:.3f}" for part, value in r["seconds"].items()),
        "moved": f"{size(r['bytes']['sent'])} sent, {size(r['bytes']['received'])} received, "
        f"{requests} requests, ${r['cost_usd']:.4g}",
        "store": r["store"],
        "channel": r["channel"],
        "saved to": r["model_path"] or "-",
        "sha256": r["model_sha256"] or "-",
    }
    for name, text in lines.items():
        click.echo(f"{name:<12}{text}")
    if r["status"] == "stalled":
        click.echo(f"hint: lambdaml resume {r['run']}", err=True)


def recovered(r: RunRecord) -> dict[str, str]:
    """How many processes there were, where some did not last, and checkpoints, where there were any."""
    lines = {}
    if r["attempts"] > r["workers"]:
        said = f"{r['attempts']}; restarts {r['restarts']}, successions {r['successions']}"
        lines["processes"] = said + (f", generation {r['generation']}" if r["generation"] else "")
    if r["checkpoints"]["count"]:
        c = r["checkpoints"]
        lines["checkpoints"] = f"{c['count']}, {size(c['bytes'])}, training waited {c['seconds']:.3f} s for them"
    return lines


def size(number: int) -> str:
    """Bytes with a unit of 1000."""
    amount = float(number)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} GB"


def _figures(values: Mapping[str, Any]) -> str:
    return "  ".join(f"{name.replace('_', ' ')} {_number(value)}" for name, value in values.items())


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
