"""What the processes of ``test_storage_processes.py`` do. They meet through the storage alone."""

from __future__ import annotations

from lambdaml_core.errors import KeyNotFound
from lambdaml_core.storage.base import Buffer
from lambdaml_core.storage.layers import Complete, FullStorage
from lambdaml_core.storage.url import StorageURL

PATIENCE_S = 120.0
SIZES = (100, 70_000, 70_001, 300_000)  # small values are copied, large ones mapped; the middle two share their pages


def client(url: str) -> FullStorage:
    from lambdaml_core.builtin import FileOptions
    from lambdaml_core.storage.file import FileStorage

    return Complete(FileStorage(StorageURL.parse(url), FileOptions(sync=False)))


def write(url: str, me: int, turns: int, delete: bool) -> None:
    """Put uniform values under one key again and again, in the memory of earlier ones where it is recycled."""
    storage = client(url)
    for turn in range(turns):
        if delete:
            storage.delete(["torn"])
        byte = 100 * me + turn % 100
        storage.put("torn", [bytes([byte]) * SIZES[byte % len(SIZES)]], if_absent=delete)
    storage.put(f"done/{me}", [b""])


def read(url: str, writers: int) -> tuple[int, int]:
    """Read that key until the writers are done: how many values were intact, and how many of these torn."""
    storage, intact, torn, last = client(url), 0, 0, False
    while not last:
        last = len(storage.get_many([f"done/{i}" for i in range(writers)])) == writers
        try:
            data = storage.get("torn")
        except KeyNotFound:
            continue
        whole = is_uniform(data)
        if storage.intact("torn", data):
            intact += 1
            torn += not whole
    return intact, torn


def is_uniform(data: Buffer) -> bool:
    copy = bytes(data)
    return bool(copy) and copy == bytes([copy[0]]) * SIZES[copy[0] % len(SIZES)]
