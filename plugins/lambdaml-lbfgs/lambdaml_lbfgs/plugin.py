"""What this distribution provides. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator

from lambdaml_core.hookspecs import hookimpl
from lambdaml_core.specs import OptimizerSpec
from lambdaml_lbfgs.options import LBFGSOptions

LAMBDAML_API = 0


@hookimpl
def lambdaml_optimizers() -> Iterator[OptimizerSpec]:
    """The optimizer ``lbfgs``."""
    yield OptimizerSpec(
        name="lbfgs",
        factory="lambdaml_lbfgs.optimizer:LBFGS",
        options=LBFGSOptions,
        summary="L-BFGS on all rows in every round: linear models to their optimum in a few dozen rounds",
        aliases=("l-bfgs", "owlqn"),
    )
