"""Runs that do something of a test's before a round, in whatever process their workers are: what is to befall a run at
a certain round befalls it there, however quick the machine is."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lambdaml_core.run.code import use
from lambdaml_core.storage import open_storage

OWN_GA: dict[str, Any] = {"name": "own_ga_sgd", "learning_rate": 0.3, "momentum": 0.9, "l2": 1e-3}
"""The optimizer of ``make_job``."""

_PLUGIN = """
from lambdaml_core.builtin import GASGDOptions, MASGDOptions
from lambdaml_core.hookspecs import hookimpl
from lambdaml_core.specs import OptimizerSpec

LAMBDAML_API = 0

@hookimpl
def lambdaml_optimizers():
    yield OptimizerSpec(name="own_ga_sgd", factory="own_optimizers:GA", options=GASGDOptions)
    yield OptimizerSpec(name="own_ma_sgd", factory="own_optimizers:MA", options=MASGDOptions)
"""
_OPTIMIZERS = """
from lambdaml_core.optim.ga_sgd import GASGD
from lambdaml_core.optim.ma_sgd import MASGD
{before}

class GA(GASGD):
    def round(self, w, s):
        before(w)
        return super().round(w, s)

class MA(MASGD):
    def round(self, w, s):
        before(w)
        return super().round(w, s)
"""
_HOLD = """
import os
from lambdaml_core.storage import open_storage

def before(w):
    if w.round in {rounds} and os.path.isdir({folder!r}):
        gate = open_storage({url!r})
        assert gate.get_many([str(w.round)], wait_s=900), "nobody let it go"
        gate.close()
"""
_CHAOS = """
import sys
from lambdaml_core.cli import main
from lambdaml_core.run.driver import chaos
from lambdaml_core.storage import open_storage

GATE, KEYS = open_storage({url!r}), {keys!r}

class Holding(chaos._Run):
    def __enter__(self):
        GATE.delete(KEYS)
        return super().__enter__()

    def _kill(self, *, driver):
        victim = super()._kill(driver=driver)
        if len(self.killed) == {kills}:
            GATE.put_many({{key: [b""] for key in KEYS}})
        return victim

chaos._Run = Holding
sys.exit(main())
"""


@contextlib.contextmanager
def own_rounds(folder: Path, before: str) -> Iterator[list[str]]:
    """The ``code`` of jobs whose optimizers are ``own_ga_sgd`` and ``own_ma_sgd``: those of the same names, which call
    ``before(w)`` before each round, replays included.

    Args:
        before: the source of that function.
    """
    code = folder / "own"
    code.mkdir(parents=True)
    (code / "own_plugin.py").write_text(_PLUGIN)
    (code / "own_optimizers.py").write_text(_OPTIMIZERS.format(before=before))
    try:
        yield [str(code / "own_plugin.py"), str(code / "own_optimizers.py")]
    finally:
        use(())


class Gate:
    """All ranks of a run stand still before certain rounds until they are let go.

    Attributes:
        code: of the job.
        keys: this and the optimizer, GA-SGD.
        words: the same for a command line, where all else of the optimizer stays as it is.
    """

    def __init__(self, url: str, rounds: Sequence[int], code: list[str]) -> None:
        self.code = code
        self.keys: dict[str, Any] = {"optimizer": OWN_GA, "code": code}
        self.words = ("--set", "optimizer.name=own_ga_sgd", "--set", f"code={json.dumps(code)}")
        self._url, self._rounds = url, rounds

    def let_go(self, *rounds: int) -> None:
        """From these, by default from all: those that are there, and all that come there afterwards."""
        with contextlib.closing(open_storage(self._url)) as gate:
            gate.put_many({key: [b""] for key in map(str, rounds or self._rounds)})

    def shut(self) -> None:
        """Who comes from now on stands still."""
        with contextlib.closing(open_storage(self._url)) as gate:
            gate.delete(map(str, self._rounds))

    def chaos(self, kills: int) -> str:
        """The source of a ``lambdaml`` whose runs under fire come through the gate only after so many kills."""
        return _CHAOS.format(url=self._url, keys=[*map(str, self._rounds)], kills=kills)


@contextlib.contextmanager
def held(folder: Path, *rounds: int) -> Iterator[Gate]:
    """A gate before these rounds, counted from 0. It is shut; without the folder, which takes it, nobody is held."""
    url = (folder / "gate").as_uri()
    with own_rounds(folder, _HOLD.format(rounds=rounds, folder=str(folder), url=url)) as code:
        yield Gate(url, rounds, code)
