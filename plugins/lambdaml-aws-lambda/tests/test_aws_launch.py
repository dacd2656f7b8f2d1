"""Invocations, and what is done where AWS is too busy for them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import pytest
from aws_answers import Answer, Answers, answering

from lambdaml_aws_lambda.failures import CloudBusy, CloudDenied
from lambdaml_aws_lambda.launcher import PAYLOAD_BYTES, AwsLambdaLauncher
from lambdaml_core.errors import LaunchFailed
from lambdaml_core.provider.base import WorkerRef

FUNCTION = "lambdaml-law-abcdefgh"
REF = WorkerRef("s3://bucket", {"kind": "storage"}, "run-1", 0, 3, 1, "00")
BUSY = [Answer(429, {"Reason": "CallerRateLimitExceeded"}, "TooManyRequestsException"), Answer(503), Answer(500)]


def launcher(service: Answers, remaining_s: Callable[[], float] = lambda: math.inf) -> AwsLambdaLauncher:
    return AwsLambdaLauncher("us-east-1", FUNCTION, service.client, remaining_s=remaining_s)


def test_the_payload_is_the_reference_and_the_handle_the_request() -> None:
    with answering(Answer(202, request="5f0b1a6e")) as service:
        it = launcher(service)
        assert it.launch(REF) == f"aws-lambda:us-east-1:{FUNCTION}/5f0b1a6e"
    [asked] = service.asked
    assert asked.body == REF._asdict()
    assert asked.headers["x-amz-invocation-type"] == "Event"
    assert f"/functions/{FUNCTION}/invocations" in asked.path
    assert it.launched == [f"aws-lambda:us-east-1:{FUNCTION}/5f0b1a6e"]


@pytest.mark.parametrize("busy", BUSY, ids=lambda answer: str(answer.status))
def test_what_aws_is_too_busy_for_is_tried_again_and_counted(busy: Answer) -> None:
    with answering(busy, busy, Answer(202, request="one"), Answer(202, request="two")) as service:
        it = launcher(service)
        assert it.launch(REF).endswith("/one")
        assert it.retries == 2
        assert it.launch(REF).endswith("/two")
    assert len(service.asked) == 4


def test_who_has_no_time_left_does_not_try_again() -> None:
    with answering(BUSY[0]) as service, pytest.raises(CloudBusy, match="TooManyRequestsException") as e:
        launcher(service, lambda: 0.0).launch(REF)
    assert e.value.hint


def test_what_is_not_allowed_is_not_tried_again() -> None:
    said = "User: arn:aws:iam::123456789012:user/eve is not authorized to perform: lambda:InvokeFunction on resource: x"
    denied = Answer(403, {"Message": said}, "AccessDeniedException")
    with answering(denied) as service, pytest.raises(CloudDenied) as e:
        launcher(service).launch(REF)
    assert "lambda:InvokeFunction" in (e.value.hint or "")
    assert "123456789012" not in f"{e.value.message} {e.value.hint}"


def test_a_reference_that_is_too_large_is_not_sent() -> None:
    with answering() as service, pytest.raises(LaunchFailed, match=str(PAYLOAD_BYTES)):
        launcher(service).launch(REF._replace(storage={"kind": "x" * PAYLOAD_BYTES}))
    assert service.asked == []


def test_the_client_is_ready_before_the_time_is_up() -> None:
    end = time.monotonic() + 0.02
    with answering() as service:
        made: list[float] = []

        def connect() -> None:
            made.append(time.monotonic())
            raise LaunchFailed("who launches is told")

        it = AwsLambdaLauncher("us-east-1", FUNCTION, connect, remaining_s=lambda: end - time.monotonic())  # type: ignore[arg-type]
        with it.in_time():
            while not made:
                pass
        with AwsLambdaLauncher("us-east-1", FUNCTION, connect, remaining_s=lambda: 900.0).in_time():  # type: ignore[arg-type]
            pass
    assert len(made) == 1
    assert service.asked == []
