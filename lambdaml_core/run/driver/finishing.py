"""The end of a run, whoever brings it about: its driver, one that resumes it, or somebody who cancels it."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from lambdaml_core.errors import StorageError
from lambdaml_core.provider.base import Provider
from lambdaml_core.run.driver.cleanup import remove_channel, remove_temporary_data
from lambdaml_core.run.records.attempts import cancel_key, run_end_key
from lambdaml_core.run.records.checkpoints import newest_complete
from lambdaml_core.run.records.slots import has_kept_slots
from lambdaml_core.run.redact import without_secrets
from lambdaml_core.run.spec import DEPLOYMENT, DRIVER, Spec, get_all_json, log_key, put_json, run_store
from lambdaml_core.storage import FullStorage

Status: TypeAlias = Literal["succeeded", "failed", "cancelled"]

_EXIT_S, _LOOK_S = 2.0, 0.02  # for workers to exit after their end
_LOG_BYTES = 64 << 10  # of a worker's log that is kept
_log = logging.getLogger("lambdaml")


def finish(
    store: FullStorage,
    spec: Spec,
    *,
    generation: int,
    status: Status,
    stop_reason: str | None,
    provider: Provider | None = None,
    launched: Sequence[str] = (),
) -> None:
    """End what still runs, keep the logs, remove what was temporary, and last of all write how the run ended.

    Rows that were partitioned for a run that has not succeeded are kept beside a complete checkpoint, so that it can be
    resumed.

    Args:
        store: the whole of it.
        generation: the newest.
        stop_reason: without secrets; None where it succeeded.
        provider: the object that launched the workers, where that is at hand.
        launched: handles of workers beside those that have said themselves that they began.
    """
    mine = run_store(store, spec.run)
    if status != "succeeded":  # for workers that cannot be ended from here
        flag = {"reason": stop_reason, "time_s": time.time()}
        put_json(mine, cancel_key(generation), flag, if_absent=True)
    provider = provider or spec.provider.build()
    if status == "succeeded":
        _await_exits(provider, [*registered(mine), *launched])
    end_workers(store, spec.run, provider, launched)
    found = get_all_json(mine, [DEPLOYMENT, DRIVER])
    if DEPLOYMENT in found:
        keep_logs(mine, spec, provider, found[DEPLOYMENT])
        tear_down(provider, found[DEPLOYMENT])
    try:
        remove_channel(store, spec.channel, spec.run)
    except StorageError as e:  # how the run ended is not for the channel to decide
        said = without_secrets(e.message, [spec.channel.url])
        _log.warning("messages are left in the channel until lambdaml clean %s: %s", spec.run, said)
    resumable = newest_complete(mine, generation, spec.workers) is not None or has_kept_slots(mine)
    if status == "succeeded" or not resumable:
        remove_temporary_data(store, spec.run)
    now = time.time()
    seconds = now - found[DRIVER]["began_s"]
    end = {"status": status, "stop_reason": stop_reason, "seconds": seconds, "time_s": now}
    put_json(mine, run_end_key(generation), end, if_absent=True)


def tear_down(provider: Provider, deployment: Mapping[str, Any]) -> None:
    """Remove what a provider has made; what it has to leave is told as a warning."""
    for left in provider.teardown(deployment):
        _log.warning("the provider has left %s", left)


def _await_exits(provider: Provider, handles: Sequence[str]) -> None:
    """Leave workers that have done their work the time to end as programs do."""
    give_up = time.monotonic() + _EXIT_S
    while "running" in provider.poll(handles).values() and time.monotonic() < give_up:
        time.sleep(_LOOK_S)


def end_workers(store: FullStorage, run: str, provider: Provider, launched: Sequence[str] = ()) -> None:
    """End every process of a run that the provider can reach from here."""
    mine = run_store(store, run)
    for deployment in get_all_json(mine, [DEPLOYMENT]).values():  # there is none where half of the run is removed
        provider.cancel(deployment, run, list(dict.fromkeys([*registered(mine), *launched])))


def registered(store: FullStorage) -> list[str]:
    """The handles of all processes that have begun an attempt, in all generations.

    Args:
        store: prefixed by the run.
    """
    claims = get_all_json(store, list(store.list("attempts/")))
    return [claim["handle"] for claim in claims.values()]


def keep_logs(store: FullStorage, spec: Spec, provider: Provider, deployment: Mapping[str, Any]) -> None:
    """Put what the workers printed into the run's store, after what is there, without the secrets.

    Args:
        store: prefixed by the run.
    """
    referring = [spec.encode().decode()]
    for rank in range(spec.workers):
        text = "".join(f"{line}\n" for line in provider.logs(deployment, spec.run, rank, 0.0))
        if text:
            kept = b"".join(store.get_many([log_key(rank)]).values())
            store.put(log_key(rank), [(kept + without_secrets(text, referring).encode())[-_LOG_BYTES:]])
