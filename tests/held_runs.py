"""Runs that stand still before a round, in whatever process their workers are, as long as somebody locks their gate.

So what is to befall a run befalls it before its end, however late it comes.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

_HELD = """
import fcntl
from lambdaml_core.builtin import GASGDOptions
from lambdaml_core.hookspecs import hookimpl
from lambdaml_core.optim.ga_sgd import GASGD
from lambdaml_core.specs import OptimizerSpec

LAMBDAML_API = 0

class Held(GASGD):
    def round(self, w, s):
        if w.round == {round}:
            with open({gate!r}) as gate:
                fcntl.flock(gate, fcntl.LOCK_SH)
        return super().round(w, s)

@hookimpl
def lambdaml_optimizers():
    yield OptimizerSpec(name="held", factory="held_rounds:Held", options=GASGDOptions)
"""
_CHAOS = """
import fcntl, sys
from lambdaml_core.cli import main
from lambdaml_core.run.driver import chaos

class Holding(chaos._Run):
    def __enter__(self):
        self.gate = open({gate!r})
        fcntl.flock(self.gate, fcntl.LOCK_EX)
        return super().__enter__()

    def _kill(self, *, driver):
        victim = super()._kill(driver=driver)
        if len(self.killed) == {kills}:
            self.gate.close()
        return victim

chaos._Run = Holding
sys.exit(main())
"""


def held_at(folder: Path, round: int) -> tuple[str, ...]:
    """Settings of a job by GA-SGD that is held before this round; the folder takes its gate."""
    code = folder / "held_rounds.py"
    code.write_text(_HELD.format(round=round, gate=str(_gate(folder))))
    return ("--set", "optimizer.name=held", "--set", f'code=["{code}"]')


@contextlib.contextmanager
def gate_locked(folder: Path) -> Iterator[None]:
    """Meanwhile nobody passes."""
    with _gate(folder).open() as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        yield


def held_chaos(folder: Path, kills: int) -> str:
    """The source of a ``lambdaml`` whose runs under fire, of such a job, pass the gate only after so many kills."""
    return _CHAOS.format(gate=str(_gate(folder)), kills=kills)


def _gate(folder: Path) -> Path:
    (folder / "gate").touch()
    return folder / "gate"
