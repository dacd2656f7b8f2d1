"""Values in memory and workers in threads that have a price: of classes, in place of the real ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from lambdaml_core.provider.inline import InlineProvider
from lambdaml_core.storage.memory import MemoryStorage

PRICES = {"put": 5e-6, "get": 4e-7, "delete": 1e-7, "sent": 3e-9, "received": 6e-10}
WORKER_PRICES = {"usd_per_worker_s": 2.9e-5, "usd_per_launch": 2e-7, "usd_per_log_byte": 5e-10}


class Priced(MemoryStorage):
    """As ``memory://``, which blocks."""

    caps = replace(MemoryStorage.caps, usd=PRICES, bytes_per_s=1e9)


class Polled(Priced):
    """It answers at once."""

    caps = replace(Priced.caps, blocks=False)

    def get_many(self, keys: Sequence[str], *, wait_s: float = 0.0) -> Mapping[str, bytes]:
        return super().get_many(keys)


class Blind(Polled):
    """It cannot list, as a cache."""

    list = None  # type: ignore[assignment]


def serve(kind: type[MemoryStorage], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have ``memory://`` be this from now on."""
    monkeypatch.setattr("lambdaml_core.storage.memory.MemoryStorage", kind)


class Paid(InlineProvider):
    """Its threads are paid for."""

    def plan(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**super().plan(job), **WORKER_PRICES}


def pay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have ``inline`` be this from now on."""
    monkeypatch.setattr("lambdaml_core.provider.inline.InlineProvider", Paid)
