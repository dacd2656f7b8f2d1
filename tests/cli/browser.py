"""Debian's chromium without a window, told what to do through its debugging pipe: pages as people get to see them."""

from __future__ import annotations

import base64
import fcntl
import io
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from PIL import Image

RGB = tuple[int, int, int]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""

_DEADLINE_S = 60.0
_FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--no-first-run",
    "--remote-debugging-pipe",
]


class Browser:
    """One chromium with one page; use as a context manager.

    Attributes:
        requests: URLs that the page has asked for since it was opened, its own included.
        complaints: what the console said, refusals of the page's own policy included.
    """

    def __init__(self, home: Path) -> None:
        program = shutil.which("chromium")
        if program is None:
            raise FileNotFoundError(
                "chromium is not installed; tests/run installs it (Debian: apt-get install chromium)"
            )
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._pages: list[str] = []
        self._loaded, self._calls, self._unread = False, 0, b""
        theirs_in, self._to = _pipe()
        self._from, theirs_out = _pipe()
        # chromium reads commands from 3 and answers on 4
        script = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self._log = (home / "chromium.log").open("wb")
        self._process = subprocess.Popen(
            ["bash", "-c", script, "bash", program, *_FLAGS, f"--user-data-dir={home}/profile", "about:blank"],
            pass_fds=(theirs_in, theirs_out),
            env={**os.environ, "HOME": str(home)},
            stdout=self._log,
            stderr=self._log,
        )
        os.close(theirs_in)
        os.close(theirs_out)

    def __enter__(self) -> Browser:
        self._call("Target.setDiscoverTargets", discover=True)
        while not self._pages:  # it may answer before its first page is there
            self._read()
        self._session = self._call("Target.attachToTarget", targetId=self._pages[0], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._to)  # which ends it
        try:
            self._process.wait(_DEADLINE_S)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._from)
            self._log.close()

    def open(self, path: Path, *, width: int = 1280, scheme: str = "light", media: str = "screen") -> None:
        """Show a file, as wide as told, and wait until it is loaded."""
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self._call("Emulation.setEmulatedMedia", media=media, features=[feature])
        self._loaded = False
        self.requests.clear()
        self.complaints.clear()
        self._call("Page.navigate", url=path.resolve().as_uri())
        while not self._loaded:
            self._read()
        self.evaluate("document.fonts.ready.then(() => 1)")

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        result = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def picture(self) -> Image.Image:
        """All of the page."""
        size = self.evaluate("[innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1}
        shot = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        return Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")

    def hover(self, x: float, y: float) -> None:
        """Move the pointer to a place of the window."""
        self._call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._calls += 1
        message: dict[str, Any] = {"id": self._calls, "method": method, "params": parameters}
        if not method.startswith("Target."):
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._calls:
                assert "error" not in answer, (method, answer["error"])
                result: dict[str, Any] = answer["result"]
                return result

    def _read(self) -> Mapping[str, Any]:
        """The next message; what it tells of the page is noted."""
        deadline = time.monotonic() + _DEADLINE_S
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))
            piece = os.read(self._from, 1 << 20) if ready else b""
            assert piece, f"chromium does not answer; {self._log.name} has what it said"
            self._unread += piece
        text, _, self._unread = self._unread.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, event: str, told: Mapping[str, Any]) -> None:
        if event == "Page.loadEventFired":
            self._loaded = True
        elif event == "Target.targetCreated" and told["targetInfo"]["type"] == "page":
            self._pages.append(told["targetInfo"]["targetId"])
        elif event == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif event == "Log.entryAdded":
            self.complaints.append(told["entry"]["text"])
        elif event in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
            self.complaints.append(json.dumps(told))


def _pipe() -> tuple[int, int]:
    """Both ends, with numbers that are out of the way of 3 and 4."""
    ends = os.pipe()
    moved = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in ends]
    for end in ends:
        os.close(end)
    return moved[0], moved[1]


# --- looking ----------------------------------------------------------------------------------------------


def colour(browser: Browser, name: str) -> RGB:
    """The colour that page.css gives a name, as a browser understands it."""
    found = browser.evaluate(f"getComputedStyle(document.documentElement).getPropertyValue('--{name}').trim()")
    return (int(found[1:3], 16), int(found[3:5], 16), int(found[5:7], 16))


def boxes(browser: Browser, selector: str) -> list[Box]:
    """Where elements are on the page: left, top, right, bottom."""
    script = (
        f"[...document.querySelectorAll({selector!r})].map(e => e.getBoundingClientRect())"
        ".map(b => [b.left, b.top + scrollY, b.right, b.bottom + scrollY])"
    )
    return [tuple(box) for box in browser.evaluate(script)]


def pixels(picture: Image.Image, box: Box, wanted: RGB, slack: int = 40) -> list[tuple[int, int]]:
    """Where in a box there is this colour, or nearly."""
    left, top, right, bottom = (round(v) for v in box)
    piece = picture.crop((left, top, right, bottom))
    data = piece.tobytes()
    found = []
    for i in range(0, len(data), 3):
        if sum(abs(data[i + k] - wanted[k]) for k in range(3)) <= slack:
            found.append((left + i // 3 % piece.width, top + i // 3 // piece.width))
    return found
