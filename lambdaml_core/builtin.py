"""Options of the built-in plugins, apart from ``plugin.py`` because workers import them, and no plugin manager."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lambdaml_core.errors import OptionError
from lambdaml_core.options import option


@dataclass(frozen=True)
class FileOptions:
    """Options of ``file://``."""

    sync: bool = option(True, help="put a value on the disk before it counts as stored; costs nothing on tmpfs")
    recycle: bool = option(True, help="keep the memory of deleted values for new ones")
    recycle_bytes: int = option(512 << 20, help="most memory kept for new values", unit="bytes", minimum=0)


@dataclass(frozen=True)
class FaultOptions:
    """Options of ``fault+URL``, in the query of the URL beside those of the storage within."""

    fault_seed: int = option(0, help="what all faults follow from")
    fault_delay: float = option(0.0, help="share of the requests that are late", minimum=0, maximum=1)
    fault_delay_s: float = option(0.05, help="how late", unit="s", minimum=0)
    fault_lost: float = option(
        0.0, help="share of the requests that are carried out and whose answer is lost", minimum=0, maximum=1
    )
    fault_duplicate: float = option(0.0, help="share of the requests that are made twice", minimum=0, maximum=1)
    fault_truncate: float = option(0.0, help="share of the values that are stored cut short", minimum=0, maximum=1)
    fault_evict: float = option(
        0.0, help="share of the values whose storing deletes an older one", minimum=0, maximum=1
    )
    fault_latency_s: float = option(0.0, help="what every request takes longer", unit="s", minimum=0)
    fault_bytes_per_s: float = option(0.0, help="bandwidth of one connection; 0 = any", unit="bytes/s", minimum=0)
    fault_parallel: int | None = option(
        None, help="connections, each with one request at a time; default: as many as the storage is worth", minimum=1
    )


# --- providers ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LocalOptions:
    """Options of ``local``."""

    max_duration_s: float | None = option(
        None, help="end each process after so long, as a cloud does; its successor goes on", unit="s", above=0
    )


# --- models ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LinearOptions:
    """Options of ``logistic_regression`` and ``least_squares``, and what every linear model has."""

    bias: bool = option(True, help="train an intercept; it is never penalised")


@dataclass(frozen=True)
class SVMOptions(LinearOptions):
    """Options of ``svm``."""

    loss: str = option(
        "hinge", help="max(0, 1 - margin), or its square, which is smooth", choices=("hinge", "squared_hinge")
    )


# --- optimizers -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SGDOptions:
    """What a step of stochastic gradient descent looks like; a step is one update of the parameters."""

    learning_rate: float = option(0.1, help="step size at the first step", above=0)
    schedule: str = option(
        "auto",
        help="how the step size falls; auto is constant, or by 1/sqrt(epochs) where workers are asynchronous",
        choices=("auto", "constant", "inverse", "inverse_sqrt", "step", "cosine"),
    )
    decay_steps: int | None = option(
        None,
        help="steps until inverse has halved and inverse_sqrt has fallen by sqrt(2) (default 1), and from one fall of "
        "step to the next (default a third of the run)",
        unit="steps",
        minimum=1,
    )
    decay_factor: float = option(0.1, help="what each fall of step multiplies by", above=0, maximum=1)
    warmup_steps: int = option(0, help="steps in which the step size first rises linearly", unit="steps", minimum=0)
    momentum: float = option(0.0, help="share of the last step that is kept", minimum=0, maximum=0.9999)
    nesterov: bool = option(False, help="look ahead along the momentum, as Nesterov does")
    l1: float = option(0.0, help="weight of ||w||_1, the bias left out; a proximal step", minimum=0)
    l2: float = option(0.0, help="weight of (l2/2) ||w||^2, the bias left out", minimum=0)

    def __post_init__(self) -> None:
        if self.nesterov and not self.momentum:
            raise OptionError("nesterov needs momentum", hint="such as momentum = 0.9")
        # where steps on l2/2 ||w||^2 alone grow: the heavy ball's, and Nesterov's
        limit = 2 * (1 + self.momentum) / (1 + 2 * self.momentum if self.nesterov else 1)
        if self.learning_rate * self.l2 >= limit:
            raise OptionError(
                f"learning_rate {self.learning_rate} with l2 {self.l2} diverges whatever the data",
                hint=f"give a learning_rate below {limit / self.l2:g}",
            )
        if self.decay_steps is not None and self.schedule in ("auto", "constant", "cosine"):
            raise OptionError(
                f"decay_steps means nothing to the schedule {self.schedule}",
                hint='give schedule = "inverse", "inverse_sqrt" or "step", or leave decay_steps out',
            )


@dataclass(frozen=True)
class DistributedSGDOptions(SGDOptions):
    """How workers exchange what their steps come to."""

    asynchronous: bool = option(
        False, help="nobody waits for all: each goes on with the latest that it finds of the others"
    )
    staleness: int | None = option(
        None,
        help="rounds that an asynchronous worker may be ahead of any other; default: any number; 0 = all wait for all",
        unit="rounds",
        minimum=0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.staleness is not None and not self.asynchronous:
            raise OptionError("staleness needs asynchronous", hint="give asynchronous = true, or leave staleness out")

    @property
    def exchanges(self) -> bool:
        """Whether workers really do not wait for all."""
        return self.asynchronous and self.staleness != 0


@dataclass(frozen=True)
class GASGDOptions(DistributedSGDOptions):
    """Options of ``ga_sgd``."""

    accumulate: int = option(1, help="mini-batches whose gradients are added before they are exchanged", minimum=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.exchanges and self.momentum:
            raise OptionError(
                "asynchronous steps cannot have momentum: gradients that come late already act as one",
                hint="leave momentum out; or use ma_sgd, whose workers have one of their own within a round",
            )
        if self.exchanges and self.l1:
            raise OptionError(
                "asynchronous steps cannot have l1: its steps depend on where the parameters are, and do not add up",
                hint="leave l1 out, or asynchronous; or use ma_sgd",
            )


@dataclass(frozen=True)
class MASGDOptions(DistributedSGDOptions):
    """Options of ``ma_sgd``."""

    local_epochs: int = option(1, help="passes over a worker's own rows between exchanges", minimum=1)
    local_steps: int | None = option(None, help="steps between exchanges, instead of local_epochs", minimum=1)
    keep_momentum: bool = option(False, help="keep a worker's own momentum over an exchange; default: start at rest")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.local_steps is not None and self.local_epochs != 1:
            raise OptionError("local_steps and local_epochs are both given", hint="give one of them")
        if self.keep_momentum and not self.momentum:
            raise OptionError("keep_momentum needs momentum", hint="such as momentum = 0.9")
        if self.exchanges and self.keep_momentum:
            raise OptionError(
                "asynchronous workers cannot keep their momentum: nothing outlives a process but what it publishes",
                hint="leave keep_momentum out: momentum then starts at rest in each round",
            )


# --- data formats ---------------------------------------------------------------------------------------------


def _layout() -> Any:
    return option(
        "auto",
        help="keep rows dense or sparse; auto keeps them dense where half of the values are there",
        choices=("auto", "dense", "sparse"),
    )


@dataclass(frozen=True)
class LibsvmOptions:
    """Options of ``libsvm``."""

    layout: str = _layout()
    features: int | None = option(None, help="number of columns; left out, the largest index found", minimum=1)


@dataclass(frozen=True)
class ArrayOptions:
    """Options of ``npy`` and ``npz``."""

    layout: str = _layout()
    x: str = option("x", help="name of the rows in an NPZ file; those of scipy.sparse.save_npz need none")
    y: str = option("y", help="name of the labels in an NPZ file")
    labels: str | None = option(
        None, help="an NPY file that has the labels, in the folder of the rows; default: in the same file"
    )
    label: int = option(-1, help="column of an NPY file that has the labels, where they are in the same file")


@dataclass(frozen=True)
class TableOptions:
    """Options of ``frame``, and what every format of tables has: which columns there are and what becomes of them."""

    label: str | int | None = option(
        None, help="column of the labels, by name or number, -1 is the last; default: the one called label or target"
    )
    drop: tuple[str, ...] = option((), help="columns to leave out")
    categorical: tuple[str, ...] = option((), help="columns to take as categories although they look like numbers")
    numeric: tuple[str, ...] = option((), help="columns to take as numbers; words in them are refused")
    scale: str = option(
        "standard", help="numbers to mean 0 and deviation 1, or left as they are", choices=("standard", "none")
    )
    categories: str = option("onehot", help="a feature for each category, or hashed", choices=("onehot", "hash"))
    hash_features: int = option(1 << 18, help="features that categories are hashed to", minimum=1, maximum=2**30)
    most_categories: int = option(10_000, help="categories of a column above which one-hot is refused", minimum=1)
    layout: str = _layout()


@dataclass(frozen=True)
class CsvOptions(TableOptions):
    """Options of ``csv``."""

    delimiter: str = option(",", help="the character between two cells; tab for a tabulator")
    header: bool = option(True, help="the first line has the names of the columns; without, they are 0, 1, 2 ...")
