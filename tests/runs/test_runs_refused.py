"""Bad input: one clear line, exit code 2, and nothing half-written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from child_processes import children
from runs_help import ROOT, cancer, files_below, make_job, write_libsvm

from lambdaml_core.data.arrays import write_arrays
from lambdaml_core.errors import DataError, JobError, NotSupported, StorageDenied, StorageFull, UsageError
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.driver.plan import default_channel, make_plan
from lambdaml_core.storage import open_storage

GOOD = "1 1:1 2:0.5\n0 1:-1 2:0.25\n" * 50


def _lines(text: str) -> Callable[[Path], dict[str, Any]]:
    def write(folder: Path) -> dict[str, Any]:
        (folder / "rows.libsvm").write_text(text)
        return {"data": str(folder / "rows.libsvm")}

    return write


def _partition_with(**keys: Any) -> Callable[[Path], dict[str, Any]]:
    def write(folder: Path) -> dict[str, Any]:
        write_arrays(*cancer(), open_storage(f"file://{folder}/shards"), shards=2)
        return {"data": {"source": str(folder / "shards"), **keys}}

    return write


def _numbers(folder: Path) -> dict[str, Any]:
    write_arrays(*cancer(), open_storage(f"file://{folder}/shards"), shards=2, target="number")
    return {"data": str(folder / "shards")}


def _directory(folder: Path) -> dict[str, Any]:
    (folder / "empty").mkdir()
    return {"data": str(folder / "empty")}


@pytest.mark.parametrize("provider", ["local", "inline"])
@pytest.mark.parametrize(
    ("prepare", "keys", "words"),
    [
        (_lines(GOOD + "1 1:1 2:x\n"), {}, ["rows.libsvm", "line 101"]),
        (_lines(GOOD + "1 1:nan\n"), {}, ["rows.libsvm", "line 101"]),
        (_lines(GOOD + "1 1:inf\n"), {}, ["rows.libsvm", "line 101"]),
        (_lines("1 1:1\n" * 100), {}, ["label"]),
        (_lines(""), {}, ["rows.libsvm", "no rows"]),
        (_lines("1 1:1\n0 1:2\n0 1:3\n"), {"workers": 4}, ["2 rows", "4 workers"]),
        (lambda folder: {"data": str(folder / "missing.libsvm")}, {}, ["missing.libsvm"]),
        (_directory, {}, ["empty", "no data files"]),
        (lambda folder: {"data": str(folder / "*.csv")}, {}, ["*.csv", "no data files"]),
        (lambda folder: {"data": f"file://{folder}/shards"}, {}, ["shards", "no partition"]),
        (_partition_with(), {"model": "least_squares"}, ["classes", "least_squares learns numbers"]),
        (_numbers, {"model": "svm"}, ["numbers to learn", "svm learns classes"]),
        (_numbers, {"model": "least_squares", "class_weight": "balanced"}, ["class_weight needs classes"]),
        (_partition_with(), {"class_weight": {"2": 1}}, ["class_weight names 2"]),
        (_partition_with(features=28), {}, ["30 features", "28"]),
        (_partition_with(), {"workers": 456}, ["455", "456 workers"]),
        (lambda folder: {}, {}, ["data.source"]),
    ],
)
def test_refused_before_anything_starts(
    tmp_path: Path,
    prepare: Callable[[Path], dict[str, Any]],
    keys: dict[str, Any],
    words: list[str],
    provider: str,
) -> None:
    events: list[Any] = []
    job = make_job(tmp_path / "store", **({"workers": 2} | prepare(tmp_path) | keys), provider=provider)
    with pytest.raises(UsageError) as caught:
        run_job(job, on_event=events.append)
    assert caught.value.exit_code == 2
    assert "\n" not in caught.value.message
    for word in words:
        assert word in caught.value.message
    assert files_below(tmp_path / "store") == []
    assert "launched" not in [e["event"] for e in events]
    assert children() == []


def test_arrays_and_a_source_together(tmp_path: Path) -> None:
    job = make_job(tmp_path / "store", data=str(write_libsvm(tmp_path / "a.libsvm")))
    with pytest.raises(JobError, match="beside arrays"):
        run_job(job, arrays=cancer())


def test_arrays_with_a_number_that_is_none(tmp_path: Path) -> None:
    x, y = cancer()
    x = x.copy()
    x[7, 3] = np.nan
    with pytest.raises(DataError):
        run_job(make_job(tmp_path / "store"), arrays=(x, y))
    assert files_below(tmp_path / "store") == []


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"store": "memory://x"}, "not durable"),
        ({"channel": "memory://x"}, "no further than one process"),
    ],
)
def test_places_that_do_not_reach(tmp_path: Path, keys: dict[str, Any], words: str) -> None:
    job = make_job(**({"store": tmp_path / "store"} | keys))
    with pytest.raises(NotSupported, match=words) as caught:
        run_job(job, arrays=cancer())
    assert caught.value.hint
    assert not (tmp_path / "store").exists()


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageDenied):
        run_job(make_job(tmp_path / "file"), arrays=cancer())


STORAGES = """
from dataclasses import dataclass
from lambdaml_core.hookspecs import hookimpl
from lambdaml_core.specs import StorageSpec
from lambdaml_core.storage.base import StorageCaps
from lambdaml_core.storage.memory import MemoryStorage

LAMBDAML_API = 0

def caps(**changes):
    return StorageCaps(**({"scope": "network", "creates_once": True, "durable": True} | changes))

class Plain:
    def __init__(self, url, options): pass
    def put(self, key, data, *, if_absent=False, ttl_s=None): raise AssertionError("touched")
    get = delete = put
    def close(self): pass

class Racy(Plain):
    caps = caps(creates_once=False)
class Tiny(Plain):
    caps = caps(max_value_bytes=65536)
class Blind(Plain):
    caps = caps()
class Here(Plain):
    caps = caps(scope="process")
    def list(self, prefix): return iter(())

@hookimpl
def lambdaml_storages():
    for name in ("Racy", "Tiny", "Blind", "Here"):
        yield StorageSpec(name=name.lower(), schemes=(name.lower(),), factory=f"odd_storages:{name}")
"""

TRY = """
import json, sys
import numpy as np
from lambdaml_core.errors import LambdaMLError
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.job import Job
said = []
for keys in json.loads(sys.argv[1]):
    try:
        run_job(Job.from_mapping(keys), arrays=(np.zeros((9, 2)), np.arange(9) % 2))
    except LambdaMLError as e:
        said.append([type(e).__name__, e.message, e.hint])
print(json.dumps(said))
"""


def test_storages_that_cannot_do_what_is_asked_of_them(tmp_path: Path) -> None:
    """Real plugins of a real distribution, none of which is touched."""
    (tmp_path / "odd_storages.py").write_text(STORAGES)
    info = tmp_path / "odd_storages-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-storages\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[lambdaml]\nodd = odd_storages\n")
    store = str(tmp_path / "store")
    jobs = [
        {"store": store, "channel": "racy://x"},
        {"store": store, "channel": "tiny://x"},
        {"store": "blind://x"},
        {"store": "here://x"},
    ]
    env = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    command = [sys.executable, "-c", TRY, json.dumps(jobs)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    racy, tiny, blind, here = json.loads(done.stdout)
    assert racy[0] == tiny[0] == blind[0] == here[0] == "NotSupported"
    assert "exactly once" in racy[1]
    assert "65536" in tiny[1]
    assert "cannot list" in blind[1]
    assert "one process" in here[1]
    assert all(hint for _, _, hint in (racy, tiny, blind, here))
    assert files_below(tmp_path / "store") == []


FULL = """
import resource, sys
import numpy as np
from lambdaml_core.errors import StorageFull
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.job import Job
rng = np.random.default_rng(0)
x = rng.normal(size=(4000, 50))
job = Job.from_mapping({"store": sys.argv[1], "workers": 2})
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    run_job(job, arrays=(x, x[:, 0] > 0))
except StorageFull as e:
    print(e.message)
    sys.exit(e.exit_code)
"""


def test_a_full_disk(tmp_path: Path) -> None:
    """A limit on the size of files is a disk that is full at a known moment."""
    command = [sys.executable, "-c", FULL, str(tmp_path / "store")]
    env = {k: v for k, v in os.environ.items() if k != "COVERAGE_PROCESS_CONFIG"}  # coverage would meet the limit too
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env, check=False)
    assert (done.returncode, done.stderr) == (2, "")
    assert len(done.stdout.splitlines()) == 1
    assert files_below(tmp_path / "store") == []


def test_without_tmpfs_messages_go_to_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With one line that says so; the run is the same."""
    monkeypatch.setattr("lambdaml_core.run.driver.scratch.TMPFS", tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    record = run_job(make_job(tmp_path / "store", workers=2), arrays=cancer())
    assert record["channel"] == f"file://{tmp_path}/lambdaml-{os.getuid()}/{record['run']}"
    assert [r.getMessage() for r in caplog.records if r.name == "lambdaml"] == [
        f"messages go through {tmp_path}, which is slower than {tmp_path}: it is no tmpfs"
    ]
    assert list((tmp_path / f"lambdaml-{os.getuid()}").iterdir()) == []


def test_messages_that_fit_nowhere(tmp_path: Path) -> None:
    with pytest.raises(StorageFull, match="no room for messages"):
        default_channel(make_plan(make_job(tmp_path / "store")), "run", 1 << 60)


def test_a_directory_for_messages_that_others_can_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lambdaml_core.run.driver.scratch.TMPFS", tmp_path / "none")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / f"lambdaml-{os.getuid()}").mkdir(mode=0o755)
    with pytest.raises(JobError, match="open to others"):
        default_channel(make_plan(make_job(tmp_path / "store")), "run", 1)


def test_more_features_than_the_file_shows(tmp_path: Path) -> None:
    """data.features widens the file's columns, and is checked against what is there."""
    source = write_libsvm(tmp_path / "cancer.libsvm")
    job = make_job(tmp_path / "store", provider="inline", data={"source": str(source), "features": 40})
    assert run_job(job)["status"] == "succeeded"
    narrow: dict[str, Any] = {"source": str(source), "features": 20}
    with pytest.raises(DataError, match="line 1"):
        run_job(make_job(tmp_path / "store", provider="inline", data=narrow))
