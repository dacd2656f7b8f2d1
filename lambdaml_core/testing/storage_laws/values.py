"""Laws of one value: put, get, delete, and who owns which bytes."""

from __future__ import annotations

import array
import math
import threading
import time
from dataclasses import fields

import pytest

from lambdaml_core.errors import KeyNotFound, StorageError
from lambdaml_core.storage.base import Parts, StorageCaps
from lambdaml_core.storage.layers import FullStorage
from lambdaml_core.testing.storage_laws.clients import Connect, TwoClients, fitting, pattern


class ValueLaws(TwoClients):
    """Laws that need no concurrency."""

    def test_capabilities_make_sense(self, storage: FullStorage, other: FullStorage) -> None:
        """Capabilities are of the right types and ranges, and equal for all clients.

        Plans are refused or accepted by them before anything starts. Fix ``caps``.
        """
        caps = storage.caps
        assert caps == other.caps
        assert caps.scope in ("process", "host", "network")
        assert not (caps.durable and caps.scope == "process"), "durable values outlive their process"
        assert not (caps.durable and caps.evicts), "durable values are not dropped"
        assert caps.max_value_bytes is None or caps.max_value_bytes >= 1024, "too small for any message"
        assert caps.max_key_bytes >= 128, "too short for the keys of a collective"
        assert caps.parallel >= 1
        assert caps.latency_s >= 0
        assert caps.bytes_per_s >= 0
        assert set(caps.usd) <= {"put", "get", "delete", "list", "sent", "received"}, "what else would be counted?"
        assert all(0 <= price < math.inf for price in caps.usd.values())
        flags = [getattr(caps, f.name) for f in fields(StorageCaps) if f.type == "bool"]
        assert all(isinstance(flag, bool) for flag in flags)

    def test_what_is_put_is_what_is_got(self, storage: FullStorage, other: FullStorage) -> None:
        """Any client gets exactly the bytes that were put, of any size from none at all.

        Fix the encoding of values; beware of empty ones, and of reads or writes that move fewer bytes than asked.
        """
        for size in fitting(storage.caps, 0, 1, 63, 64, 65, 4095, 4096, 4097, 65_537, 1 << 20, (1 << 20) + 3):
            value = pattern(size, seed=size)
            assert storage.put(f"size/{size}", [value]) is True
            for client in (other, storage):
                got = memoryview(client.get(f"size/{size}"))
                assert (got.contiguous, got.ndim, got.itemsize) == (True, 1, 1), "a buffer is contiguous bytes"
                assert bytes(got) == value, f"a value of {size} bytes came back different"

    def test_parts_are_concatenated(self, storage: FullStorage, other: FullStorage) -> None:
        """A value is its parts in order: ``bytes``, ``bytearray`` or ``memoryview``, of any item size, empty, or many.

        Fix ``put``: count bytes by ``memoryview(part).nbytes``, never ``len``; one ``writev`` takes 1,024 at most.
        """
        numbers = array.array("d", [1.5, -2.0, 3.25])
        cases: list[Parts] = [
            [],
            [b""],
            [b"head", bytearray(b"-and-"), memoryview(b"..payload")[2:]],
            [b"", b"a", b"", memoryview(b""), b"b", b""],
            [b"64 bit:", memoryview(numbers)],
            [bytes([i % 251]) for i in range(2500)],
        ]
        for i, parts in enumerate(cases):
            storage.put(f"parts/{i}", parts)
            assert bytes(other.get(f"parts/{i}")) == b"".join(parts), f"case {i}"

    def test_put_replaces(self, storage: FullStorage, other: FullStorage) -> None:
        """A put replaces the value, longer or shorter, whichever client had put it, and says True.

        Fix ``put``, or a cache in the client that answers for a value which another client has replaced.
        """
        for turn, (writer, size) in enumerate(
            [(storage, 700), (other, 5000), (storage, 0), (other, 80), (storage, 81)]
        ):
            assert writer.put("replaced", [pattern(size, seed=turn)]) is True
            for reader in (storage, other):
                assert bytes(reader.get("replaced")) == pattern(size, seed=turn)

    def test_if_absent_creates_once(self, storage: FullStorage, other: FullStorage) -> None:
        """``put(if_absent=True)`` creates and says True, or finds a value, says False and changes nothing.

        Whoever loses goes on with the stored bytes, so a wrong answer makes ranks disagree. Fix ``put``.
        """
        assert storage.put("once", [b"first"], if_absent=True) is True
        assert other.put("once", [b"second, longer"], if_absent=True) is False
        assert storage.put("once", [b""], if_absent=True) is False
        assert bytes(storage.get("once")) == bytes(other.get("once")) == b"first"
        storage.delete(["once"])
        assert other.put("once", [b""], if_absent=True) is True, "a deleted key is absent again"
        assert storage.put("once", [b"after empty"], if_absent=True) is False, "an empty value is a value"
        assert bytes(storage.get("once")) == b""

    def test_missing_keys_raise_key_not_found(self, storage: FullStorage, other: FullStorage) -> None:
        """``get`` of what is not there raises ``KeyNotFound``: never None, empty bytes or the SDK's own error.

        Fix ``get``: translate the service's answer, and let nothing else pass for it.
        """
        storage.put("here/deep", [b"x"])
        storage.put("gone", [b"x"])
        other.delete(["gone"])
        for key in ("never", "here", "here/deep/er", "gone"):
            for client in (storage, other):
                with pytest.raises(KeyNotFound):
                    client.get(key)

    def test_delete_is_idempotent(self, storage: FullStorage, other: FullStorage) -> None:
        """Deleting nothing, what is not there, or the same twice is no error, and nothing else goes with it.

        Retries and sweeps delete again. Fix ``delete``.
        """
        storage.put("kept", [b"kept"])
        storage.put("a", [b"x"])
        storage.delete([])
        storage.delete(["never", "a", "a"])
        other.delete(["a"])
        with pytest.raises(KeyNotFound):
            other.get("a")
        assert bytes(other.get("kept")) == b"kept"

    def test_delete_takes_many_keys(self, storage: FullStorage, other: FullStorage) -> None:
        """One ``delete`` takes any iterable of keys, of any length, some of them missing.

        Fix ``delete``: services take a limited batch (1,000 for S3), so send as many batches as it needs.
        """
        keys = [f"many/{i:070}" for i in range(1234)]  # long names, so that their folder is larger than some values
        storage.put_many({key: [key.encode()] for key in keys})
        storage.put("many-kept", [b"kept"])
        other.delete(["many"])
        assert len(storage.get_many(keys)) == len(keys), "a folder is no key"
        other.delete(key for key in [*keys, "many/none"])
        assert storage.get_many(keys) == {}
        assert bytes(storage.get("many-kept")) == b"kept"

    def test_callers_buffer_is_not_the_value(self, storage: FullStorage, other: FullStorage) -> None:
        """What the caller does to its buffers after ``put``, or to one that ``get`` gave it, changes no value.

        Buffers are reused for the next round. Fix ``put`` (copy or send before returning) or ``get``.
        """
        buffer = bytearray(pattern(5000))
        storage.put("mine", [memoryview(buffer)[:2500], buffer[2500:]])
        storage.put("whole", [buffer])
        buffer[:] = bytes(5000)
        for key in ("mine", "whole"):
            got = memoryview(storage.get(key))
            assert bytes(got) == pattern(5000)
            if not got.readonly:
                got[:] = bytes(len(got))
            assert bytes(other.get(key)) == bytes(storage.get(key)) == pattern(5000)

    @pytest.mark.parametrize("fate", ["overwritten", "deleted"])
    def test_buffer_keeps_its_bytes_or_is_not_intact(self, storage: FullStorage, other: FullStorage, fate: str) -> None:
        """A buffer from ``get`` keeps its bytes whatever happens to the key; a view may change, if ``intact`` says so.

        A reader folds straight from the buffer and asks ``intact`` afterwards: a wrong True is a wrong model.
        Fix ``get`` (return a copy), or ``intact`` (False once the memory can have been used again, even for a new
        value of the same size under the same key).
        """
        size = fitting(storage.caps, 65_536, 1024)[0]
        value = pattern(size, seed=1)
        storage.put("view", [value])
        held = [other.get("view"), *other.get_many(["view"]).values(), storage.get("view")]
        owners = [other, other, storage]

        def check(event: str) -> None:
            for owner, data in zip(owners, held, strict=True):
                copy = bytes(data)  # the last look comes before the question
                assert not owner.intact("view", data) or copy == value, f"changed when {event}, and intact"

        storage.put("neighbour", [pattern(size, seed=2)])
        storage.delete(["neighbour"])
        for owner, data in zip(owners, held, strict=True):
            assert bytes(data) == value
            assert owner.intact("view", data) is True, "the key has had this value all along"
        if fate == "deleted":
            other.delete(["view"])
        else:
            other.put("view", [pattern(size, seed=3)])
        check(f"the key was {fate}")
        for i in range(4):
            storage.put("view", [pattern(size, seed=40 + i)])
            check("the key was put again")
            storage.delete(["view"])
        for i in range(32):
            (storage, other)[i % 2].put(f"reuse/{i}", [pattern(size, seed=5 + i)])
        check("other values were put")
        for i in range(32):
            assert bytes((storage, other)[i % 2].get(f"reuse/{i}")) == pattern(size, seed=5 + i)
        check("other values were read")

    def test_close_is_idempotent(self, client: Connect) -> None:
        """``close`` may be called before any use and again; values and buffers stay; a later call raises, if at all,
        a ``StorageError``.

        Fix ``close``, or translate what a closed connection raises.
        """
        client().close()
        storage, other = client(), client()
        storage.put("open", [pattern(5000)])
        data = storage.get("open")
        storage.close()
        storage.close()
        assert bytes(data) == bytes(other.get("open")) == pattern(5000)
        for call in (
            lambda: storage.get("open"),
            lambda: storage.put("open", [b"x"]),
            lambda: storage.delete(["open"]),
        ):
            try:
                call()
            except StorageError:
                continue

    def test_close_leaves_no_threads(self, client: Connect) -> None:
        """Once a client is closed, no thread of it keeps the process from ending.

        A worker whose work is done must be gone. Fix ``close``: end the client's threads; or make them daemons.
        """
        before = set(threading.enumerate())
        storage = client()
        storage.put("k", [b"x"], if_absent=True)
        storage.put_many({"l": [b"x"]})
        assert sorted(storage.get_many(["k", "l"])) == ["k", "l"]
        assert bytes(storage.get("k")) == b"x"
        storage.get_many(["none"], wait_s=0.01)
        storage.delete(["k", "l"])
        storage.close()
        give_up = time.monotonic() + self.patience_s
        for thread in set(threading.enumerate()) - before:
            if not thread.daemon:
                thread.join(max(0.0, give_up - time.monotonic()))
                assert not thread.is_alive(), f"the thread {thread.name} goes on"
