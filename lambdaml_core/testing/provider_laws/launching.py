"""Laws of starting workers: deployments, launchers, handles."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lambdaml_core.provider.base import Provider
from lambdaml_core.run.modelfile import WEIGHTS
from lambdaml_core.run.spec import RESULT
from lambdaml_core.specs import Reference
from lambdaml_core.testing.provider_laws.elsewhere import elsewhere
from lambdaml_core.testing.provider_laws.given import Stage, WithWorkers, check_no_secret
from lambdaml_core.testing.provider_laws.jobs import right_model
from lambdaml_core.testing.provider_laws.stage import StagedRun, as_json

_ROUNDS = 8


class LaunchLaws(WithWorkers):
    """What a driver and workers rely on when they start others."""

    def test_deploy_is_idempotent(self, provider: Provider, reference: Reference, job: Mapping[str, Any]) -> None:
        """Deploying a plan again, here or in another process, makes nothing new and returns equal JSON.

        A driver that was killed in between deploys again. Fix ``deploy``: names come from the plan, and what exists
        already is what was wanted.
        """
        plan = as_json(provider.plan(job))
        first = provider.deploy(plan)
        try:
            assert as_json(first) == dict(first), "the deployment changes on its way through JSON"
            assert dict(provider.deploy(plan)) == first
            assert dict(reference.build().deploy(as_json(plan))) == first, "another process deploys something else"
        finally:
            provider.teardown(as_json(first))

    def test_teardown_removes_what_deploy_made(
        self, provider: Provider, reference: Reference, job: Mapping[str, Any], temporary: Path
    ) -> None:
        """After ``teardown`` nothing is left but what it says; it may be called again, and from another process.

        Whatever stays is paid for, or filled up. Fix ``teardown``: it returns the names of what it cannot remove, in a
        list, and what is gone already is as it should be.
        """
        deployment = as_json(provider.deploy(as_json(provider.plan(job))))
        for each in (provider, provider, reference.build()):
            left = each.teardown(deployment)
            assert not isinstance(left, str), "what is left is a list of names, not one string"
            assert all(isinstance(name, str) for name in left)
        unsaid = [path.name for path in temporary.iterdir() if not any(path.name in name for name in left)]
        assert not unsaid, f"{unsaid[0]} is left, and teardown does not say so"

    def test_a_worker_does_what_its_reference_says(self, stage: Stage) -> None:
        """``launch`` starts a worker that does this rank of this run, and leaves the model in the store.

        Fix what becomes of the reference on its way: all of it, unchanged, is the argument or the standard input of
        ``entry``; and what the worker needs to import, which the driver has.
        """
        run = stage(ranks=2, rounds=_ROUNDS)
        for rank in (1, 0):
            run.launch(run.ref(rank))
        run.begun(0)
        run.begun(1)
        assert run.result()["files"][WEIGHTS] == right_model(2, _ROUNDS)

    def test_launching_twice_or_late_is_harmless(self, stage: Stage) -> None:
        """A reference that is launched twice, or once more when the run is over, is started, and does no harm.

        Clouds deliver twice, and drivers try again when an answer is lost. Fix ``launch``: it does not raise for what
        it has started before, and every worker is told whose attempt it is by its reference alone.
        """
        run = stage(ranks=1, rounds=_ROUNDS)
        for _ in range(2):
            run.launch(run.ref(0))
        result = run.result()
        assert result["files"][WEIGHTS] == right_model(1, _ROUNDS)
        late = run.launch(run.ref(0))
        run.ended(0, late, "since the run is over")
        assert run.await_record(RESULT, "the result is there") == result
        assert len(run.claims()) == 1, "one reference became two attempts"
        assert not list(run.store.list("errors/")), "a duplicate says that it failed"

    def test_a_deployment_launches_from_another_process(self, stage: Stage, reference: Reference) -> None:
        """A launcher that another process builds from the deployment's JSON starts workers as well.

        Workers start their successors. Fix what the launcher remembers in this process: all that it needs is in the
        deployment.
        """
        run = stage(ranks=1, rounds=_ROUNDS)
        _need_others(run)
        ref = as_json(run.ref(0)._asdict())
        handle = elsewhere(reference, run.deployment, patience_s=self.patience_s, launch=ref)
        run.handles.append(handle)
        run.begun(0)
        assert run.result()["files"][WEIGHTS] == right_model(1, _ROUNDS)

    def test_a_worker_knows_its_handle(self, stage: Stage) -> None:
        """The handle that a worker has of itself finds it, as the one does that ``launch`` returned.

        Workers write theirs down, and who resumes or cancels a run has no others. Fix ``Launcher.handle``.
        """
        run = stage(ranks=2)
        [own] = run.start(0)
        assert isinstance(own, str)
        if run.word(own) == run.word(run.handles[0]) == "unknown":
            pytest.skip("poll not declared: it cannot look at a worker that runs")
        assert run.word(own) == "running"
        run.cancel()
        run.ended(0, own, "since its run was cancelled")

    def test_handles_serve_another_process(self, stage: Stage, reference: Reference) -> None:
        """Another process that has handle and deployment sees the worker run, and ends it.

        ``lambdaml cancel`` and ``resume`` are other processes than the driver. Fix handles that are places in a table
        of this process: they name the worker by what its machine or its cloud calls it.
        """
        run = stage(ranks=2)
        _need_others(run)
        [own] = run.start(0)
        [launched] = run.handles
        there = elsewhere(reference, run.deployment, patience_s=self.patience_s, poll=[own, launched])
        for handle in (own, launched):
            assert (run.word(handle) == "unknown") == (there[handle] == "unknown"), f"another process sees {there}"
        if not self.cancels:
            pytest.skip("cancels not declared: workers end by the run's flag")
        elsewhere(reference, run.deployment, patience_s=self.patience_s, cancel=[run.name, [own, launched]])
        run.ended(0, own, "since another process has cancelled it")

    def test_remaining_time_falls(self, stage: Stage) -> None:
        """In a worker, ``remaining_s`` is at most ``max_duration_s`` and falls; without a limit it is infinite.

        By it a worker leaves in time. Fix ``Launcher.remaining_s``: it counts from the start of the process, and by a
        clock that is not set.
        """
        run = stage(ranks=2)
        run.start(0)
        beats = [run.next_beat(0) for _ in range(3)]
        left = [beat["remaining_s"] for beat in beats if beat["attempt"] == beats[0]["attempt"]]
        if run.limit_s is None:
            assert left == [None] * len(left), "a limit that the plan does not say"
        else:
            assert all(0 <= seconds <= run.limit_s for seconds in left), f"{left} s of {run.limit_s:g} s"
            assert left == sorted(set(left), reverse=True), f"the time left does not fall: {left}"

    def test_no_secret_leaves_the_environment(self, stage: Stage, secret: str) -> None:
        """Nothing that the environment keeps secret is in deployment, handles or logs.

        They lie in the store, where others read them. Fix it: a worker has its credentials from where it runs.
        """
        run = stage(ranks=2)
        run.start(0)
        run.launch(run.failing_ref(1, 0, "for-the-log"))
        for handle in run.handles:
            check_no_secret(handle, "a handle")
        check_no_secret(json.dumps(run.deployment), "the deployment")
        check_no_secret(json.dumps(run.claims()), "a worker's own handle")
        run.cancel()
        check_no_secret("\n".join(run.logs(None)), "the log")


def _need_others(run: StagedRun) -> None:
    if run.scope == "process":
        pytest.skip("scope = process: workers end with the process that has started them")
