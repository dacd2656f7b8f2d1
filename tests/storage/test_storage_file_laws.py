"""file:// obeys the laws, on a disk and on tmpfs, with and without recycling."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lambdaml_core.errors import KeyNotFound, StorageError
from lambdaml_core.storage import open_storage
from lambdaml_core.testing.storage import StorageLaws, UnreachableStorageLaws


class TestFileStorageAsChannel(StorageLaws):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"file://{tmp_path}/channel?sync=false"


class TestFileStorageOnTmpfs(StorageLaws):
    @pytest.fixture
    def url(self) -> Iterator[str]:
        folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
        yield folder.as_uri()
        shutil.rmtree(folder)


class TestFileStorageWithoutRecycling(StorageLaws):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"file://{tmp_path}?recycle=false&sync=false"


class TestFolderOfNoReturn(UnreachableStorageLaws):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        return f"file://{tmp_path}/loop"


@pytest.mark.parametrize("if_absent", [False, True])
def test_a_file_in_the_way_is_named(tmp_path: Path, if_absent: bool) -> None:
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StorageError, match=str(tmp_path / "file")) as refused:
            open_storage(folder.as_uri()).put("a/k", [b"x"], if_absent=if_absent)
        assert not isinstance(refused.value, KeyNotFound)
    assert (tmp_path / "file").read_text() == "in the way"
