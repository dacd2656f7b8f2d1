"""Models with preprocessing: raw columns in memory and raw files, as they were in training."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import sparse
from sklearn.compose import make_column_transformer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from lambdaml_core import SavedModel, load, train
from lambdaml_core.data.preprocess import Preprocessing
from lambdaml_core.errors import DataError, LambdaMLError, ModelError
from lambdaml_core.registry import default_registry
from lambdaml_core.run.saved import DESCRIPTION, decode

NAMES = ["age", "income", "city=Bern", "city=Oslo, N", "city=Rom"]


def people(n: int = 240) -> pd.DataFrame:
    """Rows with numbers, words that need quotes, and a label."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 80, n),
            "city": rng.choice(["Bern", "Rom", "Oslo, N"], n),
            "income": rng.normal(50, 9, n).round(2),
        }
    )
    return frame.assign(label=np.where((frame["age"] > 45) | (frame["city"] == "Rom"), "yes", "no"))


def features(frame: pd.DataFrame) -> NDArray[Any]:
    """What scikit-learn makes of the columns."""
    made = make_column_transformer(
        (StandardScaler(), ["age", "income"]), (OneHotEncoder(), ["city"]), sparse_threshold=0
    )
    found: NDArray[Any] = made.fit_transform(frame)
    return found


def trained(folder: Path, frame: pd.DataFrame, **keys: Any) -> SavedModel:
    frame.to_csv(folder / "people.csv", index=False)
    settings: dict[str, Any] = {"provider": "inline", "workers": 2, "epochs": 20, "batch_size": 60}
    data = {"validation": 0.0}
    return train(folder / "people.csv", data=data, store=str(folder / "store"), **settings | keys).model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("people")


@pytest.fixture(scope="module")
def model(folder: Path) -> SavedModel:
    return trained(folder, people(), optimizer={"learning_rate": 1.0})


# --- in memory ----------------------------------------------------------------------------------------------


def test_raw_columns_are_scaled_and_encoded_as_scikit_learn_does(model: SavedModel) -> None:
    frame = people()
    assert model.feature_names == NAMES
    assert model.coef.shape == (1, 5)
    expected = features(frame) @ model.coef[0] + model.intercept[0]
    np.testing.assert_allclose(model.decision_function(frame), expected, rtol=1e-4, atol=1e-4)
    assert model.evaluate(frame, frame["label"])["accuracy"] == np.mean(model.predict(frame) == frame["label"]) > 0.7


@pytest.mark.parametrize(
    "columns",
    [
        lambda frame: frame[["income", "city", "age"]],
        lambda frame: frame.drop(columns="label").to_dict("list"),
        lambda frame: {name: frame[name].to_numpy() for name in frame},
    ],
)
def test_columns_go_by_their_names(model: SavedModel, columns: Callable[[pd.DataFrame], Any]) -> None:
    frame = people()
    assert model.predict(columns(frame)).tolist() == model.predict(frame).tolist()


def test_what_is_missing_or_new_is_no_feature(model: SavedModel) -> None:
    strange = pd.DataFrame({"age": [np.nan], "city": ["Lima"], "income": [np.nan]})
    np.testing.assert_allclose(model.decision_function(strange), model.intercept, rtol=1e-6)


@pytest.mark.parametrize("x", [np.zeros((2, 5)), [[1, 2, 3]], sparse.csr_matrix((2, 5))])
def test_a_transformed_array_is_refused(model: SavedModel, x: Any) -> None:
    with pytest.raises(DataError, match="takes raw columns by name") as caught:
        model.predict(x)
    assert caught.value.hint is not None
    assert "before any scaling" in caught.value.hint


@pytest.mark.parametrize("nothing", [None, np.nan, pd.NA, pd.NaT, "", "NA"])
def test_nothing_is_missing_however_pandas_writes_it(model: SavedModel, nothing: Any) -> None:
    rows = {"age": [nothing], "income": [40.0], "city": [nothing]}
    assert model.decision_function(rows) == model.decision_function({"age": [None], "income": [40.0], "city": [None]})
    assert model.decision_function(pd.DataFrame(rows, dtype=object)) == model.decision_function(rows)


def test_a_column_that_is_not_there(model: SavedModel) -> None:
    with pytest.raises(DataError, match="income"):
        model.predict(people().drop(columns="income"))
    with pytest.raises(DataError, match="age"):
        model.predict(people().assign(age="old"))


# --- in files -----------------------------------------------------------------------------------------------


def test_files_say_what_frames_say(model: SavedModel, folder: Path) -> None:
    frame = people()
    assert model.predict_file(folder / "people.csv").tolist() == model.predict(frame).tolist()
    found = list(model.predict_blocks(folder / "people.csv", probabilities=True))
    together = np.concatenate([block.probabilities for block in found if block.probabilities is not None])
    np.testing.assert_array_equal(together, model.predict_proba(frame))
    assert model.evaluate_file(folder / "people.csv") == model.evaluate(frame, frame["label"])


def test_files_of_a_folder_in_the_order_of_their_names(model: SavedModel, tmp_path: Path) -> None:
    frame = people().drop(columns="label")
    frame[150:].to_csv(tmp_path / "b.csv", index=False)
    frame[:150].to_csv(tmp_path / "a.csv", index=False)
    assert model.predict_file(tmp_path).tolist() == model.predict(frame).tolist()
    assert model.predict_file(tmp_path / "*.csv").tolist() == model.predict(frame).tolist()


def test_a_long_file_is_read_in_pieces(model: SavedModel, tmp_path: Path) -> None:
    frame = pd.concat([people()] * 1200)
    frame.to_csv(tmp_path / "long.csv", index=False)
    lengths = [len(block.values) for block in model.predict_blocks(tmp_path / "long.csv")]
    assert sum(lengths) == len(frame) > 2 * max(lengths)


def test_a_label_that_the_model_does_not_know(model: SavedModel, tmp_path: Path) -> None:
    people().replace({"label": {"no": "perhaps"}}).to_csv(tmp_path / "other.csv", index=False)
    with pytest.raises(DataError, match=r"other\.csv: the model has no class 'perhaps'"):
        model.evaluate_file(tmp_path / "other.csv")


def test_a_file_without_rows(model: SavedModel, tmp_path: Path) -> None:
    people()[:0].to_csv(tmp_path / "none.csv", index=False)
    assert model.predict_file(tmp_path / "none.csv").shape == (0,)
    with pytest.raises(DataError, match="no rows"):
        model.evaluate_file(tmp_path / "none.csv")


def test_numbers_to_come_near_to(tmp_path: Path) -> None:
    frame = people().rename(columns={"income": "label", "label": "old"})
    model = trained(tmp_path, frame, model="least_squares", optimizer={"learning_rate": 0.1})
    figures = model.evaluate_file(tmp_path / "people.csv")
    wrong = model.predict(frame) - frame["label"].to_numpy()
    assert figures["rmse"] == pytest.approx(np.sqrt(np.mean(wrong**2)), rel=1e-4)
    assert model.feature_names == ["age", *NAMES[2:], "old=no", "old=yes"]


def test_rows_of_features_and_rows_of_columns_are_not_mixed_up(model: SavedModel, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.libsvm").write_text("1 1:2 3:1\n")
    with pytest.raises(DataError, match="the model takes raw columns"):
        model.predict_file(tmp_path / "rows.libsvm")
    plain = SavedModel(np.zeros(4, np.float32), model.model, 3, [0, 1])
    with pytest.raises(DataError, match="the model takes features"):
        plain.predict_file(folder / "people.csv")


@pytest.mark.parametrize("text", ["1 1:2 4:1\n", "1 1:1 2:1\n0 9:1\n"])
def test_an_index_beyond_the_features_is_refused_with_its_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "rows.libsvm").write_text(text)
    reference = default_registry().resolve("model", "svm", {})
    model = SavedModel(np.zeros(4, np.float32), reference, 3, [0, 1])
    with pytest.raises(DataError, match=f"rows.libsvm, line {text.count(chr(10))}: .*the model has 3"):
        model.predict_file(tmp_path / "rows.libsvm")


# --- on disk ------------------------------------------------------------------------------------------------


def test_preprocessing_is_saved_with_the_model(model: SavedModel, tmp_path: Path) -> None:
    read = load(model.save(tmp_path / "model"))
    assert read.files() == model.files()
    assert read.predict(people()).tolist() == model.predict(people()).tolist()


FIELDS = sorted(Preprocessing.__dataclass_fields__)
odd = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 2**70)
    | st.floats(allow_nan=False)
    | st.sampled_from(["a", "age", "csr"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)


@given(st.sampled_from(FIELDS), odd)
def test_any_preprocessing_is_refused_or_can_be_done(model: SavedModel, name: str, value: Any) -> None:
    frame = people(5)
    files = dict(model.files())
    description = json.loads(files[DESCRIPTION])
    description["preprocessing"][name] = value
    try:
        read = decode(files | {DESCRIPTION: json.dumps(description).encode()})
    except ModelError:
        return
    with contextlib.suppress(LambdaMLError):
        assert len(read.predict(frame.assign(a=0))) == 5


@pytest.mark.parametrize(
    "changes",
    [
        {"deviations": [1.0, 0.0]},
        {"deviations": [1.0, -1.0]},
        {"deviations": [1.0]},
        {"means": [0.0, "1"]},
        {"means": [0.0, True]},
        {"numbers": ["age", "age"]},
        {"numbers": ["age", "city"]},
        {"categories": [["Bern", "Bern", "Rom"]]},
        {"categories": [["Bern"]]},
        {"hash_features": 0},
        {"hash_features": -3},
        {"hash_features": 2**40},
        {"hash_features": 4},
        {"layout": "coo"},
        {"standard": 1},
        {"label": 3},
        {"more": 1},
    ],
)
def test_preprocessing_that_cannot_be_is_refused(model: SavedModel, changes: dict[str, Any]) -> None:
    files = dict(model.files())
    description = json.loads(files[DESCRIPTION])
    description["preprocessing"] |= changes
    with pytest.raises(ModelError, match="preprocessing"):
        decode(files | {DESCRIPTION: json.dumps(description).encode()})
