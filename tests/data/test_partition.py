"""The partitioner: every row once, in one order, whatever the shards and processes; and nothing half-written."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from child_processes import children
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_svmlight_file

from lambdaml_core.builtin import LibsvmOptions
from lambdaml_core.data.arrays import write_arrays
from lambdaml_core.data.partition import partition
from lambdaml_core.data.samples import CENSUS_INCOME
from lambdaml_core.data.shards import MANIFEST_KEY, Manifest, ShardedData, Split
from lambdaml_core.data.sources import format_of
from lambdaml_core.errors import DataError, LambdaMLError, OptionError, OutputExists, StorageFull
from lambdaml_core.specs import Reference
from lambdaml_core.storage import FullStorage, open_storage
from lambdaml_core.storage.base import Parts
from lambdaml_core.storage.layers import Layer

Entries = tuple[tuple[int, float], ...]
Row = tuple[Any, Entries]


def libsvm(**options: Any) -> Reference:
    factory, names = "lambdaml_core.data.libsvm:Libsvm", f"{LibsvmOptions.__module__}:LibsvmOptions"
    return Reference("data_format", "libsvm", factory, names, options)


def store_at(folder: Path) -> FullStorage:
    return open_storage(f"file://{folder}")


def rows_of(store: FullStorage, manifest: Manifest, split: Split, size: int) -> list[Row]:
    """The rows of a split, in order, as the union over ranks of all batches; cells that are 0 are left out."""
    rows: list[Row] = []
    for rank in range(size):
        data = ShardedData(store, manifest, rank=rank, size=size, batch_size=5, split=split)
        for step in range(data.steps_per_epoch):
            x, y, n, _ = data.batch(step)
            dense = np.asarray(x.todense()) if manifest.layout == "csr" else x
            assert dense.shape == (n, manifest.features)
            for cells, c in zip(dense, y, strict=True):
                entries = tuple((int(i), float(cells[i])) for i in np.flatnonzero(cells))
                rows.append((manifest.labels[int(c)], entries))
    return rows


LABELS = st.sampled_from([(0, 1), (-1, 1), (1, 2), (-3, 7), (0.5, 2)])


@st.composite
def tables(draw: st.DrawFn) -> list[Row]:
    """Rows of both classes."""
    labels = draw(LABELS)
    entry = st.dictionaries(st.integers(0, 6), st.sampled_from([1.0, -2.5, 0.125, 3e5]), max_size=7)
    row = st.tuples(st.sampled_from(labels), entry.map(lambda d: tuple(sorted(d.items()))))
    table = draw(st.lists(row, min_size=4, max_size=40))
    return [(labels[0], ((0, 1.0),)), (labels[1], ()), *table]


def text_of(table: list[Row]) -> str:
    return "".join(f"{y} " + " ".join(f"{i + 1}:{v!r}" for i, v in entries) + "\n" for y, entries in table)


@given(
    tables(),
    st.integers(1, 4),
    st.integers(1, 5),
    st.sampled_from([0.0, 0.2, 0.5]),
    st.sampled_from(["auto", "dense", "sparse"]),
    st.integers(0, 99),
)
def test_every_row_comes_back_once(
    tmp_path_factory: pytest.TempPathFactory,
    table: list[Row],
    shards: int,
    size: int,
    validation: float,
    layout: str,
    seed: int,
) -> None:
    folder = tmp_path_factory.mktemp("partition")
    source = folder / "rows.libsvm"
    source.write_text(text_of(table))
    store = store_at(folder / "out")
    train = len(table) - max(1, round(len(table) * validation)) if validation else len(table)
    if train < shards:
        shards = train
    manifest = partition(
        source, store, shards=shards, seed=seed, validation=validation, format=libsvm(layout=layout), processes=1
    )
    kept = rows_of(store, manifest, "train", size), rows_of(store, manifest, "validation", size)
    assert Counter(kept[0] + kept[1]) == Counter(table)
    assert (manifest.rows, manifest.validation_rows) == (len(kept[0]), len(kept[1])) == (train, len(table) - train)
    assert [len(manifest.train), max(s.rows for s in manifest.train)] == [shards, -(-train // shards)]
    assert manifest.labels == tuple(sorted({y for y, _ in table}))
    store.close()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of several blocks, so that several processes have something to do."""
    path = tmp_path_factory.mktemp("source") / "large.libsvm"
    rng = np.random.default_rng(1)
    lines = []
    for number in range(30_000):
        columns = np.flatnonzero(rng.random(60) < 0.3) + 1
        lines.append(f"{number % 3 // 2} " + " ".join(f"{c}:{(number * c) % 997 / 8}" for c in columns) + "\n")
        if number % 1000 == 0:
            lines.append("# a comment\n\n")
    path.write_text("".join(lines))
    assert path.stat().st_size > 3 << 20
    return path


def values_of(folder: Path) -> dict[str, bytes]:
    store = store_at(folder)
    return {key: bytes(store.get(key)) for key in store.list("")}


def test_processes_and_packing_change_no_byte(large: Path, tmp_path: Path) -> None:
    packed = tmp_path / "large.libsvm.gz"
    packed.write_bytes(gzip.compress(large.read_bytes(), 1))
    for name, source, processes in (("1", large, 1), ("2", large, 2), ("3", large, 3), ("packed", packed, 2)):
        partition(source, f"file://{tmp_path / name}", shards=3, processes=processes)
    expected = values_of(tmp_path / "1")
    assert len(expected) == 7
    for name in ("2", "3", "packed"):
        assert values_of(tmp_path / name) == expected


def test_the_number_of_shards_changes_no_row_of_any_rank(large: Path, tmp_path: Path) -> None:
    held: list[list[bytes]] = []
    for shards in (1, 3, 7):
        store = store_at(tmp_path / str(shards))
        manifest = partition(large, store, shards=shards, processes=1)
        held.append([])
        for rank in range(3):
            data = ShardedData(store, manifest, rank=rank, size=3, batch_size=100)
            for x, y, _, _ in data.blocks():
                held[-1] += [x.data.tobytes(), x.indices.tobytes(), x.indptr.tobytes(), y.tobytes()]
    assert held[0] == held[1] == held[2]


def test_the_rows_are_those_that_scikit_learn_reads(large: Path, tmp_path: Path) -> None:
    x, y = load_svmlight_file(str(large), dtype=np.float32, zero_based=False)
    expected = np.column_stack([y.astype(np.float32), x.toarray()])
    store = store_at(tmp_path / "out")
    manifest = partition(large, store, shards=2, processes=2)
    found: list[bytes] = []
    for split in ("train", "validation"):
        for block in ShardedData(store, manifest, rank=0, size=1, batch_size=9, split=split).blocks():
            found += map(bytes, np.column_stack([block.y, block.x.toarray()]))
    assert sorted(found) == sorted(map(bytes, expected))


def test_seeds_give_other_orders_and_splits(large: Path, tmp_path: Path) -> None:
    firsts = []
    for seed in (0, 1):
        store = store_at(tmp_path / str(seed))
        manifest = partition(large, store, shards=1, seed=seed, processes=1)
        firsts.append(ShardedData(store, manifest, rank=0, size=1, batch_size=50).batch(0).x.data.tobytes())
    assert firsts[0] != firsts[1]


def test_a_file_and_the_same_arrays_make_one_partition(tmp_path: Path) -> None:
    x, y = load_svmlight_file(str(CENSUS_INCOME), zero_based=False)
    partition(CENSUS_INCOME, f"file://{tmp_path}/file", shards=3, seed=5)
    write_arrays(x, y, store_at(tmp_path / "arrays"), shards=3, seed=5)
    assert values_of(tmp_path / "file") == values_of(tmp_path / "arrays")


def test_progress_ends_with_the_whole_file(large: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    partition(large, f"file://{tmp_path}/out", shards=1, processes=1, progress=lambda *at: seen.append(at))
    assert seen == sorted(seen)
    assert seen[-1] == (large.stat().st_size,) * 2


def test_layout_is_dense_from_half_of_the_cells_on(tmp_path: Path) -> None:
    for entries, layout in ((2, "dense"), (1, "csr")):
        source = tmp_path / f"{entries}.libsvm"
        source.write_text(
            "".join(f"{n % 2}" + "".join(f" {i}:1" for i in range(1, entries + 1)) + "\n" for n in range(9))
        )
        manifest = partition(
            source, f"file://{tmp_path / layout}", shards=1, format=libsvm(features=4 if entries == 2 else 3)
        )
        assert manifest.layout == layout


def test_a_large_shard_is_cut_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lambdaml_core.data.writer._SHARD_BYTES", 1 << 20)
    monkeypatch.setattr("lambdaml_core.data.merge.PIECE_BYTES", 1 << 19)
    manifest = partition(CENSUS_INCOME, f"file://{tmp_path}/out", shards=2, validation=0)
    assert len(manifest.train) > 2
    assert max(shard.bytes for shard in manifest.train) < 1.1 * (1 << 20)


# --- what is refused, and that nothing is left


def left(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1 1:1\n0 1:x\n", "rows.libsvm, line 2: the value of index 1 is 'x'"),
        ("1 1:1\n\n0 1:nan\n", "rows.libsvm, line 3: the value of index 1 is 'nan'"),
        ("1 1:1\n1 2:1\n", "all rows have the label 1"),
        ("1 1:1\n0 2:1\n", "1 rows to train on cannot be cut into 2 shards"),
        ("", "has no rows"),
        ("# only a comment\n\n", "has no rows"),
    ],
)
@pytest.mark.parametrize("processes", [1, 2])
def test_bad_data_is_refused_and_nothing_is_left(tmp_path: Path, text: str, says: str, processes: int) -> None:
    source = tmp_path / "rows.libsvm"
    source.write_text(text)
    with pytest.raises(DataError, match=says):
        partition(source, f"file://{tmp_path}/out", shards=2, processes=processes)
    assert left(tmp_path) == ["rows.libsvm"]


def test_the_first_of_several_bad_lines_is_named_however_many_processes(large: Path, tmp_path: Path) -> None:
    lines = large.read_text().splitlines(keepends=True)
    source = tmp_path / "rows.libsvm"
    for first in (100, 15_000):
        bad = list(lines)
        for number in range(first, len(lines), 1000):
            bad[number] = "0 1:oops\n"
        source.write_text("".join(bad))
        for processes in (1, 2, 3):
            with pytest.raises(DataError, match=f"line {first + 1}:"):
                partition(source, f"file://{tmp_path}/out", shards=2, processes=processes)
    assert left(tmp_path) == ["rows.libsvm"]


def test_bad_requests_are_refused(tmp_path: Path) -> None:
    out = f"file://{tmp_path}/out"
    for options in ({"shards": 0}, {"shards": 1, "validation": 1.0}, {"shards": 1, "validation": -0.1}):
        with pytest.raises(OptionError):
            partition(CENSUS_INCOME, out, **options)
    with pytest.raises(OptionError, match="processes"):
        partition(CENSUS_INCOME, out, shards=1, processes=0)
    with pytest.raises(DataError, match="cannot be told"):
        format_of("rows.words")
    with pytest.raises(DataError, match="No such file"):
        partition(tmp_path / "none.libsvm", out, shards=1)
    with pytest.raises(DataError, match="line 1: index 11 is larger than 9"):
        partition(CENSUS_INCOME, out, shards=1, format=libsvm(features=9))
    assert left(tmp_path) == []


def test_what_exists_stays_as_it_is(tmp_path: Path) -> None:
    out = f"file://{tmp_path}/out"
    partition(CENSUS_INCOME, out, shards=2)
    before = values_of(tmp_path / "out")
    with pytest.raises(OutputExists, match="holds a partition already"):
        partition(CENSUS_INCOME, out, shards=3)
    store_at(tmp_path / "out").delete([MANIFEST_KEY])
    with pytest.raises(OutputExists, match=r"train-00000.bin exists already"):
        partition(CENSUS_INCOME, out, shards=1)
    before.pop(MANIFEST_KEY)
    assert values_of(tmp_path / "out") == before


class FailsAt(Layer):
    """A storage in which the n-th put fails."""

    def __init__(self, inner: FullStorage, countdown: int, error: BaseException) -> None:
        super().__init__(inner)
        self.countdown, self.error = countdown, error

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        self.countdown -= 1
        if self.countdown < 0:
            raise self.error
        return super().put(key, data, if_absent=if_absent, ttl_s=ttl_s)


@pytest.mark.parametrize("puts", range(7))
@pytest.mark.parametrize("error", [StorageFull("no room"), KeyboardInterrupt()])
def test_a_failure_at_any_put_leaves_nothing(tmp_path: Path, puts: int, error: BaseException) -> None:
    store = store_at(tmp_path / "out")
    with pytest.raises(type(error)):
        partition(CENSUS_INCOME, FailsAt(store, puts, error), shards=3)
    assert list(store.list("")) == []


@pytest.mark.parametrize("processes", [1, 2])
def test_an_interrupt_while_parsing_leaves_nothing(large: Path, tmp_path: Path, processes: int) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        partition(large, f"file://{tmp_path}/out", shards=2, processes=processes, progress=interrupt)
    assert left(tmp_path) == []
    assert children() == []


def in_process(script: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=True)


LIMITED = """
import resource, sys
from lambdaml_core.data.partition import partition
from lambdaml_core.errors import StorageFull
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
try:
    partition(sys.argv[1], sys.argv[2], shards=1, processes=int(sys.argv[4]))
except StorageFull as e:
    print(e.message)
"""


@pytest.mark.parametrize("processes", ["1", "2"])
def test_no_room_for_temporary_files(large: Path, tmp_path: Path, processes: str) -> None:
    """A limit on the size of files stands in for a full disk: the kernel refuses the write in the same way."""
    done = in_process(LIMITED, str(large), f"file://{tmp_path}/out", str(1 << 20), processes)
    assert done.stdout == "no room for temporary files\n"
    assert left(tmp_path) == []


def test_no_room_for_shards(large: Path, tmp_path: Path) -> None:
    """Three processes' temporary files are smaller than the one shard."""
    done = in_process(LIMITED, str(large), f"file://{tmp_path}/out", str(3 << 20), "3")
    assert done.stdout.startswith("no room for train-00000.bin")
    assert left(tmp_path) == []


def test_a_process_that_dies_is_told_of(large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(LambdaMLError, match="a process that parses has failed"):
        partition(large, f"file://{tmp_path}/out", shards=1, processes=2)
    assert left(tmp_path) == []


# --- memory

MEASURED = """
import sys
from lambdaml_core.data import merge, partition, writer
def peak():
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM")) * 1024
writer._SHARD_BYTES, merge.PIECE_BYTES = 4 << 20, 2 << 20
before = peak()
partition.partition(sys.argv[1], sys.argv[2], shards=1, processes=1)
print(peak() - before)
"""


def test_memory_depends_on_the_size_of_shards_and_not_on_that_of_the_file(tmp_path: Path) -> None:
    with gzip.open(CENSUS_INCOME) as file:
        text = file.read()
    grown = []
    for copies in (3, 12):  # 13 and 51 MB of text, 17 and 70 MB of shards
        source = tmp_path / f"{copies}.libsvm"
        source.write_bytes(text * copies)
        grown.append(int(in_process(MEASURED, str(source), f"file://{tmp_path}/{copies}").stdout))
    assert grown[0] < 70e6
    assert grown[1] < 1.3 * grown[0]
