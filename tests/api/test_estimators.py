"""Estimators: as good as scikit-learn's, at home in its tools, and with every setting of a job."""

from __future__ import annotations

import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import joblib  # type: ignore[import-untyped]
import numpy as np
import pandas as pd
import pytest
import sklearn.linear_model as reference
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from lambdaml_core import load
from lambdaml_core.errors import DataError, OptionError, UsageError
from lambdaml_core.estimators import SVM, LeastSquares, LogisticRegression
from lambdaml_core.run.records.records import list_runs
from lambdaml_core.storage import memory

ROOT = Path(__file__).parents[2]
L2 = 1e-2
EVERY = pytest.mark.parametrize("kind", [LogisticRegression, SVM, LeastSquares])


def cancer() -> tuple[NDArray[Any], NDArray[Any]]:
    x, y = load_breast_cancer(return_X_y=True)
    return StandardScaler().fit_transform(x), y


def iris() -> tuple[NDArray[Any], NDArray[Any]]:
    x, y = load_iris(return_X_y=True)
    return StandardScaler().fit_transform(x), load_iris().target_names[y]


def diabetes() -> tuple[NDArray[Any], NDArray[Any]]:
    x, y = load_diabetes(return_X_y=True)
    return StandardScaler().fit_transform(x), y


def rows_for(kind: type) -> tuple[NDArray[Any], NDArray[Any]]:
    return diabetes() if kind is LeastSquares else cancer()


# --- what they find -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [cancer, iris])
def test_logistic_regression_finds_the_coefficients_of_scikit_learn(rows: Any) -> None:
    x, y = rows()
    ours = LogisticRegression(l2=L2, epochs=2000).fit(x, y)
    theirs = reference.LogisticRegression(C=1 / (L2 * len(x)), tol=1e-8, max_iter=10_000).fit(x, y)
    assert ours.classes_.tolist() == theirs.classes_.tolist()
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=2e-3)
    np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(x), atol=2e-3)
    np.testing.assert_allclose(np.exp(ours.predict_log_proba(x)), ours.predict_proba(x))
    np.testing.assert_allclose(ours.decision_function(x).T, (x @ ours.coef_.T + ours.intercept_).T.squeeze(), atol=1e-4)


def test_least_squares_finds_the_coefficients_of_scikit_learn() -> None:
    x, y = diabetes()
    ours = LeastSquares(l2=L2, epochs=3000).fit(x, y)
    theirs = reference.Ridge(alpha=L2 * len(x)).fit(x, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-2, atol=0.05)
    assert ours.intercept_ == pytest.approx(theirs.intercept_, abs=0.05)
    assert ours.score(x, y) == pytest.approx(theirs.score(x, y), abs=1e-4)


@pytest.mark.parametrize("rows", [cancer, iris])
@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_svm_is_as_good_as_scikit_learns(rows: Any, loss: str) -> None:
    x, y = rows()
    theirs = LinearSVC(loss=loss, C=1 / (L2 * len(x)), max_iter=100_000, random_state=0).fit(x, y)
    assert SVM(loss=loss, l2=L2).fit(x, y).score(x, y) >= theirs.score(x, y) - 0.01


@EVERY
def test_sparse_rows_and_dense_ones_give_one_model(kind: Any) -> None:
    x, y = rows_for(kind)
    x = np.where(np.abs(x) > 1, x, 0)
    dense, scarce = kind().fit(x, y), kind().fit(sparse.csr_matrix(x), y)
    np.testing.assert_allclose(dense.coef_, scarce.coef_, rtol=1e-2, atol=5e-3)
    assert (dense.predict(x[:9]) == dense.predict(sparse.csc_array(x[:9]))).all()


@EVERY
def test_the_step_size_of_small_batches_is_one_that_converges(kind: Any) -> None:
    x, y = rows_for(kind)
    assert kind(batch_size=8, epochs=20).fit(x, y).score(x, y) > (0.45 if kind is LeastSquares else 0.95)


def test_rows_that_are_zero_leave_only_the_intercept() -> None:
    x, y = np.zeros((8, 2)), np.arange(8.0)
    assert LeastSquares().fit(x, y).predict(x[:1]) == pytest.approx(3.5, abs=1e-3)
    assert LeastSquares(fit_intercept=False, l2=0).fit(x, y).predict(x[:1]) == [0]


def test_numbers_that_no_step_is_small_enough_for() -> None:
    with pytest.raises(DataError, match="too large") as caught:
        LeastSquares().fit([[1e30], [-1e30]], [0, 1])
    assert isinstance(caught.value, ValueError)


def test_class_weights() -> None:
    x, y = cancer()
    ours = LogisticRegression(l2=L2, epochs=2000, class_weight={0: 3.0, 1: 0.5}).fit(x, y)
    theirs = reference.LogisticRegression(C=1 / (L2 * len(x)), class_weight={0: 3.0, 1: 0.5}, tol=1e-8).fit(x, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=5e-3)


def test_a_rare_class_of_much_weight_does_not_make_the_steps_small() -> None:
    x, digit = load_digits(return_X_y=True)
    x, y = StandardScaler().fit_transform(x), digit == 1
    ours = LogisticRegression(l2=L2, batch_size=len(x), class_weight="balanced").fit(x, y)
    theirs = reference.LogisticRegression(C=1 / (L2 * len(x)), class_weight="balanced", tol=1e-8, max_iter=999)
    np.testing.assert_allclose(ours.predict_proba(x), theirs.fit(x, y).predict_proba(x), atol=1e-2)


@pytest.mark.parametrize("labels", [[False, True], [1.0, 2.0], ["b", "a"], [-1, 1]])
def test_labels_keep_their_type(labels: list[Any]) -> None:
    x, y = cancer()
    wanted = np.asarray(labels)[y]
    fitted = LogisticRegression(class_weight=dict.fromkeys(labels, 2.0)).fit(x, wanted)
    assert fitted.predict(x).dtype == wanted.dtype
    assert fitted.score(x, wanted) > 0.95


# --- in scikit-learn's tools --------------------------------------------------------------------------------


def test_in_a_pipeline_a_search_and_a_validation() -> None:
    x, y = load_iris(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    assert cross_val_score(pipeline, x, y, cv=3).mean() > 0.9
    with joblib.parallel_config(backend="threading", n_jobs=2):
        search = GridSearchCV(pipeline, {"logisticregression__l2": [1e-3, 10.0]}, cv=3).fit(x, y)
    assert search.best_params_ == {"logisticregression__l2": 1e-3}


def test_names_of_columns_are_kept_and_held_against() -> None:
    frame = pd.DataFrame({"a": [0.0, 1, 2, 3], "b": [1.0, 0, 1, 0]})
    fitted = LeastSquares().fit(frame, [0, 1, 2, 3])
    assert fitted.feature_names_in_.tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(frame.rename(columns={"b": "c"}))


@EVERY
def test_clones_and_pickles_are_equal(kind: Any) -> None:
    x, y = rows_for(kind)
    fitted = kind(l2=L2, epochs=5).fit(x, y)
    again = clone(fitted).fit(x, y)
    assert again.get_params() == fitted.get_params()
    assert again.model_.sha256 == fitted.model_.sha256
    assert (pickle.loads(pickle.dumps(fitted)).predict(x) == fitted.predict(x)).all()  # noqa: S301 - our own


def test_the_seed_decides() -> None:
    x, y = cancer()

    def coefficients(seed: Any) -> list[float]:
        found: list[float] = LogisticRegression(batch_size=50, epochs=1, random_state=seed).fit(x, y).coef_[0].tolist()
        return found

    assert coefficients(3) == coefficients(3) != coefficients(4)
    assert coefficients(np.random.RandomState(3)) == coefficients(np.random.RandomState(3)) != coefficients(3)
    assert coefficients(None) == coefficients(0)


# --- with the settings of a job -----------------------------------------------------------------------------


def test_settings_reach_the_run_and_the_store_keeps_it(tmp_path: Path) -> None:
    x, y = cancer()
    fitted = LogisticRegression(
        workers=3,
        aggregators="all",
        batch_size=100,
        epochs=4,
        learning_rate=0.25,
        schedule="inverse",
        momentum=0.5,
        nesterov=True,
        l1=1e-4,
        optimizer={"name": "ma_sgd", "local_steps": 2},
        store=str(tmp_path / "store"),
        random_state=7,
    ).fit(x, y)
    [record] = list_runs((tmp_path / "store").as_uri())
    assert record == fitted.run_
    assert (record["workers"], record["aggregators"], record["optimizer"]) == (3, 3, "ma_sgd")
    assert (fitted.n_iter_, record["epochs"]) == (12, 4)
    assert load(str(record["model_path"])).sha256 == fitted.model_.sha256


def test_a_fit_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("LAMBDAML_STORE", str(tmp_path / "store"))
    x, y = cancer()
    before = set(memory._spaces)  # of other tests
    LogisticRegression(epochs=1).fit(x, y)
    with pytest.raises(OptionError):
        LogisticRegression(momentum=2.0).fit(x, y)
    with pytest.raises(UsageError):
        LogisticRegression(epochs=1, workers=1000).fit(x, y)
    assert LogisticRegression(epochs=1, provider="local").fit(x, y).run_["provider"] == "local"
    assert list(tmp_path.iterdir()) == []
    assert not any(space.values for name, space in memory._spaces.items() if name not in before)


def test_going_on_from_a_model(tmp_path: Path) -> None:
    x, y = cancer()
    first = LogisticRegression(l2=L2).fit(x, y)
    loss = first.run_["train_loss"]
    path = first.model_.save(tmp_path / "model")
    for start in (first.model_, str(path)):
        again = LogisticRegression(l2=L2, epochs=1, learning_rate=1e-6, init_from=start).fit(x, y)
        assert again.run_["train_loss"] == pytest.approx(loss, rel=1e-3)


def test_settings_may_be_numbers_of_numpy() -> None:
    x, y = iris()
    plain: dict[str, Any] = {"epochs": 7, "batch_size": 50, "workers": 2, "nesterov": True, "l2": 0.25}
    numbers: dict[str, Any] = {name: np.asarray(value)[()] for name, value in plain.items()}
    fitted = LogisticRegression(**numbers, optimizer={"accumulate": np.int64(3)}).fit(x, y)
    assert fitted.model_.sha256 == LogisticRegression(**plain, optimizer={"accumulate": 3}).fit(x, y).model_.sha256


@pytest.mark.parametrize("name", ["epochs", "batch_size", "workers"])
def test_none_of_something_is_refused(name: str) -> None:
    none: dict[str, Any] = {name: 0}
    with pytest.raises(OptionError, match=f"{name} must be at least 1, not 0"):
        LogisticRegression(**none).fit(*iris())


def test_a_run_can_stop_early() -> None:
    x, y = cancer()
    assert LogisticRegression(stop={"loss": 0.3}).fit(x, y).n_iter_ < 100


def test_one_class_is_refused_by_an_error_of_both_houses() -> None:
    with pytest.raises(DataError, match="one class") as caught:
        SVM().fit([[0.0], [1.0]], ["a", "a"])
    assert isinstance(caught.value, ValueError)


# --- imports ------------------------------------------------------------------------------------------------


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT).stdout


def test_nothing_else_imports_scikit_learn() -> None:
    code = (
        "import sys, lambdaml_core.run.api, lambdaml_core.run.saved, lambdaml_core.cli; print('sklearn' in sys.modules)"
    )
    assert python(code) == "False\n"


def test_without_scikit_learn_the_remedy_is_named() -> None:
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "from lambdaml_core.errors import NotSupported\n"
        "try:\n    import lambdaml_core.estimators\n"
        "except NotSupported as e:\n    print(e.message, '|', e.hint)\n"
    )
    said = python(code)
    assert "needs scikit-learn" in said
    assert "pip install 'scikit-learn>=1.6'" in said
