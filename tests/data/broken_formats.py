"""Formats that break one law each; ``test_format_kit.py`` runs them."""

from __future__ import annotations

import contextlib
import gc
import math
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from written_files import CSV_BAD, LIBSVM_BAD, write_csv, write_libsvm, write_npy

from lambdaml_core.builtin import ArrayOptions, CsvOptions, LibsvmOptions
from lambdaml_core.data.delimited import Csv, CsvText
from lambdaml_core.data.formats import Block, MalformedRow, Rows, Schema, Table
from lambdaml_core.data.libsvm import Libsvm
from lambdaml_core.data.numpy_files import Npy
from lambdaml_core.errors import DataError
from lambdaml_core.testing.data_format import RowCase, RowFormatLaws, TableCase, TableFormatLaws

Array = NDArray[Any]


class BrokenRows(Libsvm):
    """A correct format of rows for others to break."""

    law: ClassVar[str]
    mistake: ClassVar[str | None] = None
    most_features: ClassVar[int | None] = None

    def __init__(self) -> None:
        super().__init__(LibsvmOptions(features=self.most_features))

    @staticmethod
    def write(path: Path, x: Array, labels: Array | None) -> None:
        write_libsvm(path, x, labels)


class BrokenTables(Csv):
    """A correct format of tables for others to break."""

    law: ClassVar[str]
    mistake: ClassVar[str | None] = None

    def __init__(self, options: CsvOptions = CsvOptions()) -> None:  # noqa: B008 - frozen
        super().__init__(options)


class CountsLinesFromOne(BrokenRows):
    law = "test_rows_are_known_by_their_lines"

    def blocks(self, path: Path) -> Iterator[Block]:
        return (block._replace(first=block.first + 1) for block in super().blocks(path))


class ReadsAllAtOnce(BrokenRows):
    law = "test_a_large_file_has_several_blocks"
    most_features = 4  # it takes long to write more

    def blocks(self, path: Path) -> Iterator[Block]:
        blocks = list(super().blocks(path))
        if blocks:
            yield Block(0, b"".join(block.data for block in blocks), path.stat().st_size)


class CutsWithinRows(BrokenRows):
    law = "test_a_large_file_has_several_blocks"

    def blocks(self, path: Path) -> Iterator[Block]:
        first, data = 0, path.read_bytes()
        for start in range(0, len(data), 1 << 16):
            piece = data[start : start + (1 << 16)]
            yield Block(first, piece if piece.endswith(b"\n") else piece + b"\n", start + len(piece))
            first += piece.count(b"\n")


class CountsWhatItHasParsed(BrokenRows):
    law = "test_blocks_are_independent_and_always_the_same"
    parsed = 0

    def parse(self, data: bytes) -> Rows:
        rows = super().parse(data)
        self.parsed += 1
        return rows._replace(labels=rows.labels + (self.parsed > 2))


class SortsTheBlockItIsGiven(BrokenTables):
    law = "test_blocks_are_independent_and_always_the_same"

    def blocks(self, path: Path) -> Iterator[Block]:
        return (block._replace(data=[block.data]) for block in super().blocks(path))

    def schema(self, path: Path, *, labelled: bool = True) -> Schema:
        return Csv(self.options).schema(path, labelled=labelled)

    def parse(self, data: Any, schema: Schema) -> Table:
        return super().parse(data.pop(), schema)


class SaysHowLargeTheBlockIs(BrokenRows):
    law = "test_progress_grows_to_the_size_of_the_file"

    def blocks(self, path: Path) -> Iterator[Block]:
        return (block._replace(read=len(block.data)) for block in super().blocks(path))


class SkipsBadLines(BrokenRows):
    law = "test_a_malformed_line_is_refused_by_its_number"
    mistake = "errors swallowed: a line that cannot be read is left out"

    def parse(self, data: bytes) -> Rows:
        while True:
            try:
                return super().parse(data)
            except MalformedRow as e:
                lines = data.split(b"\n")
                lines[e.line] = b""
                data = b"\n".join(lines)


class NamesTheLineAfter(BrokenTables):
    law = "test_a_malformed_line_is_refused_by_its_number"

    def parse(self, data: CsvText, schema: Schema) -> Table:
        try:
            return super().parse(data, schema)
        except MalformedRow as e:
            raise MalformedRow(e.message, line=e.line + 1) from e


class LetsTheSystemSpeak(BrokenRows):
    law = "test_what_is_not_there_is_a_data_error"

    def blocks(self, path: Path) -> Iterator[Block]:
        path.stat()
        yield from super().blocks(path)


class WantsAHeader(BrokenTables):
    law = "test_an_empty_file_has_no_rows_or_is_refused"

    def schema(self, path: Path, *, labelled: bool = True) -> Schema:
        assert path.read_bytes().splitlines()[0]
        return super().schema(path, labelled=labelled)


class TakesTextForGranted(BrokenRows):
    law = "test_a_damaged_file_is_read_or_refused"

    def parse(self, data: bytes) -> Rows:
        return super().parse(data.decode().encode())


class Unpickles(BrokenRows):
    """Rows are pickled lists."""

    law = "test_nothing_in_a_file_is_executed"
    mistake = "pickle.loads on data that others may have written"

    def blocks(self, path: Path) -> Iterator[Block]:
        try:
            data = pickle.loads(path.read_bytes())  # noqa: S301 - what is wrong with it
            yield Block(0, b"".join(data), path.stat().st_size)
        except Exception as e:
            raise DataError(f"{path} cannot be read") from e

    @staticmethod
    def write(path: Path, x: Array, labels: Array | None) -> None:
        write_libsvm(path, x, labels)
        path.write_bytes(pickle.dumps(path.read_bytes().splitlines(keepends=True)))


class LeavesFilesToTheCollector(BrokenRows):
    law = "test_files_are_closed"

    def blocks(self, path: Path) -> Iterator[Block]:
        with contextlib.suppress(OSError):
            path.open("rb").read(1)
        return super().blocks(path)


class KeepsFilesOpen(BrokenTables):
    law = "test_files_are_closed"
    kept: ClassVar[list[Any]] = []

    def blocks(self, path: Path) -> Iterator[Block]:
        self.kept.append(path.open("rb"))
        gc.collect()
        return super().blocks(path)


class LosesTheLastRow(BrokenRows):
    law = "test_a_partition_has_the_rows_that_were_written"

    def parse(self, data: bytes) -> Rows:
        return super().parse(data[: data.rfind(b"\n", 0, -1) + 1])


class RoundsNumbers(BrokenRows):
    law = "test_what_is_written_is_what_is_read"

    def parse(self, data: bytes) -> Rows:
        rows = super().parse(data)
        return rows._replace(values=rows.values.round(3))


class ReadsLatin1(BrokenTables):
    law = "test_what_is_written_is_what_is_read"

    def parse(self, data: CsvText, schema: Schema) -> Table:
        return super().parse(data._replace(text=data.text.decode("latin1").encode()), schema)


class ZeroForMissing(BrokenTables):
    law = "test_what_is_written_is_what_is_read"

    def parse(self, data: CsvText, schema: Schema) -> Table:
        table = super().parse(data, schema)
        zeros = {name: np.nan_to_num(table.columns[name]) for name in schema.numbers}
        return table._replace(columns={**table.columns, **zeros})


class ZeroForNaN(BrokenRows):
    law = "test_numbers_that_are_none_are_refused_by_their_line"

    def parse(self, data: bytes) -> Rows:
        return super().parse(data.replace(b":nan", b":0"))


class IgnoresFeatures(BrokenRows):
    law = "test_more_columns_than_features_are_refused"
    most_features = 4

    def parse(self, data: bytes) -> Rows:
        return Libsvm(LibsvmOptions()).parse(data)


class HasALayoutOfItsOwn(BrokenRows):
    law = "test_a_layout_is_one_that_there_is"

    def __init__(self) -> None:
        super().__init__()
        self.layout: Any = "csr"


class TakesAFeatureForTheLabel(BrokenRows):
    law = "test_rows_to_predict_on_may_lack_labels"
    layout: Literal["auto", "dense", "sparse"] = "auto"

    def __init__(self) -> None:
        super().__init__()
        self._npy = Npy(ArrayOptions())

    def blocks(self, path: Path) -> Iterator[Block]:
        return self._npy.blocks(path)

    def unlabelled(self, path: Path, features: int) -> Iterator[Block]:
        return self._npy.blocks(path)

    def parse(self, data: Any) -> Rows:
        return self._npy.parse(data)

    @staticmethod
    def write(path: Path, x: Array, labels: Array | None) -> None:
        with path.open("wb") as file:  # np.save would add to the name
            write_npy(file, x, labels)  # type: ignore[arg-type]


class TakesAllForWords(BrokenTables):
    law = "test_columns_are_told_from_the_file"

    def schema(self, path: Path, *, labelled: bool = True) -> Schema:
        found = super().schema(path, labelled=labelled)
        return Schema((), found.numbers + found.words, found.label)


class DropsNothing(BrokenTables):
    law = "test_options_say_what_becomes_of_columns"

    def __init__(self, options: CsvOptions = CsvOptions()) -> None:  # noqa: B008 - frozen
        super().__init__(replace(options, drop=()))


class AlwaysWantsALabel(BrokenTables):
    law = "test_rows_to_predict_on_may_lack_labels"

    def schema(self, path: Path, *, labelled: bool = True) -> Schema:
        return super().schema(path)


class GoesByPosition(BrokenTables):
    law = "test_columns_are_found_by_name"
    names: tuple[str, ...] = ()

    def parse(self, data: CsvText, schema: Schema) -> Table:
        self.names = self.names or data.names
        return super().parse(data._replace(names=(*self.names, *data.names)[: len(data.names)]), schema)


class InfinityIsANumber(BrokenTables):
    law = "test_what_is_no_number_is_refused_by_its_line"

    def parse(self, data: CsvText, schema: Schema) -> Table:
        table = super().parse(data._replace(text=data.text.replace(b"inf", b"1e300")), schema)
        for name in schema.numbers:
            table.columns[name][table.columns[name] == 1e300] = math.inf
        return table


BrokenFormat = type[BrokenRows] | type[BrokenTables]
BROKEN: list[BrokenFormat] = [*BrokenRows.__subclasses__(), *BrokenTables.__subclasses__()]


def _rows_suite(broken: type[BrokenRows]) -> type[RowFormatLaws]:
    class Suite(RowFormatLaws):
        @pytest.fixture
        def case(self) -> RowCase:
            return RowCase(reader=broken(), write=broken.write, suffix=".svm", bad_lines=LIBSVM_BAD)

    return Suite


def _tables_suite(broken: type[BrokenTables]) -> type[TableFormatLaws]:
    class Suite(TableFormatLaws):
        @pytest.fixture
        def case(self) -> TableCase:
            return TableCase(reader=broken(), write=write_csv, suffix=".csv", first_line=1, bad_lines=CSV_BAD)

    return Suite


for each in BrokenRows.__subclasses__():
    globals()[f"Test{each.__name__}"] = _rows_suite(each)
for other in BrokenTables.__subclasses__():
    globals()[f"Test{other.__name__}"] = _tables_suite(other)
