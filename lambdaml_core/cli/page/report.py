"""The page of one run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal
from xml.etree.ElementTree import Element

from lambdaml_core import __version__
from lambdaml_core.cli.page.chart import Point, Series, curve_look, line_chart
from lambdaml_core.cli.page.html import node, page, table
from lambdaml_core.cli.page.text import NOTHING, bytes_, count, dollars, figure, moment, seconds, setting
from lambdaml_core.cli.page.timeline import mean_bar, timeline
from lambdaml_core.cli.view import recovered
from lambdaml_core.run.records.history import (
    CLASSES,
    PARTS,
    PLACES,
    WORKER_CHARGES,
    Cost,
    Place,
    RunHistory,
    WorkerHistory,
)

Axis = Literal["round", "seconds"]

SCORES = {"accuracy": "accuracy", "auc": "AUC", "r2": "R²"}
"""Figures whose best value is 1, and how they are written."""

_FEW_WORKERS = 16  # whose table is open
_WAYS = ("sent", "received")  # of bytes
_WORST_R2 = -1.0  # a model that has not learnt yet can be as bad as it likes


def report_page(history: RunHistory) -> bytes:
    """The report of a run, whatever its state, as a whole HTML page."""
    run = history["record"]["run"]
    parts = [
        *_head(history),
        node("h2", "Learning"),
        *_learning(history),
        node("h2", "Time"),
        *_time(history),
        node("h2", "Traffic and cost"),
        *_traffic(history),
        node("h2", "Workers"),
        *_workers(history),
        footer(),
    ]
    return page(f"{run} · LambdaML", parts)


def footer() -> Element:
    """Who made the page."""
    return node("footer", f"Made by lambdaml {__version__}. This file is complete: it loads nothing.")


def flat(options: Mapping[str, Any]) -> str:
    """A plugin and its options in a line."""
    given = ", ".join(f"{k} = {setting(v)}" for k, v in options.items() if k != "name" and v is not None)
    return f"{options['name']} ({given})" if given else str(options["name"])


# --- head ---------------------------------------------------------------------------------------------------


def _head(history: RunHistory) -> Iterator[Element]:
    r = history["record"]
    yield node("h1", r["run"], node("span", r["status"], class_=f"badge {r['status']}"))
    workers = "1 worker" if r["workers"] == 1 else f"{r['workers']} workers"
    yield node("p", f"{r['model']} by {r['optimizer']} on {workers}, started {moment(r['created'])}", class_="soft")
    if r["status"] in ("failed", "cancelled", "stalled") and r["stop_reason"]:
        yield node("p", r["stop_reason"], class_="reason")
    yield _tiles(history)
    yield node("h2", "What ran")
    facts = [element for k, v in _facts(history).items() for element in (node("dt", k), node("dd", v))]
    yield node("dl", *facts, class_="facts")


def _tiles(history: RunHistory) -> Element:
    r = history["record"]
    scores = {word: value for name, word in SCORES.items() if (value := r["metrics"].get(name)) is not None}
    told = _told(history)
    moved = r["bytes"]["sent"] + r["bytes"]["received"]
    tiles = {
        "validation loss": figure(r["loss"]),
        **{word: figure(value) for word, value in scores.items()},
        "training loss": figure(r["train_loss"]),
        "rounds": count(r["rounds"]),
        "epochs": count(r["epochs"]),
        "time in all": seconds(r["seconds"]["total"] or None),
        "bytes moved": bytes_(moved if told else None),
        "requests": count(_requests(history) if told else None),
        "cost": dollars(r["cost_usd"] if told else None),
    }
    return node("dl", *(node("div", node("dt", k), node("dd", v)) for k, v in tiles.items()), class_="tiles")


def _facts(history: RunHistory) -> dict[str, str]:
    r, job = history["record"], history["job"]
    aggregators = r["aggregators"]
    how = {1: ": AllReduce by a leader", r["workers"]: ": ScatterReduce"}.get(aggregators, " of them fold")
    exact = "yes: all processes had one fingerprint" if r["exact"] else "no: another run may differ in the last bits"
    return {
        "model": flat(job["model"]),
        "optimizer": flat(job["optimizer"]),
        "data": str(job["data"]["source"] or "arrays given from Python"),
        **_given(job),
        "batch": f"{count(job['batch_size'])} rows over all workers",
        "seed": str(job["seed"]),
        "workers": f"{r['workers']}, by {flat(job['provider'])}",
        "aggregators": f"K = {aggregators}{how}" if r["workers"] > 1 else "none: one worker exchanges nothing",
        **({"as many since": r["aggregators_reason"]} if r["aggregators_reason"] else {}),
        "rounds": f"{count(r['rounds'])} of at most {count(history['rounds_planned'])}",
        **recovered(r),
        "ended by": r["stop_reason"] or NOTHING,
        "exact": exact if _told(history) else NOTHING,
        "store": r["store"],
        "channel": r["channel"],
        "model's files": r["model_path"] or NOTHING,
        "their SHA-256": r["model_sha256"] or NOTHING,
    }


def _given(job: Mapping[str, Any]) -> dict[str, str]:
    """What most jobs leave out."""
    form, stop = job["data"].get("format"), job.get("stop") or {}
    settings = {
        "format": flat(form) if isinstance(form, Mapping) else form,
        "class weights": job.get("class_weight"),
        "starts from": job.get("init_from"),
        "stops early at": {name: value for name, value in stop.items() if value is not None} or None,
        "looks every": job.get("evaluate") and f"{count(job['evaluate'])} rounds",
    }
    return {name: setting(value) for name, value in settings.items() if value is not None}


# --- learning -----------------------------------------------------------------------------------------------


def looks_at(history: RunHistory, name: str, axis: Axis) -> list[Point]:
    """A figure of the validation rows over rounds or seconds."""
    looks = history["looks"]
    return [(x, look["figures"].get(name)) for look in looks if (x := look[axis]) is not None]


def _learning(history: RunHistory) -> Iterator[Element]:
    axes: dict[Axis, str] = {"round": "rounds", "seconds": "seconds since the first round began"}
    validated = any(look["figures"].get("loss") is not None for look in history["looks"])
    if not validated:
        yield node("p", "There are no figures of validation rows: the partition has none, or no look was had yet.")
    charts = [_loss_chart(history, axis, label) for axis, label in axes.items()]
    if validated:
        charts += [_score_chart(history, axis, label) for axis, label in axes.items()]
    if any(value is not None for column in history["rounds"]["figures"].values() for value in column):
        charts.append(_figures_chart(history))
    yield node("div", *charts, class_="charts")
    if history["looks"]:
        yield node("details", node("summary", "The figures as a table"), _looks_table(history))


def _loss_chart(history: RunHistory, axis: Axis, label: str) -> Element:
    rounds = history["rounds"]
    training = list(zip(rounds[axis], rounds["loss"], strict=True))
    series = [
        Series("training rows of each round", training, "faint"),
        Series("validation rows", looks_at(history, "loss", axis), "c0"),
    ]
    return line_chart(f"Loss over {label.split()[0]}", series, x_label=label, y_label="mean loss")


def _score_chart(history: RunHistory, axis: Axis, label: str) -> Element:
    series = [Series(word, looks_at(history, name, axis), f"c{i}") for i, (name, word) in enumerate(SCORES.items())]
    baseline = looks_at(history, "baseline_accuracy", axis)
    series.append(Series("accuracy of the commonest class", baseline, "soft dashed"))
    words = [s.name for s in series if any(y is not None for _, y in s.points)]
    title = " and ".join(word for word in words if word in SCORES.values()) or "Scores"
    return line_chart(
        f"{title[0].upper()}{title[1:]} over {label.split()[0]}",
        series,
        x_label=label,
        y_label="of the validation rows",
        floor=_WORST_R2,
    )


def _figures_chart(history: RunHistory) -> Element:
    """What the optimizer says of its rounds, such as residuals: numbers of any size, so that a logarithmic scale shows
    them best where they have one. What is 0 interrupts its curve there."""
    rounds = history["rounds"]
    log = all(any(value is not None and value > 0 for value in column) for column in rounds["figures"].values())
    series = []
    for i, (name, column) in enumerate(rounds["figures"].items()):
        values = [None if log and value is not None and value <= 0 else value for value in column]
        series.append(Series(name.replace("_", " "), list(zip(rounds["round"], values, strict=True)), curve_look(i)))
    return line_chart("Figures of the optimizer over rounds", series, x_label="rounds", y_label="value", log=log)


def _looks_table(history: RunHistory) -> Element:
    names = list(dict.fromkeys(name for look in history["looks"] for name in look["figures"]))
    rows = [
        [
            count(look["round"]),
            count(look["epoch"]),
            seconds(look["seconds"]),
            figure(look["batch_loss"]),
            *(figure(look["figures"].get(name)) for name in names),
        ]
        for look in history["looks"]
    ]
    headers = ["round", "epoch", "seconds", "training loss", *names]
    return table(headers, rows, caption="Figures of the validation rows at each look", words=())


# --- time, traffic, workers ---------------------------------------------------------------------------------


def _time(history: RunHistory) -> Iterator[Element]:
    yield timeline(history["workers"])
    told = [w["seconds"] for w in history["workers"] if w["seconds"] is not None]
    if told:
        workers = history["record"]["workers"]
        caption = "Mean of all workers" if len(told) == workers else f"Mean of {len(told)} of {workers} workers"
        yield mean_bar({part: sum(s[part] for s in told) / len(told) for part in PARTS}, caption)


def _told(history: RunHistory) -> bool:
    """Whether any worker has told what it asked for."""
    return any(w["channel"] is not None for w in history["workers"])


def _traffic(history: RunHistory) -> Iterator[Element]:
    if not _told(history):
        yield node("p", "A worker tells what it asked for with each sign of life; none has yet.", class_="empty")
        return
    costs = history["costs"]
    rows = [
        [c["place"], c["charge"], count(c["count"]), dollars(c["usd_each"] * 1000), dollars(c["usd"])]
        for c in _of(costs, CLASSES)
    ]
    rows.append(["all", "", count(_requests(history)), "", dollars(sum(c["usd"] for c in _of(costs, CLASSES)))])
    headers = ["place", "class", "requests", "price of 1,000", "cost"]
    said = "Requests of all workers, by place and class, in US dollars"
    yield node("div", table(headers, rows, caption=said, words=(0, 1)), class_="card")
    bytes_rows = [
        [c["place"], c["charge"], bytes_(c["count"]), dollars(c["usd_each"] * 1e9), dollars(c["usd"])]
        for c in _of(costs, _WAYS)
    ]
    headers = ["place", "way", "bytes", "price of 1 GB", "cost"]
    yield node("div", table(headers, bytes_rows, caption="Bytes of values", words=(0, 1)), class_="card")
    worker_rows = [
        [c["charge"].replace("_", " "), figure(c["count"]), dollars(c["usd_each"]), dollars(c["usd"])]
        for c in _of(costs, WORKER_CHARGES)
    ]
    headers = ["charge", "number", "price of one", "cost"]
    yield node("div", table(headers, worker_rows, caption="All workers, for themselves", words=(0,)), class_="card")
    if not any(c["usd_each"] for c in costs):
        yield node("p", "Nobody asks money for the workers, nor for their requests and bytes.", class_="soft")


def _of(costs: Sequence[Cost], charges: Sequence[str]) -> list[Cost]:
    return [cost for cost in costs if cost["charge"] in charges]


def _requests(history: RunHistory) -> int:
    return int(sum(cost["count"] for cost in _of(history["costs"], CLASSES)))


def _workers(history: RunHistory) -> Iterator[Element]:
    workers = history["workers"]
    errors = [[str(w["rank"]), w["error"]] for w in workers if w["error"] is not None]
    if errors:
        yield node("div", table(["worker", "error"], errors, caption="Errors", words=(0, 1)), class_="card errors")
    lost = any(w["attempts"] > 1 for w in workers)
    headers = ["worker", "state", *(_PROCESSES if lost else ()), *PARTS, "cost"]
    rows = [_times(w, _PROCESSES if lost else ()) for w in workers]
    times = table(headers, rows, caption="Seconds and cost", words=(0, 1))
    places = [_requests_table(workers, place) for place in PLACES]
    cards = [node("div", inner, class_="card") for inner in (times, *places)]
    if len(workers) <= _FEW_WORKERS:
        yield from cards
    else:
        yield node("details", node("summary", f"Each of {len(workers)} workers"), *cards)


_PROCESSES = ("restarts", "successions")


def _times(worker: WorkerHistory, processes: Sequence[str]) -> list[str]:
    told = worker["seconds"] or {}
    state = "ended" if worker["ended"] else "failed" if worker["error"] is not None else NOTHING
    numbers = [count(worker[name]) for name in processes]  # type: ignore[literal-required]
    return [str(worker["rank"]), state, *numbers, *(seconds(told.get(p)) for p in PARTS), dollars(worker["cost_usd"])]


def _requests_table(workers: Sequence[WorkerHistory], place: Place) -> Element:
    rows = []
    for w in workers:
        counts = w[place] or {}
        moved = [bytes_(counts.get(way)) for way in ("sent", "received")]
        rows.append([str(w["rank"]), *(count(counts.get(name)) for name in CLASSES), *moved])
    headers = ["worker", *CLASSES, "sent", "received"]
    return table(headers, rows, caption=f"Requests to the {place}, and bytes of values")
