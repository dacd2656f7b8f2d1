"""Going on from a saved model: the same as never having stopped, and refused where it cannot be meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from child_processes import children
from runs_help import cancer, files_below, make_job, write_libsvm

from lambdaml_core.data.arrays import write_arrays
from lambdaml_core.data.partition import partition
from lambdaml_core.errors import DataError, JobError, LambdaMLError, ModelError, WorkerFailed
from lambdaml_core.provider.base import WorkerRef
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.job import Job
from lambdaml_core.run.records.records import RunRecord
from lambdaml_core.run.saved import SavedModel, load
from lambdaml_core.run.spec import Spec, sha256
from lambdaml_core.run.worker.worker import run_worker
from lambdaml_core.specs import Reference
from lambdaml_core.storage import open_storage

PLAIN = {"name": "ga_sgd", "learning_rate": 0.1, "l2": 1e-3}  # no state but the parameters, and one rate for ever


def train(store: Path, *, initial: SavedModel | None = None, **keys: Any) -> tuple[RunRecord, SavedModel]:
    settings: dict[str, Any] = {"workers": 2, "provider": "inline", "optimizer": PLAIN, "epochs": 2, "rounds": None}
    job = make_job(store, **(settings | keys))
    record = run_job(job, arrays=cancer() if job.data.source is None else None, initial=initial)
    return record, load(str(record["model_path"]))


@pytest.mark.parametrize("provider", ["local", "inline"])
@pytest.mark.parametrize("optimizer", [PLAIN, PLAIN | {"name": "ma_sgd", "local_steps": 4}], ids=["ga", "ma"])
def test_two_halves_are_the_whole(tmp_path: Path, provider: str, optimizer: Any) -> None:
    """Bit for bit, with an optimizer that keeps nothing else from round to round."""
    keys: dict[str, Any] = {"provider": provider, "optimizer": optimizer}
    whole, _ = train(tmp_path, epochs=4, **keys)
    half, _ = train(tmp_path, **keys)
    assert half["model_sha256"] != whole["model_sha256"]
    assert train(tmp_path, init_from=half["model_path"], **keys)[0]["model_sha256"] == whole["model_sha256"]


def test_a_model_in_memory_is_as_good_as_one_on_disk(tmp_path: Path) -> None:
    record, model = train(tmp_path)
    on_disk, _ = train(tmp_path, init_from=record["model_path"])
    in_memory, _ = train(tmp_path, initial=model)
    by_url, _ = train(tmp_path, init_from=Path(str(record["model_path"])).as_uri())
    by_name, _ = train(tmp_path, init_from=record["run"])
    assert len({r["model_sha256"] for r in (on_disk, in_memory, by_url, by_name)}) == 1


def test_the_name_of_a_run_is_one_of_the_job_s_store_unless_there_is_such_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs").mkdir()
    path, name = tmp_path / "jobs" / "job.toml", "20250131-235959-income-pavilo"
    path.write_text(f'store = "runs"\ninit_from = "{name}"')
    of_store = f"file://{tmp_path}/jobs/runs/runs/{name}/model"
    assert Job.from_toml(path).init_from == Job.from_toml(path, {"init_from": name}).init_from == of_store
    elsewhere = Job.from_mapping({"store": "s3://bucket/lambdaml?region=eu", "init_from": name}).init_from
    assert elsewhere == f"s3://bucket/lambdaml/runs/{name}/model?region=eu"
    (tmp_path / "jobs" / name).mkdir()
    assert Job.from_toml(path).init_from == f"file://{tmp_path}/jobs/{name}"
    (tmp_path / name).mkdir()
    assert Job.from_toml(path, {"init_from": name}).init_from == f"file://{tmp_path}/{name}"


def test_it_takes_fewer_rounds(tmp_path: Path) -> None:
    goal: dict[str, Any] = {"stop": {"loss": 0.2}, "epochs": None, "rounds": 10**6, "evaluate": 1}
    first, model = train(tmp_path, **goal)
    again, _ = train(tmp_path, initial=model, **goal)
    assert first["rounds"] > 10
    assert again["rounds"] == 1


def test_the_run_keeps_what_it_started_from(tmp_path: Path) -> None:
    _, model = train(tmp_path)
    record, _ = train(tmp_path, initial=model)
    store = open_storage(f"file://{tmp_path}")
    kept = bytes(store.get(f"runs/{record['run']}/initial.safetensors"))
    assert kept == model.files()["model.safetensors"]
    assert Spec.decode(bytes(store.get(f"runs/{record['run']}/spec.json"))).initial == sha256(kept)


def test_initial_parameters_that_were_changed(tmp_path: Path) -> None:
    _, model = train(tmp_path)
    write_arrays(*cancer(), open_storage(f"file://{tmp_path}/shards"), shards=2)
    record, _ = train(tmp_path, workers=1, initial=model, data=str(tmp_path / "shards"))
    store = open_storage(f"file://{tmp_path}")
    spec = bytes(store.get(f"runs/{record['run']}/spec.json"))
    other = model.params + 1
    store.put(
        f"runs/{record['run']}/initial.safetensors",
        [SavedModel(other, model.model, 30, [0, 1]).files()["model.safetensors"]],
    )
    storage: Any = {"kind": "storage", **vars(Spec.decode(spec).store.reference)}
    ref = WorkerRef(Spec.decode(spec).store.url, storage, record["run"], 0, 0, 1, sha256(spec))
    assert run_worker(ref, log=lambda text: None) == 1
    assert b"initial parameters were changed" in bytes(store.get(f"runs/{record['run']}/errors/0/0/1.json"))


# --- preprocessing and labels -----------------------------------------------------------------------------------


def people(first: int, last: int) -> pd.DataFrame:
    """Rows whose scale and words depend on which they are; so does which labels are there."""
    rng = np.random.default_rng(0)
    age, sector = rng.normal(40, 9, 400) + np.arange(400) / 10, rng.choice(["farm", "shop", "state"], 400)
    sector[200:] = np.where(sector[200:] == "farm", "space", sector[200:])
    side = np.array(["left", "middle", "right"])[np.digitize(age + 20 * (sector == "shop"), [50, 70])]
    side[200:] = np.where(side[200:] == "left", "middle", side[200:])
    return pd.DataFrame({"age": age, "sector": sector, "side": side})[first:last]


def test_new_rows_are_preprocessed_as_the_old_ones_were(tmp_path: Path) -> None:
    for name, rows in {"old": people(0, 200), "new": people(200, 400)}.items():
        rows.to_csv(tmp_path / f"{name}.csv", index=False)
    keys: dict[str, Any] = {"data": {"format": {"label": "side"}, "validation": 0.1}}
    _, old = train(tmp_path / "s", **{"data": keys["data"] | {"source": str(tmp_path / "old.csv")}})
    new, model = train(tmp_path / "s", initial=old, data=keys["data"] | {"source": str(tmp_path / "new.csv")})
    assert model.preprocessing == old.preprocessing
    assert model.labels == old.labels
    assert new["status"] == "succeeded"
    # a partition that was made by itself is scaled by its own rows
    partition(tmp_path / "new.csv", f"file://{tmp_path}/shards", shards=2, format=_csv())
    with pytest.raises(DataError, match=r"features|labels|preprocessed in another way") as caught:
        train(tmp_path / "s", initial=old, data=str(tmp_path / "shards"))
    assert "data.source" in str(caught.value.hint)
    # and one that was made as that model's was goes well
    how: dict[str, Any] = {"preprocessing": old.preprocessing, "labels": tuple(old.labels)}
    partition(tmp_path / "new.csv", f"file://{tmp_path}/alike", shards=1, format=_csv(), validation=0.1, **how)
    assert train(tmp_path / "s", initial=old, data=str(tmp_path / "alike"))[0]["model_sha256"] == new["model_sha256"]


def _csv() -> Reference:
    from lambdaml_core.registry import default_registry

    return default_registry().resolve("data_format", "csv", {"label": "side"})


def test_fewer_columns_in_the_new_file_are_as_many_as_in_the_old(tmp_path: Path) -> None:
    """A sparse file shows its columns only as far as it has entries."""
    write_libsvm(tmp_path / "old.libsvm")
    lines = [line.rpartition(" ")[0] for line in (tmp_path / "old.libsvm").read_text().splitlines()]
    (tmp_path / "new.libsvm").write_text("\n".join(lines) + "\n")
    _, old = train(tmp_path / "s", data=str(tmp_path / "old.libsvm"))
    assert train(tmp_path / "s", initial=old, data=str(tmp_path / "new.libsvm"))[1].features == 30


# --- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "error", "words", "hint"),
    [
        ({"model": "svm"}, JobError, "logistic_regression .* svm", "give model as it was"),
        ({"model": {"name": "lr", "bias": False}}, JobError, r"bias = true.*\(bias = false", "give model as it was"),
        ({"arrays": (cancer()[0][:, 1:], cancer()[1])}, DataError, "29 features.* 30", "columns"),
        ({"arrays": (cancer()[0], cancer()[1] + 1)}, DataError, "label 2", ""),
        ({"init_from": "nowhere"}, ModelError, r"nowhere: model\.json is missing", "directory of a model"),
    ],
)
def test_what_cannot_be_gone_on_from(
    tmp_path: Path, keys: dict[str, Any], error: type[LambdaMLError], words: str, hint: str
) -> None:
    record, _ = train(tmp_path / "s")
    settings: dict[str, Any] = {"init_from": record["model_path"], "workers": 2} | keys
    arrays = settings.pop("arrays", cancer())
    with pytest.raises(error, match=words) as caught:
        run_job(make_job(tmp_path / "other", **settings), arrays=arrays)
    assert hint in str(caught.value.hint)
    assert caught.value.exit_code == 2
    assert files_below(tmp_path / "other") == []
    assert children() == []


def test_a_partition_of_other_labels(tmp_path: Path) -> None:
    x, y = cancer()
    write_arrays(x, y + 1, open_storage(f"file://{tmp_path}/shards"), shards=2)
    _, model = train(tmp_path / "s")
    with pytest.raises(DataError, match="the labels 1, 2, and init_from was trained on 0, 1"):
        train(tmp_path / "s", initial=model, data=str(tmp_path / "shards"))


def test_two_models_to_go_on_from(tmp_path: Path) -> None:
    record, model = train(tmp_path)
    with pytest.raises(JobError, match="twice"):
        train(tmp_path, initial=model, init_from=record["model_path"])


def test_a_model_that_diverges_at_once(tmp_path: Path) -> None:
    """Parameters that are no numbers are told by the first round."""
    _, model = train(tmp_path)
    broken = SavedModel(np.full_like(model.params, np.nan), model.model, model.features, model.labels)
    with pytest.raises(WorkerFailed, match="diverged"):
        train(tmp_path, initial=broken)
