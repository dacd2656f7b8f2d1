"""Jobs: one structure for TOML and keywords, checked whole before anything starts."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdaml_core.errors import DataError, JobError, LambdaMLError, OptionError, UnknownPlugin, URLError, UsageError
from lambdaml_core.run.job import Job, storage_url
from lambdaml_core.run.template import JOB_TEMPLATE


def test_defaults_are_those_of_the_template(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text(JOB_TEMPLATE)
    plain = Job.from_mapping({"data": str(tmp_path / "train.libsvm")})
    assert Job.from_toml(path) == plain
    assert (plain.workers, plain.epochs, plain.rounds, plain.aggregators) == (4, 10, None, 1)


def test_every_key_of_a_job_is_in_the_template() -> None:
    text = JOB_TEMPLATE
    for key in Job.from_mapping({}).to_mapping():
        assert key in text
    for table in ("data", "stop", "checkpoint", "recovery", "limits"):
        for key in Job.from_mapping({}).to_mapping()[table]:
            assert f"{key} = " in text
    assert tomllib.loads(text)


@given(
    workers=st.integers(1, 50),
    share=st.floats(0, 1),
    rounds=st.none() | st.integers(1, 10**6),
    bias=st.booleans(),
    layout=st.sampled_from(["auto", "dense", "sparse"]),
    evaluate=st.none() | st.integers(1, 10**6),
    class_weight=st.none() | st.just("balanced") | st.dictionaries(st.text(), st.floats(0, 1e6)),
    stop=st.fixed_dictionaries({"improvement": st.floats(0, 1)}, optional={"patience": st.integers(1, 9)})
    | st.fixed_dictionaries({}, optional={"loss": st.floats(-9, 9), "seconds": st.floats(1e-3, 1e9)}),
    checkpoint=st.fixed_dictionaries(
        {},
        optional={"enabled": st.booleans(), "rounds": st.none() | st.integers(1), "retain_bytes": st.integers(1)},
    ),
    recovery=st.fixed_dictionaries({}, optional={"heartbeat_s": st.floats(0.01, 9), "restarts": st.integers(0)}),
)
def test_a_job_survives_its_json(
    workers: int,
    share: float,
    rounds: int | None,
    bias: bool,
    layout: str,
    evaluate: int | None,
    class_weight: Any,
    stop: Any,
    checkpoint: Any,
    recovery: Any,
) -> None:
    job = Job.from_mapping(
        {
            "workers": workers,
            "aggregators": max(1, round(share * workers)),
            "rounds": rounds,
            "model": {"name": "lr", "bias": bias},
            "data": {"source": "a.libsvm", "format": {"name": "libsvm", "layout": layout}},
            "evaluate": evaluate,
            "class_weight": class_weight,
            "stop": stop,
            "checkpoint": checkpoint,
            "recovery": recovery,
            "init_from": "my-model",
        }
    )
    assert Job.from_mapping(json.loads(json.dumps(job.to_mapping()))) == job
    assert Job.from_mapping(job.to_mapping()) == job


@pytest.mark.parametrize(
    ("word", "number"),
    [
        (1, 1),
        ("3", 3),
        ("all", 5),
        ("allreduce", 1),
        ("reduce", 1),
        ("scatter-reduce", 5),
        ("scatter_reduce", 5),
        ("reduce_scatter", 5),
    ],
)
def test_words_for_aggregators(word: Any, number: int) -> None:
    assert Job.from_mapping({"workers": 5, "aggregators": word}).aggregators == number


def test_words_of_the_repository() -> None:
    words = {"model": "sparse_lr", "optimizer": "grad_avg", "data": {"source": "x", "format": "sparse_libsvm"}}
    job = Job.from_mapping(words)
    assert (job.model.name, job.optimizer.name) == ("logistic_regression", "ga_sgd")
    assert job.data.format is not None
    assert job.data.format.values["layout"] == "sparse"
    dense = Job.from_mapping({"data": {"source": "x", "format": "dense_libsvm"}}).data.format
    assert dense is not None
    assert (dense.name, dense.values["layout"]) == ("libsvm", "dense")


@pytest.mark.parametrize(
    ("values", "error", "path", "hint"),
    [
        ({"workrs": 2}, JobError, "workrs", "did you mean workers?"),
        ({"data": {"validaton": 0.1}}, JobError, "data.validaton", "did you mean validation?"),
        ({"optimizer": {"learning_rat": 1}}, OptionError, "optimizer.learning_rat", "did you mean learning_rate?"),
        ({"model": {"name": "lr", "bais": True}}, OptionError, "model.bais", "did you mean bias?"),
        ({"data": {"format": {"name": "libsvm", "layot": "dense"}}}, OptionError, "data.format.layot", "layout"),
        ({"provider": {"name": "local", "cpu": 1}}, OptionError, "provider.cpu", "max_duration_s"),
        ({"workers": 0}, OptionError, "workers", ""),
        ({"workers": "many"}, OptionError, "workers", ""),
        ({"workers": True}, OptionError, "workers", ""),
        ({"batch_size": 0}, OptionError, "batch_size", ""),
        ({"epochs": 0}, OptionError, "epochs", ""),
        ({"data": {"validation": 1.0}}, OptionError, "data.validation", ""),
        ({"data": {"format": {"layout": "dense"}}}, JobError, "data.format.name", "lambdaml plugins"),
        ({"data": {"source": 3}}, JobError, "data.source must be a path or a URL, not 3", "source ="),
        ({"data": {"source": ""}}, JobError, "data.source", "source ="),
        (
            {"data": {"source": "memory://x", "validation": 0.2}},
            JobError,
            "data.validation",
            "leave data.validation out",
        ),
        ({"data": {"source": "memory://x", "shards": 7}}, JobError, "data.shards", "partition the source again"),
        (
            {"data": {"source": "memory://x", "format": {"drop": ["x"]}}},
            JobError,
            "data.format",
            "partition the source",
        ),
        ({"channel": ""}, JobError, "channel is empty", "file://"),
        ({"init_from": ""}, JobError, "init_from is empty", "path"),
        ({"evaluate": 0}, OptionError, "evaluate", ""),
        ({"stop": {"los": 0.1}}, OptionError, "stop.los", "did you mean loss?"),
        ({"stop": {"seconds": 0}}, OptionError, "stop.seconds", ""),
        ({"stop": {"improvement": -0.1}}, OptionError, "stop.improvement", ""),
        ({"stop": {"patience": 2}}, OptionError, "stop.patience", "improvement"),
        ({"stop": 0.3}, JobError, "stop must be a table", "loss"),
        ({"checkpoint": {"round": 5}}, OptionError, "checkpoint.round", "did you mean rounds?"),
        ({"checkpoint": False}, JobError, "checkpoint must be a table", "seconds"),
        ({"recovery": {"deadline_s": 0}}, OptionError, "recovery.deadline_s", ""),
        ({"class_weight": "balance"}, JobError, "class_weight", "balanced"),
        ({"class_weight": {"spam": -1}}, JobError, "class_weight", "weight 0"),
        ({"class_weight": {"spam": "much"}}, OptionError, "class_weight", ""),
        ({"class_weight": 2}, OptionError, "class_weight", ""),
        ({"init_from": "s3://u:hunter2@bucket/model"}, JobError, "init_from", "{env:NAME}"),
        ({"data": {"source": "rows.table", "format": {"label": "y"}}}, DataError, "rows.table", "name the format"),
        ({"name": "two words"}, JobError, "name", "letters"),
        ({"name": "../up"}, JobError, "name", "letters"),
        ({"model": 3}, JobError, "model", ""),
        ({"model": "svn"}, UnknownPlugin, "svn", ""),
        ({"aggregators": 5}, JobError, "aggregators", "1 to workers"),
        ({"aggregators": 0}, OptionError, "aggregators", ""),
        ({"aggregators": "some"}, JobError, "aggregators", "auto"),
        ({"aggregators": 1.5}, OptionError, "aggregators", ""),
        ({"store": "redis://:hunter2@cache"}, JobError, "store", "{env:NAME}"),
        ({"channel": "s3://bucket?secret_key=hunter2"}, JobError, "channel", "{env:NAME}"),
        ({"data": "s3://u:hunter2@bucket/x"}, JobError, "data.source", "{env:NAME}"),
        ({"store": "://"}, URLError, "", ""),
    ],
)
def test_refusals(values: dict[str, Any], error: type[LambdaMLError], path: str, hint: str) -> None:
    with pytest.raises(error) as caught:
        Job.from_mapping(values)
    assert path in caught.value.message
    assert hint in (caught.value.hint or "")
    assert caught.value.exit_code == 2
    assert "hunter2" not in str(caught.value) + str(caught.value.hint)


@pytest.mark.parametrize("text", ["workers = ", "\xff"])
def test_a_file_that_is_no_toml(tmp_path: Path, text: str) -> None:
    path = tmp_path / "job.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(JobError, match=r"job\.toml is not TOML"):
        Job.from_toml(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="cannot be read") as caught:
        Job.from_toml(tmp_path / "job.toml")
    assert "--template" in (caught.value.hint or "")


def test_paths_start_from_the_file_and_those_of_overrides_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "manifest.json").write_text("")
    path = tmp_path / "jobs" / "job.toml"
    path.write_text('store = "runs"\n[data]\nsource = "../train.libsvm"\nfeatures = 3\n')
    monkeypatch.chdir(tmp_path)
    job = Job.from_toml(path)
    assert job.store == f"file://{tmp_path}/jobs/runs"
    assert job.data.source == f"{tmp_path}/train.libsvm"
    changed = Job.from_toml(path, {"store": "here", "data": {"source": "shards"}})
    assert changed.store == f"file://{tmp_path}/here"
    assert changed.data.source == f"file://{tmp_path}/shards"
    assert changed.data.features == 3
    assert changed.data.validation is None
    assert Job.from_mapping(changed.to_mapping()) == changed
    for source in ('""', "3"):
        path.write_text(f"[data]\nsource = {source}")
        with pytest.raises(JobError, match=r"data\.source"):
            Job.from_toml(path)
    with pytest.raises(JobError, match=r"data\.source"):
        Job.from_toml(path, {"data": {"source": 3}})


def test_a_folder_is_data_unless_it_has_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "manifest.json").write_text("")
    sources = {
        name: Job.from_mapping({"data": name}, base=tmp_path).data.source for name in ("rows", "shards", "*.csv")
    }
    assert sources == {
        "rows": f"{tmp_path}/rows",
        "shards": f"file://{tmp_path}/shards",
        "*.csv": f"{tmp_path}/*.csv",
    }


def test_options_of_a_format_go_without_its_name_where_files_tell_it() -> None:
    form = Job.from_mapping({"data": {"source": "a.csv", "format": {"label": "income", "drop": ["id"]}}}).data.format
    assert form is not None
    assert (form.name, form.values["label"], tuple(form.values["drop"])) == ("csv", "income", ("id",))


def test_a_model_to_go_on_from_starts_from_the_file_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jobs").mkdir()
    path = tmp_path / "jobs" / "job.toml"
    path.write_text('init_from = "mine"')
    monkeypatch.chdir(tmp_path)
    assert Job.from_toml(path).init_from == f"file://{tmp_path}/jobs/mine"
    assert Job.from_toml(path, {"init_from": "other"}).init_from == f"file://{tmp_path}/other"


def test_labels_from_python_may_be_numbers() -> None:
    assert Job.from_mapping({"class_weight": {0: 1, -1.5: 2}}).class_weight == {"0": 1.0, "-1.5": 2.0}


def test_secrets_from_the_environment_stay_references() -> None:
    assert storage_url("redis://u:{env:PW}@h:1/0?password={env:PW}", "store").count("{env:PW}") == 2


@pytest.mark.parametrize("password", ["x{env:PW}", "{env:PW}x", "{env:}", "{PW}"])
def test_half_a_reference_is_a_secret(password: str) -> None:
    with pytest.raises(UsageError):
        storage_url(f"redis://u:{password}@h", "store")


def test_the_default_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LAMBDAML_STORE", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert Job.from_mapping({}).store == f"file://{tmp_path}/lambdaml"
    monkeypatch.setenv("LAMBDAML_STORE", "memory://mine")
    assert Job.from_mapping({}).store == "memory://mine"
