"""The figures of several runs, and the page that draws their curves over one another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypedDict
from xml.etree.ElementTree import Element

from lambdaml_core.cli.page.chart import Point, Series, curve_look, line_chart
from lambdaml_core.cli.page.curves import (
    Kind,
    Mark,
    added,
    common_kind,
    common_loss,
    curve,
    first_at,
    total,
)
from lambdaml_core.cli.page.html import node, page, table
from lambdaml_core.cli.page.report import SCORES, footer
from lambdaml_core.cli.page.text import bytes_, count, dollars, figure, seconds, setting
from lambdaml_core.run.records.history import CLASSES, PARTS, RunHistory


class Compared(TypedDict):
    """One run in a comparison. ``bytes`` (sent and received, of ``channel`` and store together), ``requests`` (of the
    channel) and ``cost_usd`` are of all workers together, None until all have ended; ``chosen``: the driver has settled
    the number of ``aggregators``; ``figures``: of the validation rows; ``curve``: columns, named as the fields of
    :class:`~lambdaml_core.cli.page.curves.Mark`; ``reached``: the first point at the target, None where there is no
    target, or the run did not get there."""

    run: str
    status: str
    model: str
    optimizer: str
    job: dict[str, Any]
    workers: int
    aggregators: int
    chosen: bool
    rounds: int
    epochs: float
    train_loss: float | None
    figures: dict[str, float | None]
    seconds: dict[str, float]
    bytes: float | None
    channel: float | None
    requests: int | None
    cost_usd: float | None
    exact: bool
    reached: dict[str, float | None] | None
    curve: dict[str, list[float | None]]


class Comparison(NamedTuple):
    """Runs side by side.

    Attributes:
        loss: whose loss the curves and the target are.
        target: the loss to get to; None where none was given, and no two runs have a loss in common.
        given: whether it was given.
    """

    loss: Kind
    target: float | None
    given: bool
    runs: list[Compared]


def compare_runs(histories: Sequence[RunHistory], target: float | None = None) -> Comparison:
    """The figures of all runs, and what it took to get to the target: if none is given, to the lowest loss that all
    runs got to."""
    kind = common_kind(histories)
    curves = [curve(history, kind) for history in histories]
    at = common_loss(curves) if target is None else target
    runs = [_compared(history, marks, at) for history, marks in zip(histories, curves, strict=True)]
    return Comparison(kind, at, target is not None, runs)


def _compared(history: RunHistory, marks: Sequence[Mark], target: float | None) -> Compared:
    r = history["record"]
    channel, store = total(history, "channel"), total(history, "store")
    at = None if target is None else first_at(marks, target)
    return Compared(
        run=r["run"],
        status=r["status"],
        model=r["model"],
        optimizer=r["optimizer"],
        job=history["job"],
        workers=r["workers"],
        aggregators=r["aggregators"],
        chosen=r["aggregators_reason"] is not None,
        rounds=r["rounds"],
        epochs=r["epochs"],
        train_loss=r["train_loss"],
        figures=r["metrics"],
        seconds=dict[str, float](r["seconds"].items()),  # type: ignore[arg-type]
        bytes=added(channel, store),
        channel=channel,
        requests=sum(r["requests"][name] for name in CLASSES) if channel is not None else None,  # type: ignore[literal-required]
        cost_usd=total(history, "usd"),
        exact=r["exact"],
        reached=None if at is None else at._asdict(),
        curve={name: [getattr(mark, name) for mark in marks] for name in Mark._fields},
    )


# --- as a table ---------------------------------------------------------------------------------------------


def columns(comparison: Comparison) -> list[list[str]]:
    """Rows of text: a name, and its value in each run. What no run has is left out, and so are settings of the jobs
    that are the same in all of them. That no run got to the target is said."""
    figures = comparison.runs
    rows: list[list[str]] = []

    def row(name: str, values: Sequence[Any], text: Callable[[Any], str] = str) -> None:
        if any(value is not None for value in values):
            rows.append([name, *("-" if v is None else text(v) for v in values)])

    for name in ("status", "model", "optimizer", "workers"):
        row(name, [f[name] for f in figures])
    row("aggregators", [f"{f['aggregators']} (auto)" if f["chosen"] else f["aggregators"] for f in figures])
    settings = [_flat(f["job"]) for f in figures]
    for name in sorted(set().union(*settings)):
        values = [s.get(name) for s in settings]
        if any(value != values[0] for value in values):
            row(name, values)
    row("exact", ["yes" if f["exact"] else "no" for f in figures])
    row("rounds", [f["rounds"] for f in figures], count)
    row("epochs", [f["epochs"] for f in figures], count)
    row("training loss", [f["train_loss"] for f in figures], figure)
    row("validation loss", [f["figures"].get("loss") for f in figures], figure)
    for name, word in {**SCORES, "rmse": "RMSE"}.items():
        row(word, [f["figures"].get(name) for f in figures], figure)
    for part in ("total", *PARTS):
        row("time in all" if part == "total" else f"mean {part}", [f["seconds"][part] for f in figures], seconds)
    row("bytes moved", [f["bytes"] for f in figures], bytes_)
    row("through the channel", [f["channel"] for f in figures], bytes_)
    row("requests", [f["requests"] for f in figures], count)
    row("cost", [f["cost_usd"] for f in figures], dollars)
    row(f"target of {comparison.loss} loss", [comparison.target for _ in figures], figure)
    reached: list[Mapping[str, Any]] = [f["reached"] or {} for f in figures]
    for name, (word, text) in _UNTIL.items():
        row(f"{word} to target", [r.get(name) for r in reached], text)
    if comparison.target is not None and not any(reached):
        rows.append(["rounds to target", *("-" for _ in figures)])
    return rows


def _flat(job: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """The settings of a job by dotted path, without those that are rows of their own."""
    found: dict[str, str] = {}
    for key, value in job.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found |= _flat(value, f"{path}.")
        elif value is not None and path not in _ROWS:
            found[path] = setting(value)
    return found


_ROWS = ("model.name", "optimizer.name", "workers", "aggregators", "rounds", "epochs", "name")
_UNTIL: dict[str, tuple[str, Callable[[Any], str]]] = {
    "round": ("rounds", count),
    "seconds": ("time", seconds),
    "bytes": ("bytes", bytes_),
    "channel": ("channel's bytes", bytes_),
    "cost_usd": ("cost", dollars),
}


# --- as a page ----------------------------------------------------------------------------------------------


class _Axis(NamedTuple):
    """What a loss can be drawn over.

    Attributes:
        column: of a curve.
        label: what it is, in words.
        text: writes the numbers along it.
    """

    column: str
    label: str
    text: Callable[[float], str]


_AXES = {
    "rounds": _Axis("round", "rounds", count),
    "seconds": _Axis("seconds", "seconds since the first round began", count),
    "bytes": _Axis("bytes", "bytes sent and received through channel and store", bytes_),
    "channel": _Axis("channel", "bytes sent and received through the channel", bytes_),
    "dollars": _Axis("cost_usd", "dollars", dollars),
}
_SCALES = ("linear", "logarithmic")
_WIDE = 20  # where one run has so many times the rounds of another, the first look at both is logarithmic


def compare_page(comparison: Comparison) -> bytes:
    """Curves of the loss of all runs over what they took, of which one is chosen, and the table, as a whole HTML
    page."""
    runs = comparison.runs
    names = ", ".join(f["run"] for f in runs)
    choices = [*_choice("over", _AXES, "rounds"), node("br"), *_choice("scale", _SCALES, _SCALES[_wide(runs)])]
    charts = [_chart(comparison, axis, scale) for axis in _AXES for scale in _SCALES]
    said = table(["", *(f["run"] for f in runs)], columns(comparison), caption="Figures of each run")
    body = [
        node("h1", f"{len(runs)} runs" if len(runs) > 1 else names),
        *(node("p", text) for text in _notes(comparison)),
        node("h2", "Curves"),
        node("div", *choices, node("div", *charts, class_="chosen"), class_="choice"),
        node("h2", "Figures"),
        node("div", said, class_="card"),
        footer(),
    ]
    return page(f"{names} · LambdaML", body)


def _notes(comparison: Comparison) -> Iterator[str]:
    if comparison.loss == "training":
        yield "Not all runs have looked at validation rows: losses are those of the rows of each round."
    if comparison.target is not None:
        how = "" if comparison.given else ", the lowest that all runs got to"
        yield f"The target is a {comparison.loss} loss of {figure(comparison.target)}{how}."
    yield "Bytes and dollars up to a round are those of all workers, taken to be in the proportions of rank 0."


def _choice(group: str, names: Iterable[str], chosen: str) -> Iterator[Element]:
    """Buttons and their labels; page.css shows the charts that have the classes of all chosen buttons."""
    for name in names:
        said = f"{group}-{name}"
        yield node("input", type="radio", name=group, id=said, checked="" if name == chosen else None)
        yield node("label", name, for_=said)


def _wide(runs: Sequence[Compared]) -> bool:
    rounds = [f["rounds"] for f in runs if f["rounds"]]
    return bool(rounds) and max(rounds) > _WIDE * min(rounds)


def _chart(comparison: Comparison, name: str, scale: str) -> Element:
    axis = _AXES[name]
    series = []
    for i, f in enumerate(comparison.runs):
        marks = zip(f["curve"][axis.column], f["curve"]["loss"], strict=True)
        points: list[Point] = [(at, loss) for at, loss in marks if at is not None and (at > 0 or scale == _SCALES[0])]
        series.append(Series(f["run"], points, curve_look(i)))
    ends = [at for s in series for at, loss in s.points if loss is not None]
    if not any(ends):  # no run took any of this: a line straight up would say nothing
        series = []
    elif comparison.target is not None:
        target = comparison.target
        series.append(Series("target", [(min(ends), target), (max(ends), target)], "soft dashed"))
    chart = line_chart(
        f"{comparison.loss.capitalize()} loss over {'bytes of the channel' if name == 'channel' else name}",
        series,
        x_label=axis.label,
        y_label="mean loss",
        x_text=axis.text,
        log=scale == _SCALES[1],
        x_log=scale == _SCALES[1],
        empty=f"there are no {axis.label} to tell of",
    )
    chart.set("class", f"over-{name} scale-{scale}")
    return chart
