"""The engine: the communicator that runs collectives over a storage."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from lambdaml_core.comm.base import Arrays, Fill, Op, Pattern
from lambdaml_core.comm.collective import Collective
from lambdaml_core.comm.deletes import Deletes
from lambdaml_core.comm.patterns import aggregate
from lambdaml_core.comm.planner import Planner, chunk_length
from lambdaml_core.comm.polling import SLICE_S, Polling, sleep
from lambdaml_core.comm.schedule import Delete, GetMany, PutMany, Request, StillIntact, advance
from lambdaml_core.errors import DeadlineExpired, NotSupported, ResultLost
from lambdaml_core.storage.base import Buffer
from lambdaml_core.storage.layers import FullStorage, size_of

DEADLINE_S = 60.0


class Engine:
    """Implements :class:`~lambdaml_core.comm.base.Communicator` over a channel.

    Args:
        channel: prefixed by the run. It must create once.
        rank, size, aggregators, pattern, generation, sequence, restored: see
            :class:`~lambdaml_core.comm.planner.Planner`.
        chunk_bytes: largest payload of one value; None = as :func:`~lambdaml_core.comm.planner.chunk_length` has it.
        deadline_s: least time without a sign of life of a rank before a wait for it is given up; ten times the median
            time from one collective to the next where that is longer, waits not counted.
        signs: called with the missing ranks and :attr:`sequence` whenever nothing has come for a quarter of the
            deadline. It returns the seconds since each one's last sign of life; who is left out, as everybody without
            ``signs``, gives none. It raises ResultLost where one of them is past this collective (its number of the
            next is higher than this rank's), which counts if another look finds nothing either.
        interrupt: called at least every quarter second while waiting; may raise to leave.

    Attributes:
        waiting: whether it waits for others now.
        waited_s: seconds spent waiting for others.
        round: what is under way, for messages; set by whoever counts rounds.
    """

    def __init__(
        self,
        channel: FullStorage,
        *,
        rank: int,
        size: int,
        aggregators: int = 1,
        pattern: Pattern = aggregate,
        generation: int = 0,
        sequence: int = 0,
        restored: bool = False,
        chunk_bytes: int | None = None,
        deadline_s: float = DEADLINE_S,
        signs: Callable[[Collection[int], int], Mapping[int, float]] | None = None,
        interrupt: Callable[[], None] | None = None,
    ) -> None:
        caps = channel.caps
        if size > 1 and not caps.creates_once:
            raise NotSupported("the channel cannot create a value exactly once", hint="choose another channel")
        self.rank, self.size = rank, size
        self.waiting = False
        self.waited_s = 0.0
        self.round: int | None = None
        self.planner = Planner(
            rank=rank,
            size=size,
            aggregators=aggregators,
            pattern=pattern,
            generation=generation,
            sequence=sequence,
            restored=restored,
            chunk_bytes=chunk_length(caps) if chunk_bytes is None else chunk_bytes,
            parallel=caps.parallel,
            checksum=caps.checksums,
            watch_results=caps.blocks or restored,
        )
        self._channel = channel
        self._polling = None if caps.blocks else Polling(caps)
        self._deletes = Deletes(channel)
        self._value_bytes = 0  # of the last that was put
        self._collective: Collective | None = None
        self._deadline_s, self._signs, self._interrupt = deadline_s, signs, interrupt
        self._nothing_s = 0.0  # waited since the last value came
        self._lost: ResultLost | None = None  # unless another look finds something
        self._took: deque[float] = deque(maxlen=101)
        self._last_end = time.monotonic()
        self._operation = ""

    @property
    def sequence(self) -> int:
        """Number of the next collective."""
        return self.planner.sequence

    @property
    def frontier(self) -> int | None:
        """No replacement of this rank will need the results of collectives before it; None (without checkpoints) =
        none of those that are done. May be set by another thread."""
        return self.planner.frontier

    @frontier.setter
    def frontier(self, sequence: int | None) -> None:
        self.planner.frontier = sequence

    @property
    def passed(self) -> int:
        """The least frontier of all ranks, as far as this one knows."""
        return self.planner.passed

    @property
    def retained(self) -> int:
        """Bytes of the results of all collectives so far: what would be in the channel at most if none had been
        deleted; results that are mostly zeros are smaller."""
        return self.planner.retained

    def adopt(self) -> None:
        """In a restored attempt: take over what earlier ones have stored and will not delete any more.

        These are results of collectives before :attr:`sequence`; what comes after them is found by going through it.
        A channel that cannot list keeps them until the run ends.
        """
        if self.size > 1 and self.sequence > 0:
            with contextlib.suppress(NotSupported):
                self.planner.adopt(self._channel.list(self.planner.folder))

    def left(self) -> list[str]:
        """Keys that this rank has stored and that nobody has deleted yet, as far as it knows: what it would delete
        some day, and what it has sent in a collective that has not ended. For channels that cannot list."""
        under_way = self._collective.left() if self._collective is not None else []
        return list(
            dict.fromkeys([*self._deletes.left(), *(key for _, key in self.planner.progress.stored), *under_way])
        )

    def close(self) -> None:
        """Delete what is done with, which may have been put off. The channel stays open.

        Raises:
            StorageError: it could not be deleted, or something before it.
        """
        self._deletes.close()

    def all_reduce(self, x: Arrays, op: Op | Mapping[str, Op] = "sum", *, fill: Fill | None = None) -> None:
        """As :meth:`Communicator.all_reduce`."""
        if self._alone():
            if fill is not None:
                fill(_ignore)
            return
        self._run("all_reduce", self.planner.all_reduce(x, op), fill)

    def all_gather(self, x: Arrays) -> Sequence[Arrays]:
        """As :meth:`Communicator.all_gather`."""
        if self._alone():
            return [{name: a.copy() for name, a in x.items()}]
        collective, contents = self.planner.all_gather(x)
        self._run("all_gather", collective, None)
        return contents.results

    def broadcast(self, x: Arrays, root: int = 0) -> None:
        """As :meth:`Communicator.broadcast`."""
        if not self._alone():
            self._run("broadcast", self.planner.broadcast(x, root), None)

    def barrier(self) -> None:
        """As :meth:`Communicator.barrier`."""
        if not self._alone():
            self._run("barrier", self.planner.barrier(), None)

    def _alone(self) -> bool:
        """Whether there is nobody to exchange with; collectives are counted all the same."""
        if self.size == 1:
            self.planner.skip()
        return self.size == 1

    def _run(self, operation: str, collective: Collective, fill: Fill | None) -> None:
        self._operation = operation
        self._collective = collective
        if self._polling is not None:
            self._polling.begin()
        waited_s = self.waited_s
        requests = collective.run(fill)
        answer: Any = None
        while (request := advance(requests, answer)) is not None:
            answer = self._do(request)
        last_end, self._last_end = self._last_end, time.monotonic()
        self._took.append(self._last_end - last_end - (self.waited_s - waited_s))

    def _do(self, request: Request) -> Any:
        channel = self._channel
        if isinstance(request, GetMany):
            return (
                channel.get_many(request.keys) if request.makers is None else self._wait(request.keys, request.makers)
            )
        if isinstance(request, PutMany):
            self._value_bytes = max(map(size_of, request.items.values()))
            return channel.put_many(request.items, if_absent=True)
        if isinstance(request, StillIntact):
            return all(channel.intact(key, data) for key, data in request.values)
        if isinstance(request, Delete):
            return self._deletes.add(request.keys, self._value_bytes)
        return request.fill(_ignore)

    def _wait(self, keys: Sequence[str], makers: Mapping[str, int]) -> Mapping[str, Buffer]:
        """Values of those keys that exist once the first does; nothing when a quarter of the deadline has passed."""
        started = time.monotonic()
        self.waiting = True
        try:
            found = self._look(keys, started)
        finally:
            self.waiting = False
            took = time.monotonic() - started
            self.waited_s += took
        if found:
            self._nothing_s, self._lost = 0.0, None
            return found
        if self._lost is not None:
            raise ResultLost(f"{self._lost.message}: {', '.join(keys[:3])}", hint=self._lost.hint) from self._lost
        self._nothing_s += took
        self._ask_for(sorted(set(makers.values())))
        return found

    def _look(self, keys: Sequence[str], started: float) -> Mapping[str, Buffer]:
        polling = self._polling
        while True:
            asked = keys if polling is None else polling.choose(keys)
            found = self._channel.get_many(asked, wait_s=min(SLICE_S, self._deadline_s / 4))
            if polling is not None:
                polling.note(asked, found)
            if found:
                return found
            self._may_leave()
            if self._lost is not None or time.monotonic() - started >= self._deadline() / 4:
                return found
            if polling is not None:
                sleep(polling.pause(), self._may_leave)

    def _may_leave(self) -> None:
        if self._interrupt is not None:
            self._interrupt()

    def _deadline(self) -> float:
        return max(self._deadline_s, 10 * statistics.median(self._took or (0.0,)))

    def _ask_for(self, missing: Sequence[int]) -> None:
        """Is anybody of these still there?"""
        ages: Mapping[int, float] = {}
        try:
            ages = self._signs(missing, self.sequence) if self._signs is not None else {}
        except ResultLost as lost:
            self._lost = lost
            return
        if max(ages.get(rank, self._nothing_s) for rank in missing) >= self._deadline():
            where = f" of round {self.round}" if self.round is not None else ""
            signs = ", ".join(f"rank {rank}'s {ages[rank]:.0f} s ago" for rank in missing if rank in ages)
            raise DeadlineExpired(
                f"{self._operation} number {self.sequence - 1}{where}: nothing from rank "
                f"{', '.join(map(str, missing))} for {self._nothing_s:.0f} s"
                + (f"; last sign of life: {signs}" if signs else ""),
                hint="look at the log of that worker; a longer deadline can be set if it is only slow",
            )


def _ignore(lo: int, hi: int) -> None:
    """``ready`` is a hint; this engine sends when fill has returned."""
