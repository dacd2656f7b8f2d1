"""Every linear model by GA-SGD and MA-SGD beside scikit-learn's optimum of the same objective.

    python tests/benchmarks/linear.py                            # the bundled sample of Census-Income
    python tests/benchmarks/linear.py --whole census.libsvm      # and all of it, as tests/benchmarks/census.py makes it

The objective on N rows is F(w) = mean loss + (l2 / 2) ||w||^2, the bias not penalised, computed here in float64 for
both sides; ``gap`` is F(ours) / F(theirs) - 1, below 0 where we come lower. It is to be at most 1e-3 for GA-SGD and
5e-3 for MA-SGD. ``SETTINGS`` says how that is reached by up to four workers, to be copied: on many rows MA-SGD
exchanges after 50 steps, which saves most of the rounds. Where rows are few and nearly separable (``digits``,
``cancer``), each worker's own rows draw it far from the optimum of all, and only frequent exchanges that keep the
momentum come near it. Seconds are those of the whole run: the workers' start, training, and the last look at the rows.
"""

from __future__ import annotations

import argparse
import functools
import json
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.sparse import csr_matrix
from scipy.special import logsumexp
from sklearn.datasets import load_breast_cancer, load_digits, load_svmlight_file
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import SVC, LinearSVC
from threadpoolctl import threadpool_limits

from lambdaml_core import train
from lambdaml_core.data.samples import CENSUS_INCOME
from lambdaml_core.run.api import TrainedRun

Array = NDArray[Any]

L2 = 1e-4
EXACT_ROWS = 5000
TARGETS = {"ga_sgd": 1e-3, "ma_sgd": 5e-3}
MODELS: dict[str, dict[str, Any]] = {
    "logistic": {"name": "logistic_regression"},  # softmax for more than two classes
    "hinge": {"name": "svm"},  # one against the rest for more than two classes
    "squared hinge": {"name": "svm", "loss": "squared_hinge"},
    "least squares": {"name": "least_squares"},
}


class Setting(NamedTuple):
    """How an optimum is reached. The step size falls as a cosine and the momentum is Nesterov's.

    ``local_steps`` and ``keep_momentum`` are of MA-SGD.
    """

    batch_size: int
    rounds: int
    learning_rate: float
    momentum: float
    local_steps: int = 1
    keep_momentum: bool = False

    def optimizer(self, name: str) -> dict[str, Any]:
        """The table of a job."""
        given = self._asdict()
        del given["batch_size"], given["rounds"]
        if name == "ga_sgd":
            del given["local_steps"], given["keep_momentum"]
        return {"name": name, "schedule": "cosine", "nesterov": True, "l2": L2, **given}


SETTINGS = {
    ("census", "logistic", "ga_sgd"): Setting(2000, 1000, 2.0, 0.98),
    ("census", "logistic", "ma_sgd"): Setting(2000, 40, 2.0, 0.98, local_steps=50),
    ("census", "hinge", "ga_sgd"): Setting(5000, 1500, 0.5, 0.99),
    ("census", "hinge", "ma_sgd"): Setting(2000, 120, 0.5, 0.99, local_steps=50),
    ("census", "squared hinge", "ga_sgd"): Setting(5000, 2500, 0.15, 0.995),
    ("census", "squared hinge", "ma_sgd"): Setting(2000, 80, 0.1, 0.995, local_steps=50, keep_momentum=True),
    ("census", "least squares", "ga_sgd"): Setting(2000, 1000, 0.05, 0.99),
    ("census", "least squares", "ma_sgd"): Setting(2000, 60, 0.03, 0.99, local_steps=50),
    ("whole census", "logistic", "ga_sgd"): Setting(20_000, 1000, 2.0, 0.98),
    ("whole census", "logistic", "ma_sgd"): Setting(20_000, 40, 2.0, 0.98, local_steps=50),
    ("whole census", "hinge", "ga_sgd"): Setting(20_000, 1500, 0.5, 0.99),
    ("whole census", "hinge", "ma_sgd"): Setting(20_000, 80, 1.0, 0.99, local_steps=50),
    ("whole census", "squared hinge", "ga_sgd"): Setting(20_000, 2500, 0.15, 0.995),
    ("whole census", "squared hinge", "ma_sgd"): Setting(20_000, 80, 0.1, 0.995, local_steps=50, keep_momentum=True),
    ("whole census", "least squares", "ga_sgd"): Setting(20_000, 1000, 0.05, 0.99),
    ("whole census", "least squares", "ma_sgd"): Setting(20_000, 60, 0.03, 0.99, local_steps=50),
    ("digits", "logistic", "ga_sgd"): Setting(600, 800, 5.0, 0.97),
    ("digits", "logistic", "ma_sgd"): Setting(600, 250, 2.0, 0.97, local_steps=10, keep_momentum=True),
    ("digits", "hinge", "ga_sgd"): Setting(2000, 3000, 1.0, 0.99),
    ("digits", "hinge", "ma_sgd"): Setting(2000, 3000, 1.0, 0.99, keep_momentum=True),
    ("digits", "squared hinge", "ga_sgd"): Setting(2000, 4000, 0.3, 0.995),
    ("digits", "squared hinge", "ma_sgd"): Setting(2000, 2500, 0.2, 0.995, local_steps=2, keep_momentum=True),
    ("digits", "least squares", "ga_sgd"): Setting(2000, 1000, 0.1, 0.99),
    ("digits", "least squares", "ma_sgd"): Setting(2000, 40, 0.1, 0.99, local_steps=50),
    ("cancer", "logistic", "ga_sgd"): Setting(100, 1000, 1.0, 0.97),
    ("cancer", "logistic", "ma_sgd"): Setting(600, 1000, 1.0, 0.97, local_steps=2, keep_momentum=True),
    ("cancer", "hinge", "ga_sgd"): Setting(600, 2000, 1.0, 0.97),
    ("cancer", "hinge", "ma_sgd"): Setting(600, 2000, 0.5, 0.98, keep_momentum=True),
    ("cancer", "squared hinge", "ga_sgd"): Setting(600, 2000, 1.0, 0.99),
    ("cancer", "squared hinge", "ma_sgd"): Setting(600, 2000, 1.0, 0.98, keep_momentum=True),
    ("cancer", "least squares", "ga_sgd"): Setting(100, 1000, 0.1, 0.99),
    ("cancer", "least squares", "ma_sgd"): Setting(600, 500, 0.1, 0.98, local_steps=2, keep_momentum=True),
    ("dense", "logistic", "ga_sgd"): Setting(10_000, 60, 2.0, 0.8),
    ("dense", "logistic", "ma_sgd"): Setting(10_000, 6, 2.0, 0.8, local_steps=10),
    ("dense", "hinge", "ga_sgd"): Setting(10_000, 100, 0.5, 0.8),
    ("dense", "hinge", "ma_sgd"): Setting(10_000, 10, 0.5, 0.8, local_steps=10),
    ("dense", "squared hinge", "ga_sgd"): Setting(10_000, 60, 0.2, 0.8),
    ("dense", "squared hinge", "ma_sgd"): Setting(10_000, 6, 0.2, 0.8, local_steps=10),
    ("dense", "least squares", "ga_sgd"): Setting(10_000, 60, 0.2, 0.8),
    ("dense", "least squares", "ma_sgd"): Setting(10_000, 6, 0.2, 0.8, local_steps=10),
}

DATA = tuple(dict.fromkeys(data for data, _, _ in SETTINGS))


@functools.cache
def load(name: str, whole: Path | None = None) -> tuple[Any, Array]:
    """Rows, dense or sparse, float32, and their labels: class numbers, which least squares takes as numbers."""
    if name in ("census", "whole census"):
        x, y = load_svmlight_file(str(whole or CENSUS_INCOME), dtype=np.float32)
        rows = csr_matrix((x.data, x.indices.astype(np.int32), x.indptr.astype(np.int32)), x.shape)  # as liblinear asks
        return rows, (y > 0).astype(np.int64)
    if name == "digits":
        x, y = load_digits(return_X_y=True)
        return (x / 16).astype(np.float32), y
    if name == "cancer":
        x, y = load_breast_cancer(return_X_y=True)
        return ((x - x.mean(axis=0)) / x.std(axis=0)).astype(np.float32), y
    rng = np.random.default_rng(0)
    x = rng.standard_normal((100_000, 28), np.float32)
    y = x @ rng.standard_normal(28) + 2 * rng.logistic(size=len(x)) > 0
    return x, y.astype(np.int64)


def objective(model: str, weights: Array, bias: Array, x: Any, y: Array) -> float:
    """F in float64; weights (columns, features) or (features,), bias (columns,) or a number."""
    w = np.atleast_2d(weights).astype(np.float64)
    margins = np.asarray(x.astype(np.float64) @ w.T) + np.atleast_1d(bias).astype(np.float64)
    return float(_losses(model, margins, y).mean() + L2 / 2 * (w * w).sum())


def _losses(model: str, margins: Array, y: Array) -> Array:
    """The loss of each row; margins (n, 1), or (n, classes) for more than two."""
    rows, columns = margins.shape
    if model == "least squares":
        return np.asarray(np.square(margins[:, 0] - y) / 2)
    if model == "logistic" and columns > 1:
        return np.asarray(logsumexp(margins, axis=1) - margins[np.arange(rows), y])
    signs = np.where(y[:, None] == (np.arange(columns) if columns > 1 else 1), 1, -1)
    if model == "logistic":
        return np.asarray(np.logaddexp(0, -signs * margins)[:, 0])
    slack = np.maximum(0, 1 - signs * margins)
    return np.asarray((slack**2 if model == "squared hinge" else slack).sum(axis=1))


@functools.cache
def theirs(data: str, model: str, whole: Path | None = None) -> float:
    """F at the best that scikit-learn's solvers find, however long they take.

    Its LinearSVC penalises the intercept, the less the larger ``intercept_scaling`` is, and may stop before the optimum
    of the hinge; SVC finds that exactly, in a time that grows with the square of the rows.
    """
    x, y = load(data, whole)
    rows = x.astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = [solver.fit(rows, y) for solver in _solvers(model, len(y))]
    return min(objective(model, *_coefficients(solver), x, y) for solver in fitted)


def _solvers(model: str, rows: int) -> Iterator[Any]:
    c = 1 / (L2 * rows)
    if model == "logistic":
        yield LogisticRegression(C=c, tol=1e-8, max_iter=20_000)
    elif model == "least squares":
        yield Ridge(alpha=L2 * rows, solver="sparse_cg", tol=1e-12)
    elif model == "squared hinge":
        yield LinearSVC(C=c, dual=False, intercept_scaling=100, tol=1e-8, max_iter=20_000)
    else:
        for scaling in (1, 10):
            yield LinearSVC(C=c, loss="hinge", intercept_scaling=scaling, tol=1e-6, max_iter=5000, random_state=0)
        if rows <= EXACT_ROWS:
            yield OneVsRestClassifier(SVC(kernel="linear", C=c, tol=1e-5))


def _coefficients(solver: Any) -> tuple[Array, Array]:
    if isinstance(solver, OneVsRestClassifier):
        each = [_coefficients(s) for s in solver.estimators_]
        return np.vstack([w for w, _ in each]), np.concatenate([b for _, b in each])
    return solver.coef_, solver.intercept_


class Row(NamedTuple):
    """One line of the table; ``bytes`` are those sent and received by all workers."""

    data: str
    model: str
    optimizer: str
    workers: int
    rounds: int
    bytes: int
    seconds: float
    ours: float
    theirs: float
    gap: float


def measure(
    data: str, model: str, optimizer: str, *, workers: int, provider: str, store: str, whole: Path | None = None
) -> Row:
    """Train by the setting of the table, on all rows, and compare."""
    x, y = load(data, whole)
    setting = SETTINGS[data, model, optimizer]
    with threadpool_limits(1):  # workers that are threads have one core each, too
        run: TrainedRun = train(
            x,
            y,
            model=MODELS[model],
            optimizer=setting.optimizer(optimizer),
            workers=workers,
            batch_size=setting.batch_size,
            rounds=setting.rounds,
            data={"validation": 0},
            provider=provider,
            store=store,
        )
        best = theirs(data, model, whole)
    ours = objective(model, run.model.coef, run.model.intercept, x, y)
    moved = sum(run.record["bytes"].values())  # type: ignore[arg-type]
    seconds = run.record["seconds"]["total"]
    return Row(data, model, optimizer, workers, run.record["rounds"], moved, seconds, ours, best, ours / best - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--whole", type=Path, help="all of Census-Income as LIBSVM text")
    parser.add_argument("--data", help="; ".join(DATA))
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--provider", default="local", help="local: processes; inline: threads")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    names = given.data.split(",") if given.data else [d for d in DATA if given.whole or d != "whole census"]
    if "whole census" in names and not given.whole:
        parser.error("--whole FILE has all of Census-Income: python tests/benchmarks/census.py --out FILE")
    rows = []
    with tempfile.TemporaryDirectory() as store:
        where = {"workers": given.workers, "provider": given.provider, "store": store}
        for data in names:
            for model in given.models.split(","):
                for optimizer in TARGETS:
                    whole = given.whole if data == "whole census" else None
                    rows.append(measure(data, model, optimizer, whole=whole, **where))
    if given.json:
        print(json.dumps({"schema": 1, "rows": [row._asdict() for row in rows]}))
    else:
        print_table(rows)


def print_table(rows: list[Row]) -> None:
    """One line for each run; a gap above the target is marked."""
    table = Table(*Row._fields)
    for row in rows:
        mark = "" if row.gap <= TARGETS[row.optimizer] else " !"
        figures = (f"{row.bytes / 1e6:.1f} MB", f"{row.seconds:.1f}", f"{row.ours:.6f}", f"{row.theirs:.6f}")
        table.add_row(*map(str, row[:5]), *figures, f"{row.gap:.1e}{mark}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
