"""Storages that break one law of several processes each; ``test_storage_kit.py`` runs them."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from broken_base import PATIENCE_S, Broken, BrokenFiles, suites_of

from lambdaml_core.options import NoOptions
from lambdaml_core.storage import StorageURL
from lambdaml_core.storage.base import Buffer, Parts
from lambdaml_core.storage.memory import MemoryStorage


class SaysHost(Broken):
    """Is in one process, and says that all of its machine see it."""

    law = "test_values_cross_processes"
    caps = replace(MemoryStorage.caps, scope="host")


class LocksItsOwnProcess(BrokenFiles):
    """Looks first and writes then, and keeps other threads out meanwhile, but no other process."""

    law = "test_one_of_many_processes_creates"
    lock: ClassVar[threading.Lock] = threading.Lock()

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        with self.lock:
            if if_absent and self.get_many([key]):
                return False
            return super().put(key, data)


class WaitsForItsOwnProcess(BrokenFiles):
    """Is woken by puts of its own process only."""

    law = "test_a_wait_ends_when_another_process_puts"
    changed: ClassVar[threading.Condition] = threading.Condition()

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        with self.changed:
            self.changed.notify_all()
            return super().put(key, data, if_absent=if_absent)

    def get_many(self, keys: Sequence[str], *, wait_s: float = 0.0) -> Mapping[str, Buffer]:
        if wait_s <= 0 or not keys:
            return super().get_many(keys)
        with self.changed:
            self.changed.wait_for(lambda: super(WaitsForItsOwnProcess, self).get_many(keys), wait_s)
        return super().get_many(keys)


class FlushesAtTheEnd(BrokenFiles):
    """Who closes takes all values away, those of others too."""

    law = "test_values_outlive_their_processes"
    mistake = "whole buckets or caches emptied at start and end"

    def close(self) -> None:
        self.delete(self.list(""))
        super().close()


class FlushesAtTheStart(BrokenFiles):
    law = "test_values_cross_processes"
    mistake = "whole buckets or caches emptied at start and end"
    flushed: ClassVar[set[int]] = set()

    def __init__(self, url: StorageURL, options: NoOptions) -> None:
        super().__init__(url, options)
        if os.getpid() not in self.flushed:  # its own process's values may stay
            self.flushed.add(os.getpid())
            self.delete(self.list(""))


class WritesWhenClosed(BrokenFiles):
    """Puts are kept, and answered, until the client is closed."""

    law = "test_values_outlive_their_processes"

    def __init__(self, url: StorageURL, options: NoOptions) -> None:
        super().__init__(url, options)
        self._kept: dict[str, bytes] = {}

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        self._kept[key] = b"".join(data)
        return True

    def close(self) -> None:
        for key, value in self._kept.items():
            super().put(key, [value])
        super().close()


class NeverLetsGo(BrokenFiles):
    """Has a thread that goes on for ever, and keeps its process from ending."""

    law = "test_a_process_that_used_it_ends"

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        if sys.argv[0].endswith("peer.py"):  # the process of the suite itself is to end
            threading.Thread(target=threading.Event().wait).start()
        return super().put(key, data, if_absent=if_absent)


class ClosesWithoutItsThreads(Broken):
    """Has a thread that goes on for longer than anybody waits."""

    law = "test_close_leaves_no_threads"

    def put(self, key: str, data: Parts, *, if_absent: bool = False, ttl_s: float | None = None) -> bool:
        threading.Thread(target=threading.Event().wait, args=(4 * PATIENCE_S,)).start()
        return super().put(key, data, if_absent=if_absent)


globals().update(suites_of(__name__))
