"""Prices are never below what AWS charges, and layouts never above what DynamoDB takes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdaml_core.storage import build_storage
from lambdaml_dynamodb import layout
from lambdaml_dynamodb.prices import usd

WRITE, READ = 0.625e-6, 0.125e-6  # us-east-1: a write unit of 1 KB, a read unit of 4 KB

words = st.integers(1, layout.MAX_KEY_BYTES).map("k".__mul__)
prefixes = st.integers(0, layout.MAX_PREFIX_BYTES).map(lambda n: "p" * n + "/" if n else "")
sizes = st.integers(0, layout.MAX_VALUE_BYTES) | st.just(layout.MAX_VALUE_BYTES)
lifetimes = st.none() | st.floats(0, 1e12)


def item_bytes(name: str, size: int, lifetime_s: float | None) -> int:
    """As AWS counts the attributes p, k, v and t: a number has a byte, and one for every two digits."""
    number = 0 if lifetime_s is None else 1 + (len(str(layout.time_of(2e9, lifetime_s))) + 1) // 2 + 1
    return 1 + 1 + 1 + len(name) + 1 + size + number


@settings(deadline=None)
@given(prefixes, words, sizes, lifetimes)
def test_an_item_is_never_too_large(prefix: str, key: str, size: int, lifetime_s: float | None) -> None:
    whole = item_bytes(prefix + key, size, lifetime_s)
    assert whole <= 409_600
    assert whole - size <= layout.overhead_bytes(prefix)


@settings(deadline=None)
@given(prefixes, words, sizes, lifetimes)
def test_prices_bound_what_is_charged(prefix: str, key: str, size: int, lifetime_s: float | None) -> None:
    prices = usd(layout.overhead_bytes(prefix), len(layout.SHARDS))
    whole = item_bytes(prefix + key, size, lifetime_s)
    written, read = math.ceil(whole / 1024) * WRITE, math.ceil(whole / 4096) * READ
    put_and_deleted = prices["put"] + prices["sent"] * size + prices["delete"]
    got = prices["get"] + prices["received"] * size
    slack = layout.overhead_bytes(prefix) / 1024
    assert 2 * written <= put_and_deleted * (1 + 1e-12)
    assert put_and_deleted <= 2 * (written + (1 + slack) * WRITE)
    assert read <= got * (1 + 1e-12)
    assert got <= read + (1 + slack / 4) * READ
    assert prices["get"] >= READ, "of what is not there"


def test_prices_of_a_url() -> None:
    caps = build_storage("dynamodb://lambdaml/team?region=us-east-1").caps
    assert caps.usd["put"] == pytest.approx(0.625e-6 * (1 + 287 / 1024))
    assert caps.usd["get"] == pytest.approx(0.125e-6 * (1 + 287 / 4096))
    assert caps.usd["list"] == pytest.approx(2e-6)
    assert caps.usd["sent"] * 1024 == pytest.approx(1.25e-6)
    assert caps.usd["received"] * 4096 == pytest.approx(0.125e-6)


def test_where_a_key_lies_never_changes() -> None:
    """Else what older versions have stored is lost. The check value of CRC-32 is cbf43926."""
    assert layout.primary_key("123456789") == {"p": {"S": "6"}, "k": {"S": "123456789"}}


def test_keys_of_a_round_spread_over_all_shards() -> None:
    """Of 10 ranks and 32 chunks, as collectives name them: no shard has twice its share."""
    keys = [f"runs/r/g1/in-{chunk % 4}/7.{chunk}.{rank}" for rank in range(10) for chunk in range(32)]
    shares = [sum(layout.shard_of(key) == shard for key in keys) for shard in layout.SHARDS]
    assert sum(shares) == 320
    assert max(shares) <= 40
    assert min(shares) >= 10
