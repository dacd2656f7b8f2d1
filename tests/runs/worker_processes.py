"""Workers of a real run as processes, without a driver, which tests harm."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from held_runs import Gate
from workers_help import RUN, Run

from lambdaml_core.provider.base import Launcher
from lambdaml_core.run.code import pack
from lambdaml_core.run.records.attempts import beat_key, end_key
from lambdaml_core.run.spec import CODE, get_all_json


class Processes:
    """The processes of a run, which stand still where its gate says, if there is one: else it might end before it is
    harmed."""

    def __init__(self, folder: Path, gate: Gate | None, keys: dict[str, Any]) -> None:
        own = {} if gate is None else {"code": gate.code}
        self.run = Run(folder, **(keys | own), provider="local")
        if gate is not None:
            code = pack(gate.code)
            self.run.store.put(CODE, [code.data])
            self.run.change(code=code.sha256)
        self.launcher: Launcher = self.run.provider.launcher(self.run.deployment)
        self.handles: list[str] = []

    def launch(self, rank: int, attempt: int = 0) -> str:
        self.handles.append(self.launcher.launch(self.run.ref(rank, attempt)))
        return self.handles[-1]

    def record(self, key: str) -> dict[str, Any] | None:
        return get_all_json(self.run.store, [key]).get(key)

    def until(self, happened: Callable[[], Any]) -> Any:
        """Wait for something."""
        end = time.monotonic() + 120
        while not (found := happened()):
            assert time.monotonic() < end, self.run.read("errors/")
            time.sleep(0.01)
        return found

    def until_round(self, rank: int, round: int, attempt: int = 0) -> None:
        """Until a rank has said that it is so far."""

        def is_there() -> bool:
            beat = self.record(beat_key(0, rank))
            return beat is not None and (beat["attempt"], beat["round"]) >= (attempt, round)

        self.until(is_there)

    def until_ended(self) -> None:
        """All ranks, with what they had to do."""
        self.until(lambda: all(self.record(end_key(0, rank)) for rank in range(self.run.spec.workers)))

    def close(self) -> None:
        provider = self.run.provider
        provider.cancel(self.run.deployment, RUN, self.handles)
        provider.poll(self.handles)
        provider.teardown(self.run.deployment)
        self.run.root.close()


@contextlib.contextmanager
def started_processes(folder: Path, gate: Gate | None, keys: dict[str, Any]) -> Iterator[Processes]:
    """Of all ranks of this job; nothing is left of them."""
    workers = Processes(folder, gate, keys)
    try:
        for rank in range(workers.run.spec.workers):
            workers.launch(rank)
        yield workers
    finally:
        workers.close()
