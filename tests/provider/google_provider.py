"""A provider with nothing of AWS: workers are requests to a function of Google's functions framework, on this host.

It is what a plugin for another cloud would be, without that cloud's own calls: ``deploy`` starts the service, what can
be seen of workers is what the service's log says, and none can be ended from outside.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_function
from google_function import FunctionLauncher

from lambdaml_core.options import option
from lambdaml_core.provider import processes
from lambdaml_core.provider.local import worker_environment
from lambdaml_core.testing.servers import Server, free_port

_SERVICE = re.compile("lambdaml-functions-[0-9a-f]{16}")
_GRACE_S = 120
"""How much later the framework ends a request than it is told: a slow machine ends none that hands over."""
_LABELS = "logging.googleapis.com/labels"


@dataclass(frozen=True)
class GoogleOptions:
    """The time limit of a request, which the framework takes in whole seconds."""

    max_duration_s: int = option(60, help="how long one request may take", unit="s", minimum=1, maximum=3600)


class GoogleProvider:
    """One service for each run, with one instance more than there are workers."""

    def __init__(self, options: GoogleOptions) -> None:
        self.options = options
        self._started: dict[str, contextlib.ExitStack] = {}

    def plan(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        return {
            "scope": "host",
            "max_duration_s": self.options.max_duration_s,
            "service": f"lambdaml-functions-{secrets.token_hex(8)}",
            "instances": job["workers"] + 1,
        }

    def deploy(self, plan: Mapping[str, Any]) -> Mapping[str, Any]:
        known = _folder(plan["service"]) / "deployment.json"
        if known.exists():
            found: Mapping[str, Any] = json.loads(known.read_text())
            return found
        known.parent.mkdir(mode=0o700)
        host = f"127.0.0.1:{free_port()}"
        deployment = {"service": plan["service"], "host": host, "max_duration_s": plan["max_duration_s"]}
        started = self._started[plan["service"]] = contextlib.ExitStack()
        started.enter_context(_server(deployment, plan["instances"]))
        known.write_text(json.dumps(deployment))
        return deployment

    def launcher(self, deployment: Mapping[str, Any]) -> FunctionLauncher:
        return FunctionLauncher(deployment)

    def poll(self, handles: Sequence[str]) -> Mapping[str, str]:
        """By the log, which has no word of one that was ended by the framework: its silence tells."""
        said = {}
        for service in {handle.partition("/")[0] for handle in handles}:
            for record in _records(service):
                if "state" in record:
                    said[f"{service}/{record[_LABELS]['execution_id']}"] = record["state"]
        return {handle: said.get(handle, "unknown") for handle in handles}

    def logs(self, deployment: Mapping[str, Any], run: str, rank: int | None, since_s: float) -> Iterator[str]:
        for record in _records(deployment["service"]):
            if record.get("run") == run and rank in (None, record["rank"]):
                yield record["message"]

    def cancel(self, deployment: Mapping[str, Any], run: str, handles: Sequence[str]) -> None:
        """Nobody can end a request but the one who serves it: workers see the run's flag."""

    def teardown(self, deployment: Mapping[str, Any]) -> Sequence[str]:
        service = deployment["service"]
        processes.end_all(lambda: list(processes.find(service)))
        self._started.pop(service, contextlib.ExitStack()).close()
        shutil.rmtree(_folder(service), ignore_errors=True)
        return []


def _server(deployment: Mapping[str, Any], instances: int) -> Server:
    """The framework, which forks an instance for each request that it serves at a time."""
    host, _, port = deployment["host"].partition(":")
    source = google_function.__file__
    words = ["--target", "work", "--source", source, "--host", host, "--port", port]
    command = [sys.executable, "-m", "functions_framework", *words]
    log = _folder(deployment["service"]) / "log"
    environment = worker_environment() | {
        processes.MARK: deployment["service"],
        google_function.DEPLOYMENT: json.dumps(deployment),
        "WORKERS": str(instances),
        "THREADS": "1",
        "CLOUD_RUN_TIMEOUT_SECONDS": str(deployment["max_duration_s"] + _GRACE_S),
        "LOG_EXECUTION_ID": "true",
    }

    def ready() -> bool:
        connection = http.client.HTTPConnection(deployment["host"], timeout=10)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status == 200
        finally:
            connection.close()

    return Server(["sh", "-c", 'exec "$@" >> "$0"', log, *command], ready, environment=environment)


def _records(service: str) -> Iterator[Mapping[str, Any]]:
    """The entries of a service's log. Instances write at the same time, an entry first and then the end of its line:
    some stand in one line, and the last may be there in part."""
    if not _SERVICE.fullmatch(service):
        return
    log = _folder(service) / "log"
    text, decoder = (log.read_text() if log.exists() else "").replace("\n", ""), json.JSONDecoder()
    at = 0
    while at < len(text):
        try:
            record, at = decoder.raw_decode(text, at)
        except ValueError:
            return
        yield record


def _folder(service: str) -> Path:
    return Path(tempfile.gettempdir(), service)
