"""A worker: ``python -m lambdaml_core.run.worker.worker REF``, where REF is a :class:`WorkerRef` as JSON.

It claims its attempt, reads its specification from the store, takes its rows, goes on from the newest checkpoint, and
leaves a record of how it ended. It imports little, because a function's start is paid for: no plugin manager, no
command line, no scipy for dense rows.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator

from lambdaml_core.errors import (
    RunCancelled,
    StorageUnavailable,
)
from lambdaml_core.provider.base import Launcher, WorkerRef
from lambdaml_core.run.records.attempts import claim
from lambdaml_core.run.redact import without_secrets
from lambdaml_core.run.spec import (
    CODE,
    DEPLOYMENT,
    Place,
    Spec,
    get_json,
    run_store,
)
from lambdaml_core.run.worker.attempt import Attempt
from lambdaml_core.run.worker.ending import record_error
from lambdaml_core.run.worker.inputs import read_spec
from lambdaml_core.run.worker.leaving import Leave
from lambdaml_core.run.worker.timing import Clock, process_age_s
from lambdaml_core.run.worker.totals import Tally
from lambdaml_core.specs import Reference
from lambdaml_core.storage import FullStorage


def run_worker(
    ref: WorkerRef,
    *,
    launcher: Launcher | None = None,
    stop: threading.Event | None = None,
    log: Callable[[str], None] = lambda text: print(text, flush=True),
    age_s: float | None = None,
) -> int:
    """Do a worker's work; every error becomes a record in the store and lines in the log.

    Nothing is left behind in its process, which may do the work of others afterwards.

    Args:
        launcher: of this worker; None = it is a process of its own, and builds one from what the run's records say.
        stop: set by whoever wants it to end early; looked at between local steps and in waits.
        log: takes what is for the worker's own log.
        age_s: seconds since this worker was started, in a process that has done the work of others before; None = as
            old as the process, or where ``stop`` is given, as this call.

    Returns:
        The exit code: 0 for a good end, for one that handed over, and where another process does this work; 1 for an
        error.
    """
    age_s = process_age_s() if age_s is None and stop is None else age_s
    stopped = stop or threading.Event()
    tally = Tally(Clock(time.perf_counter() - (age_s or 0.0)))

    def say(text: str) -> None:
        tally.log_bytes += len(text.encode()) + 1
        log(text)

    store: FullStorage | None = None
    texts = [json.dumps(ref)]  # what may refer to secrets
    try:
        place = Place(ref.store, Reference(**ref.storage))
        store = run_store(place.open(tally.store, lambda: _give_up(stopped)), ref.run)
        data = read_spec(store, ref)
        texts.append(data.decode())
        spec = Spec.decode(data)
        if launcher is None:
            launcher = spec.provider.build().launcher(get_json(store, DEPLOYMENT))
        if claim(store, ref, launcher.handle()):
            with _own_code(store, spec):
                Attempt(ref, spec, store, launcher, tally, stopped).work()
    except Leave:
        return 0
    except RunCancelled:
        return 1
    except Exception as e:  # noqa: BLE001  (the last stop of a worker: whatever it was becomes a record)
        say(without_secrets(traceback.format_exc(), texts))
        if store is not None:
            record_error(store, ref, e, texts, say)
        return 1
    finally:
        if store is not None:
            store.close()
    return 0


@contextlib.contextmanager
def _own_code(store: FullStorage, spec: Spec) -> Iterator[None]:
    """Meanwhile the user's own files can be imported, where there are any."""
    if spec.code is None:
        yield
        return
    from lambdaml_core.run.code import Code, importable

    with importable(Code(bytes(store.get(CODE)), spec.code)):
        yield


def _give_up(stop: threading.Event) -> None:
    """Try a request no more once the worker is to end; raised as what every thread expects of a storage."""
    if stop.is_set():
        raise StorageUnavailable("the run was cancelled while the storage could not be reached")


def main() -> None:
    """The command line: the reference as the one argument, or on standard input."""
    text = sys.argv[1] if len(sys.argv) > 1 else sys.stdin.read()
    sys.exit(run_worker(WorkerRef(**json.loads(text))))


if __name__ == "__main__":
    main()
