"""The laws of an optimizer. They tell its author whether its runs survive the loss of workers, and what to fix.

A complete test file::

    class TestAcmeSGD(OptimizerLaws):
        @pytest.fixture
        def optimizer(self):
            return AcmeSGD(AcmeOptions(learning_rate=0.3))

The laws train the optimizer for real: ranks in threads, with the trainer, the engine and checkpoints that a run has. An
optimizer that needs another model or other rows overrides the fixtures ``model`` and ``rows``; what it promises beyond
the contract, ``exact``, is a class attribute.
"""

from __future__ import annotations

from lambdaml_core.testing.optimizer_laws.agreement import AgreementLaws
from lambdaml_core.testing.optimizer_laws.learning import LearningLaws
from lambdaml_core.testing.optimizer_laws.replay import ReplayLaws
from lambdaml_core.testing.optimizer_laws.rows import Rows
from lambdaml_core.testing.optimizer_laws.start import StateLaws
from lambdaml_core.testing.optimizer_laws.surroundings import SurroundingsLaws

__all__ = ["OptimizerLaws", "Rows"]


class OptimizerLaws(StateLaws, AgreementLaws, ReplayLaws, SurroundingsLaws, LearningLaws):
    """All laws of an optimizer. Override the fixture ``optimizer``; ``model`` and ``rows`` where it needs others."""
