"""``lambdaml doctor`` on versions, plugins and foreign packages, each as pip would have left it."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

import pytest
from doctor_help import doctor, write_distribution, write_module, write_plugin
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from lambdaml_core import __version__
from lambdaml_core.run.doctor.requirements import requirements, within

VERSIONS = st.lists(st.integers(0, 3), min_size=1, max_size=4).map(lambda parts: ".".join(map(str, parts)))
BOUNDS = st.tuples(st.sampled_from([">=", "<=", ">", "<", "==", "!="]), VERSIONS).map("".join)


def test_a_healthy_machine_has_no_problem(tmp_path: Path) -> None:
    seen = doctor(tmp_path)
    assert seen.of("problem") == {}
    assert seen.code == 0
    for name in ("numpy", "scipy", "safetensors", "click", "pluggy", "rich", "xxhash"):
        assert seen.one("environment", name)["values"]["version"] == metadata.version(name)
    assert seen.one("environment", "python")["values"]["version"] == ".".join(map(str, sys.version_info[:3]))
    assert seen.one("environment", "lambdaml")["values"]["version"] == __version__
    numpy = seen.one("environment", "numpy")["values"]
    assert "blas" in numpy["blas"]
    assert numpy["threads"] >= 1
    assert list(tmp_path.iterdir()) == []
    assert seen.errors == ""


def test_a_foreign_lambdaml_beside_ours(tmp_path: Path) -> None:
    site = write_distribution(
        tmp_path / "site", "lambdaml", "1.4.2", entry_points="[console_scripts]\nx = lambdaml:x\n"
    )
    write_module(site, "lambdaml", "")
    found = doctor(tmp_path, path=[site]).one("environment", "foreign lambdaml")
    assert found["state"] == "problem"
    assert "1.4.2" in found["said"]
    assert str(site) in found["said"]
    assert "pip uninstall lambdaml" in found["remedy"]


def test_a_module_of_our_distribution_s_name(tmp_path: Path) -> None:
    site = write_module(tmp_path / "site", "lambdaml", "")
    found = doctor(tmp_path, path=[site]).one("environment", "foreign lambdaml")
    assert found["state"] == "warning"
    assert str(site / "lambdaml.py") in found["said"]


def test_a_second_installation_of_ours(tmp_path: Path) -> None:
    script = "[console_scripts]\nlambdaml = lambdaml_core.cli:main\n"
    one = write_distribution(tmp_path / "one", "lambdaml", "0.0.8", entry_points=script)
    two = write_distribution(tmp_path / "two", "lambdaml", "0.0.9", entry_points=script)
    found = doctor(tmp_path, path=[one, two]).one("environment", "duplicate")
    assert found["state"] == "problem"
    assert all(word in found["said"] for word in ("0.0.8", "0.0.9", str(one), str(two)))
    assert "pip uninstall lambdaml" in found["remedy"]


def test_libraries_that_are_too_old_or_broken_and_a_job_with_data(tmp_path: Path) -> None:
    """One of them ends every process that imports it; the others are looked at, and so are the storages."""
    site = write_distribution(tmp_path / "site", "click", "7.1")
    write_distribution(site, "pyarrow", "3.0")
    write_module(site, "numpy", "import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    write_module(site, "safetensors", "raise ImportError('libfoo.so: cannot open')")
    (tmp_path / "job.toml").write_text('[data]\nsource = "rows.libsvm"\n')
    (tmp_path / "rows.libsvm").write_text("1 1:2\n")
    seen = doctor(tmp_path, "job.toml", path=[site])
    needed = {r.name: r.bounds for r in requirements(metadata.distribution("lambdaml")) if not r.extra}
    click, numpy, safetensors = (seen.one("environment", name) for name in ("click", "numpy", "safetensors"))
    assert click["said"].startswith("7.1 ")
    assert click["remedy"] == f'pip install "click{needed["click"]}"'
    assert "SIGILL" in numpy["said"]
    assert numpy["remedy"] == f'pip install --force-reinstall "numpy{needed["numpy"]}"'
    assert "libfoo.so" in safetensors["said"]
    assert {f["state"] for f in (click, numpy, safetensors)} == {"problem"}
    assert seen.one("environment", "pyarrow")["state"] == "warning"
    assert seen.one("environment", "xxhash")["state"] == "ok"
    assert seen.one("store", "speed")["state"] == "ok"


def test_without_the_plugin_manager(tmp_path: Path) -> None:
    site = write_module(tmp_path / "site", "pluggy", "raise ModuleNotFoundError(\"No module\", name='pluggy')")
    seen = doctor(tmp_path, path=[site])
    assert seen.one("plugins", "plugins")["remedy"] == "pip install pluggy"
    assert seen.one("machine", "cores")["state"] == "ok"


def test_plugins_that_are_not_well(tmp_path: Path) -> None:
    broken = write_plugin(tmp_path / "broken", name="broken", plugin="raise RuntimeError('no luck')")
    slow = "import scipy\n" + "LAMBDAML_API = 7\n"
    heavy = write_plugin(tmp_path / "heavy", name="heavy", plugin=slow)
    needy = write_plugin(tmp_path / "needy", requires=["numpy>=99", "no-such-thing>=2; extra == 'x'", "nor-this"])
    seen = doctor(tmp_path, path=[broken, heavy, needy], LAMBDAML_DISABLE_PLUGINS="needyy")
    problems = seen.of("problem")
    assert "no luck" in problems["plugins", "plugin broken"]["said"]
    assert "pip uninstall lambdaml-broken" in problems["plugins", "plugin broken"]["remedy"]
    assert "API" in problems["plugins", "plugin heavy"]["said"]
    needs = {f["said"]: f["remedy"] for f in seen.findings if f["what"] == "lambdaml-odd"}
    assert needs == {
        f"lambdaml-odd needs numpy>=99, and {metadata.version('numpy')} is installed": 'pip install "numpy>=99"',
        "lambdaml-odd needs nor-this, and it is not installed": 'pip install "nor-this"',
    }
    assert "needyy" in seen.of("warning")["plugins", "disabled"]["said"]


def test_plugins_that_are_heavy_or_switched_off(tmp_path: Path) -> None:
    from doctor_help import PLUGIN

    heavy = write_plugin(tmp_path / "heavy", plugin="import scipy\n" + PLUGIN)
    warnings = doctor(tmp_path, path=[heavy]).of("warning")
    assert "scipy" in warnings["plugins", "provider odd"]["said"]
    off = doctor(tmp_path, path=[heavy], LAMBDAML_DISABLE_PLUGINS="odd").of("warning")
    assert off["plugins", "plugin odd"]["remedy"] == "unset LAMBDAML_DISABLE_PLUGINS"


def test_a_plugin_that_hangs_when_it_is_imported(tmp_path: Path) -> None:
    site = write_plugin(
        tmp_path / "site", plugin="import threading; threading.hangs.set(); threading.Semaphore(0).acquire()"
    )
    seen = doctor(tmp_path, "--patience", "1", path=[site])
    hanging = seen.one("plugins", "plugins")
    said = f"no answer within 1 s, in {site}/lambdaml_odd/plugin.py:1"
    assert (hanging["state"], hanging["said"]) == ("problem", said)
    assert "LAMBDAML_DISABLE_PLUGINS" in hanging["remedy"]
    assert seen.one("job", "job")["remedy"] == "see what is said of plugins"
    assert seen.one("machine", "cores")["state"] == "ok"


@given(VERSIONS, st.lists(BOUNDS, max_size=3).map(",".join))
def test_bounds_mean_what_packaging_says(version: str, bounds: str) -> None:
    assert within(version, bounds) == (Version(version) in SpecifierSet(bounds))


@pytest.mark.parametrize("bounds", ["~=1.2", "~=1.2.3", "==1.*", "!=1.2.*"])
@given(VERSIONS)
def test_prefixes_mean_what_packaging_says(bounds: str, version: str) -> None:
    assert within(version, bounds) == (Version(version) in SpecifierSet(bounds))


def test_our_own_requirements_are_read_as_pip_reads_them() -> None:
    from packaging.requirements import Requirement

    distribution = metadata.distribution("lambdaml")
    theirs = {(r.name, r.specifier) for r in map(Requirement, distribution.requires or ())}
    assert {(r.name, SpecifierSet(r.bounds)) for r in requirements(distribution)} == theirs
