"""A storage whose threads never end, in the test run of an author; ``test_storage_kit.py`` runs it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from lambdaml_core.options import NoOptions
from lambdaml_core.storage import StorageURL
from lambdaml_core.storage.base import Storage
from lambdaml_core.storage.memory import MemoryStorage
from lambdaml_core.testing import pytest_plugin
from lambdaml_core.testing.storage import StorageLaws

pytest_plugin.GRACE_S = 0.5


class LeavesThreads(MemoryStorage):
    def get(self, key: str) -> bytes:
        threading.Thread(target=threading.Event().wait).start()
        return super().get(key)


class TestLeavesThreads(StorageLaws):
    patience_s = 0.5

    @pytest.fixture
    def connect(self) -> Callable[[], Storage]:
        return lambda: LeavesThreads(StorageURL("memory", "leaves-threads"), NoOptions())
