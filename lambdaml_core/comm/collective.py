"""One collective of one rank, without I/O: a generator of storage requests, run by the engine or by the simulator.

It steps the pattern of every chunk, batches what they want into few requests, folds contributions as they arrive in
rank order, keeps a bounded number of chunks on their way, and says what to delete and when.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lambdaml_core.comm.base import Call, Fill, Fold, Get, Pattern, Put
from lambdaml_core.comm.contents import Contents
from lambdaml_core.comm.keys import make_key
from lambdaml_core.comm.layout import RankFold
from lambdaml_core.comm.schedule import (
    Await,
    Compute,
    Create,
    Delete,
    GetMany,
    PutMany,
    Requests,
    Schedule,
    StillIntact,
    Task,
)
from lambdaml_core.comm.wire import EVERYBODY, Header, check_call, decode, encode
from lambdaml_core.errors import CorruptMessage, MismatchedMessage, ResultLost
from lambdaml_core.storage.base import Buffer, Parts

_FETCHED_BYTES = 256 << 20  # what may be fetched that cannot be folded yet

# --- what lasts from one collective to the next -------------------------------------------------------------


@dataclass
class Progress:
    """What a rank knows across collectives.

    Attributes:
        frontiers: per rank, the collective before which it needs no result any more.
        stored: results that this rank owns and has not deleted: sequence number and key, in order.
        restored: this rank starts again: it looks for results first, until one is missing.
    """

    frontiers: list[int]
    stored: deque[tuple[int, str]] = field(default_factory=deque)
    restored: bool = False

    def learn(self, headers: Sequence[Header]) -> None:
        """Take note of the frontiers that came with messages, once it is certain that these were intact."""
        for header in headers:
            for rank in range(len(self.frontiers)) if header.rank == EVERYBODY else (header.rank,):
                self.frontiers[rank] = max(self.frontiers[rank], header.frontier)

    def passed(self) -> Iterator[str]:
        """Keys of own results that every rank has done with; each is handed out once."""
        frontier = min(self.frontiers)
        while self.stored and self.stored[0][0] < frontier:
            yield self.stored.popleft()[1]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What does not change from one collective to the next.

    Attributes:
        rank, size, generation: of this worker.
        window: how many chunks may be on their way at a time.
        parallel: how many values may be fetched at once.
        checksum: whether messages carry one.
        watch_results: an owner that waits for contributions looks for the result in the same request: a twin of this
            process may have stored it and deleted them.
    """

    rank: int
    size: int
    generation: int
    window: int
    parallel: int
    checksum: bool
    watch_results: bool


class Collective:
    """One call. ``owners[c]`` is the rank that owns chunk c; ``contents`` knows the arrays."""

    def __init__(
        self,
        settings: Settings,
        progress: Progress,
        *,
        operation: str,
        sequence: int,
        frontier: int,
        pattern: Pattern,
        owners: Sequence[int],
        contents: Contents,
    ) -> None:
        self._s = settings
        self._progress = progress
        self._operation, self._sequence, self._frontier = operation, sequence, frontier
        self._contents = contents
        self._calls = [self._call(chunk, owner) for chunk, owner in enumerate(owners)]
        self._pattern = pattern
        window = min(settings.window, len(owners))
        folding = contents.result_bytes(settings.size) * window * owners.count(settings.rank) // len(owners) ** 2
        self._ahead = max(settings.parallel, _FETCHED_BYTES // (folding + 1))  # ranks: of a chunk, while one is missing
        self._garbage: list[str] = []
        self._folds = operation in ("all_reduce", "barrier")
        self._again: dict[int, str] = {}  # by chunk: what to create should it get lost, a contribution or the result
        self._late = False  # contributions may have been created after their owner deleted what it had folded

    def run(self, fill: Fill | None) -> Requests:
        """Do it. ``fill`` is called unless all results are found to exist already."""
        found: Mapping[str, Buffer] = {}
        if self._progress.restored:
            found = yield GetMany([call.result for call in self._calls])
            self._progress.restored = len(found) == len(self._calls)
            self._late = not self._progress.restored
        if fill is not None and len(found) < len(self._calls):
            yield Compute(fill)
        tasks = [
            self._take_found(call, found[call.result]) if call.result in found else self._run_chunk(call)
            for call in self._calls
        ]
        yield from Schedule(
            tasks,
            window=self._s.window,
            parallel=self._s.parallel,
            watch=self._s.watch_results,
            before_wait=self._delete,
            on_long_wait=self._create_again,
        ).run()
        self._garbage += self._progress.passed()
        yield from self._delete()

    def left(self) -> list[str]:
        """Keys of what this rank has sent to owners who may not have folded it, and of what it has yet to delete."""
        sent = (key for chunk, key in self._again.items() if key != self._calls[chunk].result)
        return [*sent, *self._garbage]

    # --- one chunk

    def _call(self, chunk: int, owner: int) -> Call:
        s, sequence = self._s, self._sequence

        def key(*parts: str | int) -> str:
            return make_key(s.generation, sequence, chunk, owner, *parts)

        return Call(s.rank, s.size, chunk, owner, key, key())

    def _run_chunk(self, call: Call) -> Task:
        held: set[str] = set()  # keys whose value is the chunk's present value
        sources: list[str] = []
        lost = False  # somebody else has folded this chunk: take that result
        for effect in self._pattern(call):
            if isinstance(effect, Fold):
                sources = [key for key in effect.sources if key is not None]
                lost = not (yield from self._fold(call, effect.sources))
            elif isinstance(effect, Put):
                if not lost:
                    if (yield Create(effect.key, self._encode(call, effect.key))):
                        held.add(effect.key)
                    self._contents.stored(call.chunk)
                    self._again[call.chunk] = effect.key
            elif effect.key not in held:
                yield from self._take(call, effect)
        self._settle(call, sources)

    def _fold(self, call: Call, sources: Sequence[str | None]) -> Generator[Any, Any, bool]:
        """Fold in rank order what has arrived; False if the result turns out to exist, so that this was in vain."""
        total = self._contents.fold(call.chunk)
        missing = {key: rank for rank, key in enumerate(sources) if key is not None}
        arrived: dict[str, Buffer] = {}
        folded: list[tuple[str, Buffer]] = []
        headers: list[Header] = []
        for rank, key in enumerate(sources):
            if key is None:
                total.add(None)
                continue
            while key not in arrived:
                near = {k: r for k, r in missing.items() if r <= rank + self._ahead}
                got = yield Await(near, call.result)
                if call.result in got:
                    return False
                arrived.update(got)
                missing = {k: r for k, r in missing.items() if k not in got}
            header = yield from self._read(call, key, arrived[key], rank, total)
            if header is None:
                return False
            folded.append((key, arrived.pop(key)))
            headers.append(header)
        total.finish()
        if not (yield StillIntact(folded)):
            return False
        self._progress.learn(headers)
        return True

    def _take(self, call: Call, effect: Get) -> Task:
        got = yield Await({effect.key: call.owner})
        yield from self._take_found(call, got[effect.key], effect.key)

    def _take_found(self, call: Call, data: Buffer, key: str | None = None) -> Task:
        """Make a value that was got the chunk's present value."""
        name = key or call.result
        header = yield from self._read(call, name, data, None, None)
        if header is None or not (yield StillIntact([(name, data)])):
            raise ResultLost(
                f"the result {name} was deleted while this rank read it",
                hint="a newer attempt of this rank has moved on; this one can end",
            )
        self._progress.learn([header])
        if key is None:  # found in a replay: whoever stored it may not have lived to delete what it was made of
            folds = [effect.sources for effect in self._pattern(call) if isinstance(effect, Fold)]
            self._settle(call, [source for sources in folds for source in sources if source is not None])

    def _settle(self, call: Call, sources: Sequence[str]) -> None:
        """The chunk's result exists: an owner deletes the contributions now, and the result when all have passed."""
        sent = self._again.pop(call.chunk, call.result)
        if self._late and sent != call.result:
            self._garbage.append(sent)
        if self._folds or call.owner == self._s.rank:
            self._again[call.chunk] = call.result  # whose owner may start again: all who have it can bring it back
        if call.owner == self._s.rank:
            self._garbage += sources
            self._progress.stored.append((self._sequence, call.result))

    def _delete(self) -> Requests:
        if self._garbage:
            garbage, self._garbage = self._garbage, []
            yield Delete(garbage)

    def _create_again(self) -> Requests:
        """The channel may have lost what this rank brought or knows, also one that says it loses nothing."""
        if self._again:
            self._late = True
            yield PutMany({key: self._encode(self._calls[chunk], key) for chunk, key in self._again.items()})
            for chunk in self._again:
                self._contents.stored(chunk)

    # --- messages

    def _encode(self, call: Call, key: str) -> Parts:
        folded = key == call.result and self._folds
        header = Header(
            self._operation,
            EVERYBODY if folded else self._s.rank,
            self._s.size,
            call.chunk,
            len(self._calls),
            self._s.generation,
            self._sequence,
            min(self._progress.frontiers) if folded else self._frontier,
            self._contents.schema,
        )
        payload = self._contents.payload(call.chunk)
        return encode(header, payload.parts, codec=payload.codec, checksum=self._s.checksum)

    def _read(
        self, call: Call, key: str, data: Buffer, rank: int | None, total: RankFold | None
    ) -> Generator[Any, Any, Header | None]:
        """Check that a message is of this call, and fold it into a total, or make it the chunk's present value.

        None = it was deleted, and its memory has been reused.
        """
        expected = (self._operation, self._s.size, call.chunk, len(self._calls), self._s.generation, self._sequence)
        try:
            message = decode(data, key=key)
            check_call(message.header, expected, rank)
            if total is None:
                self._contents.take(call.chunk, message)
            else:
                total.add(self._contents.pieces(call.chunk, message))
        except (CorruptMessage, MismatchedMessage):
            if (yield StillIntact([(key, data)])):
                raise
            return None
        return message.header
