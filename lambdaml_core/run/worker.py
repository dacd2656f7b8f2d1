"""A worker: ``python -m lambdaml_core.run.worker REF``, where REF is a :class:`WorkerRef` as JSON.

It reads its specification from the store, takes its rows, trains, and leaves a record of how it ended. It imports
little, because a function's start is paid for: no plugin manager, no command line, no scipy for dense rows.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from numpy.typing import NDArray

from lambdaml_core.comm.engine import Engine
from lambdaml_core.data.shards import Manifest, ShardedData, Split
from lambdaml_core.errors import LambdaMLError, RunCancelled, RunError
from lambdaml_core.provider.base import WorkerRef
from lambdaml_core.run.fingerprint import fingerprint
from lambdaml_core.run.redact import without_secrets
from lambdaml_core.run.reporter import Reporter, finite, number
from lambdaml_core.run.spec import (
    INITIAL,
    RESULT,
    SPEC,
    Place,
    Spec,
    end_key,
    error_key,
    get_json,
    put_json,
    run_channel,
    run_store,
    sha256,
)
from lambdaml_core.run.timing import Clock, TimedCommunicator, process_age_s
from lambdaml_core.run.training import Outcome, Progress, Trainer
from lambdaml_core.specs import Reference
from lambdaml_core.storage import FullStorage
from lambdaml_core.storage.layers import Count, Counts, Prefix


def run_worker(
    ref: WorkerRef, *, stop: threading.Event | None = None, log: Callable[[str], None] = lambda text: print(text)
) -> int:
    """Do a worker's work; every error becomes a record in the store and lines in the log.

    Args:
        stop: set by whoever wants it to end early; looked at in every round and wait.
        log: takes what is for the worker's own log.

    Returns:
        The exit code: 0 for a good end, and for a duplicate that found its work taken; 1 for an error.
    """
    age = process_age_s() if stop is None else None  # a thread is as old as this call
    clock = Clock(time.perf_counter() - (age or 0.0))
    counts = Counts()
    store: FullStorage | None = None
    texts = [json.dumps(ref)]  # what may refer to secrets
    try:
        store = Count(run_store(Place(ref.store, Reference(**ref.storage)).open(), ref.run), counts)
        data = _read_spec(store, ref)
        texts.append(data.decode())
        spec = Spec.decode(data)
        if _claim(store, spec, ref):
            _work(spec, ref, store, counts, clock, stop)
    except RunCancelled:
        return 1
    except Exception as e:  # noqa: BLE001  (the last stop of a worker: whatever it was becomes a record)
        log(without_secrets(traceback.format_exc(), texts))
        if store is not None:
            _record_error(store, ref, e, texts, log)
        return 1
    finally:
        if store is not None:
            store.close()
    return 0


def _read_spec(store: FullStorage, ref: WorkerRef) -> bytes:
    """The specification, if it is the one that this worker was started for."""
    data = bytes(store.get(SPEC))
    if sha256(data) != ref.spec_sha256:
        raise RunError("the specification in the store is not the one that the workers were started with")
    return data


def _claim(store: FullStorage, spec: Spec, ref: WorkerRef) -> bool:
    """Whether this process is the one that does this attempt, and not a duplicate invocation of it."""
    key = f"attempts/{spec.generation}/{ref.rank}/{ref.attempt}"
    token = secrets.token_hex(8)
    if put_json(store, key, {"token": token, "time_s": time.time()}, if_absent=True):
        return True
    return bool(get_json(store, key)["token"] == token)  # stored after all: the acknowledgement was lost


def _work(
    spec: Spec, ref: WorkerRef, store: FullStorage, counts: Counts, clock: Clock, stop: threading.Event | None
) -> None:
    initial = _initial(store, spec)
    moved = Counts()
    with contextlib.ExitStack() as stack:
        manifest, data, validation = stack.enter_context(_rows(spec, ref.rank, counts, clock))
        data.batch(0)  # imports what batches are made of
        channel = stack.enter_context(contextlib.closing(Count(run_channel(spec.channel.open(), spec.run), moved)))
        outcome = _train(spec, ref.rank, channel, data, validation, initial, store, clock, stop)
    files = _write_model(store, spec, manifest, outcome) if ref.rank == 0 else {}
    put_json(store, end_key(ref.rank), _end(ref, clock, moved, counts))
    if ref.rank == 0:  # last: a run that has a result has everything
        epochs = outcome.rounds * spec.steps_per_round / data.steps_per_epoch
        put_json(store, RESULT, _result(outcome, epochs, files), if_absent=True)


def _initial(store: FullStorage, spec: Spec) -> NDArray[Any] | None:
    """The parameters to start from, if the run was given any."""
    if spec.initial is None:
        return None
    from safetensors.numpy import load

    data = bytes(store.get(INITIAL))
    if sha256(data) != spec.initial:
        raise RunError("the initial parameters were changed after the run was planned", hint="start the run again")
    return load(data)["params"]


def _train(
    spec: Spec,
    rank: int,
    channel: FullStorage,
    data: ShardedData,
    validation: ShardedData | None,
    initial: NDArray[Any] | None,
    store: FullStorage,
    clock: Clock,
    stop: threading.Event | None,
) -> Outcome:
    """All rounds, and after them a barrier: nobody's messages are needed any more."""
    reporter = _reporter(spec, data, store, clock) if rank == 0 else None

    def interrupt() -> None:
        if stop is not None and stop.is_set():
            raise RunCancelled("the run was cancelled")

    def on_round(progress: Progress) -> None:
        interrupt()
        clock.round()
        if reporter is not None:
            reporter.round(progress)

    engine = Engine(
        channel,
        rank=rank,
        size=spec.workers,
        interrupt=interrupt,
        aggregators=spec.aggregators,
        pattern=spec.pattern.load(),
        generation=spec.generation,
    )
    comm = TimedCommunicator(engine, clock)
    trainer = Trainer(
        model=spec.model.build(),
        optimizer=spec.optimizer.build(),
        data=data,
        validation=validation,
        comm=comm,
        seed=spec.seed,
        initial=initial,
        evaluate=spec.evaluate,
        stop=spec.stop,
        on_round=on_round,
    )
    clock.ready()
    with reporter or contextlib.nullcontext():
        outcome = trainer.run(spec.rounds)
    comm.barrier()
    return outcome


def _reporter(spec: Spec, data: ShardedData, store: FullStorage, clock: Clock) -> Reporter:
    """What tells of the run's rounds."""
    return Reporter(
        store,
        run=spec.run,
        rounds=spec.rounds,
        steps_per_round=spec.steps_per_round,
        steps_per_epoch=data.steps_per_epoch,
        clock=clock,
    )


@contextlib.contextmanager
def _rows(
    spec: Spec, rank: int, counts: Counts, clock: Clock
) -> Iterator[tuple[Manifest, ShardedData, ShardedData | None]]:
    """This rank's rows, to train and to validate on, which are loaded in the background; the manifest is the one that
    the driver saw."""
    with contextlib.closing(_place(spec, counts)) as place, contextlib.ExitStack() as stack:
        with clock.loading():
            manifest = Manifest.load(place)
        if manifest.checksum != spec.data_checksum:
            raise RunError("the partition was changed after the run was planned", hint="start the run again")

        def rows(split: Split) -> ShardedData:
            data = ShardedData(
                place,
                manifest,
                rank=rank,
                size=spec.workers,
                batch_size=spec.batch_size,
                split=split,
                class_weight=spec.class_weight if split == "train" else None,
                waiting=clock.loading,
            )
            stack.callback(data.close)
            return data

        yield manifest, rows("train"), rows("validation") if manifest.validation_rows else None


def _place(spec: Spec, counts: Counts) -> FullStorage:
    """Where the partition is."""
    place: FullStorage = Count(spec.data.open(), counts)
    return Prefix(place, spec.data_prefix) if spec.data_prefix else place


def _write_model(store: FullStorage, spec: Spec, manifest: Manifest, outcome: Outcome) -> dict[str, str]:
    """Write the model's files. Returns the SHA-256 of each."""
    from lambdaml_core.run.modelfile import encode

    files = encode(
        outcome.params,
        model=spec.model,
        features=manifest.features,
        labels=manifest.labels,
        preprocessing=manifest.preprocessing,
        metrics={name: value for name, value in finite(outcome.figures).items() if value is not None},
    )
    for name, data in files.items():
        store.put(f"model/{name}", [data], if_absent=True)
    return {name: sha256(data) for name, data in files.items()}


def _result(outcome: Outcome, epochs: float, files: Any) -> dict[str, Any]:
    return {
        "rounds": outcome.rounds,
        "epochs": epochs,
        "stop_reason": outcome.stop_reason,
        "figures": finite(outcome.figures),
        "train_loss": number(outcome.train_loss),
        "files": files,
    }


def _end(ref: WorkerRef, clock: Clock, moved: Counts, counts: Counts) -> dict[str, Any]:
    def plain(c: Counts) -> dict[str, int]:
        return {name: getattr(c, name) for name in ("put", "get", "delete", "list", "sent", "received")}

    return {
        "rank": ref.rank,
        "attempt": ref.attempt,
        "began_s": clock.began_s,
        "seconds": clock.report(),
        "timeline": clock.timeline(),
        "channel": plain(moved),
        "store": plain(counts),
        "fingerprint": fingerprint(),
    }


def _record_error(
    store: FullStorage, ref: WorkerRef, error: Exception, texts: Sequence[str], log: Callable[[str], None]
) -> None:
    known = error if isinstance(error, LambdaMLError) else None
    value = {
        "code": known.code if known else "internal",
        "message": without_secrets(known.message if known else f"{type(error).__name__}: {error}", texts),
        "hint": known.hint if known else "the worker's log has more",
        "time_s": time.time(),
    }
    try:
        put_json(store, error_key(ref.rank), value)
    except LambdaMLError as e:
        log(without_secrets(f"the error could not be recorded: {e}", texts))


def main() -> None:
    """The command line: the reference as the one argument, or on standard input."""
    text = sys.argv[1] if len(sys.argv) > 1 else sys.stdin.read()
    sys.exit(run_worker(WorkerRef(**json.loads(text))))


if __name__ == "__main__":
    main()
