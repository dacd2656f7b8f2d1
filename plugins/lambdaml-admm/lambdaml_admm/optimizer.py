"""Consensus ADMM in scaled form (Boyd, Parikh, Chu, Peleato and Eckstein 2011, section 7.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lambdaml_admm.consensus import Residuals, Sums, proximal, residuals
from lambdaml_admm.local import by_lbfgs, by_sgd, local_epochs, total_loss
from lambdaml_admm.options import ADMMOptions
from lambdaml_core.optim.base import State, Worker
from lambdaml_core.optim.sgd import mean_loss


class ADMM:
    """Every rank solves its own problem, drawn to what all agree on, and what they agree on is the model.

    Minimises F(z) = (1/N) sum of the losses of all N rows + l1 ||z||_1 + (l2/2) ||z||^2, the bias not penalised. With
    f_i the part of the first term that rank i's rows are, and n ranks that have rows:

        w_i <- argmin f_i(w) + (rho/2) ||w - z + u_i||^2
        h_i  = relaxation w_i + (1 - relaxation) z                               (section 3.4.3)
        z   <- argmin l1 ||z||_1 + (l2/2) ||z||^2 + (n rho/2) ||z - mean of (h_i + u_i)||^2
        u_i <- u_i + h_i - z

    A round is one of these lines after the other, and one all-reduce. z starts at the parameters that are given and is
    what becomes of them; u_i starts at 0. A rank keeps w_i and u_i in ``State.private``, and a rank without rows has
    no part in any sum.
    """

    def __init__(self, options: ADMMOptions) -> None:
        self._options = options

    def steps_per_round(self, steps_per_epoch: int) -> int:
        """Mini-batches of ``local_epochs``; L-BFGS, whose passes nobody knows before, counts as one."""
        return steps_per_epoch * (local_epochs(self._options) if self._options.local == "sgd" else 1)

    def start(self, w: Worker, params: NDArray[Any]) -> State:
        """Everybody at the parameters given, and at rest; one small all-reduce tells of how many rows and ranks."""
        counts = np.array([w.data.rows, w.data.rows > 0], np.int64)
        w.comm.all_reduce({"counts": counts})
        rho = self._options.rho or 1 / max(1, int(counts[1]))
        z = params.astype(np.float64)
        shared = {"z": z, "duals": np.zeros_like(z), "rho": np.array([rho]), "counts": counts}
        return State(params, shared, {"w": z.copy(), "u": np.zeros_like(z)})

    def round(self, w: Worker, s: State) -> Mapping[str, float]:
        """One round. Returns figures of it:

        ``loss``, the mean over all rows, and ``objective``, F, of the z that the round began with; ``primal`` and
        ``dual``, the residuals after it; ``rho`` that they came from; and ``stop``, once both are within their
        tolerances.

        Raises:
            RunError: the loss is not finite; raised on all ranks alike.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # the loss of the next round tells
            return self._round(w, s, float(s.shared["rho"][0]))

    def _round(self, w: Worker, s: State, rho: float) -> Mapping[str, float]:
        o, z = self._options, s.shared["z"]
        rows, ranks = s.shared["counts"].tolist()
        own = self._solve(w, s, rho, rows)  # in replays too: what private state becomes depends on it
        message, totals = w.scratch("message", z.shape, np.float64), np.array(own)
        message[:] = s.private["u"]
        w.comm.all_reduce({"message": message, "totals": totals})
        sums = Sums(*totals.tolist())
        loss = mean_loss(np.array([sums.loss, rows]), w.round)
        objective = loss + self._penalty(w, z)
        found = self._agree(w, s, message, sums, rho, ranks)
        if o.balance and w.round < o.balance_rounds:
            self._rescale(s, found.correction(o.balance))
        figures = {"loss": loss, "objective": objective, "primal": found.primal, "dual": found.dual, "rho": rho}
        return {**figures, "stop": 1.0} if found.small(o, ranks * z.size) else figures

    def _agree(self, w: Worker, s: State, message: NDArray[Any], sums: Sums, rho: float, ranks: int) -> Residuals:
        """z and u of the next round, from the sum of e over the ranks that have rows."""
        o, z, n = self._options, s.shared["z"], max(ranks, 1)
        new = proximal(z + message / n, o.l1, o.l2, n * rho, w.model.penalised(w.data))
        change = new - z
        found = residuals(new, change, message, s.shared["duals"], sums, rho, ranks, o.relaxation)
        s.params[:] = z[:] = new
        s.shared["duals"][:] = message - ranks * change
        if w.data.rows:
            s.private["u"] -= change
        return found

    def _solve(self, w: Worker, s: State, rho: float, rows: int) -> Sums:
        """w by the rank's own problem, and e of :mod:`lambdaml_admm.consensus` in the place of u. Returns its sums."""
        z, mine, u = s.shared["z"], s.private["w"], s.private["u"]
        if not w.data.rows:
            return Sums(0.0, 0.0, 0.0, 0.0)
        loss = total_loss(w, z, w.scratch("gradient", z.shape, np.float64))
        (by_lbfgs if self._options.local == "lbfgs" else by_sgd)(w, self._options, mine, z - u, rho, rows)
        apart = mine - z
        u += self._options.relaxation * apart
        return Sums(loss, float(apart @ apart), float(mine @ mine), float(u @ u))

    def _penalty(self, w: Worker, z: NDArray[Any]) -> float:
        inside = z[w.model.penalised(w.data)]
        return self._options.l1 * float(np.abs(inside).sum()) + self._options.l2 / 2 * float(inside @ inside)

    def _rescale(self, s: State, factor: float) -> None:
        """Change rho; u is the dual variable divided by it (section 3.4.1)."""
        s.shared["rho"] *= factor
        s.shared["duals"] /= factor
        s.private["u"] /= factor
