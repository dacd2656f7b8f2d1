"""Laws of what ``caps`` states in numbers: what fits works, and what does not is refused and changes nothing."""

from __future__ import annotations

import functools
from typing import ClassVar

import pytest

from lambdaml_core.errors import KeyNotFound, ValueTooLarge
from lambdaml_core.storage.layers import FullStorage
from lambdaml_core.testing.storage_laws.clients import TwoClients, pattern
from lambdaml_core.testing.threads import together

_UNSTATED_BYTES = 16 << 20  # a value that a storage takes which states no limit
_MOST_THREADS = 64


class LimitLaws(TwoClients):
    """Laws of ``caps.max_value_bytes`` and ``caps.parallel``; that of the longest key stands with the keys."""

    largest_bytes: ClassVar[int] = 64 << 20
    """Largest value that these laws move; of a limit above it they try no more."""

    def test_largest_value(self, storage: FullStorage, other: FullStorage) -> None:
        """A value of ``caps.max_value_bytes`` is stored and read, by itself and with others in one call.

        Messages are cut to this size. Fix ``caps.max_value_bytes`` (mind what a service counts beside the value: the
        key, a header), or ``put_many`` and ``get_many`` where one request takes less than two such values: send as
        many requests as it needs.
        """
        size = min(storage.caps.max_value_bytes or _UNSTATED_BYTES, self.largest_bytes)
        values = {f"large/{i}": pattern(size, seed=i) for i in range(2)}
        for key, value in values.items():
            assert storage.put(key, [value[:100], memoryview(value)[100:]], if_absent=True) is True
            same = other.get(key) == value  # apart: an assertion would show what differs, for minutes
            assert same, f"a value of {size} bytes came back different"
        other.delete(values)
        assert sorted(other.put_many({key: [value] for key, value in values.items()})) == sorted(values)
        found = storage.get_many([*values, "none"])
        assert sorted(found) == sorted(values)
        same = all(found[key] == value for key, value in values.items())
        assert same, f"of several values of {size} bytes one came back different"
        storage.delete(values)

    def test_too_large_values_are_refused(self, storage: FullStorage, other: FullStorage) -> None:
        """One byte more than ``caps.max_value_bytes`` raises ``ValueTooLarge`` and changes nothing.

        A value that is lost in silence hangs a run. Fix ``put`` and ``put_many``: look at the size first, above all
        where the client library does not wait for the answer.
        """
        limit = storage.caps.max_value_bytes
        if limit is None:
            pytest.skip("caps.max_value_bytes not declared")
        if limit > self.largest_bytes:
            pytest.skip(f"caps.max_value_bytes is above {self.largest_bytes} bytes, which largest_bytes could raise")
        storage.put("small", [b"small"])
        too_large = [pattern(limit), b"!"]
        for key in ("small", "new"):
            for if_absent in (False, True):
                if key == "new" or not if_absent:
                    with pytest.raises(ValueTooLarge):
                        storage.put(key, too_large, if_absent=if_absent)
            with pytest.raises(ValueTooLarge):
                storage.put_many({"fits": [b"fits"], key: too_large})
        assert bytes(other.get("small")) == b"small"
        with pytest.raises(KeyNotFound):
            other.get("new")
        assert storage.put("new", [pattern(limit - 1), b"!"]) is True, "the limit is a byte too low"

    def test_requests_at_once(self, storage: FullStorage, other: FullStorage) -> None:
        """One client takes ``caps.parallel`` requests at once; none is refused, and each has its own answer.

        Chunks of a message move at once. Fix the client's pool of connections: as many as stated, and who finds none
        free waits for one; or ``caps.parallel``.
        """
        threads = min(max(storage.caps.parallel, 2), _MOST_THREADS)

        def work(me: int) -> None:
            values = {f"parallel/{me}/{i}": pattern(20_000 + me, seed=i) for i in range(6)}
            for key, value in values.items():
                assert storage.put(key, [value], if_absent=True) is True
                assert bytes(storage.get(key)) == value
            assert {key: bytes(data) for key, data in storage.get_many(list(values)).items()} == values

        together(*(functools.partial(work, me) for me in range(threads)), limit_s=self.patience_s)
        assert len(other.get_many([f"parallel/{me}/0" for me in range(threads)])) == threads
