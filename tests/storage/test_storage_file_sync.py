"""file:// and the disk: data before its name, its name before put returns; and nothing of this for messages.

A crash of the machine cannot be had in a test, so the order of the system calls is looked at, which are made for real.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lambdaml_core.storage import open_storage, storage_reference

LARGE = 100_000


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool | None]]:
    """What was synchronised, named and written: the call's name, and of fsync whether it was a folder's."""
    made: list[tuple[str, bool | None]] = []

    def watched(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*args: Any, **keys: Any) -> Any:
            made.append((name, os.path.isdir(f"/proc/self/fd/{args[0]}") if name == "fsync" else None))  # noqa: PTH112
            return real(*args, **keys)

        return call

    for name in ("fsync", "link", "replace"):
        monkeypatch.setattr(os, name, watched(name))
    return made


@pytest.mark.parametrize("size", [0, 300, LARGE])
@pytest.mark.parametrize("if_absent", [True, False])
def test_a_store_has_data_on_the_disk_before_a_name_and_both_before_it_says_so(
    tmp_path: Path, size: int, if_absent: bool, calls: list[tuple[str, bool | None]]
) -> None:
    store = open_storage(tmp_path.as_uri())
    store.put("to/recycle", [bytes(LARGE)])
    store.delete(["to/recycle"])
    calls.clear()
    store.put("data", [bytes(size)], if_absent=if_absent)
    naming = ("link" if if_absent else "replace", None)
    assert calls == [("fsync", False), naming, ("fsync", True)]


def test_a_create_that_loses_waits_for_no_name(tmp_path: Path, calls: list[tuple[str, bool | None]]) -> None:
    store = open_storage(tmp_path.as_uri())
    store.put("k", [b"first"])
    calls.clear()
    assert store.put("k", [b"second"], if_absent=True) is False
    assert calls == [("fsync", False), ("link", None)]


@pytest.mark.parametrize("url", ["file://{}", "fault+file://{}"])
def test_messages_do_not_wait_for_the_disk(tmp_path: Path, url: str, calls: list[tuple[str, bool | None]]) -> None:
    url = url.format(tmp_path)
    channel = open_storage(url, storage_reference(url, channel=True))
    channel.put("small", [b"x"], if_absent=True)
    channel.put("large", [bytes(LARGE)])
    assert ("fsync", False) not in calls
    assert ("fsync", True) not in calls


@pytest.mark.parametrize("sync", ["true", "false"])
def test_a_url_that_says_so_decides(tmp_path: Path, sync: str, calls: list[tuple[str, bool | None]]) -> None:
    url = f"file://{tmp_path}?sync={sync}"
    open_storage(url, storage_reference(url, channel=True)).put("k", [b"x"])
    assert (("fsync", False) in calls) == (sync == "true")
