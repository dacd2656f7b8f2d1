"""Laws of what comes out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lambdaml_core.models.base import total_score
from lambdaml_core.testing.optimizer_laws.training import OptimizerCase, Training, close


class LearningLaws(OptimizerCase):
    """Laws of the model that is trained."""

    @pytest.mark.parametrize("size", [1, 3])
    def test_it_learns(self, training: Training, size: int) -> None:
        """In 30 rounds the mean loss of all rows falls to ``falls_to`` of what it was.

        The default problem is two classes that a plane parts. Fix the sign or the size of the step, what the sum of
        contributions is divided by, or the options that the fixture gives.
        """
        long = training.but(size=size, rounds=30)
        told = long.run()
        given = long.witnesses[0].given
        assert given is not None
        (share,) = training.rows.shares(1, training.batch_size)
        before = training.model.metrics(total_score(training.model, given, share.blocks()))["loss"]
        after = told[0].outcome.train_loss
        assert after <= self.falls_to * before, f"the loss was {before:.4g}, and is {after:.4g} after 30 rounds"

    def test_sparse_rows_are_as_good_as_dense_ones(self, training: Training) -> None:
        """Sparse rows give what the same rows give densely, but for rounding.

        Fix what is done to ``batch.x`` beyond handing it to the model.
        """
        if not self.sparse:
            pytest.skip("sparse not declared")
        dense = training.but(size=2)
        sparse = dense.but(rows=training.rows.sparse())
        expected, got = (run.run()[0].outcome.params for run in (dense, sparse))
        assert close(expected, got, 1e-3), "other parameters than from dense rows"

    def test_weights_of_rows_reach_the_model(self, training: Training) -> None:
        """Rows of weight 0 count as rows, and in nothing else: whatever is in them, the parameters are the same.

        Fix batches that are built anew without ``batch.weights``, and gradients that do not come from the model.
        """
        rng = np.random.default_rng(7)
        nothing = rng.random(len(training.rows)) < 0.3
        rows = replace(
            training.rows, weights=np.where(nothing, 0, rng.uniform(0.5, 2, len(nothing))).astype(np.float32)
        )
        y = np.where(nothing, rows.classes - 1 - rows.y if rows.classes else rows.y + 1, rows.y).astype(np.float32)
        x = np.where(nothing[:, None], -rows.x, rows.x)
        for size in (1, 3):
            ours = training.but(size=size, rows=rows)
            theirs = training.but(size=size, rows=replace(rows, x=x, y=y))
            a, b = (run.run()[0].outcome.params for run in (ours, theirs))
            assert close(a, b, 1e-5), "rows of weight 0 have changed the parameters"

    def test_the_number_of_workers_changes_nothing_but_rounding(self, training: Training) -> None:
        """Where a mini-batch is all rows, the same rows on other ranks give the same losses and parameters but for
        rounding; ranks without rows have no say.

        A mean of ranks' means is another number where ranks have unequal counts. Fix it: contribute sums and counts,
        and divide once.
        """
        if not self.exact:
            pytest.skip("exact not declared")
        n = len(training.rows)
        one = training.but(batch_size=n)
        expected = one.run()[0].outcome.params
        cuts = [[n // 2], [n // 4], [n // 8, n // 2], [0, n, n], [1, 1, n - 2]]
        for cut in cuts:
            shares = training.rows.cut(cut, steps=1)
            several = one.but(size=len(shares), shares=shares)
            params = several.run()[0].outcome.params
            where = f"with {[share.rows for share in shares]} rows"
            for a, b in zip(one.witnesses[0].figures, several.witnesses[0].figures, strict=True):
                assert b["loss"] == pytest.approx(a["loss"], rel=1e-4, abs=1e-6), f"{where}: another loss"
            assert close(expected, params, 1e-3), f"{where}: other parameters"
