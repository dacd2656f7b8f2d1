"""``lambdaml partition``: what it prints, what it refuses, and that Ctrl-C leaves nothing."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import pty
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from child_processes import children

from lambdaml_core.cli import main
from lambdaml_core.data.samples import CENSUS_INCOME
from lambdaml_core.data.shards import Manifest
from lambdaml_core.storage import open_storage

COMMAND = [sys.executable, "-m", "lambdaml_core", "partition"]
SOURCE = str(CENSUS_INCOME)


def manifest_at(folder: Path) -> Manifest:
    return Manifest.load(open_storage(f"file://{folder}"))


def test_it_says_in_two_lines_what_it_has_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["partition", SOURCE, "--shards", "4", "--out", f"file://{tmp_path}/out"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == "16,000 rows to train on and 4,000 for validation, 510 features (csr), labels 0 and 1"
    assert second.startswith("4 shards, 5.8 MB, in ")
    assert second.endswith(f": file://{tmp_path}/out")


def test_a_place_that_forgets_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["partition", SOURCE, "--shards", "4", "--out", "memory://rows"]) == 2
    assert "memory://rows is not durable" in capsys.readouterr().err


def test_the_json_object_has_what_the_manifest_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a place without a scheme is a directory, here a relative one
    words = ["--shards", "3", "--out", "out", "--validation", "0.1", "--seed", "7", "--layout", "dense", "--json"]
    words += ["--features", "512", "--format", "libsvm", "--processes", "2"]
    assert main(["partition", SOURCE, *words]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    manifest = manifest_at(tmp_path / "out")
    assert captured.err == ""
    assert found.pop("seconds") > 0
    assert found == {
        "schema": 1,
        "out": f"file://{tmp_path}/out",
        "rows": 18_000,
        "validation_rows": 2_000,
        "features": 512,
        "classes": 2,
        "labels": [0, 1],
        "counts": list(manifest.counts),
        "layout": "dense",
        "shards": 3,
        "bytes": manifest.nbytes,
        "seed": 7,
        "checksum": manifest.checksum,
    }


TABLE = "age,job,pay\n" + "30,clerk,1.5\n41,cook,2.5\n52,king,9\n" * 4


def test_a_folder_of_tables_with_options_of_their_format(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows").mkdir()
    for name in ("a", "b"):
        Path("rows", f"{name}.csv").write_text(TABLE)
    words = ["partition", "rows", "--shards", "2", "--validation", "0.25"]
    assert main([*words, "--out", "classes", "--option", "label=job", "--option", "drop=pay"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == (
        "18 rows to train on and 6 for validation, 1 features (dense), 3 classes: clerk, cook, king"
    )
    assert main([*words, "--out", "numbers", "--option", "label=pay", "--target", "number"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == (
        "18 rows to train on and 6 for validation, 4 features (dense), labelled with numbers"
    )
    assert main([*words[:-2], "--out", "all", "--option", "label=job", "--layout", "sparse", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    manifest = manifest_at(tmp_path / "all")
    assert (found["layout"], found["labels"], found["counts"]) == (
        "csr",
        ["clerk", "cook", "king"],
        list(manifest.counts),
    )
    assert manifest.preprocessing is not None


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["none.libsvm", "--shards", "1"], "data", "none.libsvm cannot be read"),
        (["rows.words", "--shards", "1"], "data", "the format of rows.words cannot be told"),
        (["bad.libsvm", "--shards", "1"], "data", "bad.libsvm, line 2: the value of index 1 is 'x'"),
        (["bad.libsvm", "--shards", "0"], "option", "shards must be at least 1"),
        (["bad.libsvm", "--shards", "1", "--validation", "1"], "option", "validation must be"),
        (["bad.libsvm", "--shards", "1", "--format", "libsvn"], "plugin_unknown", "libsvn"),
        (["bad.libsvm", "--shards", "1", "--features", "0"], "option", "format.features must be at least 1"),
        (["bad.libsvm", "--shards", "1", "--option", "layout"], "option", "--option layout is not KEY=VALUE"),
        (["bad.libsvm", "--shards", "1", "--option", "label=y"], "option", "unknown option format.label"),
        (["bad.libsvm", "--shards", "1", "--target", "word"], "usage", "--target"),
        (["*.csv", "--shards", "1"], "data", "*.csv has no data files"),
        (["bad.libsvm"], "usage", "--shards"),
    ],
)
def test_what_is_refused_is_one_line_and_nothing_is_written(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    code: str,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.libsvm").write_text("1 1:1\n0 1:x\n")
    assert main(["partition", *words, "--out", "out"]) == 2
    captured = capsys.readouterr()
    message, *hint = captured.err.splitlines()
    assert captured.out == ""
    assert message.startswith("error: ")
    assert says in message
    assert all(line.startswith("hint: ") for line in hint)
    assert main(["partition", *words, "--out", "out", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == code
    assert [p.name for p in tmp_path.iterdir()] == ["bad.libsvm"]


def test_an_output_that_exists_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["partition", SOURCE, "--out", f"file://{tmp_path}/out", "--shards"]
    assert main([*words, "2"]) == 0
    before = manifest_at(tmp_path / "out")
    capsys.readouterr()
    assert main([*words, "3"]) == 2
    assert f"file://{tmp_path}/out holds a partition already" in capsys.readouterr().err
    assert manifest_at(tmp_path / "out") == before


def test_a_terminal_shows_a_bar_and_a_pipe_does_not(tmp_path: Path) -> None:
    seen, terminal = pty.openpty()
    for name, stderr in (("bar", terminal), ("plain", subprocess.PIPE)):
        words = [*COMMAND, SOURCE, "--shards", "1", "--out", str(tmp_path / name)]
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=stderr, text=True, check=True)
        assert done.stdout.count("\n") == 2
        assert not done.stderr
    os.close(terminal)
    assert b"reading" in os.read(seen, 100_000)
    os.close(seen)


def has_open(path: Path, pid: int) -> bool:
    """Whether a process reads a file."""
    with contextlib.suppress(FileNotFoundError):  # what it closes meanwhile
        return any(fd.readlink() == path for fd in Path(f"/proc/{pid}/fd").iterdir())
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_no_file_and_no_process(tmp_path: Path, number: signal.Signals) -> None:
    """The source has 6 GB when it is unpacked, so that it is interrupted while two processes read it."""
    source = tmp_path / "rows.libsvm.gz"
    source.write_bytes(gzip.compress(b"1 1:1\n0 2:1\n" * 100_000) * 5000)
    words = [*COMMAND, str(source), "--shards", "1", "--out", str(tmp_path / "out"), "--processes", "2"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        found: list[int] = []
        while process.poll() is None and not (found and all(map(partial(has_open, source), (process.pid, *found)))):
            found = children(process.pid)
        process.send_signal(number)
        _, errors = process.communicate()
    assert process.returncode == 130
    assert errors.strip() == "error: interrupted"
    assert len(found) == 1
    assert not Path(f"/proc/{found[0]}").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["rows.libsvm.gz"]
