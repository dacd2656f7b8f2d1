"""The built-in providers keep the laws."""

from __future__ import annotations

import pytest

from lambdaml_core.builtin import LocalOptions
from lambdaml_core.options import NoOptions
from lambdaml_core.provider.inline import InlineProvider
from lambdaml_core.provider.local import LocalProvider
from lambdaml_core.testing.provider import ProviderLaws


class TestInline(ProviderLaws):
    @pytest.fixture
    def provider(self) -> InlineProvider:
        return InlineProvider(NoOptions())


class TestLocal(ProviderLaws):
    short_limit_s = 2.0

    @pytest.fixture
    def provider(self) -> LocalProvider:
        return LocalProvider(LocalOptions())
