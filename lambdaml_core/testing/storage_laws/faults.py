"""Laws of requests whose answer is lost, or that are made twice: the storage under the layers that runs have too."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import pytest

from lambdaml_core.builtin import FaultOptions
from lambdaml_core.errors import KeyNotFound
from lambdaml_core.storage.fault import Fault
from lambdaml_core.storage.layers import FullStorage
from lambdaml_core.storage.retry import Retry
from lambdaml_core.testing.storage_laws.clients import Connect, TwoClients, need
from lambdaml_core.testing.threads import together

FAULTS = [{"fault_lost": 0.5}, {"fault_duplicate": 1.0}, {"fault_lost": 0.3, "fault_duplicate": 0.5}]
"""Which requests they hit follows from their seed and the keys: the same in every run."""

Faulty = Callable[[], FullStorage]


class FaultLaws(TwoClients):
    """Laws of a service that can be reached most of the time."""

    @pytest.fixture(params=FAULTS, ids=["answers lost", "made twice", "both"])
    def faulty(self, request: pytest.FixtureRequest, client: Connect) -> Faulty:
        """As ``client``, but requests have faults, and are made again until they are answered."""
        seeds = itertools.count()
        return lambda: Retry(Fault(client(), FaultOptions(fault_seed=next(seeds), **request.param)))

    def test_lost_answers_change_no_value(self, faulty: Faulty, other: FullStorage) -> None:
        """Puts and deletes that are made again, for want of an answer or by mistake, leave what they would have left.

        Every request is tried again after an error in passing. Fix whatever counts, appends or remembers requests: a
        put stores its value, whoever has put what before; a delete of what is gone is done.
        """
        storage = faulty()
        for turn in range(2):
            for i in range(5):
                assert storage.put(f"put/{i}", [b"%d/" % turn, b"%d" % i]) is True
            many = {f"many/{i}": [b"%d" % (turn + i)] for i in range(4)}
            assert sorted(storage.put_many(many)) == sorted(many)
            assert {key: bytes(data) for key, data in other.get_many([*many, "none"]).items()} == {
                key: parts[0] for key, parts in many.items()
            }
            for i in range(5):
                assert bytes(other.get(f"put/{i}")) == bytes(storage.get(f"put/{i}")) == b"%d/%d" % (turn, i)
                storage.delete([f"put/{i}"])
                with pytest.raises(KeyNotFound):
                    other.get(f"put/{i}")
            storage.delete([*many, "none"])
            assert storage.get_many(list(many)) == {}

    def test_lost_answers_leave_one_creator(self, faulty: Faulty, other: FullStorage) -> None:
        """Of clients that create one key, each with its token, exactly one is told that it did, and its token is there,
        although answers are lost and requests made twice.

        An attempt of a rank is claimed in this way. Fix ``put(if_absent=True)``: True only to the one whose bytes are
        there; equal length, or a key that this client has met before, is no proof.
        """
        racers, keys = [faulty() for _ in range(4)], [f"claim/{turn}" for turn in range(8)]
        need(other.caps.creates_once, "caps.creates_once")

        def race(me: int) -> list[bool]:
            return [racers[me].put(key, [b"token of %d" % me], if_absent=True) for key in keys]

        outcomes = together(*(functools.partial(race, me) for me in range(len(racers))), limit_s=self.patience_s)
        for turn, key in enumerate(keys):
            winners = [me for me in range(len(racers)) if outcomes[me][turn]]
            assert [b"token of %d" % me for me in winners] == [bytes(other.get(key))], f"{key} was created by {winners}"

    def test_lost_answers_of_put_many_tell_mine_from_theirs(self, faulty: Faulty, other: FullStorage) -> None:
        """``put_many(if_absent=True)`` tells which keys hold the caller's bytes, also when it is made again.

        The second try finds what the first has stored. Fix ``put_many``: it creates what is absent, one by one, and
        returns a collection of the keys that it stored.
        """
        storage = faulty()
        for turn in range(5):
            theirs = {f"in/{turn}/{i}": [b"theirs"] for i in range(0, 6, 2)}
            mine = {f"in/{turn}/{i}": [b"my own"] for i in range(6)}
            assert sorted(other.put_many(theirs, if_absent=True)) == sorted(theirs)
            stored = storage.put_many(mine, if_absent=True)
            assert sorted(stored) == sorted(mine.keys() - theirs.keys())
            found = {key: bytes(data) for key, data in other.get_many(list(mine)).items()}
            assert found == {key: parts[0] for key, parts in (mine | theirs).items()}
