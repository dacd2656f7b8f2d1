"""The figures of several runs, and the page that draws their curves over one another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict
from xml.etree.ElementTree import Element

from lambdaml_core.cli.page.chart import Point, Series, line_chart
from lambdaml_core.cli.page.html import node, page, table
from lambdaml_core.cli.page.report import SCORES, footer
from lambdaml_core.cli.page.text import bytes_, count, dollars, figure, seconds, setting
from lambdaml_core.run.history import PARTS, Look, RunHistory

_COLOURS = 8  # after so many runs the colours come again, in lines of another pattern
_PATTERNS = ("", " dashed", " dotted")


class Reached(TypedDict):
    """What a run had taken when a look first showed a loss that was low enough; None where it is not known.

    ``bytes`` and ``cost_usd`` are estimates: the share of all rounds that were done by then.
    """

    round: int
    loss: float
    seconds: float | None
    bytes: float | None
    cost_usd: float | None


class Compared(TypedDict):
    """One run in a comparison. ``bytes`` (sent and received), ``requests`` and ``cost_usd`` are of the channel and of
    all workers together, None until all have ended; ``figures``: of the validation rows;
    ``reached``: None where there is no target, or the run did not get there."""

    run: str
    status: str
    model: str
    optimizer: str
    job: dict[str, Any]
    workers: int
    aggregators: int
    rounds: int
    epochs: float
    train_loss: float | None
    figures: dict[str, float | None]
    seconds: dict[str, float]
    bytes: int | None
    requests: int | None
    cost_usd: float | None
    exact: bool
    reached: Reached | None


def compared(history: RunHistory, target_loss: float | None = None) -> Compared:
    """The figures of a run, and what it took to get to ``target_loss``."""
    r = history["record"]
    known = all(w["ended"] for w in history["workers"])
    return Compared(
        run=r["run"],
        status=r["status"],
        model=r["model"],
        optimizer=r["optimizer"],
        job=history["job"],
        workers=r["workers"],
        aggregators=r["aggregators"],
        rounds=r["rounds"],
        epochs=r["epochs"],
        train_loss=r["train_loss"],
        figures=r["metrics"],
        seconds=dict[str, float](r["seconds"].items()),  # type: ignore[arg-type]
        bytes=r["bytes"]["sent"] + r["bytes"]["received"] if known else None,
        requests=sum(r["requests"][name] for name in ("put", "get", "delete", "list")) if known else None,
        cost_usd=r["cost_usd"] if known else None,
        exact=r["exact"],
        reached=None if target_loss is None else _reached(history, target_loss),
    )


def _reached(history: RunHistory, target_loss: float) -> Reached | None:
    for look in history["looks"]:
        loss = look["figures"].get("loss")
        if loss is not None and loss <= target_loss:
            return Reached(
                round=look["round"],
                loss=loss,
                seconds=look["seconds"],
                bytes=_bytes_at(history, look),
                cost_usd=_cost_at(history, look),
            )
    return None


def _bytes_at(history: RunHistory, look: Look) -> float | None:
    moved = history["record"]["bytes"]
    return _in_proportion(history, look, moved["sent"] + moved["received"])


def _cost_at(history: RunHistory, look: Look) -> float | None:
    return _in_proportion(history, look, history["record"]["cost_usd"])


def _in_proportion(history: RunHistory, look: Look, whole: float) -> float | None:
    rounds = history["record"]["rounds"]
    return whole * look["round"] / rounds if rounds and all(w["ended"] for w in history["workers"]) else None


# --- as a table ---------------------------------------------------------------------------------------------


def columns(figures: Sequence[Compared], target_loss: float | None = None) -> list[list[str]]:
    """Rows of text: a name, and its value in each run. What no run has is left out, and so are settings of the jobs
    that are the same in all of them. That no run got to the target is said."""
    rows: list[list[str]] = []

    def row(name: str, values: Sequence[Any], text: Callable[[Any], str] = str) -> None:
        if any(value is not None for value in values):
            rows.append([name, *("-" if v is None else text(v) for v in values)])

    for name in ("status", "model", "optimizer", "workers", "aggregators"):
        row(name, [f[name] for f in figures])
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
    row("requests", [f["requests"] for f in figures], count)
    row("cost", [f["cost_usd"] for f in figures], dollars)
    reached: list[Mapping[str, Any]] = [f["reached"] or {} for f in figures]
    texts = {"round": count, "seconds": seconds, "bytes": bytes_, "cost_usd": dollars}
    for name, text in texts.items():
        row(f"{_UNTIL[name]} to target", [r.get(name) for r in reached], text)
    if target_loss is not None and not any(reached):
        rows.append([f"{_UNTIL['round']} to target", *("-" for _ in figures)])
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
_UNTIL = {"round": "rounds", "seconds": "time", "bytes": "bytes", "cost_usd": "cost"}


# --- as a page ----------------------------------------------------------------------------------------------


def compare_page(histories: Sequence[RunHistory], figures: Sequence[Compared], target_loss: float | None) -> bytes:
    """Curves of the validation loss of all runs, and the table, as a whole HTML page."""
    names = ", ".join(f["run"] for f in figures)
    target = "" if target_loss is None else f" The target is a validation loss of {figure(target_loss)}."
    axes: dict[str, tuple[str, Callable[[RunHistory, Look], float | None], Callable[[float], str]]] = {
        "rounds": ("rounds", lambda _, look: look["round"], count),
        "seconds": ("seconds since the first round began", lambda _, look: look["seconds"], count),
        "bytes": ("bytes sent and received through the channel", _bytes_at, bytes_),
        "dollars": ("dollars for requests", _cost_at, dollars),
    }
    charts = [
        _chart(f"Validation loss over {name}", label, x, text, histories, target_loss)
        for name, (label, x, text) in axes.items()
    ]
    said = table(["", *(f["run"] for f in figures)], columns(figures, target_loss), caption="Figures of each run")
    body = [
        node("h1", f"{len(figures)} runs" if len(figures) > 1 else names),
        node("p", f"Bytes and dollars up to a round are taken to be in proportion to the rounds done.{target}"),
        node("h2", "Curves"),
        node("div", *charts, class_="charts"),
        node("h2", "Figures"),
        node("div", said, class_="card"),
        footer(),
    ]
    return page(f"{names} · LambdaML", body)


def _chart(
    title: str,
    label: str,
    x: Callable[[RunHistory, Look], float | None],
    x_text: Callable[[float], str],
    histories: Sequence[RunHistory],
    target_loss: float | None,
) -> Element:
    series = []
    for i, history in enumerate(histories):
        looks = [(x(history, look), look["figures"].get("loss")) for look in history["looks"]]
        points: list[Point] = [(at, loss) for at, loss in looks if at is not None]
        look = f"c{i % _COLOURS}{_PATTERNS[i // _COLOURS % len(_PATTERNS)]}"
        series.append(Series(history["record"]["run"], points, look))
    ends = [at for s in series for at, loss in s.points if loss is not None]
    if not any(ends):  # no run took any of this: a line straight up would say nothing
        return line_chart(title, [], x_label=label, y_label="mean loss", empty=f"there are no {label} to tell of")
    if target_loss is not None:
        series.append(Series("target", [(min(ends), target_loss), (max(ends), target_loss)], "soft dashed"))
    return line_chart(title, series, x_label=label, y_label="mean loss", x_text=x_text)
