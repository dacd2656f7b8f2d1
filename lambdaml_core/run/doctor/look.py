"""One look at a thing: its findings, within a time, whatever the code of others that it calls may do."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from lambdaml_core.errors import LambdaMLError
from lambdaml_core.findings import Finding
from lambdaml_core.run.driver.interrupts import Interrupts
from lambdaml_core.run.redact import without_secrets

_GRACE_S = 3.0  # for one that is told to stop to put away what it has made
_SECRET_NAME = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|CREDENTIAL|(^|_)KEY($|_)", re.IGNORECASE)
_LONGEST = 500
_LEAST_SECRET = 8  # letters: what is shorter would take words apart that have nothing to do with it
_LIBRARY = sysconfig.get_path("stdlib")
_STATES = get_args(get_type_hints(Finding)["state"])

REPORT = "this is a fault of LambdaML: please report it"


@dataclass(frozen=True, kw_only=True)
class Look:
    """Something to look at.

    Attributes:
        group: what kind of thing it is: ``environment``, ``storage``.
        subject: which of that kind, such as a URL, whose ``{env:NAME}`` are secrets; may be empty.
        what: names the finding where the look itself fails.
        find: yields findings, in a thread of its own; given an event that is set when nobody waits any longer.
        remedy: what to do where an error says nothing about it.
        blame: what to do where the look fails by an error that is none of ours.
        seconds: how long it may take; None = as long as any.
    """

    group: str
    what: str
    find: Callable[[threading.Event], Iterable[Finding]]
    subject: str = ""
    remedy: str = REPORT
    blame: str = REPORT
    seconds: float | None = None


def findings(look: Look, seconds: float) -> list[Finding]:
    """What it finds, within so many seconds if it names no others.

    An error of it, or that it takes too long, is a finding too. What it prints goes to standard error.
    """
    found: list[Finding] = []
    seconds = look.seconds or seconds
    stop, done = threading.Event(), threading.Event()  # a join that is interrupted takes the thread for ended

    def work() -> None:
        try:
            for finding in look.find(stop):
                found.append(_presentable(finding, look))
        except (Exception, SystemExit) as e:  # noqa: BLE001 - whatever others' code raises is a finding
            found.append(_presentable(_failed(look, e), look))
        finally:
            done.set()

    with contextlib.redirect_stdout(sys.stderr), Interrupts() as interrupts:
        thread = threading.Thread(target=work, name=f"doctor {look.what}", daemon=True)
        thread.start()
        late = True
        try:
            late = not done.wait(seconds)
            where = _where(thread)
        finally:  # whoever interrupts it, however often, leaves nothing in a storage
            interrupts.defer()
            stop.set()
            done.wait(_GRACE_S)
        interrupts.check()
    return [*found, *([_hanging(look, seconds, where)] if late else [])]


def mend(look: Look, finding: Finding, seconds: float) -> Finding | None:
    """Call the fix of a finding of this look. Returns what is wrong with the fix, if anything is."""
    fix = finding.fix
    if fix is None:
        return None

    def find(_: threading.Event) -> Iterable[Finding]:
        fix()
        return ()

    mending = dataclasses.replace(look, what=finding.what, find=find, remedy=finding.remedy or look.remedy)
    failed = findings(mending, seconds)
    return dataclasses.replace(failed[0], said=f"cannot be mended: {failed[0].said}") if failed else None


def hide_secrets(text: str) -> str:
    """The text without the values of variables of this environment whose names are those of secrets.

    Secrets of ``{env:NAME}`` in URLs are among them only if named so: see :func:`without_secrets` for the others.
    """
    names = [n for n, value in os.environ.items() if _SECRET_NAME.search(n) and len(value) >= _LEAST_SECRET]
    return without_secrets(text, [f"{{env:{name}}}" for name in names])


def _failed(look: Look, e: BaseException) -> Finding:
    if isinstance(e, LambdaMLError):
        return Finding(what=look.what, state="problem", said=e.message, remedy=e.hint or look.remedy)
    if isinstance(e, ModuleNotFoundError) and e.name:
        absent = e.name.partition(".")[0]
        said = f"cannot be looked at without {absent}, which is not installed"
        return Finding(what=look.what, state="problem", said=said, remedy=f"pip install {absent}")
    return Finding(what=look.what, state="problem", said=f"fails with {type(e).__name__}: {e}", remedy=look.blame)


def _hanging(look: Look, seconds: float, where: str) -> Finding:
    said = f"no answer within {seconds:g} s" + where
    remedy = look.remedy if look.remedy != REPORT else look.blame
    return Finding(what=look.what, state="problem", said=said, remedy=remedy)


def _where(thread: threading.Thread) -> str:
    """Where it is, outside of Python's own library: whose fault it is shows best by that."""
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        file = frame.f_code.co_filename
        if "site-packages" in file or not file.startswith((_LIBRARY, "<")):
            return f", in {file}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def _presentable(finding: Any, look: Look) -> Finding:
    """The finding as it can be shown: in single lines, without secrets, its values JSON. Others may have written it."""
    if not (isinstance(finding, Finding) and finding.state in _STATES):
        said = f"checks() yields {type(finding).__name__}, which is no Finding"
        return Finding(what=look.what, state="problem", said=said, remedy=look.blame)
    remedy = finding.remedy
    if remedy is None and finding.state != "ok":
        remedy = look.remedy
    return dataclasses.replace(
        finding,
        what=_shown(finding.what, look),
        said=_shown(finding.said, look),
        remedy=None if remedy is None else _shown(remedy, look),
        values=_plain(finding.values, look),
    )


def _shown(text: object, look: Look) -> str:
    """In one line of bounded length. Secrets go first, whole as they are."""
    line = " ".join(hide_secrets(without_secrets(str(text), [look.subject])).split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."


def _plain(value: Any, look: Look) -> Any:
    if isinstance(value, Mapping):
        return {_shown(name, look): _plain(item, look) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, look) for item in value]
    return value if value is None or isinstance(value, int | float) else _shown(value, look)
