"""Providers that break laws of plans, deployments and what is left; ``test_provider_kit.py`` runs them."""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import socket
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from lambdaml_core.options import NoOptions, option
from lambdaml_core.provider.base import Launcher, WorkerRef
from lambdaml_core.provider.inline import InlineLauncher, InlineProvider


class Broken:
    """A mark of providers that are correct but for one law.

    Attributes:
        law: that must fail.
        mistake: of an earlier system, where it is one, in a few words.
        settings: of the suite, so that nobody waits long for what will not come.
    """

    law: ClassVar[str]
    mistake: ClassVar[str | None] = None
    settings: ClassVar[Mapping[str, Any]] = {}


HASTY: Mapping[str, Any] = {"patience_s": 2.0}


@dataclass(frozen=True)
class AnyMemory:
    """Options that are not bounded."""

    memory: int = option(512, help="memory of a worker", unit="MiB")


class TakesAnyNumber(InlineProvider, Broken):
    law = "test_options_are_bounded"
    options: Any

    def __init__(self, options: AnyMemory) -> None:
        super().__init__(NoOptions())
        self.options = options


class KeepsItsOptionsToItself(InlineProvider, Broken):
    law = "test_options_are_bounded"

    def __init__(self, options: NoOptions) -> None:
        super().__init__(options)
        del self.options


class SaysNoScope(InlineProvider, Broken):
    law = "test_plan_says_how_far_and_how_long"

    def plan(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        return {name: value for name, value in super().plan(job).items() if name != "scope"}


class PlansObjects(InlineProvider, Broken):
    law = "test_plan_says_how_far_and_how_long"

    def plan(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**super().plan(job), "permissions": ("read", "write")}


class PaysWorkers(InlineProvider, Broken):
    law = "test_plan_says_how_far_and_how_long"

    def plan(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**super().plan(job), "usd_per_worker_s": -1e-5}


class PricesOfTheMoment(InlineProvider, Broken):
    law = "test_plan_says_the_same_each_time"
    turns: ClassVar[itertools.count[int]] = itertools.count()

    def plan(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**super().plan(job), "usd": next(self.turns) / 1000}


class AsksForPrices(InlineProvider, Broken):
    """Where there is no network it makes do without, so that nobody notices."""

    law = "test_plan_makes_nothing"

    def plan(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            socket.create_connection(("192.0.2.1", 443), timeout=1).close()
        except OSError:
            return super().plan(job)
        return {**super().plan(job), "usd": 1.0}


class PacksTheCodeAlready(InlineProvider, Broken):
    law = "test_plan_makes_nothing"

    def plan(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**super().plan(job), "code": tempfile.mkdtemp()}


class PlansWithTheEnvironment(InlineProvider, Broken):
    law = "test_plan_names_no_secret"
    mistake = "credentials are written down"

    def plan(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**super().plan(job), "environment": dict(os.environ)}


class FillsInPasswords(InlineProvider, Broken):
    """Takes what a URL refers to for what it is."""

    law = "test_plan_names_no_secret"
    mistake = "credentials are written down"

    def plan(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        name = "LAMBDAML_LAW_SECRET"
        channel = str(job["channel"]).replace(f"{{env:{name}}}", os.environ[name])
        return {**super().plan(job), "channel": channel}


class OneRegionForAll(InlineProvider, Broken):
    law = "test_plan_names_no_place_that_nobody_chose"
    mistake = "region, account and role are written in the code"

    def plan(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        role = "arn:aws:iam::123456789012:role/trains"
        return {**super().plan(job), "function": {"region": "us-east-1", "role": role}}


class OneNetworkForAll(InlineProvider, Broken):
    law = "test_plan_names_no_place_that_nobody_chose"
    mistake = "the network is written in the code"

    def plan(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**super().plan(job), "subnets": ["subnet-0a1b2c3d"]}


# --- what is made ---------------------------------------------------------------------------------------------


class DeploysAnew(InlineProvider, Broken):
    law = "test_deploy_is_idempotent"

    def deploy(self, plan: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**super().deploy(plan), "function": f"train-{secrets.token_hex(4)}"}


class DeploysOnce(InlineProvider, Broken):
    law = "test_deploy_is_idempotent"

    def deploy(self, plan: Mapping[str, Any]) -> Mapping[str, Any]:
        Path(tempfile.gettempdir(), "functions").mkdir()
        return super().deploy(plan)


class GivesItsCredentials(InlineProvider, Broken):
    law = "test_no_secret_leaves_the_environment"
    mistake = "credentials are written down"

    def deploy(self, plan: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**super().deploy(plan), "environment": dict(os.environ)}


class LeavesItsFolder(InlineProvider, Broken):
    law = "test_teardown_removes_what_deploy_made"

    def deploy(self, plan: Mapping[str, Any]) -> Mapping[str, Any]:
        Path(tempfile.gettempdir(), "functions").mkdir(exist_ok=True)
        return super().deploy(plan)


class TearsDownOnce(LeavesItsFolder, Broken):
    law = "test_teardown_removes_what_deploy_made"

    def teardown(self, deployment: Mapping[str, Any]) -> Sequence[str]:
        Path(tempfile.gettempdir(), "functions").rmdir()
        return []


class ThrowsTheModelAway(InlineProvider, Broken):
    """Cleans up well."""

    law = "test_a_run_gives_the_right_model"
    mistake = "the trained model is thrown away at the end"

    def plan(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**super().plan(job), "store": job["store"]}

    def deploy(self, plan: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**super().deploy(plan), "store": plan["store"]}

    def teardown(self, deployment: Mapping[str, Any]) -> Sequence[str]:
        for model in Path(urlsplit(deployment["store"]).path).glob("**/model"):
            shutil.rmtree(model)
        return []


class LeavesAWatcher(InlineProvider, Broken):
    """A thread for each worker, which nobody tells that it may end."""

    law = "test_nothing_is_left_of_a_run"
    settings = HASTY

    def launcher(self, deployment: Mapping[str, Any]) -> Launcher:
        return _Watching(deployment, self._threads)


class _Watching(InlineLauncher):
    def launch(self, ref: WorkerRef) -> str:
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        return super().launch(ref)
