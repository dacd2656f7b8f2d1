"""``lambdaml plan`` of the example job: all that a person needs to decide, without asking anybody for anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lambdaml_aws_lambda.prices import usd_per_worker_s

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "aws_lambda.toml"
CLOSED = """
import socket, sys
def refuse(*args, **kwargs):
    raise RuntimeError("somebody was asked")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
from lambdaml_core.cli import main
sys.exit(main(sys.argv[1:]))
"""
"""The command line, in a process that cannot connect to anything."""


def plan(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Without credentials, configuration, or a network."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    command = [sys.executable, "-c", CLOSED, "plan", str(EXAMPLE), *words]
    return subprocess.run(command, env={**env, "HOME": str(home)}, capture_output=True, text=True)


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    done = plan(tmp_path_factory.mktemp("home"), "--json")
    assert done.returncode == 0, done.stdout
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_launches_seconds_and_dollars(planned: dict[str, Any]) -> None:
    second = usd_per_worker_s("us-east-1", memory_mb=1769, ephemeral_mb=512, architecture="x86_64")
    whole = planned["whole"]
    assert planned["usd_per_worker_s"] == pytest.approx(second)
    assert (planned["rounds"], whole["launches"], whole["successions"]) == (200, 4, 0)
    assert whole["seconds"] > planned["start_s"] > 0
    assert whole["worker_usd"] == pytest.approx(4 * whole["seconds"] * second + 4 * 0.2e-6)
    chosen = next(o for o in planned["options"] if o["aggregators"] == planned["aggregators"])
    assert whole["storage_usd"] == pytest.approx(chosen["run"]["usd"])
    assert whole["usd"] == pytest.approx(whole["worker_usd"] + whole["storage_usd"])
    assert set(planned["elsewhere"]) == {"EC2 t2.medium", "EC2 c5.large"}
    assert all(other["seconds"] > 132 for other in planned["elsewhere"].values())


def test_what_would_be_made_and_who_needs_what(planned: dict[str, Any]) -> None:
    kinds = [line.split()[0] for line in planned["resources"]]
    assert {"role", "log", "function"} <= set(kinds)
    assert set(planned["permissions"]) == {"user", "worker"}
    for policy in planned["permissions"].values():
        for statement in policy["Statement"]:
            assert not any("*" in action for action in statement["Action"])


def test_hand_overs_are_counted(tmp_path: Path) -> None:
    done = plan(tmp_path, "--json", "--set", "provider.max_duration_s=10", "--set", "rounds=1000")
    whole = json.loads(done.stdout)["whole"]
    assert whole["successions"] > 10
    assert whole["launches"] == 4 * (1 + whole["successions"])


def test_for_people(tmp_path: Path) -> None:
    said = plan(tmp_path).stdout
    for words in ("in all", "dollars", "elsewhere", "would be made by aws-lambda", "permissions of the worker"):
        assert words in said
