"""Runs that do something of a test's before a round, in whatever process their workers are: what is to befall a run at
a certain round befalls it there, however quick the machine is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
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
from lambdaml_core.storage import open_storage

def before(w):
    if w.round == {round}:
        gate = open_storage({url!r})
        assert gate.get_many(["go"], wait_s=900), "nobody let it go"
        gate.close()
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
    """All ranks of a run stand still before a round until they are let go.

    Attributes:
        code: of the job.
        keys: this and the optimizer, GA-SGD.
    """

    def __init__(self, url: str, code: list[str]) -> None:
        self.code = code
        self.keys: dict[str, Any] = {"optimizer": OWN_GA, "code": code}
        self._url = url

    def let_go(self) -> None:
        """These, and all that come there afterwards."""
        with contextlib.closing(open_storage(self._url)) as gate:
            gate.put("go", [b"x"])


@contextlib.contextmanager
def held(folder: Path, round: int) -> Iterator[Gate]:
    """A gate before this round, counted from 0; the folder takes it."""
    url = (folder / "gate").as_uri()
    with own_rounds(folder, _HOLD.format(round=round, url=url)) as code:
        yield Gate(url, code)
