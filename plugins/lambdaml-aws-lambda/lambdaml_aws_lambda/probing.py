"""Asks a new function whether it works, so that what keeps it from working is one line before anything is launched."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from lambdaml_aws_lambda.client import Client
from lambdaml_aws_lambda.failures import plain, translated
from lambdaml_aws_lambda.shapes import Plan
from lambdaml_core.errors import WorkerFailed

_PAUSE_S = 2.0
_MEMORY = "give it more by provider.memory_mb"
_CRASHED = "see that provider.requirements name all that the job's own code imports, and that provider.runtime fits"
_REACH = "see that it exists and its credentials are right; in a VPC, lambdaml doctor says what the way there lacks"


def probe(client: Client, plan: Plan, function: str, settles_s: float) -> Mapping[str, Any]:
    """Have the function say whether it can be imported, and reach its places.

    Args:
        settles_s: how long to ask again where a place is out of reach: a new role's policy is known after seconds.

    Returns:
        What it said: ``versions``, ``memory_mb``, ``seconds``.

    Raises:
        WorkerFailed: it cannot, with the one line that says why.
        CloudDenied, CloudBusy, CloudError: as :func:`~lambdaml_aws_lambda.failures.translated`.
    """
    event = {"probe": {"places": [{"url": place["url"], "storage": place["storage"]} for place in plan["places"]]}}
    give_up = time.monotonic() + settles_s
    while True:
        said = _asked(client, plan, function, event)
        if said.get("error"):
            raise WorkerFailed(f"the function {function} does not work: {plain(str(said['error']))}", hint=_CRASHED)
        out_of_reach = {url: line for url, line in said.get("places", {}).items() if line}
        if not out_of_reach:
            return said
        if time.monotonic() > give_up:
            url, line = next(iter(out_of_reach.items()))
            raise WorkerFailed(f"the function {function} cannot use {url}: {plain(str(line))}", hint=_REACH)
        time.sleep(_PAUSE_S)


def _asked(client: Client, plan: Plan, function: str, event: Mapping[str, Any]) -> Mapping[str, Any]:
    with translated(f"trying the function {function}"):
        answer = client.functions.invoke(FunctionName=function, Payload=json.dumps(event).encode())
        said = json.loads(answer["Payload"].read() or b"null")
    if not answer.get("FunctionError"):
        return said if isinstance(said, Mapping) else {"error": f"it answers {said!r} when it is tried"}
    raise _failure(plan, function, said if isinstance(said, Mapping) else {})


def _failure(plan: Plan, function: str, said: Mapping[str, Any]) -> WorkerFailed:
    """How it ended, by AWS's words: https://docs.aws.amazon.com/lambda/latest/dg/troubleshooting-invocation.html"""
    kind, text = str(said.get("errorType", "")), str(said.get("errorMessage", ""))
    line = plain(text.strip().splitlines()[-1] if "Traceback" in text else text)
    settings = plan["settings"]
    if "timed out" in line:
        seconds = f"{settings['timeout_s']} s"
        hint = "give it more by provider.max_duration_s or memory_mb; in a VPC, lambdaml doctor says what is missing"
        return WorkerFailed(f"the function {function} does not answer within its {seconds}", hint=hint)
    killed = kind == "Runtime.ExitError" and "exit status" not in line
    if kind == "Runtime.OutOfMemory" or killed:
        size = f"{settings['memory_mb']} MB"
        return WorkerFailed(f"the function {function} is killed as it starts: {size} are too little", hint=_MEMORY)
    return WorkerFailed(f"the function {function} ends as it starts: {line} ({kind})", hint=_CRASHED)
