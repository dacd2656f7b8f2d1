"""What the processes of ``test_storage_processes.py`` do. They meet through the storage alone."""

from __future__ import annotations

from lambdaml_core.errors import KeyNotFound
from lambdaml_core.storage.base import Buffer
from lambdaml_core.storage.layers import Complete, FullStorage
from lambdaml_core.storage.url import StorageURL
from lambdaml_core.testing.storage_clients import pattern

PATIENCE_S = 60.0
SIZES = (100, 70_000, 70_001, 300_000)  # small values are copied, large ones mapped; the middle two share their pages


def client(url: str) -> FullStorage:
    from lambdaml_core.builtin import FileOptions
    from lambdaml_core.storage.file import FileStorage

    return Complete(FileStorage(StorageURL.parse(url), FileOptions()))


def race(url: str, me: int, size: int, turns: int) -> list[tuple[bool, bytes | None]]:
    """Create one key per turn at the same moment as all others: whether I won, and whose value I read."""
    storage, outcomes = client(url), []
    for turn in range(turns):
        storage.put(f"ready/{turn}/{me}", [b""])
        for other in range(size):
            assert storage.get_many([f"ready/{turn}/{other}"], wait_s=PATIENCE_S)
        created = storage.put(f"race/{turn}", [b"%04d" % me, pattern(100_000 + me, seed=me)], if_absent=True)
        value = bytes(storage.get(f"race/{turn}"))
        whole = value[4:] == pattern(100_000 + int(value[:4]), seed=int(value[:4]))
        outcomes.append((created, value[:4] if whole else None))
    storage.close()
    return outcomes


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


def pass_on(url: str, me: int, size: int, turns: int) -> int:
    """Take the token from the one before and give it to the next; returns the sum of what went by."""
    storage, total = client(url), 0
    for turn in range(turns):
        if (turn, me) != (0, 0):
            source = f"token/{turn}/{me}"
            token = storage.get_many([f"never/{me}", source], wait_s=PATIENCE_S)
            total += int(bytes(token[source]))
            storage.delete([source])
        after = f"token/{turn}/{me + 1}" if me + 1 < size else f"token/{turn + 1}/0"
        storage.put(after, [b"%d" % (turn * size + me)])
    return total
