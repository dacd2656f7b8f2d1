"""Runs suites for ``lambdaml plugins check``, or deletes what a process that did so has left where no suites are named.

A request, one JSON object, comes on standard input; events, one JSON object a line, leave by standard output. What
plugins and pytest print goes to standard error.
"""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import settings

from lambdaml_core.errors import LambdaMLError, StorageError
from lambdaml_core.specs import Reference
from lambdaml_core.testing.check.place import Place
from lambdaml_core.testing.check.reporter import Reporter, Tell

_SUITES = "lambdaml_core.testing.check.suites"


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells have it ignored by what runs in the background
    asked = json.load(sys.stdin)
    sys.path[:] = asked["path"]  # so that plugins are found where whoever asks has found them
    with os.fdopen(os.dup(1), "w") as events:
        os.dup2(2, 1)
        faulthandler.enable()  # for whoever ends this with SIGABRT
        try:
            _answer(asked, _teller(events))
        except BaseException:  # noqa: BLE001 - the end of the process, whatever it was
            traceback.print_exc()
        os._exit(0)  # threads that hang keep nobody; and whoever reads the events sees an end that has come


def _teller(events: IO[str]) -> Tell:
    def tell(event: Mapping[str, Any]) -> None:
        try:
            print(json.dumps(event), file=events, flush=True)
        except BrokenPipeError:
            raise KeyboardInterrupt from None  # nobody waits for an answer: clean up, and that is all

    return tell


def _answer(asked: Mapping[str, Any], tell: Tell) -> None:
    place = None
    if "url" in asked:
        place = Place(asked["url"], Reference(**asked["reference"]), asked["prefix"], Path(asked["notes"]))
    if place is not None and not asked["suites"]:
        _sweep(place, tell)
    elif place is None or _usable(place, asked, tell):
        _run(asked, tell, place)


def _usable(place: Place, asked: Mapping[str, Any], tell: Tell) -> bool:
    """Whether the storage answers at all. If it says why not, that is told, and no laws are tried."""
    answers = queue.SimpleQueue[float | Exception]()

    def probe() -> None:
        try:
            answers.put(place.probe())
        except Exception as e:  # noqa: BLE001 - the laws say what is wrong with it
            answers.put(e)

    try:
        tell({"event": "place", "capabilities": dataclasses.asdict(place.caps())})
        threading.Thread(target=probe, daemon=True).start()
        answer = answers.get(timeout=asked["probe_s"])
        if isinstance(answer, StorageError):
            raise answer
        if not isinstance(answer, Exception):
            place.latency_s = answer
            tell({"event": "answered", "latency_s": answer})
    except LambdaMLError as e:
        tell({"event": "refused", "message": e.message, "hint": e.hint})
        return False
    except queue.Empty:
        pass  # a law will hang, and say where
    return True


def _run(asked: Mapping[str, Any], tell: Tell, place: Place | None) -> None:
    words = ["-q", "-c", os.devnull, "--rootdir", asked["folder"], "--noconftest", "-p", "no:cacheprovider"]
    words += ["-p", "timeout", "-p", "lambdaml_core.testing.pytest_plugin"]
    words += ["--pyargs", *(f"{_SUITES}::{suite}" for suite in asked["suites"])]
    # the same examples each time, and nothing left in the folder of whoever asked
    settings.register_profile("check", derandomize=True, database=None, deadline=None, max_examples=50)
    settings.load_profile("check")
    reporter = Reporter(tell, asked, place)
    with contextlib.redirect_stdout(sys.stderr):
        code = pytest.main(words, plugins=[reporter])
    if reporter.hung or code in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        tell({"event": "ended"})  # else what pytest has printed says why


def _sweep(place: Place, tell: Tell) -> None:
    try:
        tell({"event": "swept", "left": place.sweep(), "problem": None})
    except LambdaMLError as e:
        tell({"event": "swept", "left": [], "problem": e.message})


if __name__ == "__main__":
    main()
