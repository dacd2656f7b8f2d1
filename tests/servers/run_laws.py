"""What holds of runs over any server.

A module has a class of these tests, and fixtures of its own: ``server``, which runs; ``url`` of a place on it; and
``left``, which says how many keys are on it, by another client than ours.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import pytest
from servers_help import LONG, SIZE, harmed, lambdaml, late, model_of_files, train, write_job

from lambdaml_core.run.driver.remote import clean
from lambdaml_core.storage import StorageURL
from lambdaml_core.testing.servers import Server


class RunsOverAServer:
    store: ClassVar[bool] = False
    """Whether runs are kept there as well, and not in files."""

    @pytest.fixture
    def kept(self, url: str, tmp_path: Path) -> str:
        """The store of runs."""
        return url if self.store else tmp_path.as_uri()

    @pytest.mark.parametrize("aggregators", [1, SIZE])
    def test_the_model_is_that_of_files(self, aggregators: int, url: str, kept: str, left: Callable[[], int]) -> None:
        record = train(kept, url, aggregators=aggregators)
        assert record["model_sha256"] == model_of_files()
        assert record["exact"]
        assert record["channel"] == str(StorageURL.parse(url))
        if not self.store:
            assert left() == 0, "messages go when the run ends"
        assert clean(kept) == [record["run"]]
        assert left() == 0

    def test_processes_get_it_too(self, url: str, kept: str, left: Callable[[], int]) -> None:
        record = train(kept, url, aggregators=2, workers=2, provider="local")
        assert record["model_sha256"] == model_of_files(workers=2, provider="local")
        clean(kept)
        assert left() == 0

    def test_two_runs_at_once_do_not_touch_each_other(self, url: str, kept: str, left: Callable[[], int]) -> None:
        seeds = (1, 2)
        with ThreadPoolExecutor(len(seeds)) as pool:
            records = [*pool.map(lambda seed: train(kept, url, seed=seed, aggregators=seed), seeds)]
        models = [record["model_sha256"] for record in records]
        assert models == [model_of_files(seed=seed) for seed in seeds]
        assert models[0] != models[1]
        assert clean(kept, records[0]["run"]) == [records[0]["run"]]
        assert clean(kept) == [records[1]["run"]]
        assert left() == 0

    def test_the_plan_is_what_a_run_does(
        self, url: str, kept: str, left: Callable[[], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        job = str(write_job(tmp_path, kept, url))
        measured = lambdaml(capsys, "plan", job, "--measure")
        assert measured["measured"]
        assert measured["latency_s"] > 0
        planned = lambdaml(capsys, "plan", job)
        assert [option["aggregators"] for option in planned["options"]] == [*range(1, SIZE + 1)]
        assert all(option["round"]["put"] >= SIZE for option in planned["options"])
        record = lambdaml(capsys, "train", job)
        assert record["aggregators"] == planned["best"]
        lambdaml(capsys, "clean", record["run"], "--store", kept)
        assert left() == 0

    def test_doctor_and_bench_speak_to_it(
        self, url: str, left: Callable[[], int], capsys: pytest.CaptureFixture[str]
    ) -> None:
        role = "--store" if self.store else "--channel"
        seen = lambdaml(capsys, "doctor", role, url)
        assert [f for f in seen["findings"] if f["group"] == role[2:] and f["state"] == "problem"] == []
        assert left() == 0
        sizes = ("--workers", "2", "--sizes", "1KB", "--repeats", "3")
        rows = lambdaml(capsys, "bench", "collectives", "--storage", url, *sizes)["rows"]
        assert [row["aggregators"] for row in rows] == [1, 2]
        assert all(row["median_s"] > 0 and row["raw_s"] > 0 for row in rows)


class RunsOverAServerThatComesBack(RunsOverAServer):
    """One that goes on with what it had, or with nothing."""

    def test_a_server_that_is_killed_and_restarted(
        self, url: str, kept: str, server: Server, left: Callable[[], int]
    ) -> None:
        """A channel comes back empty: messages are created again, or all start again from the newest checkpoint."""

        def restart() -> None:
            server.kill()
            server.start()

        record = harmed(kept, late(url), restart, recovery={"deadline_s": 2.0, "heartbeat_s": 0.2})
        assert record["model_sha256"] == model_of_files(rounds=LONG["rounds"])
        clean(kept)
        assert left() == 0
