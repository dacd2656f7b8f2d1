"""``em`` and ``kmeans`` keep the laws of every optimizer and of every model."""

from __future__ import annotations

import numpy as np
import pytest

from lambdaml_core.testing.model import ModelLaws
from lambdaml_core.testing.optimizer import OptimizerLaws, Rows
from lambdaml_kmeans.em import EM
from lambdaml_kmeans.model import KMeans
from lambdaml_kmeans.options import EMOptions, KMeansOptions


def around_places() -> Rows:
    """41 rows around three places, those around the first one first."""
    rng = np.random.default_rng(3)
    places = rng.standard_normal((3, 5)) * 4
    x = (np.repeat(places, (20, 12, 9), axis=0) + rng.standard_normal((41, 5))).astype(np.float32)
    return Rows(x, np.zeros(41, np.float32), classes=0)


class EMLaws(OptimizerLaws):
    """All but the options."""

    exact = True
    options = EMOptions(tolerance=0.0)
    clusters = 3

    @pytest.fixture
    def optimizer(self) -> EM:
        return EM(self.options)

    @pytest.fixture
    def model(self) -> KMeans:
        return KMeans(KMeansOptions(clusters=self.clusters))

    @pytest.fixture
    def rows(self) -> Rows:
        return around_places()


class TestEM(EMLaws):
    pass


class TestEMFromTheFirstRows(EMLaws):
    options = EMOptions(init="first_k", tolerance=0.0)


class TestEMFromTheModel(EMLaws):
    """Rank 0's own rows are others for another number of workers."""

    exact = False
    options = EMOptions(init="model", tolerance=0.0)


class TestEMThatReseeds(EMLaws):
    """Two of the first rows are equal, so that a centroid has no rows."""

    options = EMOptions(init="first_k", empty="reseed", tolerance=0.0)

    @pytest.fixture
    def rows(self) -> Rows:
        rows = around_places()
        rows.x[1] = rows.x[0]
        return rows


class TestKMeans(ModelLaws):
    target = "none"

    @pytest.fixture
    def model(self) -> KMeans:
        return KMeans(KMeansOptions(clusters=4))


class TestKMeansInFloat64(ModelLaws):
    target = "none"

    @pytest.fixture
    def model(self) -> KMeans:
        return KMeans(KMeansOptions(clusters=40, precision="float64"))
