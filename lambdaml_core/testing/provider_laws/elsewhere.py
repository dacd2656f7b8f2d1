"""What another process does with a provider: all that it is given is JSON.

``python -m lambdaml_core.testing.provider_laws.elsewhere`` reads what to do from standard input, and answers in JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from lambdaml_core.provider.base import Provider, WorkerRef
from lambdaml_core.specs import Reference


def elsewhere(provider: Reference, deployment: Mapping[str, Any], *, patience_s: float, **what: Any) -> Any:
    """Have a fresh process do one thing: ``launch=ref``, ``poll=handles`` or ``cancel=[run, handles]``.

    Raises:
        AssertionError: it failed; with what it printed.
    """
    told = {"provider": asdict(provider), "deployment": deployment, "what": what}
    done = subprocess.run(  # noqa: S603  (this interpreter, no shell)
        [sys.executable, "-m", __name__],
        input=json.dumps(told),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        timeout=patience_s,
        check=False,
    )
    assert done.returncode == 0, f"another process cannot {next(iter(what))} by the deployment's JSON:\n{done.stderr}"
    return json.loads(done.stdout)


def _do(provider: Provider, deployment: Mapping[str, Any], what: Mapping[str, Any]) -> Any:
    if "launch" in what:
        return provider.launcher(deployment).launch(WorkerRef(**what["launch"]))
    if "poll" in what:
        return dict(provider.poll(what["poll"]))
    run, handles = what["cancel"]
    return provider.cancel(deployment, run, handles)


def main() -> None:
    """The process."""
    told = json.loads(sys.stdin.read())
    answer = _do(Reference(**told["provider"]).build(), told["deployment"], told["what"])
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
