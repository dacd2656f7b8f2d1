"""``lambdaml deploy`` and ``teardown``, with a provider that keeps its deployments as files of a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_help import lambdaml, printed, write_job
from keeping_provider import install


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with a job, whose provider keeps deployments in ``kept``."""
    write_job(tmp_path)
    install(tmp_path)
    return tmp_path


def kept(home: Path) -> set[str]:
    return {path.name for path in (home / "kept").glob("*")}


KEEPING = ("--set", "provider.name=keeping", "--set", "provider.folder=kept")


def test_deploys_once_and_tears_down(home: Path) -> None:
    for _ in range(2):
        done = lambdaml(home, "deploy", "job.toml", *KEEPING)
        assert done.returncode == 0, done.stderr
        assert "deployed for keeping" in done.stdout
        assert "lambdaml teardown job.toml removes it" in done.stdout
        assert kept(home) == {"function-2"}
    assert printed(lambdaml(home, "deploy", "job.toml", *KEEPING, "--json")) == {
        "provider": "keeping",
        "deployment": {"function": "function-2"},
        "schema": 1,
    }
    assert lambdaml(home, "teardown", "job.toml", *KEEPING).stdout == "removed  function-2\n"
    assert kept(home) == set()
    again = lambdaml(home, "teardown", "job.toml", *KEEPING)
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout == "nothing was there; lambdaml teardown --all --provider keeping looks for all\n"


def test_tears_down_one_job_or_all(home: Path) -> None:
    for workers in (2, 3, 4):
        printed(lambdaml(home, "deploy", "job.toml", *KEEPING, "--set", f"workers={workers}", "--json"))
    (home / "kept" / "precious").touch()
    one = printed(lambdaml(home, "teardown", "job.toml", *KEEPING, "--set", "workers=3", "--json"))
    assert (one["removed"], one["left"]) == (["function-3"], [])
    words = ["teardown", "--all", "--provider", "keeping", "--set", "provider.folder=kept"]
    assert lambdaml(home, *words).stdout.splitlines() == [
        "removed  function-2",
        "removed  function-4",
        "left     precious: it is not ours",
    ]
    everything = printed(lambdaml(home, "teardown", "job.toml", "--all", *KEEPING, "--json"))
    assert (everything["provider"], everything["removed"]) == ("keeping", [])
    assert kept(home) == {"precious"}


def test_a_plan_says_what_would_be_made_and_who_needs_what(home: Path) -> None:
    plan = printed(lambdaml(home, "plan", "job.toml", *KEEPING, "--json"))
    assert plan["resources"] == ["function function-2"]
    assert plan["permissions"]["user"] == {"Action": ["make"]}
    assert plan["facts"] == {"package": "3 MB"}
    rows, once = plan["rounds"], next(o for o in plan["options"] if o["aggregators"] == plan["aggregators"])["round"]
    whole = plan["whole"]
    exchange = rows * once["seconds"]
    assert whole["exchange_s"] == pytest.approx(exchange)
    assert whole["launches"] == 2 * (1 + whole["successions"])
    assert whole["seconds"] == pytest.approx(exchange + (1 + whole["successions"]) * 2.5)
    worker_usd = 2 * whole["seconds"] * 0.01 + whole["launches"] * 0.001
    assert whole["worker_usd"] == pytest.approx(worker_usd)
    assert whole["usd"] == pytest.approx(worker_usd + rows * once["usd"])
    assert plan["elsewhere"]["barn"]["usd"] == 7.0
    said = lambdaml(home, "plan", "job.toml", *KEEPING).stdout
    for words in (
        "package",
        "function function-2",
        "permissions of the user",
        "barn: 60.000 s, $7",
        "2.500 s to start",
    ):
        assert words in said
    assert kept(home) == set()


def test_successions_follow_from_what_a_process_may_run(home: Path) -> None:
    slow = ("--set", f"channel=fault+file://{home}/channel?fault_latency_s=1.5")
    most = 20.0
    plan = printed(
        lambdaml(home, "plan", "job.toml", *KEEPING, *slow, "--set", f"provider.max_duration_s={most}", "--json")
    )
    whole = plan["whole"]
    processes = whole["successions"] + 1
    assert processes > 2
    assert whole["exchange_s"] + processes * 2.5 <= processes * most, "all of it fits into so many"
    assert whole["exchange_s"] + (processes - 1) * 2.5 > (processes - 1) * most, "and not into one less"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["deploy", "job.toml"], "inline keeps no deployments"),
        (["teardown", "job.toml"], "inline keeps no deployments"),
        (["teardown", "--all", "--provider", "local"], "local keeps no deployments"),
        (["teardown"], "what to tear down is missing"),
        (["teardown", "--all"], "what to tear down is missing"),
        (["teardown", "--provider", "keeping"], "what to tear down is missing"),
        (["teardown", "job.toml", "--provider", "keeping"], "cannot be given beside a job"),
        (
            ["teardown", "--all", "--provider", "keeping", "--set", "provider=local"],
            "cannot be given beside --provider",
        ),
        (["teardown", "--all", "--provider", "nobody"], "nobody"),
    ],
)
def test_what_cannot_be_done(words: list[str], said: str, home: Path) -> None:
    done = lambdaml(home, *words, "--json")
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert said in error["message"]
    assert error["hint"]
