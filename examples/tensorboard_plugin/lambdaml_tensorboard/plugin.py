"""An observer: writes the figures of every round and of every epoch where TensorBoard finds them.

    pip install . ./examples/tensorboard_plugin        # in a checkout of LambdaML
    lambdaml train examples/census.toml                # or train(...) in Python: nothing in the job changes
    tensorboard --logdir tensorboard

Each run has a folder of its own in ``tensorboard``, or in the folder that the variable LAMBDAML_TENSORBOARD names.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lambdaml_core.hookspecs import hookimpl

LAMBDAML_API = 0

_writers: dict[str, Any] = {}  # by run: several may go on at once, each in a thread


@hookimpl
def lambdaml_run_event(event: Mapping[str, Any]) -> None:
    """Write what the event says. Events of one run come in order, from one thread of the driver."""
    run, kind = event["run"], event["event"]
    if kind == "rounds":
        _write_rounds(_writer(run), event)
    elif kind == "epoch":
        _write_figures(_writer(run), event)
    elif kind == "ended" and run in _writers:
        _writers.pop(run).close()


def _writer(run: str) -> Any:
    if run not in _writers:
        from tensorboardX import SummaryWriter  # not above: plugins are imported to be listed

        folder = Path(os.environ.get("LAMBDAML_TENSORBOARD", "tensorboard"))
        _writers[run] = SummaryWriter(str(folder / run))
    return _writers[run]


def _write_rounds(writer: Any, event: Mapping[str, Any]) -> None:
    """The training loss, and what else the optimizer says, such as residuals; TensorBoard gets the time of each round,
    not that of the event that tells of several."""
    began = event["time_s"] - event["seconds"][-1]
    for name, column in {"loss": event["loss"], **event["figures"]}.items():
        for i, (value, seconds) in enumerate(zip(column, event["seconds"], strict=True)):
            if value is not None:  # no row in this round, or a figure without a meaning in it
                writer.add_scalar(f"train/{name}", value, event["first"] + i, began + seconds)


def _write_figures(writer: Any, event: Mapping[str, Any]) -> None:
    """What the model reaches on the validation rows, against rounds like the training loss."""
    for name, value in event["figures"].items():
        if value is not None:  # a figure without a meaning here
            writer.add_scalar(f"validation/{name}", value, event["round"], event["time_s"])
