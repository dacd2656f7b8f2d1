"""The fixtures that the laws of providers are written with."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import pytest

from lambdaml_core.provider.base import Provider
from lambdaml_core.run.driver.needs import job_for_provider
from lambdaml_core.run.job import Job
from lambdaml_core.specs import Reference
from lambdaml_core.testing.base import Laws
from lambdaml_core.testing.provider_laws.jobs import make_job
from lambdaml_core.testing.provider_laws.stage import StagedRun, as_json

Stage: TypeAlias = Callable[..., StagedRun]

_SECRET = re.compile(r"SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|PRIVATE|API_?KEY|ACCESS_?KEY")
_LEAST_SECRET = 8  # characters; what is shorter occurs by chance


class WithProvider(Laws):
    """An author gives ``provider``; the rest is made from it."""

    @pytest.fixture
    def provider(self) -> Provider:
        """The provider, as ``factory(options)`` builds it."""
        raise NotImplementedError("give your provider to the laws: override the fixture `provider`")

    @pytest.fixture
    def reference(self, provider: Provider) -> Reference:
        """How any process builds this provider: by its class and its options, whether or not it is installed."""
        return refer_to(provider)

    @pytest.fixture
    def job(self, reference: Reference, tmp_path: Path) -> Mapping[str, Any]:
        """A job as a provider's plan is given it."""
        return described(make_job(reference, f"file://{tmp_path}/store", workers=2, rounds=8))

    @pytest.fixture(autouse=True)
    def temporary(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """The folder for temporary files: what is left there is left by the provider."""
        folder = tmp_path / "temporary"
        folder.mkdir()
        monkeypatch.setenv("TMPDIR", str(folder))
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        return folder

    @pytest.fixture(autouse=True)
    def secret(self, monkeypatch: pytest.MonkeyPatch) -> str:
        """A secret in the environment, as a storage's password would be."""
        value = f"law-{secrets.token_hex(8)}"
        monkeypatch.setenv("LAMBDAML_LAW_SECRET", value)
        return value


class WithWorkers(WithProvider):
    """What laws need that start workers."""

    patience_s: ClassVar[float] = 60.0
    """Seconds after which what a worker should have done counts as not done: to start, above all."""

    cancels: ClassVar[bool] = True
    """False for a provider that can end no worker from here: these end by the run's flag alone."""

    @pytest.fixture
    def store(self, provider: Provider, job: Mapping[str, Any], tmp_path: Path) -> str:
        """URL of a storage that the workers reach: a folder, where they are on this machine."""
        if provider.plan(job)["scope"] == "network":
            pytest.fail("the workers are on other machines: override the fixture `store`, a URL that they reach too")
        return f"file://{tmp_path}/store"

    @pytest.fixture
    def stage(self, provider: Provider, reference: Reference, store: str) -> Iterator[Stage]:
        """A function that prepares a run with so many ranks; whatever it starts ends with the law."""
        with contextlib.ExitStack() as stack:

            def prepare(*, ranks: int, rounds: int = 8, by: Provider | None = None) -> StagedRun:
                job = make_job(reference, store, workers=ranks, rounds=rounds)
                run = StagedRun(by or provider, job, patience_s=self.patience_s, flag=not self.cancels)
                stack.callback(run.close)
                return run

            yield prepare


def refer_to(provider: Provider) -> Reference:
    """How any process builds a provider.

    Raises:
        AssertionError: it does not say what it was built with, or that is no JSON.
    """
    kind, options = type(provider), getattr(provider, "options", None)
    assert dataclasses.is_dataclass(options), "a provider keeps the options it was built with, as `self.options`"
    assert not isinstance(options, type)
    where = {each: f"{each.__module__}:{each.__qualname__}" for each in (kind, type(options))}
    name = kind.__name__.lower()
    return Reference("provider", name, where[kind], where[type(options)], as_json(dataclasses.asdict(options)))


def described(job: Job) -> Mapping[str, Any]:
    """The job as JSON, as a driver gives it to a provider."""
    values: Mapping[str, Any] = as_json(job_for_provider(job))
    return values


def environment_secrets() -> dict[str, str]:
    """What the environment has under names that say it is secret."""
    return {n: v for n, v in os.environ.items() if _SECRET.search(n.upper()) and len(v) >= _LEAST_SECRET}


def check_no_secret(text: str, where: str) -> None:
    """Fail where a secret of the environment is in a text; the message has its name, and not the secret."""
    found = [name for name, value in environment_secrets().items() if value in text]
    assert not found, f"{where} has the value of the environment's {found[0]}"
