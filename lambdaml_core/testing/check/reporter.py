"""Tells who has started the check what becomes of each law, as it happens."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

import pytest

from lambdaml_core.specs import Reference
from lambdaml_core.testing.base import doc_of
from lambdaml_core.testing.check.place import Place
from lambdaml_core.testing.pytest_plugin import GRACE_S
from lambdaml_core.testing.threads import Hang

Tell = Callable[[Mapping[str, Any]], None]

_PATIENCE, _LIMIT = 2_000, 15_000
"""Requests, one after the other, that a wait and a law may take."""

_MOST_LINES = 200
_MACHINERY = (
    *("_pytest", "pluggy", "pytest", "hypothesis", "threading", "concurrent"),
    *("lambdaml_core.testing.check", "lambdaml_core.testing.pytest_plugin", "lambdaml_core.storage.layers"),
)


class Reporter:
    """A pytest plugin; it also has the fixtures by which suites get what is checked.

    Args:
        tell: takes one event, a JSON object.
        asked: what was asked for.
        place: of a storage.
    """

    def __init__(self, tell: Tell, asked: Mapping[str, Any], place: Place | None) -> None:
        self._tell, self._asked, self._place = tell, asked, place
        self.hung = False

    @pytest.fixture
    def asked(self) -> Mapping[str, Any]:
        return self._asked

    @pytest.fixture
    def place(self) -> Place:
        assert self._place is not None
        return self._place

    @pytest.fixture
    def build(self, asked: Mapping[str, Any]) -> Callable[[], Any]:
        return Reference(**asked["reference"]).build

    @pytest.fixture
    def load(self, asked: Mapping[str, Any]) -> Callable[[], Any]:
        return Reference(**asked["reference"]).load

    def pytest_configure(self) -> None:
        # the kit has been imported before pytest was there to do this: laws are to show the values that they compare
        pytest.register_assert_rewrite("lambdaml_core.testing")

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Function]) -> None:
        """A slow storage is given more time, and one that has not answered yet is given little."""
        if self._place is None:
            return
        for suite in {item.cls for item in items}:
            if self._place.latency_s is None:
                suite.limit_s = self._asked["probe_s"]
            else:
                suite.limit_s = max(self._asked["limit_s"], _LIMIT * self._place.latency_s)
                suite.patience_s = max(suite.patience_s, _PATIENCE * self._place.latency_s)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Suites that cannot be imported: what they need is missing or broken."""
        if report.failed:
            last = report.longreprtext.strip().rpartition("\n")[2].removeprefix("E").strip()
            self._tell({"event": "refused", "message": last, "hint": None})

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        laws = {(item.cls, item.originalname) for item in session.items if isinstance(item, pytest.Function)}
        silent_s = max((suite.limit_s for suite, _ in laws), default=0.0) + 3 * GRACE_S
        self._tell({"event": "collected", "laws": len(laws), "silent_s": silent_s})

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Function) -> None:
        self._tell({"event": "began", **_law(item), "says": doc_of(item.cls, item.originalname)})

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Function, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.when == "call" or not report.passed:
            parameters = item.callspec.id if hasattr(item, "callspec") else ""
            event = {"event": "law", **_law(item), "parameters": parameters, "seconds": report.duration}
            self._tell({**event, **_outcome(report, call)})
        if call.excinfo is not None and isinstance(call.excinfo.value, Hang):
            if self._place is not None:
                self._place.hangs = True
            self.hung = True
            item.session.shouldstop = "a law has hung, and so would others"
        return report


def _law(item: pytest.Function) -> Mapping[str, Any]:
    return {"suite": item.cls.__mro__[1].__name__, "law": item.originalname}


def _outcome(report: pytest.TestReport, call: pytest.CallInfo[None]) -> Mapping[str, Any]:
    if report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        return {"outcome": "not declared", "reason": reason.removeprefix("Skipped: ")}
    if report.passed or call.excinfo is None:
        return {"outcome": "ok"}
    error = _first(call.excinfo.value)
    return {"outcome": "failed", "said": "\n".join(_said(error)), "at": _where(error)}


def _first(error: BaseException) -> BaseException:
    """Where Hypothesis has found several: any of them."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _said(error: BaseException) -> Iterator[str]:
    """What it says, and what Hypothesis adds to it, in some lines."""
    plain = isinstance(error, AssertionError | Hang) or type(error) is pytest.fail.Exception
    text = str(error) if plain else "".join(traceback.format_exception_only(error)).strip()
    lines = text.replace("\n  Use -v to get more diff", "").splitlines() + (
        [] if not plain else [n for note in _notes(error) for n in note.splitlines()]
    )
    yield from lines[:_MOST_LINES]
    if len(lines) > _MOST_LINES:
        yield f"... and {len(lines) - _MOST_LINES} more lines"


def _notes(error: BaseException) -> list[str]:
    return getattr(error, "__notes__", [])


def _where(error: BaseException) -> list[str]:
    """The calls that led there, from the law on, without pytest's own."""
    calls = []
    for frame, line in traceback.walk_tb(error.__traceback__):
        module = inspect.getmodulename(frame.f_code.co_filename)
        name = str(frame.f_globals.get("__name__", module))
        if not name.startswith(_MACHINERY):
            calls.append(f"{name}:{line} in {frame.f_code.co_name}")
    return calls[-4:]
