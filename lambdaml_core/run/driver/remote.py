"""What anybody who can reach the store of a run can do with it: watch it, cancel it, read its logs, remove it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

from lambdaml_core.errors import OptionError, RunCancelled, RunError
from lambdaml_core.provider import processes
from lambdaml_core.provider.base import Provider
from lambdaml_core.run.driver.bill import Billed
from lambdaml_core.run.driver.cleanup import remove_channel, remove_empty_channel, remove_run
from lambdaml_core.run.driver.finishing import end_workers, finish, registered, tear_down
from lambdaml_core.run.driver.following import Event, Follower
from lambdaml_core.run.records.attempts import beat_key, cancel_key
from lambdaml_core.run.records.records import RunRecord, list_runs, read_run, read_spec
from lambdaml_core.run.records.status import State, driver_lives, read_state
from lambdaml_core.run.redact import without_secrets
from lambdaml_core.run.spec import (
    DEPLOYMENT,
    DRIVER,
    SPEC,
    Spec,
    get_all_json,
    log_key,
    put_json,
    reading,
    run_store,
)
from lambdaml_core.storage import FullStorage, open_storage
from lambdaml_core.storage.retry import FIRST_S

__all__ = ["cancel_run", "clean", "read_logs", "watch_run"]

_LOOK_S = 0.25
_REASON = "by lambdaml cancel"
_CANCEL_S = 60.0  # what a driver, or workers out of reach, may take to end when they are told to
_HEARTBEATS, _SILENCE_S = 3, 2.0  # without a sign of life, after which a worker that was told to end has ended


def watch_run(store: str, run: str, *, on_event: Callable[[Event], None] | None = None) -> RunRecord:
    """Follow a run to its end, whoever has started it. Nothing is changed, and leaving it by an exception is harmless.

    Args:
        store: URL.
        on_event: called in this thread with ``launched``, then ``rounds``, ``epoch`` and ``progress``, from the first
            round on.

    Raises:
        RunNotFound: there is none of that name; the hint has the nearest.
        RunError: it has failed, or needs a driver and has none; or its records are damaged.
        RunCancelled: it was cancelled.
    """
    emit = on_event or (lambda event: None)
    with _opened(store, run) as (opened, spec):
        mine = run_store(opened, run)
        follower = Follower(mine, Billed(mine, spec, emit), run=run)
        emit({"event": "launched", "run": run, "time_s": time.time(), **spec.shape()})
        while not (state := read_state(mine, spec)).over:
            if state.status == "stalled":
                raise RunError(f"the run {run} needs a driver: {state.reason}", hint=f"lambdaml resume {run}")
            follower.look()
            time.sleep(_LOOK_S)
        follower.look()
        if state.status != "succeeded":
            _raise(run, state)
    return read_run(store, run)


def cancel_run(store: str, run: str) -> RunRecord:
    """End a run with all of its workers, by its driver or, where that is gone, in its place.

    Args:
        store: URL.

    Raises:
        RunNotFound: there is none of that name; the hint has the nearest.
        RunError: it has ended already; or whoever should end it does not; or its records are damaged.
    """
    with _opened(store, run) as (opened, spec), reading(run):
        mine = run_store(opened, run)
        state = read_state(mine, spec)
        if state.over:
            raise RunError(f"the run {run} has ended already: {state.status}", hint=f"lambdaml show {run}")
        give_up = time.monotonic() + _CANCEL_S
        while state.driven:
            put_json(mine, cancel_key(state.generation), _flag(), if_absent=True)  # at each look: it may open another
            if time.monotonic() > give_up:
                raise RunError(
                    f"the driver of the run {run} goes on {_CANCEL_S:.0f} s after it was told to cancel it",
                    hint="end that process, and cancel the run again",
                )
            time.sleep(_LOOK_S)
            state = read_state(mine, spec)
        if not state.over:
            provider: Provider = spec.provider.build()
            _end_workers(opened, spec, provider, state.generation)
            state = read_state(mine, spec)
            late = bool(state.result)  # the last worker has ended in order
            finish(
                opened,
                spec,
                generation=state.generation,
                status="succeeded" if late else "cancelled",
                stop_reason=None if late else _REASON,
                provider=provider,
            )
        status = read_state(mine, spec).status
        if status != "cancelled":
            raise RunError(f"the run {run} had {status} before it could be cancelled", hint=f"lambdaml show {run}")
    return read_run(store, run)


def read_logs(store: str, run: str, rank: int | None = None) -> Iterator[tuple[int, str]]:
    """Lines that the workers of a run have printed, each with its worker's rank; attempt after attempt.

    They are the provider's while the run goes on and it can be asked from here, and those in the store else.

    Args:
        store: URL.
        rank: of one worker; None = of all, one after another.

    Raises:
        RunNotFound: there is none of that name; the hint has the nearest.
        OptionError: there is no such worker.
        RunError: the records of the run are damaged.
    """
    with _opened(store, run) as (opened, spec):
        if rank is not None and not 0 <= rank < spec.workers:
            raise OptionError(f"the run {run} has no worker {rank}", hint=f"its workers are 0 to {spec.workers - 1}")
        with reading(run):
            yield from _logs(run_store(opened, run), spec, range(spec.workers) if rank is None else [rank])


def _logs(store: FullStorage, spec: Spec, ranks: Iterable[int]) -> Iterator[tuple[int, str]]:
    going_on = not read_state(store, spec).end
    provider: Provider = spec.provider.build()
    deployments = get_all_json(store, [DEPLOYMENT]).values() if going_on else ()
    referring = [spec.encode().decode()]
    for rank in ranks:
        for data in store.get_many([log_key(rank)]).values():
            yield from ((rank, line) for line in bytes(data).decode(errors="replace").splitlines())
        for deployment in deployments:
            said = provider.logs(deployment, spec.run, rank, 0.0)
            yield from ((rank, without_secrets(line, referring)) for line in said)


def clean(store: str, *runs: str) -> list[str]:
    """Remove runs, or every run that has ended, from their store and channel: no key is left. Returns the names.

    Processes are ended that are left of one whose driver is gone. A run whose driver was killed before it had started
    any worker is removed, too, although nothing else shows it.

    Args:
        store: URL.
        runs: their names; none = every run that has ended.

    Raises:
        RunNotFound: there is none of that name. Nothing was removed.
        RunError: one that was named goes on, or its records are damaged, or those of another version.
    """
    with contextlib.closing(open_storage(store, first_s=FIRST_S)) as opened:
        unborn = _unborn(opened)
        names = runs or [*unborn, *(record["run"] for record in list_runs(store))]
        specs = {name: None if name in unborn else _spec(opened, name) for name in names}
        removed = []
        for name, spec in specs.items():
            state = None if spec is None else read_state(run_store(opened, name), spec)
            goes_on = unborn[name] if state is None else not state.over
            if goes_on and not (runs and state is not None and state.status == "stalled"):
                if runs:
                    raise RunError(f"the run {name} is still going on", hint=f"end it first: lambdaml cancel {name}")
                continue
            if spec is not None and state is not None:
                with reading(name):
                    _remove_processes(opened, spec, state)
                remove_channel(opened, spec.channel, name)
            else:
                remove_empty_channel(name)
            remove_run(opened, name)
            removed.append(name)
        return removed


def _unborn(store: FullStorage) -> dict[str, bool]:
    """The runs without a specification, and whether a driver is at work on one."""
    keys = {key for key in store.list("runs/") if key.count("/") == 2}
    names = [key.split("/")[1] for key in keys if key.endswith(f"/{DRIVER}")]
    return {name: _prepares(store, name) for name in names if f"runs/{name}/{SPEC}" not in keys}


def _prepares(store: FullStorage, run: str) -> bool:
    """Whether a driver prepares this run, be it without a sign of life while it reads a large file."""
    mine = run_store(store, run)
    try:
        with reading(run):
            driver = get_all_json(mine, [DRIVER]).get(DRIVER)
            return driver_lives(driver) or (driver is not None and processes.state_of(driver["handle"]) == "running")
    except RunError:  # nobody could go on with it
        return False


def _remove_processes(store: FullStorage, spec: Spec, state: State) -> None:
    """End and remove what no driver has."""
    if not state.end:
        provider: Provider = spec.provider.build()
        _end_workers(store, spec, provider, state.generation)
        for deployment in get_all_json(run_store(store, spec.run), [DEPLOYMENT]).values():
            tear_down(provider, deployment)


@contextlib.contextmanager
def _opened(store: str, run: str) -> Iterator[tuple[FullStorage, Spec]]:
    """A store and the specification of a run in it."""
    with contextlib.closing(open_storage(store, first_s=FIRST_S)) as opened:
        yield opened, _spec(opened, run)


def _spec(store: FullStorage, run: str) -> Spec:
    with reading(run):
        return read_spec(store, run)


def _raise(run: str, state: State) -> NoReturn:
    if state.status == "cancelled":
        raise RunCancelled(f"the run {run} was cancelled", hint=f"lambdaml resume {run} goes on with it")
    raise RunError(state.reason or f"the run {run} has {state.status}", hint=f"lambdaml logs {run}")


def _end_workers(store: FullStorage, spec: Spec, provider: Provider, generation: int) -> None:
    """End all workers in the place of a driver, be it by asking them.

    Raises:
        RunError: those that cannot be reached from here do not end.
    """
    mine = run_store(store, spec.run)
    put_json(mine, cancel_key(generation), _flag(), if_absent=True)
    end_workers(store, spec.run, provider)
    _wait_for_silence(mine, spec, provider, generation)


def _flag() -> dict[str, Any]:
    return {"reason": _REASON, "time_s": time.time()}


def _wait_for_silence(store: FullStorage, spec: Spec, provider: Provider, generation: int) -> None:
    """Until workers that cannot be ended from here have ended, since they were told to.

    Raises:
        RunError: they do not.
    """
    if "unknown" not in provider.poll(registered(store)).values():
        return
    silence_s = max(_SILENCE_S, _HEARTBEATS * (spec.recovery.heartbeat_s or 0.0))
    keys = [beat_key(generation, rank) for rank in range(spec.workers)]
    began = since = time.monotonic()
    last = get_all_json(store, keys)
    while time.monotonic() - since < silence_s:
        time.sleep(_LOOK_S)
        beats = get_all_json(store, keys)
        if beats != last:
            last, since = beats, time.monotonic()
        if since - began > _CANCEL_S:
            raise RunError(
                f"workers of the run {spec.run} go on {_CANCEL_S:.0f} s after they were told to end",
                hint="cancel it from the machine that they run on",
            )
