"""Checkpoints are found again as they were saved, whatever has become of the store meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from checkpoint_states import PER_ROUND, Killed, Mortal, checkpoint, new_store, ranks, same, tear
from hypothesis import given
from hypothesis import strategies as st

from lambdaml_core.errors import ResultLost, RunError
from lambdaml_core.run.records.attempts import Base
from lambdaml_core.run.records.checkpoints import Checkpoints, newest_complete
from lambdaml_core.storage.base import Buffer
from lambdaml_core.storage.layers import FullStorage, Layer


def save(checkpoints: Checkpoints, *rounds: int, rank: int = 0, private: bool = False) -> int:
    return sum(checkpoints.save(checkpoint(round, rank, private=private)) for round in rounds)


def find(store: FullStorage, rank: int = 0, size: int = 1, **keys: Any) -> int | None:
    """The round from which a new attempt would go on, once it is seen to be that checkpoint in every byte."""
    found = ranks(store, size, **keys)[rank].newest()
    if found is not None:
        assert same(found, checkpoint(found.round, rank, private=bool(found.state.private)))
    return found and found.round


def key(round: int, file: str, generation: int = 0) -> str:
    return f"checkpoints/{generation}/{round:09d}/{file}"


def test_a_run_without_checkpoints_starts_from_the_beginning() -> None:
    (only,) = ranks(new_store(), 1)
    assert only.newest() is None
    assert (only.newest_sequence(), only.frontier()) == (0, 0)
    assert newest_complete(new_store(), 3, 1) is None


def test_the_newest_is_found_with_the_sequence_numbers_of_the_last_two() -> None:
    store = new_store()
    assert save(ranks(store, 1)[0], 10, 20, 30) > 0
    (only,) = ranks(store, 1)
    assert same(only.newest(), checkpoint(30))
    assert (only.newest_sequence(), only.frontier()) == (30 * PER_ROUND, 20 * PER_ROUND)
    assert newest_complete(store, 0, 1) == Base(generation=0, round=30)


def test_a_damaged_one_is_none_of_the_last_two() -> None:
    store = new_store()
    save(ranks(store, 1)[0], 10, 20, 30)
    tear(store, key(30, "shared.safetensors"), 300)
    (only,) = ranks(store, 1)
    only.newest()
    assert (only.newest_sequence(), only.frontier()) == (20 * PER_ROUND, 10 * PER_ROUND)


@pytest.mark.parametrize("field", ["sequence", "private", "size", "schema"])
def test_a_manifest_in_which_a_number_became_another_is_none(field: str) -> None:
    """It would be followed to results that belong to another round."""
    store = new_store()
    save(ranks(store, 1)[0], 1, 2)
    name = key(2, "shared.json")
    manifest = json.loads(bytes(store.get(name)))
    store.put(name, [json.dumps(manifest | {field: manifest[field] + 1}).encode()])
    assert find(store) == 1
    assert newest_complete(store, 0, 1) == Base(generation=0, round=1)


@given(
    size=st.integers(1, 3),
    private=st.booleans(),
    torn=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 9999)), max_size=8),
)
def test_whatever_is_damaged_the_newest_whole_one_is_found(
    size: int, private: bool, torn: list[tuple[int, int]]
) -> None:
    store = new_store()
    for rank, each in enumerate(ranks(store, size)):
        save(each, 1, 2, 3, rank=rank, private=private)
    before = {key: bytes(store.get(key)) for key in store.list("")}
    for which, how in torn:
        there = list(store.list(""))
        if there:
            tear(store, there[which % len(there)], how)
    after = {key: bytes(store.get(key)) for key in store.list("")}

    def whole(round: int, part: str) -> bool:
        files = [key(round, f"{part}.{kind}") for kind in ("json", "safetensors")]
        return all(after.get(file) == before[file] for file in files)

    def expected(mine: list[int]) -> int | None:
        """The newest round of which the shared part and those of these ranks are whole, and all are there."""
        for round in (3, 2, 1):
            all_there = all(key(round, f"private-{r}.json") in after for r in range(size) if private)
            if all_there and whole(round, "shared") and all(whole(round, f"private-{r}") for r in mine if private):
                return round
        return None

    for rank in range(size):
        assert find(store, rank, size) == expected([rank])
    base = newest_complete(store, 0, size)
    assert (base and base["round"]) == expected(list(range(size)))


@pytest.mark.parametrize("lives", range(6))
def test_a_writer_that_is_killed_leaves_a_part_that_is_none_and_is_written_again(lives: int) -> None:
    store = new_store()
    save(ranks(store, 1)[0], 1, private=True)
    mortal = Mortal(store)
    mortal.lives = lives
    try:
        save(ranks(mortal, 1)[0], 2, private=True)
    except Killed:
        assert lives < 4  # two parts of two files
    assert find(store) == (1 if lives < 4 else 2)
    (again,) = ranks(store, 1)
    again.newest()
    save(again, 2, private=True)
    assert find(store) == 2
    assert newest_complete(store, 0, 1) == Base(generation=0, round=2)


def test_a_part_that_is_whole_stays_as_it_is() -> None:
    store = new_store()
    save(ranks(store, 1)[0], 1)
    other = checkpoint(1)
    other.state.params[0] += 1
    assert ranks(store, 1)[0].save(other) == 0
    assert find(store) == 1


@pytest.mark.parametrize("file", ["shared.json", "shared.safetensors"])
@pytest.mark.parametrize("how", [0, 101, 102])
def test_a_damaged_part_is_written_again_by_whoever_comes_by(file: str, how: int) -> None:
    store = new_store()
    save(ranks(store, 1)[0], 1)
    tear(store, key(1, file), how)
    assert find(store) is None
    assert save(ranks(store, 1)[0], 1) > 0
    assert find(store) == 1


def test_two_attempts_that_write_the_same_part_at_once_leave_a_whole_one() -> None:
    """In all interleavings of their puts; one of them computes other numbers, since its processor has other units."""
    other = checkpoint(1)
    other.state.params[0] += 1e-9

    class Interrupted(Layer):
        """Lets somebody else write just before one of its puts."""

        def __init__(self, inner: FullStorage, at: int, then: Callable[[], object]) -> None:
            super().__init__(inner)
            self._left, self._then = at, then

        def put(self, *args: Any, **keys: Any) -> bool:
            self._left -= 1
            if self._left == -1:
                self._then()
            return super().put(*args, **keys)

    for first in range(3):
        for second in range(5):
            store = new_store()
            slow = Interrupted(store, second, lambda store=store: save(ranks(store, 1)[0], 1))  # type: ignore[misc]
            fast = Interrupted(store, first, lambda slow=slow: ranks(slow, 1)[0].save(other))  # type: ignore[misc]
            save(ranks(fast, 1)[0], 1)
            found = ranks(store, 1)[0].newest()
            assert same(found, checkpoint(1)) or same(found, other)


def test_a_checkpoint_lacks_a_rank_whose_own_part_is_not_there() -> None:
    store = new_store()
    first, second = ranks(store, 2)
    save(first, 1, 2, private=True)
    save(second, 1, rank=1, private=True)
    assert find(store, 0, 2) == find(store, 1, 2) == 1
    assert newest_complete(store, 0, 2) == Base(generation=0, round=1)
    save(second, 2, rank=1, private=True)
    assert find(store, 0, 2) == find(store, 1, 2) == 2


def test_checkpoints_of_another_number_of_workers_and_other_files_are_passed_over() -> None:
    store = new_store()
    save(ranks(store, 1)[0], 1)
    save(ranks(store, 3)[0], 2)
    for name in ("shared.txt", "private-x.json", "note"):
        store.put(key(9, name), [b"{}"])
    store.put(key(8, "shared.json"), [b"[]"])
    store.put("checkpoints/0/old/shared.json", [b"{}"])
    assert find(store) == 1
    assert newest_complete(store, 0, 1) == Base(generation=0, round=1)


def test_a_part_under_another_name_is_none() -> None:
    """Such as one that somebody has copied."""
    store = new_store()
    save(ranks(store, 1)[0], 1)
    for kind in ("json", "safetensors"):
        store.put(key(2, f"shared.{kind}"), [store.get(key(1, f"shared.{kind}"))])
    assert find(store) == 1


def test_a_hand_over_is_for_its_own_rank_and_used_while_it_is_the_newest() -> None:
    store = new_store()
    each = ranks(store, 2)
    save(each[0], 1)
    assert each[1].hand_over(checkpoint(3, 1, private=True)) > 0
    assert find(store, 1, 2) == 3
    assert find(store, 0, 2) == 1
    assert newest_complete(store, 0, 2) == Base(generation=0, round=1)
    successor = ranks(store, 2)[1]
    successor.newest()
    assert (successor.newest_sequence(), successor.frontier()) == (PER_ROUND, 0)  # a hand-over helps no other rank
    save(each[0], 4)
    assert find(store, 1, 2) == 4
    tear(store, key(4, "shared.json"), 0)
    tear(store, key(3, "rank-1.safetensors"), 7)
    assert find(store, 1, 2) == 1


def test_a_generation_starts_from_its_base_until_it_has_a_newer_one() -> None:
    store = new_store()
    save(ranks(store, 1)[0], 1, 2, 3)
    base = Base(generation=0, round=2)
    assert find(store, generation=1, base=base) == 2
    (only,) = ranks(store, 1, generation=1, base=base)
    only.newest()
    assert (only.newest_sequence(), only.frontier()) == (2 * PER_ROUND, 0)
    save(only, 4)
    assert find(store, generation=1, base=base) == 4
    assert only.frontier() == 2 * PER_ROUND
    assert newest_complete(store, 1, 1) == Base(generation=1, round=4)
    assert newest_complete(store, 0, 1) == Base(generation=0, round=3)
    tear(store, key(4, "shared.json", 1), 0)
    assert find(store, generation=1, base=base) == 2


@pytest.mark.parametrize("how", [0, 101, 102])
def test_a_generation_whose_base_is_damaged_cannot_go_on(how: int) -> None:
    """From the beginning it would not meet the other ranks."""
    store = new_store()
    save(ranks(store, 1)[0], 1, 2)
    tear(store, key(2, "shared.safetensors"), how)
    with pytest.raises(ResultLost, match="round 2") as caught:
        find(store, generation=1, base=Base(generation=0, round=2))
    assert caught.value.hint is not None
    assert newest_complete(store, 1, 1) == Base(generation=0, round=1)


def test_what_a_replacement_may_need_is_never_deleted() -> None:
    store = new_store()
    save(ranks(store, 1)[0], 1)
    (only,) = ranks(store, 1, generation=1, base=Base(generation=0, round=1))
    only.newest()
    for rounds, kept in {(2,): [(0, 1), (1, 2)], (3,): [(1, 2), (1, 3)], (4, 5): [(1, 4), (1, 5)]}.items():
        save(only, *rounds)
        only.remove_before(10**6)
        assert sorted(store.list("")) == [key(r, f"shared.{k}", g) for g, r in kept for k in ("json", "safetensors")]


def test_old_parts_go_once_all_ranks_have_passed_them_those_of_earlier_attempts_too() -> None:
    store = new_store()
    for rank, each in enumerate(ranks(store, 2)):
        save(each, 1, 2, rank=rank, private=True)
        each.hand_over(checkpoint(2, rank, private=True))
        mortal = Mortal(store)
        mortal.lives = 1
        with pytest.raises(Killed):  # a file without a manifest
            save(ranks(mortal, 2)[rank], 3, rank=rank, private=True)
    replaced = ranks(store, 2)
    for rank, each in enumerate(replaced):
        each.newest()
        save(each, 4, 5, 6, rank=rank, private=True)
        each.remove_before(1 * PER_ROUND)
        assert {int(k.split("/")[2]) for k in store.list("") if f"-{rank}." in k} >= {1, 2}
    for each in replaced:
        each.remove_before(5 * PER_ROUND)
    assert {int(k.split("/")[2]) for k in store.list("")} == {5, 6}


def test_an_attempt_that_looks_while_others_delete_finds_a_newer_one() -> None:
    """The listing is of a moment that has passed when the files are read."""
    store = new_store()
    (writer,) = ranks(store, 1)
    save(writer, 1, 2)

    class Slow(Layer):
        def get_many(self, keys: Any, *, wait_s: float = 0.0) -> Any:
            if not list(store.list(key(4, ""))):
                save(writer, 3, 4)
                writer.remove_before(10**6)
            return super().get_many(keys, wait_s=wait_s)

    assert find(Slow(store)) == 4


def test_bytes_that_change_while_they_are_read_are_noticed() -> None:
    """A store may show memory that it uses again after a delete."""
    store = new_store()
    save(ranks(store, 1)[0], 1, 2)

    class Reused(Layer):
        def intact(self, key: str, data: Buffer) -> bool:
            return "000000002" not in key

    assert find(Reused(store)) == 1


def test_a_store_that_fails_is_no_damaged_checkpoint() -> None:
    store = Mortal(new_store())
    save(ranks(store, 1)[0], 1)
    store.fails = 1
    with pytest.raises(Exception, match="could not be stored"):
        save(ranks(store, 1)[0], 2)
    assert find(store) == 1


def test_an_array_that_would_not_come_back_is_refused_before_anything_is_written() -> None:
    store = new_store()
    (only,) = ranks(store, 1)
    bad = checkpoint(1)
    bad.state.shared["velocity"] = bad.state.shared["velocity"][::2]
    for write in (only.save, only.hand_over):
        with pytest.raises(RunError, match="shared/velocity"):
            write(bad)
    assert not list(store.list(""))
