"""Hypothesis: the same modest examples in every run; ``LAMBDAML_SLOW=1`` looks further, at random. And fixtures."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import Phase, settings

from lambdaml_core import registry
from lambdaml_core.discovery import discover

if TYPE_CHECKING:
    from lambdaml_aws_lambda.testing import AwsServer

settings.register_profile("default", derandomize=True, deadline=None, max_examples=50, database=None)
settings.register_profile(
    "broken", settings.get_profile("default"), max_examples=300, phases=[Phase.explicit, Phase.generate]
)  # that it fails is enough: no time goes into a small example, and what fails needs few
settings.register_profile("slow", deadline=None, max_examples=1000, print_blob=True)
settings.load_profile("slow" if os.environ.get("LAMBDAML_SLOW") == "1" else "default")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a shell; commands are to be interrupted
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def core_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process no plugin is installed beside the built-in ones, whatever is."""
    shared = registry.default_registry()
    monkeypatch.setattr(
        registry, "discover", lambda manager: [p for p in discover(manager) if p.distribution == "lambdaml"]
    )
    monkeypatch.setattr(shared, "_plugins", [p for p in shared._plugins if p.distribution == "lambdaml"])


@pytest.fixture(scope="module")
def aws() -> Iterator[AwsServer]:
    """A stand-in of AWS for all tests of a file. No longer: other tests look for processes that are left."""
    from lambdaml_aws_lambda.testing import aws_server

    with aws_server() as server:
        yield server
