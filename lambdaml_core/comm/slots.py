"""The slots of asynchronous ranks in a storage: how one is replaced by its own rank alone, and found by the others.

A storage can create a value exactly once, and cannot compare and swap. So the slot of a rank is a chain of values, one
for each clock, under keys that have the clock in them: creating the next one *is* the compare-and-swap. Of two
processes of one rank only one creates it, and the other one leaves. Below ``g<generation>/x-<rank>/`` there are

- ``<clock>``: a message (``wire.py``), created once; all but the newest two are deleted, since what a rank publishes is
  cumulative. It says whether it is the last one.
- ``head``: the newest clock, and the token of the process that has created it; overwritten. It is a hint that may be
  behind: who has seen a newer clock ignores it, who finds its value deleted looks again, and a rank that waits puts its
  own right.
- ``owner``: the token of the process that has resumed last, overwritten. A process that was asleep while another one of
  its rank went on could create a clock again that has been deleted since; so it looks here after each creation, before
  it writes the head. Who resumes takes ownership first and looks for the newest clock then: either it sees what an
  older process has created, or that one sees that it is not the owner any more.

So a value that was created again is never named by a head, nor is its token that of the owner: readers pass it over.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray

from lambdaml_core.comm.contents import InPlace
from lambdaml_core.comm.deletes import Deletes
from lambdaml_core.comm.sparse import Packed
from lambdaml_core.comm.wire import Header, decode, encode
from lambdaml_core.errors import CorruptMessage, MismatchedMessage, NotSupported, ResultLost
from lambdaml_core.storage.base import Buffer, Parts
from lambdaml_core.storage.layers import FullStorage

_TOKENS = 1 << 63
_KEPT = 2  # newest values of a slot: who has just read of one in the head still finds it
_PROBED = 64  # clocks around a head whose value is gone: as many as there are deletes that are put off
_OPERATIONS = {False: "exchange", True: "last_exchange"}  # by whether a slot is the last


class Slot(NamedTuple):
    """A rank's slot, in memory of its own. Clock 0: it has published nothing.

    Attributes:
        token: of the process that has published it.
        data: the message.
        pieces: its arrays, for a fold.
    """

    clock: int
    token: int
    last: bool
    data: bytes
    pieces: list[NDArray[Any]] | Packed


EMPTY = Slot(0, 0, False, b"", [])


class Slots:
    """All slots, as one rank sees them; it writes its own alone.

    Args:
        channel: prefixed by the run. It must create once.
    """

    def __init__(self, channel: FullStorage, *, rank: int, size: int, generation: int) -> None:
        self._channel = channel
        self._rank, self._size, self._generation = rank, size, generation
        self._deletes = Deletes(channel)
        self._token = 0

    # --- this rank's own

    def take_ownership(self) -> None:
        """From now on no other process of this rank can publish."""
        self._token = secrets.randbelow(_TOKENS)
        self._channel.put(self._name("owner"), [str(self._token).encode()])

    def check_ownership(self, clock: int) -> None:
        """Raises ResultLost where another process has taken it."""
        key = self._name("owner")
        owner = self._numbers([key]).get(key)
        if owner is None:  # evicted
            self._channel.put(key, [str(self._token).encode()])
        elif owner != self._token:
            raise _overtaken(self._rank, clock)

    def make(self, contents: InPlace, clock: int, last: bool) -> Slot:
        """The slot with the present values of these arrays. The token keeps twins apart that have the same values."""
        header = Header(
            _OPERATIONS[last], self._rank, self._size, 0, 1, self._generation, clock, self._token, contents.schema
        )
        parts, codec = contents.payload(0)
        data = b"".join(encode(header, parts, checksum=self._channel.caps.checksums, codec=codec))
        contents.stored(0)
        return Slot(clock, self._token, last, data, contents.pieces(0, decode(data)))

    def create(self, slot: Slot) -> None:
        """Replace this rank's slot, which has the clock before.

        Raises:
            ResultLost: another process of this rank has done that, or has taken ownership.
        """
        if not self._channel.put(self.key(slot.clock), [slot.data], if_absent=True):
            raise _overtaken(self._rank, slot.clock)
        self.check_ownership(slot.clock)
        self.tell(slot)
        if slot.clock > _KEPT:
            self._deletes.add([self.key(slot.clock - _KEPT)], len(slot.data))

    def tell(self, slot: Slot) -> None:
        """Write the head."""
        self._channel.put(self._name("head"), [str(slot.clock * _TOKENS + slot.token).encode()])

    def mend(self, slot: Slot) -> None:
        """Put right what others see of this rank: a head that an overtaken process has left, a value that was evicted.

        Raises:
            ResultLost: as :meth:`check_ownership`.
        """
        self.check_ownership(slot.clock)
        if self.heads([self._rank]).get(self._rank) != (slot.clock, slot.token):
            self.tell(slot)
        if self._channel.caps.evicts:
            self._channel.put(self.key(slot.clock), [slot.data], if_absent=True)

    def adopt(self, clock: int) -> None:
        """Delete what earlier processes of this rank had put off; only of a slot of this clock."""
        self._deletes.add([self.key(c) for c in range(max(1, clock - _PROBED), clock - _KEPT + 1)], 0)

    def left(self, clock: int) -> list[str]:
        """Keys that are there of a slot of this clock. For channels that cannot list."""
        kept = [self.key(c) for c in range(max(1, clock - _KEPT + 1), clock + 2)]
        return [*self._deletes.left(), *kept, self._name("head"), self._name("owner")]

    def close(self) -> None:
        """Delete what was put off.

        Raises:
            StorageError: it could not be deleted, or something before it.
        """
        self._deletes.close()

    # --- everybody's

    def heads(self, ranks: Collection[int]) -> dict[int, tuple[int, int]]:
        """By rank, the clock and the token that its head says, of those that have one."""
        names = {self._name("head", rank): rank for rank in ranks}
        return {names[key]: divmod(head, _TOKENS) for key, head in self._numbers(list(names)).items()}

    def owners(self, ranks: Collection[int]) -> dict[int, int]:
        """By rank, the token of the process that has resumed last."""
        names = {self._name("owner", rank): rank for rank in ranks}
        return {names[key]: token for key, token in self._numbers(list(names)).items()}

    def read(self, wanted: Mapping[int, Collection[int]], contents: InPlace, *, wait_s: float = 0.0) -> dict[int, Slot]:
        """By rank, the newest of its slots of these clocks, if there is one.

        Args:
            contents: arrays as those of the slots; they stay as they are.
            wait_s: where none is there, and the channel can wait, wait for the first.
        """
        places = {self.key(clock, rank): (rank, clock) for rank, clocks in wanted.items() for clock in clocks}
        found = self._channel.get_many(list(places), wait_s=wait_s) if places else {}
        slots: dict[int, Slot] = {}
        for key, data in found.items():
            rank, clock = places[key]
            if rank not in slots or clock > slots[rank].clock:
                slot = self._decode(key, data, contents, rank, clock)
                slots |= {} if slot is None else {rank: slot}
        return slots

    def search(self, rank: int, head: int, contents: InPlace) -> Slot | None:
        """The newest slot of a rank whose head may be behind: of all that are there, or of the next few."""
        try:
            names = [key.rpartition("/")[2] for key in self._channel.list(self._name("", rank))]
            clocks = sorted(int(name) for name in names if name.isdecimal())[-_PROBED:]
        except NotSupported:
            clocks = list(range(max(1, head), head + _PROBED))
        return self.read({rank: clocks}, contents).get(rank)

    def key(self, clock: int, rank: int | None = None) -> str:
        """Of a slot; rank None = this one."""
        return self._name(str(clock), rank)

    def _name(self, name: str, rank: int | None = None) -> str:
        return f"g{self._generation}/x-{self._rank if rank is None else rank}/{name}"

    def _numbers(self, keys: Sequence[str]) -> dict[str, int]:
        """The numbers under these keys; without those that are not there, or are not whole."""
        numbers = {}
        for key, data in self._channel.get_many(keys).items():
            text = bytes(data)
            if self._channel.intact(key, data) and text.isdigit():
                numbers[key] = int(text)
        return numbers

    def _decode(self, key: str, data: Buffer, contents: InPlace, rank: int, clock: int) -> Slot | None:
        """None = it was deleted while it was read, and its memory has been used again."""
        mine = bytes(data)
        try:
            message = decode(mine, key=key)
            header = message.header
            place = (header.rank, header.size, header.generation, header.sequence)
            if header.operation not in _OPERATIONS.values() or place != (rank, self._size, self._generation, clock):
                raise MismatchedMessage(
                    f"{key} is {header.operation} {header.sequence} of rank {header.rank} of {header.size}",
                    hint="all ranks must make the same calls with the same settings",
                )
            pieces = contents.pieces(0, message)
        except (CorruptMessage, MismatchedMessage):
            if self._channel.intact(key, data):
                raise
            return None
        if not self._channel.intact(key, data):
            return None
        return Slot(clock, header.frontier, is_last(header), mine, pieces)


def durable(slot: Slot) -> Parts:
    """A slot as it can be kept elsewhere: a message with a checksum."""
    message = decode(slot.data)
    return encode(message.header, [message.payload], checksum=True, codec=message.codec)


def is_last(header: Header) -> bool:
    """Whether a slot's message says that no other one follows."""
    return header.operation == _OPERATIONS[True]


def _overtaken(rank: int, clock: int) -> ResultLost:
    return ResultLost(
        f"another process of rank {rank} has published clock {clock}, or is about to",
        hint="a newer attempt of this rank has moved on; this one can end",
    )
