"""What the explorer runs: a program of collectives, and what goes wrong meanwhile. Everything follows from numbers."""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from lambdaml_core.comm.base import Op

Operation: TypeAlias = Literal["all_reduce", "all_gather", "broadcast", "barrier"]
State: TypeAlias = dict[str, NDArray[Any]]

SYNCHRONISING: frozenset[Operation] = frozenset({"all_reduce", "all_gather", "barrier"})
"""Collectives that no rank can leave before every rank has entered."""

OPS: tuple[dict[str, Op], ...] = (
    {"g": "sum", "n": "sum", "h": "sum"},
    {"g": "max", "n": "sum", "h": "min"},
    {"g": "sum", "n": "min", "h": "max"},
)
_POOL = np.random.default_rng(1).normal(size=4096)


@dataclass(frozen=True)
class Step:
    """One collective.

    Attributes:
        root: of a broadcast.
        ops: which of OPS an all-reduce uses.
        fills: whether the contribution is computed by ``fill``.
    """

    operation: Operation
    root: int = 0
    ops: int = 0
    fills: bool = False


Kind: TypeAlias = Literal["crash", "leave", "hand_over", "duplicate", "lost", "slow", "torn", "evict"]


@dataclass(frozen=True)
class Fault:
    """Something that happens to ``rank`` at its effect number ``at``, counted over all its attempts.

    Attributes:
        kind: ``crash`` (before the effect, or ``after`` it and before its answer; the rank starts again ``delay`` steps
            of others later), ``leave`` (the same, because its time is up: it finishes the checkpoint that it writes),
            ``hand_over`` (at the end of the collective it saves all that it has, and its successor goes on from there),
            ``duplicate`` (a second process of the rank starts, the first goes on), ``lost`` (the acknowledgement of a
            create; made again it says that the value exists), ``slow`` (it does nothing for ``delay`` steps of others),
            ``torn`` (the newest checkpoint cannot be read any more), ``evict`` (the storage drops value number
            ``delay`` of those it has).
    """

    kind: Kind
    rank: int
    at: int
    after: bool = False
    delay: int = 0


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One run.

    Attributes:
        every: a checkpoint is written after so many collectives; None = never.
        writing: steps of everybody that it takes until it is written; work goes on meanwhile.
        private: ranks have a state of their own, which their contributions depend on.
        watch: owners look for results while they wait for contributions, as on storage that waits inside.
        order: which of the processes that can go on does so: step i is taken by number ``order[i]`` modulo how many
            there are; the first where the order has ended.
    """

    size: int
    aggregators: int
    steps: tuple[Step, ...]
    every: int | None = None
    writing: int = 0
    private: bool = False
    chunk_bytes: int
    window_bytes: int
    watch: bool
    faults: tuple[Fault, ...] = ()
    order: tuple[int, ...] = ()

    @functools.cached_property
    def saves(self) -> frozenset[int]:
        """Sequence numbers of the checkpoints; there is none at the end."""
        return frozenset(range(0, len(self.steps), self.every) if self.every is not None else [0])

    def __str__(self) -> str:
        steps = ", ".join(_named(step) for step in self.steps)
        saved = f"a checkpoint every {self.every}" if self.every is not None else "no checkpoints"
        ranks = f"{self.size} ranks" + (" with private state" if self.private else "")
        return f"{ranks}, {self.aggregators} aggregator{'s'[: self.aggregators - 1]}, {steps}; {saved}"


def _named(step: Step) -> str:
    return f"broadcast from {step.root}" if step.operation == "broadcast" else step.operation


# --- numbers ------------------------------------------------------------------------------------------------


def initial_state() -> State:
    """Five blocks of 64 bytes, so that up to five aggregators have something to do."""
    return {"g": np.zeros(40, np.float32), "n": np.zeros(1, np.int64), "h": np.zeros(3, np.float16)}


def initial_private() -> NDArray[np.float32]:
    """What a rank has of its own before the first collective."""
    return np.zeros(40, np.float32)


def next_private(private: NDArray[np.float32], brought: State) -> NDArray[np.float32]:
    """What it has once it has computed what it brings to a collective: kept without looking at any result."""
    return (private / 2 + brought["g"]).astype(np.float32)


def contribution(rank: int, index: int, state: State, private: NDArray[np.float32]) -> State:
    """What a rank brings to collective ``index``: it depends on all results before. Some of it is mostly zeros."""
    at = (977 * rank + 131 * index) % 4000
    g = (_POOL[at : at + 40] + 0.5 * state["g"]).astype(np.float32) + private / 4
    if index % 3 > rank % 2:  # nobody's, that of every second rank, everybody's in turn: it travels as pairs
        g[_POOL[at + 9 : at + 49] < 1.2] = 0
    return {
        "g": g,
        "n": state["n"] + (rank + 2) * (index + 3),
        "h": (_POOL[at + 50 : at + 53] + 0.25 * state["h"]).astype(np.float16),
    }


def gathered(rank: int, index: int, state: State) -> State:
    """What a rank brings to an all-gather: another shape on each rank."""
    brought = contribution(rank, index, state, initial_private())
    return {"g": brought["g"][: 3 * ((rank + index) % 3)], "n": state["n"] + rank}


def next_states(scenario: Scenario) -> list[State]:
    """The state before each collective and after the last, by plain loops over ranks."""
    states = [initial_state()]
    privates = [initial_private()] * scenario.size
    for index, step in enumerate(scenario.steps):
        state = states[-1]
        given = [contribution(rank, index, state, private) for rank, private in enumerate(privates)]
        if scenario.private and step.operation in ("all_reduce", "broadcast"):
            privates = [next_private(private, x) for private, x in zip(privates, given, strict=True)]
        if step.operation == "all_reduce":
            state = {name: fold([x[name] for x in given], OPS[step.ops][name]) for name in state}
        elif step.operation == "broadcast":
            state = given[step.root]
        states.append(state)
    return states


def fold(values: list[NDArray[Any]], op: Op) -> NDArray[Any]:
    """A copy of rank 0's, then the others in order; sums of float16 in float32, rounded once."""
    dtype = values[0].dtype
    wide = np.dtype(np.float32) if op == "sum" and dtype == np.float16 else dtype
    total = values[0].astype(wide)
    for value in values[1:]:
        if op == "sum":
            total = (total + value.astype(wide)).astype(wide)
        else:
            total = (np.minimum if op == "min" else np.maximum)(total, value)
    return total.astype(dtype)


# --- where scenarios come from ------------------------------------------------------------------------------


_KILLS: dict[Kind, int] = {
    "crash": 5,
    "leave": 2,
    "hand_over": 2,
    "duplicate": 3,
    "lost": 1,
    "slow": 1,
    "torn": 1,
}
_EVICTS: dict[Kind, int] = {"evict": 4, "crash": 2, "hand_over": 1, "duplicate": 1, "slow": 1}
_WITHOUT_CHECKPOINTS: frozenset[Kind] = frozenset({"lost", "slow", "evict"})
"""No rank starts a second time then: the run would end."""


def random_scenario(seed: int, aggregators: int, *, evicts: bool = False) -> Scenario:
    """A scenario with up to three faults."""
    rng = random.Random(seed)  # noqa: S311 - not for secrets
    size = rng.choice([w for w in (2, 3, 3, 4, 4, 5) if w >= aggregators])
    operations: list[Operation] = ["all_reduce", "all_gather", "broadcast", "barrier"]
    steps = tuple(
        Step(operation, rng.randrange(size), rng.randrange(len(OPS)), rng.random() < 0.5)
        for operation in rng.choices(operations, [5, 1, 1, 1], k=rng.randint(2, 5))
    )
    every = rng.choice([1, 1, 2, 3, None])
    weights = {k: n for k, n in (_EVICTS if evicts else _KILLS).items() if every or k in _WITHOUT_CHECKPOINTS}
    faults = tuple(
        Fault(kind, rng.randrange(size), rng.randrange(12 * len(steps)), rng.random() < 0.5, rng.randrange(30))
        for kind in rng.choices(list(weights), list(weights.values()), k=rng.choice([0, 1, 2, 2, 3, 3, 3]))
    )
    order: list[int] = []
    stickiness = rng.choice([1, 1, 4, 12])  # how long one process may have the word
    while len(order) < 240:
        order += [rng.randrange(60)] * rng.randint(1, stickiness)
    return Scenario(
        size=size,
        aggregators=aggregators,
        steps=steps,
        every=every,
        writing=rng.choice([0, 0, 5, 20, 60]),
        private=rng.random() < 0.3,
        chunk_bytes=rng.choice([64, 128, 1 << 20]),
        window_bytes=rng.choice([64, 192, 1 << 20]),
        watch=rng.random() < 0.5,
        faults=faults,
        order=tuple(order),
    )


@st.composite
def simpler(draw: st.DrawFn, scenario: Scenario) -> Scenario:
    """Parts of a scenario: Hypothesis looks for the smallest that still fails."""

    mostly = st.integers(0, 3).map(bool)

    def keep(number: int) -> int:
        return number if draw(st.booleans()) else draw(st.integers(0, number))

    steps = tuple(step for step in scenario.steps if draw(mostly)) or scenario.steps[:1]
    if draw(st.booleans()):
        steps = tuple(replace(step, ops=0, fills=False) for step in steps)
    faults = tuple(
        replace(fault, at=keep(fault.at), delay=keep(fault.delay)) for fault in scenario.faults if draw(mostly)
    )
    one_chunk, at_once = draw(st.booleans()), draw(st.booleans())
    return replace(
        scenario,
        steps=steps,
        faults=faults,
        chunk_bytes=scenario.chunk_bytes if not one_chunk else 1 << 20,
        window_bytes=scenario.window_bytes if not at_once else 1 << 20,
        writing=keep(scenario.writing),
        private=scenario.private and draw(st.booleans()),
        order=scenario.order[: keep(len(scenario.order))],
    )
