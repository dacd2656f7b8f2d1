"""Clients that come and go: a close that removes empty folders never takes one from under another client's write."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lambdaml_core.storage import open_storage


@pytest.mark.parametrize("size", [1, 100_000], ids=["small", "recycled"])
def test_writing_while_others_close(tmp_path: Path, size: int) -> None:
    def come_and_go(number: int) -> None:
        for i in range(200):
            store = open_storage(tmp_path.as_uri())
            store.put(f"folder/{number}-{i}", [bytes(size)])
            store.delete([f"folder/{number}-{i}"])
            store.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(come_and_go, range(4)))
    assert list(tmp_path.iterdir()) == []
