"""Laws of the state: where it starts, and what may be in it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.optim.base import Optimizer, State, Worker
from lambdaml_core.run.records.tensors import check_arrays, decode, encode
from lambdaml_core.testing.optimizer_laws.ranks import common, differing
from lambdaml_core.testing.optimizer_laws.training import OptimizerCase, Training, assert_same_state
from lambdaml_core.testing.optimizer_laws.witness import Witness


class StateLaws(OptimizerCase):
    """Laws of what survives a round."""

    def test_it_starts_from_the_parameters_it_is_given(self, training: Training) -> None:
        """The parameters that ``start`` is given are those of the state, with their values, shape and dtype.

        They are equal on all ranks, and may be those of a run that is gone on with. Fix ``start``: return
        ``State(params, ...)``, and leave the values alone.
        """
        initial = _parameters(training)
        for size in (1, 2):
            ranks = training.but(size=size, initial=initial, rounds=1)
            ranks.run()
            for witness in ranks.witnesses.values():
                params = witness.states[0].params
                assert (params.shape, params.dtype) == (initial.shape, initial.dtype), "other parameters"
                assert np.array_equal(params, initial, equal_nan=True), "the parameters were changed at the start"

    def test_starts_are_equal(self, training: Training) -> None:
        """From the same parameters the state starts with the same bytes, in every run.

        A replacement for a worker that is lost before the first checkpoint starts anew. Fix what ``start`` depends
        on: it may draw from ``w.rng(purpose)`` and from nothing else.
        """
        initial = _parameters(training)
        runs = [training.but(size=3, aggregators=a, initial=initial, rounds=1) for a in (1, 3)]
        for ranks in runs:
            ranks.run()
        for rank, witness in runs[0].witnesses.items():
            assert_same_state(witness.states[0], runs[1].witnesses[rank].states[0], f"rank {rank}, at the start")

    def test_all_ranks_start_alike(self, training: Training) -> None:
        """Before the first round, ``params`` and ``shared`` have the same names and bytes on all ranks.

        If each starts from a model of its own, no average of gradients brings them together. Fix ``start``: what it
        computes from a rank's own rows or generator is ``private``, or goes through a collective.
        """
        for size in (2, 3, 4):
            ranks = training.but(size=size, rounds=1)
            ranks.run()
            first, *others = (ranks.witnesses[rank].states[0] for rank in range(size))
            for rank, state in enumerate(others, 1):
                different = ", ".join(differing(common(first), common(state)))
                assert not different, f"rank {rank} of {size} starts with other bytes than rank 0 in {different}"

    def test_a_checkpoint_can_hold_the_state(self, training: Training) -> None:
        """The state is arrays of bool, int or float in C order, each in memory of its own; it comes back from a file.
        Either all ranks have private state or none has.

        Fix the arrays: ``np.ascontiguousarray``, numbers instead of objects or words, and a copy instead of a view of
        another array of the state. A rank that has nothing of its own has an array of no elements.
        """
        ranks = training.but(size=2, witness=_Kept)
        ranks.run()
        private = [witness.states[0].private.keys() for witness in ranks.witnesses.values()]
        assert all(names == private[0] for names in private), f"ranks have different private arrays: {private}"
        for witness in ranks.witnesses.values():
            assert isinstance(witness, _Kept)
            for arrays in witness.live:
                check_arrays(arrays)
                for (a, one), (b, other) in combinations(arrays.items(), 2):
                    assert not np.shares_memory(one, other), (
                        f"{a} and {b} are one piece of memory, and come back as two"
                    )
            for state in witness.states:
                arrays = _named(state)
                back = decode(b"".join(encode(arrays)))
                assert not differing(*({n: a.tobytes() for n, a in named.items()} for named in (arrays, back)))

    def test_arrays_of_the_state_stay(self, training: Training) -> None:
        """Arrays of the state change in place: names, shapes, dtypes and the arrays themselves are those of the start.

        Whoever saves a checkpoint holds on to them. Fix ``s.shared["v"] = ...``: write ``s.shared["v"][...] = ...``,
        and have all names from the start.
        """
        ranks = training.but(size=2, witness=_Kept)
        ranks.run()
        for rank, witness in ranks.witnesses.items():
            assert isinstance(witness, _Kept)
            for round, (before, after) in enumerate(pairwise(witness.live)):
                assert before.keys() == after.keys(), f"rank {rank}, round {round}: the state has other names"
                for name, array in before.items():
                    assert after[name] is array, f"rank {rank}, round {round}: {name} is another array"
            kinds = [{n: (a.shape, a.dtype) for n, a in _named(s).items()} for s in witness.states]
            assert all(kind == kinds[0] for kind in kinds), f"rank {rank}: an array has another shape or dtype"

    def test_steps_of_a_round_are_a_number(self, training: Training, optimizer: Optimizer) -> None:
        """``steps_per_round`` is a whole number of at least 1, and the same one each time.

        Epochs and looks at the validation rows are counted by it. Fix ``steps_per_round``: options and its argument
        are all it may depend on.
        """
        training.but(size=2).run()
        for steps_per_epoch in (1, 3, 1000):
            steps = [optimizer.steps_per_round(steps_per_epoch) for _ in range(3)]
            assert all(isinstance(n, int) and n >= 1 for n in steps), f"{steps} for epochs of {steps_per_epoch}"
            assert len(set(steps)) == 1, f"{steps} for epochs of {steps_per_epoch}"
        ranks = training.but(size=2)
        ranks.run()
        for witness in ranks.witnesses.values():
            assert witness.steps_per_round(1000) == steps[0], "another number once it has trained"


class _Kept(Witness):
    """Keeps the arrays of the state themselves, of the start and after each round."""

    def __init__(self, optimizer: Optimizer) -> None:
        super().__init__(optimizer)
        self.live: list[dict[str, NDArray[Any]]] = []

    def start(self, w: Worker, params: NDArray[Any]) -> State:
        state = super().start(w, params)
        self.live.append(_named(state))
        return state

    def round(self, w: Worker, s: State) -> Mapping[str, float]:
        figures = super().round(w, s)
        self.live.append(_named(s))
        return figures


def _named(state: State) -> dict[str, NDArray[Any]]:
    return {
        "params": state.params,
        **{f"shared/{name}": array for name, array in state.shared.items()},
        **{f"private/{name}": array for name, array in state.private.items()},
    }


def _parameters(training: Training) -> NDArray[Any]:
    """Near the model's own, but not equal to them."""
    rng = np.random.default_rng(5)
    (share,) = training.rows.shares(1, training.batch_size)
    own = training.model.init(share, rng)
    return (own + 0.1 * rng.standard_normal(own.shape)).astype(own.dtype)
