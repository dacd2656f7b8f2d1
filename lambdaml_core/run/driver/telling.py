"""Events of a run on their way from a driver to whoever listens."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from lambdaml_core.registry import default_registry
from lambdaml_core.run.driver.following import Event


class Teller:
    """Tells plugins that observe runs, and one function.

    Args:
        on_event: called with each event; None = nobody.

    Attributes:
        objection: what ``on_event`` has raised; it went on to who told the event.
    """

    def __init__(self, run: str, on_event: Callable[[Event], None] | None) -> None:
        self.objection: BaseException | None = None
        self._run, self._on_event = run, on_event

    def tell(self, event: str, **values: Any) -> None:
        """An event of the driver's own."""
        self.emit({"event": event, "run": self._run, "time_s": time.time(), **values})

    def emit(self, event: Event) -> None:
        """An event as it is."""
        default_registry().run_event(event)
        if self._on_event is not None:
            try:
                self._on_event(event)
            except BaseException as e:
                self.objection = e
                raise
