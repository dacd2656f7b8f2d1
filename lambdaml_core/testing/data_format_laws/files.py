"""Laws of any file: where it is cut, what happens to one that is damaged, and that it is closed."""

from __future__ import annotations

import contextlib
import copy
import gc
import gzip
import io
import pickle
import warnings
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lambdaml_core.data.formats import Block, DataFormat, MalformedRow, Schema
from lambdaml_core.data.partition import partition
from lambdaml_core.data.shards import Manifest, ShardedData
from lambdaml_core.errors import DataError
from lambdaml_core.options import option
from lambdaml_core.specs import Reference
from lambdaml_core.storage import open_storage
from lambdaml_core.testing.base import Laws

_FEWEST, _MOST = 300, 76_800
_GIVEN: dict[str, DataFormat] = {}


class Parsed(NamedTuple):
    """Rows of a block, in a form that can be compared: ``lines`` in the file, and what each row says."""

    lines: list[int]
    rows: list[Any]


class Files(ABC):
    """A format and how its files are written, whether of rows or of tables.

    Attributes:
        suffix: of names of files.
        first_line: number of the first row's line.
        bad_lines: each of which is malformed.
    """

    reader: DataFormat
    suffix: str
    first_line: int
    bad_lines: tuple[bytes, ...]

    @abstractmethod
    def write_some(self, path: Path, rows: int) -> list[Any]:
        """Write so many rows, the same each time; what each of them says, as :meth:`parse` has it."""

    @abstractmethod
    def schema(self, path: Path) -> Schema | None:
        """The columns of a file, of tables."""

    @abstractmethod
    def parse(self, reader: DataFormat, block: Block, schema: Schema | None) -> Parsed:
        """The rows of a block, checked against the contract."""

    @abstractmethod
    def expected(self, manifest: Manifest, rows: int) -> Any:
        """Features and class of each row of ``write_some``, (rows, features + 1), as a partition must have them."""

    def read(self, path: Path) -> Parsed:
        """All rows of a file."""
        schema = self.schema(path)
        parts = [self.parse(self.reader, block, schema) for block in self.reader.blocks(path)]
        return Parsed([line for part in parts for line in part.lines], [row for part in parts for row in part.rows])


class FileLaws(Laws):
    """Laws that hold for rows and tables alike; the suites give the fixture ``files``."""

    @pytest.fixture
    def files(self) -> Files:
        """Overridden by the suites."""
        raise NotImplementedError("take RowFormatLaws or TableFormatLaws")

    @pytest.fixture
    def path(self, files: Files, tmp_path: Path) -> Path:
        """Where a file may be written."""
        return tmp_path / f"rows{files.suffix}"

    def test_rows_are_known_by_their_lines(self, files: Files, path: Path) -> None:
        """Rows come in the order of the file, each with the number of its line, counted from 0.

        The shuffle goes by these numbers, and errors name them. A format without lines counts rows. Fix ``first`` of
        blocks, and ``lines``, which count from 0 in each block; say by ``first_line`` of the case where rows start.
        """
        written = files.write_some(path, 7)
        found = files.read(path)
        same_rows(found.rows, written)
        assert found.lines == list(range(files.first_line, files.first_line + 7))

    def test_a_large_file_has_several_blocks(self, files: Files, path: Path) -> None:
        """A block is some MiB, however large the file is, and blocks together have each row once, whole and in order.

        A file may be larger than the memory. Fix ``blocks``: read a piece, and keep what comes after its last row for
        the next one.
        """
        written, blocks = _cut(files, path)
        assert len(blocks) > 1, f"{path.stat().st_size} bytes are one block"
        schema = files.schema(path)
        parts = [files.parse(files.reader, block, schema) for block in blocks]
        same_rows([row for part in parts for row in part.rows], written)
        lines = [line for part in parts for line in part.lines]
        same_rows(lines, list(range(files.first_line, files.first_line + len(written))))

    def test_blocks_are_independent_and_always_the_same(self, files: Files, path: Path) -> None:
        """Blocks are cut in the same places whenever a file is read, and any can be parsed first, again, or alone.

        Several processes parse one file, each its share of the blocks. Fix what ``parse`` keeps from one block for the
        next, or changes in the block: what it needs must be in ``data``.
        """
        _, blocks = _cut(files, path)
        schema = files.schema(path)
        known = [files.parse(files.reader, block, schema) for block in blocks]
        other = copy.deepcopy(files.reader)
        again = list(other.blocks(path))
        assert [block.first for block in again] == [block.first for block in blocks], "cut in other places"
        for number in (*reversed(range(len(blocks))), 0):
            elsewhere = files.parse(other, again[number], schema) == known[number]
            assert elsewhere, f"block {number} says something else when another process parses it"
            repeated = files.parse(files.reader, blocks[number], schema) == known[number]
            assert repeated, f"block {number} says something else when it is parsed again"

    def test_progress_grows_to_the_size_of_the_file(self, files: Files, path: Path) -> None:
        """``read`` never falls from block to block, and ends with the size of the file in bytes.

        It is shown to people who wait. Fix it: bytes of the file as it lies on the disk, compressed or not.
        """
        _, blocks = _cut(files, path)
        read = [block.read for block in blocks]
        assert read == sorted(read), "read falls"
        assert read[0] > 0, "nothing is read of the first block"
        assert read[-1] == path.stat().st_size, f"{read[-1]} bytes are read of {path.stat().st_size}"

    def test_a_malformed_line_is_refused_by_its_number(self, files: Files, path: Path) -> None:
        """A line that cannot be read raises ``MalformedRow`` with its number in the block; of several, the first.

        Users look for it there; nothing is skipped or guessed. Fix ``parse``. Give the case ``bad_lines``, each of
        which is malformed where a row should be, if files of the format have lines.
        """
        if not files.bad_lines:
            pytest.skip("bad_lines not given")
        files.write_some(path, 8)
        good, schema = path.read_bytes().split(b"\n"), files.schema(path)
        for bad in files.bad_lines:
            for row in (0, 4):
                lines = list(good)
                lines[files.first_line + row] = lines[files.first_line + 6] = bad
                path.write_bytes(b"\n".join(lines))
                refused = refused_line(files, path, schema)
                assert refused == files.first_line + row, f"{bad!r} is in row {row}, and line {refused} is refused"

    def test_what_is_not_there_is_a_data_error(self, files: Files, path: Path) -> None:
        """A missing file and a folder raise ``DataError`` with their path.

        Fix ``blocks`` and ``schema``: translate ``OSError``, and chain it.
        """
        path.with_name(f"folder{files.suffix}").mkdir()
        for name in ("missing", "folder"):
            missing = path.with_name(f"{name}{files.suffix}")
            with pytest.raises(DataError) as refused:
                files.read(missing)
            assert str(missing) in refused.value.message, f"the message does not name {missing}"
            assert refused.value.__cause__ is not None, "the error of the system is not chained"

    def test_an_empty_file_has_no_rows_or_is_refused(self, files: Files, path: Path) -> None:
        """A file of no bytes, and one that was written without rows, have no rows, or raise ``DataError``.

        Fix headers that are taken for granted.
        """
        path.write_bytes(b"")
        with contextlib.suppress(DataError):
            assert files.read(path).rows == []
        files.write_some(path, 0)
        with contextlib.suppress(DataError):
            assert files.read(path).rows == []

    def test_a_damaged_file_is_read_or_refused(self, files: Files, path: Path) -> None:
        """Whatever byte is changed and wherever it is cut off: a file is read, or raises ``DataError``, nothing else.

        A traceback of a library says nothing to a user, and a warning is not an answer. Fix ``blocks`` and ``parse``:
        translate all that the library raises for bad data.
        """
        files.write_some(path, 6)
        good = path.read_bytes()

        @settings(deadline=None)
        @given(st.integers(0, len(good) - 1), st.one_of(st.none(), st.integers(0, 255)))
        @example(0, 0xFF)
        def is_read_or_refused(at: int, byte: int | None) -> None:
            path.write_bytes(good[:at] if byte is None else good[:at] + bytes([byte]) + good[at + 1 :])
            _read_or_refuse(files, path)

        is_read_or_refused()

    def test_nothing_in_a_file_is_executed(self, files: Files, path: Path) -> None:
        """A file is data: reading one that has a pickle in it, where rows or arrays should be, runs nothing.

        Whoever can write the file could run code on all workers. Fix it: no ``pickle``, and ``allow_pickle=False``.
        """
        files.write_some(path, 6)
        mark = path.with_name("executed")
        for name, hostile in _hostile(path.read_bytes(), mark):
            path.write_bytes(hostile)
            _read_or_refuse(files, path)
            assert not mark.exists(), f"code in {name} has been executed"

    def test_files_are_closed(self, files: Files, path: Path) -> None:
        """A file is closed when its blocks have been read, when they are left after the first, and after an error.

        A folder may have more files than a process may open. Fix ``blocks`` and ``schema``: ``with path.open(...)``.
        """
        files.write_some(path, 6)
        cut = path.with_name(f"cut{files.suffix}")
        cut.write_bytes(path.read_bytes()[:-9])
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            files.read(path)
            blocks = iter(files.reader.blocks(path))
            next(blocks)
            del blocks
            _read_or_refuse(files, cut)
            gc.collect()
        assert not [w for w in said if issubclass(w.category, ResourceWarning)], "a file was closed by chance only"
        assert not _open_files(path, cut), "a file is still open"

    def test_a_partition_has_the_rows_that_were_written(
        self, files: Files, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Partitioned into shards and loaded, a file gives back its rows, each once, and its labels.

        This is the road of all training data. Fix what the other laws find first; if they all hold, and this one does
        not, tell us.
        """
        files.write_some(path, 40)
        monkeypatch.setitem(_GIVEN, str(path), files.reader)
        format = Reference("data_format", "given", f"{__name__}:_given", f"{__name__}:_Given", {"path": str(path)})
        storage = open_storage(f"file://{tmp_path}/shards")
        manifest = partition(path, storage, shards=2, seed=1, validation=0, format=format, processes=1)
        blocks = list(ShardedData(storage, manifest, rank=0, size=1, batch_size=7).blocks())
        storage.close()
        x = np.concatenate([b.x if isinstance(b.x, np.ndarray) else b.x.toarray() for b in blocks])
        found = np.column_stack([x, np.concatenate([b.y for b in blocks])])
        right = files.expected(manifest, 40)
        assert found.shape == right.shape
        found, right = (rows[np.lexsort(rows.T)] for rows in (found, right))
        np.testing.assert_allclose(found, right, rtol=1e-6)


@dataclass(frozen=True)
class _Given:
    path: str = option("", help="of the file that the format was given for")


def _given(options: _Given) -> DataFormat:
    """What stands for a format that is there already, built by a reference as any other."""
    return _GIVEN[options.path]


def _cut(files: Files, path: Path) -> tuple[list[Any], list[Block]]:
    """What was written into a file that is large enough for two blocks, or as large as we write; and its blocks."""
    rows = _FEWEST
    while True:
        written = files.write_some(path, rows)
        blocks = list(files.reader.blocks(path))
        if len(blocks) > 1 or rows >= _MOST:
            return written, blocks
        rows *= 4


def same_rows(found: list[Any], written: list[Any]) -> None:
    """Fail by the first row that differs: pytest, where it runs for a CI, compares lists of any length line by line,
    which takes minutes for thousands of rows."""
    for row, (one, other) in enumerate(zip(found, written, strict=False)):
        same = one == other
        assert same, f"row {row} of {len(written)} is {one!r:.200} where {other!r:.200} was written"
    assert len(found) == len(written), "rows are lost, or there are more of them than were written"


def refused_line(files: Files, path: Path, schema: Schema | None) -> int:
    """The number, in its file, of the line that is refused; the law fails if none is."""
    for block in files.reader.blocks(path):
        try:
            files.parse(files.reader, block, schema)
        except MalformedRow as e:
            return block.first + e.line
    pytest.fail("nothing is refused")


def _read_or_refuse(files: Files, path: Path) -> None:
    with warnings.catch_warnings(), contextlib.suppress(DataError):
        warnings.simplefilter("error")
        warnings.simplefilter("always", ResourceWarning)  # those have a law of their own
        files.read(path)


class _Trap:
    """Pickled, it makes a file when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self._mark,)


def _hostile(good: bytes, mark: Path) -> Iterator[tuple[str, bytes]]:
    """Files with a trap: pickles, arrays of objects, and an archive like the good one with such an array in it."""
    trap = pickle.dumps([_Trap(mark)])
    array = io.BytesIO()
    np.save(array, np.array([[_Trap(mark), 1.0]] * 3, object), allow_pickle=True)
    yield "a pickle", trap
    yield "a packed pickle", gzip.compress(trap)
    yield "an array of objects", array.getvalue()
    if not zipfile.is_zipfile(io.BytesIO(good)):
        return
    with zipfile.ZipFile(io.BytesIO(good)) as members:
        for hostile in members.namelist():
            archive = io.BytesIO()
            with zipfile.ZipFile(archive, "w") as changed:
                for name in members.namelist():
                    changed.writestr(name, array.getvalue() if name == hostile else members.read(name))
            yield f"the array {hostile}", archive.getvalue()


def _open_files(*paths: Path) -> list[str]:
    """Those of these files that this process has open."""
    found = []
    for number in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # it was the folder itself
            found.append(number.readlink())
    return [str(path) for path in paths if path in found]
