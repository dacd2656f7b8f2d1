"""What is trained and started again: models and optimizers of all kinds on real data, by several ranks."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from runs_help import cancer
from sklearn.datasets import load_iris

from lambdaml_core.builtin import GASGDOptions, LinearOptions, MASGDOptions, SVMOptions
from lambdaml_core.data.arrays import write_arrays
from lambdaml_core.data.shards import Manifest, ShardedData, Split
from lambdaml_core.models.base import Model
from lambdaml_core.models.least_squares import LeastSquares
from lambdaml_core.models.logistic import LogisticRegression
from lambdaml_core.models.svm import SVM
from lambdaml_core.optim.base import Optimizer
from lambdaml_core.optim.ga_sgd import GASGD
from lambdaml_core.optim.ma_sgd import MASGD
from lambdaml_core.run.spec import Stop
from lambdaml_core.storage import FullStorage, open_storage
from lambdaml_core.testing.optimizer_laws.ranks import Ranks

ROUNDS = 7

MODELS: dict[str, Callable[[], Model]] = {
    "logistic": lambda: LogisticRegression(LinearOptions()),
    "softmax": lambda: LogisticRegression(LinearOptions()),
    "svm": lambda: SVM(SVMOptions(loss="squared_hinge")),
    "least_squares": lambda: LeastSquares(LinearOptions()),
}

_STEP: dict[str, Any] = {"learning_rate": 0.2, "momentum": 0.9, "l2": 1e-3}
OPTIMIZERS: dict[str, Callable[[], Optimizer]] = {
    "plain": lambda: GASGD(GASGDOptions(learning_rate=0.2)),
    "momentum": lambda: GASGD(GASGDOptions(**_STEP)),
    "nesterov": lambda: GASGD(GASGDOptions(**_STEP, nesterov=True, l1=1e-2, accumulate=2)),
    "averaging": lambda: MASGD(MASGDOptions(**_STEP, local_steps=2, schedule="cosine")),
    "epochs": lambda: MASGD(MASGDOptions(learning_rate=0.2, l1=1e-2)),
    "private": lambda: MASGD(MASGDOptions(**_STEP, local_steps=2, nesterov=True, keep_momentum=True)),
}


@dataclass(frozen=True)
class Case:
    """What is trained, and by how many."""

    model: str = "logistic"
    optimizer: str = "momentum"
    size: int = 2
    aggregators: int = 1
    validation: float = 0.2
    evaluate: int = 3
    stop: Stop = field(default_factory=Stop)

    @property
    def private(self) -> bool:
        return self.optimizer == "private"


_making = threading.Lock()


@functools.cache
def _partition(model: str, validation: float) -> tuple[FullStorage, Manifest]:
    store = open_storage(f"memory://replay-{model}-{validation}")
    x, y = load_iris(return_X_y=True) if model == "softmax" else (part[:150] for part in cancer())
    target: Any = "number" if model == "least_squares" else "class"
    if target == "number":
        y = x[:, 0] - 0.5 * x[:, 1]
    return store, write_arrays(x, y, store, shards=2, validation=validation, target=target)


@st.composite
def cases(draw: st.DrawFn, least: int = 1) -> Case:
    """Of every kind, for up to four ranks."""
    size = draw(st.integers(least, 4))
    return Case(
        model=draw(st.sampled_from(sorted(MODELS))),
        optimizer=draw(st.sampled_from(sorted(OPTIMIZERS))),
        size=size,
        aggregators=draw(st.integers(1, size)),
        validation=draw(st.sampled_from([0.2, 0.0])),
        evaluate=draw(st.integers(1, 4)),
        stop=draw(st.sampled_from([Stop(), Stop(improvement=0.2, patience=2), Stop(loss=0.3)])),
    )


@functools.cache
def _rows(model: str, validation: float, rank: int, size: int, split: Split) -> ShardedData:
    with _making:
        store, manifest = _partition(model, validation)
    data = ShardedData(store, manifest, rank=rank, size=size, batch_size=32, split=split)
    data.wait()
    return data


def ranks(case: Case) -> Ranks:
    """Who trains it."""

    def rows(rank: int, split: Split) -> ShardedData:
        return _rows(case.model, case.validation, rank, case.size, split)

    def parts(rank: int) -> Mapping[str, Any]:
        return {
            "model": MODELS[case.model](),
            "optimizer": OPTIMIZERS[case.optimizer](),
            "data": rows(rank, "train"),
            "validation": rows(rank, "validation") if case.validation else None,
            "evaluate": case.evaluate,
            "stop": case.stop,
        }

    return Ranks(parts, size=case.size, rounds=ROUNDS, aggregators=case.aggregators)
