"""Which files a source stands for, and which format they have."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lambdaml_core.data.sources import data_files, format_of
from lambdaml_core.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "rows"
    (folder / "deeper").mkdir(parents=True)
    for name in ("b.csv", "a.csv", "part-10.csv", "part-2.csv", ".hidden.csv", "_SUCCESS", "_more.csv"):
        (folder / name).touch()
    (folder / "deeper" / "c.csv").touch()
    return folder


def names(source: Path | str) -> list[str]:
    return [path.name for path in data_files(source)]


def test_a_folder_stands_for_its_files_by_name(folder: Path) -> None:
    assert names(folder) == ["a.csv", "b.csv", "part-10.csv", "part-2.csv"]
    assert names(f"{folder}/") == names(folder)


def test_wildcards_choose(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert names(folder / "part-*.csv") == ["part-10.csv", "part-2.csv"]
    assert names(folder / "*") == names(folder)
    assert names(folder / "[ab].csv") == ["a.csv", "b.csv"]
    assert names(folder / "**" / "c.csv") == ["c.csv"]
    monkeypatch.chdir(folder)
    assert [str(path) for path in data_files("?.csv")] == ["a.csv", "b.csv"]


def test_a_file_is_itself_whatever_its_name(folder: Path) -> None:
    for name in ("a.csv", ".hidden.csv", "_more.csv", "none.csv"):
        assert data_files(folder / name) == [folder / name]
    (folder / "odd[1].csv").touch()
    assert data_files(folder / "odd[1].csv") == [folder / "odd[1].csv"]


def test_nothing_and_partitions_are_refused(folder: Path) -> None:
    for source in (folder / "*.parquet", folder / "_*"):
        with pytest.raises(DataError, match="has no data files"):
            data_files(source)
    (folder / "manifest.json").touch()
    with pytest.raises(DataError, match="rows is a partition already"):
        data_files(folder)


def test_what_cannot_be_read_twice_or_at_all_is_refused(folder: Path) -> None:
    os.mkfifo(folder / "pipe.csv")
    assert names(folder) == ["a.csv", "b.csv", "part-10.csv", "part-2.csv"]
    for source in (folder / "pipe.csv", Path("/dev/null")):
        with pytest.raises(DataError, match="is no regular file") as refusal:
            data_files(source)
        assert refusal.value.hint == "write it to a file first: it is read more than once"
    for name in ("n" * 300, "n" * 300 + "*", "n" * 300 + "/*.csv"):
        with pytest.raises(DataError, match=r"cannot be read: File name too long|has no data files"):
            data_files(folder / name)


def test_the_format_is_told_by_the_names_of_all(folder: Path) -> None:
    reference = format_of(folder, {"label": "y"})
    assert (reference.name, reference.values["label"]) == ("csv", "y")
    (folder / "c.csv.gz").touch()
    assert format_of(folder).name == "csv"
    (folder / "d.libsvm").touch()
    with pytest.raises(DataError, match=r"files of two formats: a.csv \(csv\) and d.libsvm \(libsvm\)"):
        format_of(folder)
    (folder / "README").touch()
    with pytest.raises(DataError, match=r"the format of .*README cannot be told"):
        format_of(folder)
    assert format_of(folder / "*.csv").name == "csv"
