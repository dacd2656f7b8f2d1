"""``lambdaml plan``: predictions beside those of the room that makes them, and beside the run itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_help import everything_in, lambdaml

from lambdaml_core.cli import main
from lambdaml_core.comm.cost import choose, predict
from lambdaml_core.data.arrays import write_arrays
from lambdaml_core.storage import open_storage

S3 = "fault_latency_s=0.08&fault_bytes_per_s=65e6&fault_parallel=1"
SIZE = 6


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A job over a slow channel, whose rows are a partition."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 30))
    write_arrays(x, (x[:, 0] > 0).astype(int), open_storage(f"file://{tmp_path}/shards"), shards=2, validation=0.1)
    path = tmp_path / "job.toml"
    path.write_text(f"""
store = "store"
workers = {SIZE}
batch_size = 10
epochs = 3
aggregators = "auto"
channel = "fault+file://{tmp_path}/channel?{S3}"
data = "shards"
""")
    return path


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["plan", *words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_every_candidate_with_its_requests_seconds_and_bytes(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = everything_in(job.parent / "shards")
    plan = planned(capsys, str(job))
    caps = open_storage(plan["channel"]).caps
    assert (plan["workers"], plan["rounds"], plan["asked"]) == (SIZE, 27, "auto")
    assert plan["message_bytes"] == 31 * 4
    assert (plan["latency_s"], plan["bytes_per_s"], plan["parallel"]) == (caps.latency_s, caps.bytes_per_s, 1)
    assert not plan["measured"]
    assert [option["aggregators"] for option in plan["options"]] == list(range(1, SIZE + 1))
    for option in plan["options"]:
        k, once, whole = option["aggregators"], option["round"], option["run"]
        predicted = predict(caps, size=SIZE, aggregators=k, nbytes=plan["message_bytes"] + 128)
        for name in ("seconds", "put", "get", "delete", "sent", "received", "usd"):
            assert once[name] == getattr(predicted, name)
            assert whole[name] == pytest.approx(27 * getattr(predicted, name))
    choice = choose(caps, size=SIZE, nbytes=plan["message_bytes"] + 128)
    assert (plan["aggregators"], plan["best"], plan["reason"]) == (
        choice.aggregators,
        choice.aggregators,
        choice.reason,
    )
    assert {path.name for path in job.parent.iterdir()} == {"job.toml", "shards"}, "no store and no channel is touched"
    assert {k: v for k, v in everything_in(job.parent / "shards").items() if v} == {
        k: v for k, v in before.items() if v
    }


def test_a_job_that_says_its_number(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned(capsys, str(job), "--set", "aggregators=all", "--set", "workers=40", "--message-bytes", "1KB")
    assert (plan["asked"], plan["aggregators"], plan["message_bytes"]) == (40, 40, 1000)
    assert plan["best"] < 40
    assert 17 < len(plan["options"]) + 8 < 40, "of many workers not every number"
    odd = planned(capsys, str(job), "--set", "aggregators=37", "--set", "workers=40", "--message-bytes", "1KB")
    assert 37 in [option["aggregators"] for option in odd["options"]]


@pytest.mark.parametrize(
    ("words", "nbytes", "rounds"),
    [
        (["--features", "28"], 29 * 4, None),
        (["--features", "28", "--classes", "5"], 29 * 4 * 5, None),
        (["--features", "28", "--set", "model=least_squares"], 29 * 4, None),
        (["--set", "data.features=28", "--set", "rounds=7"], 29 * 4, None),
        (["--message-bytes", "89MB"], 89_000_000, None),
        (["--message-bytes", "89MB", "--rows", "101"], 89_000_000, 33),
        (["--features", "28", "--rows", "20"], 29 * 4, 6),
    ],
)
def test_data_that_nobody_has_looked_at(
    words: list[str], nbytes: int, rounds: int | None, job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (job.parent / "large.libsvm").write_bytes(b"1 1:1\n" * 1_000_000)
    plan = planned(capsys, str(job), "--set", f"data.source={job.parent}/large.libsvm", *words)
    assert (plan["message_bytes"], plan["rounds"]) == (nbytes, rounds)
    assert all((option["run"] is None) == (rounds is None) for option in plan["options"])
    assert (plan["whole"] is None) == (rounds is None)


def test_rounds_that_the_job_gives_are_known(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job.write_text(job.read_text().replace("epochs = 3", "rounds = 7"))
    plan = planned(capsys, str(job), "--message-bytes", "224")
    assert (plan["rounds"], plan["options"][0]["run"]["put"]) == (7, 7 * SIZE)


def test_small_files_are_looked_at(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (job.parent / "small.libsvm").write_text("1 1:1 4:2\n0 2:1\n" * 50)
    plan = planned(capsys, str(job), "--set", f"data={job.parent}/small.libsvm")
    assert (plan["message_bytes"], plan["rounds"]) == (5 * 4, 3 * 8)


def test_measured(job: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    channel = job.parent / "measured"
    plan = planned(capsys, str(job), "--measure", "--set", f"channel={channel}")
    assert plan["measured"]
    assert plan["latency_s"] > 0
    assert plan["bytes_per_s"] > 0
    assert list(open_storage(f"file://{channel}").list("")) == []
    without = job.read_text().splitlines()
    job.write_text("\n".join(line for line in without if not line.startswith("channel")))
    # a channel that is made for it goes where nobody else's can be: other tests may plan at the same time
    scratch = job.parent / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("lambdaml_core.run.driver.scratch.TMPFS", scratch / "none")
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    assert planned(capsys, str(job), "--measure")["measured"]
    assert list(scratch.glob("*/*")) == []
    assert not planned(capsys, str(job))["measured"]


def test_for_people(job: Path) -> None:
    done = lambdaml(job.parent, "plan", "job.toml")
    assert done.returncode == 0, done.stderr
    assert "80 ms a request" in done.stdout
    assert "at most 27" in done.stdout
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("->")] == ["1"]


def test_what_cannot_be_told(job: Path) -> None:
    (job.parent / "large.libsvm").write_bytes(b"1 1:1\n" * 1_000_000)
    done = lambdaml(job.parent, "plan", "job.toml", "--set", f"data.source={job.parent}/large.libsvm", "--json")
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert "cannot be told" in error["message"]
    assert "--features" in error["hint"]
    assert "--message-bytes" in error["hint"]
