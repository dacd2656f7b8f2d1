"""The data contract: a rank's rows, addressed and not iterated, so that the cursor is a number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray


class Batch(NamedTuple):
    """Some rows of one rank.

    Attributes:
        x: (n, features) float32: a C-contiguous ndarray, or a ``scipy.sparse.csr_matrix`` with int32 indices.
        y: (n,) float32: class numbers 0..classes-1, or the numbers to learn where ``Data.classes`` is 0.
        n: number of rows, which may be 0: every rank does the same rounds, whatever its share.
        weights: (n,) float32, what each row's loss and gradient are multiplied by; None = 1 for every row. A row of
            weight 2 is as good as the row twice, but for ``n``.
    """

    x: Any
    y: NDArray[Any]
    n: int
    weights: NDArray[Any] | None = None


class Data(Protocol):
    """The rows [rank * N // size, (rank + 1) * N // size) of the shuffled order.

    ``steps_per_epoch`` R = ceil(N / batch_size) is the same on all ranks; batch t holds the rows
    [t * rows // R, (t + 1) * rows // R) of this rank's share.
    """

    @property
    def rows(self) -> int:
        """Rows of this rank."""

    @property
    def features(self) -> int:
        """Columns of x, the same on all ranks."""

    @property
    def classes(self) -> int:
        """Number of classes, the same on all ranks; 0 where rows are labelled with numbers to learn."""

    @property
    def steps_per_epoch(self) -> int:
        """Mini-batches in one pass, the same on all ranks."""

    def batch(self, step: int) -> Batch:
        """Mini-batch ``step % steps_per_epoch``. Views, no copy."""

    def blocks(self) -> Iterator[Batch]:
        """One full pass in a fixed order, in blocks of a size that suits the caches."""
