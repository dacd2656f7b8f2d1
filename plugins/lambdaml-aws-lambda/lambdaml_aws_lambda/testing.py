"""A stand-in of AWS for tests: ministack, which checks signatures and permissions, and runs functions as processes.

It is a program on the ``PATH``, from an environment of its own, since it needs a botocore of its own::

    python3 -m venv servers && servers/bin/pip install ministack==1.5.33 && PATH=$PATH:$PWD/servers/bin pytest ...

A function runs on a clean virtual environment of this Python, in an environment without a variable of this process's,
where the code that this process runs is not to be seen, and dies where it uses more memory than it has.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import stat
import sys
import tempfile
import urllib.request
import venv
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import botocore.handlers

import lambdaml_aws_lambda
import lambdaml_core
from lambdaml_aws_lambda.names import ROLE_PATH
from lambdaml_core.testing.servers import Server, environment, free_port, program

REGION = "us-east-1"
BUCKET = "lambdaml-test"
ACCOUNT = "814260937155"
"""Its number, which is to be in nothing that LambdaML writes."""
RUNTIME = "provided.al2023"
"""The runtime of functions here: the others would be run by ministack itself, without their own processes."""

EARLY_S = 120
"""How much less time functions are told than they have, where they are told so."""

_PROGRAM = "ministack"
_REMEDY = "pip install ministack==1.5.33 in an environment of its own, with its bin folder on the PATH"
_OWNER = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test-secret"}

# What AWS's sandbox does: limits memory, by a group of Linux where it may, else by a limit of the process, and hides
# what is not the function's. Swapped into the bootstrap's place for Python, so that it is the process that is killed;
# of one that ran out of memory, another process prints what AWS says then.
_PYTHON = """#!/bin/sh
bytes=$((AWS_LAMBDA_FUNCTION_MEMORY_SIZE * 1048576))
group=/sys/fs/cgroup/memory/{mark}-$$
if mkdir "$group" && echo $bytes > "$group/memory.limit_in_bytes"; then
    env -i sh -c 'tail --pid=$1 -s 0.05 -f /dev/null
        grep -q "^oom_kill [1-9]" "$2/memory.oom_control" && echo "$3"
        rmdir "$2"' sh $$ "$group" "Error: Runtime exited with error: signal: killed" &
    echo $$ > "$group/cgroup.procs"
else
    ulimit -d $((bytes / 1024))
fi 2> /dev/null
{unset}
if unshare -m true 2> /dev/null; then
    exec unshare -m sh -c 'for path in {hidden}; do mount -t tmpfs tmpfs "$path"; done; exec "$@"' sh {python} "$@"
fi
exec {python} "$@"
"""
# What AWS's runtime client tells of the time left, less what a slow machine may take for a hand-over.
_TOLD = """
import os, sys
sys.path.insert(0, os.environ.get("LAMBDA_TASK_ROOT", ""))
try:
    from awslambdaric.lambda_context import LambdaContext
except ImportError:  # a function without it, or another program
    pass
else:
    left = LambdaContext.get_remaining_time_in_millis
    LambdaContext.get_remaining_time_in_millis = lambda self: max(0, left(self) - {early_ms})
finally:
    del sys.path[0]
"""
_NAMES = {
    "FunctionName": r"[A-Za-z0-9_-]{1,64}",
    "RoleName": r"[A-Za-z0-9_+=,.@-]{1,64}",
    "PolicyName": r"[A-Za-z0-9_+=,.@-]{1,128}",
    "logGroupName": r"[A-Za-z0-9_/.#-]{1,512}",
}
_GROUPS = Path("/sys/fs/cgroup/memory")


class AwsServer(Server):
    """A stand-in that keeps nothing on disk, with one account and the bucket :data:`BUCKET`.

    Args:
        folder: an empty one, for all that it keeps.
        concurrency: how many functions may run at once in the account.
        front: URL of what passes requests on to it, for tests that look at them or harm them; None = there is nothing.
        early: functions are told that they have :data:`EARLY_S` seconds less than they have: they leave in time, and a
            slow machine does not end them while they do.

    Attributes:
        origin: ``http://127.0.0.1:PORT``.
        endpoint: where drivers and functions send their requests: ``front``, or else the origin.
        environment: the owner's credentials, as boto3 reads them.
        requests: service and operation of every request that boto3 has made here, in order.
        violations: those of AWS's limits that the stand-in does not hold, by these requests.
    """

    def __init__(self, folder: Path, concurrency: int = 1000, front: str | None = None, *, early: bool = False) -> None:
        port = free_port()
        self.origin = f"http://127.0.0.1:{port}"
        self.endpoint = front or self.origin
        self.environment = {**_OWNER, "AWS_DEFAULT_REGION": REGION, "AWS_EC2_METADATA_DISABLED": "true"}
        self.requests: list[tuple[str, str]] = []
        self.violations: list[str] = []
        self._mark = f"lambdaml-{port}"
        theirs = {
            **_OWNER,
            "AUTH": "true",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "HOME": str(folder),
            "IOT_MTLS_ENABLED": "0",
            "LAMBDA_ACCOUNT_CONCURRENCY": str(concurrency),
            "LOG_LEVEL": "WARNING",
            "MINISTACK_ACCOUNT_ID": ACCOUNT,
            "S3_DATA_DIR": str(folder / "objects"),
            "SFTP_ENABLED": "0",
            "TMPDIR": str(folder),
        }
        (folder / "objects").mkdir()
        bin_ = _sandbox(folder, self._mark, theirs.keys() - _OWNER.keys(), early=early)
        path = f"{bin_}:/usr/local/bin:/usr/bin:/bin"
        words = [f"{name}={value}" for name, value in {**theirs, "PATH": path}.items()]
        super().__init__(["/usr/bin/env", "-i", *words, program(_PROGRAM, _REMEDY)], self._is_up)

    @property
    def url(self) -> str:
        """The bucket :data:`BUCKET` as a storage."""
        return f"s3://{BUCKET}?region={REGION}&endpoint_url={self.endpoint}"

    @property
    def options(self) -> dict[str, Any]:
        """Options of the provider that lead it here."""
        return {"region": REGION, "endpoint_url": self.endpoint, "runtime": RUNTIME}

    def client(self, service: str) -> Any:
        """boto3's, with the owner's credentials, past what is in front."""
        return boto3.Session(_OWNER["AWS_ACCESS_KEY_ID"], _OWNER["AWS_SECRET_ACCESS_KEY"], region_name=REGION).client(
            service, endpoint_url=self.origin
        )  # type: ignore[call-overload]

    def add_user(self, name: str, policy: Mapping[str, Any]) -> dict[str, str]:
        """Make a user who may do what a policy says. Returns the credentials, as boto3 reads them."""
        # ministack leaves paths out of roles' ARNs, and holds the making of functions against no function
        text = json.dumps(policy).replace(f":role{ROLE_PATH}", ":role/")
        held = json.loads(text)
        if '"lambda:CreateFunction"' in text:
            held["Statement"].append({"Effect": "Allow", "Action": "lambda:CreateFunction", "Resource": "*"})
        roles = self.client("iam")
        roles.create_user(UserName=name)
        roles.put_user_policy(UserName=name, PolicyName="test", PolicyDocument=json.dumps(held))
        key = roles.create_access_key(UserName=name)["AccessKey"]
        return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}

    def kill(self) -> None:
        """As :meth:`Server.kill`, functions included."""
        super().kill()
        for group in _GROUPS.glob(f"{self._mark}-*"):
            with contextlib.suppress(OSError):  # Linux is still ending who was in it: it goes with the machine
                group.rmdir()

    def _is_up(self) -> bool:
        with urllib.request.urlopen(f"{self.origin}/_ministack/health") as answer:  # noqa: S310  (http, on loopback)
            return bool(answer.status == 200)


@contextlib.contextmanager
def aws_server(concurrency: int = 1000, front: str | None = None, *, early: bool = False) -> Iterator[AwsServer]:
    """A stand-in; meanwhile this process, and what it starts, has the credentials of its owner.

    Args:
        concurrency, front, early: as of :class:`AwsServer`.

    Raises:
        RuntimeError: ministack is not installed, or does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="lambdaml-aws-", ignore_cleanup_errors=True) as folder:
        server = AwsServer(Path(folder), concurrency, front, early=early)
        with server, environment("AWS_", server.environment), _watched(server):
            server.client("s3").create_bucket(Bucket=BUCKET)
            yield server
        if server.violations:
            raise AssertionError(f"AWS would refuse: {'; '.join(server.violations)}")


@contextlib.contextmanager
def _watched(server: AwsServer) -> Iterator[None]:
    """Hold every request of this process against AWS's limits."""

    def look(params: dict[str, Any], model: Any, **_: Any) -> None:
        service, operation = model.service_model.service_name, model.name
        server.requests.append((service, operation))
        server.violations += [f"{service} {operation}: {line}" for line in violations(operation, params)]

    hook = ("provide-client-params", look)
    botocore.handlers.BUILTIN_HANDLERS.append(hook)
    try:
        yield
    finally:
        botocore.handlers.BUILTIN_HANDLERS.remove(hook)


def violations(operation: str, params: Mapping[str, Any]) -> Iterator[str]:
    """Which limits of AWS a request passes: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""
    for name, form in _NAMES.items():
        if name in params and not re.fullmatch(form, params[name]):
            yield f"{name} {params[name]!r}"
    sizes = {
        "payload": (len(params.get("Payload", b"")), 1 << 20 if params.get("InvocationType") == "Event" else 6 << 20),
        "zip file": (len(params.get("ZipFile") or params.get("Code", {}).get("ZipFile", b"")), 50 << 20),
        "policy": (len("".join(params.get("PolicyDocument", "").split())), 10_240),
        "environment": (len(json.dumps(params.get("Environment", {}).get("Variables", {}))), 4096),
        "tags": (len(params.get("Tags", ()) or params.get("tags", ())), 50),
    }
    yield from (f"{what} of {size}, over {most}" for what, (size, most) in sizes.items() if size > most)
    if isinstance(zipped := params.get("ZipFile") or params.get("Code", {}).get("ZipFile"), bytes):
        with zipfile.ZipFile(io.BytesIO(zipped)) as archive:
            unzipped = sum(info.file_size for info in archive.infolist())
        if unzipped > 250 << 20:
            yield f"zip file of {unzipped} unzipped"


def _sandbox(folder: Path, mark: str, variables: set[str], *, early: bool) -> Path:
    """A folder with the ``python3`` of functions."""
    clean, bin_ = folder / "python", folder / "bin"
    venv.EnvBuilder(with_pip=False, symlinks=True).create(clean)
    if early:
        [site] = clean.glob("lib/python*/site-packages")
        (site / "told.py").write_text(_TOLD.format(early_ms=1000 * EARLY_S))
        (site / "told.pth").write_text("import told\n")
    ours = {Path(module.__file__ or "").parents[1] for module in (lambdaml_core, lambdaml_aws_lambda)}
    outer = [path for path in sorted(ours) if not any(path.is_relative_to(other) for other in ours - {path})]
    hidden = [f'"{path}"' for path in outer if not Path(sys.base_prefix).is_relative_to(path)]
    bin_.mkdir()
    python = bin_ / "python3"
    unset = f"unset {' '.join(sorted(variables - {'AWS_DEFAULT_REGION', 'AWS_ENDPOINT_URL'}))}"
    text = _PYTHON.format(mark=mark, unset=unset, hidden=" ".join(hidden), python=clean / "bin" / "python3")
    python.write_text(text)
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    return bin_
