"""Watching over the workers of a run: looks at them, does what the supervisor decides, and tells of it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from lambdaml_core.errors import RunCancelled, StorageUnavailable, WorkerFailed
from lambdaml_core.provider import processes
from lambdaml_core.provider.base import Provider, WorkerRef
from lambdaml_core.run.driver.bill import Bill
from lambdaml_core.run.driver.cleanup import empty_channel_from_here
from lambdaml_core.run.driver.finishing import end_workers
from lambdaml_core.run.driver.following import Event, Follower
from lambdaml_core.run.driver.interrupts import Interrupts
from lambdaml_core.run.driver.launching import Launched, launch_all
from lambdaml_core.run.driver.supervisor import Done, GiveUp, Launch, Reopen, Seen, Supervisor
from lambdaml_core.run.driver.telling import Teller
from lambdaml_core.run.records.attempts import (
    beat_key,
    cancel_key,
    claim_key,
    end_key,
    error_key,
    generation_key,
    handover_key,
    open_generation,
)
from lambdaml_core.run.records.checkpoints import newest_complete
from lambdaml_core.run.redact import without_secrets
from lambdaml_core.run.spec import (
    DRIVER,
    RESULT,
    SPEC,
    Limits,
    Spec,
    get_all_json,
    put_json,
    reading,
    run_store,
    sha256,
)
from lambdaml_core.storage import FullStorage

_ALIVE_S = 5.0  # how often a driver leaves a sign of life
_POLL_S = {"process": 0.05, "host": 0.05, "network": 0.5}  # how soon a worker's end is noticed, by the store's reach
_LOOK_S = 0.5  # how often records are read on one machine; over a network, once in a heartbeat
_FOLLOW_S = 0.5  # how often the progress is read


class Replaced(Exception):
    """Another process drives the run now: this one leaves everything to it."""


class _Watch:
    """Counts the seconds that this process has watched: while it is stopped itself, nobody else is silent."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._seconds = 0.0

    def seconds(self) -> float:
        """Since it was made; to be asked often."""
        now = time.monotonic()
        self._seconds += min(now - self._last, _ALIVE_S)
        self._last = now
        return self._seconds


class Lead:
    """The right to drive a run: whoever took it last has it.

    Args:
        store: prefixed by the run.
    """

    def __init__(self, store: FullStorage) -> None:
        self._store = store
        self._token = secrets.token_hex(8)
        self._began_s = time.time()
        self._signed = -_ALIVE_S

    def take(self) -> None:
        """Take it, from whoever has it. The time at which the run began stays what it was."""
        driver = get_all_json(self._store, [DRIVER]).get(DRIVER)
        if driver is not None:
            self._began_s = driver["began_s"]
        self._sign()

    def keep(self) -> None:
        """Leave a sign of life, now and then.

        Raises:
            Replaced: another process has taken it.
        """
        if time.monotonic() - self._signed >= _ALIVE_S:
            self.check()
            self._sign()

    def check(self) -> None:
        """Whether the last sign of life is still ours.

        Raises:
            Replaced: it is not.
        """
        driver = get_all_json(self._store, [DRIVER]).get(DRIVER)
        if driver is None or driver["token"] != self._token:
            raise Replaced

    def _sign(self) -> None:
        self._signed = time.monotonic()
        sign = {"token": self._token, "handle": processes.handle_of(), "began_s": self._began_s, "time_s": time.time()}
        put_json(self._store, DRIVER, sign)


class Process(NamedTuple):
    """The newest attempt of a rank.

    ``handle`` is None for one that could not be started (``word`` begins with ``unstarted``), or has been given up by
    who looked for it: ``word`` says why, and is else ``unknown`` until the provider is asked.
    """

    attempt: int
    handle: str | None
    word: str = "unknown"


class Supervision:
    """One run, until its workers have ended.

    Args:
        root: the whole store.
        deployment: what the provider's launcher is built from.
        known: by rank, processes of the generation that others have launched.
        limits: that end the run.

    Attributes:
        generation: the newest.
        launched: the handles of all workers that were launched here.
    """

    def __init__(
        self,
        root: FullStorage,
        spec: Spec,
        provider: Provider,
        deployment: Mapping[str, Any],
        *,
        lead: Lead,
        interrupts: Interrupts,
        teller: Teller,
        generation: int,
        known: Mapping[int, Process],
        limits: Limits,
    ) -> None:
        self.generation = generation
        self.launched: list[str] = []
        self._root, self._spec, self._provider = root, spec, provider
        self._store = run_store(root, spec.run)
        self._deployment = deployment
        self._launcher = provider.launcher(deployment)
        self._lead, self._interrupts, self._teller = lead, interrupts, teller
        self._bill = Bill(spec, limits)
        self._follower = Follower(self._store, self._tell, run=spec.run)
        self._digest = sha256(bytes(self._store.get(SPEC)))
        self._processes = dict(known)
        self._watch = _Watch()
        self._supervisor = Supervisor(
            spec.workers,
            spec.recovery,
            checkpoints=spec.checkpoint.enabled,
            now=self._watch.seconds(),
            newest={rank: process.attempt for rank, process in known.items()},
        )
        self._seen: dict[int, Seen] = {}
        near = root.caps.scope != "network"
        self._poll_s = _POLL_S[root.caps.scope]
        self._look_s = _LOOK_S if near else spec.recovery.heartbeat_s or _LOOK_S
        self._looked = self._followed = -self._look_s
        self._reached = time.monotonic()

    def launch(self) -> None:
        """Start those workers that nobody has."""
        self._decide()

    def watch(self) -> None:
        """Until all workers have ended.

        Raises:
            WorkerFailed: the run is given up.
            RunCancelled: by somebody else; the message is the reason.
        LimitPassed: the run costs more or takes longer than it may.
            KeyboardInterrupt: by Ctrl-C or SIGTERM.
            Replaced: another process drives the run now.
            StorageError: the store cannot be reached for so long as a worker may be silent.
        """
        while True:
            self._interrupts.check()
            changed = self._poll()
            try:
                self._look_around(changed)
            except StorageUnavailable:
                if time.monotonic() - self._reached > self._spec.recovery.deadline_s:
                    raise
            if self._decide():
                self._follower.look()
                return
            time.sleep(self._poll_s)

    def _look_around(self, changed: bool) -> None:
        """Whatever is read of the store, where it is time."""
        now = time.monotonic()
        if changed or now - self._looked >= self._look_s:
            self._read_records()
            self._looked = self._reached = now
            self._bill.check()
        if now - self._followed >= _FOLLOW_S:
            self._follower.look()
            self._followed = now
        self._lead.keep()

    # --- what is seen

    def _poll(self) -> bool:
        """Ask the provider. Returns whether its word of any worker has changed."""
        asked = {p.handle: rank for rank, p in self._processes.items() if p.handle is not None and self._goes_on(rank)}
        changed = False
        for handle, word in self._provider.poll(list(asked)).items():
            process = self._processes[asked[handle]]
            if word == "failed":
                word = f"failed: {self._last_words(asked[handle])}"
            changed = changed or word != process.word
            self._processes[asked[handle]] = process._replace(word=word)
        return changed

    def _goes_on(self, rank: int) -> bool:
        return rank not in self._seen or not self._seen[rank].ended

    def _last_words(self, rank: int) -> str:
        lines = self._provider.logs(self._deployment, self._spec.run, rank, 0.0)
        last = next((line.strip() for line in reversed(list(lines)) if line.strip()), "without a word")
        return without_secrets(last, [self._spec.encode().decode()])

    def _read_records(self) -> None:
        """What driver and workers have written; after the provider was asked, since who ends in order writes first."""
        g = self.generation
        self._lead.check()
        found = self._get([RESULT, cancel_key(g), generation_key(g + 1)])
        if generation_key(g + 1) in found:
            raise Replaced
        if cancel_key(g) in found:
            raise RunCancelled(found[cancel_key(g)]["reason"])
        ranks = [rank for rank in self._processes if self._goes_on(rank)]
        while ranks:  # those whose next attempt has begun are looked at once more, by that one
            records = self._get([key for rank in ranks for key in _keys(g, rank, self._processes[rank].attempt)])
            ranks = [rank for rank in ranks if self._take(rank, records, has_result=RESULT in found)]

    def _get(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        with reading(self._spec.run):
            return get_all_json(self._store, keys)

    def _take(self, rank: int, records: Mapping[str, Any], *, has_result: bool) -> bool:
        """Note what the records say of a rank's newest attempt. Returns whether there is a newer one."""
        g, process = self.generation, self._processes[rank]
        n = process.attempt
        if (newer := records.get(claim_key(g, rank, n + 1))) is not None:
            self._processes[rank] = Process(n + 1, newer["handle"])
            return True
        claim = records.get(claim_key(g, rank, n))
        if claim is not None and process.handle not in (None, claim["handle"]):  # somebody else's process does it
            process = self._processes[rank] = Process(n, claim["handle"])
        self._bill.take(rank, records.get(end_key(g, rank)) or records.get(beat_key(g, rank)))
        ended = end_key(g, rank) in records and (rank > 0 or has_result)  # rank 0 ends by the result
        error = records.get(error_key(g, rank, n))
        self._seen[rank] = Seen(
            claimed=-1 if claim is None else n,
            word=(n, process.word),
            beat=records.get(beat_key(g, rank)),
            left=n if handover_key(g, rank, n) in records else -1,
            error=None if error is None else (n, error),
            ended=ended or (has_result and process.word.startswith(("failed", "succeeded"))),
        )
        return False

    # --- what is done

    def _decide(self) -> bool:
        """Do what the supervisor says. Returns whether all workers have ended."""
        launches: dict[int, Launch] = {}
        for decision in self._supervisor.observe(self._watch.seconds(), self._seen):
            match decision:
                case Launch():
                    launches[decision.rank] = decision
                case Reopen():
                    self._reopen(decision.reason)
                case GiveUp():
                    raise self._failure(decision)
                case Done():
                    return True
        if launches:
            self._launch(launches)
        return False

    def _launch(self, launches: Mapping[int, Launch]) -> None:
        """By rank."""
        spec = self._spec
        first = WorkerRef(spec.store.url, asdict(spec.store.reference), spec.run, self.generation, 0, 0, self._digest)
        refs = [first._replace(rank=launch.rank, attempt=launch.attempt) for launch in launches.values()]

        def take(ref: WorkerRef, came: Launched) -> None:
            if isinstance(came, Exception):
                self._processes[ref.rank] = Process(ref.attempt, None, f"unstarted: it could not be started: {came}")
                return
            self.launched.append(came)
            self._processes[ref.rank] = Process(ref.attempt, came)

        launch_all(self._launcher, refs, take, remote=spec.scope == "network", turn=self._turn)
        for rank, attempt, reason in launches.values():
            if reason is not None and self._processes[rank].handle is not None:
                self._teller.tell("restarted", rank=rank, attempt=attempt, reason=reason)

    def _tell(self, event: Event) -> None:
        """What rank 0 has told; progress with what the run has cost."""
        self._teller.emit({**event, "cost_usd": self._bill.usd()} if event["event"] == "progress" else event)

    def _turn(self) -> None:
        """What must not wait for long launches."""
        self._interrupts.check()
        self._lead.keep()

    def _reopen(self, reason: str) -> None:
        """Start all workers again, from the newest complete checkpoint and with an empty channel."""
        base = newest_complete(self._store, self.generation, self._spec.workers)
        if not open_generation(self._store, self.generation + 1, reason, base):
            raise Replaced
        self.generation += 1
        end_workers(self._root, self._spec.run, self._provider, self.launched)
        empty_channel_from_here(self._root, self._spec)
        self._processes, self._seen = {}, {}
        self._supervisor.reopened(self._watch.seconds())
        self._teller.tell("reopened", generation=self.generation, round=base["round"] if base else 0, reason=reason)

    def _failure(self, decision: GiveUp) -> WorkerFailed:
        rank, words, hint = decision
        run = self._spec.run
        if rank is None:
            return WorkerFailed(f"the run {run} is given up: {words}", hint=hint)
        log = f"lambdaml logs {run} --rank {rank} shows what it printed"
        if "SIGKILL" in words:
            log += "; it may have run out of memory: give the job fewer workers on this machine, or smaller batches"
        return WorkerFailed(f"worker {rank} of run {run}{words}", hint=hint or log)


def _keys(generation: int, rank: int, attempt: int) -> list[str]:
    """All that a rank may have written, by its newest attempt."""
    return [
        end_key(generation, rank),
        beat_key(generation, rank),
        *(key(generation, rank, attempt) for key in (claim_key, handover_key, error_key)),
        claim_key(generation, rank, attempt + 1),
    ]
