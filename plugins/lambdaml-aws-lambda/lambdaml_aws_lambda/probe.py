"""Whether a worker in this function would reach the storages of its job: asked once, before any is launched."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lambdaml_aws_lambda import secret
from lambdaml_core.errors import LambdaMLError, StorageUnavailable
from lambdaml_core.run.redact import without_secrets
from lambdaml_core.run.spec import Place
from lambdaml_core.specs import Reference

_KEY = "lambdaml-probe"  # which nobody writes
_PATIENCE_S, _MARGIN_S = 15.0, 1.0  # the second is kept for the answer


def answer(places: Sequence[Mapping[str, Any]], *, limit_s: float) -> dict[str, Any]:
    """Read a key that is not there in each place.

    Args:
        places: ``url``, with secrets as ``{env:NAME}``, and ``storage``, a :class:`Reference` as JSON.
        limit_s: until the function is ended.

    Returns:
        ``ok``; ``places``: by URL None, or in one line why it cannot be used; ``error``: None, or the same of all.
    """
    give_up = time.monotonic() + min(_PATIENCE_S, limit_s - _MARGIN_S)
    try:
        secret.load(os.environ)
    except LambdaMLError as e:
        return {"ok": False, "places": {}, "error": e.message}
    found = {place["url"]: _try(place, give_up) for place in places}
    return {"ok": not any(found.values()), "places": found, "error": None}


def _try(place: Mapping[str, Any], give_up: float) -> str | None:
    try:
        reference = Reference(**place["storage"])
        with contextlib.closing(Place(place["url"], reference).open(interrupt=_until(give_up))) as storage:
            storage.get_many([_KEY])
    except LambdaMLError as e:
        return without_secrets(e.message, [place["url"]])
    return None


def _until(give_up: float) -> Callable[[], None]:
    def check() -> None:
        if time.monotonic() > give_up:
            raise StorageUnavailable("it does not answer")

    return check
