"""What this distribution provides. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator

from lambdaml_core.hookspecs import hookimpl
from lambdaml_core.specs import ModelSpec, OptimizerSpec
from lambdaml_kmeans.options import EMOptions, KMeansOptions

LAMBDAML_API = 0


@hookimpl
def lambdaml_models() -> Iterator[ModelSpec]:
    """The model ``kmeans``."""
    yield ModelSpec(
        name="kmeans",
        factory="lambdaml_kmeans.model:KMeans",
        options=KMeansOptions,
        summary="k centroids, each row belongs to the nearest; dense and sparse rows, trained by em",
        aliases=("sparse_kmeans",),
        target="none",
    )


@hookimpl
def lambdaml_optimizers() -> Iterator[OptimizerSpec]:
    """The optimizer ``em``."""
    yield OptimizerSpec(
        name="em",
        factory="lambdaml_kmeans.em:EM",
        options=EMOptions,
        summary="expectation maximisation: one pass and one exchange a round; k-means|| to start from",
    )
