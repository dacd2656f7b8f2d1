"""Another process that opens a storage as a worker does, and makes the calls that it is told; ``processes.py`` runs it.

It is run as a file, so that it imports nothing of the kit: what it has beside core is what a worker has.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import random
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lambdaml_core.storage import FullStorage

_START_S = 60.0
_OFTEN = 64  # calls and returns


def main() -> None:
    """Read what to open and then calls from standard input, one JSON line each; write the answers."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a plugin prints is no answer
    faulthandler.dump_traceback_later(_START_S, exit=True)
    job = json.loads(sys.stdin.readline())
    storage = _opened(job)
    faulthandler.cancel_dump_traceback_later()  # it may wait for calls as long as it likes
    for line in sys.stdin:
        faulthandler.dump_traceback_later(job["limit_s"], exit=True)  # a hang ends, and says where
        method, *arguments = json.loads(line)
        json.dump(_call(storage, method, *arguments), answers)
        answers.write("\n")
        answers.flush()
        faulthandler.cancel_dump_traceback_later()
    faulthandler.dump_traceback_later(job["limit_s"], exit=True)  # so does one at the end of the process


@contextlib.contextmanager
def halting(seed: int) -> Iterator[None]:
    """This thread halts at calls, so that others come in between two calls of a storage as they do where its service
    is far away: often at first, and seldom later, lest a put of very many calls take seconds. Which calls these are
    follows from ``seed``."""
    draw = random.Random(seed).random  # noqa: S311 - a schedule, no secret
    often = iter(range(_OFTEN))

    def halt(_frame: object, _event: str, _argument: object) -> None:
        if draw() < (0.02 if next(often, None) is None else 0.3):
            time.sleep(2e-4)

    before = sys.getprofile()
    sys.setprofile(halt)  # a trace function would end the measuring of coverage
    try:
        yield
    finally:
        sys.setprofile(before)


def _opened(job: dict[str, Any]) -> FullStorage:
    sys.path[:] = job["path"]
    from lambdaml_core.specs import Reference
    from lambdaml_core.storage import build_storage
    from lambdaml_core.storage.layers import Complete, Prefix

    storage: FullStorage = Complete(build_storage(job["url"], Reference(**job["reference"])))
    return Prefix(storage, job["prefix"]) if job["prefix"] else storage


def _call(storage: FullStorage, method: str, *arguments: Any) -> Any:
    """Values are text here, a character a byte."""
    from lambdaml_core.errors import KeyNotFound

    if method == "put":
        key, value, if_absent = arguments
        with halting(os.getpid()) if if_absent else contextlib.nullcontext():
            return storage.put(key, [value.encode("latin-1")], if_absent=if_absent)
    if method == "get":
        with contextlib.suppress(KeyNotFound):
            return str(storage.get(*arguments), "latin-1")
        return None
    if method == "wait":
        keys, wait_s = arguments
        return {key: str(data, "latin-1") for key, data in storage.get_many(keys, wait_s=wait_s).items()}
    return getattr(storage, method)(*arguments)


if __name__ == "__main__":
    main()
