"""Conformance suites for plugin authors (``pip install "lambdaml[testing]"``): subclass, give one fixture, run pytest.

=================  ==============================================================================
module             suite
=================  ==============================================================================
``storage``        ``StorageLaws``: laws of a storage, with two clients, threads and random schedules
``pattern``        ``PatternLaws``: laws of a communicator, in virtual time under crashes and duplicates
``optimizer``      ``OptimizerLaws``: the same state whoever is killed, and however many ranks there are
``model``          ``ModelLaws``: gradients, sums and figures
``data_format``    ``RowFormatLaws`` and ``TableFormatLaws``: what is written is what is read
``provider``       ``ProviderLaws``: starting, finding, ending and cleaning up workers
``plugin``         ``PluginLaws``: of the distribution: light, documented, typed
=================  ==============================================================================

Every law is a test; its docstring says what holds, why, and what to fix. Those of ``storage`` stand in
``storage_laws/``, one file for each thing that they are about, beside the fixtures that they are written with; so do
those of the other suites. ``base`` and ``threads`` have what all suites share, ``pytest_plugin`` ends laws that hang,
``explorer/`` runs collectives in all kinds of schedules, and ``check/`` runs suites for ``lambdaml plugins check``.
"""

from __future__ import annotations

import pkgutil

import pytest

# Without this a law that fails in an author's run would not show the values that it compared.
pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)))
