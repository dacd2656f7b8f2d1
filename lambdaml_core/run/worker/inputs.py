"""What a worker trains on: its rows, and the parameters to start from."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from numpy.typing import NDArray

from lambdaml_core.data.shards import Manifest, ShardedData, Split
from lambdaml_core.errors import RunError
from lambdaml_core.provider.base import WorkerRef
from lambdaml_core.run.spec import INITIAL, SPEC, Spec, sha256
from lambdaml_core.run.worker.totals import Tally
from lambdaml_core.storage import FullStorage
from lambdaml_core.storage.layers import Prefix


def read_spec(store: FullStorage, ref: WorkerRef) -> bytes:
    """The specification, if it is the one that this worker was started for.

    Raises:
        RunError: it is not.
    """
    data = bytes(store.get(SPEC))
    if sha256(data) != ref.spec_sha256:
        raise RunError("the specification in the store is not the one that the workers were started with")
    return data


class Inputs(NamedTuple):
    """What one rank trains on.

    Attributes:
        manifest: of all rows.
        data, validation: this rank's rows; no validation where the partition has none.
        initial: parameters to start from, if the run was given any.
    """

    manifest: Manifest
    data: ShardedData
    validation: ShardedData | None
    initial: NDArray[Any] | None


@contextlib.contextmanager
def open_inputs(
    spec: Spec, rank: int, store: FullStorage, tally: Tally, interrupt: Callable[[], None]
) -> Iterator[Inputs]:
    """Inputs whose rows are loaded in the background; the manifest is the one that the driver saw.

    Args:
        interrupt: called where the partition cannot be reached, in whatever thread; may raise a StorageError.

    Raises:
        RunError: they are not what the run was planned with.
    """
    initial = _initial(store, spec)
    with contextlib.closing(_place(spec, tally, interrupt)) as place, contextlib.ExitStack() as stack:
        with tally.clock.loading():
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
                waiting=tally.clock.loading,
            )
            stack.callback(data.close)
            return data

        yield Inputs(manifest, rows("train"), rows("validation") if manifest.validation_rows else None, initial)


def _initial(store: FullStorage, spec: Spec) -> NDArray[Any] | None:
    if spec.initial is None:
        return None
    from safetensors.numpy import load

    data = bytes(store.get(INITIAL))
    if sha256(data) != spec.initial:
        raise RunError("the initial parameters were changed after the run was planned", hint="start the run again")
    return load(data)["params"]


def _place(spec: Spec, tally: Tally, interrupt: Callable[[], None]) -> FullStorage:
    """Where the partition is."""
    place = spec.data.open(tally.store, interrupt)
    return Prefix(place, spec.data_prefix) if spec.data_prefix else place
