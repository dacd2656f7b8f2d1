"""The asynchronous exchange over a storage: ranks publish, and merge the latest that they find of the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from lambdaml_core.comm.base import Arrays
from lambdaml_core.comm.contents import InPlace
from lambdaml_core.comm.engine import DEADLINE_S
from lambdaml_core.comm.layout import Layout, Workspace, flatten
from lambdaml_core.comm.polling import SLICE_S, Polling, sleep
from lambdaml_core.comm.slots import EMPTY, Slot, Slots, is_last
from lambdaml_core.comm.wire import decode
from lambdaml_core.errors import DeadlineExpired, NotSupported, ResultLost, UsageError
from lambdaml_core.storage.base import Buffer
from lambdaml_core.storage.layers import FullStorage

FOREVER = (1 << 63) - 1
"""A clock that nobody reaches: who merges with it waits until all have finished."""

_LOOKS = 3  # for a slot that is replaced between its head and it, before an older one is taken
_MOST = 64  # clocks of one rank that are asked for at once


class SlotExchange:
    """Implements :class:`~lambdaml_core.comm.base.Exchange` over a channel, as ``slots.py`` says. One rank alone
    touches none.

    Args:
        channel: prefixed by the run. It must create once.
        generation: as in :class:`~lambdaml_core.comm.engine.Engine`.
        restored: an earlier process of this rank may have published; without it, :meth:`resume` looks for nothing.
        deadline_s: time without a sign of life of a rank before a wait for it is given up.
        signs, interrupt: as in :class:`~lambdaml_core.comm.engine.Engine`; ``signs`` raises ResultLost where a rank
            has ended.

    Attributes:
        finished: ranks whose last slot has been read, or published here.
        waiting: whether it waits for others now.
        waited_s: seconds spent waiting for others.
    """

    def __init__(
        self,
        channel: FullStorage,
        *,
        rank: int,
        size: int,
        generation: int = 0,
        restored: bool = False,
        deadline_s: float = DEADLINE_S,
        signs: Callable[[Collection[int], int], Mapping[int, float]] | None = None,
        interrupt: Callable[[], None] | None = None,
    ) -> None:
        if size > 1 and not channel.caps.creates_once:
            raise NotSupported("the channel cannot create a value exactly once", hint="choose another channel")
        self.rank, self.size = rank, size
        self.finished: set[int] = set()
        self.waiting = False
        self.waited_s = 0.0
        self._restored, self._deadline_s, self._signs, self._interrupt = restored, deadline_s, signs, interrupt
        self._polling = None if channel.caps.blocks else Polling(channel.caps)
        self._slots = Slots(channel, rank=rank, size=size, generation=generation)
        self._seen = [EMPTY] * size
        self._heads = [0] * size  # the newest clock that a rank is known to have published
        self._doubtful: set[int] = set()  # ranks whose head says less than it should
        self._passed_over: set[tuple[int, int]] = set()  # rank and clock of slots that none is to be woken by
        self._owner = False
        self._lost: ResultLost | None = None  # unless another look finds something
        self._workspace = Workspace()

    @property
    def clocks(self) -> Sequence[int]:
        """Of the slots that were read last, and of this rank's own."""
        return [slot.clock for slot in self._seen]

    @property
    def own(self) -> Slot:
        """This rank's slot."""
        return self._seen[self.rank]

    # --- this rank's own slot

    def resume(self, x: Arrays) -> int:
        """As :meth:`Exchange.resume`.

        Raises:
            ResultLost: there was a slot, and it is nowhere.
        """
        if self.size == 1:
            return 0
        self._take_ownership()
        if not self._restored:
            return 0
        contents = self._contents(x)
        head, _ = self._slots.heads([self.rank]).get(self.rank, (0, 0))
        slot = self._slots.search(self.rank, head, contents)
        if slot is None:
            if head:
                raise ResultLost(
                    f"the slot of rank {self.rank}, which had come to clock {head}, is nowhere",
                    hint="the channel has lost it; give it more memory",
                )
            return 0
        contents.take(0, decode(slot.data))
        self._keep(self.rank, slot)
        self._slots.tell(slot)
        self._slots.adopt(slot.clock)
        return slot.clock

    def publish(self, x: Arrays, *, clock: int, last: bool = False) -> None:
        """As :meth:`Exchange.publish`."""
        if clock != self.own.clock + 1:
            raise UsageError(f"clock {clock} cannot follow clock {self.own.clock}", hint="publish clock by clock")
        self._publish(x, clock, last)

    def begin(self, x: Arrays, kept: Buffer) -> int:
        """Begin with a slot that was kept (:func:`~lambdaml_core.comm.slots.durable`) of an earlier generation, whose
        channel is gone.

        Returns:
            Its clock; x is what was published with it.

        Raises:
            UsageError: this rank has a slot already.
            CorruptMessage, MismatchedMessage: it is not what was kept of these arrays.
            ResultLost: as :meth:`publish`.
        """
        if self.own.clock:
            raise UsageError(f"rank {self.rank} has a slot already, of clock {self.own.clock}")
        message = decode(kept, key="that was kept")
        self._contents(x).take(0, message)
        clock = message.header.sequence
        self._publish(x, clock, is_last(message.header))
        return clock

    def _publish(self, x: Arrays, clock: int, last: bool) -> None:
        if not self._owner:
            self._take_ownership()
        slot = self._slots.make(self._contents(x), clock, last)
        if self.size > 1:
            self._slots.create(slot)
        self._keep(self.rank, slot)

    def _take_ownership(self) -> None:
        if self.size > 1:
            self._slots.take_ownership()
        self._owner = True

    # --- everybody's slots

    def merge(self, x: Arrays, *, min_clock: int) -> Sequence[int]:
        """As :meth:`Exchange.merge`.

        Raises:
            ResultLost: another process of this rank has taken over; or a rank has ended, and its slot is nowhere.
        """
        contents = self._contents(x)
        others = [rank for rank in range(self.size) if rank != self.rank and rank not in self.finished]
        for _ in range(_LOOKS):
            if others:
                others = self._look(others, contents)
        missing = [rank for rank in range(self.size) if self._is_missing(rank, min_clock)]
        if missing:
            self._wait(missing, min_clock, contents)
        self._add(x, contents)
        return self.clocks

    def _add(self, x: Arrays, contents: InPlace) -> None:
        """Put the sum of all slots that were read into x."""
        slots = [slot for slot in self._seen if slot.clock]
        if not slots:
            for array in x.values():
                array[...] = 0
            return
        fold = contents.fold(0)
        for slot in slots:
            fold.add(slot.pieces)
        fold.finish()

    def _is_missing(self, rank: int, min_clock: int) -> bool:
        clock = self._seen[rank].clock
        unread = clock == 0 and self._heads[rank] > 0  # it has published, and cannot count as nothing
        return rank != self.rank and rank not in self.finished and (clock < min_clock or unread)

    def _look(self, ranks: Iterable[int], contents: InPlace) -> list[int]:
        """Read the newer slots of these ranks. Returns those whose head has said that there is one, and it was gone."""
        ranks = list(ranks)
        heads = self._slots.heads(ranks)
        newer = {rank: [clock] for rank, (clock, _) in heads.items() if clock > self._seen[rank].clock}
        for rank in ranks:
            clock, _ = heads.get(rank, (0, 0))
            (self._doubtful.add if clock < max(1, self._heads[rank]) else self._doubtful.discard)(rank)
            self._heads[rank] = max(self._heads[rank], clock)
        for rank, slot in self._slots.read(newer, contents).items():
            if slot.token == heads[rank][1]:
                self._keep(rank, slot)
        gone = [rank for rank, (clock,) in newer.items() if self._seen[rank].clock < clock]
        self._doubtful.update(gone)
        return gone

    def _keep(self, rank: int, slot: Slot | None) -> None:
        if slot is None or slot.clock <= self._seen[rank].clock:
            return
        self._seen[rank] = slot
        self._heads[rank] = max(self._heads[rank], slot.clock)
        if slot.last:
            self.finished.add(rank)

    # --- waiting

    def _wait(self, missing: list[int], min_clock: int, contents: InPlace) -> None:
        """Until none of these is missing any more."""
        began = heard = time.monotonic()
        quarters = 0
        self.waiting, self._lost = True, None
        if self._polling is not None:
            self._polling.begin()
        try:
            self.mend()
            while missing:
                before = self.clocks
                if self._polling is None:
                    self._look_within(missing, min_clock, contents)
                else:
                    self._look_after_pause(missing, contents, self._polling)
                self._may_leave()
                missing = [rank for rank in missing if self._is_missing(rank, min_clock)]
                if self.clocks != before:
                    heard, quarters, self._lost = time.monotonic(), 0, None
                elif time.monotonic() - heard >= (quarters + 1) * self._deadline_s / 4:
                    quarters += 1
                    self.mend()
                    for rank in self._doubtful.intersection(missing):
                        self._keep(rank, self._slots.search(rank, self._heads[rank], contents))
                    missing = [rank for rank in missing if self._is_missing(rank, min_clock)]
                    if missing:
                        self._ask_for(missing, min_clock, time.monotonic() - heard)
        finally:
            self.waiting = False
            self.waited_s += time.monotonic() - began

    def _look_within(self, missing: Sequence[int], min_clock: int, contents: InPlace) -> None:
        """Take what is there, or what comes within a slice of time."""
        self._look(missing, contents)
        wanted = {rank: self._clocks_to_come(rank, min_clock) for rank in missing if self._is_missing(rank, min_clock)}
        if len(wanted) == len(missing):
            found = self._slots.read(wanted, contents, wait_s=min(SLICE_S, self._deadline_s / 8))
            owners = self._slots.owners(found) if found else {}
            for rank, slot in found.items():
                if owners.get(rank) == slot.token:
                    self._keep(rank, slot)
                else:  # of a process that may have been overtaken: if not, the head will say so
                    self._passed_over.add((rank, slot.clock))

    def _clocks_to_come(self, rank: int, min_clock: int) -> Collection[int]:
        """Of which one will be there when this rank gets further: the next few and the one that is waited for, which
        may be deleted before anybody has asked for them, and that where it waits for this rank, by the same rule."""
        known, own = self._heads[rank], self.own.clock
        last = known + _LOOKS
        if min_clock <= own:
            last = max(last, min(own + (own - min_clock) + 1, known + _MOST))
        clocks = {*range(known + 1, last + 1), *([min_clock] if known < min_clock < FOREVER else [])}
        return {clock for clock in clocks if (rank, clock) not in self._passed_over}

    def _look_after_pause(self, missing: Sequence[int], contents: InPlace, polling: Polling) -> None:
        sleep(polling.pause(), self._may_leave)
        names = {str(rank): rank for rank in missing}
        asked = polling.choose(list(names))
        before = self.clocks
        self._look([names[name] for name in asked], contents)
        polling.note(asked, [name for name in asked if self.clocks[names[name]] > before[names[name]]])

    def _may_leave(self) -> None:
        if self._interrupt is not None:
            self._interrupt()

    def mend(self) -> None:
        """Put right what others see of this rank, if it is not: whoever waits, here or elsewhere, may be waited for.

        Raises:
            ResultLost: another process of this rank has taken over.
        """
        if self.own.clock:
            self._slots.mend(self.own)

    def _ask_for(self, missing: Sequence[int], min_clock: int, quiet_s: float) -> None:
        """Is anybody of these still there?"""
        names = ", ".join(map(str, missing))
        if self._lost is not None:
            raise ResultLost(f"a rank has ended, and its slot is nowhere: {names}") from self._lost
        ages: Mapping[int, float] = {}
        try:
            ages = self._signs(missing, FOREVER) if self._signs is not None else {}
        except ResultLost as e:
            self._lost = e
            return
        if max(ages.get(rank, quiet_s) for rank in missing) >= self._deadline_s:
            what = "the last clock" if min_clock == FOREVER else f"clock {min_clock}"
            signs = ", ".join(f"rank {rank}'s {ages[rank]:.0f} s ago" for rank in missing if rank in ages)
            raise DeadlineExpired(
                f"asynchronous exchange, waiting for {what}: nothing from rank {names} for {quiet_s:.0f} s"
                + (f"; last sign of life: {signs}" if signs else ""),
                hint="look at the log of that worker; a longer deadline can be set if it is only slow",
            )

    # --- the end

    def left(self) -> list[str]:
        """Keys that this rank has stored and that nobody has deleted yet: others may need its last slot up to the end
        of the run. For channels that cannot list."""
        return [] if self.size == 1 else self._slots.left(self.own.clock)

    def close(self) -> None:
        """Delete what was put off. The channel stays open.

        Raises:
            StorageError: it could not be deleted, or something before it.
        """
        self._slots.close()

    def _contents(self, x: Arrays) -> InPlace:
        return InPlace(Layout(x, "sum", aggregators=1, chunk_bytes=1 << 62), flatten(x), self._workspace)
