"""NPY and NPZ: what numpy and scipy write is read back, whatever its dtype and order, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from lambdaml_core.builtin import ArrayOptions
from lambdaml_core.data import numpy_files
from lambdaml_core.data.formats import Block, MalformedRow, is_table
from lambdaml_core.data.numpy_files import Npy, Npz
from lambdaml_core.errors import DataError

ANY = ArrayOptions()
QUIET = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
DTYPES = st.sampled_from(["f8", "f4", "f2", ">f8", ">i2", "u1", "i8", "?"])
CELLS = st.sampled_from([0, 0, 0, 1, 2, 7])
MATRICES = st.builds(
    lambda x, dtype: x.astype(dtype),
    hnp.arrays(np.int8, hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=9), elements=CELLS),
    DTYPES,
)


def joined(reader: Npy | Npz, blocks: list[Block]) -> tuple[NDArray[np.float32], list[Any]]:
    """All rows as a dense matrix, as wide as the entries say, and the labels."""
    parts, labels, first = [], [], 0
    for block in blocks:
        rows = reader.parse(block.data)
        n = len(rows.lines)
        assert block.first == first
        assert rows.lines.tolist() == list(range(n))
        assert [a.dtype.str for a in rows[2:]] == ["<i8", "<i4", "<f4"]
        assert len(rows.indptr) == n + 1
        assert rows.indptr[-1] == len(rows.indices) == len(rows.values)
        width = int(rows.indices.max()) + 1
        matrix = scipy.sparse.csr_array((rows.values, rows.indices, rows.indptr), (n, width))
        matrix.check_format(full_check=True)
        assert matrix.has_canonical_format  # increasing within a row
        parts.append(matrix.toarray())
        labels += rows.labels.tolist()
        first += n
    return np.concatenate(parts), labels


def read(reader: Npy | Npz, path: Path) -> tuple[NDArray[np.float32], list[Any]]:
    return joined(reader, list(reader.blocks(path)))


@QUIET
@given(x=MATRICES, fortran=st.booleans(), label=st.sampled_from([-1, 0, 1]), cells=st.sampled_from([1, 5, 1 << 18]))
def test_a_matrix_with_its_labels_is_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, x: NDArray[Any], fortran: bool, label: int, cells: int
) -> None:
    path = tmp_path / "rows.npy"
    np.save(path, np.asfortranarray(x) if fortran else x)
    with monkeypatch.context() as patch:
        patch.setattr(numpy_files, "_BLOCK_CELLS", cells)
        found, labels = read(Npy(ArrayOptions(label=label)), path)
    assert labels == x[:, label].astype(float).tolist()
    np.testing.assert_array_equal(found, np.delete(x, label, axis=1).astype(np.float32))


@QUIET
@given(x=MATRICES, packed=st.booleans(), words=st.booleans(), data=st.data())
def test_arrays_of_an_npz_file_are_read_back(
    tmp_path: Path, x: NDArray[Any], packed: bool, words: bool, data: st.DataObject
) -> None:
    path = tmp_path / "rows.npz"
    y = data.draw(hnp.arrays("U3" if words else "i4", len(x), elements=st.sampled_from("ab") if words else CELLS))
    (np.savez_compressed if packed else np.savez)(path, rows=x, says=y)
    found, labels = read(Npz(ArrayOptions(x="rows", y="says")), path)
    assert labels == y.tolist()
    np.testing.assert_array_equal(found, x.astype(np.float32))


@QUIET
@given(
    x=MATRICES.filter(lambda x: x.dtype.newbyteorder("=") == x.dtype and x.dtype != np.float16),
    kind=st.sampled_from(["csr", "csc", "coo", "bsr", "dia"]),
    array=st.booleans(),
    packed=st.booleans(),
    cells=st.sampled_from([1, 1 << 18]),
)
def test_what_scipy_writes_is_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, x: NDArray[Any], kind: str, array: bool, packed: bool, cells: int
) -> None:
    path, y = tmp_path / "rows.npz", np.arange(len(x))
    sparse: Any = (scipy.sparse.coo_array if array else scipy.sparse.coo_matrix)(x)
    scipy.sparse.save_npz(path, sparse.asformat(kind), compressed=packed)
    np.save(tmp_path / "y.npy", y)
    with monkeypatch.context() as patch:
        patch.setattr(numpy_files, "_BLOCK_CELLS", cells)
        found, labels = read(Npz(ArrayOptions(labels="y.npy")), path)
    assert labels == y.tolist()
    np.testing.assert_array_equal(found, x.astype(np.float32))


def test_a_sparse_file_can_have_its_labels_too(tmp_path: Path) -> None:
    x = scipy.sparse.csr_array(np.eye(3))
    scipy.sparse.save_npz(tmp_path / "x.npz", x)
    with np.load(tmp_path / "x.npz") as arrays:
        np.savez(tmp_path / "rows.npz", y=np.array(["a", "b", "c"]), **arrays)
    found, labels = read(Npz(ANY), tmp_path / "rows.npz")
    assert labels == ["a", "b", "c"]
    np.testing.assert_array_equal(found, np.eye(3))


def test_entries_of_a_sparse_file_are_put_in_order_and_summed(tmp_path: Path) -> None:
    coo = scipy.sparse.coo_array((np.array([1.0, 2, 3]), (np.array([0, 0, 0]), np.array([2, 0, 2]))), (2, 4))
    scipy.sparse.save_npz(tmp_path / "rows.npz", coo)
    np.save(tmp_path / "y.npy", [0, 1])
    found, _ = read(Npz(ArrayOptions(labels="y.npy")), tmp_path / "rows.npz")
    np.testing.assert_array_equal(found, [[2, 0, 4, 0], [0, 0, 0, 0]])


@pytest.mark.parametrize("y", [np.array(["no", "yes"]), np.array([b"no", b"yes"]), np.array([["no"], ["yes"]])])
def test_labels_beside_the_rows_can_be_words(tmp_path: Path, y: Any) -> None:
    np.save(tmp_path / "x.npy", np.eye(2))
    np.save(tmp_path / "y.npy", y)
    assert read(Npy(ArrayOptions(labels="y.npy")), tmp_path / "x.npy")[1] == ["no", "yes"]


def test_zeros_are_left_out_but_the_width_is_told(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", x=np.array([[0, 1.5, 0], [0, 0, 0]]), y=[0, 1])
    reader = Npz(ArrayOptions(layout="sparse"))
    (block,) = reader.blocks(tmp_path / "rows.npz")
    rows = reader.parse(block.data)
    assert (rows.indptr.tolist(), rows.indices.tolist(), rows.values.tolist()) == ([0, 2, 2], [1, 2], [1.5, 0])
    assert (reader.layout, reader.features, is_table(reader)) == ("sparse", None, False)


def test_rows_to_predict_on_need_no_labels(tmp_path: Path) -> None:
    x, y = np.arange(6.0).reshape(2, 3), np.array([4.0, 5.0])
    np.save(tmp_path / "with.npy", np.c_[x, y])
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "with.npz", x=x, y=y)
    np.savez(tmp_path / "x.npz", x=x)
    beside = ArrayOptions(labels="y.npy")
    readers: dict[str, Npy | Npz] = {"with.npy": Npy(ANY), "x.npy": Npy(ANY), "with.npz": Npz(ANY), "x.npz": Npz(ANY)}
    for name, reader in [*readers.items(), ("x.npy", Npy(beside)), ("x.npz", Npz(beside))]:
        found, labels = joined(reader, list(reader.unlabelled(tmp_path / name, 3)))
        np.testing.assert_array_equal(found, x)
        assert labels == [4, 5] if name.startswith("with") else np.isnan(labels).all()
    np.save(tmp_path / "y.npy", y)
    assert joined(Npy(beside), list(Npy(beside).unlabelled(tmp_path / "x.npy", 3)))[1] == [4, 5]
    assert joined(Npz(beside), list(Npz(beside).unlabelled(tmp_path / "x.npz", 3)))[1] == [4, 5]


@pytest.mark.parametrize(
    ("x", "row", "says"),
    [
        ([[1.0, 2], [0, np.nan], [np.inf, 0]], 1, "feature 1 is nan"),
        ([[1.0, 2], [0, 3], [-np.inf, 0]], 2, "feature 0 is -inf"),
        ([[1e39, 2], [0, 3], [0, np.nan]], 0, "feature 0 is 1e+39, which is too large"),
    ],
)
def test_a_number_that_is_none_is_refused_with_its_row(tmp_path: Path, x: Any, row: int, says: str) -> None:
    y = [0, 1, 0]
    np.savez(tmp_path / "dense.npz", x=x, y=y)
    np.save(tmp_path / "y.npy", y)
    scipy.sparse.save_npz(tmp_path / "sparse.npz", scipy.sparse.csr_array(x))
    np.save(tmp_path / "x.npy", np.c_[y, x])
    for reader, name in (
        (Npz(ANY), "dense.npz"),
        (Npz(ArrayOptions(labels="y.npy")), "sparse.npz"),
        (Npy(ArrayOptions(label=0)), "x.npy"),
    ):
        (block,) = reader.blocks(tmp_path / name)
        with pytest.raises(MalformedRow) as caught:
            reader.parse(block.data)
        assert caught.value.line == row
        assert says in caught.value.message


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    def npy(name: str, array: Any) -> None:
        np.save(tmp_path / name, array, allow_pickle=True)

    npy("line.npy", np.zeros(3))
    npy("cube.npy", np.zeros((2, 2, 2)))
    npy("narrow.npy", np.zeros((2, 1)))
    npy("wide.npy", np.zeros((2, 3)))
    npy("complex.npy", np.zeros((2, 2), complex))
    npy("words.npy", np.array([["a", "b"]]))
    npy("objects.npy", np.array([[1, "b"]], object))
    npy("dates.npy", np.zeros(2, "M8[s]"))
    npy("latin.npy", np.array([b"\xe9", b"a"]))
    npy("table.npy", np.zeros(2, [("a", "f8")]))
    for name in ("line", "cube", "complex", "words", "table"):
        with pytest.raises(DataError, match=f"{name}.npy has an array of"):
            list(Npy(ANY).blocks(tmp_path / f"{name}.npy"))
    with pytest.raises(DataError, match=r"narrow.npy has 1 columns, of which -1 cannot be the labels"):
        list(Npy(ANY).blocks(tmp_path / "narrow.npy"))
    with pytest.raises(DataError, match=r"wide.npy has 3 columns, of which 3 cannot"):
        list(Npy(ArrayOptions(label=3)).blocks(tmp_path / "wide.npy"))
    with pytest.raises(DataError, match=r"objects.npy cannot be read as an array: .* objects"):
        list(Npy(ANY).blocks(tmp_path / "objects.npy"))
    for labels, says in {
        "line": "labels of shape .3,. for 2 rows",
        "wide": "labels of shape",
        "dates": "labels of datetime64",
        "latin": "cannot be read",
        "missing": "does not exist",
    }.items():
        with pytest.raises(DataError, match=f"{labels}.npy .*{says}"):
            list(Npy(ArrayOptions(labels=f"{labels}.npy")).blocks(tmp_path / "wide.npy"))


def test_npz_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", X=np.eye(2), y=[0, 1])
    np.savez(tmp_path / "x.npz", x=np.eye(2))
    with pytest.raises(DataError, match=r"rows.npz has no array 'x'; the option x says which") as caught:
        list(Npz(ANY).blocks(tmp_path / "rows.npz"))
    assert caught.value.hint == "known: X, y"
    with pytest.raises(DataError, match=r"x.npz has no array 'y'; the option y"):
        list(Npz(ANY).blocks(tmp_path / "x.npz"))
    broken: dict[str, Any] = {"format": b"csr", "shape": [2, 2], "data": [1.0], "indices": [5], "indptr": [0, 1, 1]}
    changes: dict[str, dict[str, Any]] = {"index": {}, "start": {"indptr": [0, 9, 1]}, "kind": {"format": b"cs"}}
    for name, changed in changes.items():
        arrays: dict[str, Any] = {**broken, **changed}
        np.savez(tmp_path / f"{name}.npz", **arrays)
        with pytest.raises(DataError, match=f"{name}.npz cannot be read"):
            list(Npz(ANY).blocks(tmp_path / f"{name}.npz"))


def test_more_columns_than_can_be_counted_are_refused(tmp_path: Path) -> None:
    scipy.sparse.save_npz(tmp_path / "x.npz", scipy.sparse.coo_array(([1.0], ([0], [2**32])), (1, 2**33)))
    with pytest.raises(DataError, match=f"{2**33} columns"):
        list(Npz(ANY).blocks(tmp_path / "x.npz"))


def test_a_header_of_more_cells_than_can_be_counted_is_refused_without_a_warning(tmp_path: Path) -> None:
    with (tmp_path / "rows.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (2**62, 6)})
        file.write(bytes(48))
    with pytest.raises(DataError, match=r"rows.npy cannot be read"):
        list(Npy(ANY).blocks(tmp_path / "rows.npy"))


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "array", np.eye(2))
    np.savez(tmp_path / "arrays", x=np.eye(2))
    (tmp_path / "text").write_text("1,2\n3,4\n")
    (tmp_path / "empty").write_bytes(b"")
    names = ["array.npy", "arrays.npz", "text", "empty", ".", "missing"]
    for name in names:
        for reader in (Npy(ANY), Npz(ANY)):
            if (reader.__class__, name) != (Npy, "array.npy"):
                with pytest.raises(DataError, match=str(tmp_path / name)):
                    list(reader.blocks(tmp_path / name))
