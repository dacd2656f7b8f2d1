"""What a worker leaves at its end: the model and the result of rank 0, or the record of an error."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lambdaml_core.data.shards import Manifest
from lambdaml_core.errors import (
    CorruptMessage,
    DeadlineExpired,
    LambdaMLError,
    LaunchFailed,
    ResultLost,
    StorageDenied,
    StorageError,
    StorageFull,
    ValueTooLarge,
)
from lambdaml_core.provider.base import WorkerRef
from lambdaml_core.run.records.attempts import AttemptError, error_key
from lambdaml_core.run.redact import without_secrets
from lambdaml_core.run.spec import Spec, put_json, sha256
from lambdaml_core.run.worker.reporter import finite, number
from lambdaml_core.run.worker.training import Outcome
from lambdaml_core.storage import FullStorage

_PASSING = (StorageError, DeadlineExpired, CorruptMessage, ResultLost, LaunchFailed, OSError, MemoryError)
_LASTING = (StorageDenied, StorageFull, ValueTooLarge)  # although their kind is among those above


def write_model(store: FullStorage, spec: Spec, manifest: Manifest, outcome: Outcome) -> dict[str, str]:
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


def result_of(outcome: Outcome, epochs: float, files: Mapping[str, str], *, asynchronous: bool) -> dict[str, Any]:
    """What the run came to, as it is stored."""
    return {
        "rounds": outcome.rounds,
        "epochs": epochs,
        "stop_reason": outcome.stop_reason,
        "figures": finite(outcome.figures),
        "train_loss": number(outcome.train_loss),
        "round_figures": finite(outcome.round_figures),
        "files": files,
        "asynchronous": asynchronous,
    }


def record_error(
    store: FullStorage, ref: WorkerRef, error: Exception, texts: Sequence[str], log: Callable[[str], None]
) -> None:
    """Leave a record of what ended this attempt; if that cannot be, a line in the log."""
    known = error if isinstance(error, LambdaMLError) else None
    record = AttemptError(
        code=known.code if known else "internal",
        message=without_secrets(known.message if known else f"{type(error).__name__}: {error}", texts),
        hint=known.hint if known else "the worker's log has more",
        again=isinstance(error, _PASSING) and not isinstance(error, _LASTING),
        time_s=time.time(),
    )
    try:
        put_json(store, error_key(ref.generation, ref.rank, ref.attempt), record)
    except LambdaMLError as e:
        log(without_secrets(f"the error could not be recorded: {e}", texts))
