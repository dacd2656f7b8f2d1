"""Laws of formats whose rows are features."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from lambdaml_core.data.formats import Block, DataFormat, RowFormat, Schema, SupportsUnlabelled
from lambdaml_core.data.shards import Manifest
from lambdaml_core.errors import DataError
from lambdaml_core.testing.data_format_laws.files import FileLaws, Files, Parsed, refused_line

Array = NDArray[Any]
_WIDTH = 64
_CELLS = st.one_of(
    st.just(0.0), st.integers(-9, 9).map(float), st.floats(width=32, allow_nan=False, allow_infinity=False)
)
_WORDS = st.sampled_from(["yes", "no", "é", "漢", "a b"])


@dataclass(frozen=True, kw_only=True)
class RowCase:
    """A format of rows, and how its files are written.

    Attributes:
        reader: built, with the options to try.
        write: ``write(path, x, labels)``: x is (n, features) float32 or float64, labels (n,) float64, ``str`` in an
            object array if ``words``, or None for a file without labels. Numbers are written with all their digits.
        suffix: what names of files end with.
        first_line: number of the line of the first row; lines count from 0.
        bad_lines: lines that are malformed, each for its own reason, if files have lines.
        words: whether labels may be words.
    """

    reader: RowFormat
    write: Callable[[Path, Array, Array | None], object]
    suffix: str = ""
    first_line: int = 0
    bad_lines: tuple[bytes, ...] = ()
    words: bool = False


class RowFiles(Files):
    """Files of a case."""

    def __init__(self, case: RowCase) -> None:
        self.case, self.reader, self.write = case, case.reader, case.write
        self.suffix, self.first_line, self.bad_lines = case.suffix, case.first_line, case.bad_lines
        self.width = min(case.reader.features or _WIDTH, _WIDTH)

    def write_some(self, path: Path, rows: int) -> list[Any]:
        x, labels = self._some(rows)
        self.write(path, x, labels)
        return said(x, labels)

    def schema(self, path: Path) -> None:
        return None

    def parse(self, reader: DataFormat, block: Block, schema: Schema | None) -> Parsed:
        rows = cast(RowFormat, reader).parse(block.data)
        n = len(rows.lines)
        dtypes = [array.dtype for array in (rows.lines, rows.indptr, rows.indices, rows.values)]
        assert dtypes == [np.int64, np.int64, np.int32, np.float32], f"lines, indptr, indices, values are of {dtypes}"
        assert rows.labels.dtype in (np.float64, object), f"labels are of {rows.labels.dtype}"
        assert (np.diff(rows.lines) > 0).all(), "lines do not increase"
        assert rows.labels.shape == (n,)
        assert rows.indptr.shape == (n + 1,)
        assert rows.indptr[0] == 0
        assert (np.diff(rows.indptr) >= 0).all()
        assert rows.indptr[-1] == len(rows.indices) == len(rows.values), "entries do not end where indptr says"
        assert rows.indices.min(initial=0) >= 0, "an index is negative"
        steps = np.diff(rows.indices)
        within = np.ones(len(steps), bool)
        within[rows.indptr[1:-1][(rows.indptr[1:-1] > 0) & (rows.indptr[1:-1] <= len(steps))] - 1] = False
        assert (steps[within] > 0).all(), "indices do not increase within a row"
        assert np.isfinite(rows.values).all(), "values are not finite"
        there, edges, labels = rows.values != 0, rows.indptr.tolist(), rows.labels.tolist()
        said = []
        for row in range(n):
            entries = slice(edges[row], edges[row + 1])
            kept = there[entries]
            said.append((labels[row], rows.indices[entries][kept].tobytes(), rows.values[entries][kept].tobytes()))
        return Parsed((block.first + rows.lines).tolist(), said)

    def expected(self, manifest: Manifest, rows: int) -> Any:
        x, labels = self._some(rows)
        x = np.pad(x, ((0, 0), (0, manifest.features - self.width)))
        return np.column_stack([x, [manifest.labels.index(label) for label in labels]])

    def _some(self, rows: int) -> tuple[Array, Array]:
        x = np.random.default_rng(5).integers(-999, 999, (rows, self.width)).astype(np.float32) / 8
        x[:, : self.width // 2] *= np.arange(rows)[:, None] % 3 == 1
        x[:1, -1:] = 1.5
        return x, np.arange(rows) * 3 % 2 + 0.0


def said(x: Array, labels: Array) -> list[Any]:
    """What rows say, as parsed ones do."""
    found = []
    for row, label in zip(x.astype(np.float32), labels.tolist(), strict=True):
        (indices,) = row.nonzero()
        found.append((label, indices.astype(np.int32).tobytes(), row[indices].tobytes()))
    return found


class RowLaws(FileLaws):
    """Laws of rows; the suite gives the fixture ``case``."""

    @pytest.fixture
    def case(self) -> RowCase:
        """The case."""
        raise NotImplementedError("override the fixture `case`")

    @pytest.fixture
    def files(self, case: RowCase) -> RowFiles:
        """Its files."""
        return RowFiles(case)

    def test_what_is_written_is_what_is_read(self, files: RowFiles, path: Path) -> None:
        """Every value and label comes back as the float32, number or word that was written; zeros may be left out.

        Fix digits that are lost, labels that are cut or rounded, and dtypes of ``Rows``.
        """
        label = _WORDS if files.case.words else st.one_of(st.integers(-3, 9).map(float), st.floats(-1e6, 1e6, width=32))
        shapes = st.tuples(st.integers(1, 6), st.integers(1, min(5, files.width)))
        rows = hnp.arrays(np.float32, shapes, elements=_CELLS).flatmap(
            lambda x: st.tuples(st.just(x), st.lists(label, min_size=len(x), max_size=len(x)))
        )

        @settings(deadline=None)
        @given(rows=rows)
        @example(
            rows=(
                np.array([[1 / 3], [0], [-1e-9]], np.float32),
                ["é", "a b", "é"] if files.case.words else [1, 0, -1.5],
            )
        )
        def comes_back(rows: tuple[Array, list[Any]]) -> None:
            x, labels = rows[0], np.array(rows[1], object if files.case.words else np.float64)
            files.write(path, x, labels)
            assert files.read(path).rows == said(x, labels)

        comes_back()

    def test_numbers_that_are_none_are_refused_by_their_line(self, files: RowFiles, path: Path) -> None:
        """NaN, infinity and what is too large for float32 raise ``MalformedRow`` with the line of their row.

        One of them makes all parameters NaN. Fix ``parse``; missing values are not for formats of rows.
        """
        for number in (math.nan, math.inf, -math.inf, 1e39):
            for row in (0, 3):
                x = np.arange(1.0, 1 + 6 * min(4, files.width)).reshape(6, -1)
                x[row, -1] = number
                files.write(path, x, np.arange(6) % 2 + 0.0)
                line = refused_line(files, path, None)
                assert line == files.first_line + row, f"{number} is in row {row}, and line {line} is refused"

    def test_more_columns_than_features_are_refused(self, files: RowFiles, path: Path) -> None:
        """With the option ``features``, a row that has more columns raises ``DataError``; as many are fine.

        The size of the model follows from it. Fix ``parse``.
        """
        if files.case.reader.features is None:
            pytest.skip("features not declared")
        x = np.ones((2, files.case.reader.features), np.float32)
        files.write(path, x, np.arange(2.0))
        assert files.read(path).rows == said(x, np.arange(2.0))
        files.write(path, np.ones((2, x.shape[1] + 1), np.float32), np.arange(2.0))
        with pytest.raises(DataError):
            files.read(path)

    def test_a_layout_is_one_that_there_is(self, files: RowFiles) -> None:
        """``layout`` is auto, dense or sparse, and ``features`` a number above 0 or None.

        Fix the attributes.
        """
        assert files.case.reader.layout in ("auto", "dense", "sparse")
        features = files.case.reader.features
        assert features is None or features > 0

    def test_rows_to_predict_on_may_lack_labels(self, files: RowFiles, path: Path) -> None:
        """``unlabelled`` gives the rows of a file without labels, labelled NaN, and of one with labels as they are.

        Fix how it is told that labels are there: by how many columns the model has.
        """
        reader = files.case.reader
        if not isinstance(reader, SupportsUnlabelled):
            pytest.skip("SupportsUnlabelled not implemented")
        x, y = np.arange(1.0, 13.0, dtype=np.float32).reshape(4, 3), np.array([0.0, 1, 1, 0])
        for labels in (y, None):
            files.write(path, x, labels)
            parts = [files.parse(reader, block, None) for block in reader.unlabelled(path, 3)]
            found = [row for part in parts for row in part.rows]
            assert [row[1:] for row in found] == [row[1:] for row in said(x, y)]
            if labels is None:
                assert all(math.isnan(row[0]) for row in found), f"labels are {[row[0] for row in found]}"
            else:
                assert [row[0] for row in found] == y.tolist()
