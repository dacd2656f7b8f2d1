"""Options of ``admm``, apart from ``plugin.py`` because workers import them, and no plugin manager."""

from __future__ import annotations

from dataclasses import dataclass

from lambdaml_core.errors import OptionError
from lambdaml_core.options import option


@dataclass(frozen=True)
class ADMMOptions:
    """Options of ``admm``."""

    l1: float = option(0.0, help="weight of ||w||_1, the bias left out; gives exact zeros", minimum=0)
    l2: float = option(0.0, help="weight of (l2/2) ||w||^2, the bias left out", minimum=0)
    rho: float | None = option(
        None,
        help="what disagreement costs a worker, at first; default: 1 / workers, which balance then corrects",
        above=0,
    )
    balance: float = option(
        2.0,
        help="change rho where one relative residual is so many times the other; 0 = keep rho as it is",
        minimum=0,
    )
    balance_rounds: int = option(
        50, help="keep rho after so many, which convergence asks for", unit="rounds", minimum=0
    )
    relaxation: float = option(
        1.6, help="over-relaxation, best between 1.5 and 1.8; 1 = none", minimum=0.5, maximum=1.95
    )
    eps_abs: float = option(1e-6, help="stop at residuals below this in every parameter, and eps_rel", minimum=0)
    eps_rel: float = option(5e-4, help="stop at residuals below this share of what they are residuals of", minimum=0)
    local: str = option(
        "lbfgs", help="how a worker solves its own problem: by L-BFGS, or by mini-batches", choices=("lbfgs", "sgd")
    )
    local_epochs: int | None = option(
        None,
        help="passes over a worker's own rows in a round; default 10 of sgd, and of lbfgs at most 100",
        unit="epochs",
        minimum=1,
    )
    local_tolerance: float = option(
        0.1, help="lbfgs ends once the gradient is this share of what the round began with", above=0, maximum=0.9
    )
    learning_rate: float = option(0.1, help="step size of sgd in the first round; falls as 1 / sqrt(round)", above=0)

    def __post_init__(self) -> None:
        if 0 < self.balance <= 1:
            raise OptionError(
                f"balance {self.balance} would change rho whatever the residuals are",
                hint="give a ratio above 1, or 0 to keep rho",
            )
