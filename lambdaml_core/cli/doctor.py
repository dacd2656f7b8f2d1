"""``lambdaml doctor``: what keeps runs from working here, and what to do about it."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from lambdaml_core.cli.output import json_option, print_json
from lambdaml_core.findings import Finding
from lambdaml_core.run.doctor.doctor import PATIENCE_S, Found, examine
from lambdaml_core.run.doctor.look import Look
from lambdaml_core.run.doctor.subject import Asked

_COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}


@click.command()
@click.argument("job", required=False, type=click.Path(path_type=Path))
@click.option("--store", metavar="URL", help="Look at this store; default: the job's, LAMBDAML_STORE or the data home.")
@click.option("--channel", metavar="URL", help="Look at this channel; default: the job's.")
@click.option("--provider", metavar="NAME", help="Look at this provider; default: the job's, or local.")
@click.option(
    "--patience",
    default=PATIENCE_S,
    show_default=True,
    metavar="SECONDS",
    type=click.IntRange(1, 3600),
    help="How long to wait for each storage, plugin and provider.",
)
@click.option("--fix", is_flag=True, help="Mend what can be mended without a person.")
@json_option
@click.pass_context
def doctor(
    ctx: click.Context,
    job: Path | None,
    store: str | None,
    channel: str | None,
    provider: str | None,
    patience: int,
    fix: bool,
    as_json: bool,
) -> None:
    """Look at what a run of JOB needs, or any run: versions, plugins, storages, this machine.

    Each warning and problem has its remedy. What is put into a storage to measure it is deleted again. Exits 1 if there
    is a problem; warnings are none.
    """
    asked = Asked(job=job, store=store, channel=channel, provider=provider)
    counts = {"ok": 0, "warning": 0, "problem": 0}
    rows: list[dict[str, Any]] = []
    mended: list[dict[str, Any]] = []
    title = ""
    with _progress(as_json) as on_look:
        for found in examine(asked, seconds=patience, fix=fix, on_look=on_look):
            for finding in found.findings:
                counts[finding.state] += 1
            rows += [_row(found.look, finding) for finding in found.findings]
            mended += [_row(found.look, finding) for finding in found.mended]
            if not as_json:
                title = _print(found, title)
    if as_json:
        print_json({"findings": rows, "mended": mended, "counts": counts})
    else:
        click.echo(f"\n{_count(counts['problem'], 'problem')}, {_count(counts['warning'], 'warning')}")
    _leave(ctx, 1 if counts["problem"] else 0)


@contextlib.contextmanager
def _progress(as_json: bool) -> Iterator[Callable[[Look], None]]:
    """Says on a terminal what is looked at just now, in a line that is gone when something is found."""
    if as_json or not (sys.stderr.isatty() and sys.stdout.isatty()):
        yield lambda _: None
        return
    try:
        yield lambda look: click.echo(f"\r\x1b[Klooking at {_title(look)}: {look.what} ...", nl=False, err=True)
    finally:
        click.echo("\r\x1b[K", nl=False, err=True)


def _print(found: Found, title: str) -> str:
    """Print findings below the title of their group, unless it is the last one printed. Returns it."""
    lines = [("mended", f) for f in found.mended] + [(f.state, f) for f in found.findings]
    if lines and sys.stderr.isatty() and sys.stdout.isatty():
        click.echo("\r\x1b[K", nl=False, err=True)
    if lines and _title(found.look) != title:
        title = _title(found.look)
        click.secho(f"{title}", bold=True)
    for word, finding in lines:
        click.echo(f"  {click.style(f'{word:<8}', fg=_COLOURS.get(word))} {finding.what}: {finding.said}")
        if finding.remedy and word in ("warning", "problem"):
            click.echo(f"           remedy: {finding.remedy}")
    return title


def _title(look: Look) -> str:
    return f"{look.group} {look.subject}".strip()


def _row(look: Look, finding: Finding) -> dict[str, Any]:
    return {
        "group": look.group,
        "subject": look.subject or None,
        "what": finding.what,
        "state": finding.state,
        "said": finding.said,
        "remedy": finding.remedy,
        "values": finding.values,
        "fixable": finding.fix is not None,
    }


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")


def _leave(ctx: click.Context, code: int) -> None:
    """Exit, also where a thread of a plugin hangs, which the interpreter would wait for at its end."""
    sys.stdout.flush()
    sys.stderr.flush()
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        os._exit(code)
    ctx.exit(code)
