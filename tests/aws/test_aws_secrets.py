"""No credential, account number or token is in anything that runs on functions leave, print or send."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import secrets
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from aws_help import points
from aws_proxy import Answer, Request, behind

from lambdaml_aws_lambda.testing import ACCOUNT, REGION, AwsServer
from lambdaml_core.cli import main
from lambdaml_core.errors import LambdaMLError
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.driver.following import Event
from lambdaml_core.run.job import Job
from lambdaml_core.testing.servers import environment
from lambdaml_redis.testing import RedisServer, redis_server

NAME = "LAMBDAML_TEST_TOKEN"
TOKEN = secrets.token_hex(12)
VALUE = f"t/{TOKEN}+%"
"""Quoted in a URL it looks otherwise, but for the token."""
ANYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
SECRET = "lambdaml-test-values"  # noqa: S105  (a name)
_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


class Recorder:
    """What is sent to make functions and to invoke them."""

    def __init__(self) -> None:
        self.made: list[dict[str, Any]] = []
        self.invoked: list[bytes] = []

    def __call__(self, request: Request, forward: Callable[[Request], Answer]) -> Answer:
        if request.path.endswith("/invocations"):
            self.invoked.append(request.body)
        elif request.method == "POST" and request.path.endswith("/functions"):
            self.made.append(json.loads(request.body))
        return forward(request)


@dataclasses.dataclass
class Found:
    """What is to be looked through, by what it is, and what must not be in it."""

    texts: list[tuple[str, bytes]] = dataclasses.field(default_factory=list)
    planted: dict[str, str] = dataclasses.field(default_factory=dict)

    def add(self, what: str, text: bytes | str) -> None:
        self.texts.append((what, text.encode() if isinstance(text, str) else text))

    def telling(self) -> list[str]:
        """What tells a secret, and which."""
        needles = {name: value.encode() for name, value in self.planted.items()}
        return [f"{what}: {name}" for what, text in self.texts for name, value in needles.items() if value in text]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def server(recorder: Recorder) -> Iterator[AwsServer]:
    with behind(recorder) as server:
        yield server


@pytest.fixture
def redis(monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisServer]:
    monkeypatch.setenv(NAME, VALUE)
    with redis_server(password=VALUE) as server:
        yield server


@pytest.fixture
def found(server: AwsServer) -> Iterator[Found]:
    """The process has credentials that last for a session."""
    user = server.add_user("person", ANYTHING)
    session = boto3.Session(user["AWS_ACCESS_KEY_ID"], user["AWS_SECRET_ACCESS_KEY"], region_name=REGION)
    given = session.client("sts", endpoint_url=server.origin).get_session_token()["Credentials"]
    values = (given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])
    credentials = dict(zip(_CREDENTIALS, values, strict=True))
    with environment("AWS_", {**server.environment, **credentials}):
        yield Found(planted={"the account": ACCOUNT, "the token": TOKEN, **credentials})


@pytest.fixture
def job(server: AwsServer, redis: RedisServer, tmp_path: Path) -> Path:
    x, y = points()
    lines = (f"{b} " + " ".join(f"{i + 1}:{v:.6g}" for i, v in enumerate(row)) for row, b in zip(x, y, strict=True))
    (tmp_path / "rows.libsvm").write_text("\n".join(lines) + "\n")
    place = redis.url.rpartition("@")[2]
    provider = "\n".join(f'{name} = "{value}"' for name, value in server.options.items())
    path = tmp_path / "job.toml"
    path.write_text(f"""
store = "{server.url}"
channel = "fault+redis://:{{env:{NAME}}}@{place}?fault_delay=1&fault_delay_s=0.02"
workers = 2
batch_size = 64
rounds = 40
[data]
source = "{tmp_path}/rows.libsvm"
[optimizer]
name = "ga_sgd"
[recovery]
heartbeat_s = 0.5
restarts = 0
[provider]
name = "aws-lambda"
memory_mb = 512
{provider}
""")
    return path


class Stop(Exception):
    """Cancels a run."""


def command(found: Found, capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    """Run a command that succeeds, and keep what it prints. Returns that."""
    code = main([*words])
    out, err = capsys.readouterr()
    assert code == 0, err
    found.add(f"lambdaml {words[0]}", out + err)
    return out


def look_around(found: Found, server: AwsServer, recorder: Recorder) -> None:
    """Whatever is kept, and was sent."""
    objects = server.client("s3")
    for page in objects.get_paginator("list_objects_v2").paginate(Bucket=server.url.partition("?")[0][5:]):
        for each in page.get("Contents", []):
            body = objects.get_object(Bucket=page["Name"], Key=each["Key"])["Body"].read()
            found.add(each["Key"], each["Key"].encode() + body)
            if each["Key"].endswith(".zip"):
                with zipfile.ZipFile(io.BytesIO(body)) as package:
                    for name in package.namelist():
                        found.add("the package", package.read(name))
    logs = server.client("logs")
    for group in logs.describe_log_groups()["logGroups"]:
        for page in logs.get_paginator("filter_log_events").paginate(logGroupName=group["logGroupName"]):
            found.add("the log", "\n".join(event["message"] for event in page["events"]))
    for payload in recorder.invoked:
        found.add("an invocation", payload)
    for made in recorder.made:
        found.add("a function", json.dumps({**made, "Environment": None, "Role": None}))


def credentials_of_functions(server: AwsServer) -> Mapping[str, str]:
    """Those that functions have which are at work or warm."""
    held: dict[str, str] = {}
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            lines = (folder / "environ").read_text().split("\0")
            variables = dict(line.split("=", 1) for line in lines if "=" in line)
            if "AWS_LAMBDA_RUNTIME_API" in variables and variables.get("AWS_ENDPOINT_URL") == server.endpoint:
                held |= {f"a function's {name}": variables[name] for name in _CREDENTIALS if name in variables}
    return held


def test_runs_tell_no_secret(
    found: Found,
    server: AwsServer,
    redis: RedisServer,
    recorder: Recorder,
    job: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One run succeeds, one is cancelled and one fails, on a function that is kept, and its log with it."""
    command(found, capsys, "plan", str(job), "--json")
    command(found, capsys, "deploy", str(job), "--json")
    run = json.loads(command(found, capsys, "train", str(job), "--json"))["run"]
    for words in (["show", run], ["logs", run], ["runs"]):
        command(found, capsys, *words, "--store", server.url)

    def harmed(harm: Callable[[], None]) -> Exception:
        waiting = [harm]

        def on_event(event: Event) -> None:
            found.add("an event", json.dumps(event))
            if event["event"] == "progress" and waiting:
                found.planted |= credentials_of_functions(server)
                waiting.pop()()

        with pytest.raises((LambdaMLError, Stop)) as caught:
            run_job(Job.from_toml(job, {"rounds": 100_000}), on_event=on_event)  # it is not over before it is harmed
        assert not waiting
        found.add("an error", f"{caught.value} {getattr(caught.value, 'hint', '')}")
        return caught.value

    def stop() -> None:
        raise Stop

    assert isinstance(harmed(stop), Stop)
    assert isinstance(harmed(redis.kill), LambdaMLError)
    look_around(found, server, recorder)
    command(found, capsys, "runs", "--store", server.url, "--json")
    command(found, capsys, "teardown", str(job), "--json")
    assert found.telling() == []
    [made] = recorder.made
    found.add("its environment", json.dumps(made["Environment"]))
    assert found.telling() == ["its environment: the token"], "where it belongs"
    assert {"a function's AWS_SECRET_ACCESS_KEY", "a function's AWS_SESSION_TOKEN"} <= set(found.planted)
    assert {"an event", "an error", "an invocation", "the log", "the package"} <= {what for what, _ in found.texts}


def test_a_secret_by_its_name_is_nowhere_else(
    found: Found, server: AwsServer, recorder: Recorder, job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.client("secretsmanager").create_secret(Name=SECRET, SecretString=json.dumps({NAME: VALUE}))
    command(found, capsys, "train", str(job), "--json", "--set", f"provider.secret={SECRET}", "--set", "rounds=8")
    look_around(found, server, recorder)
    [made] = recorder.made
    found.add("the function", json.dumps({**made, "Role": None}))
    assert SECRET in json.dumps(made["Environment"])
    assert found.telling() == []
