"""Starting many workers, side by side where a launch is a request on the network."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import TypeAlias

from lambdaml_core.errors import LaunchFailed, StorageError, UsageError
from lambdaml_core.provider.base import Launcher, WorkerRef

Launched: TypeAlias = str | Exception
"""The handle of a worker, or why it could not be started, which may go better another time."""

_AT_ONCE = 16
_TURN_S = 0.5


def launch_all(
    launcher: Launcher,
    refs: Sequence[WorkerRef],
    take: Callable[[WorkerRef, Launched], None],
    *,
    remote: bool,
    turn: Callable[[], None],
) -> None:
    """Launch these workers. Where an error is raised, those are launched that ``take`` was told of, and no others.

    Args:
        take: told what came of each, in this thread; raises nothing.
        remote: whether a launch is a request on the network: up to 16 are made at once, in threads.
        turn: called now and then in this thread while launches take their time; may raise.

    Raises:
        LaunchFailed: the user has to mend something first: its exit code is that of wrong usage.
    """
    if not remote or len(refs) == 1:
        for ref in refs:
            take(ref, _launch(launcher, ref))
        return
    done: SimpleQueue[Future[Launched]] = SimpleQueue()
    with ThreadPoolExecutor(_AT_ONCE, "launch") as pool:
        waiting = {pool.submit(_launch, launcher, ref): ref for ref in refs}
        for future in waiting:
            future.add_done_callback(done.put)
        try:
            while waiting:
                turn()
                with contextlib.suppress(Empty):
                    future = done.get(timeout=_TURN_S)
                    take(waiting.pop(future), future.result())
        finally:
            pool.shutdown(cancel_futures=True)
            for future, ref in waiting.items():
                if not future.cancelled() and future.exception() is None:
                    take(ref, future.result())


def _launch(launcher: Launcher, ref: WorkerRef) -> Launched:
    try:
        return launcher.launch(ref)
    except LaunchFailed as e:
        if e.exit_code == UsageError.exit_code:
            raise
        return e
    except (OSError, StorageError) as e:
        return e
