"""What this distribution provides. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator

from lambdaml_admm.options import ADMMOptions
from lambdaml_core.hookspecs import hookimpl
from lambdaml_core.specs import OptimizerSpec

LAMBDAML_API = 0


@hookimpl
def lambdaml_optimizers() -> Iterator[OptimizerSpec]:
    """The optimizer ``admm``."""
    yield OptimizerSpec(
        name="admm",
        factory="lambdaml_admm.optimizer:ADMM",
        options=ADMMOptions,
        summary="consensus ADMM: workers solve problems of their own, and agree in few rounds",
    )
