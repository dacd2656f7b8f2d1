"""Laws of sums: what a model says of rows together is what it says of them apart."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lambdaml_core.data.base import Batch
from lambdaml_core.models.base import Model
from lambdaml_core.testing.model_laws.trials import (
    Array,
    ModelUnderTest,
    Trial,
    assert_close,
    bytes_of,
    or_skip,
    other_random_state,
    part,
    scale_of,
    taken,
    thinned,
    untouched,
)

_ROWS = 30
_CUTS = st.lists(st.integers(0, _ROWS), max_size=5)


class SumLaws(ModelUnderTest):
    """Laws of ``loss_and_gradient`` over batches."""

    def test_losses_and_gradients_add_over_any_split_of_the_rows(self, model: Model) -> None:
        """Loss and gradient of rows are the sums of those of any parts, empty ones included, down to single rows.

        Ranks add what they have and divide once, by the count of all rows; a mean, or a normalisation over the batch,
        makes the model depend on how rows were spread. Fix it by returning sums, without any division by ``n``.
        """
        known = []
        for trial in self.trials(model, _ROWS):
            weighted = trial.batch._replace(weights=np.linspace(0.5, 2, _ROWS, dtype=np.float32))
            for rows in (trial.batch, weighted):
                known.append((trial, rows, trial.of(rows), scale_of(trial, rows)))

        @settings(deadline=None)
        @given(cuts=_CUTS)
        @example(cuts=list(range(_ROWS)))
        def adds(cuts: list[int]) -> None:
            edges = [0, *sorted(cuts), _ROWS]
            for trial, rows, whole, scale in known:
                assert_close(_added(trial, rows, edges), whole, scale, f"{trial}, cut at {edges}")

        adds()

    def test_the_order_of_rows_changes_nothing(self, model: Model) -> None:
        """Rows in another order have the same loss and gradient, to rounding.

        Rows are shuffled. Fix whatever looks at where a row is in its batch.
        """
        for trial in self.trials(model, _ROWS):
            shuffled = taken(trial.batch, np.random.default_rng(1).permutation(_ROWS))
            assert_close(trial.of(shuffled), trial.of(trial.batch), scale_of(trial, trial.batch), str(trial))

    def test_no_rows_are_zeros(self, model: Model) -> None:
        """A batch without rows has the loss 0 and a gradient of zeros, and all totals of ``score`` are zeros.

        All ranks do the same rounds, some without rows. Fix ``out``, which must be written, and means of nothing.
        """
        for trial in self.trials(model, 9):
            some = trial.model.score(trial.params, trial.batch)
            for empty in (part(trial.batch, 4, 4), part(trial.batch._replace(weights=np.ones(9, np.float32)), 4, 4)):
                loss, gradient = trial.of(empty)
                assert loss == 0, f"the loss of no rows is {loss}"
                assert not gradient.any(), "the gradient of no rows is not zero"
                assert len(model.predict(trial.params, empty)) == 0
                none = model.score(trial.params, empty)
                assert none.keys() == some.keys()
                for name, total in some.items():
                    assert (none[name].shape, none[name].dtype) == (total.shape, total.dtype), name
                    assert not none[name].any(), f"the total {name} of no rows is not zero"

    def test_a_weight_of_two_is_the_row_twice(self, model: Model) -> None:
        """A row of weight w counts w times in loss and gradient, one of weight 0 not at all.

        Class weights and sample weights of users arrive so. Fix loss or gradient, whichever leaves ``weights`` out.
        """
        known = [(trial, scale_of(trial, trial.batch)) for trial in self.trials(model, _ROWS)]
        for trial, _ in known:
            nothing = trial.of(trial.batch._replace(weights=np.zeros(_ROWS, np.float32)))
            assert nothing[0] == 0, "rows of weight 0 have a loss"
            assert not nothing[1].any(), "rows of weight 0 have a gradient"

        @settings(deadline=None)
        @given(counts=st.lists(st.integers(0, 3), min_size=_ROWS, max_size=_ROWS))
        @example(counts=[0, 1, 2] * (_ROWS // 3))
        def weighs(counts: list[int]) -> None:
            for trial, scale in known:
                repeated = taken(trial.batch, np.repeat(np.arange(_ROWS), counts))
                weighted = trial.batch._replace(weights=np.array(counts, np.float32))
                assert_close(trial.of(weighted), trial.of(repeated), scale, f"weights {counts}")

        weighs()

    def test_dense_and_sparse_rows_agree(self, model: Model) -> None:
        """The same rows as a dense array and as a csr_matrix have the same loss, gradient and margins, to rounding.

        How rows are kept depends on how many zeros they have, and on an option of the format. Parts of a matrix share
        its memory. Fix the sparse path; a model that has none raises ``NotSupported`` in its place.
        """
        for trial in self.trials(model, _ROWS):
            dense, sparse = thinned(trial.batch)
            or_skip(trial, sparse)
            for lo, hi in ((0, _ROWS), (11, 23), (5, 5)):
                a, b = part(dense, lo, hi), _shared_part(sparse, lo, hi)
                assert_close(trial.of(b), trial.of(a), scale_of(trial, a), f"{trial}, sparse")
                right = model.predict(trial.params, a)
                np.testing.assert_allclose(model.predict(trial.params, b), right, rtol=1e-4, atol=1e-5)

    def test_rows_are_not_taken_one_by_one(self, model: Model) -> None:
        """A batch is computed as a whole: ten times as many rows do not cost ten times as many calls in Python.

        A tensor for each sparse row makes a round a hundred times as long. Fix it by operations on whole matrices.
        """
        for sparse in (False, True):
            for trial in self.trials(model, 400):
                batch = trial.batch
                if sparse:
                    batch = thinned(batch)[1]
                    or_skip(trial, batch)
                few, many = (_calls(trial, part(batch, 0, n)) for n in (40, 400))
                assert many - few < 180, f"{trial}: {few} calls for 40 rows, {many} for 400"


class CallLaws(ModelUnderTest):
    """Laws of what one call reads, writes and remembers."""

    def test_out_is_written_wholly_and_nothing_else(self, model: Model) -> None:
        """Every element of ``out`` is overwritten; neither what lies beside it nor parameters nor rows are changed.

        ``out`` is a part of a message that is used again, and holds anything. Fix additions into ``out``, elements that
        are left, and operations in place on what was given.
        """
        for trial in self.trials(model, _ROWS):
            for batch in (trial.batch, trial.batch._replace(weights=np.linspace(0, 2, _ROWS, dtype=np.float32))):
                size, given_bytes = trial.params.size, bytes_of(batch, trial.params)
                written = []
                for old in (np.nan, 7.0):
                    around = np.full(size + 32, old, trial.params.dtype)
                    out = around[16 : 16 + size]
                    model.loss_and_gradient(trial.params, batch, out)
                    model.predict(trial.params, batch)
                    model.score(trial.params, batch)
                    assert bytes_of(batch, trial.params) == given_bytes, "rows or parameters have been changed"
                    beside = np.concatenate([around[:16], around[16 + size :]])
                    np.testing.assert_array_equal(beside, np.full(32, old), "memory beside out has been changed")
                    assert np.isfinite(out).all(), f"{trial}: {(~np.isfinite(out)).sum()} elements are not written"
                    written.append(out.tobytes())
                assert written[0] == written[1], "what was in out before is in the result"

    def test_calls_have_no_memory(self, model: Model) -> None:
        """The same parameters and rows give the same bytes, whatever was asked before and whatever the random state.

        A round that is replayed must give what it gave. Fix caches, running averages and noise; parameters are passed
        in, and a model that keeps a copy of them has to take what it is given each time.
        """
        for trial, other in zip(self.trials(model, _ROWS), self.trials(model, 17, seed=5), strict=True):
            unused = trial._replace(model=untouched(model))
            first = _all_bytes(trial)
            with other_random_state():
                _all_bytes(other)
                assert _all_bytes(trial) == first, f"{trial}: the second answer is another one"
                assert _all_bytes(unused) == first, f"{trial}: a model that has seen no rows has another answer"

    def test_ready_gives_each_element_once_and_final(self, model: Model) -> None:
        """``ready(lo, hi)`` is called for every element of ``out`` exactly once, when it has its last value.

        What is ready has left at once; it cannot be called back. Fix the order, or call it once at the end, or never.
        """
        called = False
        for trial in self.trials(model, _ROWS):
            out = np.full_like(trial.params, np.nan)
            seen, left = np.zeros(out.size, int), np.full_like(out, np.nan)

            def ready(lo: int, hi: int, out: Array = out, seen: Array = seen, left: Array = left) -> None:
                assert 0 <= lo < hi <= out.size, f"ready({lo}, {hi}) of {out.size} elements"
                seen[lo:hi] += 1
                left[lo:hi] = out[lo:hi]

            loss = model.loss_and_gradient(trial.params, trial.batch, out, ready)
            called |= bool(seen.any())
            if seen.any():
                assert (seen == 1).all(), f"element {int((seen != 1).argmax())} was ready {seen[seen != 1][0]} times"
                np.testing.assert_array_equal(left, out, "elements have been changed after they were ready")
            plain_loss, plain = trial.of(trial.batch)
            assert (loss, out.tobytes()) == (plain_loss, plain.tobytes()), "with ready, the result is another one"
        if not called:
            pytest.skip("ready not declared: the model does not call it")


def _added(trial: Trial, batch: Batch, edges: list[int]) -> tuple[float, Array]:
    parts = [trial.of(part(batch, lo, hi)) for lo, hi in pairwise(edges)]
    return sum(loss for loss, _ in parts), np.sum([gradient.astype(np.float64) for _, gradient in parts], axis=0)


def _shared_part(batch: Batch, lo: int, hi: int) -> Batch:
    """Rows of a csr_matrix as views of its arrays, as batches of a shard are."""
    x = type(batch.x)((hi - lo, batch.x.shape[1]), dtype=np.float32)
    first, last = int(batch.x.indptr[lo]), int(batch.x.indptr[hi])
    x.data, x.indices = batch.x.data[first:last], batch.x.indices[first:last]
    x.indptr = batch.x.indptr[lo : hi + 1] - batch.x.indptr[lo]
    return Batch(x, batch.y[lo:hi], hi - lo)


def _calls(trial: Trial, batch: Batch) -> int:
    """How many functions are called for loss and gradient, of Python's and of C."""
    trial.of(batch)  # what is done only once
    count = 0

    def profile(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    def counted() -> None:
        sys.setprofile(profile)
        trial.of(batch)

    with ThreadPoolExecutor(1) as thread:  # which has no other profiler
        thread.submit(counted).result()
    return count


def _all_bytes(trial: Trial) -> list[Any]:
    loss, gradient = trial.of(trial.batch)
    totals = trial.model.score(trial.params, trial.batch)
    scored = [(name, totals[name].tobytes()) for name in sorted(totals)]
    return [loss, gradient.tobytes(), trial.model.predict(trial.params, trial.batch).tobytes(), scored]
