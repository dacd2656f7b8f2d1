"""The built-in formats keep the laws of formats, as they are and with blocks of a few bytes or cells."""

from __future__ import annotations

import pytest
from written_files import (
    CSV_BAD,
    LIBSVM_BAD,
    write_csv,
    write_libsvm,
    write_npy,
    write_npz,
    write_parquet,
    write_sparse,
)

from lambdaml_core.builtin import ArrayOptions, CsvOptions, LibsvmOptions, TableOptions
from lambdaml_core.data import columns as column_rules
from lambdaml_core.data import numpy_files
from lambdaml_core.data import text as text_files
from lambdaml_core.data.delimited import Csv
from lambdaml_core.data.libsvm import Libsvm
from lambdaml_core.data.numpy_files import Npy, Npz
from lambdaml_core.data.parquet import Parquet
from lambdaml_core.testing.data_format import RowCase, RowFormatLaws, TableCase, TableFormatLaws


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "_BLOCK_BYTES", 200)
    monkeypatch.setattr(numpy_files, "_BLOCK_CELLS", 130)
    monkeypatch.setattr(column_rules, "_BLOCK_CELLS", 48)


class TestLibsvm(RowFormatLaws):
    @pytest.fixture
    def case(self) -> RowCase:
        reader = Libsvm(LibsvmOptions())
        return RowCase(reader=reader, write=write_libsvm, suffix=".svm", bad_lines=LIBSVM_BAD)


@pytest.mark.usefixtures("small_blocks")
class TestPackedLibsvmInSmallBlocks(RowFormatLaws):
    @pytest.fixture
    def case(self) -> RowCase:
        return RowCase(reader=Libsvm(LibsvmOptions(features=5)), write=write_libsvm, suffix=".svm.gz")


class TestNpy(RowFormatLaws):
    @pytest.fixture
    def case(self) -> RowCase:
        return RowCase(reader=Npy(ArrayOptions()), write=write_npy, suffix=".npy")


@pytest.mark.usefixtures("small_blocks")
class TestNpzInSmallBlocks(RowFormatLaws):
    @pytest.fixture
    def case(self) -> RowCase:
        return RowCase(reader=Npz(ArrayOptions()), write=write_npz, suffix=".npz", words=True)


@pytest.mark.usefixtures("small_blocks")
class TestSparseNpzInSmallBlocks(RowFormatLaws):
    @pytest.fixture
    def case(self) -> RowCase:
        return RowCase(reader=Npz(ArrayOptions(labels="y.npy")), write=write_sparse, suffix=".npz")


class TestCsv(TableFormatLaws):
    @pytest.fixture
    def case(self) -> TableCase:
        return TableCase(reader=Csv(CsvOptions()), write=write_csv, suffix=".csv", first_line=1, bad_lines=CSV_BAD)


@pytest.mark.usefixtures("small_blocks")
class TestParquetInSmallBlocks(TableFormatLaws):
    @pytest.fixture
    def case(self) -> TableCase:
        return TableCase(reader=Parquet(TableOptions()), write=write_parquet, suffix=".parquet")
