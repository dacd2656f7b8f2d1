"""The laws of a storage. They tell a plugin author whether LambdaML can rely on it, and what to fix where not.

A complete test file::

    class TestAcmeStorage(StorageLaws):
        @pytest.fixture
        def url(self, tmp_path):
            return f"acme://localhost/{tmp_path.name}"

Every law is a test; its docstring says what holds, why, and what to fix. A law about something that the storage does
not promise is skipped, and pytest says so.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from lambdaml_core.errors import StorageError
from lambdaml_core.storage import build_storage, storage_reference
from lambdaml_core.storage.base import Storage
from lambdaml_core.storage.layers import Complete, FullStorage
from lambdaml_core.testing.base import Laws
from lambdaml_core.testing.storage_laws.clients import no_url
from lambdaml_core.testing.storage_laws.faults import FaultLaws
from lambdaml_core.testing.storage_laws.keys import KeyLaws
from lambdaml_core.testing.storage_laws.limits import LimitLaws
from lambdaml_core.testing.storage_laws.machine import TwoClientMachine
from lambdaml_core.testing.storage_laws.processes import ProcessLaws
from lambdaml_core.testing.storage_laws.races import RaceLaws, WaitLaws
from lambdaml_core.testing.storage_laws.secrets import SecretLaws, check_findings, check_no_password
from lambdaml_core.testing.storage_laws.times import TimeLaws
from lambdaml_core.testing.storage_laws.values import ValueLaws

__all__ = ["StorageLaws", "UnreachableStorageLaws"]

_FEWEST = 4  # sequences, by which the others are timed


class StorageLaws(ValueLaws, KeyLaws, LimitLaws, TimeLaws, RaceLaws, WaitLaws, FaultLaws, ProcessLaws, SecretLaws):
    """All laws of a storage that is there. Override the fixture ``url``; ``patience_s`` on slow services."""

    sequences_s: ClassVar[float] = 5.0
    """About how long the random sequences of calls may take: on a slow service there are fewer of them."""

    def test_two_clients_are_one_dictionary(self, storage: FullStorage, other: FullStorage) -> None:
        """Any sequence of calls through two clients has the answers of one dictionary.

        Hypothesis prints the shortest sequence that has not; each step is one call. The number of sequences is that
        of the Hypothesis profile, or what fits in ``sequences_s``. Fix the call of the last step, or one before it
        that did more than it said.
        """
        places = itertools.count()

        class Machine(TwoClientMachine):
            def __init__(self) -> None:
                super().__init__(storage, other, f"example-{next(places)}")

        def run(examples: int) -> None:
            run_state_machine_as_test(
                Machine,
                settings=settings(
                    deadline=None,
                    max_examples=examples,
                    stateful_step_count=50,
                    suppress_health_check=[HealthCheck.too_slow],
                ),
            )

        began = time.monotonic()
        run(_FEWEST)
        each_s = (time.monotonic() - began) / _FEWEST
        examples = min(settings().max_examples, int(self.sequences_s / each_s))
        if examples > _FEWEST:
            run(examples)


class UnreachableStorageLaws(Laws):
    """The laws of a storage that is not there. Override the fixture ``url``."""

    @pytest.fixture
    def url(self) -> str:
        """A URL of a place that cannot be reached: a port where nobody listens, a folder that cannot be."""
        no_url(self, UnreachableStorageLaws, "unreachable")

    @pytest.fixture
    def unreachable(self, url: str) -> Callable[[], Storage]:
        """A function that builds a client of a place that cannot be reached."""
        reference = storage_reference(url)
        return lambda: build_storage(url, reference)

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

    def test_failed_connections_tell_no_password(self, url: str) -> None:
        """No error shows a password of the URL, nor what it was raised from; that of a connection least of all.

        Fix what makes messages: print ``url``, which shows it as ``***``; chain no error of an SDK that shows it.
        """
        check_no_password(url)

    def test_checks_say_what_cannot_be_reached(self, url: str) -> None:
        """``checks`` says that the place cannot be reached as it says everything, by a finding with a remedy.

        ``lambdaml doctor`` is for machines where things do not work. Fix ``checks``: let no error out of it.
        """
        check_findings(url)
