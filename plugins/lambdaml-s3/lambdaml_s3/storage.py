"""``s3://bucket/prefix``: values as objects, created by condition, large ones moved in parts."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

from lambdaml_core.errors import StorageError, StorageUnavailable, ValueTooLarge
from lambdaml_core.findings import Finding
from lambdaml_core.storage import StorageURL, check_key
from lambdaml_core.storage.base import Buffer, Parts, StorageCaps
from lambdaml_core.storage.layers import size_of
from lambdaml_core.storage.parallel import Parallel
from lambdaml_s3.client import object_client
from lambdaml_s3.failures import failure
from lambdaml_s3.options import S3Options
from lambdaml_s3.place import LONGEST_KEY, Place
from lambdaml_s3.prices import usd

if TYPE_CHECKING:
    from obstore.store import S3Store

_MOST_AT_ONCE = 5 << 30  # bytes of one PUT, which a create is
_MOST_PARTS = 10_000
_PAGE = 1000  # names that one listing gives, and one delete takes
_CONFLICTS = 4  # tries of a create that meets others just then
_REPLACED = 10  # tries of a get whose value is replaced between its parts

# medians of functions in us-east-1 in 2024 to 2026, half gets and half puts; one connection
_LATENCY_S, _EXPRESS_LATENCY_S = 0.034, 0.006
_BYTES_PER_S = 57e6


class S3Storage:
    """A bucket, or the keys of it that start with a prefix.

    Args:
        url: ``s3://bucket/prefix``.

    Raises:
        URLError, StorageError: as :meth:`Place.of`.
    """

    def __init__(self, url: StorageURL, options: S3Options) -> None:
        self._place = place = Place.of(url, options)
        self._part_bytes = options.part_bytes
        self._parallel = Parallel(options.parallel)
        self._client: S3Store | None = None
        self._lock = threading.Lock()
        latency_s = _EXPRESS_LATENCY_S if place.zone else _LATENCY_S
        self.caps = StorageCaps(
            scope="network",
            max_key_bytes=LONGEST_KEY - len(place.prefix),
            parallel=options.parallel,
            creates_once=True,
            durable=True,
            evicts=False,
            latency_s=latency_s if place.is_aws else 0.0,  # of other services nobody knows
            bytes_per_s=_BYTES_PER_S if place.is_aws else 0.0,
            usd=_prices(place),
        )

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        name, parts, size = self._name(key), [_flat(part) for part in data], size_of(data)
        if if_absent:
            return self._create(name, parts, size)
        if size <= self._part_bytes or self.caps.parallel == 1:
            self._store(name, parts, size)
        else:
            self._store_in_parts(name, b"".join(parts))
        return True

    def get(self, key: str) -> Buffer:
        name = self._name(key)
        for _ in range(_REPLACED):
            found = self._read(name)
            if found is not None:
                return found
        raise StorageUnavailable(f"{key} in {self._place.name} is replaced while it is read, again and again")

    def delete(self, keys: Iterable[str]) -> None:
        names = [self._name(key) for key in keys]
        for first in range(0, len(names), _PAGE):
            try:
                obstore.delete(self._connected(), names[first : first + _PAGE])
            except (BaseError, OSError) as e:
                raise self._failure(e) from None

    def list(self, prefix: str) -> Iterator[str]:
        """Every key that starts with ``prefix``, in order: directory buckets list in none."""
        folder, slash, _ = prefix.rpartition("/")
        try:
            whole = self._place.prefix + (check_key(folder, LONGEST_KEY) + "/" if slash else "")
        except StorageError:
            return iter(())  # where no key can be, none is
        try:
            pages = obstore.list(self._connected(), prefix=whole or None, chunk_size=_PAGE)
            keys = [meta["path"][len(self._place.prefix) :] for page in pages for meta in page]
        except (BaseError, OSError) as e:
            raise self._failure(e) from None
        return iter(sorted(key for key in keys if key.startswith(prefix)))

    def close(self) -> None:
        self._parallel.close()
        with self._lock:
            self._client = None

    def checks(self) -> Iterator[Finding]:
        """As :class:`~lambdaml_core.findings.SupportsChecks`."""
        from lambdaml_s3.checks import checks

        return checks(self._place)

    def _create(self, name: str, parts: Sequence[Buffer], size: int) -> bool:
        """Store it unless there is a value. A create that meets another, or a delete, is answered by neither yes nor
        no, and is made again."""
        for last in reversed(range(_CONFLICTS)):
            try:
                self._store(name, parts, size, "create")
            except AlreadyExistsError as e:
                said = self._failure(e)  # its words have the key in them, which may be anything
                if not isinstance(said, StorageUnavailable):
                    return False
                if not last:
                    raise said from None
            else:
                return True
        raise AssertionError("the last try returns or raises")

    def _store(
        self, name: str, parts: Sequence[Buffer], size: int, mode: Literal["create", "overwrite"] = "overwrite"
    ) -> None:
        if size > _MOST_AT_ONCE:
            raise ValueTooLarge(f"{size} bytes are more than the 5 GiB that S3 takes in one request")
        try:
            obstore.put(self._connected(), name, parts, use_multipart=False, mode=mode)
        except AlreadyExistsError:
            raise
        except (BaseError, OSError) as e:
            raise self._failure(e) from None

    def _store_in_parts(self, name: str, value: bytes) -> None:
        """As a multipart upload: it appears whole, and what has come of one that fails is given up."""
        part_bytes = max(self._part_bytes, -(-len(value) // _MOST_PARTS))
        try:
            obstore.put(
                self._connected(),
                name,
                value,
                use_multipart=True,
                chunk_size=part_bytes,
                max_concurrency=self.caps.parallel,
            )
        except (BaseError, OSError) as e:
            raise self._failure(e) from None

    def _read(self, name: str) -> Buffer | None:
        """The value; None if it is replaced while its parts are read.

        One request brings a value of one part, and tells how many more parts there are, so that nobody asks first.
        """
        most = self._part_bytes
        value: Buffer | None = None
        try:
            first = obstore.get(self._connected(), name, options={"range": (0, most)})
            size = first.meta["size"]
            if size <= most:
                return memoryview(first.bytes())
            value = memoryview(bytearray(size))
            value[:most] = memoryview(first.bytes())
            tag = first.meta["e_tag"]

            def fetch(lo: int) -> None:
                hi = min(lo + most, size)
                part = obstore.get(self._connected(), name, options={"range": (lo, hi), "if_match": tag})
                value[lo:hi] = memoryview(part.bytes())

            self._parallel.map(fetch, range(most, size, most))
        except PreconditionError:
            return None
        except (BaseError, OSError) as e:
            if "status code: 416" in str(e):
                return b"" if value is None else None  # its first byte was asked for, or it has become shorter
            raise self._failure(e) from None
        return value

    def _name(self, key: str) -> str:
        return self._place.prefix + check_key(key, self.caps.max_key_bytes)

    def _connected(self) -> S3Store:
        with self._lock:
            if self._client is None:
                self._client = object_client(self._place)
            return self._client

    def _failure(self, error: Exception) -> StorageError:
        return failure(self._place, error)


def _flat(part: Buffer) -> Buffer:
    """Bytes one by one, as obstore takes them."""
    view = memoryview(part)
    return view if view.format == "B" and view.ndim == 1 else (view.cast("B") if view.nbytes else b"")


def _prices(place: Place) -> dict[str, float]:
    given = {"put": place.options.usd_put, "get": place.options.usd_get, "list": place.options.usd_list}
    known = usd(place.options.region, express=bool(place.zone)) if place.is_aws else {}
    return {**known, **{kind: price for kind, price in given.items() if price is not None}}
