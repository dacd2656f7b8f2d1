"""Real distributions, most of them broken, installed by pip into one environment and met through the command line."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import sysconfig
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hatchling.build import build_wheel

import lambdaml_core

GOOD = """
    from lambdaml_core.hookspecs import hookimpl
    from lambdaml_core.specs import ModelSpec

    LAMBDAML_API = 0

    @hookimpl
    def lambdaml_models():
        yield ModelSpec(name="NAME", factory="lambdaml_core.models.logistic:LogisticRegression")
"""
EVERYTHING = """
    from lambdaml_core.hookspecs import hookimpl
    from lambdaml_core.specs import (
        CommunicatorSpec, DataFormatSpec, ModelSpec, OptimizerSpec, ProviderSpec, StorageLayerSpec, StorageSpec
    )

    LAMBDAML_API = 0

    @hookimpl
    def lambdaml_storages():
        return [StorageSpec(name="all-storage", schemes=("all-storage", "all.x"), factory="lambdaml_all.x:X")]

    @hookimpl
    def lambdaml_storage_layers():
        return [StorageLayerSpec(name="all-storage_layer", factory="lambdaml_all.x:X")]

    @hookimpl
    def lambdaml_communicators():
        return [CommunicatorSpec(name="all-communicator", factory="lambdaml_all.x:X")]

    @hookimpl
    def lambdaml_optimizers():
        return [OptimizerSpec(name="all-optimizer", factory="lambdaml_all.x:X")]

    @hookimpl
    def lambdaml_providers():
        return [ProviderSpec(name="all-provider", factory="lambdaml_all.x:X")]

    @hookimpl
    def lambdaml_models():
        return [ModelSpec(name="all-model", factory="lambdaml_all.x:X")]

    @hookimpl
    def lambdaml_data_formats():
        return [DataFormatSpec(name="all-data_format", factory="lambdaml_all.x:X", suffixes=(".all",))]

    @hookimpl
    def lambdaml_run_event(event):
        print("seen", event)
        event["run"] = "changed"
"""
WATCHER = """
    from lambdaml_core.hookspecs import hookimpl

    LAMBDAML_API = 0

    @hookimpl
    def lambdaml_run_event(event):
        raise RuntimeError("cannot watch " + event["run"])
"""
FAILING_HOOK = GOOD.replace("    yield ", "    raise ValueError('the hook', 'is out of order')\n        yield ")


class Dist(NamedTuple):
    """A distribution ``lambdaml-NAME`` with one entry point NAME; NAME in its source is replaced."""

    name: str
    source: str
    requires: tuple[str, ...] = ()


DISTRIBUTIONS = [
    Dist("healthy", GOOD),
    Dist("raises", "raise RuntimeError('no good\\nat all')"),
    Dist("leaves", "import sys\nprint('noise')\nsys.exit('bye')"),
    Dist("needs", "import no_such_sdk.client\n" + textwrap.dedent(GOOD), ("no-such-sdk>=2", "click")),
    Dist("undeclared", "import no_such_module\n" + textwrap.dedent(GOOD)),
    Dist("hookfails", FAILING_HOOK),
    Dist("oddrecord", GOOD.replace("yield ModelSpec", "yield dict")),
    Dist("badname", GOOD.replace('"NAME"', '"Bad Name"')),
    Dist("typo", GOOD.replace("def lambdaml_models", "def lambdaml_model")),
    Dist("nohook", "LAMBDAML_API = 0"),
    Dist("newer", GOOD.replace("API = 0", "API = 99") + "        raise AssertionError('ran before the API was read')"),
    Dist("unstated", GOOD.replace("LAMBDAML_API = 0", "")),
    Dist("off", "raise AssertionError('a plugin that is switched off is imported')"),
    Dist("twin-a", GOOD.replace("NAME", "twin")),
    Dist("twin-b", GOOD.replace("NAME", "other").replace(", factory", ", aliases=('twin',), factory")),
    Dist("heavy", "import numpy\n" + textwrap.dedent(GOOD)),
    Dist("lazy", GOOD.replace("lambdaml_core.models.logistic", "lambdaml_lazy.absent")),
    Dist("all", EVERYTHING),
    Dist("watcher", WATCHER),
    Dist("torch", "raise ImportError('torch is of another make')"),
]


class Environment(NamedTuple):
    python: Path
    folder: Path

    def run(self, *words: str, disable: str = "off") -> subprocess.CompletedProcess[str]:
        """``lambdaml WORDS`` in the environment."""
        return self.execute("-m", "lambdaml_core", *words, disable=disable)

    def execute(self, *words: str, disable: str = "off") -> subprocess.CompletedProcess[str]:
        """``python WORDS`` in the environment."""
        env = {k: v for k, v in os.environ.items() if not k.startswith(("LAMBDAML_", "COV_", "PYTHONPATH"))}
        env |= {"LAMBDAML_DISABLE_PLUGINS": disable} if disable else {}
        return subprocess.run(
            [self.python, *words], cwd=self.folder, env=env, capture_output=True, text=True, check=False
        )

    def json(self, *words: str, disable: str = "off", code: int = 0) -> dict[str, Any]:
        """What ``lambdaml WORDS --json`` prints: one object, and nothing else there."""
        done = self.run(*words, "--json", disable=disable)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        result: dict[str, Any] = json.loads(done.stdout)
        assert result["schema"] == 1
        return result

    def train(self, model: str, *, disable: str = "off") -> dict[str, str]:
        """The error of a job with this model; of its optimizer, where the model can be used."""
        job = self.folder / f"{model}.toml"
        job.write_text(f'model = "{model}"\noptimizer = "nobody"\n')
        error: dict[str, str] = self.json("train", str(job), disable=disable, code=2)["error"]
        return error

    def works(self, model: str, *, disable: str = "off") -> bool:
        """Whether a job can use this model: the next thing that is wrong with the job is its optimizer."""
        return self.train(model, disable=disable)["message"] == "unknown optimizer nobody"

    def rows(self, disable: str = "off") -> dict[str, dict[str, Any]]:
        """A row of each distribution made here, by its name without the prefix."""
        rows = self.json("plugins", disable=disable)["plugins"]
        return {r["distribution"].removeprefix("lambdaml-"): r for r in rows if r["distribution"] != "lambdaml"}


def make_wheel(dist: Dist, folder: Path, wheels: Path) -> None:
    """Build the distribution from a source tree such as an author would have."""
    package = "lambdaml_" + dist.name.replace("-", "_")
    (folder / package).mkdir(parents=True)
    (folder / package / "plugin.py").write_text(textwrap.dedent(dist.source).replace("NAME", dist.name))
    (folder / "pyproject.toml").write_text(
        textwrap.dedent(f"""
            [build-system]
            requires = ["hatchling"]
            build-backend = "hatchling.build"
            [project]
            name = "lambdaml-{dist.name}"
            version = "0.3"
            dependencies = {json.dumps(list(dist.requires))}
            [project.entry-points.lambdaml]
            {dist.name} = "{package}.plugin"
            [tool.hatch.build.targets.wheel]
            packages = ["{package}"]
        """)
    )
    with contextlib.chdir(folder):
        build_wheel(str(wheels))


def is_plugin(path: Path) -> bool:
    """Whether it is what pip has written of a plugin that is installed here."""
    entry_points = path / "entry_points.txt"
    return entry_points.exists() and "[lambdaml]" in entry_points.read_text()


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """A virtual environment with all the distributions, which sees the packages of this one but no other plugins."""
    folder = tmp_path_factory.mktemp("environment")
    wheels = folder / "wheels"
    for dist in DISTRIBUTIONS:
        make_wheel(dist, folder / dist.name, wheels)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    (folder / "outer").mkdir()
    for path in {*Path(sysconfig.get_path("purelib")).iterdir(), *Path(sysconfig.get_path("platlib")).iterdir()}:
        if not is_plugin(path):
            (folder / "outer" / path.name).symlink_to(path)
    (site / "outer.pth").write_text(f"{Path(lambdaml_core.__file__).parents[1]}\n{folder / 'outer'}\n")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--disable-pip-version-check", *map(str, wheels.iterdir())], check=True)
    return Environment(python, folder)


@pytest.fixture(scope="module")
def rows(environment: Environment) -> Mapping[str, dict[str, Any]]:
    """What is listed, where nothing but ``off`` is switched off."""
    return environment.rows()


# What a use of each says, and the row of `lambdaml plugins`: state, and part of problem and remedy.
FAILURES: Mapping[str, tuple[str, str, str, str]] = {
    "raises": ("plugin_broken", "broken", "fails to import: RuntimeError: no good at all", "uninstall lambdaml-raises"),
    "leaves": ("plugin_broken", "broken", "fails to import: SystemExit: bye", "pip uninstall lambdaml-leaves"),
    "needs": ("plugin_broken", "broken", "No module named 'no_such_sdk'", "pip install no-such-sdk"),
    "undeclared": ("plugin_broken", "broken", "No module named 'no_such_module'", "pip install no_such_module"),
    "hookfails": (
        "plugin_broken",
        "broken",
        "fails in lambdaml_models: ValueError: ('the hook'",
        "pip install --upgrade",
    ),
    "oddrecord": ("plugin_broken", "broken", "which is no ModelSpec", "pip install --upgrade lambdaml-oddrecord"),
    "badname": ("plugin_broken", "broken", "'Bad Name'", "pip install --upgrade lambdaml-badname"),
    "typo": ("plugin_broken", "broken", "no hook lambdaml_model: did you mean lambdaml_models?", "pip uninstall"),
    "nohook": ("plugin_broken", "broken", "it implements no hook", "pip uninstall lambdaml-nohook"),
    "newer": ("plugin_incompatible", "incompatible", "is written for plugin API 99", "update LambdaML"),
    "unstated": ("plugin_incompatible", "incompatible", "states no LAMBDAML_API", "pip install --upgrade lambdaml-un"),
    "off": (
        "plugin_disabled",
        "disabled",
        "switched off by LAMBDAML_DISABLE_PLUGINS",
        "unset LAMBDAML_DISABLE_PLUGINS",
    ),
    "torch": ("plugin_broken", "broken", "of another make", "pip install --upgrade ./plugins/lambdaml-torch"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failing_plugin_fails_when_used_with_its_own_error_and_remedy(environment: Environment, name: str) -> None:
    code, _, problem, remedy = FAILURES[name]
    error = environment.train(name)
    assert error["code"] == code
    assert f"the model {name} cannot be used: the plugin {name} (lambdaml-{name} 0.3)" in error["message"]
    assert problem in error["message"]
    assert remedy in error["hint"]


def test_every_failing_plugin_is_listed_and_everything_else_is_ok(
    environment: Environment, rows: Mapping[str, dict[str, Any]]
) -> None:
    assert set(rows) == {dist.name for dist in DISTRIBUTIONS}
    for name, (_, state, problem, remedy) in FAILURES.items():
        row = rows[name]
        assert (row["kind"], row["name"], row["version"], row["state"]) == ("plugin", name, "0.3", state)
        assert problem in row["problem"]
        assert remedy in row["remedy"]
    core = [r for r in environment.json("plugins")["plugins"] if r["distribution"] == "lambdaml"]
    healthy = [*core, rows["healthy"], rows["lazy"]]
    assert len(core) >= 8
    assert {(r["state"], r["remedy"], r["problem"]) for r in healthy} == {("ok", None, None)}


def test_working_plugins_work_beside_the_broken_ones(environment: Environment) -> None:
    assert environment.works("healthy")
    assert environment.works("heavy")
    assert environment.works("logistic_regression")


def test_plain_listing_shows_problem_and_remedy(environment: Environment) -> None:
    done = environment.run("plugins")
    assert done.returncode == 0
    assert "plugin needs: the plugin needs (lambdaml-needs 0.3) fails to import" in done.stdout
    assert "remedy: install what it needs: pip install no-such-sdk\n" in done.stdout
    assert "\x1b" not in done.stdout


def test_show_gives_a_broken_plugin_with_its_remedy(environment: Environment) -> None:
    (shown,) = environment.json("plugins", "show", "needs")["plugins"]
    assert (shown["state"], shown["options"], shown["capabilities"]) == ("broken", [], None)
    assert "pip install no-such-sdk" in shown["remedy"]
    plain = environment.run("plugins", "show", "needs")
    assert plain.returncode == 0
    assert "pip install no-such-sdk" in plain.stdout


def test_show_finds_an_implementation_that_cannot_be_imported(
    environment: Environment, rows: Mapping[str, dict[str, Any]]
) -> None:
    assert rows["lazy"]["state"] == "ok"  # listing imports no implementation
    (shown,) = environment.json("plugins", "show", "lazy")["plugins"]
    assert shown["state"] == "broken"
    assert "No module named 'lambdaml_lazy.absent'" in shown["problem"]


def test_a_name_claimed_twice_fails_only_when_it_is_used(
    environment: Environment, rows: Mapping[str, dict[str, Any]]
) -> None:
    assert (rows["twin-a"]["name"], rows["twin-a"]["state"]) == ("twin", "conflict")
    assert (rows["twin-b"]["name"], rows["twin-b"]["state"]) == ("other", "ok")  # only its alias is taken
    assert "the model twin is claimed by" in rows["twin-b"]["problem"]
    error = environment.train("twin")
    assert error["code"] == "plugin_conflict"
    assert "twin-a (lambdaml-twin-a 0.3) and by twin-b (lambdaml-twin-b 0.3)" in error["message"]
    assert "pip uninstall lambdaml-twin-a or pip uninstall lambdaml-twin-b" in error["hint"]
    assert environment.works("other")


def test_the_remedy_of_a_conflict_works(environment: Environment) -> None:
    hint = environment.train("twin")["hint"]
    remedy = "export LAMBDAML_DISABLE_PLUGINS=off,twin-b"
    assert remedy in hint
    setting = remedy.partition("=")[2]
    assert environment.rows(disable=setting)["twin-a"]["state"] == "ok"
    assert environment.works("twin", disable=setting)


def test_the_remedy_of_a_disabled_plugin_keeps_the_others_disabled(environment: Environment) -> None:
    rows = environment.rows(disable=" off, healthy ,")
    assert rows["healthy"]["state"] == "disabled"
    assert rows["healthy"]["remedy"] == "export LAMBDAML_DISABLE_PLUGINS=off"


def test_a_plugin_that_imports_numpy_works_and_is_told_on(rows: Mapping[str, dict[str, Any]]) -> None:
    row = rows["heavy"]
    assert (row["kind"], row["state"]) == ("model", "ok")
    assert "imports numpy" in row["problem"]
    assert "lambdaml-heavy" in row["remedy"]


def test_unknown_and_not_installed_are_told_apart(environment: Environment) -> None:
    unknown = environment.train("healty")
    assert unknown["code"] == "plugin_unknown"
    assert unknown["message"] == "unknown model healty"
    assert "did you mean healthy?" in unknown["hint"]
    assert "not loaded: badname, hookfails" in unknown["hint"]
    absent = environment.train("kmeans")
    assert absent["code"] == "plugin_not_installed"
    assert "lambdaml-kmeans, which is not installed" in absent["message"]
    assert "pip install ./plugins/lambdaml-kmeans" in absent["hint"]
    other = environment.train("ga_sgd")
    assert (other["code"], other["message"]) == ("plugin_unknown", "unknown model ga_sgd")
    assert "another kind of plugin: optimizer" in other["hint"]


def test_every_hook_is_asked_and_its_records_are_found(environment: Environment) -> None:
    rows = [r for r in environment.json("plugins")["plugins"] if r["distribution"] == "lambdaml-all"]
    kinds = {"storage", "storage_layer", "communicator", "optimizer", "provider", "model", "data_format"}
    assert {(r["kind"], r["name"]) for r in rows} == {(k, f"all-{k}") for k in kinds} | {("observer", "all")}
    assert {r["state"] for r in rows} == {"ok"}
    (shown,) = environment.json("plugins", "show", "all.x")["plugins"]  # by a URL scheme
    assert shown["name"] == "all-storage"


def test_observers_see_every_event_and_cannot_harm_a_run(environment: Environment) -> None:
    script = """
        from lambdaml_core.registry import default_registry
        for n in range(2):
            event = {"event": "round", "run": f"r{n}", "time_s": 0.5}
            default_registry().run_event(event)
            print("kept", event["run"])
    """
    done = environment.execute("-c", textwrap.dedent(script))
    assert done.returncode == 0, done.stderr
    seen = [f"seen {{'event': 'round', 'run': 'r{n}', 'time_s': 0.5}}\nkept r{n}\n" for n in range(2)]
    assert done.stdout == "".join(seen)
    failed = "the observer watcher (lambdaml-watcher 0.3) failed: RuntimeError: cannot watch r0"
    assert [line for line in done.stderr.splitlines() if "failed" in line] == [failed]
