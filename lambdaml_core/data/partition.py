"""The partitioner: a file of any size becomes shuffled binary shards, in bounded memory, in two passes.

The first pass parses (``spool.py``). The second takes ranges of sort keys one after another, gathers each range's rows
from all runs, and sorts them. So rows leave in their final order, and it depends on seed and line numbers alone.
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

import numpy as np
from numpy.typing import NDArray

import lambdaml_core.errors
from lambdaml_core.data.formats import RowFormat
from lambdaml_core.data.order import key_ranges
from lambdaml_core.data.shards import Manifest, Piece
from lambdaml_core.data.spool import Progress, Run, Summary, Task, parse_share, take_rows
from lambdaml_core.data.writer import PIECE_BYTES, PartitionWriter, Shape, check_request, choose_layout
from lambdaml_core.errors import DataError, LambdaMLError, OptionError, StorageFull, UnknownPlugin
from lambdaml_core.specs import Reference
from lambdaml_core.storage import StorageURL, open_storage
from lambdaml_core.storage.layers import FullStorage

_SMALL_BYTES = 16 << 20  # below this a second process would cost more than it saves
_MOST_PROCESSES = 8


def partition(
    source: str | os.PathLike[str],
    out: str | FullStorage,
    *,
    shards: int,
    seed: int = 0,
    validation: float = 0.2,
    format: Reference | None = None,
    processes: int | None = None,
    progress: Progress | None = None,
    scratch: str | os.PathLike[str] | None = None,
) -> Manifest:
    """Read a file once and write it as a partition: shuffled, split, in binary shards that are read without parsing.

    Equal source, seed, shards and validation give equal bytes, however many processes there are; the order of the rows
    does not depend on the number of shards either. On any error, and on an interrupt, nothing is left behind.

    Args:
        source: path of the file.
        out: URL of the place to write to, or a storage.
        shards: pieces to cut the training rows into; more, if one would be larger than 64 MiB.
        seed: what the order comes from.
        validation: share of the rows kept for validation, in [0, 1).
        format: how the file is read; default: by the ending of its name.
        processes: how many processes parse; default: as many as there are cores, one for a small file.
        progress: called with bytes read and bytes in all.
        scratch: directory for temporary files, which have no names; default: beside a ``file://`` place, else the
            system's. They take about eight bytes for each entry.

    Raises:
        DataError: the file is missing, unreadable or malformed (named with the line), has a NaN or infinite number,
            other than two labels, or fewer rows than shards.
        OptionError: shards, processes or validation out of range.
        OutputExists: there is a partition already.
        PluginError: no format is known for the file.
        StorageError: the place cannot be written; StorageFull where the disk is full.
    """
    source = os.fspath(source)
    format = format or format_of(source)
    storage = open_storage(out) if isinstance(out, str) else out
    folder = os.fspath(scratch) if scratch else _scratch_folder(out)
    try:
        check_request(storage, shards, validation, _name_of(out))
        with contextlib.ExitStack() as stack:
            count = _process_count(source, processes)
            files = [stack.enter_context(_scratch_file(folder)) for _ in range(count)]
            spools = list(zip(files, _parse(source, format, seed, files, progress), strict=True))
            shape = _shape(source, format.build(), [summary for _, summary in spools])
            with PartitionWriter(storage, shape, seed=seed, shards=shards, validation=validation) as writer:
                for piece in _pieces(spools, shape):
                    writer.add(piece)
                return writer.finish()
    finally:
        if isinstance(out, str):
            storage.close()


def format_of(source: str | os.PathLike[str], values: Mapping[str, Any] | None = None) -> Reference:
    """The format that a file's name ends like, with these options.

    Raises:
        DataError: no installed format knows the ending.
        OptionError, PluginError: as ``Registry.resolve``; two formats claim the ending, or it is a broken one's.
    """
    from lambdaml_core.registry import default_registry  # who has a reference needs no registry

    try:
        spec = default_registry().find_format(Path(source).name)
    except UnknownPlugin as e:
        raise DataError(
            f"the format of {os.fspath(source)} cannot be told by its name", hint="name the format, such as libsvm"
        ) from e
    return Reference.of(spec, values or {}, where="format")


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


def _process_count(source: str, processes: int | None) -> int:
    if processes is not None:
        if processes < 1:
            raise OptionError(f"processes must be at least 1, not {processes}")
        return processes
    try:
        small = Path(source).stat().st_size < _SMALL_BYTES
    except OSError:
        small = True  # the reader says what is wrong with it
    return 1 if small else min(len(os.sched_getaffinity(0)), _MOST_PROCESSES)


def _parse(
    source: str, format: Reference, seed: int, files: Sequence[IO[bytes]], progress: Progress | None
) -> list[Summary]:
    """The first pass: this process and others parse a share each."""
    with tempfile.TemporaryFile() as failures:
        task = Task(source, asdict(format), seed, 0, len(files), files[0].fileno(), failures.fileno())
        others: list[subprocess.Popen[bytes]] = []
        try:
            for share, file in enumerate(files[1:], 1):
                others.append(_start(replace(task, share=share, scratch=file.fileno(), parent=os.getpid())))
            summaries = [parse_share(task, progress), *map(_finish, others)]
        finally:
            for process in others:
                process.kill()
                process.communicate()
    return summaries


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


def _shape(source: str, reader: RowFormat, summaries: Sequence[Summary]) -> Shape:
    failed = [s for s in summaries if s.line >= 0]
    if failed:
        first = min(failed, key=lambda s: s.line)
        raise DataError(f"{source}, line {first.line + 1}: {first.message}", hint=first.hint)
    rows, entries = (sum(getattr(s, name) for s in summaries) for name in ("rows", "entries"))
    if rows == 0:
        raise DataError(f"{source} has no rows", hint="check that it is the right file")
    features = reader.features or max(1, *(s.features for s in summaries), 0)
    labels = sorted(set[float]().union(*(s.labels for s in summaries)))
    layout = choose_layout(reader.layout, rows, features, entries)
    return Shape(layout, rows, features, entries, tuple(int(v) if v.is_integer() else v for v in labels))


def _pieces(spools: Sequence[tuple[IO[bytes], Summary]], shape: Shape) -> Iterator[Piece]:
    """The second pass: all rows in their order, in pieces of bounded size."""
    runs = [(file.fileno(), run) for file, summary in spools for run in summary.runs]
    count = -(-max(1, shape.bytes, 8 * shape.entries) // PIECE_BYTES)
    bounds = key_ranges(count)
    cuts = [np.r_[0, np.searchsorted(_read(fd, run.offset, "<u8", run.rows), bounds), run.rows] for fd, run in runs]
    labels = np.array(shape.labels, np.float64)
    for i in range(count):
        slices = [_Slice(fd, run, int(cut[i]), int(cut[i + 1])) for (fd, run), cut in zip(runs, cuts, strict=True)]
        if slices := [s for s in slices if s.first < s.last]:
            yield _sorted(slices, labels, shape)


class _Slice:
    """Rows first to last of a run, read from its scratch file when asked for."""

    def __init__(self, fd: int, run: Run, first: int, last: int) -> None:
        self._fd, self._run = fd, run
        self.first, self.last = first, last

    def read(self) -> tuple[NDArray[Any], ...]:
        """Keys, labels, lengths, indices and values."""
        n, count = self._run.rows, self.last - self.first
        at_labels = self._run.offset + 8 * n
        at_indptr = at_labels + 8 * n
        at_indices = at_indptr + 4 * (n + 1)
        at_values = at_indices + 4 * self._run.entries
        indptr = _read(self._fd, at_indptr + 4 * self.first, "<i4", count + 1)
        start, entries = int(indptr[0]), int(indptr[-1] - indptr[0])
        return (
            _read(self._fd, self._run.offset + 8 * self.first, "<u8", count),
            _read(self._fd, at_labels + 8 * self.first, "<f8", count),
            np.diff(indptr),
            _read(self._fd, at_indices + 4 * start, "<i4", entries),
            _read(self._fd, at_values + 4 * start, "<f4", entries),
        )


def _sorted(slices: Sequence[_Slice], labels: NDArray[Any], shape: Shape) -> Piece:
    """The rows of all slices, sorted by key, in the layout of the shards."""
    keys, names, lengths, indices, values = map(np.concatenate, zip(*(s.read() for s in slices), strict=True))
    order = np.argsort(keys)
    y = np.searchsorted(labels, names[order]).astype(np.float32)
    indptr = np.zeros(len(order) + 1, np.int64)
    np.cumsum(lengths, out=indptr[1:])
    if shape.layout == "dense":
        return {"y": y, "x": scatter(order, indptr, indices, values, shape.features)}
    ends, (indices, values) = take_rows(order, indptr, indices, values)
    return {"y": y, "lengths": np.diff(ends).astype(np.int32), "indices": indices, "values": values}


def scatter(
    order: NDArray[Any], indptr: NDArray[Any], indices: NDArray[Any], values: NDArray[Any], features: int
) -> NDArray[np.float32]:
    """Sparse rows as dense ones, (n, features), in the order wanted; cells that are not there are 0."""
    x = np.zeros((len(order), features), np.float32)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order)) * features
    x.reshape(-1)[np.repeat(place, np.diff(indptr)) + indices] = values
    return x


def _read(fd: int, offset: int, dtype: str, count: int) -> NDArray[Any]:
    array = np.empty(count, dtype)
    if count and os.preadv(fd, [array.data.cast("B")], offset) != array.nbytes:
        raise LambdaMLError("a temporary file is shorter than what was written to it")
    return array
