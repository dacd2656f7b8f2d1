"""What a round may not look at: while an optimizer's code runs, looking fails the law."""

from __future__ import annotations

import builtins
import contextlib
import functools
import io
import os
import platform
import random
import secrets
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any, TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray

from lambdaml_core.comm.base import Arrays
from lambdaml_core.optim.base import Optimizer, State, Worker
from lambdaml_core.testing.optimizer_laws.witness import Asked, Witness

T = TypeVar("T")

_place = threading.local()


@contextlib.contextmanager
def _inside(inside: bool) -> Iterator[None]:
    before = getattr(_place, "inside", False)
    _place.inside = inside
    try:
        yield
    finally:
        _place.inside = before


class Secluded(Witness):
    """Knows when an optimizer's own code runs: in start, round and fill, but not within collectives."""

    def start(self, w: Worker, params: NDArray[Any]) -> State:
        with _inside(True):
            return super().start(w, params)

    def round(self, w: Worker, s: State) -> Mapping[str, float]:
        with _inside(True):
            return super().round(w, s)

    def exchange(self, asked: Asked, do: Callable[[], T]) -> T:
        with _inside(False):
            return super().exchange(asked, do)

    def fill(self, x: Arrays, do: Callable[[], None]) -> None:
        with _inside(True):
            super().fill(x, do)


def seclude(patch: pytest.MonkeyPatch, optimizer: Optimizer) -> None:
    """Have an optimizer fail that asks for the time, for chance that is not ``w.rng``, for its surroundings, or for
    files and connections. Others, libraries that it calls included, may ask for the first three."""
    own = {cls.__module__ for cls in type(optimizer).__mro__ if cls is not object}
    packages = {module.partition(".")[0] for module in own} - {"typing", "builtins", "abc"}
    forbidden: list[tuple[Any, str, set[str] | None]] = [(place, name, packages) for place, name in _forbidden()]
    forbidden += [(place, "open", None) for place in (builtins, io, os)]
    forbidden += [(socket.socket, "connect", None), (subprocess.Popen, "__init__", None)]
    for place, name, callers in forbidden:
        real = getattr(place, name)
        guard = _guard(f"{getattr(place, '__name__', place)}.{name}", real, callers)
        patch.setattr(place, name, guard)
        for module in [sys.modules[m] for m in own if m in sys.modules]:
            for alias in [alias for alias, value in vars(module).items() if value is real]:
                patch.setattr(module, alias, guard)


def _forbidden() -> Iterator[tuple[Any, str]]:
    """Where they are, and their names."""
    for clock in ("time", "monotonic", "perf_counter", "process_time", "thread_time"):
        yield time, clock
        yield time, f"{clock}_ns"
    for module, generator in ((random, random.random), (np.random, np.random.random)):
        for name, function in vars(module).items():
            if callable(function) and getattr(function, "__self__", 0) is getattr(generator, "__self__", None):
                yield module, name
    yield np.random, "default_rng"
    yield from ((uuid, "uuid1"), (uuid, "uuid4"), (secrets, "token_bytes"), (os, "urandom"))
    yield from ((os, "getpid"), (os, "uname"), (socket, "gethostname"), (platform, "node"))
    yield type(os.environ), "__getitem__"


def _guard(what: str, real: Callable[..., Any], callers: set[str] | None) -> Callable[..., Any]:
    @functools.wraps(real)
    def guard(*args: Any, **keys: Any) -> Any:
        seeded = what.endswith("default_rng") and any(value is not None for value in (*args, *keys.values()))
        if getattr(_place, "inside", False) and not seeded and _asks(callers):
            pytest.fail(f"{what} is called within a round or its start")
        return real(*args, **keys)

    return guard


def _asks(callers: set[str] | None) -> bool:
    """Whether the call comes from one of these packages; None = from any code that is not being imported."""
    frame: FrameType | None = sys._getframe(2)
    names = []
    while frame is not None:
        names.append(str(frame.f_globals.get("__name__")))
        frame = frame.f_back
    if callers is None:
        return not any(name.startswith("importlib._bootstrap") for name in names)
    direct = next(name for name in names if name not in ("os", "collections.abc", "random", "uuid"))
    return direct.partition(".")[0] in callers
