"""Laws of how long values stay."""

from __future__ import annotations

import contextlib
import time

import pytest

from lambdaml_core.errors import KeyNotFound, NotSupported
from lambdaml_core.storage.layers import FullStorage
from lambdaml_core.testing.storage_laws.clients import TwoClients, need

_CLOCKS_S = 0.01  # what the clocks of a service and of a client may disagree by in a second


class TimeLaws(TwoClients):
    """Laws of ``ttl_s``."""

    def test_values_stay_until_their_time(self, storage: FullStorage, other: FullStorage) -> None:
        """``ttl_s`` never shortens a life: a value is there until then, and always where ``caps.expires`` is false.

        Fix the unit (seconds; a number over 30 days is a date to Memcached), or ignore ``ttl_s``.
        """
        lives = [3600.0, 90 * 86_400.0] if storage.caps.expires else [1e-9, 0.5, 3600.0]
        for i, ttl_s in enumerate(lives):
            storage.put(f"ttl/{i}", [b"alive"], ttl_s=ttl_s)
            storage.put(f"ttl/once/{i}", [b"alive"], ttl_s=ttl_s, if_absent=True)
            storage.put_many({f"ttl/many/{i}": [b"alive"]}, ttl_s=ttl_s)
            for key in (f"ttl/{i}", f"ttl/once/{i}", f"ttl/many/{i}"):
                assert bytes(other.get(key)) == b"alive"

    def test_values_go_when_their_time_is_over(self, storage: FullStorage, other: FullStorage) -> None:
        """Where ``caps.expires`` is stated, a value goes after ``ttl_s``, however it was put, and never before.

        Expiry is what cleans up after a run whose driver died. Fix the unit and the rounding (up: 0.5 s is no 0, which
        to many services means for ever), pass ``ttl_s`` on in ``put_many`` and with ``if_absent`` too, or do not state
        ``caps.expires``.
        """
        need(storage.caps.expires, "caps.expires")
        ends: dict[str, float] = {}
        for ttl_s in (0.4, 1.2):
            began = time.monotonic()
            storage.put(f"{ttl_s}/put", [b"x"], ttl_s=ttl_s)
            storage.put(f"{ttl_s}/once", [b"x"], ttl_s=ttl_s, if_absent=True)
            storage.put_many({f"{ttl_s}/many": [b"x"]}, ttl_s=ttl_s)
            storage.put_many({f"{ttl_s}/many-once": [b"x"]}, ttl_s=ttl_s, if_absent=True)
            ends |= {f"{ttl_s}/{how}": began + ttl_s for how in ("put", "once", "many", "many-once")}
        there = set(ends)
        while there:
            found = other.get_many(sorted(ends))
            now = time.monotonic()
            for key in there - found.keys():
                assert now > ends[key] - _CLOCKS_S, f"{key} went {ends[key] - now:.2f} s too early"
            there &= found.keys()
            assert now < max(ends.values()) + self.patience_s, f"still there after their time: {sorted(there)}"
            time.sleep(0.02)
        with contextlib.suppress(NotSupported):
            assert list(other.list("")) == [], "what has gone is listed no more"
        for key in ends:
            with pytest.raises(KeyNotFound):
                storage.get(key)
            assert storage.put(key, [b"new"], if_absent=True) is True, "what has gone is absent"

    def test_a_new_value_has_a_time_of_its_own(self, storage: FullStorage, other: FullStorage) -> None:
        """A value that replaces another has its own ``ttl_s``: none if it has none, whatever the old one had.

        Fix ``put``: clear the old time. A value that goes before its time hangs a run.
        """
        need(storage.caps.expires, "caps.expires")
        for key in ("without", "longer", "alone"):
            storage.put(key, [b"old"], ttl_s=0.4)
        storage.put("without", [b"new"])
        storage.put("longer", [b"new"], ttl_s=3600.0)
        give_up = time.monotonic() + self.patience_s
        while "alone" in other.get_many(["alone"]):
            assert time.monotonic() < give_up, "still there after its time"
            time.sleep(0.02)
        time.sleep(0.05)  # the others' old time was a little later
        assert {key: bytes(data) for key, data in other.get_many(["without", "longer"]).items()} == {
            "without": b"new",
            "longer": b"new",
        }
