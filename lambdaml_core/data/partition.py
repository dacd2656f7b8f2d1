"""The partitioner: files of any size become shuffled binary shards, in bounded memory, in two passes.

The first pass parses (``spool.py``). The second takes ranges of sort keys one after another, gathers each range's rows
from all runs, and sorts them (``merge.py``). So rows leave in their final order, and it depends on seed and line
numbers alone. Between the passes all keys are known, hence which rows are to train on: tables are fitted on these.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any, cast

import lambdaml_core.errors
from lambdaml_core.builtin import TableOptions
from lambdaml_core.data.fitting import Fitting, Recoder
from lambdaml_core.data.formats import DataFormat, RowFormat, Schema, is_table
from lambdaml_core.data.labels import check_classes, class_numbers, merge_labels
from lambdaml_core.data.merge import Slice, Spool, first_rows, fit, join_cells, join_rows, pieces, whole_runs
from lambdaml_core.data.order import split_rows
from lambdaml_core.data.preprocess import Preprocessing
from lambdaml_core.data.shards import Label, Manifest, Piece
from lambdaml_core.data.sources import at_line, common_schema, data_files, format_like, reading_options
from lambdaml_core.data.spool import LINES_PER_FILE, Progress, Summary, Task, parse_share
from lambdaml_core.data.writer import PartitionWriter, Shape, check_request, choose_layout
from lambdaml_core.errors import DataError, LambdaMLError, OptionError, StorageFull
from lambdaml_core.specs import Reference, Target
from lambdaml_core.storage import StorageURL, open_storage
from lambdaml_core.storage.layers import FullStorage
from lambdaml_core.storage.retry import FIRST_S

_SMALL_BYTES = 16 << 20  # below this a second process would cost more than it saves
_MOST_PROCESSES = 8


def partition(
    source: str | os.PathLike[str],
    out: str | FullStorage,
    *,
    shards: int,
    seed: int = 0,
    validation: float = 0.2,
    target: Target = "class",
    format: Reference | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    labels: Sequence[Label] | None = None,
    processes: int | None = None,
    progress: Progress | None = None,
    scratch: str | os.PathLike[str] | None = None,
) -> Manifest:
    """Read files once and write them as a partition: shuffled, split, in binary shards that are read without parsing.

    Equal source, seed, shards and validation give equal bytes, however many processes there are; the order of the rows
    does not depend on the number of shards either. On any error, and on an interrupt, nothing is left behind.

    Args:
        source: path of a file, a folder of data files, or a path with wildcards; files come in the order of their
            names.
        out: URL of the place to write to, or a storage.
        shards: pieces to cut the training rows into; more, if one would be larger than 64 MiB.
        seed: what the order comes from.
        validation: share of the rows kept for validation, in [0, 1).
        target: what rows are labelled with.
        format: how the files are read; default: by the ending of their names.
        preprocessing: how tables were preprocessed for another partition or a saved model, taken as it is; default:
            fitted on the rows to train on.
        labels: of another partition or a saved model, taken as they are; default: those that rows have, in order.
        processes: how many processes parse; default: as many as there are cores, one for little to read.
        progress: called with bytes read and bytes in all.
        scratch: directory for temporary files, which have no names; default: beside a ``file://`` place, else the
            system's. They take about eight bytes for each entry, or for each cell of a table.

    Raises:
        DataError: a file is missing, unreadable or malformed (named with the line), has a NaN or infinite number or a
            label that cannot be, or there are fewer than two labels, more than 10,000, too many categories in a
            column, or fewer rows than shards.
        OptionError: shards, processes or validation out of range.
        OutputExists: there is a partition already.
        PluginError: no format is known for the files.
        StorageError: the place cannot be written; StorageFull where the disk is full.
    """
    files = data_files(source)
    known = Preprocessing.from_json(preprocessing) if preprocessing else None
    format = format_like(source, format, known)
    storage = open_storage(out, first_s=FIRST_S) if isinstance(out, str) else out
    folder = os.fspath(scratch) if scratch else _scratch_folder(out)
    try:
        check_request(storage, shards, validation, _name_of(out))
        reader: DataFormat = format.build()
        job = Task(
            files=[str(file) for file in files],
            format=asdict(format),
            schema=_schema(reader, files, known, target != "none"),
            preprocessing=preprocessing or None,
            target=target,
            labels=labels or None,
            seed=seed,
        )
        with contextlib.ExitStack() as stack:
            scratch_files = [
                stack.enter_context(_scratch_file(folder)) for _ in range(_process_count(files, processes))
            ]
            spools = _parse(job, scratch_files, progress)
            _check(os.fspath(source), job, spools)
            shape, rows = _second_pass(job, reader, spools, validation)
            with PartitionWriter(storage, shape, seed=seed, shards=shards, validation=validation) as writer:
                for piece in rows:
                    writer.add(piece)
                return writer.finish()
    finally:
        if isinstance(out, str):
            storage.close()


def _name_of(out: str | FullStorage) -> str:
    return str(StorageURL.parse(out)) if isinstance(out, str) else "the store"


def _scratch_folder(out: str | FullStorage) -> str:
    """Beside a ``file://`` place, so that it is the same disk that must have room."""
    if isinstance(out, str) and (url := StorageURL.parse(out).resolved()).scheme == "file":
        folder = next((p for p in Path(url.path).parents if p.is_dir()), None)
        if folder is not None and os.access(folder, os.W_OK):
            return str(folder)
    return tempfile.gettempdir()


def _scratch_file(folder: str) -> IO[bytes]:
    try:
        return tempfile.TemporaryFile(dir=folder, buffering=0)
    except OSError as e:
        raise StorageFull(f"no temporary file can be made in {folder}: {e.strerror}", hint="set TMPDIR") from e


def _process_count(files: Sequence[Path], processes: int | None) -> int:
    if processes is not None:
        if processes < 1:
            raise OptionError(f"processes must be at least 1, not {processes}")
        return processes
    try:
        small = sum(file.stat().st_size for file in files) < _SMALL_BYTES
    except OSError:
        small = True  # the reader says what is wrong with it
    return 1 if small else min(len(os.sched_getaffinity(0)), _MOST_PROCESSES)


def _parse(task: Task, files: Sequence[IO[bytes]], progress: Progress | None) -> list[Spool]:
    """The first pass: this process and others parse a share each."""
    with tempfile.TemporaryFile() as failures:
        task = replace(task, of=len(files), scratch=files[0].fileno(), failures=failures.fileno())
        others: list[subprocess.Popen[bytes]] = []
        try:
            for share, file in enumerate(files[1:], 1):
                others.append(_start(replace(task, share=share, scratch=file.fileno(), parent=os.getpid())))
            summaries = [parse_share(task, progress), *map(_finish, others)]
        finally:
            for process in others:
                process.kill()
                process.communicate()
    return [Spool(file.fileno(), summary) for file, summary in zip(files, summaries, strict=True)]


def _start(task: Task) -> subprocess.Popen[bytes]:
    # A fresh interpreter and no fork: the caller may have threads. It finds what this one finds, and takes no threads.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p or str(Path.cwd()) for p in sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "lambdaml_core.data.spool"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**environment, "OPENBLAS_NUM_THREADS": "1"},
        pass_fds=(task.scratch, task.failures),
        start_new_session=True,  # Ctrl-C goes to this process, which ends the others
    )
    with contextlib.suppress(BrokenPipeError), cast(IO[bytes], process.stdin) as pipe:
        pipe.write(json.dumps(asdict(task)).encode())
    process.stdin = None  # communicate() would write to it
    return process


def _finish(process: subprocess.Popen[bytes]) -> Summary:
    out, errors = process.communicate()
    if process.returncode != 0:
        lines = errors.decode(errors="replace").strip().splitlines() or [f"exit code {process.returncode}"]
        raise LambdaMLError(f"a process that parses has failed: {lines[-1]}", hint="try it with one process")
    found = json.loads(out)
    if "error" in found:  # one of ours: it is raised here as it was there
        raise getattr(lambdaml_core.errors, found["error"])(found["message"], hint=found["hint"])
    return Summary.from_fields(found)


def _check(source: str, task: Task, spools: Sequence[Spool]) -> None:
    """Refuse what the first pass has found to be wrong."""
    failed = [s.summary for s in spools if s.summary.failed >= 0]
    if failed:
        first = min(failed, key=lambda s: s.failed)
        file, line = divmod(first.failed, LINES_PER_FILE)
        raise at_line(task.files[file], line, first.message, first.hint)
    if not any(s.summary.rows for s in spools):
        raise DataError(f"{source} has no rows", hint="check that it is the right file")


def _second_pass(
    task: Task, reader: DataFormat, spools: Sequence[Spool], validation: float
) -> tuple[Shape, Iterator[Piece]]:
    """What the rows of the second pass are like, and the rows."""
    summaries = [s.summary for s in spools]
    rows, entries = (sum(getattr(s, name) for s in summaries) for name in ("rows", "entries"))
    labels = _labels(task, summaries)
    numbers = [class_numbers(labels, s.words) for s in summaries]
    runs = whole_runs(spools)
    if is_table(reader):
        found, recoders = _fitted(task, reader.options, summaries, runs, validation)
        columns = len(found.numbers) + len(found.words)
        shape = Shape(found.layout, rows, found.features, entries, labels, found.to_json())
        return shape, pieces(runs, shape, 8 * rows * columns, numbers, join_cells(found, recoders, columns))
    plain = cast(RowFormat, reader)
    features = plain.features or max(1, *(s.features for s in summaries), 0)
    shape = Shape(choose_layout(plain.layout, rows, features, entries), rows, features, entries, labels)
    return shape, pieces(runs, shape, 8 * entries, numbers, join_rows(shape))


def _fitted(
    task: Task, options: TableOptions, summaries: Sequence[Summary], runs: Sequence[Slice], validation: float
) -> tuple[Preprocessing, list[Recoder]]:
    """How tables are preprocessed, found from the rows to train on unless it is given; and each process's codes."""
    vocabularies = [s.vocabularies for s in summaries]
    if task.preprocessing is not None:
        found = Preprocessing.from_json(task.preprocessing)
    else:
        assert task.schema is not None  # noqa: S101
        rows, entries = (sum(getattr(s, name) for s in summaries) for name in ("rows", "entries"))
        fitting = Fitting(task.schema, options, vocabularies)
        fit(first_rows(runs, split_rows(rows, validation)[0]), fitting, summaries[0].features)
        found = replace(fitting.finish(rows, entries), reading=reading_options(Reference(**task.format)))
    return found, [Recoder(found, vocabulary) for vocabulary in vocabularies]


def _labels(task: Task, summaries: Sequence[Summary]) -> tuple[Label, ...]:
    if task.target != "class":
        return ()
    if task.labels is not None:
        check_classes(task.labels)
        return tuple(task.labels)
    numbers, words = set[float](), set[str]()
    return merge_labels(numbers.union(*(s.numbers for s in summaries)), words.union(*(s.words for s in summaries)))


def _schema(
    reader: DataFormat, files: Sequence[Path], preprocessing: Preprocessing | None, labelled: bool
) -> Schema | None:
    """The columns to read, of tables: those that all files have. ``labelled``: whether there must be a label."""
    if not is_table(reader):
        if preprocessing is not None:
            raise DataError(f"{files[0]} has features, and the model takes raw columns", hint="give it a table")
        return None
    found = common_schema(files, [reader.schema(file, labelled=labelled) for file in files])
    return preprocessing.schema(found, where=str(files[0]), labelled=labelled) if preprocessing is not None else found
