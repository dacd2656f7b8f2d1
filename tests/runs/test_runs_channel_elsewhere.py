"""A channel that workers reach and their driver does not, as a cache in a private network of a cloud."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from runs_help import cancer, make_job

from lambdaml_core.errors import StorageUnavailable
from lambdaml_core.options import NoOptions
from lambdaml_core.provider.inline import InlineProvider
from lambdaml_core.run.driver.cleanup import empty_channel_from_here
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.job import Job
from lambdaml_core.run.records.records import list_runs, read_spec
from lambdaml_core.storage import StorageURL, open_storage
from lambdaml_core.storage.base import Parts
from lambdaml_core.storage.memory import MemoryStorage


class Cloud(MemoryStorage):
    """Everybody reaches a store. To a cache, the thread of the driver has no way."""

    caps = replace(MemoryStorage.caps, scope="network", durable=True)

    def __init__(self, url: StorageURL, options: NoOptions) -> None:
        super().__init__(url, options)
        self._cache = url.host.startswith("cache")

    def put_many(
        self, items: Mapping[str, Parts], *, if_absent: bool = False, ttl_s: float | None = None
    ) -> Collection[str]:
        self._reach()
        return super().put_many(items, if_absent=if_absent, ttl_s=ttl_s)

    def get_many(self, keys: Sequence[str], *, wait_s: float = 0.0) -> Mapping[str, bytes]:
        self._reach()
        return super().get_many(keys, wait_s=wait_s)

    def delete(self, keys: Iterable[str]) -> None:
        self._reach()
        super().delete(keys)

    def list(self, prefix: str) -> Iterator[str]:
        self._reach()
        return super().list(prefix)

    def _reach(self) -> None:
        if self._cache and threading.current_thread() is threading.main_thread():
            raise StorageUnavailable("there is no way to the cache")


class Elsewhere(InlineProvider):
    """Workers that meet over a network."""

    def plan(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**super().plan(job), "scope": "network"}


@pytest.fixture
def job(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setattr("lambdaml_core.storage.memory.MemoryStorage", Cloud)
    name = request.node.name.replace("_", "-")
    return make_job(f"memory://store-{name}", workers=2, provider="inline", channel=f"memory://cache-{name}")


def test_workers_use_it_and_the_driver_says_that_it_cannot(
    job: Job, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The model is that of a channel that everybody reaches. Where all start again, it is left as it is."""
    monkeypatch.setattr("lambdaml_core.provider.inline.InlineProvider", Elsewhere)

    record = run_job(job, arrays=cancer())
    assert "there is no way to the cache" in caplog.text
    assert "workers may reach it all the same" in caplog.text
    quiet = run_job(replace(job, channel=job.store), arrays=cancer())
    assert record["model_sha256"] == quiet["model_sha256"]
    with contextlib.closing(open_storage(job.store)) as store:
        spec = read_spec(store, record["run"])
        empty_channel_from_here(store, spec)
        with pytest.raises(StorageUnavailable, match="no way"):
            empty_channel_from_here(store, replace(spec, scope="process"))


def test_workers_of_the_same_process_reach_no_more(job: Job) -> None:
    with pytest.raises(StorageUnavailable, match=r"the channel memory://cache-.* there is no way to the cache"):
        run_job(job, arrays=cancer())
    assert list_runs(job.store) == []
