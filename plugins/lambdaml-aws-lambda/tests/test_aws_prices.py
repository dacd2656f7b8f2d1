"""Prices and estimates beside figures from elsewhere."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdaml_aws_lambda.estimates import MACHINES, machines, round_s, start_s
from lambdaml_aws_lambda.prices import DEFAULT_REGION, PRICES, prices, said, usd_per_worker_s
from lambdaml_core.provider.base import Work


@pytest.mark.parametrize(
    ("memory_mb", "ephemeral_mb", "architecture", "usd_per_ms"),
    [  # AWS's own table of prices per millisecond, rounded as it rounds them
        (128, 512, "x86_64", 0.0000000021),
        (1024, 512, "x86_64", 0.0000000167),
        (3072, 512, "x86_64", 0.0000000500),
        (10240, 512, "x86_64", 0.0000001667),
        (1024, 512, "arm64", 0.0000000133),
        (3072, 512, "arm64", 0.0000000400),
    ],
)
def test_a_second_of_a_function(memory_mb: int, ephemeral_mb: int, architecture: str, usd_per_ms: float) -> None:
    usd = usd_per_worker_s("us-east-2", memory_mb=memory_mb, ephemeral_mb=ephemeral_mb, architecture=architecture)
    assert usd == pytest.approx(usd_per_ms * 1000, abs=0.6e-10 * 1000)


def test_room_in_tmp_above_what_is_free() -> None:
    def usd(ephemeral_mb: int) -> float:
        return usd_per_worker_s("us-east-1", memory_mb=1769, ephemeral_mb=ephemeral_mb, architecture="x86_64")

    assert usd(10_240) - usd(512) == pytest.approx(9.5 * 0.0000000309)
    assert usd(512 + 1024) - usd(512) == pytest.approx(0.0000000309)


def test_a_region_that_is_not_known_counts_as_another_and_says_so() -> None:
    assert prices("mars-north-1") == PRICES[DEFAULT_REGION]
    assert {"mars-north-1", DEFAULT_REGION} <= set(said("mars-north-1").replace(",", " ").replace(":", " ").split())
    assert "not known" not in said("eu-west-1")
    assert all(name == found.region for name, found in PRICES.items())
    assert all(set(found.gb_s) == {"x86_64", "arm64"} for found in PRICES.values())


@pytest.mark.parametrize(
    ("message_bytes", "workers", "seconds"),
    [(224, 10, 0.0090), (224, 50, 0.0490), (12_000_000, 10, 0.1890), (89_000_000, 10, 1.3440)],
)
def test_a_ring_of_t2_medium_as_the_paper_models_it(message_bytes: int, workers: int, seconds: float) -> None:
    assert round_s(MACHINES["t2.medium"], workers, message_bytes) == pytest.approx(seconds, abs=0.00006)


@pytest.mark.parametrize(
    ("workers", "seconds"), [(1, 132), (10, 132), (30, 146), (50, 160), (75, 226), (100, 292), (200, 606), (300, 920)]
)
def test_machines_start_as_the_paper_has_measured(workers: int, seconds: float) -> None:
    assert start_s(workers) == pytest.approx(seconds)


@settings(deadline=None)
@given(st.integers(1, 500), st.integers(1, 500))
def test_more_machines_start_no_sooner(few: int, more: int) -> None:
    assert start_s(min(few, more)) <= start_s(max(few, more))


def test_the_whole_job() -> None:
    found = machines(Work(workers=10, rounds=100, message_bytes=12_000_000, data_bytes=6_500_000_000))
    t2 = found["EC2 t2.medium"]
    assert t2["seconds"] == pytest.approx(132 + 10 + 100 * 0.189)
    assert t2["usd"] == pytest.approx(10 * t2["seconds"] * 0.0464 / 3600)
    assert set(found) == {"EC2 t2.medium", "EC2 c5.large"}
    assert machines(Work(workers=10, rounds=None, message_bytes=224, data_bytes=0)) == {}
