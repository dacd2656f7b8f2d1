"""``lambdaml doctor`` on a machine that is too small, or set up badly."""

from __future__ import annotations

import os
import re
import resource
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

import pytest
from doctor_help import doctor, write_module

from lambdaml_core.findings import Finding
from lambdaml_core.run.doctor import machine
from lambdaml_core.run.doctor.look import Look, findings, mend
from lambdaml_core.run.doctor.space import space_looks
from lambdaml_core.run.doctor.subject import Subject
from lambdaml_core.run.job import Job


def looked(looks: Iterable[Look], what: str) -> list[Finding]:
    """What one of these looks finds."""
    (look,) = (look for look in looks if look.what == what)
    return findings(look, 20)


def subject(tmp_path: Path, **keys: object) -> Subject:
    return Subject(job=Job.from_mapping({"store": str(tmp_path), **keys}), given=True, scope="host")


def test_limits_that_are_too_low_for_the_workers(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text("workers = 500\n")
    seen = doctor(tmp_path, "job.toml", before="ulimit -n 256", OMP_NUM_THREADS="4096")
    files = seen.of("problem")["machine", "open files"]
    assert "256" in files["said"]
    assert files["remedy"].startswith("ulimit -n 2")
    threads = seen.of("warning")["machine", "threads"]
    assert "OMP_NUM_THREADS=4096" in threads["said"]
    assert "unset OMP_NUM_THREADS" in threads["remedy"]
    assert seen.of("warning")["machine", "cores"]["values"]["workers"] == 500
    assert doctor(tmp_path, before="ulimit -n 256").of("problem") == {}


def test_a_user_that_may_start_few_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)  # root has no such limit
    real = resource.getrlimit
    few = (machine._own_threads() + 10, -1)
    monkeypatch.setattr(resource, "getrlimit", lambda what: few if what == resource.RLIMIT_NPROC else real(what))
    found = looked(machine.machine_looks(subject(tmp_path, workers=500)), "limits")
    (processes,) = (f for f in found if f.what == "processes" and "this user" in f.said)
    assert processes.state == "problem"
    assert "ulimit -u" in str(processes.remedy)


def cgroup(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_", ".", 1)
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
    return folder


def test_the_quota_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.cores_of_cgroup(cgroup(tmp_path / "a", cpu_max="150000 100000\n")) == 1.5
    assert machine.cores_of_cgroup(cgroup(tmp_path / "b", cpu_max="max 100000\n")) is None
    assert machine.cores_of_cgroup(tmp_path / "none") is None
    first = cgroup(tmp_path / "c", cpu__cpu_cfs_quota_us="25000\n", cpu__cpu_cfs_period_us="100000\n")
    assert machine.cores_of_cgroup(first) == 0.25
    assert machine.usable_cores(first) == 0.25
    monkeypatch.setattr(machine, "_CGROUP", cgroup(tmp_path / "d", pids_max="100\n", pids_current="90\n"))
    (found,) = looked(machine.machine_looks(subject(tmp_path, workers=50)), "limits")
    assert "this container may start 10 more" in found.said
    assert "--pids-limit" in str(found.remedy)


def test_a_blas_that_sees_more_cores_than_it_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(machine, "usable_cores", lambda: 0.25)
    (found,) = looked(machine.machine_looks(subject(tmp_path)), "threads")
    assert found.state == "warning"
    assert found.remedy == "export OMP_NUM_THREADS=1"


def test_a_clock_that_is_ahead(tmp_path: Path) -> None:
    """Of the machine, as a file server sees it."""
    site = write_module(
        tmp_path / "site", "sitecustomize", "import time; real = time.time; time.time = lambda: real() + 1e6"
    )
    found = doctor(tmp_path, path=[site]).of("warning")["store", "clock"]
    assert "behind ours" in found["said"]
    assert 0.99e6 < -found["values"]["skew_s"] < 1.01e6


def test_no_folder_for_temporary_files(tmp_path: Path) -> None:
    site = write_module(
        tmp_path / "site",
        "sitecustomize",
        "import tempfile; tempfile._candidate_tempdir_list = lambda: ['/proc']",
    )
    found = doctor(tmp_path, path=[site]).of("problem")["machine", "temporary files"]
    assert "TMPDIR" in found["remedy"]


def test_a_folder_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (found,) = looked(space_looks(subject(tmp_path)), "temporary files")
    assert (found.state, found.said) == ("problem", f"{tmp_path} cannot be written to")
    assert "owner and mode" in str(found.remedy)


def test_messages_that_fit_nowhere(tmp_path: Path) -> None:
    whole = subject(tmp_path, checkpoint={"retain_bytes": 1 << 60})
    (found,) = looked(space_looks(whole), "messages")
    assert found.state == "problem"
    assert "no room for messages" in found.said
    assert "--shm-size" in str(found.remedy)


def test_messages_that_go_through_a_disk_and_a_folder_that_others_can_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lambdaml_core.run.driver.scratch.TMPFS", tmp_path / "none")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = tmp_path / f"lambdaml-{os.getuid()}"
    folder.mkdir(mode=0o755)
    open_to_others, slower = looked(space_looks(subject(tmp_path)), "messages")
    assert (open_to_others.state, slower.state) == ("problem", "warning")
    (look,) = (look for look in space_looks(subject(tmp_path)) if look.what == "messages")
    assert mend(look, open_to_others, 20) is None
    assert mend(look, open_to_others, 20) is None  # once more does no harm
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [f.said for f in looked(space_looks(subject(tmp_path)), "messages")] == [slower.said]
    folder.rmdir()
    folder.symlink_to(tmp_path)
    strange, _ = looked(space_looks(subject(tmp_path)), "messages")
    assert "somebody else" in strange.said


def test_what_runs_have_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lambdaml_core.run.driver.scratch.TMPFS", tmp_path)
    base = tmp_path / f"lambdaml-{os.getuid()}"
    for run in ("20250101-000000-old", "20250101-000000-new"):
        (base / run).mkdir(parents=True)
        (base / run / "message").write_bytes(bytes(100_000))
    assert looked(space_looks(subject(tmp_path)), "left over") == []
    long_ago = time.time() - 7200
    for path in (base / "20250101-000000-old" / "message", base / "20250101-000000-old"):
        os.utime(path, (long_ago, long_ago))
    (found,) = looked(space_looks(subject(tmp_path)), "left over")
    assert found.state == "warning"
    assert "20250101-000000-old" in found.said
    assert "new" not in found.said
    assert "lambdaml clean" in str(found.remedy)
    assert found.values["bytes"] >= 100_000
    assert (base / "20250101-000000-old" / "message").exists()


def test_a_source_for_which_there_is_no_room(tmp_path: Path) -> None:
    """A file with a hole as large as no disk is."""
    with (tmp_path / "rows.libsvm").open("wb") as file:
        file.truncate(1 << 43)
    (tmp_path / "job.toml").write_text('[data]\nsource = "rows.libsvm"\n')
    problems = doctor(tmp_path, "job.toml").of("problem")
    assert problems["store", "space"]["values"]["needed_bytes"] == 1 << 43
    assert problems["machine", "temporary files"]["values"]["needed_bytes"] == 1 << 43


def test_a_look_that_takes_too_long_is_told_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lambdaml_core.run.doctor.look._GRACE_S", 250.0)  # however late its thread comes
    stopped = threading.Event()

    def find(stop: threading.Event) -> Iterable[Finding]:
        yield Finding(what="first", state="ok", said="found before")
        stop.wait()
        stopped.set()

    look = Look(group="storage", what="slow", find=find, remedy="hurry")
    first, late = findings(look, 0.05)
    assert stopped.is_set()
    assert (first.what, late.what, late.state, late.remedy) == ("first", "slow", "problem", "hurry")


def test_secrets_are_hidden_in_any_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quoted as in JSON or a URL, over several lines, at the end of a text that is cut, and one within another."""
    secret, longer = 'top "secret"\n  of /all', 'top "secret"\n  of /all and more'
    monkeypatch.setenv("ODD_ONE", secret)
    monkeypatch.setenv("ODD_TWO", longer)
    monkeypatch.setenv("ODD_TOKEN", "a token, unnamed")
    text = f"{longer}; {secret}; {quote(longer)}; {quote(secret, safe='')}; {'.' * 200} a token, unnamed"

    def find(_: threading.Event) -> Iterable[Finding]:
        yield Finding(what=text, state="ok", said=text, values={text: [text, {"deep": text}], "n": 1.5})
        raise ValueError(text)

    found = findings(Look(group="g", what="w", find=find, subject="odd://{env:ODD_ONE}:{env:ODD_TWO}@host"), 20)
    shown = f"{found[0].what}{found[0].said}{found[0].values}{found[1].said}"
    assert not {"secret", "more", "unnamed", "all"} & set(re.findall(r"\w+", shown))
    assert found[0].said.startswith("{env:ODD_TWO}; {env:ODD_ONE}; {env:ODD_TWO}; {env:ODD_ONE}; ")
    assert found[0].said.endswith("{env:ODD_TOKEN}")
    assert found[0].values["n"] == 1.5
