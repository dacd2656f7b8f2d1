"""What a provider is told that workers need: packages and names of secrets, and no more."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from runs_help import make_job
from workers_help import Run

from lambdaml_core.run.driver.needs import job_for_provider, run_for_provider
from lambdaml_core.run.job import Job
from lambdaml_core.run.spec import ENTRY, Place
from lambdaml_core.specs import Reference


def refer(kind: str, package: str, inner: Reference | None = None) -> Reference:
    return Reference(kind, package, f"{package}.deep.down:Factory", f"{package}_options:Options", inner=inner)


def test_of_built_in_plugins_the_core_is_enough(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    told = job_for_provider(job)
    assert told == {**job.to_mapping(), "entry": ENTRY, "modules": ["lambdaml_core"], "environment": []}
    assert Job.from_mapping(job.to_mapping()) == job


def test_every_plugin_of_a_run_with_its_options_and_layers(tmp_path: Path) -> None:
    spec = dataclasses.replace(
        Run(tmp_path).spec,
        model=refer("model", "tree"),
        optimizer=refer("optimizer", "newton"),
        pattern=refer("communicator", "ring"),
        provider=refer("provider", "cloud"),
        store=Place("bucket://{env:BUCKET_KEY}@there/{env:FOLDER}", refer("storage", "bucket")),
        channel=Place("zip+cache://:{env:CACHE}@there", refer("storage_layer", "zipped", refer("storage", "cache"))),
        data=Place("rows://there?key={env:FOLDER}", refer("storage", "rows")),
    )
    told = run_for_provider(spec)
    packages = ("tree", "newton", "ring", "cloud", "bucket", "zipped", "cache", "rows")
    assert told["modules"] == sorted(["lambdaml_core", *packages, *(f"{package}_options" for package in packages)])
    assert told["environment"] == ["BUCKET_KEY", "CACHE", "FOLDER"]
    assert told["entry"] == ENTRY
    assert told["workers"] == spec.workers


def test_secrets_of_store_channel_and_data_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a model to go on from are not among them: only the driver reads it."""
    for name in ("A", "B", "C", "D"):
        monkeypatch.setenv(name, f"the-value-of-{name}")
    job = make_job(
        f"file://{tmp_path}/{{env:C}}",
        data=f"file://{tmp_path}/{{env:A}}",
        channel=f"fault+file://{tmp_path}/{{env:B}}",
        init_from=f"file://{tmp_path}/{{env:D}}",
    )
    told = job_for_provider(job)
    assert told["environment"] == ["A", "B", "C"]
    assert "the-value-of" not in str(told)


@pytest.mark.parametrize("keys", [{}, {"channel": "fault+file:///nowhere"}, {"provider": "inline"}])
def test_a_run_that_goes_on_needs_what_it_began_with(tmp_path: Path, keys: dict[str, str]) -> None:
    run = Run(tmp_path, **keys)
    assert run_for_provider(run.spec) == job_for_provider(Job.from_mapping(run.spec.job))
