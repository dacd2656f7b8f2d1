"""LambdaML: distributed machine-learning training on serverless functions, communicating through storage.

In five lines::

    from lambdaml_core import load, train

    run = train(x, y, workers=4, epochs=10)  # arrays, sparse matrices, files or URLs
    print(run.metrics)
    run.model.save("my-model")
    print(load("my-model").predict(x))

Importing this imports nothing heavy; the names below are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lambdaml_core.run.api import TrainedRun as TrainedRun
    from lambdaml_core.run.api import train as train
    from lambdaml_core.run.job import Job as Job
    from lambdaml_core.run.saved import SavedModel as SavedModel
    from lambdaml_core.run.saved import load as load

__version__ = "0.1.0"

_LAZY = {
    "Job": "lambdaml_core.run.job",
    "SavedModel": "lambdaml_core.run.saved",
    "TrainedRun": "lambdaml_core.run.api",
    "load": "lambdaml_core.run.saved",
    "train": "lambdaml_core.run.api",
}

__all__ = ["Job", "SavedModel", "TrainedRun", "__version__", "load", "train"]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
