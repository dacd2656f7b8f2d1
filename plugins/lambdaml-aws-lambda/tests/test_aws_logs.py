"""What the logs of functions tell."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from aws_answers import Answer, answering
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdaml_aws_lambda.logs import FunctionLog, Invocation, invocations

RUN = "20261122-120000-law-bobibu"
LIMIT_S = 3.0
REPORT = (
    "REPORT RequestId: {}\tDuration: {} ms\tBilled Duration: 1300 ms\tMemory Size: 512 MB\tMax Memory Used: {} MB{}\n"
)


def record(event: str, request: str, rank: int, attempt: int = 0, run: str = RUN, **more: Any) -> str:
    what = {"event": event, "run": run, "generation": 0, "rank": rank, "attempt": attempt, "request": request, **more}
    return f"{json.dumps(what)}\n"


def whole(request: str, rank: int, attempt: int = 0, code: int = 0, printed: tuple[str, ...] = ()) -> list[str]:
    """The messages of an invocation that ended in order."""
    return [
        f"START RequestId: {request} Version: $LATEST\n",
        record("begin", request, rank, attempt),
        *printed,
        record("end", request, rank, attempt, code=code),
        f"END RequestId: {request}\n",
        REPORT.format(request, "1234.56", 158, ""),
    ]


def ended(*printed: str, duration: str = "1234.56", used_mb: int = 158, status: str = "", first: str = "") -> str:
    """What is said of a worker that AWS has ended after it had begun, or that has crashed."""
    messages = [
        *([first] if first else []),
        "START RequestId: r1 Version: $LATEST\n",
        *([] if first else [record("begin", "r1", 0)]),
        *printed,
        "END RequestId: r1\n",
        REPORT.format("r1", duration, used_mb, status),
    ]
    [invocation] = invocations(messages)
    return invocation.word(LIMIT_S)


def test_a_worker_runs_until_its_end_is_reported() -> None:
    messages = whole("r1", 2)
    words = [[i.word(LIMIT_S) for i in invocations(messages[:n])] for n in range(len(messages) + 1)]
    assert words == [[], *([["running"]] * (len(messages) - 1)), ["succeeded"]]
    [failed] = invocations(whole("r1", 2, code=1))
    assert failed.word(LIMIT_S) == "failed"


def test_reasons_are_told_by_what_aws_says() -> None:
    assert ended("2026-11-22T12:00:03.003Z r1 Task timed out after 3.00 seconds\n").startswith(
        "failed: its time was up"
    )
    assert ended(status="\tStatus: timeout").startswith("failed: its time was up")
    assert ended(duration="3000.00").startswith("failed: its time was up")
    killed = "RequestId: r1 Error: Runtime exited with error: signal: killed\nRuntime.ExitError\n"
    assert "out of memory, its 512 MB" in ended(killed)
    assert "out of memory, its 512 MB" in ended(used_mb=512)
    assert "provider.memory_mb" in ended(status="\tStatus: error\tError Type: Runtime.OutOfMemory")
    lost = "[ERROR] Runtime.ImportModuleError: Unable to import module 'x': No module named 'pandas'\nTraceback ...\n"
    assert ended(lost, first="INIT_START Runtime Version: 1\n") == (
        "failed: it crashed when it was imported: Unable to import module 'x': No module named 'pandas'"
    )
    assert ended(first=lost).startswith("failed: it crashed when it was imported: Unable to import")
    assert ended("Segmentation fault\n") == "failed: its process ended: Segmentation fault"
    assert ended() == "failed: its process ended: without a word"
    assert "123456789012" not in ended("no access to arn:aws:s3:::x of 123456789012\n")


def test_a_worker_s_own_lines_are_no_records() -> None:
    others = [
        record("end", "r2", 0, code=0),
        '{"event": "end", "request": "r1"}\n',
        '{"event": "begin", "request": "r1", "rank": "0"}\n',
        "{" * 10_000 + "\n",
        "{}\n",
        "[]\n",
    ]
    messages = whole("r1", 0, printed=tuple(others))
    [invocation] = invocations(messages[:-3])
    assert invocation.end is None
    assert invocation.order == (0, 0, 0)
    [invocation] = invocations(messages)
    assert len(invocation.lines) == 2 + len(others)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=8))
def test_environments_work_one_after_another(workers: list[tuple[int, bool]]) -> None:
    """A stream has whole invocations in their order, the last of which may go on; lines stay with their worker."""
    messages = [
        message
        for n, (rank, failed) in enumerate(workers)
        for message in whole(f"r{n}", rank, n, code=int(failed), printed=(f"line of {n}\n",))
    ]
    found = list(invocations(messages))
    assert [i.request for i in found] == [f"r{n}" for n in range(len(workers))]
    assert [i.order for i in found] == [(rank, 0, n) for n, (rank, _) in enumerate(workers)]
    assert [f"line of {n}" in i.lines and len(i.lines) == 3 for n, i in enumerate(found)] == [True] * len(workers)
    assert [i.word(LIMIT_S) for i in found] == ["failed" if failed else "succeeded" for _, failed in workers]


def event(stream: str, at_ms: int, message: str) -> dict[str, Any]:
    return {"logStreamName": stream, "timestamp": at_ms, "message": message}


def test_all_pages_are_read_and_late_lines_get_to_their_place() -> None:
    first = [event("a", 1_000_000 + n, m) for n, m in enumerate(whole("r1", 1, printed=("one\n",)))]
    second = [event("b", 1_000_000 + n, m) for n, m in enumerate(whole("r2", 0, printed=("two\n",)))]
    late = first.pop(2)
    pages = [{"events": first, "nextToken": "more"}, {"events": second[:3]}]
    again = [{"events": [*first[:2], late, *first[2:]], "nextToken": "more"}, {"events": second}]
    with answering(*(Answer(body=page) for page in itertools.chain(pages, again))) as service:
        log = FunctionLog(service.client(), "lambdaml-law-abcdefgh", 0.0)
        log.refresh(0.0)
        assert log.words(LIMIT_S) == {"r1": "succeeded", "r2": "running"}
        log.refresh(0.0)
        log.refresh(900.0)  # not so soon again
        assert log.words(LIMIT_S) == {"r1": "succeeded", "r2": "succeeded"}
    assert [line for i in log.of_run(RUN, None) for line in i.lines if line[0] != "{"] == ["two", "one"]
    assert [i.request for i in log.of_run(RUN, 1)] == ["r1"]
    assert log.of_run("another", None) == []
    assert [asked.body.get("nextToken") for asked in service.asked] == [None, "more", None, "more"]
    assert {asked.body["logGroupName"] for asked in service.asked} == {"/aws/lambda/lambdaml-law-abcdefgh"}


def test_nothing_was_printed_where_there_is_no_group() -> None:
    with answering(Answer(400, {"__type": "ResourceNotFoundException"})) as service:
        log = FunctionLog(service.client(), "lambdaml-law-abcdefgh", 0.0)
        log.refresh(0.0)
    assert log.words(LIMIT_S) == {}


@pytest.mark.parametrize("order", [1, -1])
def test_one_that_aws_delivers_twice_runs_until_both_have_ended(order: int) -> None:
    streams = {"a": whole("r1", 0)[:2], "b": whole("r1", 0)}
    events = [event(stream, n, m) for stream, messages in streams.items() for n, m in enumerate(messages)]
    with answering(Answer(body={"events": sorted(events, key=lambda e: e["logStreamName"], reverse=order < 0)})) as s:
        log = FunctionLog(s.client(), "lambdaml-law-abcdefgh", 0.0)
        log.refresh(0.0)
    assert log.words(LIMIT_S) == {"r1": "running"}


def test_an_invocation_that_was_no_worker_has_no_rank() -> None:
    assert Invocation("r1").order == (-1, -1, -1)
