"""What functions have printed, and what AWS has printed about them, read from CloudWatch Logs."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lambdaml_aws_lambda.client import Client
from lambdaml_aws_lambda.failures import NotThere, plain, translated
from lambdaml_aws_lambda.names import log_group

_OVERLAP_S = 60.0  # read once more each time: AWS shows lines late, and not in their order
_START = re.compile(r"START RequestId: (\S+)")
_END = re.compile(r"(END RequestId|INIT_START|EXTENSION|RestoreRuntime|INIT_REPORT|XRAY)\b")
_REPORT = re.compile(r"REPORT RequestId: (\S+)")
_DURATION = re.compile(r"\tDuration: ([0-9.]+) ms")
_MEMORY = re.compile(r"\tMemory Size: ([0-9]+) MB\tMax Memory Used: ([0-9]+) MB")
_TIMED_OUT = re.compile(r"Task timed out after|\tStatus: timeout")
_KILLED = re.compile(r"signal: killed|Runtime\.OutOfMemory")
_IMPORT = re.compile(r"Runtime\.(ImportModuleError|UserCodeSyntaxError|HandlerNotFound|MalformedHandlerName)\b:? *(.*)")


@dataclass
class Invocation:
    """One of a function.

    Attributes:
        request: the number that AWS gave to it.
        lines: what was printed.
        begin, end: the records that the handler prints before and after a worker; None where it has not.
        report: AWS's line about its end; None before.
    """

    request: str
    lines: list[str] = field(default_factory=list)
    begin: Mapping[str, Any] | None = None
    end: Mapping[str, Any] | None = None
    report: str | None = None

    @property
    def order(self) -> tuple[int, int, int]:
        """Rank, generation and attempt of its worker; -1 where it has not begun one."""
        begin = self.begin or {}
        return begin.get("rank", -1), begin.get("generation", -1), begin.get("attempt", -1)

    def word(self, limit_s: float) -> str:
        """As ``poll`` says it.

        Args:
            limit_s: how long one may run: AWS does not always say that this is why it ended one.
        """
        if self.report is None:
            return "running"
        if self.end is not None:
            return "succeeded" if self.end["code"] == 0 else "failed"
        return f"failed: {self._reason(self.report, limit_s)}"

    def _reason(self, report: str, limit_s: float) -> str:
        """Why it ended before the handler had: that is what AWS does, and a crash."""
        text = "\n".join([*self.lines, report])
        if found := _IMPORT.search(text):
            return f"it crashed when it was imported: {plain(found[2] or found[1])}"
        memory, duration = _MEMORY.search(report), _DURATION.search(report)
        if _TIMED_OUT.search(text) or (duration and float(duration[1]) >= 1000 * limit_s):
            return f"its time was up after {limit_s:g} s: allow more provider.max_duration_s, or make rounds shorter"
        if _KILLED.search(text) or (memory and int(memory[2]) >= int(memory[1])):
            size = f"its {memory[1]} MB" if memory else "what it has"
            return f"it ran out of memory, {size}: give it more provider.memory_mb, or the job more workers"
        printed = [line.strip() for line in self.lines if line.strip() and not _is_record(line)]
        return f"its process ended: {plain(printed[-1]) if printed else 'without a word'}"


class FunctionLog:
    """All that a function's log group has since some time, kept up to date with one request now and then.

    Args:
        since_s: unix time; what was printed before is left out.
    """

    def __init__(self, client: Client, function: str, since_s: float) -> None:
        self.since_s = since_s
        self._client, self._function = client, function
        self._streams: dict[str, list[tuple[int, str]]] = {}  # milliseconds and text, in order
        self._invocations: list[Invocation] = []
        self._newest = int(1000 * since_s)
        self._read = -math.inf

    def refresh(self, least_s: float) -> None:
        """Read what is new, unless that was done less than so many seconds ago; nothing where there is no such group.

        Raises:
            CloudError: it cannot be read.
        """
        if time.monotonic() - self._read < least_s:
            return
        after = max(int(1000 * self.since_s), self._newest - int(1000 * _OVERLAP_S))
        for stream, events in self._streams.items():
            self._streams[stream] = [event for event in events if event[0] < after]
        for stream, at, text in self._events(after):
            self._streams.setdefault(stream, []).append((at, text))
            self._newest = max(self._newest, at)
        self._invocations = [each for events in self._streams.values() for each in invocations(t for _, t in events)]
        self._read = time.monotonic()

    def of_run(self, run: str, rank: int | None) -> list[Invocation]:
        """Those of a run's workers, or of one; by rank, generation and attempt."""
        mine = [i for i in self._invocations if i.begin is not None and i.begin["run"] == run]
        return sorted((i for i in mine if rank in (None, i.order[0])), key=lambda i: i.order)

    def words(self, limit_s: float) -> dict[str, str]:
        """By request, how its invocation goes. AWS may invoke twice with one number: it runs until both have ended."""
        said: dict[str, str] = {}
        for invocation in self._invocations:
            word = invocation.word(limit_s)
            before = said.setdefault(invocation.request, word)
            if "running" in (word, before):
                said[invocation.request] = "running"
            elif word != "succeeded":
                said[invocation.request] = word
        return said

    def _events(self, after: int) -> Iterator[tuple[str, int, str]]:
        pages = self._client.logs.get_paginator("filter_log_events")
        try:
            with translated(f"reading the logs of {self._function}"):
                for page in pages.paginate(logGroupName=log_group(self._function), startTime=after):
                    for event in page["events"]:
                        yield event["logStreamName"], event["timestamp"], event["message"]
        except NotThere:  # nothing was printed yet, or all is removed
            return


def invocations(messages: Iterable[str]) -> Iterator[Invocation]:
    """Those that the messages of one log stream tell of, one after another."""
    current: Invocation | None = None
    before: list[str] = []  # what a process printed as it started
    for message in messages:
        if found := _START.match(message):
            if current is not None:
                yield current
            current = Invocation(found[1], lines=before)
            before = []
        elif current is None:
            before.extend(message.splitlines())
        elif _REPORT.match(message):
            current.report = message.strip()
        elif not _END.match(message):
            _take(current, message.splitlines())
    if current is not None:
        yield current


def _take(invocation: Invocation, lines: Sequence[str]) -> None:
    for line in lines:
        record = _record(line)
        if record.get("request") == invocation.request:
            if record.get("event") == "begin" and _is_worker(record):
                invocation.begin = record
            elif record.get("event") == "end" and isinstance(record.get("code"), int):
                invocation.end = record
        invocation.lines.append(line)


def _record(line: str) -> Mapping[str, Any]:
    if not line.startswith("{"):
        return {}
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):  # what a worker has printed
        return {}
    return record if isinstance(record, dict) else {}


def _is_worker(record: Mapping[str, Any]) -> bool:
    numbers = all(isinstance(record.get(name), int) for name in ("rank", "generation", "attempt"))
    return numbers and isinstance(record.get("run"), str)


def _is_record(line: str) -> bool:
    return "event" in _record(line)
