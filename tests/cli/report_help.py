"""Histories that are changed by hand, and their pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from browser import Browser

from lambdaml_core.cli.page.report import report_page
from lambdaml_core.run.records.history import RunHistory

HOSTILE = (
    "</p></title></style><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">&'\""
)


def show(browser: Browser, history: RunHistory, folder: Path, **how: Any) -> str:
    """Open the report of a history that was changed by hand. Returns the text of the page."""
    path = folder / "report.html"
    path.write_bytes(report_page(history))
    browser.open(path, **how)
    assert browser.complaints == []
    return str(browser.evaluate("document.body.innerText"))


def changed(history: RunHistory, **values: Any) -> RunHistory:
    """A copy, with other values; those of ``record`` replace key by key."""
    copy: Any = json.loads(json.dumps(history))
    copy["record"] |= values.pop("record", {})
    return copy | values  # type: ignore[no-any-return]
