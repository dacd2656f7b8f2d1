"""GA-SGD, MA-SGD, ADMM and L-BFGS on the same rows and the same objective: rounds, bytes and seconds to its optimum.

    python tests/benchmarks/algorithms.py                            # the bundled sample of Census-Income, dense rows
    python tests/benchmarks/algorithms.py --whole census.libsvm      # all of it, as tests/benchmarks/census.py makes it

Four workers exchange over ``file:///dev/shm``, and all runs follow each other on one machine. The objective, the
settings of GA-SGD and MA-SGD, and scikit-learn's optimum are those of ``tests/benchmarks/linear.py``; ADMM and L-BFGS
have their defaults. ``gap`` is F(ours) / F(scikit-learn's) - 1, both computed alike in float64, at the model that comes
of the run. ADMM and L-BFGS are to come within 1e-4 of it; the true hinge, whose optimum no solver here finds for sure,
is measured alone.

``to_ga`` is the first round after which F is as low as GA-SGD's model comes in the end, by what the optimizer tells of
F in its rounds (MA-SGD tells none), and ``to_ga_s`` the seconds from the first round's beginning to its end. ``share``
is that of GA-SGD's rounds; ADMM is to need at most a tenth. ``bytes`` are sent and received by all workers through the
channel; ``training`` is the seconds of all rounds, ``seconds`` those of the whole run.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from linear import L2, MODELS, SETTINGS, load, objective, theirs
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from lambdaml_core import train
from lambdaml_core.run.api import TrainedRun

OPTIMIZERS = ("ga_sgd", "ma_sgd", "admm", "lbfgs")
MOST_ROUNDS = 500
ROUNDING = 1e-7  # of F, as models tell it that compute in float32


class Row(NamedTuple):
    """One run; what is not known is None."""

    data: str
    model: str
    optimizer: str
    rounds: int
    to_ga: int | None
    to_ga_s: float | None
    share: float | None
    bytes: int
    training: float
    seconds: float
    ours: float
    gap: float


def job(data: str, model: str, optimizer: str) -> dict[str, Any]:
    """Keys of the job that belong to the optimizer."""
    setting = SETTINGS.get((data, model, optimizer))
    if setting is None:
        return {"optimizer": {"name": optimizer, "l2": L2}, "rounds": MOST_ROUNDS, "batch_size": 10_000}
    return {
        "optimizer": setting.optimizer(optimizer),
        "rounds": setting.rounds,
        "batch_size": setting.batch_size,
    }


def reached(run: TrainedRun, value: float) -> int | None:
    """Rounds until F is as low as this. ADMM tells that of the model that a round began with."""
    told = run.rounds["figures"].get("objective", [])
    late = 1 if run.record["optimizer"] == "admm" else 0
    low = (i for i, f in enumerate(told) if f is not None and f <= value * (1 + ROUNDING))
    first = next(low, None)
    return None if first is None else first + 1 - late


def measure(data: str, model: str, *, workers: int, store: str, whole: Path | None) -> list[Row]:
    """One after the other, GA-SGD first."""
    x, y = load(data, whole)
    rows: list[Row] = []
    with threadpool_limits(1):  # as workers have one thread each
        best = theirs(data, model, whole)
    for optimizer in OPTIMIZERS:
        keys = job(data, model, optimizer)
        places: dict[str, Any] = {"store": store, "channel": f"file://{store}/channel", "provider": "local"}
        run = train(x, y, model=MODELS[model], workers=workers, data={"validation": 0}, **keys, **places)
        record = run.record
        ours = objective(model, run.model.coef, run.model.intercept, x, y)
        ga = rows[0] if rows else None
        at = record["rounds"] if ga is None else reached(run, ga.ours)
        rows.append(
            Row(
                data=data,
                model=model,
                optimizer=optimizer,
                rounds=record["rounds"],
                to_ga=at,
                to_ga_s=run.rounds["seconds"][at - 1] if at else None,
                share=None if at is None else at / (ga.rounds if ga else record["rounds"]),
                bytes=record["bytes"]["sent"] + record["bytes"]["received"],
                training=run.rounds["seconds"][-1],
                seconds=record["seconds"]["total"],
                ours=ours,
                gap=ours / best - 1,
            )
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--whole", type=Path, help="all of Census-Income as LIBSVM text, in the place of the sample")
    parser.add_argument("--data", help="such as census,dense; default: both")
    parser.add_argument("--models", default="logistic,squared hinge,least squares", help="; ".join(MODELS))
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    names = given.data.split(",") if given.data else ["whole census" if given.whole else "census", "dense"]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir="/dev/shm") as store:
        for data in names:
            for model in given.models.split(","):
                whole = given.whole if data == "whole census" else None
                rows += measure(data, model, workers=given.workers, store=store, whole=whole)
    if given.json:
        print(json.dumps({"schema": 1, "rows": [row._asdict() for row in rows]}))
    else:
        print_table(rows)


def print_table(rows: list[Row]) -> None:
    """One line for each run; what misses its target is marked."""
    table = Table(*Row._fields)
    for row in rows:
        exact = row.optimizer in ("admm", "lbfgs") and row.model != "hinge"
        share = "-" if row.share is None else f"{row.share:.3f}"
        share += " !" if row.optimizer == "admm" and (row.share or math.inf) > 0.1 else ""
        gap = f"{row.gap:.1e}" + (" !" if exact and row.gap > 1e-4 else "")
        times = (f"{row.training:.2f}", f"{row.seconds:.2f}")
        to_ga = ("-", "-") if row.to_ga is None else (str(row.to_ga), f"{row.to_ga_s or 0.0:.2f}")
        table.add_row(*map(str, row[:4]), *to_ga, share, f"{row.bytes / 1e6:.2f} MB", *times, f"{row.ours:.7f}", gap)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
