"""Why a worker stops in the middle of its work although nothing is wrong with it."""

from __future__ import annotations

from typing import Literal, TypeAlias

Moment: TypeAlias = Literal["boundary", "wait", "work"]
"""Between two rounds, the state saved; waiting for others; within a round, whose work is lost."""


class Leave(Exception):
    """Raised wherever a worker looks whether it should go on: in waits, between rounds, between local steps."""


class Superseded(Leave):
    """A newer attempt of this rank, or a newer generation, has begun: this one ends without a word."""


class TimeUp(Leave):
    """The process must end soon: its successor goes on."""

    def __init__(self, moment: Moment) -> None:
        super().__init__("the time of this process is up")
        self.moment = moment
