"""The laws of a storage. They tell a plugin author whether LambdaML can rely on it, and what to fix where not.

A complete test file::

    class TestAcmeStorage(StorageLaws):
        @pytest.fixture
        def connect(self, tmp_path):
            url = StorageURL.parse(f"acme://localhost/{tmp_path.name}")
            return lambda: AcmeStorage(url, AcmeOptions())

Every law is a test; its docstring says what holds, why, and what to fix. A law about something that the storage does
not promise is skipped, and pytest says so.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from lambdaml_core.errors import StorageError
from lambdaml_core.storage.base import Storage
from lambdaml_core.storage.layers import Complete, FullStorage
from lambdaml_core.testing.storage_keys import KeyLaws
from lambdaml_core.testing.storage_machine import TwoClientMachine
from lambdaml_core.testing.storage_races import RaceLaws, WaitLaws
from lambdaml_core.testing.storage_values import ValueLaws

__all__ = ["StorageLaws", "UnreachableStorageLaws"]


class StorageLaws(ValueLaws, KeyLaws, RaceLaws, WaitLaws):
    """All laws of a storage that is there. Override the fixture ``connect``; ``patience_s`` on slow services."""

    def test_two_clients_are_one_dictionary(self, storage: FullStorage, other: FullStorage) -> None:
        """Any sequence of calls through two clients has the answers of one dictionary.

        Hypothesis prints the shortest sequence that has not; each step is one call. The number of sequences is that
        of the Hypothesis profile.
        """
        examples = itertools.count()

        class Machine(TwoClientMachine):
            def __init__(self) -> None:
                super().__init__(storage, other, f"example-{next(examples)}")

        run_state_machine_as_test(
            Machine,
            settings=settings(deadline=None, stateful_step_count=50, suppress_health_check=[HealthCheck.too_slow]),
        )


class UnreachableStorageLaws:
    """The laws of a storage that is not there. Override the fixture ``unreachable``."""

    @pytest.fixture
    def unreachable(self) -> Callable[[], Storage]:
        """A function that builds a client of a place that cannot be reached."""
        raise NotImplementedError("override the fixture `unreachable`")

    def test_building_does_no_io(self, unreachable: Callable[[], Storage]) -> None:
        """Building, asking for ``caps`` and closing work anywhere.

        Jobs are checked on machines that cannot reach the storage. Fix ``__init__``: connect at first use.
        """
        storage = unreachable()
        assert storage.caps == unreachable().caps
        storage.close()

    def test_use_raises_storage_errors(self, unreachable: Callable[[], Storage]) -> None:
        """Every call raises a ``StorageError`` that says what is wrong; none is answered as if nothing were stored.

        Fix the translation of the SDK's errors. ``KeyNotFound`` would be a wrong answer.
        """
        storage = Complete(unreachable())
        calls: list[Callable[[], object]] = [
            lambda: storage.put("k", [b"x"]),
            lambda: storage.put("k", [b"x"], if_absent=True),
            lambda: storage.put_many({"k": [b"x"]}),
            lambda: storage.get("k"),
            lambda: storage.get_many(["k"]),
            lambda: storage.delete(["k"]),
        ]
        for call in calls:
            with pytest.raises(StorageError) as refused:
                call()
            assert refused.value.code != "key_not_found", "the storage is missing, not the key"
        storage.close()
