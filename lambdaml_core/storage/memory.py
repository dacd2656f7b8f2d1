"""``memory://name``: values in this process, shared by its threads. For notebooks, tests and ``inline`` runs."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from lambdaml_core.errors import KeyNotFound, StorageFull, URLError
from lambdaml_core.options import NoOptions
from lambdaml_core.storage.base import Parts, StorageCaps
from lambdaml_core.storage.keys import check_key
from lambdaml_core.storage.url import StorageURL


class _Space:
    """The values of one name. Whoever reads or changes ``values`` holds ``changed``."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.changed = threading.Condition()


_spaces: dict[str, _Space] = {}
_spaces_lock = threading.Lock()


class MemoryStorage:
    """Every instance of one URL sees the same values, until they are deleted or the process ends.

    Closing an instance leaves the values where they are, since others may be using them; deleting the keys of a
    finished run gives its memory back. Nothing is durable here, so as a store it suits only a run that lives and
    dies with this process.

    Raises:
        URLError: the URL has more than a name.
    """

    caps = StorageCaps(scope="process", creates_once=True, blocks=True, evicts=False, checksums=False, latency_s=5e-6)

    def __init__(self, url: StorageURL, options: NoOptions) -> None:
        if url.user or url.password or url.port is not None:
            raise URLError(f"{url} has more than a name", hint="write it as memory://name")
        with _spaces_lock:
            self._space = _spaces.setdefault(url.host + url.path, _Space())

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        return bool(self.put_many({key: data}, if_absent=if_absent, ttl_s=ttl_s))

    def get(self, key: str) -> bytes:
        check_key(key, self.caps.max_key_bytes)
        with self._space.changed:
            value = self._space.values.get(key)
        if value is None:
            raise KeyNotFound(f"there is no {key} in memory")
        return value

    def delete(self, keys: Iterable[str]) -> None:
        legal = [check_key(key, self.caps.max_key_bytes) for key in keys]
        with self._space.changed:
            for key in legal:
                self._space.values.pop(key, None)

    def close(self) -> None:
        """Nothing to give back: the values belong to all instances."""

    def list(self, prefix: str) -> Iterator[str]:
        with self._space.changed:
            found = [key for key in self._space.values if key.startswith(prefix)]
        return iter(sorted(found))

    def put_many(
        self, items: Mapping[str, Parts], *, if_absent: bool = False, ttl_s: float | None = None
    ) -> Collection[str]:
        values = {check_key(key, self.caps.max_key_bytes): _join(key, data) for key, data in items.items()}
        with self._space.changed:
            if if_absent:
                values = {key: value for key, value in values.items() if key not in self._space.values}
            self._space.values.update(values)
            self._space.changed.notify_all()
        return values.keys()

    def get_many(self, keys: Sequence[str], *, wait_s: float = 0.0) -> Mapping[str, bytes]:
        values = self._space.values
        for key in keys:
            check_key(key, self.caps.max_key_bytes)
        with self._space.changed:
            self._space.changed.wait_for(lambda: not keys or any(key in values for key in keys), wait_s)
            return {key: values[key] for key in keys if key in values}


def _join(key: str, data: Parts) -> bytes:
    """One copy, which nobody else can change."""
    try:
        return b"".join(data)
    except MemoryError as e:
        raise StorageFull(f"no memory left for the value of {key}", hint="use file:// on a disk") from e
