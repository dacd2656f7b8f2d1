"""``aws-lambda``: each worker is an invocation of a function of AWS Lambda."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from lambdaml_aws_lambda import deploying, estimates, planning, removing
from lambdaml_aws_lambda.checks import checks
from lambdaml_aws_lambda.client import Client
from lambdaml_aws_lambda.failures import CloudError
from lambdaml_aws_lambda.launcher import AwsLambdaLauncher
from lambdaml_aws_lambda.logs import FunctionLog
from lambdaml_aws_lambda.names import check_ours
from lambdaml_aws_lambda.options import AwsLambdaOptions
from lambdaml_aws_lambda.shapes import Deployment, Plan
from lambdaml_core.errors import OptionError
from lambdaml_core.findings import Finding
from lambdaml_core.provider.base import Launcher, Removed, Work

_HANDLE = re.compile(r"aws-lambda:([a-z0-9-]+):([a-z0-9-]+)/([0-9a-f-]{8,64})")
_LOOK_S = 2.0  # how often logs are read for poll; a request each time
_READ_S = 0.5  # the same, where somebody wants to see them
_BACK_S = 3600.0  # how far back poll looks: the longest invocation, four times
_END_S = 15.0  # that workers may take to end by the run's flag: they look for it with each sign of life


class AwsLambdaProvider:
    """Functions, each of whose invocations is a worker.

    A run has a function for itself, which is removed at its end, unless one was kept for such jobs. How workers go is
    read from their logs, which AWS shows some seconds late.
    """

    def __init__(self, options: AwsLambdaOptions) -> None:
        self.options = options
        self._clients: dict[str, Client] = {}
        self._logs: dict[tuple[str, str], FunctionLog] = {}
        self._launchers: list[AwsLambdaLauncher] = []

    # --- what is made

    def plan(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        """As :class:`~lambdaml_aws_lambda.shapes.Plan`."""
        return cast(Mapping[str, Any], planning.make_plan(self.options, job))

    def estimates(self, job: Mapping[str, Any], work: Work) -> Mapping[str, Mapping[str, Any]]:
        """On rented machines of EC2."""
        return estimates.machines(work)

    def deploy(self, plan: Mapping[str, Any]) -> Mapping[str, Any]:
        """As :class:`~lambdaml_aws_lambda.shapes.Deployment`."""
        return cast(Mapping[str, Any], deploying.deploy(self.options, cast(Plan, plan), keep=False))

    def keep(self, plan: Mapping[str, Any]) -> Mapping[str, Any]:
        return cast(Mapping[str, Any], deploying.deploy(self.options, cast(Plan, plan), keep=True))

    def remove(self, plan: Mapping[str, Any] | None) -> Removed:
        if plan is None:
            return removing.remove_all(self.options)
        return removing.remove_kept(self.options, cast(Plan, plan))

    def teardown(self, deployment: Mapping[str, Any]) -> Sequence[str]:
        """Removes what was made for this run alone."""
        return removing.remove(self.options, cast(Deployment, deployment))

    def checks(self) -> Iterator[Finding]:
        """Credentials, quotas, and what a VPC lacks."""
        return checks(self.options)

    # --- workers

    def launcher(self, deployment: Mapping[str, Any]) -> Launcher:
        region, function = _named(deployment)
        launcher = AwsLambdaLauncher(region, function, lambda: Client(self._in(region), tries=1))
        self._launchers.append(launcher)
        return launcher

    def poll(self, handles: Sequence[str]) -> Mapping[str, str]:
        """As the contract; from the logs of the last hour, which are read every two seconds."""
        return self._poll(handles, _LOOK_S)

    def _poll(self, handles: Sequence[str], least_s: float) -> Mapping[str, str]:
        found = {handle: _HANDLE.fullmatch(handle) for handle in handles}
        words = {where: self._words(*where, least_s) for where in {(m[1], m[2]) for m in found.values() if m}}
        return {handle: words[m[1], m[2]].get(m[3], "unknown") if m else "unknown" for handle, m in found.items()}

    def logs(self, deployment: Mapping[str, Any], run: str, rank: int | None, since_s: float) -> Iterator[str]:
        try:
            log = self._log(*_named(deployment), since_s=since_s)
            log.refresh(_READ_S)
        except CloudError as e:
            yield f"the logs cannot be read: {e.message}"
            return
        for invocation in log.of_run(run, rank):
            yield from invocation.lines

    def cancel(self, deployment: Mapping[str, Any], run: str, handles: Sequence[str]) -> None:
        """Waits for those that have begun, as far as that is known: they end by the run's flag, within a heartbeat."""
        launched = {handle for launcher in self._launchers for handle in launcher.launched}
        give_up = time.monotonic() + _END_S
        while time.monotonic() < give_up:
            words = self._poll(handles, _READ_S)
            if not any(_goes_on(word, handle in launched) for handle, word in words.items()):
                return
            time.sleep(_READ_S)

    def _words(self, region: str, function: str, least_s: float) -> Mapping[str, str]:
        try:
            log = self._log(region, function, since_s=time.time() - _BACK_S)
            log.refresh(least_s)
        except (CloudError, OptionError):  # who cannot look says nothing
            return {}
        return log.words(math.ceil(self.options.max_duration_s))

    def _log(self, region: str, function: str, since_s: float) -> FunctionLog:
        log = self._logs.get((region, function))
        if log is None or log.since_s > since_s:
            log = self._logs[region, function] = FunctionLog(self._client(region), check_ours(function), since_s)
        return log

    def _client(self, region: str) -> Client:
        if region not in self._clients:
            self._clients[region] = Client(self._in(region))
        return self._clients[region]

    def _in(self, region: str) -> AwsLambdaOptions:
        return replace(self.options, region=region)


def _named(deployment: Mapping[str, Any]) -> tuple[str, str]:
    """Region and function; others may write to a store too.

    Raises:
        OptionError: it is no function that LambdaML has made.
    """
    return str(deployment["region"]), check_ours(str(deployment["function"]))


def _goes_on(word: str, launched: bool) -> bool:
    """Whether a worker may still be at work: one that is known by its claim alone has begun."""
    return word == "running" or (word == "unknown" and not launched)
