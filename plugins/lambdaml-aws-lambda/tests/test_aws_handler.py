"""What a function runs, called here as AWS would call it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lambdaml_aws_lambda import handler
from lambdaml_aws_lambda.handler import handle
from lambdaml_aws_lambda.logs import invocations
from lambdaml_core.options import NoOptions
from lambdaml_core.provider.inline import InlineProvider
from lambdaml_core.run.spec import Place
from lambdaml_core.testing.provider_laws.jobs import make_job, right_model
from lambdaml_core.testing.provider_laws.stage import StagedRun

AGE_S = 1e6
"""Of the process, as it is told: longer than any test takes."""


@dataclasses.dataclass
class Context:
    """As AWS's runtime client makes it."""

    aws_request_id: str = "5f0b1a6e-0000-4000-8000-000000000001"
    function_name: str = "lambdaml-law-abcdefgh"
    memory_limit_in_mb: str = "1769"
    remaining_ms: int = 900_000

    def get_remaining_time_in_millis(self) -> int:
        return self.remaining_ms


@pytest.fixture(autouse=True)
def region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "us-east-1")


@pytest.fixture
def run(tmp_path: Path) -> Iterator[StagedRun]:
    job = make_job(None, f"file://{tmp_path}/store", workers=2, rounds=8)
    staged = StagedRun(InlineProvider(NoOptions()), job, patience_s=60, flag=True)
    yield staged
    staged.close()


def records(printed: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]


def test_workers_train_the_right_model(run: StagedRun, capsys: pytest.CaptureFixture[str]) -> None:
    events = [json.loads(json.dumps(run.ref(rank)._asdict())) for rank in range(2)]
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(handle, events, [Context(f"{n}-request") for n in range(2)]))
    assert answers == [{"code": 0}, {"code": 0}]
    assert run.result()["files"]["model.safetensors"] == right_model(2, 8)
    assert sorted(claim["handle"] for claim in run.claims()) == [
        f"aws-lambda:us-east-1:lambdaml-law-abcdefgh/{n}-request" for n in range(2)
    ]
    printed = records(capsys.readouterr().out)
    for rank in range(2):
        begin, end = (record for record in printed if record["request"] == f"{rank}-request")
        assert (begin["event"], end["event"]) == ("begin", "end")
        assert (begin["run"], begin["rank"], begin["attempt"], begin["generation"]) == (run.name, rank, 0, 0)
        assert begin["versions"].keys() == {"lambdaml", "python", "numpy"}
        assert begin["memory_mb"] == 1769
        assert end["code"] == 0


def test_only_the_first_invocation_of_a_process_is_cold(
    run: StagedRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its age is that of the process, and of each other one the time since it came."""
    monkeypatch.setattr(handler, "process_age_s", lambda: AGE_S)
    monkeypatch.setattr(handler, "_cold", True)
    for attempt in range(2):
        assert handle(run.failing_ref(0, attempt, "nowhere")._asdict(), Context(f"{attempt}-request"))["code"] == 1
    begun = [record for record in records(capsys.readouterr().out) if record["event"] == "begin"]
    assert [(record["request"], record["cold"]) for record in begun] == [("0-request", True), ("1-request", False)]
    assert begun[0]["start"]["age_s"] >= AGE_S > begun[1]["start"]["age_s"]


def test_what_is_no_reference_is_answered_and_not_raised(capsys: pytest.CaptureFixture[str]) -> None:
    for event in (None, {}, {"rank": 1}, "text", [1], {"probe": None}):
        answer = handle(event, Context())
        assert answer["code"] == 1
        assert answer["error"]


def test_a_worker_that_fails_prints_what_happened(run: StagedRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert handle(run.failing_ref(1, 0, "nowhere")._asdict(), Context()) == {"code": 1}
    printed = capsys.readouterr().out
    request = Context().aws_request_id
    messages = [f"START RequestId: {request} Version: $LATEST\n", *printed.splitlines(), f"REPORT RequestId: {request}"]
    [invocation] = invocations(messages)
    assert invocation.begin is not None
    assert invocation.word(900) == "failed"
    assert any("nowhere" in line for line in invocation.lines)


def test_a_probe_says_which_place_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    good: dict[str, Any] = {
        "url": f"file://{tmp_path}/store",
        "storage": dataclasses.asdict(Place.of("file:///").reference),
    }
    factory = "lambdaml_core.no_such_module:Storage"
    bad = {"url": "other://place", "storage": {**good["storage"], "factory": factory}}
    answer = handle({"probe": {"places": [good, bad]}}, Context())
    assert answer["ok"] is False
    assert answer["error"] is None
    assert answer["places"][good["url"]] is None
    assert "no_such_module" in answer["places"][bad["url"]]
    assert answer["memory_mb"] == 1769
    assert handle({"probe": {"places": [good]}}, Context())["ok"] is True
