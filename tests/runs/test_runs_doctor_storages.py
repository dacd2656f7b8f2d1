"""``lambdaml doctor`` on storages and providers that are ill, and on plugins whose checks are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from doctor_help import doctor, write_plugin
from runs_help import cancer, keys_of

from lambdaml_core.data.arrays import write_arrays
from lambdaml_core.run.doctor.measure import clock_finding
from lambdaml_core.storage import open_storage

SECRET = "hunter2/hunter2"  # noqa: S105  (as it would be in a URL: hunter2%2Fhunter2)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the odd plugin is installed."""
    return write_plugin(tmp_path_factory.mktemp("site"))


def secretless(seen: Any) -> None:
    """No secret is shown, in any form."""
    everything = json.dumps(seen.json) + seen.errors
    assert "hunter2" not in everything


def write_partition(url: str) -> None:
    storage = open_storage(url)
    write_arrays(*cancer(), storage, shards=2, seed=0, validation=0.2)
    storage.close()


def test_a_store_and_a_channel_are_used_measured_and_left_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    store, channel = f"file://{tmp_path}/kept", f"file://{tmp_path}/deep/er"
    seen = doctor(tmp_path, "--store", store, "--channel", channel)
    assert seen.code == 0
    for group in ("store", "channel"):
        values = seen.one(group, "speed")["values"]
        assert all(values[f"{what}_s"] > 0 and values[f"{what}_bytes_per_s"] > 0 for what in ("put", "get"))
        assert {f["what"] for f in seen.findings if f["group"] == group} >= {group, "space", "create once", "clock"}
    assert seen.one("store", "list")["state"] == "ok"
    assert seen.one("store", "store")["state"] == "ok"
    assert keys_of(tmp_path / "kept") == []
    assert not (tmp_path / "deep").exists()


def test_what_is_in_a_store_stays_there(tmp_path: Path) -> None:
    write_partition(f"file://{tmp_path}/store/runs/x/data")
    before = keys_of(tmp_path / "store")
    assert doctor(tmp_path, LAMBDAML_STORE=str(tmp_path / "store")).code == 0
    assert keys_of(tmp_path / "store") == before


ILL = {
    "is away": ("use", "no connection", "can be reached"),
    "denies": ("use", "you may not put", "credentials"),
    "fails": ("use", "fails with RuntimeError", "lambdaml plugins check"),
    "hangs": ("use", "no answer within 2 s", "see whether it runs"),
    "hangs for ever": ("use", "no answer within 2 s", "see whether it runs"),
    "cannot be built": ("setup", "fails with TypeError: a stupid mistake", "ask the authors"),
    "creates twice": ("create once", "creates a value again", "lambdaml plugins check"),
    "changes": ("values", "not what was put", "lambdaml plugins check"),
    "forgets": ("list", "lists 2", "lambdaml plugins check"),
    "keeps": ("delete", "still there", "lambdaml plugins check"),
}


@pytest.mark.parametrize(("store", "channel"), [*zip(list(ILL)[::2], list(ILL)[1::2], strict=True)])
def test_storages_that_are_ill(tmp_path: Path, odd: Path, store: str, channel: str) -> None:
    """Each beside another, of which all is said too."""
    urls = {
        role: f"odd://me:{{env:ODD}}@{role}?does={does.replace(' ', '%20')}&says={{env:ODD}}"
        for role, does in {"store": store, "channel": channel}.items()
    }
    seen = doctor(
        tmp_path, "--store", urls["store"], "--channel", urls["channel"], "--patience", "2", path=[odd], ODD=SECRET
    )
    for role, does in {"store": store, "channel": channel}.items():
        what, said, remedy = ILL[does]
        found = seen.of("problem")[role, what]
        assert said in found["said"]
        assert remedy in found["remedy"]
        assert seen.one(role, "credentials")["said"] == "ODD is set"
    secretless(seen)


def test_a_channel_that_cannot_be_one(tmp_path: Path, odd: Path) -> None:
    seen = doctor(tmp_path, "--channel", "odd://host?does=never%20creates%20once", path=[odd])
    assert "exactly once" in seen.of("problem")["channel", "channel"]["said"]
    assert seen.one("channel", "speed")["state"] == "ok"


def test_a_store_that_does_not_reach_the_workers(tmp_path: Path) -> None:
    problems = doctor(tmp_path, "--store", "memory://here", "--channel", "memory://there").of("problem")
    assert "not durable" in problems["store", "store"]["said"]
    assert "process" in problems["channel", "channel"]["said"]
    assert doctor(tmp_path, "--store", "memory://here", "--provider", "inline").code == 0


def test_a_storage_that_is_slower_than_it_says(tmp_path: Path, odd: Path) -> None:
    found = doctor(tmp_path, "--channel", "odd://host?does=slow", path=[odd]).one("channel", "speed")
    assert found["state"] == "warning"
    assert "same region" in found["remedy"]


def test_variables_that_are_not_set(tmp_path: Path, odd: Path) -> None:
    words = ["--store", "odd://{env:ABSENT}@host", "--channel", "odd://{env:EMPTY}@host"]
    seen = doctor(tmp_path, *words, path=[odd], EMPTY="")
    assert seen.one("store", "credentials")["said"] == "ABSENT is not set"
    assert seen.one("store", "credentials")["remedy"].startswith("export ABSENT=")
    assert seen.one("channel", "credentials")["state"] == "warning"
    assert not any(f["what"] == "speed" and f["group"] == "store" for f in seen.findings)


@pytest.mark.parametrize(
    ("store", "channel"), [("away://host", "nosuch://host"), ("file://relative/x", "odd://h?dose=1")]
)
def test_urls_that_no_plugin_can_use(tmp_path: Path, odd: Path, store: str, channel: str) -> None:
    problems = doctor(tmp_path, "--store", store, "--channel", channel, path=[odd]).of("problem")
    assert set(problems) == {("store", "setup"), ("channel", "setup")}


def test_a_literal_password_is_refused_and_not_shown(tmp_path: Path) -> None:
    url = f"redis://me:{SECRET.replace('/', '%2F')}@host"
    seen = doctor(tmp_path, "--channel", url, LAMBDAML_STORE=url)
    assert set(seen.of("problem")) == {("job", "store"), ("job", "channel")}
    assert "LAMBDAML_STORE" in seen.one("job", "store")["said"]
    assert "{env:NAME}" in seen.one("job", "channel")["remedy"]
    secretless(seen)


def test_a_file_system_that_takes_no_large_value(tmp_path: Path) -> None:
    seen = doctor(tmp_path, "--channel", str(tmp_path / "channel"), before="ulimit -f 200")
    assert "no room" in seen.of("problem")["channel", "use"]["said"]
    assert seen.of("warning")["machine", "file size"]["remedy"] == "ulimit -f unlimited"
    assert not (tmp_path / "channel").exists()


def test_a_folder_that_cannot_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    seen = doctor(tmp_path, "--store", str(tmp_path / "file"), "--channel", "file:///proc/channel")
    assert "Not a directory" in seen.of("problem")["store", "use"]["said"]
    assert seen.of("problem")["channel", "space"]["values"]["free_bytes"] == 0


def test_tmpfs_for_a_store_and_a_disk_for_a_channel(tmp_path: Path) -> None:
    store = f"file:///dev/shm/{tmp_path.name}-store"
    seen = doctor(tmp_path, "--store", store, "--channel", "file:///channel-of-nobody")
    assert "restarts" in seen.of("warning")["store", "disk"]["said"]
    assert 'channel = "file:///dev/shm/channel-of-nobody"' in seen.of("warning")["channel", "tmpfs"]["remedy"]
    assert seen.code == 0
    assert not Path("/channel-of-nobody").exists()
    assert not Path(f"/dev/shm/{tmp_path.name}-store").exists()  # noqa: S108  (its own name)


def test_a_plugin_contributes_checks_and_fixes(tmp_path: Path, odd: Path) -> None:
    words = ["--store", "fault+odd://host?does=checks&says={env:ODD}&fault_seed=1", "--provider", "odd"]  # in a layer
    seen = doctor(tmp_path, *words, path=[odd], ODD=SECRET)
    clock = seen.one("store", "clock")
    assert (clock["state"], clock["remedy"], clock["fixable"]) == ("problem", "press a button", True)
    assert clock["values"] == {"skew_s": 7, "seen": "{env:ODD}"}
    assert seen.one("store", "bucket policy")["said"] == "read with {env:ODD}"
    assert seen.one("store", "region")["said"] == "far away"
    assert seen.one("store", "silent")["remedy"]
    assert seen.one("provider", "role")["remedy"] == "attach the policy"
    assert "SystemExit: a plugin that exits" in seen.one("provider", "checks")["said"]
    secretless(seen)
    assert not (tmp_path / "fixed").exists()

    mended = doctor(tmp_path, *words, "--fix", path=[odd], ODD=SECRET)
    assert [f["what"] for f in mended.json["mended"]] == ["clock"]
    assert mended.one("store", "clock")["state"] == "ok"
    assert "the button is broken" in mended.of("problem")["store", "region"]["said"]
    secretless(mended)


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("raises in checks", "checks failed for {env:ODD}"),
        ("hangs in checks", "no answer"),
        ("yields nonsense", "yields str, which is no Finding"),
    ],
)
def test_checks_that_are_ill_themselves(tmp_path: Path, odd: Path, does: str, said: str) -> None:
    url = f"odd://host?does={does.replace(' ', '%20')}&says={{env:ODD}}"
    seen = doctor(tmp_path, "--store", url, "--patience", "1", path=[odd], ODD=SECRET)
    (found,) = seen.of("problem").values()
    assert said in found["said"]
    assert found["what"] == "checks"
    assert seen.one("store", "speed")["state"] == "ok"
    secretless(seen)


def test_a_provider_that_hangs_or_is_not_there(tmp_path: Path, odd: Path) -> None:
    (tmp_path / "job.toml").write_text('[provider]\nname = "odd"\ndoes = "hangs"\n')
    seen = doctor(tmp_path, "job.toml", "--patience", "4", path=[odd])
    assert "no answer" in seen.of("problem")["provider", "plan"]["said"]
    assert seen.one("store", "speed")["state"] == "ok"
    absent = doctor(tmp_path, "--provider", "gcp-functions").one("job", "provider")
    assert "pip install ./plugins/lambdaml-gcp-functions" in absent["remedy"]


def test_a_secret_by_its_name_is_hidden_wherever_it_shows(tmp_path: Path, odd: Path) -> None:
    """As an SDK quotes what it has read from the environment by itself."""
    seen = doctor(
        tmp_path, "--store", "odd://host?does=fails&says=topsecretvalue", path=[odd], ODD_API_KEY="topsecretvalue"
    )
    assert "{env:ODD_API_KEY}" in seen.one("store", "use")["said"]


# --- the job --------------------------------------------------------------------------------------------------------


def test_a_job_and_the_partition_that_it_trains_on(tmp_path: Path) -> None:
    data = f"file://{tmp_path}/data-of-it"
    write_partition(data)
    (tmp_path / "job.toml").write_text(f'workers = 1000\nstore = "runs"\n[data]\nsource = "{data}"\n')
    found = doctor(tmp_path, "job.toml").of("problem")["data", "partition"]
    assert "fewer than 1000 workers" in found["said"]
    (tmp_path / "job.toml").write_text(f'workers = 2\nstore = "runs"\n[data]\nsource = "{data}"\n')
    seen = doctor(tmp_path, "job.toml")
    assert seen.code == 0
    assert seen.one("data", "partition")["said"] == "455 rows of 30 features"
    assert seen.one("store", "speed")["state"] == seen.one("default store", "speed")["state"] == "ok"
    shutil.rmtree(tmp_path / "data-of-it")
    assert doctor(tmp_path, "job.toml").of("problem").keys() == {("data", "partition")}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("workers = 0", "workers"),
        ("workers = ", "is not TOML"),
        ('[data]\nsource = "none.csv"', "none.csv does not exist"),
        ('[model]\nname = "mobilenet"', "not installed"),
    ],
)
def test_a_job_that_cannot_be_run(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "job.toml").write_text(text)
    seen = doctor(tmp_path, "job.toml")
    (found,) = seen.of("problem").values()
    assert said in found["said"]
    assert any(f["what"] == "speed" for f in seen.findings)  # the default store


@pytest.mark.parametrize(("written", "state"), [(99.0, "ok"), (109.0, "warning"), (90.0, "warning")])
def test_clocks_that_differ(written: float, state: str) -> None:
    found = clock_finding(100.0, written, 100.1)
    assert found.state == state
    assert found.state == "ok" or "timedatectl" in str(found.remedy)
