"""``examples/on_round.py`` runs, and ``examples/tensorboard_plugin`` writes what TensorBoard reads."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from child_processes import python
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH in which the plugin is installed."""
    target = tmp_path_factory.mktemp("site")
    offline = ("--quiet", "--no-index", "--no-deps", "--no-build-isolation")
    python("-m", "pip", "install", *offline, "--target", target, EXAMPLES / "tensorboard_plugin", cwd=target)
    return target


def events(folder: Path) -> Iterator[Event]:
    """The events in the one file of a run. A record is its length, a checksum of that, the event, a checksum of it."""
    (path,) = folder.glob("events.out.tfevents.*")
    data, at = path.read_bytes(), 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        body = data[at + 12 : at + 12 + length]
        assert struct.unpack_from("<I", data, at + 8) == (masked_crc32c(data[at : at + 8]),)
        assert struct.unpack_from("<I", data, at + 12 + length) == (masked_crc32c(body),)
        yield Event.FromString(body)
        at += 16 + length


def scalars(folder: Path) -> dict[str, dict[int, tuple[float, float]]]:
    """By tag and step: the value, and when it was."""
    found: dict[str, dict[int, tuple[float, float]]] = {}
    for event in events(folder):
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = (value.simple_value, event.wall_time)
    return found


SCRIPT = """
import json, sys, numpy as np
from lambdaml_core import train
rng = np.random.default_rng(0)
y = rng.integers(0, 2, 400)
x = rng.normal(size=(400, 3)) + y[:, None]
rounds = []
keys = {"workers": 2, "epochs": 3, "batch_size": 50, "provider": "inline", "store": sys.argv[1]}
run = train(x, y, on_round=rounds.append, **keys)
print(json.dumps({"run": run.record["run"], "loss": [r["loss"] for r in rounds], "epochs": run.history}))
"""


def test_plugin_writes_the_loss_of_each_round_and_the_figures_of_each_epoch(site: Path, tmp_path: Path) -> None:

    logs = {"PYTHONPATH": f"{site}:{ROOT}", "LAMBDAML_TENSORBOARD": str(tmp_path / "logs")}
    said = json.loads(python("-W", "error", "-c", SCRIPT, str(tmp_path / "store"), cwd=tmp_path, **logs).stdout)
    (folder,) = (tmp_path / "logs").iterdir()
    assert folder.name == said["run"]
    found = scalars(folder)

    losses = found.pop("train/loss")
    assert sorted(losses) == list(range(1, 22))  # 320 rows in batches of 50: 7 rounds an epoch
    np.testing.assert_allclose([losses[r][0] for r in sorted(losses)], said["loss"], rtol=1e-6)
    times = [losses[r][1] for r in sorted(losses)]
    assert times == sorted(times)

    assert set(found) == {f"validation/{name}" for name in ("loss", "accuracy", "baseline_accuracy", "auc")}
    for name in ("loss", "accuracy", "auc"):
        told = {e["round"]: e["figures"][name] for e in said["epochs"]}
        assert list(told) == [7, 14, 21]
        assert {r: v for r, (v, _) in found[f"validation/{name}"].items()} == pytest.approx(told, rel=1e-6)


def test_plugin_is_listed_and_costs_nothing_until_a_run(site: Path, tmp_path: Path) -> None:
    path = f"{site}:{ROOT}"
    said = python("-m", "lambdaml_core", "plugins", "--json", cwd=tmp_path, PYTHONPATH=path).stdout
    listed = json.loads(said)["plugins"]
    (row,) = (p for p in listed if p["distribution"] == "lambdaml-tensorboard")
    assert row["state"] == "ok"
    code = "import sys, lambdaml_tensorboard.plugin; print('tensorboardX' in sys.modules)"
    assert python("-c", code, cwd=tmp_path, PYTHONPATH=path).stdout.strip() == "False"


def test_on_round_example_gives_up_what_is_hopeless(tmp_path: Path) -> None:
    text = python(EXAMPLES / "on_round.py", cwd=tmp_path, PYTHONPATH=str(ROOT)).stdout
    assert text.count("learning rate") == 4
    assert text.count("done: loss") >= 1
    assert "learning rate 0.001" in text
    assert "given up" in text.partition("learning rate 0.001")[2].partition("learning rate")[0]
