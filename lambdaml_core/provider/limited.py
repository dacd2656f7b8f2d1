"""``python -m lambdaml_core.provider.limited SECONDS MODULE ...``: run a module, and end it when its time is up.

The kernel does it, wherever the process is then, as a cloud ends a function: no handler runs and nothing is cleaned up.
"""

from __future__ import annotations

import math
import runpy
import signal
import sys


def remaining_s() -> float:
    """Seconds until this process is ended; infinity where no limit was set for it."""
    seconds, _ = signal.getitimer(signal.ITIMER_REAL)
    return seconds or math.inf


def main() -> None:
    seconds, module = sys.argv[1:3]
    signal.setitimer(signal.ITIMER_REAL, float(seconds))  # at its end SIGALRM, which ends whoever does not handle it
    del sys.argv[1:3]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
