"""Labels that are numbers are told apart however large they are, or refused; in files of every kind alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lambdaml_core.data.partition import partition
from lambdaml_core.data.raw import read_raw
from lambdaml_core.errors import DataError


def _csv(folder: Path, labels: list[int]) -> Path:
    path = folder / "rows.csv"
    path.write_text("x,label\n" + "".join(f"{i},{label}\n" for i, label in enumerate(labels)))
    return path


def _libsvm(folder: Path, labels: list[int]) -> Path:
    path = folder / "rows.libsvm"
    path.write_text("".join(f"{label} 1:{i}\n" for i, label in enumerate(labels)))
    return path


def _npz(folder: Path, labels: list[int]) -> Path:
    path = folder / "rows.npz"
    np.savez(path, x=np.ones((len(labels), 2)), y=np.array(labels))
    return path


def _npy(folder: Path, labels: list[int]) -> Path:
    path = folder / "rows.npy"
    np.save(path, np.column_stack([np.ones(len(labels), np.int64), labels]))
    return path


@pytest.mark.parametrize("write", [_csv, _libsvm, _npz, _npy])
def test_numbers_that_two_labels_could_share_are_no_classes(
    tmp_path: Path, write: Callable[[Path, list[int]], Path]
) -> None:
    largest = 2**53 - 1
    source = write(tmp_path, [-largest, largest] * 3)
    assert partition(source, f"file://{tmp_path}/fine", shards=1).labels == (-largest, largest)
    for labels in ([2**60, 2**60 + 1] * 3, [0, 1, 2**53, 2**53 + 1], [0, 1, -(2**63)]):
        source = write(tmp_path, labels)
        with pytest.raises(DataError, match="which is too large for a class"):
            partition(source, f"file://{tmp_path}/out", shards=1)
        with pytest.raises(DataError, match="which is too large for a class"):
            partition(source, f"file://{tmp_path}/out", shards=1, labels=[0, 1, 2**53])
    numbers = partition(source, f"file://{tmp_path}/numbers", shards=1, target="number")
    assert numbers.labels == ()
    preprocessing, features = numbers.preprocessing, numbers.features
    found = read_raw(source, format=None, preprocessing=preprocessing, features=features, labelled=True)
    assert [label for batch in found if batch.labels is not None for label in batch.labels] == [0, 1, -(2**63)]
