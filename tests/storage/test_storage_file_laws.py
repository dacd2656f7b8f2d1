"""file:// obeys the laws, on a disk and on tmpfs, with and without recycling."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lambdaml_core.builtin import FileOptions
from lambdaml_core.errors import KeyNotFound, StorageError
from lambdaml_core.storage import StorageURL
from lambdaml_core.storage.file import FileStorage
from lambdaml_core.testing.storage import StorageLaws, UnreachableStorageLaws


def files(folder: Path, **options: bool | int) -> FileStorage:
    return FileStorage(StorageURL("file", path=str(folder)), FileOptions(**options))  # type: ignore[arg-type]


class TestFileStorage(StorageLaws):
    @pytest.fixture
    def connect(self, tmp_path: Path) -> Callable[[], FileStorage]:
        return lambda: files(tmp_path / "store")


class TestFileStorageOnTmpfs(StorageLaws):
    @pytest.fixture
    def connect(self) -> Iterator[Callable[[], FileStorage]]:
        folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
        yield lambda: files(folder)
        shutil.rmtree(folder)


class TestFileStorageWithoutRecycling(StorageLaws):
    @pytest.fixture
    def connect(self, tmp_path: Path) -> Callable[[], FileStorage]:
        return lambda: files(tmp_path, recycle=False)


class TestFolderOfNoReturn(UnreachableStorageLaws):
    @pytest.fixture
    def unreachable(self, tmp_path: Path) -> Callable[[], FileStorage]:
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        return lambda: files(tmp_path / "loop")


@pytest.mark.parametrize("if_absent", [False, True])
def test_a_file_in_the_way_is_named(tmp_path: Path, if_absent: bool) -> None:
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StorageError, match=str(tmp_path / "file")) as refused:
            files(folder).put("a/k", [b"x"], if_absent=if_absent)
        assert not isinstance(refused.value, KeyNotFound)
    assert (tmp_path / "file").read_text() == "in the way"
