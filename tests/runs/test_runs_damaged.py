"""Runs whose records cannot be read: told by name, and no other run is hidden by them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from runs_help import cancer, make_job

from lambdaml_core.errors import RunError, RunNotFound
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.driver.remote import clean
from lambdaml_core.run.records.history import read_history
from lambdaml_core.run.records.records import RunRecord, list_runs, model_files, read_run
from lambdaml_core.run.spec import SCHEMA


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def runs(store: Path) -> list[RunRecord]:
    return [run_job(make_job(store, workers=1, rounds=2, provider="inline"), arrays=cancer()) for _ in range(2)]


TEXTS = ["", "{", "[]", '"word"', "3", "null", "[" * 100_000, "\udcff"]


STATE = ["spec.json", "driver.json", "result.json", "end/0.json"]
"""What tells how a run went, which ``clean`` has to know, too."""


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
@pytest.mark.parametrize("file", [*STATE, "ends/0/0.json", "beats/0/0.json"])
def test_damaged_records_are_those_of_a_run_and_hide_no_other(
    store: Path, runs: list[RunRecord], file: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole, damaged = (run["run"] for run in runs)
    url, path = f"file://{store}", store / "runs" / damaged / file
    before = path.read_bytes()
    path.write_bytes(text.encode(errors="surrogateescape"))
    try:
        looks: list[Callable[[str, str], object]] = [read_run, read_history]
        for look in [*looks, clean] if file in STATE else looks:
            with pytest.raises(RunError, match=f"the run {damaged} are damaged: .*{file} is no JSON") as caught:
                look(url, damaged)
            assert "\n" not in caught.value.message
            assert damaged in str(caught.value.hint)
        assert [run["run"] for run in list_runs(url)] == [whole]
        assert damaged in caplog.text
    finally:
        path.write_bytes(before)


def test_a_specification_that_lacks_something(store: Path, runs: list[RunRecord]) -> None:
    path = store / "runs" / runs[1]["run"] / "spec.json"
    before = path.read_text()
    try:
        for text in (
            before.replace('"workers"', '"workrs"'),
            f'{{"schema": {SCHEMA}}}',
            before.replace('"stop": {', '"stop": [{'),
        ):
            path.write_text(text)
            with pytest.raises(RunError, match="damaged"):
                read_run(f"file://{store}", runs[1]["run"])
    finally:
        path.write_text(before)


def test_a_model_of_a_damaged_run(store: Path, runs: list[RunRecord]) -> None:
    path = store / "runs" / runs[1]["run"] / "result.json"
    before = path.read_text()
    try:
        path.write_text("{}")
        with pytest.raises(RunError, match=f"{runs[1]['run']} are damaged"):
            model_files(f"file://{store}", runs[1]["run"])
    finally:
        path.write_text(before)


@pytest.mark.parametrize("name", ["../x", "", "a//b", "x" * 300, "no body", "x" * 50])
def test_a_name_that_no_run_can_have(store: Path, name: str) -> None:
    for look in (read_run, model_files, clean, read_history):
        with pytest.raises(RunNotFound) as caught:
            look(f"file://{store}", name)
        assert len(caught.value.message) < 200
