"""Train on arrays in memory with four worker processes, save the model, load it again and predict.

Run it with the Python that lambdaml is installed for: ``python examples/train_arrays.py``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from lambdaml_core import load, train

# Two clouds of points in 20 dimensions that overlap: no model is right about all of them.
rng = np.random.default_rng(0)
y = rng.choice(["cat", "dog"], size=20_000)
x = rng.normal(size=(20_000, 20)) + np.where(y == "dog", 0.3, 0.0)[:, None]

with tempfile.TemporaryDirectory() as folder:
    run = train(
        x,
        y,
        workers=4,
        aggregators=2,  # two of the four fold the gradients; any other number gives the same model, bit for bit
        epochs=10,
        batch_size=1000,
        optimizer={"name": "ga_sgd", "learning_rate": 0.5, "schedule": "inverse_sqrt", "momentum": 0.9, "l2": 1e-4},
        store=f"{folder}/store",  # left out, runs are kept in your data home
    )
    print(f"{run.record['rounds']} rounds in {run.record['seconds']['total']:.1f} s")
    print({name: value and round(value, 4) for name, value in run.metrics.items()})

    path = run.model.save(Path(folder) / "cats-and-dogs")
    model = load(path)
    print("predicted", model.predict(x[:5]), "and it was", y[:5])
