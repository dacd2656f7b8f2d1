"""Waiting on a storage that cannot wait: which values to ask for, and how long to pause."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence

from lambdaml_core.storage.base import StorageCaps

SLICE_S = 0.25
"""Seconds after which a waiter is asked again whether it should go on."""

_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 1e-4, 0.1
_USD_PER_S = 5e-6
"""What polling may cost: a tenth of a second of a function of 3 GB (AWS Lambda, x86, us-east-1, $0.0000166667 per
GB-s)."""


class Polling:
    """Few requests, since each of them is a GET that is paid for, found or not.

    A look asks for as many values as there are connections. After one that finds nothing, one value at a time is asked
    for, the next that is needed first and then in turn, with pauses that grow from a quarter of a latency to 0.1 s, or
    to where they cost no more than 0.000005 dollars a second: they double where a request costs money, and grow by half
    where it does not, which finds a value sooner. After one that finds all that it asked for, more is
    asked for at once, so that what has come together is fetched together.
    """

    def __init__(self, caps: StorageCaps) -> None:
        self._parallel = caps.parallel
        self._first_s = max(_SHORTEST_PAUSE_S, min(_LONGEST_PAUSE_S, caps.latency_s / 4))
        self._longest_s = max(_LONGEST_PAUSE_S, caps.usd.get("get", 0.0) / _USD_PER_S)
        self._growth = 2.0 if caps.usd.get("get") else 1.5
        self.begin()

    def begin(self) -> None:
        """Of a collective: nothing is known of its values."""
        self._at_once = self._parallel
        self._missed: dict[str, int] = {}  # when a value was looked for in vain last
        self._looks = 0
        self._pause_s = self._first_s

    def choose(self, wanted: Sequence[str]) -> Sequence[str]:
        """What to ask for, of what is wanted, in the order in which it is wanted."""
        return sorted(wanted, key=lambda key: self._missed.get(key, 0))[: self._at_once]

    def note(self, asked: Sequence[str], found: Collection[str]) -> None:
        """These were asked for, and these are there."""
        self._looks += 1
        self._missed.update((key, self._looks) for key in asked if key not in found)
        if len(found) == len(asked):
            self._at_once = max(self._parallel, 2 * len(asked))
        else:
            self._at_once = min(self._parallel, max(1, 4 * len(found)))
        if found:
            self._pause_s = self._first_s

    def pause(self) -> float:
        """Seconds until the next look."""
        pause_s = self._pause_s
        self._pause_s = min(self._growth * pause_s, self._longest_s)
        return pause_s


def sleep(seconds: float, may_leave: Callable[[], None]) -> None:
    """Pause for so many seconds; after each slice ``may_leave`` is called.

    Raises:
        Exception: whatever ``may_leave`` raises where the waiter should not go on.
    """
    end = time.monotonic() + seconds
    while (left_s := end - time.monotonic()) > SLICE_S:
        time.sleep(SLICE_S)
        may_leave()
    time.sleep(max(0.0, left_s))
