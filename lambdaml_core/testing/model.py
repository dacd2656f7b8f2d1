"""The laws of a model. They tell its author whether every optimizer can rely on it, and what to fix where not.

A complete test file::

    class TestAcmeModel(ModelLaws):
        target = "class"

        @pytest.fixture
        def model(self):
            return AcmeModel(AcmeOptions())

Rows are small, random and of 6 features, with 2 and 3 classes or with numbers; a model that wants others says so by
``features`` and ``classes``. A subclass for each set of options that changes what is computed is a good idea.
"""

from __future__ import annotations

from lambdaml_core.testing.model_laws.figures import FigureLaws, StartLaws
from lambdaml_core.testing.model_laws.slopes import SlopeLaws
from lambdaml_core.testing.model_laws.sums import CallLaws, SumLaws

__all__ = ["ModelLaws"]


class ModelLaws(SlopeLaws, SumLaws, CallLaws, StartLaws, FigureLaws):
    """All laws of a model. Override the fixture ``model``, and ``target`` if it learns numbers."""
