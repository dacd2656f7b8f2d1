"""What tests of the cloud side deploy: a small package whose function answers as it is told to, and plans for it."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lambdaml_aws_lambda.client import Client
from lambdaml_aws_lambda.options import AwsLambdaOptions
from lambdaml_aws_lambda.package.archive import Package
from lambdaml_aws_lambda.planning import make_plan
from lambdaml_aws_lambda.shapes import Plan
from lambdaml_aws_lambda.testing import AwsServer

WELL = '{"places": {}, "error": None}'
"""What a function answers that works, as an expression of Python."""

_LOOP = """
import json, os, sys, urllib.request
{start}
api = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/invocation/"
while True:
    with urllib.request.urlopen(api + "next") as asked:
        number, event = asked.headers["Lambda-Runtime-Aws-Request-Id"], json.load(asked)
    said = json.dumps({answer}).encode()
    urllib.request.urlopen(urllib.request.Request(api + number + "/response", said)).close()
"""


def package(folder: Path, answer: str = WELL, *, start: str = "", ballast: bytes = b"") -> Package:
    """A function that answers with the value of an expression of Python; ``start`` runs first, when it is loaded."""
    path = folder / f"{hashlib.sha256(f'{answer}{start}{len(ballast)}'.encode()).hexdigest()[:16]}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        files = {
            "bootstrap": b'#!/bin/sh\nexec python3 "$LAMBDA_TASK_ROOT/loop.py"\n',
            "loop.py": _LOOP.replace("{answer}", answer).replace("{start}", start).encode(),
            "ballast": ballast,
        }
        for name, data in files.items():
            info = zipfile.ZipInfo(name)  # of a fixed time: equal packages have equal bytes
            info.external_attr = 0o100755 << 16
            archive.writestr(info, data)
    whole = path.read_bytes()
    return Package(path, hashlib.sha256(whole).hexdigest(), len(whole), len(whole), {})


def options(server: AwsServer, **more: Any) -> AwsLambdaOptions:
    """Options that lead to the stand-in."""
    return AwsLambdaOptions(**{**server.options, **more})


def client(server: AwsServer) -> Client:
    """A client with the credentials that this process has now."""
    return Client(options(server))


def job(store: str, **more: Any) -> dict[str, Any]:
    """What a plan is made of."""
    about: Mapping[str, Any] = {
        "name": "income",
        "workers": 4,
        "store": store,
        "channel": None,
        "data": {"source": None},
        "entry": "lambdaml_core.run.worker.worker:run_worker",
        "modules": ["lambdaml_core"],
        "environment": [],
    }
    return {**about, **more}


def plan(server: AwsServer, *, of: Mapping[str, Any] | None = None, **more: Any) -> Plan:
    """A plan for the stand-in; ``more`` are options of the provider, ``of`` keys of the job.

    Its store is on no disk that functions have, since they do not look at it.
    """
    return make_plan(options(server, **more), job("memory://here", **(of or {})))


def everything(server: AwsServer) -> set[str]:
    """Names of all that the account has, but for the bucket and users."""
    functions = server.client("lambda").get_paginator("list_functions").paginate()
    roles = server.client("iam").get_paginator("list_roles").paginate()
    groups = server.client("logs").get_paginator("describe_log_groups").paginate()
    objects = server.client("s3").get_paginator("list_objects_v2").paginate(Bucket="lambdaml-test")
    return {
        *(f"function {found['FunctionName']}" for page in functions for found in page["Functions"]),
        *(f"role {found['RoleName']}" for page in roles for found in page["Roles"]),
        *(f"log group {found['logGroupName']}" for page in groups for found in page["logGroups"]),
        *(f"object {found['Key']}" for page in objects for found in page.get("Contents", [])),
    }
