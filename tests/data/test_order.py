"""The shuffled order: its hash against a plain loop, and the arithmetic of cuts and splits."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdaml_core.data.order import cut_evenly, key_ranges, sort_keys, split_rows

WORD = 1 << 64


def splitmix64(state: int) -> int:
    z = (state + 0x9E3779B97F4A7C15) % WORD
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % WORD
    return z ^ (z >> 31)


def test_the_plain_loop_gives_the_published_numbers_of_seed_1234567() -> None:
    golden = 0x9E3779B97F4A7C15
    assert [splitmix64(1234567 + i * golden) for i in range(3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


@given(st.integers(-(2**70), 2**70), st.lists(st.integers(0, 2**40), max_size=20))
def test_keys_are_those_of_a_plain_loop(seed: int, numbers: list[int]) -> None:
    golden = 0x9E3779B97F4A7C15
    start = splitmix64((seed - golden) % WORD)
    expected = [splitmix64((start + (n - 1) * golden) % WORD) for n in numbers]
    assert sort_keys(seed, np.array(numbers, np.int64)).tolist() == expected


def test_no_two_rows_share_a_key_and_seeds_give_other_orders() -> None:
    numbers = np.arange(100_000)
    keys = sort_keys(0, numbers)
    assert len(np.unique(keys)) == len(numbers)
    assert not np.array_equal(np.argsort(keys), np.argsort(sort_keys(1, numbers)))


def test_keys_fill_all_ranges_alike() -> None:
    which = np.searchsorted(key_ranges(16), sort_keys(7, np.arange(160_000)), side="right")
    counts = Counter(which.tolist())
    assert set(counts) == set(range(16))
    assert max(abs(n - 10_000) for n in counts.values()) < 600  # six standard deviations


@given(st.integers(0, 10**6), st.integers(1, 50))
def test_cuts_are_the_ranges_of_ranks(rows: int, parts: int) -> None:
    bounds = [i * rows // parts for i in range(parts + 1)]
    assert cut_evenly(rows, parts) == [b - a for a, b in pairwise(bounds)]


@given(st.integers(1, 10**6), st.floats(0, 0.99))
def test_a_split_keeps_all_rows_and_both_parts(rows: int, share: float) -> None:
    train, kept = split_rows(rows, share)
    assert train + kept == rows
    assert train >= 1
    assert (kept == 0) == (share == 0 or rows == 1)
    assert abs(kept - rows * share) <= 1


@pytest.mark.parametrize(("rows", "share", "kept"), [(100, 0.2, 20), (100, 0.29, 29), (3, 0.2, 1), (10, 0.0, 0)])
def test_shares_come_out_as_people_expect(rows: int, share: float, kept: int) -> None:
    assert split_rows(rows, share) == (rows - kept, kept)
