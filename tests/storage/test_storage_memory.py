"""memory:// obeys the laws, and is one set of values per name."""

from __future__ import annotations

import itertools

import pytest

from lambdaml_core.errors import StorageFull, URLError
from lambdaml_core.options import NoOptions
from lambdaml_core.storage import StorageURL
from lambdaml_core.storage.memory import MemoryStorage
from lambdaml_core.testing.storage import StorageLaws

names = itertools.count()


def memory(name: str) -> MemoryStorage:
    return MemoryStorage(StorageURL.parse(f"memory://{name}"), NoOptions())


class TestMemoryStorage(StorageLaws):
    @pytest.fixture
    def url(self) -> str:
        return f"memory://laws-{next(names)}"


def test_names_are_separate() -> None:
    memory("one").put("k", [b"1"])
    memory("one/more").put("k", [b"2"])
    memory("two").put("k", [b"3"])
    assert [bytes(memory(name).get("k")) for name in ("one", "one/more", "two")] == [b"1", b"2", b"3"]


def test_values_outlive_their_clients_until_deleted() -> None:
    first = memory("outlive")
    first.put("run/k", [b"v"])
    first.close()
    del first
    assert memory("outlive").get("run/k") == b"v"
    memory("outlive").delete(memory("outlive").list("run/"))
    assert list(memory("outlive").list("")) == []


def test_no_memory_left_is_a_storage_error() -> None:
    parts = [bytes(1 << 30)] * (1 << 18)  # 256 TiB, more than any address space; the one GiB is never touched
    with pytest.raises(StorageFull, match="big"):
        memory("full").put("big", parts)
    assert list(memory("full").list("")) == []


@pytest.mark.parametrize("url", ["memory://user@name", "memory://name:80", "memory://user:secret@name"])
def test_only_a_name(url: str) -> None:
    with pytest.raises(URLError, match="more than a name") as refused:
        MemoryStorage(StorageURL.parse(url), NoOptions())
    assert "secret" not in str(refused.value)
