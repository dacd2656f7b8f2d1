"""How the chunks of a collective share requests: what they need one by one is batched into what storage is asked.

Nothing here does I/O. A chunk is a generator of needs, the schedule a generator of requests; whoever runs it, the
engine or the simulator, sends the answers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

from lambdaml_core.comm.base import Fill
from lambdaml_core.storage.base import Buffer, Parts

T = TypeVar("T")
_KEYS_PER_WAIT = 32  # or one per connection; the oldest chunk's first: they arrive whatever happens to later ones

# --- requests: what a collective asks of whoever runs it, and the answer it is sent ------------------------


class PutMany(NamedTuple):
    """Create these values. Answer: the keys that were created; the others existed."""

    items: Mapping[str, Parts]


class GetMany(NamedTuple):
    """Fetch these values. Answer: those that exist, by key.

    Attributes:
        keys: in the order in which they are wanted.
        makers: None = answer at once. Otherwise block until one exists; it says which rank makes each key, for the
            error of a deadline that expires. An empty answer means that a quarter of the deadline has passed.
    """

    keys: Sequence[str]
    makers: Mapping[str, int] | None = None


class Delete(NamedTuple):
    """Delete these values. No answer."""

    keys: Sequence[str]


class StillIntact(NamedTuple):
    """Have these values, which were got, been theirs until now? Answer: bool."""

    values: Sequence[tuple[str, Buffer]]


class Compute(NamedTuple):
    """Run this to have the contribution in the arrays. No answer."""

    fill: Fill


Request: TypeAlias = PutMany | GetMany | Delete | StillIntact | Compute
Requests: TypeAlias = Generator[Request, Any, None]


# --- needs: what one chunk asks of the collective, which batches them into requests ------------------------


class Create(NamedTuple):
    """Answer: whether this process created it."""

    key: str
    parts: Parts


class Await(NamedTuple):
    """Answer: a dict with at least one of these values.

    Attributes:
        keys: what is wanted, and which rank makes each.
        instead: a result that makes ``keys`` superfluous; looked for where that is free, and when the wait gets long.
    """

    keys: Mapping[str, int]
    instead: str | None = None


Task: TypeAlias = Generator[Create | Await | StillIntact, Any, Any]


class Schedule:
    """Runs chunks in order, ``window`` at a time.

    Args:
        tasks: the chunks.
        parallel: how many values may be fetched at once.
        watch: whether :attr:`Await.instead` is looked for from the start; else once a wait has been long.
        before_wait: what to ask for first whenever there is a pause (deletes of what is done with).
        on_long_wait: what to ask for when a wait gets long (contributions that may have been dropped).
    """

    def __init__(
        self,
        tasks: Iterable[Task],
        *,
        window: int,
        parallel: int,
        watch: bool,
        before_wait: Callable[[], Requests],
        on_long_wait: Callable[[], Requests],
    ) -> None:
        self._tasks = deque(tasks)
        self._window, self._watch = window, watch
        self._keys_per_wait = max(parallel, _KEYS_PER_WAIT // parallel * parallel)  # so that none is idle
        self._before_wait, self._on_long_wait = before_wait, on_long_wait
        self._active = 0
        self._runnable: deque[tuple[Task, Any]] = deque()
        self._creates: dict[str, tuple[Task, Parts]] = {}
        self._awaits: dict[Task, Await] = {}

    def run(self) -> Requests:
        """Until all chunks are done."""
        while self._start() or self._active:
            while self._runnable:
                task, answer = self._runnable.popleft()
                need = advance(task, answer)
                if isinstance(need, StillIntact):
                    self._runnable.appendleft((task, (yield need)))
                else:
                    self._note(task, need)
            if self._creates:
                yield from self._create()
            elif self._active == self._window or (self._active and not self._tasks):
                yield from self._receive()

    def _start(self) -> bool:
        """Start chunks while there is room; whether any was."""
        before = self._active
        while self._tasks and self._active < self._window:
            self._runnable.append((self._tasks.popleft(), None))
            self._active += 1
        return self._active > before

    def _note(self, task: Task, need: Create | Await | None) -> None:
        if isinstance(need, Await):
            self._awaits[task] = need  # in the place of its last one, if it was waiting
            return
        self._awaits.pop(task, None)
        if need is None:
            self._active -= 1
        else:
            self._creates[need.key] = (task, need.parts)

    def _create(self) -> Requests:
        creates, self._creates = self._creates, {}
        created = set((yield PutMany({key: parts for key, (_, parts) in creates.items()})))
        self._runnable.extend((task, key in created) for key, (task, _) in creates.items())

    def _receive(self) -> Requests:
        """Wait for the first values, and hand them to the chunks that want them."""
        yield from self._before_wait()
        wanted: dict[str, Task] = {}
        makers: dict[str, int] = {}
        for task, need in self._awaits.items():
            if need.instead is not None and self._watch:
                wanted[need.instead] = task
            wanted.update(dict.fromkeys(need.keys, task))
            makers.update(need.keys)
            if len(wanted) >= self._keys_per_wait:
                break
        found = yield GetMany(list(wanted)[: self._keys_per_wait], makers)
        answers: dict[Task, dict[str, Buffer]] = {}
        for key, data in found.items():
            answers.setdefault(wanted[key], {})[key] = data
        self._runnable.extend(answers.items())
        if not found:
            self._watch = True
            yield from self._on_long_wait()


def advance(generator: Generator[T, Any, Any], answer: Any) -> T | None:
    """What the generator wants next; None = it is done."""
    try:
        return generator.send(answer)
    except StopIteration:
        return None
