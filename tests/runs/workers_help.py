"""Workers of a real run without a driver. They are threads or processes, and start their successors themselves."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from runs_help import cancer, make_job

from lambdaml_core.provider.base import Provider, WorkerRef
from lambdaml_core.run.driver.aggregators import settle
from lambdaml_core.run.driver.plan import check_data, make_plan
from lambdaml_core.run.driver.prepare import make_spec, prepare_data
from lambdaml_core.run.modelfile import WEIGHTS
from lambdaml_core.run.spec import DEPLOYMENT, RESULT, SPEC, Place, Spec, get_json, put_json, run_store, sha256
from lambdaml_core.run.worker.leaving import Moment, TimeUp
from lambdaml_core.run.worker.succession import TimeLimit
from lambdaml_core.run.worker.worker import run_worker
from lambdaml_core.storage import FullStorage, open_storage

RUN = "a-run"


class Run:
    """A run that is ready for its workers: partition, specification and deployment are in the store."""

    def __init__(self, folder: Path, **keys: Any) -> None:
        keys = {"workers": 3, "provider": "inline", "recovery": {"heartbeat_s": 0.1}} | keys
        plan = make_plan(make_job(folder / "store", **keys))
        self.root = open_storage(f"file://{folder}/store")
        self.store: FullStorage = run_store(self.root, RUN)
        data = prepare_data(plan, RUN, self.store, cancer(), None, lambda done, total: None)
        channel = plan.channel or Place.of(f"file://{folder}/channel")
        message_bytes = check_data(plan, data.manifest)
        settled = settle(plan.job, channel, message_bytes, plan.usd_per_worker_s)
        self.spec: Spec = make_spec(plan, RUN, channel, data, None, message_bytes, settled)
        self.provider: Provider = plan.provider
        self.deployment = self.provider.deploy(plan.provider_plan)
        self.store.put(SPEC, [self.spec.encode()])
        put_json(self.store, DEPLOYMENT, self.deployment)

    def ref(self, rank: int, attempt: int = 0, generation: int = 0) -> WorkerRef:
        """What a worker is started with."""
        place = self.spec.store
        return WorkerRef(
            store=place.url,
            storage=dataclasses.asdict(place.reference),
            run=RUN,
            generation=generation,
            rank=rank,
            attempt=attempt,
            spec_sha256=sha256(self.spec.encode()),
        )

    def change(self, **values: Any) -> None:
        """Workers that are started from now on have these in their specification."""
        self.spec = dataclasses.replace(self.spec, **values)
        self.store.put(SPEC, [self.spec.encode()])

    def result(self) -> dict[str, Any]:
        """What rank 0 left at the end."""
        return get_json(self.store, RESULT)

    def read(self, prefix: str) -> dict[str, dict[str, Any]]:
        """All records below a prefix."""
        return {key: get_json(self.store, key) for key in sorted(self.store.list(prefix))}

    def events(self, event: str) -> list[dict[str, Any]]:
        """Events of a kind, in order."""
        return [e for e in self.read("events/").values() if e["event"] == event]


class Counted(TimeLimit):
    """A time limit by what is done, since a clock would make of each test another one on every machine.

    Attributes:
        looks: of each moment, how often an attempt may look for the time before it is up.
        rounds: that an attempt does.
    """

    looks: ClassVar[Mapping[str, float]] = {}
    rounds: ClassVar[float] = math.inf

    def __init__(self, remaining_s: float) -> None:
        super().__init__(remaining_s)
        self._left = {"wait": math.inf, "work": math.inf} | dict(self.looks)
        self._rounds_left = self.rounds

    def check(self, moment: Moment) -> None:
        self._left[moment] -= 1
        if self._left[moment] < 0:
            raise TimeUp(moment)

    def leaves_no_round(self, waited_s: float) -> bool:
        self._rounds_left -= 1
        return self._rounds_left <= 0


class Threads:
    """Workers as threads.

    Args:
        copies: how many successors are started where one is asked for.
    """

    def __init__(self, run: Run, *, copies: int = 1) -> None:
        self.run, self.copies = run, copies
        self.codes: list[tuple[int, int, int]] = []  # rank, attempt and exit code, as they end
        self.logs: list[str] = []
        self.stops: dict[tuple[int, int], threading.Event] = {}  # of those that are to have one, by rank and attempt
        self._threads: dict[threading.Thread, WorkerRef] = {}
        self._lock = threading.Lock()

    def launch(self, ref: WorkerRef) -> str:
        for _ in range(self.copies if ref.attempt else 1):
            thread = threading.Thread(target=self._work, args=(ref,))
            with self._lock:
                self._threads[thread] = ref
                thread.start()
        return f"{ref.rank}/{ref.attempt}"

    def start(self, *, attempt: int = 0, generation: int = 0) -> Threads:
        """All ranks."""
        for rank in range(self.run.spec.workers):
            self.launch(self.run.ref(rank, attempt, generation))
        return self

    def wait(self, rank: int | None = None) -> Threads:
        """Until none runs, successors included; or the newest attempt of a rank."""
        while going_on := self._going_on(rank):
            going_on[-1].join()
            if rank is not None:
                return self
        return self

    def _going_on(self, rank: int | None) -> list[threading.Thread]:
        with self._lock:
            return [t for t, ref in self._threads.items() if t.is_alive() and rank in (None, ref.rank)]

    def _work(self, ref: WorkerRef) -> None:
        stop = self.stops.get((ref.rank, ref.attempt), threading.Event())
        code = run_worker(ref, launcher=_Launcher(self, ref), stop=stop, log=self.logs.append)
        with self._lock:
            self.codes.append((ref.rank, ref.attempt, code))


class _Launcher:
    """That of one thread."""

    def __init__(self, threads: Threads, ref: WorkerRef) -> None:
        self._threads, self._ref = threads, ref

    def launch(self, ref: WorkerRef) -> str:
        return self._threads.launch(ref)

    def handle(self) -> str:
        return f"{self._ref.rank}/{self._ref.attempt}"

    def remaining_s(self) -> float:
        return math.inf


def quiet_sha256(folder: Path, keys: Mapping[str, Any]) -> str:
    """The model of the undisturbed run."""
    run = Run(folder, **keys)
    Threads(run).start().wait()
    sha: str = run.result()["files"][WEIGHTS]
    return sha
