"""Laws of what is said before anything is started: options and plan."""

from __future__ import annotations

import copy
import json
import math
import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from lambdaml_core.options import check_options, describe
from lambdaml_core.provider.base import Provider
from lambdaml_core.specs import Reference
from lambdaml_core.testing.provider_laws.given import WithProvider, check_no_secret, refer_to
from lambdaml_core.testing.provider_laws.stage import as_json

_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_CLIENT_SECRET", "API_TOKEN")
_PLACES = {
    "region": re.compile(
        r"\b(?:us|eu|ap|sa|ca|me|af|il|mx|cn|europe|asia|australia|africa|northamerica|southamerica)-(?:gov-)?"
        r"(?:north|south|east|west|central)[a-z]*-?\d+\b"
    ),
    "account": re.compile(r"(?<=:)\d{12}(?=:)"),
    "access key": re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    "network": re.compile(r"\b(?:vpc|subnet|sg)-[0-9a-f]{8,17}\b"),
}


class PlanLaws(WithProvider):
    """A plan is shown to people before they pay, and made where there is no way to the cloud."""

    given: ClassVar[tuple[str, ...]] = ()
    """Regions, accounts and networks that may stand in a plan, because this machine's configuration has them."""

    def test_options_are_bounded(self, provider: Provider) -> None:
        """Options are a frozen dataclass with help, every number has a bound, and JSON builds the same options again.

        Memory of -1 is refused where the job is read, and not by the cloud when half of it is made. Fix the options:
        ``option(..., help=..., minimum=...)``, at the top of a module.
        """
        reference = refer_to(provider)
        check_options(type(provider.options))
        for option in describe(type(provider.options)):
            number = {"int", "float"} & set(option.type.split(" | "))
            assert not number or option.allowed, f"{option.name} is a number without bounds"
        assert reference.build().options == provider.options, "other options come out of their JSON"

    def test_plan_says_how_far_and_how_long(self, provider: Provider, job: Mapping[str, Any]) -> None:
        """A plan is JSON and says how far storage must reach, how long a process may run, and what a worker costs.

        By these a job is refused, or divided among processes, before anything is paid for. Fix ``plan``: strings,
        numbers, lists and mappings with string keys, ``scope`` one of process, host and network, and
        ``max_duration_s`` seconds or None; ``usd_per_worker_s`` may be left out, and is no less than 0.
        """
        before = copy.deepcopy(job)
        for workers in (1, 10_000):
            plan = provider.plan({**job, "workers": workers})
            assert as_json(plan) == dict(plan), "the plan changes on its way through JSON"
            assert plan.get("scope") in ("process", "host", "network")
            limit_s = plan.get("max_duration_s", "missing")
            assert limit_s is None or (isinstance(limit_s, int | float) and limit_s > 0)
            price = plan.get("usd_per_worker_s", 0.0)
            assert isinstance(price, int | float)
            assert 0 <= price < math.inf
            assert getattr(provider.options, "max_duration_s", limit_s) == limit_s, (
                "the option max_duration_s is not kept"
            )
        assert job == before, "the job is the driver's, and not to be changed"

    def test_plan_says_the_same_each_time(self, reference: Reference, job: Mapping[str, Any]) -> None:
        """The same job has the same plan, whoever asks, apart from names that are drawn anew.

        Somebody has looked at it and said yes. Fix what depends on the clock, on earlier calls, or on a price list on
        the network; beside names, everything comes from job and options.
        """
        first, second = (reference.build() for _ in range(2))
        plans = [_without_names(provider.plan(job)) for provider in (first, first, second)]
        assert plans[0] == plans[1] == plans[2]

    def test_plan_makes_nothing(
        self, reference: Reference, job: Mapping[str, Any], temporary: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Building a provider and planning make no remote call, no file and no process.

        Plans are made on trains, by tests, and by people who may look at prices and nothing else. Fix ``__init__`` and
        ``plan``: make clients at first use, in ``deploy``.
        """
        monkeypatch.chdir(temporary)
        done: list[str] = []
        with monkeypatch.context() as patched:
            _watch(patched, done.append)
            reference.build().plan(job)
        assert not done, f"a plan {done[0]}"
        assert not list(temporary.iterdir()), f"a plan made {next(temporary.iterdir()).name}"

    def test_plan_names_no_secret(
        self, reference: Reference, job: Mapping[str, Any], secret: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What the environment keeps secret is not in the plan, be it that the job refers to it.

        Plans are printed, and kept beside the run. Fix ``plan``: ``{env:NAME}`` stays as it is, and workers find their
        credentials where they run.
        """
        for name in _CREDENTIALS:
            monkeypatch.setenv(name, f"{secret}-{name.lower()}")
        referring = {**job, "channel": "file:///of/{env:LAMBDAML_LAW_SECRET}"}  # a scheme that needs no plugin
        check_no_secret(json.dumps(reference.build().plan(referring)), "the plan")

    def test_plan_names_no_place_that_nobody_chose(self, provider: Provider, job: Mapping[str, Any]) -> None:
        """Region, account, network and keys in a plan come from options, job or environment; none is written in code.

        Other people's workers would start, and be paid for, in a place of the author's. Fix it with an option whose
        default is what the cloud's own configuration says; ``given`` has what that is on this machine.
        """
        chosen = " ".join([json.dumps(job), repr(provider.options), *os.environ.values(), *self.given])
        for what, text in _strings(provider.plan(job)):
            for kind, shape in _PLACES.items():
                for found in shape.findall(text):
                    assert found in chosen, f"{what} names a {kind} that nobody chose: {found}"


def _without_names(value: Any) -> Any:
    """The value without its strings, which may be drawn anew."""
    if isinstance(value, Mapping):
        return {name: _without_names(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_names(v) for v in value]
    return "a string" if isinstance(value, str) else value


def _strings(value: Any, where: str = "plan") -> Iterator[tuple[str, str]]:
    """Every string of a plan, with where it is."""
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, Mapping):
        for name, v in value.items():
            yield from _strings(v, f"{where}.{name}")
    elif isinstance(value, list | tuple):
        for v in value:
            yield from _strings(v, where)


def _watch(monkeypatch: pytest.MonkeyPatch, tell: Callable[[str], None]) -> None:
    """Refuse, and tell of, what goes to other machines or starts processes."""

    def refuse(what: str) -> Callable[..., Any]:
        def refused(*args: Any, **keys: Any) -> Any:
            tell(what)
            raise OSError(f"a law forbids it: a plan {what}")

        return refused

    connect = socket.socket.connect

    def connect_here(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX:
            refuse(f"connects to {address}")()
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_here)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse("connects to another machine"))
    monkeypatch.setattr(socket.socket, "sendto", refuse("sends to another machine"))
    monkeypatch.setattr(socket, "getaddrinfo", refuse("asks for the address of another machine"))
    monkeypatch.setattr(subprocess.Popen, "__init__", refuse("starts a process"))
    for name in ("fork", "posix_spawn", "system"):
        monkeypatch.setattr(os, name, refuse("starts a process"))
