"""Saved models: equal models are equal bytes, each damage has its own line, predictions are the formula."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import sparse

from lambdaml_core import SavedModel, load
from lambdaml_core.data.shards import Label
from lambdaml_core.errors import DataError, ModelError, OutputExists, PluginError, StorageDenied, StorageFull
from lambdaml_core.registry import default_registry
from lambdaml_core.run.saved import DESCRIPTION, WEIGHTS, decode, encode

LOGISTIC = default_registry().resolve("model", "logistic_regression", {})

params_of_any_kind = hnp.arrays(
    st.sampled_from([np.float16, np.float32, np.float64]),
    st.integers(2, 40),
    elements=st.floats(-1e3, 1e3, width=16),
)
labels = st.sampled_from([st.integers(-9, 9), st.text(max_size=5)]).flatmap(
    lambda kind: st.lists(kind, min_size=2, max_size=2, unique=True)
)


def model_of(params: NDArray[Any], classes: list[Label] | None = None) -> SavedModel:
    return SavedModel(params, LOGISTIC, len(params) - 1, classes or [0, 1])


@pytest.fixture
def model() -> SavedModel:
    return model_of(np.random.default_rng(0).normal(size=6).astype(np.float32), ["no", "yes"])


@given(params_of_any_kind, labels)
def test_decode_gives_back_what_was_encoded_bit_for_bit(params: NDArray[Any], classes: list[Label]) -> None:
    metrics = {"loss": 0.1, "auc": 1 / 3}
    files = encode(params, model=LOGISTIC, features=len(params) - 1, labels=classes, metrics=metrics)
    back = decode(files)
    assert back.params.dtype == params.dtype
    assert back.params.tobytes() == params.tobytes()
    assert (back.model, back.features, back.labels, back.metrics) == (LOGISTIC, len(params) - 1, classes, metrics)
    assert back.files() == files


def test_equal_models_are_equal_bytes_in_another_process() -> None:
    code = (
        "import hashlib, numpy as np\n"
        "from lambdaml_core.registry import default_registry\n"
        "from lambdaml_core.run.saved import encode\n"
        "model = default_registry().resolve('model', 'logistic_regression', {})\n"
        "files = encode(np.arange(5, dtype=np.float32), model=model, features=4, labels=[0, 1])\n"
        "print([hashlib.sha256(files[name]).hexdigest() for name in sorted(files)])\n"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, check=True, capture_output=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1


def test_another_parameter_is_another_sum() -> None:
    assert model_of(np.array([1, 2], np.float32)).sha256 != model_of(np.array([1, 3], np.float32)).sha256


def test_save_and_load_keep_the_bytes_and_leave_nothing_beside(model: SavedModel, tmp_path: Path) -> None:
    path = model.save(tmp_path / "deep" / "model")
    assert sorted(p.name for p in path.iterdir()) == [DESCRIPTION, WEIGHTS]
    assert [p.name for p in path.parent.iterdir()] == ["model"]
    assert load(path).files() == model.files() == load(path.as_uri()).files()
    assert path.stat().st_mode & 0o777 == 0o755


def test_the_weights_can_be_read_without_us(model: SavedModel, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    np.testing.assert_array_equal(load_file(model.save(tmp_path / "m") / WEIGHTS)["params"], model.params)


def _file(path: Path) -> None:
    path.write_text("mine")


def _empty(path: Path) -> None:
    path.mkdir()


def _dangling(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere")


@pytest.mark.parametrize("occupy", [_file, _empty, _dangling])
def test_saving_refuses_a_place_that_is_taken(
    model: SavedModel, tmp_path: Path, occupy: Callable[[Path], None]
) -> None:
    occupy(tmp_path / "taken")
    with pytest.raises(OutputExists, match="taken"):
        model.save(tmp_path / "taken")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_saving_below_a_file_is_refused(model: SavedModel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputExists, match="file"):
        model.save(tmp_path / "file" / "model")


def test_a_save_that_fails_half_way_leaves_nothing(
    model: SavedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, data: bytes) -> int:
        if self.name == DESCRIPTION:
            raise OSError(28, "No space left on device")
        return write(self, data)

    write = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageFull, match="No space left"):
        model.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_saving_where_we_may_not_write_is_refused(model: SavedModel) -> None:
    with pytest.raises((StorageDenied, StorageFull), match="/proc"):
        model.save("/proc/model")


# --- every way a saved model can be wrong -------------------------------------------------------------------


def _edit(path: Path, **changes: Any) -> None:
    description = json.loads((path / DESCRIPTION).read_text())
    (path / DESCRIPTION).write_text(json.dumps({**description, **changes}))


def _drop(path: Path, key: str) -> None:
    description = json.loads((path / DESCRIPTION).read_text())
    del description[key]
    (path / DESCRIPTION).write_text(json.dumps(description))


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _link(path: Path, to: str) -> None:
    path.unlink()
    path.symlink_to(to)


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "weights missing": (lambda p: (p / WEIGHTS).unlink(), "model.safetensors is missing"),
    "description missing": (lambda p: (p / DESCRIPTION).unlink(), "model.json is missing"),
    "weights truncated": (lambda p: os.truncate(p / WEIGHTS, 20), "model.safetensors is damaged"),
    "weights empty": (lambda p: os.truncate(p / WEIGHTS, 0), "model.safetensors is damaged"),
    "description truncated": (lambda p: os.truncate(p / DESCRIPTION, 20), "model.json is damaged"),
    "description not text": (lambda p: (p / DESCRIPTION).write_bytes(b"\xff\xfe"), "model.json is damaged"),
    "description a list": (lambda p: (p / DESCRIPTION).write_text("[]"), "does not describe a LambdaML model"),
    "description a pipe": (lambda p: _pipe(p / DESCRIPTION), "model.json cannot be read: it is no regular file"),
    "weights a device": (lambda p: _link(p / WEIGHTS, "/dev/zero"), "safetensors cannot be read: it is no regular"),
    "another format": (lambda p: _edit(p, format="pmml"), "does not describe a LambdaML model"),
    "another version": (lambda p: _edit(p, version=99), "model format 99, known is 1"),
    "no model": (lambda p: _drop(p, "model"), "lacks what a model needs"),
    "no labels": (lambda p: _drop(p, "labels"), "lacks what a model needs"),
    "features no number": (lambda p: _edit(p, features="many"), "lacks what a model needs"),
    "preprocessing unknown": (lambda p: _edit(p, preprocessing={"hash": 2}), "preprocessing that cannot be done"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_model_is_refused_by_what_is_wrong(model: SavedModel, tmp_path: Path, name: str) -> None:
    damage, message = DAMAGE[name]
    path = model.save(tmp_path / "model")
    damage(path)
    with pytest.raises(ModelError, match=message) as caught:
        load(path)
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 2


@given(st.data())
def test_no_changed_byte_of_the_weights_goes_unnoticed(data: st.DataObject) -> None:
    files = dict(model_of(np.array([1, 2, 3], np.float32)).files())
    weights = bytearray(files[WEIGHTS])
    weights[data.draw(st.integers(0, len(weights) - 1))] ^= data.draw(st.integers(1, 255))
    files[WEIGHTS] = bytes(weights)
    with pytest.raises(ModelError, match="damaged"):
        decode(files)


def test_weights_that_are_no_tensors_are_refused_even_with_the_right_sum() -> None:
    import hashlib

    files = dict(model_of(np.array([1, 2], np.float32)).files())
    description = json.loads(files[DESCRIPTION])
    description["sha256"][WEIGHTS] = hashlib.sha256(b"junk").hexdigest()
    with pytest.raises(ModelError, match="no parameters"):
        decode({WEIGHTS: b"junk", DESCRIPTION: json.dumps(description).encode()})


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no model at .*nothing: model.json is missing"):
        load(tmp_path / "nothing")


def test_a_model_names_a_plugin_and_cannot_make_us_import_anything(model: SavedModel, tmp_path: Path) -> None:
    path = model.save(tmp_path / "model")
    _edit(path, model={"name": "os:system", "options": {}})
    with pytest.raises(PluginError, match="os:system"):
        load(path)


# --- predictions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [np.asarray, sparse.csr_matrix, sparse.csr_array, sparse.coo_matrix, np.asfortranarray]
)
def test_predictions_are_the_formula(model: SavedModel, kind: Callable[[Any], Any]) -> None:
    x = np.random.default_rng(1).normal(size=(50, 5))
    margin = x.astype(np.float32) @ model.params[:-1] + model.params[-1]
    p = 1 / (1 + np.exp(-margin.astype(np.float64)))
    proba = model.predict_proba(kind(x))
    np.testing.assert_allclose(proba, np.stack([1 - p, p], 1), rtol=1e-5)
    assert model.predict(kind(x)).tolist() == ["yes" if m > 0 else "no" for m in margin]


@pytest.mark.parametrize("classes", [["no", "yes"], [-1, 1], [1.5, 2.5], [False, True]])
def test_evaluate_takes_labels_as_their_user_writes_them(classes: list[Label]) -> None:
    from sklearn.metrics import log_loss, roc_auc_score

    rng = np.random.default_rng(2)
    model = model_of(rng.normal(size=4).astype(np.float32), classes)
    x, numbers = rng.normal(size=(300, 3)), rng.integers(0, 2, 300)
    y = np.asarray(classes)[numbers]
    figures = model.evaluate(x, y)
    p = model.predict_proba(x)[:, 1]
    assert figures["loss"] == pytest.approx(log_loss(numbers, p), rel=1e-5)
    assert figures["accuracy"] == pytest.approx(np.mean(model.predict(x) == y))
    assert figures["auc"] == pytest.approx(roc_auc_score(numbers, p), abs=2e-3)
    assert figures["baseline_accuracy"] == pytest.approx(max(numbers.mean(), 1 - numbers.mean()))


def test_no_rows_give_no_predictions(model: SavedModel) -> None:
    assert model.predict(np.empty((0, 5))).shape == (0,)
    assert model.predict_proba(np.empty((0, 5))).shape == (0, 2)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("columns", [4, 6])
def test_other_features_than_the_models(model: SavedModel, columns: int, kind: Callable[[Any], Any]) -> None:
    with pytest.raises(DataError, match=f"the data has {columns} features and the model was trained on 5"):
        model.predict(kind(np.ones((2, columns))))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_values_that_are_no_numbers(model: SavedModel, bad: float, kind: Callable[[Any], Any]) -> None:
    x = np.ones((2, 5))
    x[1, 3] = bad
    with pytest.raises(DataError, match="NaN, infinite"):
        model.predict(kind(x))


def test_a_single_row_and_a_table_of_words(model: SavedModel) -> None:
    with pytest.raises(DataError, match="1 dimensions, not 2") as caught:
        model.predict(np.ones(5))
    assert caught.value.hint is not None
    assert "reshape" in caught.value.hint
    with pytest.raises(DataError, match="no table of numbers"):
        model.predict([["a", "b", "c", "d", "e"]])


def test_evaluate_refuses_what_it_cannot_count(model: SavedModel) -> None:
    x = np.ones((2, 5))
    with pytest.raises(DataError, match="no class 'maybe'"):
        model.evaluate(x, ["yes", "maybe"])
    with pytest.raises(DataError, match="x has 2 rows and y 1"):
        model.evaluate(x, ["yes"])
    with pytest.raises(DataError, match="no rows"):
        model.evaluate(x[:0], [])
