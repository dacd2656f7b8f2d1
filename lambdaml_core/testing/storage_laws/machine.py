"""Two clients of one storage against a dictionary: Hypothesis looks for a sequence of calls that tells them apart."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lambdaml_core.errors import KeyNotFound, NotSupported
from lambdaml_core.storage.base import Buffer
from lambdaml_core.storage.layers import FullStorage, Prefix
from lambdaml_core.testing.storage_laws.clients import pattern

KEYS = ("a/b", "a/bc", "d")  # few, so that calls meet; the laws of keys look at more

which = st.integers(0, 1)
key = st.sampled_from(KEYS)
keys = st.lists(key, min_size=1, max_size=3)
value = st.binary(max_size=16) | st.builds(pattern, st.sampled_from([1000, 70_000, 70_001]), st.integers(0, 250))
prefix = st.sampled_from(["", "a/", "a/b", "a/bc", "none"])


class Held(NamedTuple):
    """A buffer that a get returned, with what it must hold for as long as its key has that version."""

    storage: FullStorage
    key: str
    version: int
    value: bytes
    data: Buffer


class TwoClientMachine(RuleBasedStateMachine):
    """Any sequence of calls, each through either client, has the answers of one dictionary."""

    def __init__(self, one: FullStorage, two: FullStorage, place: str) -> None:
        """``place`` is a prefix that no other example uses, so that every example starts empty."""
        super().__init__()
        self.clients = (Prefix(one, place), Prefix(two, place))
        self.limit = one.caps.max_value_bytes
        self.model: dict[str, bytes] = {}
        self.versions: Counter[str] = Counter()
        self.held: list[Held] = []
        self.lists = True

    @initialize()
    def ask_for_list(self) -> None:
        try:
            assert list(self.clients[0].list("")) == []
        except NotSupported:
            self.lists = False

    def teardown(self) -> None:
        self.clients[0].delete(KEYS)

    @rule(who=which, key=key, value=value, cut=st.integers(0, 16), if_absent=st.booleans())
    def put(self, who: int, key: str, value: bytes, cut: int, if_absent: bool) -> None:
        value = value[: self.limit]
        stored = self.clients[who].put(key, [value[:cut], value[cut:]], if_absent=if_absent)
        if if_absent and self.model.get(key) == value:
            return  # either answer will do
        assert stored is not (if_absent and key in self.model)
        if stored:
            self._now(key, value)

    @rule(who=which, items=st.dictionaries(key, value, min_size=1), if_absent=st.booleans())
    def put_many(self, who: int, items: dict[str, bytes], if_absent: bool) -> None:
        items = {k: v[: self.limit] for k, v in items.items()}
        stored = self.clients[who].put_many({k: [v] for k, v in items.items()}, if_absent=if_absent)
        assert set(stored) <= set(items)
        changed = {k: v for k, v in items.items() if not (if_absent and self.model.get(k) == v)}
        assert sorted(k for k in stored if k in changed) == sorted(
            k for k in changed if not (if_absent and k in self.model)
        )
        for k in set(stored) & set(changed):
            self._now(k, items[k])

    @rule(who=which, keys=keys)
    def delete(self, who: int, keys: list[str]) -> None:
        self.clients[who].delete(keys)
        for k in keys:
            self.model.pop(k, None)
            self.versions[k] += 1

    @rule(who=which, key=key)
    def get(self, who: int, key: str) -> None:
        try:
            data = self.clients[who].get(key)
        except KeyNotFound:
            assert key not in self.model
        else:
            assert bytes(data) == self.model.get(key)
            self._hold(who, key, data)

    @rule(who=which, keys=keys)
    def get_many(self, who: int, keys: list[str]) -> None:
        found = self.clients[who].get_many(keys)
        assert {k: bytes(data) for k, data in found.items()} == {k: self.model[k] for k in keys if k in self.model}
        for k, data in found.items():
            self._hold(who, k, data)

    @precondition(lambda self: self.lists)
    @rule(who=which, prefix=prefix)
    def list(self, who: int, prefix: str) -> None:
        assert list(self.clients[who].list(prefix)) == sorted(k for k in self.model if k.startswith(prefix))

    @invariant()
    def held_buffers_are_intact_or_say_so(self) -> None:
        for storage, key, version, value, data in self.held:
            copy = bytes(data)  # the last look comes before the question
            intact = storage.intact(key, data)
            assert copy == value or not intact, f"the buffer of {key} changed and is said to be intact"
            assert intact or self.versions[key] != version, f"{key} has not changed and its buffer is not intact"

    def _now(self, key: str, value: bytes) -> None:
        self.model[key] = value
        self.versions[key] += 1

    def _hold(self, who: int, key: str, data: Buffer) -> None:
        self.held.append(Held(self.clients[who], key, self.versions[key], self.model[key], data))
