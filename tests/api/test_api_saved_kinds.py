"""Saved models of many classes and of numbers; files from anywhere, which must not be believed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import save
from scipy import sparse
from scipy.special import softmax
from sklearn import metrics

from lambdaml_core import SavedModel
from lambdaml_core.data.shards import Label
from lambdaml_core.errors import DataError, LambdaMLError, ModelError, NotSupported
from lambdaml_core.registry import default_registry
from lambdaml_core.run.saved import DESCRIPTION, WEIGHTS, decode, encode

FEATURES = 4
LABELS: list[Label] = ["low", "middle", "high"]

kinds = pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])


def model_of(name: str, labels: list[Label], *, seed: int = 0, **options: Any) -> SavedModel:
    """A model with random parameters; many classes have as many columns."""
    reference = default_registry().resolve("model", name, options)
    columns = len(labels) if len(labels) > 2 else 1
    size = (FEATURES + reference.values["bias"]) * columns
    return SavedModel(np.random.default_rng(seed).normal(size=size).astype(np.float32), reference, FEATURES, labels)


def rows(n: int = 200, seed: int = 1) -> NDArray[Any]:
    return np.random.default_rng(seed).normal(size=(n, FEATURES))


# --- what they predict --------------------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("labels", [["no", "yes"], LABELS, [3, 1, 2]])
@pytest.mark.parametrize("name", ["logistic_regression", "svm"])
def test_margins_are_those_of_the_coefficients(
    name: str, labels: list[Label], bias: bool, kind: Callable[[Any], Any]
) -> None:
    model, x = model_of(name, labels, bias=bias), rows()
    columns = len(labels) if len(labels) > 2 else 1
    assert (model.coef.shape, model.intercept.shape) == ((columns, FEATURES), (columns,))
    assert bias or not model.intercept.any()
    margins = x @ model.coef.T.astype(float) + model.intercept
    np.testing.assert_allclose(model.decision_function(kind(x)), margins.squeeze(), rtol=1e-4, atol=1e-5)
    classes = (margins[:, 0] > 0).astype(int) if columns == 1 else margins.argmax(axis=1)
    assert model.predict(kind(x)).tolist() == [labels[c] for c in classes]


def test_coefficients_are_views() -> None:
    model = model_of("svm", LABELS)
    model.coef[1, 2] = 7
    model.intercept[0] = 9
    assert sorted(model.params.tolist())[-2:] == [7, 9]


@kinds
def test_probabilities_of_many_classes_are_softmax(kind: Callable[[Any], Any]) -> None:
    model, x = model_of("logistic_regression", LABELS), rows()
    expected = softmax(x @ model.coef.T + model.intercept, axis=1)
    np.testing.assert_allclose(model.predict_proba(kind(x)), expected, rtol=1e-4, atol=1e-7)


def test_what_has_no_probabilities_says_what_to_use_instead() -> None:
    with pytest.raises(NotSupported, match="svm has no probabilities") as caught:
        model_of("svm", LABELS).predict_proba(rows())
    assert caught.value.hint is not None
    assert "decision_function" in caught.value.hint
    with pytest.raises(NotSupported, match="least_squares has no probabilities"):
        model_of("least_squares", []).predict_proba(rows())


@kinds
def test_a_regressor_predicts_numbers_and_has_no_margins(kind: Callable[[Any], Any]) -> None:
    model, x = model_of("least_squares", []), rows()
    predictions = model.predict(kind(x))
    assert predictions.dtype == np.float64
    assert predictions.shape == (200,)
    np.testing.assert_allclose(predictions, x @ model.coef[0] + model.intercept[0], rtol=1e-4, atol=1e-5)
    with pytest.raises(NotSupported, match="has no margins"):
        model.decision_function(x)
    assert model.predict(x[:0]).shape == (0,)
    assert "predicts numbers" in repr(model)


def test_figures_of_many_classes() -> None:
    model, x = model_of("logistic_regression", LABELS), rows()
    y = np.random.default_rng(2).choice(LABELS, 200)
    figures = model.evaluate(x, y)
    classes = [LABELS.index(v) for v in y]
    assert figures["loss"] == pytest.approx(metrics.log_loss(classes, model.predict_proba(x)), rel=1e-5)
    assert figures["accuracy"] == metrics.accuracy_score(y, model.predict(x))
    assert figures["baseline_accuracy"] == max(np.bincount(classes)) / 200
    assert figures["rows"] == 200


def test_figures_of_numbers() -> None:
    model, x = model_of("least_squares", []), rows()
    y = model.predict(x) + np.random.default_rng(2).normal(size=200)
    figures = model.evaluate(x, y)
    assert figures["rmse"] == pytest.approx(metrics.root_mean_squared_error(y, model.predict(x)), rel=1e-4)
    assert figures["r2"] == pytest.approx(metrics.r2_score(y, model.predict(x)), rel=1e-4)


@pytest.mark.parametrize("y", [["a", "b"], [[1.0], [2.0]], [1.0, np.nan]])
def test_figures_of_numbers_need_numbers(y: Any) -> None:
    with pytest.raises(DataError, match="y has"):
        model_of("least_squares", []).evaluate(rows(2), y)


def test_a_model_without_preprocessing_takes_a_frame_of_numbers() -> None:
    import pandas as pd

    model, x = model_of("svm", LABELS), rows()
    assert model.feature_names is None
    assert model.predict(pd.DataFrame(x)).tolist() == model.predict(x).tolist()


# --- what their files may not say ---------------------------------------------------------------------------


def changed(model: SavedModel, /, **changes: Any) -> dict[str, bytes]:
    """The files of a model, with these values in its description."""
    files = dict(model.files())
    description = json.loads(files[DESCRIPTION]) | changes
    return files | {DESCRIPTION: json.dumps(description).encode()}


def with_weights(model: SavedModel, arrays: Mapping[str, NDArray[Any]]) -> dict[str, bytes]:
    """The files of a model with other arrays, and the right checksum for them."""
    weights = save(dict(arrays))
    return changed(model, sha256={WEIGHTS: hashlib.sha256(weights).hexdigest()}) | {WEIGHTS: weights}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": 3}, "20|15 parameters"),
        ({"features": 0}, "features"),
        ({"features": -4}, "features"),
        ({"features": True}, "features is True"),
        ({"features": 4.0}, "features is 4.0"),
        ({"features": 10**12}, "features"),
        ({"labels": ["a", "b"]}, "parameters, and the model has"),
        ({"labels": ["a"] * 3}, "not distinct"),
        ({"labels": [0, 1, True]}, "not distinct"),
        ({"labels": [0, 1, "2"]}, "numbers or words"),
        ({"labels": [[0], [1], [2]]}, "numbers or words"),
        ({"labels": [None, 1, 2]}, "numbers or words"),
        ({"labels": [0, 1, float("nan")]}, "NaN is not finite"),
        ({"labels": []}, "0 labels for a model that tells a class"),
        ({"labels": ["a"]}, "1 labels"),
        ({"labels": "abc"}, "labels is 'abc'"),
        ({"model": "svm"}, "model is 'svm'"),
        ({"model": {"name": ["svm"], "options": {}}}, "name is"),
        ({"model": {"name": "svm", "options": []}}, "options is"),
        ({"model": {"name": "svm", "options": {"kernel": "rbf"}}}, "unknown option model.kernel"),
        ({"model": {"name": "svm", "options": {"bias": 3}}}, "option model.bias must be bool"),
        ({"metrics": {"loss": "low"}}, "no number"),
        ({"metrics": []}, "metrics is"),
        ({"sha256": []}, "sha256 is"),
        ({"sha256": {}}, "checksum"),
    ],
)
def test_a_description_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        decode(changed(model_of("svm", LABELS), **changes), where="here")
    assert caught.value.message.startswith("here: ")
    assert "\n" not in caught.value.message


def test_a_regressor_has_no_labels() -> None:
    with pytest.raises(ModelError, match="2 labels for a model that tells a number"):
        decode(changed(model_of("least_squares", []), labels=[0, 1]))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"other": np.ones(15, np.float32)}, "no parameters"),
        ({"params": np.ones(14, np.float32)}, "14 parameters, and the model has 15"),
        ({"params": np.ones((3, 5), np.float32)}, "no list of finite numbers"),
        ({"params": np.ones(15, np.int32)}, "no list of finite numbers"),
        ({"params": np.full(15, np.nan, np.float32)}, "no list of finite numbers"),
        ({"params": np.full(15, np.inf)}, "no list of finite numbers"),
    ],
)
def test_parameters_that_cannot_be_are_refused(arrays: dict[str, NDArray[Any]], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        decode(with_weights(model_of("svm", LABELS), arrays))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": 1e999}', '{"a": -Infinity}', '{"a": ' + "9" * 5000 + "}"])
def test_json_that_would_break_a_reader_is_refused(text: str) -> None:
    with pytest.raises(ModelError, match="is damaged"):
        decode({**model_of("svm", LABELS).files(), DESCRIPTION: text.encode()})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=8,
)
KEYS = ["format", "version", "model", "features", "labels", "preprocessing", "metrics", "sha256"]


@given(st.sampled_from(KEYS), json_values)
def test_any_value_in_any_place_is_taken_or_refused_by_a_typed_error(key: str, value: Any) -> None:
    model = model_of("svm", LABELS)
    try:
        read = decode(changed(model, **{key: value}))
    except LambdaMLError:
        return
    assert read.params.tobytes() == model.params.tobytes()
    assert len(read.predict(rows(3))) == 3


def test_encode_keeps_what_a_regressor_is() -> None:
    model = model_of("least_squares", [])
    files = encode(model.params, model=model.model, features=FEATURES, labels=[], preprocessing=None)
    read = decode(files)
    assert (read.labels, read.preprocessing, read.files()) == ([], {}, files)
