"""Every model by every optimizer, in whole runs: the laws of workers and aggregators, and the optimum of others."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from runs_help import cancer, files_below, make_job
from scipy import sparse
from sklearn.datasets import load_diabetes, load_digits
from sklearn.linear_model import LogisticRegression, Ridge

from lambdaml_core.errors import JobError
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.records.records import RunRecord
from lambdaml_core.run.saved import SavedModel, load

GA = {"name": "ga_sgd", "learning_rate": 0.3, "momentum": 0.9, "l2": 1e-3}
MA = {"name": "ma_sgd", "learning_rate": 0.1, "local_steps": 3, "l2": 1e-3}


@functools.cache
def digits() -> tuple[NDArray[Any], NDArray[Any]]:
    """Ten classes."""
    x, y = load_digits(return_X_y=True)
    return x[:600] / 16, y[:600]


@functools.cache
def diabetes() -> tuple[NDArray[Any], NDArray[Any]]:
    """Numbers to learn, standardised."""
    x, y = load_diabetes(return_X_y=True)
    return x / x.std(0), (y - y.mean()) / y.std()


DATA = {"softmax": digits, "svm": cancer, "svm of many": digits, "least squares": diabetes}
MODELS = {"softmax": "lr", "svm": "svm", "svm of many": {"name": "svm", "loss": "squared_hinge"}}


def train(store: Path, kind: str, rows: Any = None, **keys: Any) -> tuple[RunRecord, SavedModel]:
    settings: dict[str, Any] = {"model": MODELS.get(kind, "least_squares"), "optimizer": GA, "rounds": 12}
    record = run_job(make_job(store, **(settings | keys)), arrays=rows or DATA[kind]())
    return record, load(str(record["model_path"]))


@pytest.mark.parametrize("optimizer", [GA, MA], ids=["ga", "ma"])
@pytest.mark.parametrize("kind", DATA)
def test_one_model_for_every_number_of_aggregators(tmp_path: Path, kind: str, optimizer: dict[str, Any]) -> None:
    """In processes, as they would run elsewhere."""
    runs = [train(tmp_path, kind, workers=3, aggregators=k, optimizer=optimizer) for k in (1, 3)]
    assert len({record["model_sha256"] for record, _ in runs}) == 1
    record, model = runs[0]
    assert record["metrics"] == runs[1][0]["metrics"]
    assert record["rounds"] == 12
    better = {"least squares": "r2"}.get(kind, "accuracy")
    chance = record["metrics"].get("baseline_accuracy", 0.1)
    assert record["metrics"][better] > chance  # type: ignore[operator]
    assert model.evaluate(*DATA[kind]())[better] > chance  # type: ignore[operator]


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("layout", ["dense", "sparse"])
def test_another_number_of_workers_is_only_another_cut(tmp_path: Path, kind: str, layout: str) -> None:
    """GA-SGD on batches that are the whole data: equal to rounding."""
    x, y = DATA[kind]()
    rows = (sparse.csr_matrix(x) if layout == "sparse" else x, y)
    keys: dict[str, Any] = {"provider": "inline", "batch_size": 10**6}
    params = [train(tmp_path, kind, rows, workers=w, **keys)[1].params for w in (1, 2, 4)]
    for other in params[1:]:
        np.testing.assert_allclose(other, params[0], rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("kind", DATA)
def test_one_local_step_between_exchanges_is_ga(tmp_path: Path, kind: str) -> None:
    """The mean of models after a step each, weighted by rows, is a step by the mean gradient."""
    plain = {"learning_rate": 0.1, "l2": 1e-3}
    keys: dict[str, Any] = {"provider": "inline", "workers": 3}
    _, ga = train(tmp_path, kind, **keys, optimizer={"name": "ga_sgd", **plain})
    _, ma = train(tmp_path, kind, **keys, optimizer={"name": "ma_sgd", "local_steps": 1, **plain})
    np.testing.assert_allclose(ma.params, ga.params, rtol=2e-3, atol=1e-4)


def few(kind: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Fewer rows in a batch than workers, and of one class a single row."""
    x, y = DATA[kind]()
    if kind != "least squares":
        rare = np.flatnonzero(y == 0)[:1]
        chosen = np.r_[np.flatnonzero(y != 0)[:22], rare]
        return x[chosen], y[chosen]
    return x[:23], y[:23]


@pytest.mark.parametrize("optimizer", [GA, MA], ids=["ga", "ma"])
@pytest.mark.parametrize("kind", DATA)
def test_skewed_shards_and_batches_that_are_empty(tmp_path: Path, kind: str, optimizer: dict[str, Any]) -> None:
    keys: dict[str, Any] = {"provider": "inline", "batch_size": 4, "data": {"validation": 0, "shards": 5}}
    keys |= {"optimizer": optimizer, "epochs": 4, "rounds": None}
    runs = [train(tmp_path, kind, few(kind), workers=7, aggregators=k, **keys) for k in (1, 2, 7)]
    assert len({record["model_sha256"] for record, _ in runs}) == 1
    assert np.isfinite(runs[0][1].params).all()
    assert runs[0][0]["train_loss"] == pytest.approx(runs[0][1].evaluate(*few(kind))["loss"], rel=1e-5)
    # two rows to validate on, which most workers have none of: the loss of all rows is the mean of both
    record, model = train(tmp_path, kind, few(kind), workers=7, **keys | {"data": {"validation": 0.1}})
    mean = (21 * record["train_loss"] + 2 * record["loss"]) / 23  # type: ignore[operator]
    assert mean == pytest.approx(model.evaluate(*few(kind))["loss"], rel=1e-5)
    if optimizer is GA:
        whole: dict[str, Any] = keys | {"batch_size": 23}
        one, seven = (train(tmp_path, kind, few(kind), workers=w, **whole)[1].params for w in (1, 7))
        np.testing.assert_allclose(seven, one, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize(
    ("optimizer", "epochs", "rounds", "done", "passes"),
    [
        ({"name": "ga_sgd"}, 3, None, 24, 3),
        ({"name": "ga_sgd", "accumulate": 3}, 2, None, 6, 18 / 8),
        ({"name": "ma_sgd"}, 3, None, 3, 3),
        ({"name": "ma_sgd", "local_epochs": 2}, 3, None, 2, 4),
        ({"name": "ma_sgd", "local_steps": 5}, 2, None, 4, 20 / 8),
        ({"name": "ma_sgd", "local_steps": 5}, 2, 3, 3, 15 / 8),
        ({"name": "ma_sgd", "local_steps": 5}, None, 7, 7, 35 / 8),
        ({"name": "ma_sgd", "local_steps": 5}, 2, 70, 4, 20 / 8),
    ],
)
def test_rounds_are_exchanges_and_epochs_are_passes(
    tmp_path: Path, optimizer: Any, epochs: int | None, rounds: int | None, done: int, passes: float
) -> None:
    """455 rows in batches of 64 are 8 mini-batches; a round may go through several."""
    job = make_job(tmp_path, workers=2, provider="inline", optimizer=optimizer, epochs=epochs, rounds=rounds)
    record = run_job(job, arrays=cancer())
    assert (record["rounds"], record["epochs"], record["stop_reason"]) == (done, passes, "rounds")


@pytest.mark.parametrize("provider", ["local", "inline"])
@pytest.mark.parametrize(
    ("optimizer", "rounds", "words"),
    [
        ({"name": "ga_sgd", "accumulate": 17}, None, "ga_sgd is 17 mini-batches, and epochs = 2 are 16"),
        ({"name": "ma_sgd", "local_steps": 10_000}, 1, "ma_sgd is 10000 mini-batches, and epochs = 2 are 16"),
        ({"name": "ma_sgd", "local_epochs": 3}, None, "ma_sgd is 24 mini-batches, and epochs = 2 are 16"),
    ],
)
def test_a_round_longer_than_the_epochs(
    tmp_path: Path, provider: str, optimizer: Any, rounds: int | None, words: str
) -> None:
    job = make_job(tmp_path, provider=provider, optimizer=optimizer, epochs=2, rounds=rounds)
    with pytest.raises(JobError, match=words) as caught:
        run_job(job, arrays=cancer())
    assert "rounds instead of epochs" in str(caught.value.hint)
    assert files_below(tmp_path) == []


# --- optima ---------------------------------------------------------------------------------------------------


def optimum(tmp_path: Path, kind: str, rows: Any = None, **keys: Any) -> SavedModel:
    """Near the minimum with l2 = 0.01, on all rows."""
    settings: dict[str, Any] = {"workers": 3, "provider": "inline", "data": {"validation": 0}, "rounds": 400}
    settings |= {
        "batch_size": 10**6,
        "optimizer": {"name": "ga_sgd", "learning_rate": 0.5, "momentum": 0.9, "l2": 0.01},
    }
    return train(tmp_path, kind, rows, **(settings | keys))[1]


def test_softmax_is_that_of_scikit_learn(tmp_path: Path) -> None:
    x, y = digits()
    exact = LogisticRegression(C=1 / (0.01 * len(y)), tol=1e-8, max_iter=2000).fit(x, y)
    rate = {"name": "ga_sgd", "learning_rate": 2.0, "momentum": 0.9, "l2": 0.01}
    model = optimum(tmp_path, "softmax", optimizer=rate)
    np.testing.assert_allclose(model.predict_proba(x), exact.predict_proba(x), atol=2e-3)


def test_least_squares_is_that_of_scikit_learn(tmp_path: Path) -> None:
    x, y = diabetes()
    exact = Ridge(alpha=0.01 * len(y)).fit(x, y)  # half the squared error here, the whole and no half there
    rate = {"name": "ga_sgd", "learning_rate": 0.1, "momentum": 0.9, "l2": 0.01}
    model = optimum(tmp_path, "least squares", optimizer=rate)
    np.testing.assert_allclose(model.predict(x), exact.predict(x), atol=2e-3)


@pytest.mark.parametrize("weight", ["balanced", {"0": 3.0, "1": 0.5}, {"0": 3.0}])
def test_class_weights_are_those_of_scikit_learn(tmp_path: Path, weight: Any) -> None:
    """On data of which one class is rare."""
    x, y = cancer()
    chosen = np.r_[np.flatnonzero(y == 1), np.flatnonzero(y == 0)[:30]]
    x, y = x[chosen], y[chosen]
    theirs = weight if isinstance(weight, str) else {int(k): v for k, v in weight.items()}
    exact = LogisticRegression(C=1 / (0.01 * len(y)), tol=1e-8, max_iter=2000, class_weight=theirs).fit(x, y)
    plain = LogisticRegression(C=1 / (0.01 * len(y)), tol=1e-8, max_iter=2000).fit(x, y)
    model = optimum(tmp_path, "softmax", (x, y), class_weight=weight)
    ours = model.predict_proba(x)
    np.testing.assert_allclose(ours, exact.predict_proba(x), atol=2e-3)
    assert abs(ours - plain.predict_proba(x)).max() > 0.1


def test_class_weights_by_labels_of_any_kind(tmp_path: Path) -> None:
    """What a label is called makes no difference, nor that Python has 1.0 for what the data has as 1."""
    x, y = cancer()
    keys: dict[str, Any] = {"workers": 2, "provider": "inline"}
    named = {"0": np.array(["ham", "spam"]), "1": np.array([-1, 1]), "2": np.array([0.5, 1.5])}
    weights: list[Any] = [{"ham": 3}, {-1.0: 3}, {0.5: 3}]
    runs = [
        train(tmp_path, "softmax", (x, words[y]), class_weight=weight, **keys)[0]["model_sha256"]
        for words, weight in zip(named.values(), weights, strict=True)
    ]
    assert len({*runs, train(tmp_path, "softmax", (x, y), class_weight={0: 3, 1: 1}, **keys)[0]["model_sha256"]}) == 1
    assert train(tmp_path, "softmax", (x, y), **keys)[0]["model_sha256"] not in runs
