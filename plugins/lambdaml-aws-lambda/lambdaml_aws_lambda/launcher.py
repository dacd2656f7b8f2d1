"""Starting workers: asynchronous invocations, made by a driver, and by functions for their successors."""

from __future__ import annotations

import contextlib
import json
import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from lambdaml_core.errors import LambdaMLError, LaunchFailed
from lambdaml_core.provider.base import WorkerRef

if TYPE_CHECKING:  # boto3 is imported by whoever launches: few workers do
    from mypy_boto3_lambda import LambdaClient

    from lambdaml_aws_lambda.client import Client

PAYLOAD_BYTES = 1 << 20
"""Of an asynchronous invocation, at most."""

_FIRST_S, _LONGEST_S = 0.1, 5.0  # of a pause
_PATIENCE_S = 60.0  # with which one invocation is tried


def handle_of(region: str, function: str, request: str) -> str:
    """The handle of a worker: its function, and the number that AWS gives to the request that invoked it."""
    return f"aws-lambda:{region}:{function}/{request}"


class AwsLambdaLauncher:
    """Invokes a function, asynchronously: a launch returns once AWS has queued it.

    What AWS is too busy for is tried again after a pause of random length. The pauses are those of all launches of this
    object, in all threads: they double with each refusal and halve with each success, so that many launches slow down
    together.

    Args:
        region, function: where it is, and its name.
        connect: makes a client that tries nothing again by itself, at the first launch.
        handle: of the worker that this is in; empty for a driver.
        remaining_s: how long the process may still run.

    Attributes:
        launched: the handles of all that it has launched.
        retries: how often AWS was asked again.
    """

    def __init__(
        self,
        region: str,
        function: str,
        connect: Callable[[], Client],
        *,
        handle: str = "",
        remaining_s: Callable[[], float] = lambda: math.inf,
    ) -> None:
        self._region, self._function, self._connect = region, function, connect
        self._handle, self._remaining_s = handle, remaining_s
        self._client: Client | None = None
        self._lock = threading.Lock()
        self._pause_s = 0.0
        self.launched: list[str] = []
        self.retries = 0

    def launch(self, ref: WorkerRef) -> str:
        """Invoke it with this reference, at least once.

        Raises:
            LaunchFailed: AWS refuses it, or has been too busy for a minute; the message says why.
        """
        from lambdaml_aws_lambda.failures import CloudBusy

        payload = json.dumps(ref._asdict()).encode()
        if len(payload) > PAYLOAD_BYTES:
            raise LaunchFailed(
                f"the reference to worker {ref.rank} has {len(payload)} bytes: AWS takes {PAYLOAD_BYTES}"
            )
        give_up = time.monotonic() + min(_PATIENCE_S, self._remaining_s())
        while True:
            time.sleep(random.uniform(0.0, self._pause_s))  # noqa: S311  (no secret)
            try:
                request = self._invoke(payload)
            except CloudBusy:
                self._refused()
                if time.monotonic() + self._pause_s > give_up:
                    raise
            else:
                return self._taken(handle_of(self._region, self._function, request))

    @contextlib.contextmanager
    def in_time(self) -> Iterator[None]:
        """Meanwhile, once half of the time is over, make the client: importing boto3 takes longer than to hand over."""
        timer = threading.Timer(self._remaining_s() / 2, self._make_ready)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()  # the process may be frozen from here on

    def handle(self) -> str:
        """Of the worker whose launcher this is; empty for a driver's."""
        return self._handle

    def remaining_s(self) -> float:
        """Until AWS ends this invocation; infinity in a driver."""
        return self._remaining_s()

    def _invoke(self, payload: bytes) -> str:
        from lambdaml_aws_lambda.failures import translated

        functions = self._connected()
        with translated(f"invoking the function {self._function}"):
            answer = functions.invoke(FunctionName=self._function, InvocationType="Event", Payload=payload)
            answer["Payload"].read()  # it is empty; until it is read, its connection cannot be used again
        return answer["ResponseMetadata"]["RequestId"]

    def _connected(self) -> LambdaClient:
        with self._lock:  # boto3 makes one client at a time
            self._client = self._client or self._connect()
            return self._client.functions

    def _make_ready(self) -> None:
        with contextlib.suppress(LambdaMLError):  # who launches is told
            self._connected()

    def _taken(self, handle: str) -> str:
        with self._lock:
            self._pause_s = self._pause_s / 2 if self._pause_s > _FIRST_S else 0.0
            self.launched.append(handle)
        return handle

    def _refused(self) -> None:
        with self._lock:
            self.retries += 1
            self._pause_s = min(_LONGEST_S, max(_FIRST_S, 2 * self._pause_s))
