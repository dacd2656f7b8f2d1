"""What pytest does with laws: it ends those that hang, and says of those that fail why they are there.

Every pytest of an environment that has LambdaML loads this, so it imports nothing heavy, and looks at nothing but laws.
"""

from __future__ import annotations

import atexit
import faulthandler
import os
import signal
import threading
from collections.abc import Generator
from typing import Any

import pytest

from lambdaml_core.testing.base import Laws, doc_of, laws_of
from lambdaml_core.testing.threads import Hang, stacks

GRACE_S = 10.0
"""How long a law that has hung may take to end by itself. Code that never comes back to Python cannot be interrupted:
then the process ends, with the stacks of all threads."""

_EXIT_S = 600.0  # for what is done at the exit of the process, once its threads have ended

_stderr = pytest.StashKey[int]()
_laws = pytest.StashKey[bool]()  # there are some
_hung = pytest.StashKey[dict[type[Laws], str]]()  # the law of each suite that has hung


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_hung] = {}
    config.stash[_stderr] = os.dup(2)  # as it is now: while a test runs, pytest keeps what is written to it


def pytest_unconfigure(config: pytest.Config) -> None:
    if config.stash.get(_laws, False):
        _limit_the_end(config.stash[_stderr])
    else:
        os.close(config.stash[_stderr])


def _limit_the_end(stderr: int) -> None:
    """Threads that a plugin has left, and that are no daemons, would otherwise be waited for without end.

    When they have ended, what was registered for the exit of the process is done, such as pytest's removal of old
    folders, which may rightly take long.
    """
    lock, exits = threading.Lock(), threading.Event()

    def limit_threads() -> None:
        threading.main_thread().join()
        with lock:
            if not exits.is_set():
                faulthandler.dump_traceback_later(GRACE_S, exit=True, file=stderr)

    def limit_exit() -> None:
        with lock:
            exits.set()
            faulthandler.dump_traceback_later(_EXIT_S, exit=True, file=stderr)

    atexit.register(limit_exit)
    threading.Thread(target=limit_threads, daemon=True).start()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    plugins = config.pluginmanager
    for item in items:
        suite = _suite(item)
        if suite is None or plugins.is_blocked("timeout"):
            continue
        if not plugins.has_plugin("timeout"):
            raise pytest.UsageError('laws need pytest-timeout, so that none can hang: pip install "lambdaml[testing]"')
        config.stash[_laws] = True
        if item.get_closest_marker("timeout") is None and config.getoption("timeout") is None:
            item.add_marker(pytest.mark.timeout(suite.limit_s))


@pytest.hookimpl(optionalhook=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> bool | None:
    """Pytest-timeout's own way would fail the law by an exception that Hypothesis takes for one of the plugin's."""
    from pytest_timeout import is_debugging

    main = threading.current_thread() is threading.main_thread()
    if _suite(item) is None or settings.method != "signal" or not main or is_debugging():
        return None

    def end(_signal: int, _frame: object) -> None:
        __tracebackhide__ = True
        if not is_debugging():
            raise Hang(f"no end within {settings.timeout:g} s: something waits for ever\n{stacks()}")

    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, settings.timeout)
    faulthandler.dump_traceback_later(settings.timeout + GRACE_S, exit=True, file=item.config.stash[_stderr])
    return True


@pytest.hookimpl(optionalhook=True)
def pytest_timeout_cancel_timer(item: pytest.Item) -> None:
    if _suite(item) is not None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """What hangs in one law does so in most: each would take its whole limit, and all together hours."""
    suite = _suite(item)
    law = item.config.stash[_hung].get(suite) if suite else None
    if law:
        pytest.skip(f"not tried, since {law} has hung: mend that first")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    suite, law = _suite(item), getattr(item, "originalname", item.name)
    hung = call.excinfo is not None and isinstance(call.excinfo.value, Hang)
    if hung and suite and not item.get_closest_marker("xfail"):
        item.config.stash[_hung].setdefault(suite, law)
    add = getattr(report.longrepr, "addsection", None)  # there is none where nothing was raised
    if add and suite and report.when == "call" and law in laws_of(suite):
        said = doc_of(suite, law)
        if said.partition("\n")[0] not in str(report.longrepr):  # unless pytest shows the source of the law
            add(f"the law {law}", said)
    return report


def _suite(item: pytest.Item) -> type[Laws] | None:
    cls = getattr(item, "cls", None)
    return cls if isinstance(cls, type) and issubclass(cls, Laws) else None
