"""The benchmark that lays rounds beside the formulas tells both."""

from __future__ import annotations

import pytest
from cost_model import measure

from lambdaml_core.comm.cost import predict
from lambdaml_core.storage.base import StorageCaps


@pytest.mark.parametrize(("aggregators", "connections"), [(1, 1), (2, 2)])
def test_a_row_has_what_was_measured_and_the_formulas(aggregators: int, connections: int) -> None:
    row = measure(2, 4000, aggregators, connections, latency_s=0.001, bytes_per_s=1e7, rounds=2)
    caps = StorageCaps(scope="process", latency_s=0.001, bytes_per_s=1e7, parallel=connections)
    one = predict(caps, size=2, aggregators=aggregators, nbytes=4000)
    assert row["formula_s"] == row["predicted_s"] == pytest.approx(one.seconds, rel=0.02)
    assert row["median_s"] >= 0.9 * one.seconds, "sleeps are no shorter than they are asked to be"
    assert row["ratio"] == pytest.approx(row["median_s"] / row["formula_s"])
