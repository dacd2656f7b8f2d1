"""Options of the built-in plugins, apart from ``plugin.py`` because workers import them, and no plugin manager."""

from __future__ import annotations

from dataclasses import dataclass

from lambdaml_core.errors import OptionError
from lambdaml_core.options import option


@dataclass(frozen=True)
class FileOptions:
    """Options of ``file://``."""

    recycle: bool = option(True, help="keep the memory of deleted values for new ones")
    recycle_bytes: int = option(512 << 20, help="most memory kept for new values", unit="bytes", minimum=0)


@dataclass(frozen=True)
class LogisticRegressionOptions:
    """Options of ``logistic_regression``."""

    bias: bool = option(True, help="train an intercept; it is never penalised")


@dataclass(frozen=True)
class GASGDOptions:
    """Options of ``ga_sgd``."""

    learning_rate: float = option(0.1, help="step size at the first round", above=0)
    schedule: str = option(
        "constant", help="how the step size changes with the round", choices=("constant", "inverse_sqrt")
    )
    momentum: float = option(0.0, help="share of the last step that is kept", minimum=0, maximum=0.9999)
    l2: float = option(0.0, help="weight of (l2/2) ||w||^2, the bias left out", minimum=0)

    def __post_init__(self) -> None:
        if self.learning_rate * self.l2 >= 2 * (1 + self.momentum):  # where heavy-ball steps on l2/2 ||w||^2 grow
            raise OptionError(
                f"learning_rate {self.learning_rate} with l2 {self.l2} diverges whatever the data",
                hint=f"give a learning_rate below {2 * (1 + self.momentum) / self.l2:g}",
            )


@dataclass(frozen=True)
class LibsvmOptions:
    """Options of ``libsvm``."""

    layout: str = option(
        "auto",
        help="keep rows dense or sparse; auto keeps them dense where half of the values are there",
        choices=("auto", "dense", "sparse"),
    )
    features: int | None = option(None, help="number of columns; left out, the largest index found", minimum=1)
