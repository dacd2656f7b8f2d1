"""Which files a source stands for, and which format they have."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from lambdaml_core.builtin import TableOptions
from lambdaml_core.data.formats import Schema
from lambdaml_core.data.preprocess import Preprocessing
from lambdaml_core.data.shards import MANIFEST_KEY
from lambdaml_core.errors import DataError, UnknownPlugin
from lambdaml_core.specs import DataFormatSpec, Reference


def data_files(source: str | os.PathLike[str]) -> list[Path]:
    """The files of a source, sorted by name: a file, the files of a folder, or those that a glob matches.

    What is hidden, or has a name that starts with ``_`` (such as ``_SUCCESS``), is left out, and so are folders in a
    folder. A path without wildcards that does not exist is returned as it is: who reads it says what is wrong.

    Raises:
        DataError: there are none, the folder is a partition, or what is there cannot be read, or not twice.
    """
    name = os.fspath(source)
    try:
        found = _found(name)
        if found is None:
            return [Path(name)]
        files = sorted((p for p in found if not p.name.startswith((".", "_")) and p.is_file()), key=str)
    except OSError as e:
        raise DataError(f"{name:.100} cannot be read: {e.strerror}", hint="check the path and its mode") from e
    if not files:
        raise DataError(f"{name} has no data files", hint="hidden files and those named _* do not count")
    return files


def _found(name: str) -> list[Path] | None:
    """What is in a folder, or a glob matches; None where the name is that of one file, which may not exist."""
    path = Path(name)
    if path.is_dir():
        if (path / MANIFEST_KEY).exists():
            raise DataError(f"{name} is a partition already", hint="train on it, or give the files it was made from")
        return list(path.iterdir())
    if path.exists():
        if not path.is_file():
            raise DataError(f"{name} is no regular file", hint="write it to a file first: it is read more than once")
        return None
    if glob.has_magic(name):
        return [Path(p) for p in glob.glob(name, recursive=True)]  # noqa: PTH207  (a path may be absolute)
    return None


def format_of(source: str | os.PathLike[str], values: Mapping[str, Any] | None = None) -> Reference:
    """The format that the names of a source's files end like, with these options.

    Raises:
        DataError: no installed format knows an ending, or there are files of two formats.
        OptionError, PluginError: as ``Registry.resolve``; two formats claim the ending, or it is a broken one's.
    """
    files = data_files(source)
    specs = {file: _spec_of(file) for file in files}
    first = specs[files[0]]
    other = next((file for file in files if specs[file] != first), None)
    if other is not None:
        raise DataError(
            f"{os.fspath(source)} has files of two formats: {files[0].name} ({first.name}) and {other.name} "
            f"({specs[other].name})",
            hint="choose with wildcards, such as folder/*.csv, or name the format of all",
        )
    return Reference.of(first, values or {}, where="format")


def at_line(file: str | Path, line: int, message: str, hint: str | None) -> DataError:
    """What is wrong with a line of a file, which is counted from 0."""
    return DataError(f"{file}, line {line + 1}: {message}", hint=hint)


def format_like(
    source: str | os.PathLike[str], format: Reference | None, preprocessing: Preprocessing | None
) -> Reference:
    """The format given, else that of the names of the files, read as those that the preprocessing comes from.

    The label is the one of before in any case, if the format's options do not say which it is.

    Raises:
        As :func:`format_of`.
    """
    chosen = format or format_of(source)
    if preprocessing is None:
        return chosen
    values = dict(chosen.values)
    if format is None:
        values |= preprocessing.reading.get(chosen.name, {})
    if preprocessing.label is not None and values.get("label", "") is None:
        values["label"] = preprocessing.label
    return replace(chosen, values=values)


def reading_options(format: Reference) -> dict[str, dict[str, Any]]:
    """What :attr:`Preprocessing.reading` keeps of a format of tables."""
    columns = {f.name for f in fields(TableOptions)}
    return {format.name: {name: value for name, value in format.values.items() if name not in columns}}


def common_schema(files: Sequence[Path], schemas: Sequence[Schema]) -> Schema:
    """The columns of several files, which must be the same; of numbers are those that look so in all of them.

    Raises:
        DataError: a file has other columns than the first.
    """
    first, names = schemas[0], {*schemas[0].numbers, *schemas[0].words}
    for file, schema in zip(files, schemas, strict=True):
        if other := names.symmetric_difference((*schema.numbers, *schema.words)):
            name = min(other)
            has, lacks = (files[0], file) if name in names else (file, files[0])
            raise DataError(f"{has} has a column {name}, and {lacks} has none", hint="give files of equal columns")
    numbers = tuple(name for name in first.numbers if all(name in schema.numbers for schema in schemas))
    words = tuple(name for name in first.numbers if name not in numbers)
    return Schema(numbers, first.words + words, first.label)


def _spec_of(file: Path) -> DataFormatSpec:
    from lambdaml_core.registry import default_registry  # who has a reference needs no registry

    try:
        return default_registry().find_format(file.name)
    except UnknownPlugin as e:
        raise DataError(
            f"the format of {file} cannot be told by its name", hint="name the format, such as libsvm or csv"
        ) from e
