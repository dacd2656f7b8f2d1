"""Runs that are ready for their workers and have no driver: a law starts the workers itself, and looks at them."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from lambdaml_core.provider.base import Provider, WorkerRef
from lambdaml_core.run.driver.aggregators import settle
from lambdaml_core.run.driver.cleanup import remove_channel, remove_run
from lambdaml_core.run.driver.driver import new_run_name
from lambdaml_core.run.driver.plan import check_data, make_plan
from lambdaml_core.run.driver.prepare import make_spec, prepare_data
from lambdaml_core.run.job import Job
from lambdaml_core.run.records.attempts import beat_key, cancel_key, claim_key
from lambdaml_core.run.spec import DEPLOYMENT, RESULT, SPEC, get_all_json, put_json, run_store, sha256
from lambdaml_core.specs import Reference
from lambdaml_core.testing.provider_laws.jobs import HEARTBEAT_S, rows

T = TypeVar("T")

_LOOK_S = 0.02
SILENCE_S = 5 * HEARTBEAT_S
"""Without a sign of life, after which a worker that a provider cannot look at counts as gone."""


def as_json(value: Any) -> Any:
    """What becomes of a value on its way to another process."""
    return json.loads(json.dumps(value, allow_nan=False))


def eventually(look: Callable[[], T | None], what: str, patience_s: float) -> T:
    """What ``look`` returns at last.

    Raises:
        AssertionError: it has returned None for so long; ``what`` says what was waited for.
    """
    give_up = time.monotonic() + patience_s
    while (seen := look()) is None:
        assert time.monotonic() < give_up, f"{what}: not within {patience_s:g} s"
        time.sleep(_LOOK_S)
    return seen


class StagedRun:
    """One run.

    Args:
        provider: deploys, and launches.
        patience_s: what anything may take.
        flag: workers are told to end by the run's flag, too.

    Attributes:
        name, deployment: what a provider is told.
        scope, limit_s: by the plan.
        handles: of all that were launched.
    """

    def __init__(self, provider: Provider, job: Job, *, patience_s: float, flag: bool) -> None:
        self.name = new_run_name("law")
        self.handles: list[str] = []
        self.provider, self._patience_s, self._flag = provider, patience_s, flag
        plan = make_plan(job)
        self.scope = plan.scope
        self.limit_s: float | None = plan.provider_plan["max_duration_s"]
        self._root = plan.store.open()
        self.store = run_store(self._root, self.name)
        data = prepare_data(plan, self.name, self.store, rows(), None, lambda done, total: None)
        assert plan.channel is not None
        message_bytes = check_data(plan, data.manifest)
        settled = settle(job, plan.channel, message_bytes, plan.usd_per_worker_s)
        self.spec = make_spec(plan, self.name, plan.channel, data, None, message_bytes, settled)
        self.store.put(SPEC, [self.spec.encode()])
        self.deployment: Mapping[str, Any] = as_json(provider.deploy(as_json(plan.provider_plan)))
        put_json(self.store, DEPLOYMENT, self.deployment)
        self.launcher = provider.launcher(self.deployment)

    # --- what is done

    def ref(self, rank: int, attempt: int = 0) -> WorkerRef:
        """What a worker is started with."""
        place = self.spec.store
        digest = sha256(self.spec.encode())
        return WorkerRef(place.url, asdict(place.reference), self.name, 0, rank, attempt, digest)

    def failing_ref(self, rank: int, attempt: int, word: str) -> WorkerRef:
        """What a worker is started with that is to fail at once, and to print this word."""
        storage = Reference("storage", word, "lambdaml_core.no_such_module:Storage", "lambdaml_core.options:NoOptions")
        return self.ref(rank, attempt)._replace(storage=asdict(storage))

    def launch(self, ref: WorkerRef) -> str:
        """Start a worker; the handle that the launcher gives."""
        handle = self.launcher.launch(ref)
        assert isinstance(handle, str), f"a handle is a string, not {handle!r}: records and other processes keep it"
        self.handles.append(handle)
        return handle

    def start(self, *ranks: int) -> list[str]:
        """Start workers and wait until they have begun. The handles that they have themselves."""
        for rank in ranks:
            self.launch(self.ref(rank))
        return [self.begun(rank) for rank in ranks]

    def cancel(self, *, flag: bool | None = None) -> None:
        """End all workers, as a driver does it."""
        if self._flag if flag is None else flag:
            put_json(self.store, cancel_key(0), {"reason": "the law is over", "time_s": time.time()})
        known = list(dict.fromkeys([*self.handles, *(claim["handle"] for claim in self.claims())]))
        self.provider.cancel(self.deployment, self.name, known)

    def close(self) -> None:
        """Leave nothing; what the provider makes of it is for the laws to judge."""
        with contextlib.suppress(Exception):
            self.cancel(flag=True)
        with contextlib.suppress(Exception):
            self.provider.teardown(self.deployment)
        remove_channel(self._root, self.spec.channel, self.name)
        remove_run(self._root, self.name)
        self._root.close()

    # --- what is seen

    def claims(self) -> Sequence[Mapping[str, Any]]:
        """Of all processes that have begun."""
        return list(get_all_json(self.store, sorted(self.store.list("attempts/"))).values())

    def logs(self, rank: int | None) -> list[str]:
        """What the workers have printed up to now."""
        return list(self.provider.logs(self.deployment, self.name, rank, 0.0))

    def begun(self, rank: int, attempt: int = 0) -> str:
        """Wait until a worker has begun. Its own handle."""
        key = claim_key(0, rank, attempt)
        what = f"worker {rank} has begun (it claims its attempt in the store)"
        handle: str = self.await_record(key, what)["handle"]
        return handle

    def result(self) -> Mapping[str, Any]:
        """Wait for what rank 0 leaves at the end."""
        return self.await_record(RESULT, "the workers have trained")

    def await_record(self, key: str, what: str) -> Mapping[str, Any]:
        """Wait for a record of the run."""
        return self.eventually(lambda: get_all_json(self.store, [key]).get(key), what)

    def beat(self, rank: int) -> Mapping[str, Any] | None:
        """The last sign of life of a worker."""
        key = beat_key(0, rank)
        return get_all_json(self.store, [key]).get(key)

    def next_beat(self, rank: int) -> Mapping[str, Any]:
        """Wait for the next sign of life."""
        last = self.beat(rank)
        what = f"worker {rank} gives a sign of life"
        return self.eventually(lambda: beat if (beat := self.beat(rank)) != last else None, what)

    def word(self, handle: str) -> str:
        """What the provider says of a worker now, without the reason."""
        return self.provider.poll([handle])[handle].partition(":")[0]

    def ended(self, rank: int, handle: str, why: str) -> str:
        """Wait until a worker has ended: by the provider's word, or by its silence. The word."""

        def look() -> str | None:
            word = self.word(handle)
            if word == "unknown":
                return word if self._is_silent(rank) else None
            return word if word != "running" else None

        return self.eventually(look, f"worker {rank} has ended, {why}")

    def _is_silent(self, rank: int) -> bool:
        last = self.beat(rank)
        time.sleep(SILENCE_S)
        return self.beat(rank) == last

    def eventually(self, look: Callable[[], T | None], what: str) -> T:
        """As the function, with this run's patience."""
        return eventually(look, what, self._patience_s)
