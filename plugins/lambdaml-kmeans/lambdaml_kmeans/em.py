"""The optimizer ``em``: in every round one pass over all rows, one exchange of sums, and one step to the best."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from lambdaml_core.models.base import SupportsStatistics
from lambdaml_core.optim.base import State, Worker
from lambdaml_kmeans.model import Array, SupportsCentroids
from lambdaml_kmeans.options import EMOptions
from lambdaml_kmeans.seeding import first_rows, kmeans_parallel, reseed


class EM:
    """Expectation maximisation (Dempster, Laird and Rubin 1977); of ``kmeans`` it is Lloyd's algorithm.

    In a round every rank adds up the statistics of its rows, all ranks' are added, in one message, and each takes the
    same step from them. So any number of workers gives the same model but for rounding.

    Round 0 first looks for places of the centroids, if the model has some and the run does not go on from another: in
    a few exchanges more, and by random numbers that belong to a row's place in the whole order and to no rank.
    """

    needs: ClassVar[frozenset[type]] = frozenset({SupportsStatistics})

    def __init__(self, options: EMOptions) -> None:
        self._options = options

    def steps_per_round(self, steps_per_epoch: int) -> int:
        """All rows: an epoch."""
        return steps_per_epoch

    def start(self, w: Worker, params: Array) -> State:
        """The parameters alone."""
        return State(params, {}, {})

    def round(self, w: Worker, s: State) -> Mapping[str, float]:
        """One step. Returns the figures of the model, ``loss`` and ``moved`` among them, and ``stop``: 1 once it has
        moved by no more than ``tolerance``."""
        model = w.model
        assert isinstance(model, SupportsStatistics)  # noqa: S101 - the driver has checked what it needs
        if w.round == 0 and not w.given and isinstance(model, SupportsCentroids):
            self._place(w, model.centroids(s.params))
        totals = model.totals(s.params)

        def fill(ready: Callable[[int, int], None]) -> None:
            model.statistics(s.params, w.data.blocks(), totals)

        w.comm.all_reduce(totals, fill=fill)
        if self._options.empty == "reseed" and isinstance(model, SupportsCentroids):
            reseed(w, model.centroids(s.params), totals)
        figures = model.maximise(s.params, totals)
        return {**figures, "stop": float(figures["moved"] <= self._options.tolerance)}

    def _place(self, w: Worker, centroids: Array) -> None:
        o = self._options
        if o.init == "first_k":
            first_rows(w, centroids)
        elif o.init == "kmeans_parallel":
            kmeans_parallel(w, centroids, passes=o.init_passes, oversampling=o.oversampling)
