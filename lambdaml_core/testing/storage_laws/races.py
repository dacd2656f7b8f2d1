"""Laws of many at once: who wins, what readers see meanwhile, and waiting."""

from __future__ import annotations

import functools
import queue
import threading
import time

import pytest

from lambdaml_core.errors import KeyNotFound
from lambdaml_core.storage.layers import FullStorage
from lambdaml_core.testing.storage_laws.clients import Connect, TwoClients, fitting, listed, need, pattern
from lambdaml_core.testing.storage_laws.peer import halting
from lambdaml_core.testing.threads import together


class RaceLaws(TwoClients):
    """Laws of concurrent use."""

    def test_one_of_many_creates(self, client: Connect) -> None:
        """Of 16 clients that create one key at one moment exactly one is told True, and all read its bytes at once.

        Whatever is computed twice is agreed upon in this way. Fix ``put(if_absent=True)``: let the service decide,
        never look first and write then; and write the value whole before the key appears.
        """
        rounds, racers = 24, [client() for _ in range(16)]
        need(racers[0].caps.creates_once, "caps.creates_once")
        gate = threading.Barrier(len(racers))

        def race(me: int) -> list[tuple[bool, bytes]]:
            outcomes = []
            for turn in range(rounds):
                gate.wait(self.patience_s)
                with halting(turn * len(racers) + me):
                    created = racers[me].put(f"race/{turn}", [b"%d " % me, pattern(500 * me)], if_absent=True)
                outcomes.append((created, bytes(racers[me].get(f"race/{turn}"))))
            return outcomes

        outcomes = together(*(functools.partial(race, me) for me in range(len(racers))), limit_s=self.patience_s)
        for turn in range(rounds):
            winners = [me for me in range(len(racers)) if outcomes[me][turn][0]]
            assert len(winners) == 1, f"{len(winners)} clients created the same key"
            value = b"%d " % winners[0] + pattern(500 * winners[0])
            assert all(outcome[turn][1] == value for outcome in outcomes), "a client did not read the winner's value"

    def test_one_client_serves_many_threads(self, storage: FullStorage) -> None:
        """Threads that share one client get in each other's way nowhere.

        Chunks are moved by several threads. Fix what they share: a connection, a buffer, a dictionary.
        """

        def work(me: int) -> None:
            for turn in range(20):
                key, value = f"thread/{me}/{turn}", pattern(1000 + 37 * me, seed=turn)
                storage.put(key, [value])
                assert bytes(storage.get(key)) == value
                assert {k: bytes(v) for k, v in storage.get_many([key, "none"]).items()} == {key: value}
                storage.delete([key])
                with pytest.raises(KeyNotFound):
                    storage.get(key)

        together(*(functools.partial(work, me) for me in range(8)), limit_s=self.patience_s)

    def test_no_reader_sees_a_torn_value(self, client: Connect) -> None:
        """While a key is overwritten, a reader gets one whole value or another: no mixture, no piece, no gap.

        Fix ``put``: write the value where nobody reads it, then let the service replace the old one in one step.
        """
        sizes = fitting(client().caps, 1, 1000, 70_001, 300_000)
        values = [bytes([i]) * sizes[i % len(sizes)] for i in range(40)]
        client().put("torn", [values[0]])
        writing = [True, True]

        def write(me: int) -> None:
            storage = client()
            try:
                for value in values[me::2]:
                    storage.put("torn", [value])
            finally:
                writing[me] = False

        def read() -> None:
            storage, last = client(), False
            while not last:
                last = not any(writing)
                data = storage.get("torn")
                copy = bytes(data)
                if storage.intact("torn", data):
                    assert copy in values, f"{len(copy)} bytes that nobody wrote"
                else:
                    assert not last, "nobody writes any more, and still the value is not intact"

        together(functools.partial(write, 0), functools.partial(write, 1), read, read, limit_s=self.patience_s)

    def test_what_is_listed_can_be_read(self, client: Connect) -> None:
        """While values are put, ``list`` gives only keys whose values can be read whole: nothing half-written.

        Fix ``list``: leave out temporary names.
        """
        listed(client(), "")
        keys = [f"put/{i}" for i in range(60)]
        writing = [True]

        def write() -> None:
            storage = client()
            try:
                for key in keys:
                    storage.put(key, [pattern(5000)])
            finally:
                writing[0] = False

        def read() -> None:
            storage, seen = client(), set[str]()
            while len(seen) < len(keys):
                last = not writing[0]
                there = set(storage.list(""))
                assert there <= set(keys)
                assert all(bytes(storage.get(key)) == pattern(5000) for key in there - seen)
                seen |= there
                assert len(there) == len(keys) or not last, "keys are missing although all have been put"

        together(write, read, limit_s=self.patience_s)


class WaitLaws(TwoClients):
    """Laws of ``get_many(keys, wait_s=...)``; all but the first are for storages that state ``caps.blocks``."""

    def test_no_wait_returns(self, storage: FullStorage) -> None:
        """``get_many`` with ``wait_s=0``, or with no keys, returns nothing instead of waiting for something.

        Fix ``get_many``: to many services, a time-out of 0 means for ever.
        """
        keys: list[str]
        for keys, wait_s in ((["never"], 0.0), (["never", "ever"], 0.0), ([], 0.0), ([], self.patience_s * 2)):
            got = together(functools.partial(storage.get_many, keys, wait_s=wait_s), limit_s=self.patience_s)
            assert got == [{}]

    def test_a_wait_ends(self, storage: FullStorage, other: FullStorage) -> None:
        """A wait for what never comes ends with nothing, although other keys are put meanwhile.

        Fix ``get_many``: mind the unit of the service's time-out, and wait for the rest only when woken in vain.
        """
        need(storage.caps.blocks, "caps.blocks")

        def wait(wait_s: float) -> None:
            assert storage.get_many(["never", "ever"], wait_s=wait_s) == {}

        def disturb() -> None:
            for i in range(20):
                other.put(f"other/{i}", [b"x"])

        together(functools.partial(wait, 0.001), functools.partial(wait, 0.1), disturb, limit_s=self.patience_s)

    def test_a_wait_lasts_its_time(self, storage: FullStorage) -> None:
        """A wait for what never comes lasts ``wait_s``: it does not come back early, to be made again at once.

        Whoever waits makes the next request when this one has ended, and each is paid for. Fix ``get_many``: mind the
        unit of the service's time-out, round it up, and wait for the rest when woken in vain.
        """
        need(storage.caps.blocks, "caps.blocks")
        for wait_s in (0.02, 0.3):
            began = time.monotonic()
            assert storage.get_many(["never", "ever"], wait_s=wait_s) == {}
            lasted = time.monotonic() - began
            assert lasted >= 0.9 * wait_s, f"a wait of {wait_s} s came back after {lasted:.3f} s"
            assert lasted <= wait_s + self.patience_s, f"a wait of {wait_s} s came back after {lasted:.3f} s"

    @pytest.mark.parametrize("clients", [1, 2])
    def test_a_wait_ends_when_the_value_comes(self, client: Connect, clients: int) -> None:
        """A wait brings the value as soon as it is put, by another client or another thread of the same.

        Two threads take turns: each waits for the other's value before it puts its own, so a wait that returns
        too early, sleeps on, or keeps the client from putting shows at once. Fix ``get_many``.
        """
        one = client()
        two = one if clients == 1 else client()
        need(one.caps.blocks, "caps.blocks")
        turns = 40

        def serve() -> None:
            for turn in range(turns):
                one.put(f"ping/{turn}", [b"%d" % turn])
                assert _waited(one, [f"pong/{turn}"], self.patience_s) == {f"pong/{turn}": b"%d" % -turn}

        def answer() -> None:
            for turn in range(turns):
                assert _waited(two, [f"ping/{turn}"], self.patience_s) == {f"ping/{turn}": b"%d" % turn}
                two.put(f"pong/{turn}", [b"%d" % -turn])

        together(serve, answer, limit_s=self.patience_s)

    def test_a_wait_is_for_any_of_the_keys(self, storage: FullStorage, other: FullStorage) -> None:
        """A wait for several keys ends when any of them comes, the last as well as the first.

        Fix ``get_many``: a watch on one key is not enough.
        """
        need(storage.caps.blocks, "caps.blocks")
        orders = [[f"any/{turn}/{i}" for i in range(6)] for turn in range(12)]

        def serve() -> None:
            for turn, keys in enumerate(orders):
                storage.put(keys[-1 - turn % 6], [b"came"])
                assert _waited(storage, [f"seen/{turn}"], self.patience_s), "no answer"

        def answer() -> None:
            for turn, keys in enumerate(orders):
                assert _waited(other, keys, self.patience_s) == {keys[-1 - turn % 6]: b"came"}
                other.put(f"seen/{turn}", [b""])

        together(answer, serve, limit_s=self.patience_s)

    def test_a_wait_is_for_many_keys(self, storage: FullStorage, other: FullStorage) -> None:
        """A wait for hundreds of keys ends when any of them comes; one for keys of which some are there brings all of
        these at once.

        Who folds waits for everybody else. Fix ``get_many``: what one request or one connection watches is limited, so
        wait for as many as it needs at the same time.
        """
        need(storage.caps.blocks, "caps.blocks")
        crowds = [[f"crowd/{turn}/{i}" for i in range(600)] for turn in range(4)]
        last = [keys[i] for keys, i in zip(crowds, (599, 0, 300, 120), strict=True)]

        def serve() -> None:
            for turn, key in enumerate(last):
                storage.get_many(["never"], wait_s=0.02)  # so that the other is waiting by now, most likely
                storage.put(key, [b"came"])
                assert _waited(storage, [f"seen/{turn}"], self.patience_s), "no answer"

        def answer() -> None:
            for turn, keys in enumerate(crowds):
                assert _waited(other, keys, self.patience_s) == {last[turn]: b"came"}
                other.put(f"seen/{turn}", [b""])

        together(answer, serve, limit_s=self.patience_s)
        there = {key: key.encode() for key in crowds[0][::50]}
        storage.put_many({key: [value] for key, value in there.items()})
        assert _waited(other, crowds[0], self.patience_s) == there | {last[0]: b"came"}

    def test_all_who_wait_are_woken(self, client: Connect) -> None:
        """When a value comes, all clients that wait for it get it.

        Every rank waits for one result. Fix ``get_many``: the first reader must not use the wake-up of the others.
        """
        waiters, turns = [client() for _ in range(8)], 10
        need(waiters[0].caps.blocks, "caps.blocks")
        source = client()
        woken = queue.SimpleQueue[int]()  # not through the storage, where every answer could wake another waiter

        def lead() -> None:
            for turn in range(turns):
                source.get_many(["never"], wait_s=0.01)  # so that most of the others are waiting by now
                source.put(f"go/{turn}", [b"%d" % turn])
                for count in range(len(waiters)):
                    try:
                        woken.get(timeout=self.patience_s / 2)
                    except queue.Empty:
                        pytest.fail(f"only {count} of {len(waiters)} clients were woken")

        def follow(me: int) -> None:
            for turn in range(turns):
                assert _waited(waiters[me], [f"go/{turn}"], self.patience_s) == {f"go/{turn}": b"%d" % turn}
                woken.put(me)

        together(lead, *(functools.partial(follow, me) for me in range(len(waiters))), limit_s=self.patience_s)


def _waited(storage: FullStorage, keys: list[str], wait_s: float) -> dict[str, bytes]:
    return {key: bytes(data) for key, data in storage.get_many(keys, wait_s=wait_s).items()}
