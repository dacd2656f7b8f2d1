"""Options of ``kmeans`` and ``em``, apart from ``plugin.py`` because workers import them, and no plugin manager."""

from __future__ import annotations

from dataclasses import dataclass

from lambdaml_core.errors import OptionError
from lambdaml_core.options import option


@dataclass(frozen=True)
class KMeansOptions:
    """Options of ``kmeans``."""

    clusters: int = option(10, help="how many centroids there are, the k", minimum=1)
    precision: str = option(
        "float32", help="what centroids are kept and distances computed in", choices=("float32", "float64")
    )


@dataclass(frozen=True)
class EMOptions:
    """Options of ``em``. Those of centroids mean nothing to a model that has none."""

    tolerance: float = option(
        1e-4, help="end once nothing moves by more than this in a round; 0 = once nothing moves", minimum=0
    )
    init: str = option(
        "kmeans_parallel",
        help="where centroids start: k-means||; the first rows of the whole order; or where the model puts them, at "
        "the first rows of rank 0. init_from goes before",
        choices=("kmeans_parallel", "first_k", "model"),
    )
    init_passes: int = option(5, help="passes of kmeans_parallel over the rows", minimum=1)
    oversampling: float = option(2.0, help="rows that a pass of kmeans_parallel draws, in multiples of k", above=0)
    empty: str = option(
        "keep",
        help="what becomes of a centroid without rows: it stays, or goes to the row that is farthest from its own",
        choices=("keep", "reseed"),
    )

    def __post_init__(self) -> None:
        if self.init == "kmeans_parallel" and self.init_passes * self.oversampling < 1:
            raise OptionError(
                f"{self.init_passes} passes of {self.oversampling} k rows draw fewer than k",
                hint="give init_passes times oversampling of at least 1; 10 is usual",
            )
