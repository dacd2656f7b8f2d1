"""Rows whose labels nobody looks at: ``target = "none"``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lambdaml_core.data.arrays import write_arrays
from lambdaml_core.data.partition import partition
from lambdaml_core.data.shards import Manifest, ShardedData
from lambdaml_core.errors import DataError
from lambdaml_core.storage import open_storage

TABLES = {
    "none": "a,b\n1,2\n3,4\n5,7\n",
    "numbers": "a,b,label\n1,2,0.5\n3,4,0.25\n5,7,9\n",
    "words": "a,b,label\n1,2,x\n3,4,\n5,7,x\n",
}


def without_labels(manifest: Manifest) -> bool:
    return (manifest.classes, manifest.labels) == (0, ())


def test_labels_of_a_table_make_no_difference(tmp_path: Path) -> None:
    found = []
    for kind, text in TABLES.items():
        (tmp_path / f"{kind}.csv").write_text(text)
        store = open_storage(f"memory://unlabelled-{kind}")
        manifest = partition(tmp_path / f"{kind}.csv", store, shards=1, validation=0, target="none")
        assert without_labels(manifest)
        batch = ShardedData(store, manifest, rank=0, size=1, batch_size=3).batch(0)
        assert not batch.y.any()
        found.append(batch.x.tobytes())
    assert found[0] == found[1] == found[2]


def test_rows_of_a_file_may_have_one_label(tmp_path: Path) -> None:
    (tmp_path / "rows.libsvm").write_text("1 1:2 2:3\n1 1:1\n")
    manifest = partition(tmp_path / "rows.libsvm", f"file://{tmp_path}/out", shards=1, validation=0, target="none")
    assert without_labels(manifest)
    assert manifest.rows == 2


def test_arrays_need_no_labels() -> None:
    x = np.arange(6.0).reshape(3, 2)
    labels = {"none": None, "words": ["a", "b", "a"], "numbers": [0.5, 1, 2], "one": [1, 1, 1]}
    for kind, y in labels.items():
        manifest = write_arrays(x, y, open_storage(f"memory://no-y-{kind}"), shards=1, validation=0, target="none")
        assert without_labels(manifest)
    with pytest.raises(DataError, match="3 rows and y 2 labels"):
        write_arrays(x, [1, 2], open_storage("memory://no-y-short"), shards=1, validation=0, target="none")
