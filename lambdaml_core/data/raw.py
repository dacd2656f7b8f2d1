"""Raw rows for a model that is trained: preprocessed as its own were, in the order in which they come."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from lambdaml_core.data.columns import number_column, to_table, to_word
from lambdaml_core.data.formats import (
    Block,
    DataFormat,
    MalformedRow,
    RowFormat,
    Rows,
    Schema,
    SupportsUnlabelled,
    TableFormat,
    is_table,
)
from lambdaml_core.data.frames import frame_table
from lambdaml_core.data.labels import EXACT_BELOW
from lambdaml_core.data.merge import scatter
from lambdaml_core.data.preprocess import Preprocessing
from lambdaml_core.data.sources import at_line, data_files, format_like
from lambdaml_core.errors import DataError
from lambdaml_core.options import nearest
from lambdaml_core.specs import Reference


class RawBatch(NamedTuple):
    """Some rows of a source.

    Attributes:
        x: (n, features) float32, dense or a ``csr_matrix``.
        labels: (n,) as they stand in the source: integers, float64 or ``str``; None where it has none.
    """

    x: Any
    labels: NDArray[Any] | None


def read_raw(
    source: str | os.PathLike[str],
    *,
    format: Reference | None,
    preprocessing: Mapping[str, Any] | None,
    features: int,
    labelled: bool,
) -> Iterator[RawBatch]:
    """Rows of files, in the order of the files' names and of their lines, a bounded number at a time.

    Args:
        source: as for :func:`lambdaml_core.data.partition.partition`.
        format: how the files are read; default: by the ending of their names, and as the training data were. One that
            does not say which column has the labels has them where the training data had.
        preprocessing: the model's; None = it takes features as they are.
        features: of the model.
        labelled: whether labels must be there.

    Raises:
        DataError: a file is missing, unreadable or malformed (named with the line), lacks a column that the model
            needs, or has more features than it; labels must be there and are not; the source is a table and the model
            takes none, or the other way round.
        OptionError, PluginError: as ``partition``.
    """
    known = Preprocessing.from_json(preprocessing) if preprocessing else None
    files = data_files(source)
    reader: DataFormat = format_like(source, format, known).build()
    if is_table(reader) != (known is not None):
        has, takes = ("raw columns", "features") if known is None else ("features", "raw columns")
        raise DataError(f"{files[0]} has {has}, and the model takes {takes}", hint="give data like the training data")
    for file in files:
        if known is not None:
            yield from _table_batches(cast(TableFormat, reader), file, known, labelled)
        else:
            yield from _row_batches(cast(RowFormat, reader), file, features, labelled)


def frame_rows(frame: Any, preprocessing: Mapping[str, Any]) -> Any:
    """Features of a pandas frame, or of a mapping of names to columns, by a model's preprocessing.

    Returns:
        (n, features) float32, dense or a ``csr_matrix``.

    Raises:
        DataError: a column that the model needs is not there or has something else in it.
    """
    how = Preprocessing.from_json(preprocessing)
    names = [str(name) for name in (frame if isinstance(frame, Mapping) else frame.columns)]
    schema = how.schema(Schema(tuple(names), (), None), where="x")
    try:
        if isinstance(frame, Mapping):
            return how.transform(_mapping_table({str(k): v for k, v in frame.items()}, schema))
        return how.transform(frame_table(frame, schema))
    except MalformedRow as e:
        raise DataError(f"row {e.line + 1} of x: {e.message}", hint=e.hint) from e


def _mapping_table(columns: Mapping[str, Any], schema: Schema) -> Any:
    cells = {name: list(columns[name]) for name in (*schema.numbers, *schema.words)}
    counts = {len(column) for column in cells.values()}
    if len(counts) != 1:
        raise DataError(f"x has columns of different lengths: {sorted(counts)}", hint="give every column of every row")
    lines = np.arange(counts.pop())

    def numbers(name: str) -> NDArray[np.float64]:
        array = np.asarray(columns[name])
        if array.dtype.kind in "buif":
            return array.astype(np.float64)
        return number_column(name, [to_word(cell) or "" for cell in cells[name]], lines)

    def words(name: str) -> NDArray[Any]:
        return np.array(list(map(to_word, cells[name])), object)

    return to_table(schema, lines, columns, numbers=numbers, words=words)


def _table_batches(reader: TableFormat, file: Path, how: Preprocessing, labelled: bool) -> Iterator[RawBatch]:
    found = reader.schema(file, labelled=False)  # else it would refuse columns that the model does not read
    if labelled and found.label is None and (label := reader.options.label) is not None:
        names = (*found.numbers, *found.words)
        raise DataError(f"{file} has no column {str(label)!r} with the labels", hint=nearest(str(label), names))
    schema = how.schema(found, where=str(file), labelled=labelled)
    for block in reader.blocks(file):
        try:
            table = reader.parse(block.data, schema)
        except MalformedRow as e:
            raise at_line(file, block.first + e.line, e.message, e.hint) from e
        labels = None if schema.label is None else table.columns[schema.label]
        if len(table.lines):
            yield RawBatch(how.transform(table), _own_labels(file, block, labels, table.lines, labelled))


def _row_batches(reader: RowFormat, file: Path, features: int, labelled: bool) -> Iterator[RawBatch]:
    blocks = reader.unlabelled(file, features) if isinstance(reader, SupportsUnlabelled) else reader.blocks(file)
    for block in blocks:
        try:
            rows = reader.parse(block.data)
        except MalformedRow as e:
            raise at_line(file, block.first + e.line, e.message, e.hint) from e
        if len(rows.lines):
            x = _matrix(file, block, rows, features)
            yield RawBatch(x, _own_labels(file, block, rows.labels, rows.lines, labelled))


def _matrix(file: Path, block: Block, rows: Rows, features: int) -> Any:
    n = len(rows.lines)
    if (beyond := np.flatnonzero(rows.indices >= features)).size:
        row = int(np.searchsorted(rows.indptr, beyond[0], side="right")) - 1
        message = f"a row has {int(rows.indices[beyond[0]]) + 1} features, and the model has {features}"
        raise at_line(file, block.first + int(rows.lines[row]), message, "give data like the training data")
    if 2 * len(rows.values) >= n * features:
        return scatter(np.arange(n), rows.indptr, rows.indices, rows.values, features)
    from scipy.sparse import csr_matrix

    return csr_matrix((rows.values, rows.indices, rows.indptr), shape=(n, features))


def _own_labels(
    file: Path, block: Block, labels: NDArray[Any] | None, lines: NDArray[Any], labelled: bool
) -> NDArray[Any] | None:
    if labels is None:
        return None
    missing = np.isnan(labels) if labels.dtype.kind == "f" else np.array([label is None for label in labels], bool)
    if labelled and missing.any():
        line = block.first + int(lines[missing.argmax()])
        raise at_line(file, line, "the label is missing", "drop such rows")
    if missing.all():
        return None
    if labels.dtype.kind == "f" and (labels == np.rint(labels)).all() and (np.abs(labels) < EXACT_BELOW).all():
        return labels.astype(np.int64)
    return labels
