"""Values larger than a storage takes, in pieces: these first, and last, under the key, a manifest that names them."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from lambdaml_core.errors import KeyNotFound, StorageError
from lambdaml_core.storage.base import Buffer, Parts, StorageCaps
from lambdaml_core.storage.keys import check_key
from lambdaml_core.storage.layers import FullStorage, Layer, size_of

_MAGIC = b"\x93lambdaml pieces\n"
_PIECE = re.compile(r"\.piece-[0-9a-f]{16}-\d+")  # what is added to a key
_LONGEST_NAME = 32  # bytes that it adds
_TOGETHER_BYTES = 64 << 20  # of pieces in one call: more are under way in one round only where they are that large
_LONGER_S = 60.0  # pieces outlive their manifest: who has read that can read them
_TRIES = 10  # a value that is replaced while it is read is read again
_REMEMBERED = 4096  # keys


@dataclass(frozen=True)
class _Manifest:
    """Where a value is: ``size`` bytes in pieces of ``piece_bytes``, the last one shorter."""

    token: str
    size: int
    piece_bytes: int

    def keys(self, key: str) -> list[str]:
        """Of the pieces, in order."""
        return [f"{key}.piece-{self.token}-{i}" for i in range(-(-self.size // self.piece_bytes))]

    def encode(self) -> bytes:
        return _MAGIC + json.dumps(vars(self)).encode()

    @classmethod
    def decode(cls, data: Buffer) -> _Manifest | None:
        """None where a value is no manifest."""
        if bytes(memoryview(data)[: len(_MAGIC)]) != _MAGIC:
            return None
        return cls(**json.loads(bytes(memoryview(data)[len(_MAGIC) :])))


class Chunk(Layer):
    """Takes values of any size for a storage whose values are bounded, and leaves alone what fits in one.

    A value appears with its manifest, whole: a create is decided by the manifest's. What was put in pieces is deleted
    with them; pieces of a value that is replaced by a short one, or whose writer is killed, stay until their time is
    over or the run is swept. A cache that has lost a piece has lost the value.

    Pieces of all values of a call are moved together, so that as many requests are under way as are worth making.

    Who deletes must know whether there are pieces. What this client has put or read lately it remembers; of other keys
    it reads the values first, none of which is larger than the storage takes. :meth:`sweep` reads nothing.
    """

    def __init__(self, inner: FullStorage) -> None:
        super().__init__(inner)
        caps = inner.caps
        self._most = caps.max_value_bytes or 0
        self._together = caps.parallel * max(1, _TOGETHER_BYTES // (self._most * caps.parallel))  # pieces
        self._caps = replace(
            caps,
            max_value_bytes=None,
            piece_bytes=min(caps.piece_bytes or self._most, self._most),
            max_key_bytes=caps.max_key_bytes - _LONGEST_NAME,
        )
        self._known: OrderedDict[str, _Manifest | None] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def caps(self) -> StorageCaps:
        """Those of the storage below, without a bound of values; it is where chunks of collectives end."""
        return self._caps

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        return bool(self.put_many({key: data}, if_absent=if_absent, ttl_s=ttl_s))

    def put_many(
        self, items: Mapping[str, Parts], *, if_absent: bool = False, ttl_s: float | None = None
    ) -> Collection[str]:
        for key in items:
            self._check(key)
        large = {
            key: _Manifest(secrets.token_hex(8), size_of(data), self._most)
            for key, data in items.items()
            if self._needs_pieces(data)
        }
        self._put_pieces(items, large, ttl_s)
        values = {key: [large[key].encode()] if key in large else data for key, data in items.items()}
        before = {} if if_absent else {**self._remembered(items), **self._manifests(large)}
        stored = self.inner.put_many(values, if_absent=if_absent, ttl_s=ttl_s)
        for key in items:
            if key in stored:
                self._remember(key, large.get(key))
        lost = {key: manifest for key, manifest in large.items() if key not in stored}
        self._delete_pieces({**before, **lost})
        return stored

    def get(self, key: str) -> Buffer:
        found = self.get_many([key])
        if key not in found:
            raise KeyNotFound(f"there is no {key}")
        return found[key]

    def get_many(self, keys: Sequence[str], *, wait_s: float = 0.0) -> Mapping[str, Buffer]:
        for key in keys:
            self._check(key)
        found = dict(self.inner.get_many(keys, wait_s=wait_s))
        manifests: dict[str, _Manifest] = {}
        for key, data in found.items():
            manifest = _Manifest.decode(data)
            self._remember(key, manifest)
            if manifest is not None:
                manifests[key] = manifest
        whole = self._joined(manifests)
        for key, manifest in manifests.items():
            joined = whole[key] if key in whole else self._join(key, manifest)
            if joined is None:
                del found[key]
            else:
                found[key] = joined
        return found

    def delete(self, keys: Iterable[str]) -> None:
        keys = [self._check(key) for key in keys]
        manifests = self._manifests(keys)
        self.inner.delete(keys)
        self._delete_pieces(manifests)
        with self._lock:
            for key in keys:
                self._known.pop(key, None)

    def list(self, prefix: str) -> Iterator[str]:
        return (key for key in self.inner.list(prefix) if not _PIECE.search(key))

    def sweep(self, prefix: str = "", spare: Collection[str] = ()) -> None:
        self.inner.delete([key for key in self.inner.list(prefix) if _PIECE.sub("", key) not in spare])

    def intact(self, key: str, data: Buffer) -> bool:
        return isinstance(data, _Joined) or self.inner.intact(key, data)

    def _check(self, key: str) -> str:
        if _PIECE.search(key):
            raise StorageError(f"{key} cannot be a key", hint="names of pieces of values look like that")
        return check_key(key, self._caps.max_key_bytes)

    def _needs_pieces(self, data: Parts) -> bool:
        """It is too large, or would be taken for a manifest."""
        return size_of(data) > self._most or _start(data, len(_MAGIC)) == _MAGIC

    def _put_pieces(self, items: Mapping[str, Parts], manifests: Mapping[str, _Manifest], ttl_s: float | None) -> None:
        """Put the pieces of these items, or none."""
        pieces = (
            named
            for key, manifest in manifests.items()
            for named in zip(manifest.keys(key), _pieces(items[key], self._most), strict=True)
        )
        try:
            while batch := dict(itertools.islice(pieces, self._together)):
                self.inner.put_many(batch, ttl_s=None if ttl_s is None else ttl_s + _LONGER_S)
        except BaseException:
            with contextlib.suppress(StorageError):
                self._delete_pieces(manifests)
            raise

    def _join(self, key: str, manifest: _Manifest) -> Buffer | None:
        """The value of a manifest that was there just now and lacked a piece; None where it is gone."""
        for _ in range(_TRIES):
            data = self.inner.get_many([key]).get(key)  # deleted or replaced meanwhile?
            if data is None:
                return None
            again = _Manifest.decode(data)
            self._remember(key, again)
            if again is None:
                return data
            if again == manifest:
                break
            manifest = again
            joined = self._joined({key: manifest})
            if joined:
                return joined[key]
        if self._caps.evicts or self._caps.expires:
            return None
        raise StorageError(f"the value of {key} has lost a piece", hint="it cannot be had any more; remove it")

    def _joined(self, manifests: Mapping[str, _Manifest]) -> dict[str, _Joined]:
        """The values of these, their pieces put together; without those of which one is gone or cut short."""
        values = {key: _Joined(manifest.size) for key, manifest in manifests.items()}
        pieces = (
            (name, (key, slice(i * manifest.piece_bytes, min((i + 1) * manifest.piece_bytes, manifest.size))))
            for key, manifest in manifests.items()
            for i, name in enumerate(manifest.keys(key))
        )
        while places := dict(itertools.islice(pieces, self._together)):
            wanted = [name for name, (key, _) in places.items() if key in values]
            found = self.inner.get_many(wanted) if wanted else {}
            for name in wanted:
                key, place = places[name]
                if name not in found or size_of([found[name]]) != place.stop - place.start:
                    values.pop(key, None)
                elif key in values:
                    memoryview(values[key])[place] = found[name]
        return values

    def _manifests(self, keys: Iterable[str]) -> dict[str, _Manifest]:
        """Those of these keys that have pieces, with their manifests."""
        keys = list(keys)
        manifests = self._remembered(keys)
        with self._lock:
            unknown = iter([key for key in keys if key not in self._known])
        while batch := list(itertools.islice(unknown, self._together)):
            for key, data in self.inner.get_many(batch).items():
                manifest = _Manifest.decode(data)
                if manifest is not None:
                    manifests[key] = manifest
        return manifests

    def _remembered(self, keys: Iterable[str]) -> dict[str, _Manifest]:
        with self._lock:
            return {key: manifest for key in keys if (manifest := self._known.get(key)) is not None}

    def _remember(self, key: str, manifest: _Manifest | None) -> None:
        with self._lock:
            self._known[key] = manifest
            self._known.move_to_end(key)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)

    def _delete_pieces(self, manifests: Mapping[str, _Manifest]) -> None:
        pieces = [name for key, manifest in manifests.items() for name in manifest.keys(key)]
        if pieces:
            self.inner.delete(pieces)


class _Joined(bytearray):
    """A value that was put together here, so that nobody else can change it."""


def _start(data: Parts, length: int) -> bytes:
    """The first bytes of a value."""
    start = b""
    for view in _views(data):
        start += bytes(view[: length - len(start)])
        if len(start) == length:
            break
    return start


def _views(data: Parts) -> Iterator[memoryview]:
    """The parts that have something in them, as bytes."""
    return (memoryview(part).cast("B") for part in data if memoryview(part).nbytes)


def _pieces(data: Parts, size: int) -> Iterator[Parts]:
    """The value in pieces of this many bytes, the last one shorter, as views."""
    piece: list[Buffer] = []
    room = size  # left in this piece
    for view in _views(data):
        while view:
            piece.append(view[:room])
            view, room = view[room:], room - len(piece[-1])
            if not room:
                yield piece
                piece, room = [], size
    if piece:
        yield piece
