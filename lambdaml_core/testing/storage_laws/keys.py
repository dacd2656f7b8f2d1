"""Laws of keys: which there are, which are refused, how they are listed, and many of them at once."""

from __future__ import annotations

import contextlib
import string
from collections.abc import Callable, Collection

import pytest

from lambdaml_core.errors import KeyNotFound, NotSupported, StorageError
from lambdaml_core.storage.layers import FullStorage
from lambdaml_core.testing.storage_laws.clients import TwoClients, listed

LEGAL = ["A", "ab", "a.b", "a_b", "a-b", "a.", "a..b", "a.b.c", "_a", "-a", "0", "a/b", "a/B", "a/b.c", "a/b-c", "a/bc"]
LEGAL += ["a.c/b", "a_c/b", "ac/b", "A-/b", "a/tmp", "a.tmp", "a.lock", "a.part", "a/b.tmp", "a-2F-b", "a_2Fb", "a__b"]
LEGAL += ["a--b", "tmp", "lock", "x/y/z/w/v/u/t/s/r/q"]

ALPHABET = string.ascii_letters + string.digits + "_-."

ILLEGAL = ["", ".", "..", "../a", "a/..", "a/../b", "a/./b", ".a", "a/.b", "/", "/a", "a/", "a//b"]
ILLEGAL += ["a b", "a\n", "a\0b", "a\\b", "a%2Fb", "a?b", "a*", "a:b", "~", "\u00e4", "a/\u0661"]


class KeyLaws(TwoClients):
    """Laws about more than one key; none needs concurrency."""

    def test_keys_do_not_collide(self, storage: FullStorage, other: FullStorage) -> None:
        """Any two different legal keys are two values, even where one is the start of the other.

        Fix how keys become names: replace nothing by something that a key may contain, and keep upper case apart.
        """
        for key in LEGAL:
            assert storage.put(key, [key.encode()], if_absent=True), f"{key} is taken for another key"
        for key in LEGAL:
            assert bytes(other.get(key)) == key.encode()
        while_there = set(LEGAL)
        for key in LEGAL:
            other.delete([key])
            while_there.remove(key)
            assert set(storage.get_many(LEGAL)) == while_there, f"deleting {key} deleted another, or not itself"

    @pytest.mark.parametrize(("first", "second"), [("a", "a/b/c"), ("a/b/c", "a/b")])
    @pytest.mark.parametrize("if_absent", [False, True])
    def test_a_folder_is_no_key(
        self, storage: FullStorage, other: FullStorage, first: str, second: str, if_absent: bool
    ) -> None:
        """Beside ``a``, ``a/b`` is another value or is refused with a ``StorageError``; never lost, never mistaken.

        Folders of files cannot have both. Fix ``put``: a folder is no value that was created before.
        """
        storage.put(first, [b"first"])
        kept = {first: b"first"}
        with contextlib.suppress(StorageError):
            try:
                assert other.put(second, [b"second"], if_absent=if_absent) is True
            except KeyNotFound:
                pytest.fail("nobody asked for a value")
            kept[second] = b"second"
        assert {key: bytes(data) for key, data in storage.get_many([first, second]).items()} == kept
        other.delete([second])
        assert bytes(storage.get(first)) == b"first"

    @pytest.mark.parametrize("key", ILLEGAL)
    def test_illegal_keys_are_refused(self, storage: FullStorage, key: str) -> None:
        """Every method refuses a key that is not legal with a ``StorageError``, before it does anything.

        Else a name from outside climbs out of its run. Fix each method: call
        :func:`lambdaml_core.storage.check_key` on every key.
        """
        calls: list[Callable[[], object]] = [
            lambda: storage.put(key, [b"x"]),
            lambda: storage.put_many({key: [b"x"]}),
            lambda: storage.get(key),
            lambda: storage.get_many([key]),
            lambda: storage.delete([key]),
        ]
        for call in calls:
            with pytest.raises(StorageError) as refused:
                call()
            assert not isinstance(refused.value, KeyNotFound), "a key that cannot be is not merely missing"

    @pytest.mark.parametrize("part", ["k", "k/", f"k/{ALPHABET}"], ids=["one word", "many words", "all letters"])
    def test_longest_key(self, storage: FullStorage, other: FullStorage, part: str) -> None:
        """Keys of ``caps.max_key_bytes`` work and stay apart; one byte more raises a ``StorageError``.

        Fix ``caps.max_key_bytes`` (mind what an encoding or a prefix of your own adds), or check it in every method:
        ``check_key(key, self.caps.max_key_bytes)``.
        """
        limit = storage.caps.max_key_bytes
        stem = (part * limit)[: limit - 2].rstrip("/.-") + "k"
        stem += "k" * (limit - 1 - len(stem))
        for last in "xy":
            storage.put(stem + last, [last.encode()])
        for last in "xy":
            assert bytes(other.get(stem + last)) == last.encode()
        assert set(other.get_many([stem + "x", stem + "z"])) == {stem + "x"}
        other.delete([stem + "x"])
        assert set(storage.get_many([stem + "x", stem + "y"])) == {stem + "y"}
        assert sorted(storage.put_many({stem + "x": [b"again"], stem + "y": [b"again"]})) == [stem + "x", stem + "y"]
        with contextlib.suppress(NotSupported):
            assert list(other.list(stem)) == [stem + "x", stem + "y"]
        calls: list[Callable[[], object]] = [
            lambda: storage.put(stem + "xx", [b"too long"]),
            lambda: storage.put_many({stem + "xx": [b"too long"]}),
            lambda: storage.get(stem + "xx"),
            lambda: storage.get_many([stem + "xx"]),
            lambda: storage.delete([stem + "xx"]),
        ]
        for call in calls:
            with pytest.raises(StorageError) as refused:
                call()
            assert not isinstance(refused.value, KeyNotFound), "a key that cannot be is not merely missing"

    def test_list_gives_exactly_the_keys_with_the_prefix(self, storage: FullStorage, other: FullStorage) -> None:
        """``list`` gives every key that starts with the prefix, once and in order, whatever the prefix is.

        A prefix is plain text: half a word is one, and ``*`` or ``../`` mean nothing. Fix ``list``.
        """
        assert listed(storage, "") == []
        for key in LEGAL:
            storage.put(key, [b"x"])
            other.put(key, [b"again"])
        other.delete(["ab", "x/y", "none/none"])
        there = sorted(set(LEGAL) - {"ab"})
        prefixes = ["", "a", "a/", "a/b", "a.", "ab", "x/", "x/y/z", "zz", "*", "a*", "[a]", ".", "../", "/", "a//"]
        for prefix in prefixes:
            assert listed(other, prefix) == [key for key in there if key.startswith(prefix)], f"prefix {prefix!r}"

    def test_list_is_complete(self, storage: FullStorage, other: FullStorage) -> None:
        """``list`` gives all keys, however many: a page of a listing is not the listing.

        Fix ``list``: follow the service's continuation until there is none. A thousand is a common page.
        """
        keys = sorted(f"page/{i * 7919 % 2345}" for i in range(2345))
        storage.put_many({key: [b""] for key in keys})
        assert listed(other, "page/") == keys

    def test_listing_can_be_deleted(self, storage: FullStorage, other: FullStorage) -> None:
        """``delete(list(prefix))`` deletes all of them, although they go while they are being listed.

        This is how a finished run is cleaned away. Fix ``list``: continue after the last key, not by a position.
        """
        storage.put_many({f"run/{i}": [b""] for i in range(1100)})
        storage.put("run2/kept", [b""])
        listed(other, "run/")
        other.delete(other.list("run/"))
        assert listed(storage, "run") == ["run2/kept"]

    def test_get_many_gives_those_that_exist(self, storage: FullStorage, other: FullStorage) -> None:
        """``get_many`` gives the value of every key that exists, and says nothing of the others.

        Fix ``get_many``: a service's batch is limited, and one missing key must not hide the others.
        """
        keys = [f"in/{i}" for i in range(1200)]
        storage.put_many({key: [key.encode()] for key in keys[::2]})
        assert {key: bytes(data) for key, data in other.get_many(keys).items()} == {k: k.encode() for k in keys[::2]}
        assert {key: bytes(data) for key, data in other.get_many(["in/1", "in/0"], wait_s=self.patience_s).items()} == {
            "in/0": b"in/0"
        }
        assert other.get_many([]) == {}
        assert other.get_many(["in/1", "none"]) == {}

    def test_put_many_stores_all_and_says_which(self, storage: FullStorage, other: FullStorage) -> None:
        """``put_many`` stores every item as ``put`` would, and returns the keys that it stored.

        The caller goes on with the stored bytes of the rest. Fix ``put_many``: it returns a collection, and a batch of
        the service that knows no condition creates nothing.
        """
        stored = storage.put_many({"a": [b"1", b"2"], "b": [], "c/d": [b"3"]})
        assert (isinstance(stored, Collection), sorted(stored)) == (True, ["a", "b", "c/d"])
        assert sorted(other.put_many({"a": [b"lost"], "e": [b"4"], "b": [b"lost"]}, if_absent=True)) == ["e"]
        assert sorted(other.put_many({"c/d": [b"new"]})) == ["c/d"]
        assert list(storage.put_many({})) == []
        found = {key: bytes(data) for key, data in storage.get_many(["a", "b", "c/d", "e"]).items()}
        assert found == {"a": b"12", "b": b"", "c/d": b"new", "e": b"4"}
        keys = [f"create/{i}" for i in range(130)]
        theirs = keys[::3]
        assert sorted(other.put_many({key: [b"theirs"] for key in theirs}, if_absent=True)) == sorted(theirs)
        stored = storage.put_many({key: [b"mine"] for key in keys}, if_absent=True)
        assert sorted(stored) == sorted(set(keys) - set(theirs))
        created = {key: bytes(data) for key, data in other.get_many(keys).items()}
        assert created == {key: b"theirs" if key in theirs else b"mine" for key in keys}
