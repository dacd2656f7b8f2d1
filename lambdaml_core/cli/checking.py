"""The process in which ``lambdaml plugins check`` runs suites: whatever they do to it, there is an answer."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, cast

from lambdaml_core.cli.checked import Event
from lambdaml_core.provider.local import worker_environment
from lambdaml_core.run.driver.interrupts import Interrupts

_SILENT_S = 60.0  # until it says for itself how long it may be silent
_GRACE_S = 10.0  # to end in order when it was asked to
_LOOK_S = 0.5


def run_suites(asked: Mapping[str, Any], on_event: Callable[[Event], None]) -> None:
    """Run suites in a process of their own, and have cleaned up after them whatever happens.

    Args:
        asked: as ``lambdaml_core.testing.check`` takes it.
        on_event: is called with what becomes of them, as it happens. ``died`` comes where the process did not come to
            its end; the last is ``swept``, where there is a storage.

    Raises:
        KeyboardInterrupt: by Ctrl-C or SIGTERM, once all has been cleaned up.
    """
    late: list[Event] = []
    interrupted, silent_s = False, _SILENT_S
    with tempfile.TemporaryDirectory(prefix="lambdaml-check-") as folder, Interrupts() as interrupts:
        notes = Path(folder, "notes")
        notes.mkdir()
        asked = {**asked, "folder": folder, "notes": str(notes), "path": sys.path}
        try:
            with _Child(asked) as child:
                ended = False
                try:
                    for event in child.events():
                        ended |= event["event"] in ("ended", "refused")
                        silent_s = max(silent_s, event.get("silent_s", 0.0))
                        on_event(event)
                except KeyboardInterrupt:
                    interrupted = True
                interrupts.defer()
                child.end()
                if not ended and not interrupted:
                    late.append({"event": "died", "said": child.last_words()})
        finally:
            interrupts.defer()
            if "url" in asked:  # now that nothing can be put any more
                late.append(_sweep(asked, silent_s))
    for event in late:
        on_event(event)
    if interrupted:
        raise KeyboardInterrupt


def _sweep(asked: Mapping[str, Any], silent_s: float) -> Event:
    """Delete what a process has noted and left."""
    with _Child({**asked, "suites": []}, silent_s) as child:
        for event in child.events():
            if event["event"] == "swept":
                return event
        return {"event": "swept", "left": [], "problem": child.last_words()}


class _Child:
    """``python -m lambdaml_core.testing.check``, pinned as a worker is; in a process group of its own, so that a Ctrl-C
    in the terminal does not reach it.
    """

    def __init__(self, asked: Mapping[str, Any], silent_s: float = _SILENT_S) -> None:
        env = worker_environment() | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        env["HYPOTHESIS_STORAGE_DIRECTORY"] = str(Path(asked["folder"], "hypothesis"))
        for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):  # the author's, of his own tests
            env.pop(name, None)
        self._said = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115  (closed on exit)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "lambdaml_core.testing.check"],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            process_group=0,
        )
        self._requests, self._answers = cast(IO[str], self._process.stdin), cast(IO[str], self._process.stdout)
        self._silent_s = silent_s
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._asked = asked

    def __enter__(self) -> _Child:
        self._reader.start()
        with contextlib.suppress(BrokenPipeError):  # it has ended already, and its last words say why
            self._requests.write(json.dumps(self._asked))
            self._requests.close()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # it, and what laws have started
        self._process.wait()
        self._said.close()
        self._reader.join(_LOOK_S)
        if not self._reader.is_alive():  # else something out of reach holds on to the other end
            self._answers.close()

    def events(self) -> Iterator[Event]:
        """All events until it has ended; one that is silent for too long is ended, and says where it was."""
        heard = time.monotonic()
        ended = False
        while True:
            try:
                event = self._events.get(timeout=_LOOK_S)
            except queue.Empty:
                if ended:
                    return  # and something that it has started holds its output
                ended = self._has_ended()  # what it said last may not have been read yet
                if not ended and time.monotonic() - heard > self._silent_s:
                    self._process.send_signal(signal.SIGABRT)
                continue
            if event is None:
                return
            heard = time.monotonic()
            self._silent_s = event.get("silent_s", self._silent_s)
            yield event

    def end(self) -> None:
        """Have it end in order, if it has not: laws end what they have started."""
        if not self._has_ended():
            self._process.send_signal(signal.SIGINT)
            self._silent_s = _GRACE_S
            for _ in self.events():
                pass

    def last_words(self) -> str:
        """How a process ended that did not come to its end, and where its threads were then."""
        self._said.seek(0)
        text = self._said.read()
        fatal = re.search(r"Fatal Python error: .*|Timeout \(.*\)!", text)
        code = self._process.wait() if self._has_ended() else 0
        if fatal is not None:
            return f"its process ended: {text[fatal.start() :]}"
        if code < 0:
            return f"its process was ended by {signal.Signals(-code).name}"
        return f"its process ended: {text.strip().rpartition(chr(10))[2]}"

    def _has_ended(self) -> bool:
        if self._process.returncode is not None:
            return True
        # left for wait(): until then its number, and that of its group, are its own
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _read(self) -> None:
        for line in self._answers:
            self._events.put(json.loads(line))
        self._events.put(None)
