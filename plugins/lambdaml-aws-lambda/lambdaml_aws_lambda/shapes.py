"""What the modules of this package hand to each other, all of it JSON: a plan, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

ENTRY = "LAMBDAML_ENTRY"
"""Variable of a function: what a worker runs, as ``module:function``."""


class Plan(TypedDict):
    """What :meth:`AwsLambdaProvider.plan` says. Beside what the contract names:

    Attributes:
        entry: of the contract.
        function: name of the function to be made for one run, ``lambdaml-<job name or "run">-<8 drawn letters>``; the
            role and the log group are named after it.
        kept: name of the function that ``lambdaml deploy`` makes for such jobs: the same for jobs that are equal
            but for their names.
        settings: what the function is made with: region, memory, runtime and so on.
        distributions: what goes into the package, by name: its version. Ours are taken from this environment.
        modules: top-level packages that workers import plugins from, as the contract has them.
        places: store, channel and data: ``url``, secrets as ``{env:NAME}``, and ``storage``, the plugin that serves it
            as a :class:`~lambdaml_core.specs.Reference` in JSON, and ``writes``, whether workers do. Permissions follow
            from them.
        environment: names of the variables that the function is given the values of.
        workers: how many invocations run at once, for the quota.
    """

    scope: str
    max_duration_s: float
    usd_per_worker_s: float
    usd_per_launch: float
    usd_per_log_byte: float
    start_s: float
    resources: Sequence[str]
    permissions: Mapping[str, Mapping[str, Any]]
    facts: Mapping[str, str]
    entry: str
    function: str
    kept: str
    settings: Mapping[str, Any]
    distributions: Mapping[str, str]
    modules: Sequence[str]
    places: Sequence[Mapping[str, Any]]
    environment: Sequence[str]
    workers: int


class Deployment(TypedDict):
    """What a launcher is built from, in any process that has credentials of its own. No ARN, no account number, no
    secret: it lies in the store of the run.

    Attributes:
        function: its name.
        region: of it.
        made: what was made for this run alone, and is removed at its end: ``function``, ``role``, ``log_group``,
            ``package`` (bucket and key, where it had to go through S3). Empty where the function was kept by
            ``lambdaml deploy``.
    """

    function: str
    region: str
    made: Mapping[str, Any]
