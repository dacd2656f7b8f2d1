"""Checkpoints: the state of a run after a round, from which any rank goes on bit for bit.

A checkpoint is made of parts: ``shared`` by rank 0, and ``private-<rank>`` by each rank where ranks have state of their
own. ``rank-<rank>`` has all that one rank needs; whoever hands over to a successor writes it. A part is a safetensors
file, and a manifest that is written after it: half a part is none, and bytes that changed since are noticed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import xxhash
from numpy.typing import NDArray

from lambdaml_core.comm.base import Arrays
from lambdaml_core.errors import ResultLost
from lambdaml_core.optim.base import State
from lambdaml_core.run.records.attempts import Base
from lambdaml_core.run.records.tensors import check_arrays, decode, encode
from lambdaml_core.storage.base import Buffer, Parts
from lambdaml_core.storage.layers import FullStorage

CHECKPOINTS = "checkpoints/"
"""The prefix of all keys of checkpoints, below that of the run."""

_SCHEMA = 1
_SHARED = "shared"
_KEY = re.compile(CHECKPOINTS + r"(\d+)/(\d{9,})/((?:shared|private-\d+|rank-\d+)\.(?:json|safetensors))")


class Checkpoint(NamedTuple):
    """A moment between two rounds.

    Attributes:
        round: rounds done.
        sequence: the communicator's next sequence number.
        state: the optimizer's state on this rank.
        trainer: what the trainer has to remember, equal on all ranks.
    """

    round: int
    sequence: int
    state: State
    trainer: Mapping[str, NDArray[Any]]


class _Place(NamedTuple):
    """Where the parts of a checkpoint are; later ones are greater."""

    generation: int
    round: int

    def key(self, file: str) -> str:
        return f"{CHECKPOINTS}{self.generation}/{self.round:09d}/{file}"


class _Manifest(NamedTuple):
    """What is said of a part's file. ``private``: ranks have parts of their own; ``size``: how many ranks there are."""

    schema: int
    round: int
    sequence: int
    size: int
    private: bool
    nbytes: int
    xxh3: str
    names: list[str]

    def encode(self) -> bytes:
        """JSON, with a checksum of its own: a number that changed might still be a number."""
        fields = self._asdict()
        return json.dumps(fields | {"checksum": _checksum(fields)}).encode()

    @classmethod
    def decode(cls, data: Buffer) -> _Manifest | None:
        """Back again; None if it is torn, changed, or of another version."""
        try:
            fields = json.loads(bytes(data))
            return cls(**fields) if fields.pop("checksum") == _checksum(fields) else None
        except (ValueError, LookupError, TypeError, AttributeError):
            return None


class Checkpoints:
    """The checkpoints of a generation, as one rank sees them. One thread at a time.

    Args:
        store: prefixed by the run.
        base: what the generation started from.
    """

    def __init__(self, store: FullStorage, *, generation: int, rank: int, size: int, base: Base | None) -> None:
        self._store, self._generation, self._rank, self._size = store, generation, rank, size
        self._base = base and _Place(base["generation"], base["round"])
        self._own = {f"private-{rank}", f"rank-{rank}"} | ({_SHARED} if rank == 0 else set())
        self._keys: dict[_Place, set[str]] = {}  # of this rank's parts
        self._sequences: dict[_Place, int] = {}  # of complete checkpoints, the base included

    def parts(self, checkpoint: Checkpoint) -> Mapping[str, Arrays]:
        """What :meth:`save` writes of a checkpoint on this rank: the arrays themselves, by part and name.

        Raises:
            RunError: an array that would not come back as it is.
        """
        state, parts = checkpoint.state, {}
        if self._rank == 0:
            parts[_SHARED] = {
                "params": state.params,
                **_named("shared", state.shared),
                **_named("trainer", checkpoint.trainer),
            }
        if state.private:
            parts[f"private-{self._rank}"] = _named("private", state.private)
        for arrays in parts.values():
            check_arrays(arrays)
        return parts

    def save(self, checkpoint: Checkpoint) -> int:
        """Write this rank's parts. Parts that are there already, and whole, stay: they are equal.

        Returns:
            The bytes written.

        Raises:
            RunError: an array that would not come back as it is.
        """
        return self.write(checkpoint.round, checkpoint.sequence, self.parts(checkpoint))

    def write(self, round: int, sequence: int, parts: Mapping[str, Arrays]) -> int:
        """The second half of :meth:`save`, for copies of what :meth:`parts` names."""
        place = _Place(self._generation, round)
        private = f"private-{self._rank}" in parts
        written = sum(self._write(place, part, arrays, sequence, private) for part, arrays in parts.items())
        self._sequences[place] = sequence
        return written

    def hand_over(self, checkpoint: Checkpoint) -> int:
        """Write all that a successor of this rank alone needs. Returns the bytes written.

        Raises:
            RunError: an array that would not come back as it is.
        """
        state = checkpoint.state
        arrays = {
            "params": state.params,
            **_named("shared", state.shared),
            **_named("trainer", checkpoint.trainer),
            **_named("private", state.private),
        }
        check_arrays(arrays)
        place = _Place(self._generation, checkpoint.round)
        return self._write(place, f"rank-{self._rank}", arrays, checkpoint.sequence, bool(state.private))

    def newest(self) -> Checkpoint | None:
        """The newest that is complete and as it was written, or this rank's own of a hand-over if that is newer; else
        the base; None = start from the beginning.

        Raises:
            ResultLost: the base is not as it was written, so that this generation cannot be gone on with.
        """
        listed: dict[_Place, set[str]] | None = None
        while (files := _listing(self._store)) and files != listed:  # others delete old ones while this one looks
            listed = files
            checkpoint = self._look(files)
            if checkpoint is not None:
                return checkpoint
        if self._base is None:
            return None
        raise ResultLost(
            f"generation {self._generation} goes on from the checkpoint of round {self._base.round}, and its files in "
            f"{self._base.key('')} are damaged or gone",
            hint="a new generation goes on from an older one",
        )

    def newest_sequence(self) -> int:
        """Sequence number of the newest checkpoint that is complete, as far as is known; 0 = none. Hand-overs do not
        count."""
        return max(self._sequences.values(), default=0)

    def frontier(self) -> int:
        """Sequence number of the second-newest checkpoint that is complete, as far as is known; 0 = none."""
        return sorted([0, 0, *self._sequences.values()])[-2]

    def remove_before(self, sequence: int) -> None:
        """Delete this rank's parts of checkpoints with a lower sequence number, its hand-overs and the base included.
        The two newest stay, whatever the number is."""
        places = sorted(self._sequences)
        passed = [place for place in places if self._sequences[place] <= sequence]
        if len(places) < 2 or not passed:
            return
        first = min(passed[-1], places[-2])
        for place in [place for place in self._keys if place < first]:
            self._store.delete(sorted(self._keys[place]))
            del self._keys[place]
        self._sequences = {place: self._sequences[place] for place in places if place >= first}

    def _look(self, files: Mapping[_Place, set[str]]) -> Checkpoint | None:
        """The newest of these that can be read."""
        self._keys = {}
        for place, names in files.items():
            mine = {place.key(name) for name in names if name.rpartition(".")[0] in self._own}
            if mine:
                self._keys[place] = mine
        complete = self._complete(files)
        handed = {
            place
            for place, names in files.items()
            if place.generation == self._generation and f"rank-{self._rank}.json" in names
        }
        for place in sorted(complete.keys() | handed, reverse=True):
            checkpoint = self._read(place, complete[place]) if place in complete else None
            if checkpoint is None:
                complete.pop(place, None)
                checkpoint = self._read_handover(place) if place in handed else None
            if checkpoint is not None:
                self._sequences = {at: manifest.sequence for at, manifest in complete.items()}
                return checkpoint
        return None

    def _complete(self, files: Mapping[_Place, set[str]]) -> dict[_Place, _Manifest]:
        """Manifests of the shared parts of those whose parts are all there: this generation's, and the base."""
        wanted = {
            place.key(f"{_SHARED}.json"): place
            for place in files
            if place.generation == self._generation or place == self._base
        }
        found = self._store.get_many(list(wanted))
        manifests = {place: _Manifest.decode(found[key]) for key, place in wanted.items() if key in found}
        return {
            place: manifest
            for place, manifest in manifests.items()
            if manifest is not None
            and _fits(manifest, place, self._size)
            and {f"{part}.json" for part in _parts(manifest)} <= files[place]
        }

    def _read(self, place: _Place, manifest: _Manifest) -> Checkpoint | None:
        """A checkpoint that is complete, with this rank's private state."""
        arrays: dict[str, NDArray[Any]] = {}
        for part in (_SHARED, f"private-{self._rank}") if manifest.private else (_SHARED,):
            found = _read_part(self._store, place, part, self._size)
            if found is None or found[0].sequence != manifest.sequence:
                return None
            arrays |= found[1]
        return _checkpoint(manifest, arrays)

    def _read_handover(self, place: _Place) -> Checkpoint | None:
        found = _read_part(self._store, place, f"rank-{self._rank}", self._size)
        return found and _checkpoint(*found)

    def _write(self, place: _Place, part: str, arrays: Arrays, sequence: int, private: bool) -> int:
        """Write a part, unless it is there. Returns the bytes written."""
        data = encode(arrays)
        manifest = _Manifest(
            schema=_SCHEMA,
            round=place.round,
            sequence=sequence,
            size=self._size,
            private=private,
            nbytes=_nbytes(data),
            xxh3=_digest(data),
            names=list(arrays),
        )
        files: dict[str, Parts] = {
            place.key(f"{part}.safetensors"): data,
            place.key(f"{part}.json"): [manifest.encode()],
        }
        self._keys.setdefault(place, set()).update(files)
        created = [self._store.put(key, value, if_absent=True) for key, value in files.items()]
        if not all(created):
            # an earlier attempt was here: it was killed half-way, or what it wrote has changed, or all is well
            if _verified(self._store, place, part, self._size) is not None:
                return 0
            for key, value in files.items():
                self._store.put(key, value)
        return manifest.nbytes


def newest_complete(store: FullStorage, generation: int, size: int) -> Base | None:
    """The newest checkpoint of this or an older generation whose parts are all there and as they were written."""
    places = [place for place in _listing(store) if place.generation <= generation]
    for place in sorted(places, key=lambda place: (place.round, place.generation), reverse=True):
        shared = _verified(store, place, _SHARED, size)
        if shared is not None and all(
            (found := _verified(store, place, part, size)) is not None and found[0].sequence == shared[0].sequence
            for part in _parts(shared[0])[1:]
        ):
            return Base(generation=place.generation, round=place.round)
    return None


def _listing(store: FullStorage) -> dict[_Place, set[str]]:
    """The files of all checkpoints."""
    files: dict[_Place, set[str]] = {}
    for key in store.list(CHECKPOINTS):
        match = _KEY.fullmatch(key)
        if match:
            files.setdefault(_Place(int(match[1]), int(match[2])), set()).add(match[3])
    return files


def _parts(manifest: _Manifest) -> list[str]:
    """All parts of a checkpoint, by the manifest of its shared one."""
    return [_SHARED, *(f"private-{rank}" for rank in range(manifest.size) if manifest.private)]


def _fits(manifest: _Manifest, place: _Place, size: int) -> bool:
    return manifest.schema == _SCHEMA and manifest.round == place.round and manifest.size == size


def _verified(store: FullStorage, place: _Place, part: str, size: int) -> tuple[_Manifest, Buffer, str] | None:
    """A part's manifest, and the bytes of its file with their key; None if they are not as they were written."""
    manifest_key, key = place.key(f"{part}.json"), place.key(f"{part}.safetensors")
    found = store.get_many([manifest_key, key])
    if len(found) < 2:
        return None
    manifest, data = _Manifest.decode(found[manifest_key]), found[key]
    whole = (
        manifest is not None
        and _fits(manifest, place, size)
        and memoryview(data).nbytes == manifest.nbytes
        and _digest([data]) == manifest.xxh3
    )
    return (manifest, data, key) if manifest is not None and whole else None


def _read_part(
    store: FullStorage, place: _Place, part: str, size: int
) -> tuple[_Manifest, dict[str, NDArray[Any]]] | None:
    """A part that is as it was written; None if it is not."""
    found = _verified(store, place, part, size)
    if found is None:
        return None
    manifest, data, key = found
    try:
        arrays = decode(data)
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    return (manifest, arrays) if store.intact(key, data) else None  # it may be a view of what was deleted meanwhile


def _checkpoint(manifest: _Manifest, arrays: Arrays) -> Checkpoint:
    def named(kind: str) -> dict[str, NDArray[Any]]:
        return {name.partition("/")[2]: array for name, array in arrays.items() if name.startswith(f"{kind}/")}

    state = State(arrays["params"], named("shared"), named("private"))
    return Checkpoint(manifest.round, manifest.sequence, state, named("trainer"))


def _named(kind: str, arrays: Arrays) -> dict[str, NDArray[Any]]:
    return {f"{kind}/{name}": array for name, array in arrays.items()}


def _nbytes(data: Parts) -> int:
    return sum(memoryview(piece).nbytes for piece in data)


def _digest(data: Parts) -> str:
    digest = xxhash.xxh3_64()
    for piece in data:
        digest.update(piece)
    return digest.hexdigest()


def _checksum(fields: Mapping[str, Any]) -> str:
    return xxhash.xxh3_64_hexdigest(json.dumps(fields, sort_keys=True).encode())
