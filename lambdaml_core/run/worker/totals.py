"""What a rank has used up to now, its earlier attempts included."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

from lambdaml_core.provider.base import WorkerRef
from lambdaml_core.run.records.attempts import Totals, beat_key
from lambdaml_core.run.records.ranks import usd
from lambdaml_core.run.spec import get_all_json
from lambdaml_core.run.worker.fingerprint import fingerprint
from lambdaml_core.run.worker.timing import Clock
from lambdaml_core.storage import FullStorage
from lambdaml_core.storage.layers import Counts

_REQUESTS = ("put", "get", "delete", "list", "missed", "sent", "received")
_WAYS = ("sent", "received")
_Number = TypeVar("_Number", int, float)


class Used(NamedTuple):
    """What a rank has used up to a moment: bytes sent and received, by place, and dollars for both places and for the
    rank itself."""

    channel: int
    store: int
    usd: float


class Written(Protocol):
    """Who writes checkpoints: how many, their bytes, and the seconds that training waited for them."""

    count: int
    bytes: int
    seconds: float


class Tally:
    """Adds what this process uses to what the attempts before it have used.

    Args:
        clock: of this process.

    Attributes:
        channel, store: what is counted where this process uses them.
        successions: how often this process has handed over: 0 or 1.
        log_bytes: that this process has printed.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.channel, self.store = Counts(), Counts()
        self.successions = self.log_bytes = 0
        self._before: Totals | None = None
        self._began_s: float | None = None
        self._fingerprint: dict[str, Any] | None = None
        self._written: list[Written] = []

    def go_on(self, before: Totals | None) -> None:
        """Count on from what the attempts before this one have used."""
        self._before = before
        self._began_s = before and before["began_s"]

    def begin(self) -> None:
        """The first round of this process is about to begin; all that its numbers depend on is imported."""
        self._fingerprint = fingerprint()
        if self._began_s is None:
            self._began_s = time.time()

    def elapsed_s(self) -> float:
        """Seconds since the first round of the rank's first attempt began."""
        return 0.0 if self._began_s is None else max(0.0, time.time() - self._began_s)

    def count(self, written: Written) -> None:
        """Count what this one writes, too."""
        self._written.append(written)

    def meter(self, prices: Mapping[str, Mapping[str, float]]) -> Callable[[], Used]:
        """What tells how much was used up to now, in so little time that every round can ask; to be got after
        :meth:`go_on`.

        Args:
            prices: dollars of one, by place and charge, and those of ``worker``.
        """
        before = self._before or _NOTHING
        channel, store = self.channel, self.store
        moved = [sum(counts.get(way, 0) for way in _WAYS) for counts in (before["channel"], before["store"])]
        spent = usd(before, prices) if self._before is not None else 0.0
        charged = [
            (counts, name, each)
            for place, counts in (("channel", channel), ("store", store))
            for name, each in prices.get(place, {}).items()
        ]
        mine = prices.get("worker", {})
        second, log_byte = mine.get("seconds", 0.0), mine.get("log_bytes", 0.0)
        spent += mine.get("launches", 0.0)

        def used() -> Used:
            return Used(
                moved[0] + channel.sent + channel.received,
                moved[1] + store.sent + store.received,
                spent
                + sum(getattr(counts, name) * each for counts, name, each in charged)
                + self.clock.elapsed_s() * second
                + self.log_bytes * log_byte,
            )

        return used

    def totals(self) -> Totals:
        """Up to now; to be asked in any thread."""
        before = self._before or _NOTHING
        fingerprints = before["fingerprints"]
        if self._fingerprint is not None and self._fingerprint not in fingerprints:
            fingerprints = [*fingerprints, self._fingerprint]
        attempts = before["attempts"] + 1
        seconds = self.clock.report()
        mine = {"seconds": sum(seconds.values()), "log_bytes": self.log_bytes}
        return Totals(
            attempts=attempts,
            successions=before["successions"] + self.successions,
            began_s=self._began_s,
            seconds=_sum(before["seconds"], seconds),
            channel=_sum(before["channel"], _plain(self.channel)),
            store=_sum(before["store"], _plain(self.store)),
            worker={**_sum(before["worker"], mine), "launches": attempts},
            checkpoints=_sum(before["checkpoints"], self._checkpoints()),
            fingerprints=fingerprints,
        )

    def _checkpoints(self) -> dict[str, float]:
        return {name: float(sum(getattr(w, name) for w in self._written)) for name in ("count", "bytes", "seconds")}


def totals_before(store: FullStorage, ref: WorkerRef) -> Totals | None:
    """What the attempts of a rank have used that came before this one, by the last sign of life that there is."""
    keys = {beat_key(g, ref.rank): g for g in range(ref.generation, -1, -1)}
    for key, beat in get_all_json(store, list(keys)).items():
        totals: Totals = beat["totals"]
        said_nothing = ref.attempt - 1 - beat["attempt"] if keys[key] == ref.generation else ref.attempt
        attempts = totals["attempts"] + said_nothing
        return Totals(**totals | {"attempts": attempts, "worker": totals["worker"] | {"launches": attempts}})
    return None


def round_before(store: FullStorage, ref: WorkerRef) -> int:
    """How far the attempts of this generation that came before this one have said they had come, in rounds."""
    beat = get_all_json(store, [beat_key(ref.generation, ref.rank)])
    return max((int(said["round"]) for said in beat.values()), default=0)


_NOTHING = Totals(
    attempts=0,
    successions=0,
    began_s=None,
    seconds={},
    channel={},
    store={},
    worker={},
    checkpoints={},
    fingerprints=[],
)


def _plain(counts: Counts) -> dict[str, int]:
    return {name: getattr(counts, name) for name in _REQUESTS}


def _sum(before: Mapping[str, _Number], now: Mapping[str, _Number]) -> dict[str, _Number]:
    return {name: before.get(name, 0) + value for name, value in now.items()}
